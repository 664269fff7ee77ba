"""Batches: clips and their turns as packed token sequences, frames and masks; the adapters of a batch of clips.

One sequence holds a clip's video once, then each turn as a block that sees the video and itself and whose positions
restart right after the video: for every turn the same as being asked alone, at a fraction of the cost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from v2l.model.hypernetwork import Hypernetwork
from v2l.model.prompt import context_prompt
from v2l.model.text import LayerAdapter
from v2l.tiny.model import PAD, PIECES, SEQ_LEN, TILE
from v2l.tiny.questions import QAPair, ask_about
from v2l.tiny.render import render
from v2l.tiny.world import (
    ACTIONS,
    BACKGROUND_NAMES,
    COLOR_NAMES,
    SHAPES,
    SOLO,
    Event,
    WorldClip,
    frame_states,
    training_clip,
)
from v2l.train.joined import context_features, joined_adapters, padded
from v2l.train.network import Network

# How often each kind is asked: what is learned last, finding an object by its motion or its place in time, most.
KIND_WEIGHTS = {
    "background": 0.6, "color": 0.8, "shape": 0.8, "exists": 2.2, "motion": 1.8, "mover": 1.2, "relation": 2.0,
    "slide": 0.8, "first": 0.4, "last": 0.6, "after": 2.4, "before": 2.4, "count": 1.4, "absent": 1.8, "region": 0.8}
# Of a long film mostly what one part of it tells: order and number are asked for less.
FILM_WEIGHTS = KIND_WEIGHTS | {"first": 0.2, "last": 0.2, "after": 0.8, "before": 0.8, "count": 0.4, "region": 1.5}
LONG_CAPTIONS = ("events", "detailed", "dense", "objects", "objects")
TURNS, CAPTION_SHARE, BLIND_SHARE = 10, 0.6, 0.03
PARTS = {1: 0.38, 2: 0.13, 3: 0.08, 4: 0.13, 6: 0.07, 8: 0.11, 12: 0.04, 16: 0.06}  # segments to join, and how often
FRAMES_A_STEP = 288  # of a step, where the hypernetwork trains
REACH = 16_000  # positions, of videos whose frames are spread
Sampled = tuple[WorldClip, Sequence[float]]  # a clip and the times of its frames
PREFIX = 2  # "<|im_start|>User:", all that a question without a video shares with one after a video


def draw_turns(rng: random.Random, clip: WorldClip, count: int = TURNS) -> list[QAPair]:
    """`count` short questions, some as a hasty user types them, and sometimes a caption."""
    turns: list[QAPair] = []
    weights = KIND_WEIGHTS if len(clip.events) <= 4 else FILM_WEIGHTS
    kinds = rng.choices(list(weights), list(weights.values()), k=3 * count)
    while len(turns) < count:
        turn = ask_about(rng, clip, kinds.pop() if kinds else "exists")
        if turn is not None:
            turns.append(turn)
    if rng.random() < CAPTION_SHARE and (turn := ask_about(rng, clip, rng.choice(LONG_CAPTIONS))) is not None:
        turns.append(turn)
    return [_hasty(rng, turn) for turn in turns]


def _hasty(rng: random.Random, turn: QAPair) -> QAPair:
    question = turn.question
    if rng.random() < 0.2:
        question = question.lower()
    if rng.random() < 0.1:
        question = question.rstrip("?.")
    return replace(turn, question=question)


def split(sampled: Sampled, cuts: Sequence[int]) -> list[Sampled]:
    """One clip's samples as consecutive segments; each keeps absolute times and the whole clip's duration."""
    clip, times = sampled
    edges = [0, *cuts, len(times)]
    return [(clip, times[a:b]) for a, b in pairwise(edges)]


def random_frame_cuts(rng: random.Random, frames: int, parts: int) -> list[int]:
    """Random places to cut a clip's samples into `parts` segments of 2 to 12 frames."""
    while True:
        cuts = sorted(rng.sample(range(2, frames - 1), parts - 1))
        if all(2 <= b - a <= 12 for a, b in zip([0, *cuts], [*cuts, frames], strict=True)):
            return cuts


def draw_segments(rng: random.Random, share: float) -> tuple[list[WorldClip], list[Sampled], int, int]:
    """A step's clips for the hypernetwork, their segments one clip after the other, how many segments each clip has and
    how many tiles a frame's side. `share` of the training is done: it begins with few and short segments."""
    weights = [weight if parts == 1 or share > 0.1 else 0.0 for parts, weight in PARTS.items()]
    parts, grid = rng.choices(list(PARTS), weights)[0], 1
    longest = 8 if share < 0.2 else 12
    sizes = [rng.randint(4, longest) for _ in range(parts)]
    cuts = list(accumulate(sizes))[:-1]
    if parts == 1:
        roll = rng.random()
        if share > 0.2 and roll < 0.12:
            grid = rng.choice((2, 2, 3))
            sizes = [rng.randint(2, 8)]
        elif share > 0.2 and roll < 0.36:
            sizes = [int(10 ** rng.uniform(1.1, 2.3 if roll < 0.3 else 3.01))]
    elif parts < 4 and rng.random() < 0.5:  # one clip cut anywhere, in the middle of what happens too
        sizes = [sum(sizes)]
        cuts = random_frame_cuts(rng, sizes[0], parts)
    frames = sum(sizes) * (1 if grid == 1 else grid**2 + 1)
    count = max(1, min(24, round(FRAMES_A_STEP / frames)))
    sampled = [training_clip(rng, sizes) for _ in range(count)]
    return [clip for clip, _ in sampled], [part for clip in sampled for part in split(clip, cuts)], parts, grid


class PromptEncoder:
    """Strings to token ids, the turns that come often cached."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.gap: Any = tokenizer.token_to_id("\n\n")
        self.close = tokenizer.token_to_id("<fake_token_around_image>")
        self.opens = {tokenizer.token_to_id(piece) for piece in PIECES if piece.startswith("\nFrame from")}
        self.turn = lru_cache(maxsize=200_000)(self._turn)
        self.question = lru_cache(maxsize=200_000)(self._question)

    def _question(self, question: str) -> list[int]:
        return self.tokenizer.encode(f"{question}<end_of_utterance>\nAssistant:", add_special_tokens=False).ids

    def _turn(self, question: str, answer: str) -> tuple[list[int], int]:
        """(ids of the whole turn, how many of them are the question)."""
        text = f"{question}<end_of_utterance>\nAssistant: {answer}<end_of_utterance>"
        return self.tokenizer.encode(text, add_special_tokens=False).ids, len(self.question(question))

    def videos(
        self, times: Sequence[Sequence[float]], durations: Sequence[float], whole: bool = False, grid: int = 1,
    ) -> list[list[int]]:
        """Ids of each video's prompt: up to its question, or `whole` as it is internalized. A frame is `grid` by `grid`
        tiles."""
        prompts = [
            context_prompt(t, [(grid, grid)] * len(t), d, SEQ_LEN) for t, d in zip(times, durations, strict=True)]
        encoded = [e.ids for e in self.tokenizer.encode_batch(prompts, add_special_tokens=False)]
        # The last gap is the question's: rows of tiles end in the same token.
        return encoded if whole else [ids[: len(ids) - ids[::-1].index(self.gap)] for ids in encoded]


@dataclass
class Packed:
    """b sequences of s tokens. `target`: flat indices into b*s whose hidden state predicts `labels`."""

    ids: Tensor  # [b, s]
    positions: Tensor  # [b, s]
    mask: Tensor  # [b, 1, s, s], 0 or -inf
    target: Tensor  # [m]
    labels: Tensor  # [m]
    caption: Tensor  # [m], bool: whether a label is of one of LONG_CAPTIONS
    pointers: Tensor  # [p, 3]: sequence, place of a question's last token, event its answer is about


def mask_of(blk: Tensor, dtype: torch.dtype) -> Tensor:
    """Blocks [b, s] -> additive mask [b, 1, s, s]; block -2 is the prefix and -1 the video every other block sees,
    padding is -3.

    Blocks from 1000 on are blind: of the video's tokens they see the prefix only.
    """
    q, k = blk[:, :, None], blk[:, None, :]
    allow = (q == k) | (k == -2) | ((k == -1) & (q < 1000))
    allow &= torch.ones(blk.shape[1], blk.shape[1], dtype=torch.bool, device=blk.device).tril()
    return torch.where(allow, 0.0, -1e9).to(dtype)[:, None]


def pack_turns(
    encoder: PromptEncoder, videos: Sequence[list[int]], turns: Sequence[Sequence[QAPair]], blind: Sequence[bool],
    dtype: torch.dtype, device: str, places: Sequence[list[int]] | None = None,
) -> Packed:
    """Videos' ids (only the prefix for a question without a video) and their turns -> one sequence a clip.

    `places` puts the videos' tokens at other positions than 0, 1, 2 and so on.
    """
    ids, positions, blocks, where, labels, caption, pointers = [], [], [], [], [], [], []
    for row, (video, asked, is_blind) in enumerate(zip(videos, turns, blind, strict=True)):
        line, place = list(video), list(places[row]) if places else list(range(len(video)))
        after = place[-1] + 1
        block = [-2] * PREFIX + [-1] * (len(video) - PREFIX)
        for number, turn in enumerate(asked):
            tokens, question = encoder.turn(turn.question, turn.answer)
            start = PREFIX if is_blind else after
            if turn.about >= 0 and not is_blind:
                pointers.append((row, len(line) + question - 1, turn.about))
            where += [(row, len(line) + i - 1) for i in range(question, len(tokens))]
            labels += tokens[question:]
            caption += [turn.kind in LONG_CAPTIONS] * (len(tokens) - question)
            line += tokens
            place += range(start, start + len(tokens))
            block += [number + 1000 * is_blind] * len(tokens)
        ids.append(line)
        positions.append(place)
        blocks.append(block)
    put = lambda x: torch.from_numpy(np.asarray(x)).to(device)
    token_ids = padded(ids, PAD).to(device)
    at = np.asarray(where)
    mask = mask_of(padded(blocks, -3).to(device), dtype)
    return Packed(token_ids, padded(positions).to(device), mask, put(at[:, 0] * token_ids.shape[1] + at[:, 1]),
                  put(labels), put(caption), put(np.asarray(pointers, np.int64).reshape(-1, 3)))


def spread_positions(rng: random.Random, videos: Sequence[list[int]], opens: set[int]) -> list[list[int]]:
    """Positions of videos' tokens with random gaps before frames, up to about `REACH` in all.

    A clip of a dozen frames then looks to the decoder as one frame out of each part of a very long video does. `opens`
    are the tokens that begin a frame.
    """
    out = []
    for video in videos:
        begins = [i for i, token in enumerate(video) if token in opens]
        wanted = 10 ** rng.uniform(2, math.log10(REACH))
        shares = [rng.random() ** 2 for _ in begins]
        gaps = dict(zip(begins, (int(wanted * share / sum(shares)) for share in shares), strict=True))
        place, line = 0, []
        for i in range(len(video)):
            place += gaps.get(i, 0)
            line.append(place)
            place += 1
        out.append(line)
    return out


def render_clips(clips: Sequence[Sampled], seed: int, dtype: torch.dtype, device: str, grid: int = 1) -> Tensor:
    """Pixel values [n, 3, 64, 64] in -1..1 of all clips' frames, one clip after the other; with a `grid` each frame's
    tiles row by row and the whole frame after them."""
    states = np.concatenate([frame_states(clip, times) for clip, times in clips])
    frames = render(states, TILE * grid, seed=seed, device=device).to(dtype) / 127.5 - 1
    if grid == 1:
        return frames
    tiles = frames.unflatten(3, (grid, TILE)).unflatten(2, (grid, TILE)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return torch.cat([tiles, F.avg_pool2d(frames, grid)[:, None]], 1).flatten(0, 1)


Frames = Callable[[Sequence[Sampled], int, torch.dtype, str, int], Tensor]
"""A source of pixels: `render_clips`, or decoded video files."""
Places = Callable[[Sequence[list[int]]], Sequence[list[int]]]
"""Prompts -> other positions for their tokens than 0, 1, 2 and so on."""


def clip_adapters(
    network: Network, hyper: Hypernetwork, encoder: PromptEncoder, segments: Sequence[Sampled], parts: int, seed: int,
    frames: Frames = render_clips, grid: int = 1, places: Places | None = None, keep: list[Tensor] | None = None,
) -> list[LayerAdapter]:
    """Adapters of clips, each of `parts` consecutive segments joined with the bias once: for each layer
    A [clips, (parts+1) r, d_in] and B [clips, (parts+1) r, d_out], in the base's dtype.

    A frame is `grid` by `grid` tiles. `keep` receives the latents [layers, segments, r, latent].
    """
    dtype, device = network.text.dtype, network.text.device
    ids = encoder.videos([times for _, times in segments], [clip.duration for clip, _ in segments], True, grid)
    positions = padded(places(ids)).to(device) if places else None
    with torch.no_grad():
        pixels = frames(segments, seed, dtype, str(device), grid)
        seen = torch.cat([network.vision(batch) for batch in pixels.split(512)])
    features, mask = context_features(network, ids, seen.flatten(0, 1), positions)
    return joined_adapters(hyper, features, mask, [parts] * (len(segments) // parts), keep, dtype)


SLOTS = 4
NO_THING = (len(COLOR_NAMES), len(SHAPES))


def _traits(event: Event, moved: bool) -> list[int]:
    """Colour and shape of both things, and the action; -1 for an action that one frame cannot tell."""
    things = [(COLOR_NAMES.index(t.color), SHAPES.index(t.shape)) for t in event.things]
    action = ACTIONS.index(event.action) if moved or event.kind != SOLO else -1
    return [*sum([*things, NO_THING, NO_THING][:2], ()), action]


def segment_labels(segments: Sequence[Sampled]) -> tuple[np.ndarray, np.ndarray]:
    """Events a segment shows, in order: int64 [n, SLOTS, 5] of two colours and shapes and the action; and backgrounds.

    Past the last event each is the number of names; -1 where one frame cannot tell the motion.
    """
    out = np.empty((len(segments), SLOTS, 5), np.int64)
    out[:] = *NO_THING, *NO_THING, len(ACTIONS)
    grounds = []
    for row, (clip, times) in zip(out, segments, strict=True):
        shown = [clip.event_at(time) for time in times]
        for slot, index in enumerate(list(dict.fromkeys(shown))[:SLOTS]):
            row[slot] = _traits(clip.events[index], shown.count(index) > 1)
        seen = {clip.events[index].background for index in shown}
        grounds.append(BACKGROUND_NAMES.index(seen.pop()) if len(seen) == 1 else -1)
    return out, np.asarray(grounds)


def frame_labels(clips: Sequence[Sampled]) -> np.ndarray:
    """Labels of each frame for the training aids, int64 [n, 9]; -1 where it is not visible yet or does not exist.

    Columns: two colours and shapes, action, background, position of the event in the clip, and the first colour and
    shape of the event before.
    """
    rows = []
    for clip, times in clips:
        last = -1
        for time in times:
            index = clip.event_at(time)
            event, before = clip.events[index], clip.events[index - 1] if index else None
            rows.append((*_traits(event, index == last), BACKGROUND_NAMES.index(event.background), min(index, 3),
                         *(_traits(before, True)[:2] if before else (-1, -1))))
            last = index
    return np.asarray(rows, np.int64)
