"""Answers -> scores, each from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from v2l.bench.quality.answers import AnswerStore, SavedAnswer
from v2l.bench.quality.plan import EvalSet, Question
from v2l.bench.quality.run import Answers
from v2l.score.judge import Case
from v2l.score.text import exact_match, is_degenerate, rouge_l, token_f1
from v2l.system.progress import Progress, silent

METRICS = ("judge", "token_f1", "exact", "rouge_l", "degenerate")
"""Names of the scores; of `degenerate`, the share of answers that loop or say nothing, less is better."""
_AT_ONCE = 64
"""Answers judged together: what a stop loses."""


@dataclass(frozen=True)
class Judging:
    """A judge of answers: `score` gives each case 0 to 1, or None where it came to no judgement."""

    name: str
    id: str
    """Text that changes with whatever changes its grades; empty where grading costs nothing and none need be kept."""
    score: Callable[[Sequence[Case]], Sequence[float | None]]


@dataclass(frozen=True)
class Scored:
    """One answer with its scores."""

    question: Question
    video: str
    """The file that the question is about; clips of one file are not independent."""
    arm: str
    answer: SavedAnswer
    token_f1: float
    exact: float
    rouge_l: float
    degenerate: float
    judge: float | None
    """Grade of the judge; None without a judge, and where it came to none."""


def score_answers(eval_set: EvalSet, answers: Answers, judging: Judging | None, store: AnswerStore,
                  progress: Progress = silent) -> list[Scored]:
    """Every answer scored against its references; what the store knows of this judge is not judged again."""
    questions = {question.id: question for question in eval_set.questions}
    videos = {clip.id: str(clip.video) for clip in eval_set.clips}
    each = [(of_arm, answer, questions[answer.question]) for of_arm in answers.by_clip for answer in of_arm.answers]
    cases = [Case(question.prompt, question.references, answer.text) for _, answer, question in each]
    judged = _judged(judging, cases, store, progress) if judging else [None] * len(cases)
    return [Scored(question, videos[of_arm.clip], of_arm.arm, answer, token_f1(answer.text, question.references),
                   exact_match(answer.text, question.references), rouge_l(answer.text, question.references),
                   float(is_degenerate(answer.text)), judgement)
            for (of_arm, answer, question), judgement in zip(each, judged, strict=True)]


def _judged(judging: Judging, cases: Sequence[Case], store: AnswerStore, progress: Progress) -> list[float | None]:
    """A judge's scores; the same answer to the same question is judged once."""
    keys = {case: {"judge": judging.id, "question": case.question, "references": list(case.references),
                   "answer": case.answer} for case in cases}
    scores = {case: score for case, key in keys.items() if (score := store.judged(key))}
    new = [case for case in keys if case not in scores]
    for start in range(0, len(new), _AT_ONCE):
        progress("Judging", start, len(new))
        batch = new[start : start + _AT_ONCE]
        for case, value in zip(batch, judging.score(batch), strict=True):
            scores[case] = (value,)
            if judging.id:
                store.add_judged(keys[case], value)
    return [scores[case][0] for case in cases]
