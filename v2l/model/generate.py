"""One question to an adapter -> text as it comes, with no pixels anywhere (v2l/README.md section 7)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from v2l.adapter import Adapter
from v2l.config import Decoding
from v2l.errors import not_finite
from v2l.model.answer import Answer
from v2l.model.base import Base
from v2l.model.prompt import question_prompt
from v2l.model.text import Cache, LayerAdapter
from v2l.wording import shortened


class Pieces:
    """An answer's text as its tokens come."""

    def __init__(self, base: Base) -> None:
        self.ids: list[int] = []
        """The tokens so far."""
        self._tokenizer, self._shown = base.tokenizer, ""

    def add(self, token: int) -> str:
        """One token more -> the text that is certain now and was not before."""
        self.ids.append(token)
        # A character may span tokens, and trailing space may turn out to be the end: both wait for the next token.
        ready = self._decoded().lstrip().rstrip("\ufffd").rstrip()
        if len(ready) <= len(self._shown) or not ready.startswith(self._shown):
            return ""
        piece, self._shown = ready[len(self._shown) :], ready
        return piece

    def rest(self) -> str:
        """What is left to show when there are no more tokens."""
        return self.text[len(self._shown) :]

    @property
    def text(self) -> str:
        """The whole text so far, as an answer has it."""
        return self._decoded().strip()

    def _decoded(self) -> str:
        text: str = self._tokenizer.decode(self.ids, skip_special_tokens=True)
        return text


def answer_limit(base: Base, decoding: Decoding) -> int:
    """Longest answer in tokens: no more than the base has positions; caches are made for all."""
    return min(decoding.max_new_tokens, base.text_config.max_positions)


def bind(adapter: Adapter, device: torch.device) -> list[LayerAdapter]:
    """The adapter as the text stack applies it: per layer [A_1; ..; A_k; bias_A] and the same of B, in float32."""
    parts = {name: torch.from_numpy(array).to(device) for name, array in adapter.float32().items()}
    A, B = torch.cat([parts["A"], parts["bias_A"]], 1), torch.cat([parts["B"], parts["bias_B"]], 1)
    return [LayerAdapter(a, b, adapter.scale) for a, b in zip(A, B, strict=True)]


class Reply:
    """An answer being made: iterate, once, for pieces of text as they come, then read `answer`.

    `strategy` and `answered_by` are there from the start, as an `Answer` has them; why it ended stands in its answer.
    """

    strategy: str | None = None
    answered_by: Sequence[dict[str, Any]] = ()

    def __init__(
        self,
        base: Base,
        embeddings: Tensor,
        decoding: Decoding,
        *,
        adapter: list[LayerAdapter] | None = None,
        cache: Cache | None = None,
        prompt_tokens: int,
        visual_tokens: int,
        started: float,
    ) -> None:
        self._started = started
        self._base, self._embeddings, self._decoding, self._adapter = base, embeddings, decoding, adapter
        self._limit = answer_limit(base, decoding)
        room = embeddings.shape[1] + self._limit
        self._cache = cache or Cache(base.text_config, 1, room, base.device, base.dtype)
        self._counts = prompt_tokens, visual_tokens
        self.answer: Answer | None = None
        self._finish = "length"
        self._pieces = self._run()

    @classmethod
    def of(cls, answer: Answer) -> Reply:
        """A reply whose answer was found before: it comes as one piece."""
        reply = cls.__new__(cls)
        reply.answer, reply._pieces = answer, iter([answer.text])
        reply.strategy, reply.answered_by = answer.strategy, answer.answered_by
        return reply

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def text(self) -> str:
        """The whole answer; what is not made yet is made now."""
        return self.finish().text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Reply {shortened(self.answer.text, 60)!r}>" if self.answer else "<Reply, not finished>"

    def _run(self) -> Iterator[str]:
        first = 0.0
        pieces = Pieces(self._base)
        for token in self._tokens():
            first = first or time.perf_counter() - self._started
            if piece := pieces.add(token):
                yield piece
        total = time.perf_counter() - self._started
        if rest := pieces.rest():
            yield rest
        self.answer = Answer(pieces.text, pieces.ids, *self._counts, first or total, total, finish=self._finish,
                             strategy=self.strategy, answered_by=self.answered_by)

    def finish(self) -> Answer:
        """Runs to the end and returns the answer."""
        for _ in self._pieces:
            pass
        assert self.answer is not None
        return self.answer

    @torch.inference_mode()
    def _tokens(self) -> Iterator[int]:
        base, decoding = self._base, self._decoding
        draws = torch.Generator(device="cpu").manual_seed(decoding.seed)
        embeddings = self._embeddings
        for _ in range(self._limit):
            logits = base.text(embeddings, self._cache, self._adapter)[0]
            token, finite = choose_token(logits, decoding, draws)
            if not finite:
                raise not_finite("try --dtype float32")
            if token in base.ends:
                self._finish = "stop"
                return
            yield token
            embeddings = base.embed([token])


def is_drawn(decoding: Decoding) -> bool:
    """Whether tokens are drawn, and not the likeliest taken."""
    return decoding.temperature >= torch.finfo(torch.float32).tiny  # float32 cannot divide by less


def choose_token(logits: Tensor, decoding: Decoding, draws: torch.Generator) -> tuple[int, bool]:
    """The likeliest token of logits [vocabulary], or at a temperature above 0 one drawn from them, and whether they are
    numbers; where they are not, it is no token. A device is waited for once."""
    if not is_drawn(decoding):
        best = logits.argmax(-1, keepdim=True)  # what is no number counts as the largest
        token, largest = torch.cat([best.float(), logits.gather(0, best).float()]).tolist()  # exact to 16 million
        return int(token), math.isfinite(largest)
    logits = logits.float().cpu()
    if not logits.max().isfinite():
        return 0, False
    return draw_token(logits, decoding, draws), True


def draw_token(logits: Tensor, decoding: Decoding, draws: torch.Generator) -> int:
    """A token drawn from logits [vocabulary] in float32 on the CPU, at a temperature above 0."""
    chances = ((logits - logits.max()) / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        likeliest, tokens = chances.sort(descending=True)
        before = likeliest.cumsum(-1) - likeliest  # 0 for the first, which so stays whatever top_p is
        chances[tokens[1:][before[1:] >= decoding.top_p]] = 0
    return int(torch.multinomial(chances, 1, generator=draws))


def ask(base: Base, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding) -> Reply:
    """Puts a question to an adapter from `bind` (None asks the bare base)."""
    started = time.perf_counter()
    ids = base.encode(question_prompt(question))
    return Reply(
        base, base.embed(ids), decoding, adapter=adapter, prompt_tokens=len(ids), visual_tokens=0, started=started
    )


@torch.inference_mode()
def next_logits(base: Base, adapter: list[LayerAdapter] | None, ids: Sequence[int]) -> Tensor:
    """Logits [vocabulary] of the token after the prompt `ids`."""
    cache = Cache(base.text_config, 1, len(ids), base.device, base.dtype)
    return base.text(base.embed(ids), cache, adapter)[0]
