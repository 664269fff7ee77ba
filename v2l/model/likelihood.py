"""How likely given answers are: log-probabilities of answers that nobody generates, many prompts in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from v2l.model.base import Base
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter

ROWS_READ_AT_ONCE = 64
"""Prompts that are read together, each with its adapter."""
ADAPTERS_AT_ONCE = 256 << 20
"""Bytes of adapters that are put side by side to be read with."""

ScoredRow = tuple["list[LayerAdapter] | None", str, "tuple[str, ...]"]
"""An adapter from `bind`, or None for the bare base, a question to it, and answers that it may give."""


def answer_logprobs(base: Base, rows: Iterable[ScoredRow]) -> Iterator[list[float]]:
    """Log-probability of each answer of each row, in the rows' order, without what would end it: of "moves" it is that
    of moving at all. Nan where the model's numbers are none.

    A row is one pass of the base over its prompt, or where its answers share all but their last token with none of the
    others, one for each. Rows are read as they are needed, and many together.
    """
    batch: list[_Row] = []
    for adapter, question, answers in rows:
        row = _Row(adapter, base.encode(question_prompt(question)), [base.encode(f" {answer}") for answer in answers])
        if batch and not _fit([*batch, row]):
            yield from _logprobs(base, batch)
            batch = []
        batch.append(row)
    if batch:
        yield from _logprobs(base, batch)


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
    """Whether so many rows are read together: all of one adapter's scale, too."""
    count = sum(len(row.beginnings) for row in rows)
    size = max(sum(4 * (layer.A.numel() + layer.B.numel()) for layer in row.adapter or ()) for row in rows)
    scales = {row.adapter[0].scale for row in rows if row.adapter}
    return count <= ROWS_READ_AT_ONCE and count * size <= ADAPTERS_AT_ONCE and len(scales) <= 1


@torch.inference_mode()
def _logprobs(base: Base, rows: list[_Row]) -> list[list[float]]:
    reads = [(row, beginning) for row in rows for beginning in row.beginnings]
    ids = [torch.tensor(row.prompt + beginning, device=base.device) for row, beginning in reads]
    # A token sees only what is before it, so what fills the shorter rows up at their end changes nothing.
    embeddings = base.text.embed_tokens(pad_sequence(ids, batch_first=True))
    hidden = base.text.hidden(embeddings, adapters=_side_by_side([row.adapter for row, _ in reads]))
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


def _side_by_side(adapters: list[list[LayerAdapter] | None]) -> list[LayerAdapter] | None:
    """The adapter that all rows share, or per layer A [b, R, d_in] and B [b, R, d_out], filled up with zeros to the
    largest rank R, which adds nothing."""
    if all(adapter is adapters[0] for adapter in adapters):
        return adapters[0]
    like = next(adapter for adapter in adapters if adapter)
    none = [LayerAdapter(layer.A[:0], layer.B[:0], layer.scale) for layer in like]
    per_row = [adapter or none for adapter in adapters]
    filled = lambda name, i: pad_sequence([getattr(one[i], name) for one in per_row], batch_first=True)
    return [LayerAdapter(filled("A", i), filled("B", i), layer.scale) for i, layer in enumerate(like)]
