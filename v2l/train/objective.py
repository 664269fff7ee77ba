"""The loss of a batch of clips: cross-entropy on the targets, divergence from the base with the video in its prompt.

Every turn of a clip is put to the clip's one adapter in the very prompt `ask` uses (v2l/README.md section 7), each in a
row of its own. Only the tokens of the answer count, with the one that ends it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from v2l.config import Decoding
from v2l.errors import ModelError
from v2l.manifest import Item
from v2l.model.base import Base
from v2l.model.generate import Reply
from v2l.model.hypernetwork import Hypernetwork
from v2l.model.prompt import END, question_prompt
from v2l.model.text import LayerAdapter
from v2l.train.batches import Example, SegmentTiles
from v2l.train.config import Recipe
from v2l.train.joined import context_features, joined_adapters, padded
from v2l.train.network import Network

_TILES_AT_ONCE = 64
"""Tiles that go through the vision tower together."""


@dataclass(frozen=True)
class Rows:
    """b prompts with their answers, filled up on the right; nothing before the filling sees it."""

    ids: Tensor
    """[b, s]"""
    target: Tensor
    """[m], places in ids.flatten() whose next token is to be predicted."""
    labels: Tensor
    """[m], those tokens."""


def rows(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], device: torch.device) -> Rows:
    ids = padded([[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)])
    width = ids.shape[1]
    target = [row * width + len(prompt) - 1 + i
              for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)) for i in range(len(answer))]
    labels = [token for answer in answers for token in answer]
    return Rows(ids.to(device), torch.tensor(target, device=device), torch.tensor(labels, device=device))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [m, vocabulary], tokens [m] -> the sum over tokens."""
    return F.cross_entropy(logits, labels, reduction="sum")


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits [m, vocabulary], summed over tokens."""
    return F.kl_div(logits.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="sum")


def target_ids(base: Base, text: str) -> list[int]:
    """The tokens of an answer as the model is to write them after `Assistant:`, and the one that ends it."""
    return base.encode(f" {text.strip()}{END}")


@dataclass(frozen=True)
class InContext:
    """A clip in the base's prompt: the tokens of each turn's prompt, and the image tokens that go in them."""

    prompts: list[list[int]]
    image_tokens: Tensor
    """[.., h]"""


class Objective:
    """Examples -> (loss summed over the tokens that count, how many these are)."""

    def __init__(self, base: Base, hyper: Hypernetwork, recipe: Recipe) -> None:
        """`base` must not be packed."""
        self.base, self.network, self.hyper, self.recipe = base, Network.of(base), hyper, recipe
        self.own_answers: dict[tuple[Item, int], list[int]] = {}
        """The base's own answers, where there are no targets."""

    def __call__(self, examples: Sequence[Example]) -> tuple[Tensor, int]:
        segments = [segment for example in examples for segment in example.segments]
        seen = [self.see(segment) for segment in segments]
        pairs = self.pairs(segments, seen, [len(example.segments) for example in examples])
        turns = [(number, turn) for number, example in enumerate(examples) for turn in example.item.turns]
        videos = self.in_context(examples, seen) if self.recipe.taught else []
        if self.recipe.self_distill:
            answers = [ids for example, video in zip(examples, videos, strict=True)
                       for ids in self._own_answers(example, video)]
        else:
            answers = [target_ids(self.base, text) for example in examples for text in example.targets]
        packed = rows([self.base.encode(question_prompt(turn.prompt)) for _, turn in turns], answers, self.base.device)
        logits = self.logits(packed, pairs, [number for number, _ in turns])
        loss = logits.new_zeros(()) if self.recipe.self_distill else cross_entropy(logits, packed.labels)
        if self.recipe.taught:
            loss = loss + (self.recipe.kl or 1.0) * divergence(logits, self.teacher_logits(videos, answers))
        return loss, len(packed.labels)

    @torch.no_grad()
    def see(self, watched: SegmentTiles) -> Tensor:
        """A segment's image tokens [tiles * image_seq_len, h]."""
        batches = []
        for tiles in torch.from_numpy(watched.tiles).split(_TILES_AT_ONCE):
            pixels = tiles.to(self.base.device).permute(0, 3, 1, 2).float()
            batches.append(self.network.vision(((pixels / 255 - 0.5) / 0.5).to(self.base.dtype)))
        image_tokens = torch.cat(batches)
        if image_tokens.shape[1] != self.base.image_seq_len:
            raise ModelError(f"The base in {self.base.folder} gives {image_tokens.shape[1]} image tokens where its "
                             f"processor configuration promises {self.base.image_seq_len}.")
        return image_tokens.flatten(0, 1)

    def pairs(self, segments: Sequence[SegmentTiles], seen: Sequence[Tensor], parts: Sequence[int]
              ) -> list[LayerAdapter]:
        """The adapters of clips that have so many segments each."""
        prompts = [self.base.encode(segment.prompt(self.base.image_seq_len)) for segment in segments]
        features = context_features(self.network, prompts, torch.cat(list(seen)))
        return joined_adapters(self.hyper, *features, parts, checkpointing=self.recipe.checkpointing)

    def logits(self, packed: Rows, pairs: Sequence[LayerAdapter], clips: Sequence[int]) -> Tensor:
        """Logits of the tokens that count, [m, vocabulary] float32; each row has the adapter of its clip."""
        hidden = self.network.text.hidden(
            self.network.embed(packed.ids), adapters=[LayerAdapter(p.A[clips], p.B[clips], p.scale) for p in pairs],
            checkpointing=self.recipe.checkpointing)
        return self.network.text.logits(hidden.flatten(0, 1)[packed.target]).float()

    # What the base says with the video in its prompt.

    def in_context(self, examples: Sequence[Example], seen: Sequence[Tensor]) -> list[InContext]:
        """The clips of examples in the base's prompt; `seen` are the image tokens of all their segments."""
        prompted, first = [], 0
        for example in examples:
            whole = example.whole
            assert whole is not None
            image_tokens = seen[first] if whole is example.segments[0] else self.see(whole)
            prompts = [self.base.encode(whole.prompt(self.base.image_seq_len, turn.prompt, generate=True))
                       for turn in example.item.turns]
            prompted.append(InContext(prompts, image_tokens))
            first += len(example.segments)
        return prompted

    def _own_answers(self, example: Example, video: InContext) -> list[list[int]]:
        """Answers of the base to each turn, greedily decoded; computed once for each."""
        answers = []
        for number, prompt in enumerate(video.prompts):
            place = example.item, number
            if place not in self.own_answers:
                reply = Reply(self.base, self.base.embed(prompt, video.image_tokens), Decoding(),
                              prompt_tokens=len(prompt), visual_tokens=len(video.image_tokens),
                              started=time.perf_counter())
                answer = reply.finish()
                cut = answer.finish == "length"
                self.own_answers[place] = answer.ids if cut else [*answer.ids, self.base.token(END)]
            answers.append(self.own_answers[place])
        return answers

    @torch.no_grad()
    def teacher_logits(self, videos: Sequence[InContext], answers: Sequence[list[int]]) -> Tensor:
        """`logits` of the base with the video in its prompt, clip by clip: these prompts are long."""
        logits, first = [], 0
        for video in videos:
            count = len(video.prompts)
            packed = rows(video.prompts, answers[first : first + count], self.base.device)
            hidden = self.network.text.hidden(self.network.embed(packed.ids, video.image_tokens.repeat(count, 1)))
            logits.append(self.network.text.logits(hidden.flatten(0, 1)[packed.target]).float())
            first += count
        return torch.cat(logits)
