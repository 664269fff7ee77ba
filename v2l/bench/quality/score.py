"""Answers -> scores, each from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from v2l.bench.quality.answers import Answered, Given, Record
from v2l.bench.quality.plan import Asked, Question
from v2l.score.judge import Case
from v2l.score.text import exact_match, is_degenerate, rouge_l, token_f1

METRICS = ("judge", "token_f1", "exact", "rouge_l", "degenerate")
"""What an answer is scored by; of `degenerate` less is better."""
_AT_ONCE = 64
"""Answers judged together: what a stop loses."""


@dataclass(frozen=True)
class Judging:
    """Who judges answers: `score` says of each case 0 to 1, or None where it came to no judgement."""

    name: str
    id: str
    """Changes with whatever changes its judgements; empty where judging costs nothing, so that none need be kept."""
    score: Callable[[Sequence[Case]], Sequence[float | None]]


@dataclass(frozen=True)
class Scored:
    """One answer with its scores."""

    question: Question
    video: str
    """The file that it is about; clips of one file are not independent."""
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
    videos = {watch.id: str(watch.video) for watch in asked.watches}
    given = [(unit, answer, questions[answer.question]) for unit in units for answer in unit.answers]
    cases = [Case(question.prompt, question.references, answer.text) for _, answer, question in given]
    judged = _judged(judging, cases, record, told) if judging else [None] * len(cases)
    return [Scored(question, videos[unit.watch], unit.arm, answer, token_f1(answer.text, question.references),
                   exact_match(answer.text, question.references), rouge_l(answer.text, question.references),
                   float(is_degenerate(answer.text)), judgement)
            for (unit, answer, question), judgement in zip(given, judged, strict=True)]


def _judged(judging: Judging, cases: Sequence[Case], record: Record,
            told: Callable[[str, int, int | None], None]) -> list[float | None]:
    """The same answer to the same question is judged once."""
    what = {case: {"judge": judging.id, "question": case.question, "references": list(case.references),
                   "answer": case.answer} for case in cases}
    scores = {case: found for case, asked in what.items() if (found := record.judged(asked))}
    new = [case for case in what if case not in scores]
    for start in range(0, len(new), _AT_ONCE):
        told("Judging", start, len(new))
        lot = new[start : start + _AT_ONCE]
        for case, value in zip(lot, judging.score(lot), strict=True):
            scores[case] = (value,)
            if judging.id:
                record.add_judged(what[case], value)
    return [scores[case][0] for case in cases]
