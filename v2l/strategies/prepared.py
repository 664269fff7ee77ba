"""A question to many segments that is prepared: what is left to ask, or its answer; and what each segment says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from v2l.config import Decoding
from v2l.model.answer import Answer
from v2l.model.text import LayerAdapter
from v2l.strategies.parts import Parts, ScoresMany


class AsksMany(ScoresMany, Protocol):
    """What is needed of an engine here: its base, and answers to many questions at once."""

    def ask_batch(self, rows: Iterable[tuple[list[LayerAdapter] | None, str]], decoding: Decoding | None = None
                  ) -> Iterator[Answer]:
        """`Engine.ask_batch`, of adapters that are bound."""


@dataclass(frozen=True)
class Prepared:
    """What is left to ask for one question, or the answer if there is nothing left."""

    question: str
    strategy: str
    """join, route, each, timeline or when."""
    by: list[int]
    """The parts that answer."""
    adapter: list[LayerAdapter] | None
    prompt: str
    """The question to put to `adapter`."""
    elapsed: float
    """Seconds spent on it so far."""
    answer: Answer | None = None
    said: tuple[Answer, ...] = ()
    """What each of `by` said, if the answer is made of that."""
    scores: tuple[float, ...] = ()
    """How surely each of `by` shows what is asked for, if the answer is made of that (`v2l.strategies.parts`)."""


def ask_every_part(
    engine: AsksMany, parts: Parts, questions: Sequence[str], decoding: Decoding
) -> list[tuple[Answer, ...]]:
    """The answers of the parts, in their order, for each question."""
    def rows() -> Iterator[tuple[list[LayerAdapter], str]]:
        for part in range(len(parts)):
            alone = parts.joined([part])
            yield from ((alone, question) for question in questions)

    answers = list(engine.ask_batch(rows(), decoding))
    return [tuple(answers[i :: len(questions)]) for i in range(len(questions))]


def made_of(answers: Sequence[Answer], text: str) -> Answer:
    """An answer made of others, which all had to be there first."""
    whole = max(answer.total_s for answer in answers)
    return Answer(text, [token for answer in answers for token in answer.ids], sum(a.prompt_tokens for a in answers), 0,
                  whole, whole, sum(answer.logprob for answer in answers) / len(answers),
                  all(answer.finite for answer in answers),
                  "length" if any(answer.finish == "length" for answer in answers) else "stop")


def told_in_order(parts: Parts, question: str, name: str, answers: tuple[Answer, ...], elapsed: float) -> Prepared:
    """Answered by what every part says, a line each."""
    everything = list(range(len(parts)))
    lines = [f"{parts.label(i)}: {' '.join(answer.text.split())}" for i, answer in enumerate(answers)]
    return Prepared(question, name, everything, None, question, elapsed, made_of(answers, "\n".join(lines)), answers)
