"""Many questions at once, each to an adapter of its own -> the answers of `generate.ask`, several times faster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from v2l.config import CHUNK, Decoding
from v2l.model.answer import Answer
from v2l.model.base import Base
from v2l.model.generate import answer_limit
from v2l.model.prompt import question_prompt
from v2l.model.running import BYTES_AT_ONCE, ROWS_AT_ONCE, Draft, RunningBatch
from v2l.model.text import Cache, LayerAdapter

Row = tuple["list[LayerAdapter] | None", str]
"""An adapter from `bind`, or None for the bare base, and a question to it."""
FULL = 3 / 4
"""Part of a batch's rows below which others come in: reading many prompts together costs hardly more than one."""


def ask_batch(
    base: Base,
    rows: Iterable[Row],
    decoding: Decoding,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    bytes_at_once: int = BYTES_AT_ONCE,
) -> Iterator[Answer]:
    """The answers `ask` would give to the rows, up to rounding, in order, computed together. On real
    weights 20 of 20 were the same in float32, 19 in float16, 14 in bfloat16 (`tests/measure/real_weights.py`).

    Rows are taken in as others are answered, so thousands of adapters never lie in memory at once; an answer comes out
    as soon as it and those before it are there. Rows of one adapter share it while the batch holds no other; otherwise
    the adapters are put side by side, filled up with zeros where their ranks differ, which adds nothing. Times count
    from when a row was taken in; draws are those of `ask`.
    """
    batch = RunningBatch(base, rows_at_once=rows_at_once, bytes_at_once=bytes_at_once, read_at_once=CHUNK)
    coming = ((base.encode(question_prompt(question)), adapter) for adapter, question in rows)
    order: deque[int] = deque()
    drafts: dict[int, Draft] = {}
    answers: dict[int, Answer] = {}
    row = next(coming, None)
    full = 0
    while row or len(batch):
        if len(batch) <= FULL * full:
            while row and batch.fits(*row, decoding):
                drafts[number := batch.join(*row, decoding)] = Draft(base, len(row[0]), 0, time.perf_counter())
                order.append(number)
                row = next(coming, None)
            full = len(batch)
        _step(batch, drafts, answers)
        while order and order[0] in answers:
            yield answers.pop(order.popleft())


def _step(batch: RunningBatch, drafts: dict[int, Draft], answers: dict[int, Answer]) -> None:
    """One step of the batch; what is answered goes from `drafts` to `answers`."""
    for said in batch.step():
        drafts[said.row].add(said)
        if said.end:
            answers[said.row] = drafts.pop(said.row).answer(said)


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
    tail of tokens each: together, as `ask_batch` does, and in order. `visual_tokens` of the head are of a video."""
    n, limit = head.shape[1], answer_limit(base, decoding)
    place = held.store[:, :, 0, :, 0].nbytes

    def fit(batch: Sequence[Sequence[int]]) -> bool:
        lengths = [len(tail) for tail in batch]
        size = len(batch) * place * (n + max(lengths) + limit)
        return len(batch) <= rows_at_once and size <= bytes_at_once and max(lengths) - min(lengths) <= n

    rest = list(tails)
    while rest:
        number = next((k for k in range(1, len(rest)) if not fit(rest[: k + 1])), len(rest))
        some, rest = rest[:number], rest[number:]
        batch, started = RunningBatch(base, rows_at_once=rows_at_once, bytes_at_once=bytes_at_once), time.perf_counter()
        order = batch.join_after(head, held, some, decoding)
        drafts = {row: Draft(base, n + len(tail), visual_tokens, started)
                  for row, tail in zip(order, some, strict=True)}
        answers: dict[int, Answer] = {}
        for row in order:
            while row not in answers:
                _step(batch, drafts, answers)
            yield answers.pop(row)
