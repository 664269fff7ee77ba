"""How likely given answers are: log-probabilities of answers that nobody generates, many prompts in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from v2l.model.base import Base
from v2l.model.pool import AdapterPool, adapter_bytes
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter

ROWS_READ_AT_ONCE = 64
"""Prompts that are read together, each with its adapter."""
ADAPTERS_AT_ONCE = 256 << 20
"""Bytes of adapters that are put side by side to be read with."""

ScoredRow = tuple["list[LayerAdapter] | None", str, "tuple[str | tuple[int, ...], ...]"]
"""An adapter from `bind`, or None for the bare base, a question to it, and answers that it may give: words, or all
tokens of one."""


def answer_logprobs(base: Base, rows: Iterable[ScoredRow]) -> Iterator[list[float]]:
    """Log-probability of each answer of each row, in the rows' order, without what would end it: of "moves" it is that
    of moving at all. Nan where the model's numbers are none.

    A row is one pass of the base over its prompt, or where its answers share all but their last token with none of the
    others, one for each. Rows are read as they are needed, and many together.
    """
    batch: list[_Row] = []
    pool = AdapterPool(ADAPTERS_AT_ONCE)
    for adapter, question, answers in rows:
        row = _Row(adapter, base.encode(question_prompt(question)), [_tokens(base, answer) for answer in answers])
        if batch and not _fit([*batch, row]):
            yield from _logprobs(base, batch, pool)
            batch = []
        batch.append(row)
    if batch:
        yield from _logprobs(base, batch, pool)


def _tokens(base: Base, answer: str | tuple[int, ...]) -> list[int]:
    return base.encode(f" {answer}") if isinstance(answer, str) else list(answer)


@dataclass(frozen=True)
class _Row:
    """A row in tokens."""

    adapter: list[LayerAdapter] | None
    prompt: list[int]
    answers: list[list[int]]

    @property
    def beginnings(self) -> list[list[int]]:
        """What stands after the prompt where the last token of one of the answers is foretold; each once."""
        return [list(each) for each in dict.fromkeys(tuple(answer[:-1]) for answer in self.answers)]


def _fit(rows: list[_Row]) -> bool:
    """Whether so many rows are read together."""
    count = sum(len(row.beginnings) for row in rows)
    size = max(adapter_bytes(row.adapter) for row in rows)
    return count <= ROWS_READ_AT_ONCE and count * size <= ADAPTERS_AT_ONCE


@torch.inference_mode()
def _logprobs(base: Base, rows: list[_Row], pool: AdapterPool) -> list[list[float]]:
    reads = [(row, beginning) for row in rows for beginning in row.beginnings]
    ids = [torch.tensor(row.prompt + beginning, device=base.device) for row, beginning in reads]
    # A token sees only what is before it, so what fills the shorter rows up at their end changes nothing.
    embeddings = base.text.embed_tokens(pad_sequence(ids, batch_first=True))
    hidden = base.text.hidden(embeddings, adapters=pool.beside([row.adapter for row, _ in reads]))
    places = iter(zip(reads, hidden, strict=True))
    found = []
    for row in rows:
        sure = {}
        for _ in row.beginnings:
            (_, beginning), states = next(places)
            after = states[len(row.prompt) - 1 : len(row.prompt) + len(beginning)]
            sure[tuple(beginning)] = base.text.logits(after).float().log_softmax(-1)
        found.append([_sum(sure[tuple(answer[:-1])], answer) for answer in row.answers])
    return found


def _sum(logprobs: Tensor, answer: list[int]) -> float:
    """Log-probability of an answer's tokens, the first by the first row of `logprobs` [tokens, vocabulary]."""
    return float(logprobs[range(len(answer)), answer].sum())
