"""Many questions at once, each to an adapter of its own -> the answers of `generate.ask`, several times faster."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from v2l.config import Decoding
from v2l.model.base import Base
from v2l.model.generate import Answer, answer_limit, choose_token
from v2l.model.prompt import END, question_prompt
from v2l.model.text import Cache, LayerAdapter

ROWS_AT_ONCE = 64
"""Questions answered together: more hardly raises the speed, and the first answers come later."""
BYTES_AT_ONCE = 512 << 20
"""Bytes of adapters and cache that a batch may hold; adapters are there twice while they are put side by side."""

Row = tuple["list[LayerAdapter] | None", str]
"""An adapter from `bind`, or None for the bare base, and a question to it."""


def ask_batch(
    base: Base,
    rows: Iterable[Row],
    decoding: Decoding,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    bytes_at_once: int = BYTES_AT_ONCE,
) -> Iterator[Answer]:
    """The answers `ask` would give to the rows, up to rounding, in order, computed together.

    Rows are taken in and answered a batch at a time, so thousands of adapters never lie in memory at once; an answer
    comes out as soon as it and those before it are there. Rows of one adapter share it where a batch holds no other;
    otherwise the adapters are put side by side, filled up with zeros where their ranks differ, which adds nothing.
    A row that is answered leaves its batch. Times count from the start of the batch; draws are those of `ask`.
    """
    for chunk in _chunks(base, rows, decoding, rows_at_once, bytes_at_once):
        yield from _answer_chunk(base, chunk, decoding)


@dataclass
class _Chunk:
    """The rows of one batch on their way into it."""

    prompts: list[list[int]] = field(default_factory=list)
    adapters: list[list[LayerAdapter] | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each adapter."""

    def add(self, prompt: list[int], adapter: list[LayerAdapter] | None) -> None:
        self.prompts.append(prompt)
        self.adapters.append(adapter)
        self.sizes.append(sum(4 * (layer.A.numel() + layer.B.numel()) for layer in adapter or ()))

    def drop_last(self) -> None:
        for rows in (self.prompts, self.adapters, self.sizes):
            rows.pop()

    def fits(self, base: Base, decoding: Decoding, rows: int, size: int) -> bool:
        """Whether the chunk has no more than this many rows and bytes, and its adapters one scale."""
        config, n = base.text_config, len(self.prompts)
        tokens = max(map(len, self.prompts)) + answer_limit(base, decoding)
        cache = tokens * 2 * config.num_layers * config.num_kv_heads * config.head_dim * base.dtype.itemsize
        needed = n * cache + (1 if self.shared else n) * max(self.sizes)
        scales = {adapter[0].scale for adapter in self.adapters if adapter}
        return n <= rows and needed <= size and len(scales) <= 1

    @property
    def shared(self) -> bool:
        return all(adapter is self.adapters[0] for adapter in self.adapters)

    def side_by_side(self) -> list[LayerAdapter] | None:
        """One adapter for all rows, or with a leading row dimension one for each. The chunk lets go of them."""
        adapters, shared = self.adapters, self.shared
        self.adapters = []
        return adapters[0] if shared else _stack(adapters)


def _chunks(base: Base, rows: Iterable[Row], decoding: Decoding, count: int, size: int) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for adapter, question in rows:
        prompt = base.encode(question_prompt(question))
        chunk.add(prompt, adapter)
        if len(chunk.prompts) > 1 and not chunk.fits(base, decoding, count, size):
            chunk.drop_last()
            yield chunk
            chunk = _Chunk()
            chunk.add(prompt, adapter)
    if chunk.prompts:
        yield chunk


def _stack(adapters: list[list[LayerAdapter] | None]) -> list[LayerAdapter]:
    """Adapters of one scale -> per layer A [b, R, d_in] and B [b, R, d_out], R the largest rank of all."""
    like = next(adapter for adapter in adapters if adapter)

    def filled(name: str, layer: int) -> Tensor:
        parts = [getattr(adapter[layer], name) if adapter else None for adapter in adapters]
        R = max(len(part) for part in parts if part is not None)
        first = getattr(like[layer], name)
        out = first.new_zeros(len(parts), R, first.shape[1])
        for row, part in zip(out, parts, strict=True):
            if part is not None:
                row[: len(part)] = part
        return out

    return [LayerAdapter(filled("A", i), filled("B", i), like[i].scale) for i in range(len(like))]


@torch.inference_mode()
def _answer_chunk(base: Base, chunk: _Chunk, decoding: Decoding) -> Iterator[Answer]:
    started = time.perf_counter()
    prompts = chunk.prompts
    longest = max(map(len, prompts))
    tokens = torch.tensor([[base.token(END)] * (longest - len(prompt)) + prompt for prompt in prompts],
                          device=base.device)
    going = _Going(base, [longest - len(prompt) for prompt in prompts], longest + answer_limit(base, decoding),
                   chunk.side_by_side())
    counts = [(len(prompt), 0) for prompt in prompts]
    yield from _answers(base, going, base.text.embed_tokens(tokens), counts, decoding, started)


@torch.inference_mode()
def ask_after(
    base: Base,
    head: Tensor,
    held: Cache,
    tails: Sequence[Sequence[int]],
    visual_tokens: int,
    decoding: Decoding,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    bytes_at_once: int = BYTES_AT_ONCE,
) -> Iterator[Answer]:
    """Answers to prompts that all begin with `head` [1, n, h], whose keys and values are in `held`, and go on with a
    tail of tokens each: together, as `ask_batch` does, and in order. `visual_tokens` of the head are of a video.

    Rows must end together, so those with shorter tails begin with padding, and what of the head that pushes beyond the
    first n places is computed again.
    """
    n, limit = head.shape[1], answer_limit(base, decoding)
    place = held.store[:, :, 0, :, 0].nbytes

    def fit(batch: Sequence[Sequence[int]]) -> bool:
        lengths = [len(tail) for tail in batch]
        size = len(batch) * place * (n + max(lengths) + limit)
        return len(batch) <= rows_at_once and size <= bytes_at_once and max(lengths) - min(lengths) <= n

    rest = list(tails)
    while rest:
        count = next((k for k in range(1, len(rest)) if not fit(rest[: k + 1])), len(rest))
        started, batch, rest = time.perf_counter(), rest[:count], rest[count:]
        longest = max(map(len, batch))
        padding = [longest - len(tail) for tail in batch]
        going = _Going(base, padding, n + longest + limit, None)
        going.begin(held, n, padding)
        first = torch.cat([torch.cat([head[:, n - pad :], base.embed(tail)], 1)
                           for tail, pad in zip(batch, padding, strict=True)])
        yield from _answers(base, going, first, [(n + len(tail), visual_tokens) for tail in batch], decoding, started)


def _answers(base: Base, going: _Going, embeddings: Tensor, counts: Sequence[tuple[int, int]], decoding: Decoding,
             started: float) -> Iterator[Answer]:
    """Generates from the first embeddings [b, t, h] on; `counts` are each row's tokens of the prompt and of a video."""
    limit, rows = answer_limit(base, decoding), len(counts)
    draws = [torch.Generator(device="cpu").manual_seed(decoding.seed) for _ in counts]
    ids: list[list[int]] = [[] for _ in counts]
    first, logprobs = [0.0] * rows, [0.0] * rows
    answers: dict[int, Answer] = {}
    done = 0
    while going.rows:
        logits = going.step(embeddings)
        finite = logits.amax(-1).isfinite()  # what is no number counts as the largest
        logits = logits.where(finite[:, None], 0)
        chosen = _choose_each(logits, decoding.temperature, [draws[row] for row in going.rows])
        sure = logits.float().log_softmax(-1)[range(len(chosen)), chosen].tolist()
        now = time.perf_counter() - started
        for row, token, logprob, good in zip(going.rows, chosen, sure, finite.tolist(), strict=True):
            if not good:
                answers[row] = Answer("", [], *counts[row], now, now, -math.inf, finite=False)
                continue
            logprobs[row] += logprob
            ended = token in base.ends
            if not ended:
                ids[row].append(token)
                first[row] = first[row] or now
            if ended or len(ids[row]) == limit:
                text = base.tokenizer.decode(ids[row], skip_special_tokens=True).strip()
                logprob = logprobs[row] / (len(ids[row]) + ended)
                answers[row] = Answer(text, ids[row], *counts[row], first[row] or now, now, logprob,
                                      finish="stop" if ended else "length")
        while done in answers:
            yield answers.pop(done)
            done += 1
        on = [row not in answers and row >= done for row in going.rows]
        embeddings = base.text.embed_tokens(torch.tensor(chosen, device=base.device)[going.keep(on), None])


def _choose_each(logits: Tensor, temperature: float, draws: Sequence[torch.Generator]) -> list[int]:
    """`choose_token` for logits [b, vocabulary]."""
    if temperature == 0:
        likeliest: list[int] = logits.argmax(-1).tolist()
        return likeliest
    return [choose_token(line, temperature, draw) for line, draw in zip(logits, draws, strict=True)]


class _Going:
    """The rows of a batch that are not answered yet, with what the text stack needs of each."""

    def __init__(self, base: Base, padding: list[int], size: int, adapters: list[LayerAdapter] | None) -> None:
        self.rows = list(range(len(padding)))
        """Which row of the batch lies in each place."""
        self._base, self._adapters = base, adapters
        self._padding = torch.tensor(padding, device=base.device) if any(padding) else None
        self._cache = Cache(base.text_config, len(padding), size, base.device, base.dtype)

    def begin(self, held: Cache, n: int, padding: list[int]) -> None:
        """Fills the first n places of every row with what the only row of `held` holds, after the row's padding."""
        for row, pad in enumerate(padding):
            self._cache.store[:, :, row, :, :pad] = 0  # never seen, and yet it must be a number
            self._cache.store[:, :, row, :, pad:n] = held.store[:, :, 0, :, : n - pad]
        self._cache.length = n

    def step(self, embeddings: Tensor) -> Tensor:
        """Embeddings [b, t, h] -> logits [b, vocabulary] after the last."""
        return self._base.text(embeddings, self._cache, self._adapters, self._padding)

    def keep(self, on: list[bool]) -> list[int]:
        """Drops the rows that are not `on`; returns the places of the others, as they lie from now on.

        The last ones move into the gaps, which copies no more than has to be, and what is left is a view.
        """
        count = sum(on)
        gaps = [place for place in range(count) if not on[place]]
        moved = [place for place in range(count, len(on)) if on[place]]
        places = list(range(count))
        for gap, place in zip(gaps, moved, strict=True):
            places[gap] = place
        if count < len(on):
            self.rows = [self.rows[place] for place in places]
            self._cache.store = _closed(self._cache.store.movedim(2, 0), gaps, moved, count).movedim(0, 2)
            if self._padding is not None:
                self._padding = _closed(self._padding, gaps, moved, count)
            if self._adapters and self._adapters[0].A.ndim == 3:
                self._adapters = [LayerAdapter(_closed(layer.A, gaps, moved, count),
                                               _closed(layer.B, gaps, moved, count), layer.scale)
                                  for layer in self._adapters]
        return places


def _closed(x: Tensor, gaps: list[int], moved: list[int], count: int) -> Tensor:
    """The first `count` of x, after those `moved` were copied into the `gaps`."""
    for gap, place in zip(gaps, moved, strict=True):
        x[gap] = x[place]
    return x[:count]
