"""Scores -> what the tables show: paired differences with verdicts, and means of every arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import v2l
from v2l.bench.benchmarks.benchmark import Published
from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.bench.quality.answers import Respondent
from v2l.bench.quality.plan import EvalSet, EvalSetting, Question
from v2l.bench.quality.run import Answers
from v2l.bench.quality.score import METRICS, Scored
from v2l.manifest import TASKS
from v2l.score.stats import Paired, paired, verdicts


@dataclass(frozen=True)
class ComparedRow:
    """The adapter (a) held against the video in the prompt (b), on one benchmark or kind of question."""

    name: str
    title: str
    task: str
    paired: Paired
    verdict: str
    left_out: int
    """Number of questions of which one of the two answers could not be judged."""
    published: Published | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "task": self.task,
            "questions": self.paired.pairs, "clips": self.paired.clips,
            "base": self.paired.mean_b, "adapter": self.paired.mean_a, **self.paired.to_json(), "verdict": self.verdict,
            "left_out": self.left_out, "published": self.published and asdict(self.published),
        }


@dataclass(frozen=True)
class ComparisonTable:
    """Rows whose verdicts are Holm-corrected together."""

    metric: str
    margin: float
    rows: tuple[ComparedRow, ...]
    task: str = ""
    """Task that all rows are of, caption or qa; empty where they differ."""

    def count(self, *verdicts: str) -> int:
        """Number of rows with one of these verdicts."""
        return sum(row.verdict in verdicts for row in self.rows)


Pair = tuple[Scored, Scored]
"""The answers to one question from the adapter and with the video in the prompt."""


def pairs_of(scored: Iterable[Scored]) -> list[Pair]:
    """The answers to all questions that both answered."""
    scored = list(scored)
    mine = {s.question.id: s for s in scored if s.arm == "adapter"}
    return [(mine[s.question.id], s) for s in scored if s.arm == "direct" and s.question.id in mine]


def difference(pairs: Iterable[Pair], metric: str, margin: float, seed: int) -> tuple[Paired | None, int]:
    """The adapter's scores minus those with the video in the prompt, resampled by videos; and how many pairs were left
    out because one of the two was not judged. None where none is left."""
    values = [(getattr(a, metric), getattr(b, metric), a.video) for a, b in pairs]
    judged = [value for value in values if value[0] is not None and value[1] is not None]
    if not judged:
        return None, len(values)
    a, b, videos = zip(*judged, strict=True)
    return paired(a, b, groups=videos, margin=margin, seed=seed), len(values) - len(judged)


def comparison_table(scored: Sequence[Scored], metric: str, margin: float, by: Callable[[Question], str], seed: int,
                     model: str = "") -> ComparisonTable:
    """A row a group of questions; `model` is a released preset, whose published figures stand beside, or none."""
    grouped: dict[str, list[Pair]] = {}
    for pair in pairs_of(scored):
        grouped.setdefault(by(pair[0].question), []).append(pair)
    names = [*(name for name in PUBLIC_BENCHMARKS if name in grouped),
             *(name for name in grouped if name not in PUBLIC_BENCHMARKS)]
    compared = [(name, *difference(grouped[name], metric, margin, seed)) for name in names]
    judged = [(name, paired, left_out) for name, paired, left_out in compared if paired]

    def row(name: str, difference: Paired, left_out: int, verdict: str) -> ComparedRow:
        benchmark = PUBLIC_BENCHMARKS.get(name)
        return ComparedRow(name, benchmark.title if benchmark else name, grouped[name][0][0].question.task, difference,
                           verdict, left_out, benchmark.published.get((model, metric)) if benchmark else None)

    together = verdicts([paired for _, paired, _ in judged], margin)
    return ComparisonTable(metric, margin, tuple(
        row(*group, verdict) for group, verdict in zip(judged, together, strict=True)))


@dataclass(frozen=True)
class ArmMeans:
    """Means of one arm."""

    name: str
    questions: int
    scores: dict[str, float | None]
    """Mean by metric; None where nothing was judged."""
    prompt_tokens: float
    frames: float
    setup_s: float
    """Seconds for a clip, before its first question."""
    answer_s: float
    """Seconds for a question."""


def arm_means(name: str, answers: Answers, scored: Iterable[Scored]) -> ArmMeans:
    """Means of an arm that answered about one clip at least."""
    clips, mine = answers.of(name).values(), [s for s in scored if s.arm == name]
    return ArmMeans(
        name, len(mine), {metric: known_mean(getattr(s, metric) for s in mine) for metric in METRICS},
        fmean(s.answer.prompt_tokens for s in mine), fmean(clip.frames for clip in clips),
        fmean(clip.setup_s for clip in clips), fmean(s.answer.seconds for s in mine),
    )


def known_mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class Margins:
    """Largest differences that count as none."""

    judge: float
    token_f1: float


@dataclass
class Quality:
    """Scores and comparisons of a run."""

    setting: EvalSetting
    respondent: Respondent
    eval_set: EvalSet
    answers: Answers
    scored: list[Scored]
    judge: str
    """Name of the judge; empty where there was none."""
    margins: Margins
    seed: int

    def __post_init__(self) -> None:
        preset = "" if self.setting.checkpoint else self.setting.model
        tables = (("judge", self.margins.judge), ("token_f1", self.margins.token_f1))
        by_benchmark = lambda question: question.benchmark
        self.tables = {metric: comparison_table(self.scored, metric, margin, by_benchmark, self.seed, preset)
                       for metric, margin in tables if metric != "judge" or self.judge}
        """A table a metric, with a row a benchmark: `judge`, if there is a judge, and `token_f1`."""
        self.kinds = comparison_table([s for s in self.scored if s.question.kind], "exact", self.margins.token_f1,
                                      lambda question: question.kind, self.seed)
        """Exact match by kind of question, where questions have one."""
        self.arms = [arm_means(arm, self.answers, self.scored) for arm in self.setting.arms if self.answers.of(arm)]

    @property
    def parts(self) -> list[ComparisonTable]:
        """The tables as the paper has them: of captions, then of questions, then of what is neither, by metric."""
        split = [replace(table, task=task, rows=tuple(row for row in table.rows if row.task == task))
                 for task in (*TASKS, "") for table in self.tables.values()]
        return [table for table in split if table.rows]

    @property
    def clips(self) -> int:
        """Number of clips that could be decoded."""
        return len(self.eval_set.clips) - len(self.answers.unreadable)

    @property
    def questions(self) -> int:
        """Number of questions about them."""
        unreadable = {clip.clip for clip in self.answers.unreadable}
        return sum(len(clip.questions) for clip in self.eval_set.clips if clip.id not in unreadable)

    @property
    def ungraded(self) -> int:
        """Number of answers that the judge gave no grade."""
        return sum(s.judge is None for s in self.scored) if self.judge else 0

    @property
    def over_budget(self) -> int:
        """Number of questions of the arm `budget` whose prompt is longer than it may be, with a single frame."""
        return sum(s.answer.prompt_tokens > self.respondent.budget_tokens for s in self.scored if s.arm == "budget")

    def to_json(self) -> dict[str, Any]:
        """Everything but the single answers, which the --resume file keeps."""
        return {
            "kind": "quality", "v2l": v2l.__version__, **asdict(self.respondent),
            "arms": [asdict(arm) for arm in self.arms],
            "clips": self.clips, "questions": self.questions,
            "unreadable": [{"name": clip.name, "reason": clip.reason} for clip in self.answers.unreadable],
            "without_reference": self.eval_set.unanswerable, "over_budget": self.over_budget,
            "judge": self.judge or None, "ungraded": self.ungraded, "seed": self.seed,
            "tables": {name: {"margin": table.margin, "rows": [row.to_json() for row in table.rows]}
                       for name, table in self.tables.items()},
            "kinds": {"margin": self.kinds.margin, "rows": [row.to_json() for row in self.kinds.rows]},
        }
