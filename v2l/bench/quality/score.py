"""Answers -> scores, each from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from v2l.bench.quality.journal import Answered, Given, Record
from v2l.bench.quality.plan import Asked, Question
from v2l.bench.scores import exact_match, is_degenerate, rouge_l, token_f1

METRICS = ("judge", "token_f1", "exact", "rouge_l", "degenerate")
"""What an answer is scored by; of `degenerate` less is better."""


@dataclass(frozen=True)
class Judging:
    """Who judges answers: `score` is given a question, an answer and the references, and says None where it came to no
    judgement."""

    name: str
    id: str
    """Changes with whatever changes its judgements; empty where judging costs nothing, so that none need be kept."""
    score: Callable[[str, str, Sequence[str]], float | None]


@dataclass(frozen=True)
class Scored:
    """One answer with its scores."""

    question: Question
    watch: str
    """The clip's id."""
    arm: str
    given: Given
    token_f1: float
    exact: float
    rouge_l: float
    degenerate: float
    judge: float | None
    """None without a judge, and where it came to no judgement."""


def score(asked: Asked, units: Sequence[Answered], judging: Judging | None, record: Record,
          told: Callable[[str, int, int | None], None] = lambda *_: None) -> list[Scored]:
    """Every answer scored against its references; what the record knows of this judge is not judged again."""
    questions = {question.id: question for question in asked.questions}
    total, scored = sum(len(unit.answers) for unit in units), list[Scored]()
    for unit in units:
        for given in unit.answers:
            question = questions[given.question]
            if judging:
                told("Judging", len(scored), total)
            answer, references = given.text, question.references
            scored.append(Scored(
                question, unit.watch, unit.arm, given, token_f1(answer, references),
                float(exact_match(answer, references)), rouge_l(answer, references), float(is_degenerate(answer)),
                _judged(judging, question, answer, record) if judging else None))
    return scored


def _judged(judging: Judging, question: Question, answer: str, record: Record) -> float | None:
    if not judging.id:
        return judging.score(question.prompt, answer, question.references)
    what = {"judge": judging.id, "question": question.prompt, "references": list(question.references),
            "answer": answer}
    known, value = record.judged(what)
    if not known:
        value = judging.score(question.prompt, answer, question.references)
        record.add_judged(what, value)
    return value
