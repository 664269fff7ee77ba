"""Scores -> what the tables show: paired differences with verdicts, and averages of every arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import v2l
from v2l.bench.benchmarks.benchmark import Published
from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.bench.quality.answers import Answered, Made
from v2l.bench.quality.plan import Asked, Question, Setting
from v2l.bench.quality.run import Answers
from v2l.bench.quality.score import METRICS, Scored
from v2l.manifest import TASKS
from v2l.score.stats import Paired, paired, verdicts


@dataclass(frozen=True)
class Row:
    """The adapter (a) held against the video in the prompt (b), on one benchmark or kind of question."""

    name: str
    title: str
    task: str
    found: Paired
    verdict: str
    left_out: int
    """Questions of which one of the two answers could not be judged."""
    published: Published | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "task": self.task,
            "questions": self.found.pairs, "clips": self.found.clips,
            "base": self.found.mean_b, "adapter": self.found.mean_a, **self.found.to_json(), "verdict": self.verdict,
            "left_out": self.left_out, "published": self.published and asdict(self.published),
        }


@dataclass(frozen=True)
class Table:
    """Rows whose verdicts are Holm-corrected together."""

    metric: str
    margin: float
    rows: tuple[Row, ...]
    task: str = ""
    """Where all rows are of one: caption or qa."""

    def count(self, *verdicts: str) -> int:
        return sum(row.verdict in verdicts for row in self.rows)


Pair = tuple[Scored, Scored]
"""The answers to one question from the adapter and with the video in the prompt."""


def pairs_of(scored: Iterable[Scored]) -> list[Pair]:
    """Of all questions that both answered."""
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


def table(scored: Sequence[Scored], metric: str, margin: float, by: Callable[[Question], str], seed: int,
          model: str = "") -> Table:
    """A row a group of questions; `model` is a released preset, whose published figures stand beside, or none."""
    grouped: dict[str, list[Pair]] = {}
    for pair in pairs_of(scored):
        grouped.setdefault(by(pair[0].question), []).append(pair)
    names = [*(name for name in PUBLIC_BENCHMARKS if name in grouped),
             *(name for name in grouped if name not in PUBLIC_BENCHMARKS)]
    compared = [(name, *difference(grouped[name], metric, margin, seed)) for name in names]
    shown = [(name, found, left_out) for name, found, left_out in compared if found]
    said = verdicts([found for _, found, _ in shown], margin)

    def row(name: str, found: Paired, verdict: str, left_out: int) -> Row:
        benchmark = PUBLIC_BENCHMARKS.get(name)
        return Row(name, benchmark.title if benchmark else name, grouped[name][0][0].question.task, found, verdict,
                   left_out, benchmark.published.get((model, metric)) if benchmark else None)

    return Table(metric, margin, tuple(
        row(name, found, verdict, left_out) for (name, found, left_out), verdict in zip(shown, said, strict=True)))


@dataclass(frozen=True)
class Arm:
    """Averages of one arm."""

    name: str
    questions: int
    scores: dict[str, float | None]
    """By metric; None where nothing was judged."""
    prompt_tokens: float
    frames: float
    setup_s: float
    """Of a clip, before its first question."""
    answer_s: float
    """Of a question."""


def arm_of(name: str, units: Iterable[Answered], scored: Iterable[Scored]) -> Arm:
    """Of at least one clip."""
    units, mine = list(units), [s for s in scored if s.arm == name]
    return Arm(
        name, len(mine), {metric: mean(getattr(s, metric) for s in mine) for metric in METRICS},
        fmean(s.given.prompt_tokens for s in mine), fmean(unit.frames for unit in units),
        fmean(unit.setup_s for unit in units), fmean(s.given.seconds for s in mine),
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Of those there are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class Margins:
    judge: float
    token_f1: float


@dataclass
class Quality:
    """A run and all it found."""

    setting: Setting
    made: Made
    asked: Asked
    answers: Answers
    scored: list[Scored]
    judge: str
    """Who judged; empty if nobody did."""
    margins: Margins
    seed: int

    def __post_init__(self) -> None:
        preset = "" if self.setting.checkpoint else self.setting.model
        tables = (("judge", self.margins.judge), ("token_f1", self.margins.token_f1))
        by_benchmark = lambda question: question.benchmark
        self.tables = {metric: table(self.scored, metric, margin, by_benchmark, self.seed, preset)
                       for metric, margin in tables if metric != "judge" or self.judge}
        """By metric, with a row a benchmark: `judge`, if there is a judge, and `token_f1`."""
        self.kinds = table([s for s in self.scored if s.question.kind], "exact", self.margins.token_f1,
                           lambda question: question.kind, self.seed)
        """Exact match by kind of question, where questions tell theirs."""
        self.arms = [arm_of(arm, self.answers.of(arm).values(), self.scored) for arm in self.setting.arms
                     if self.answers.of(arm)]

    @property
    def parts(self) -> list[Table]:
        """The tables as the paper has them: of captions, then of questions, then of what tells neither, by metric."""
        split = [replace(table, task=task, rows=tuple(row for row in table.rows if row.task == task))
                 for task in (*TASKS, "") for table in self.tables.values()]
        return [table for table in split if table.rows]

    @property
    def clips(self) -> int:
        """That could be decoded."""
        return len(self.asked.watches) - len(self.answers.unreadable)

    @property
    def questions(self) -> int:
        """About them."""
        unreadable = {clip.watch for clip in self.answers.unreadable}
        return sum(len(watch.questions) for watch in self.asked.watches if watch.id not in unreadable)

    @property
    def ungraded(self) -> int:
        """Answers that the judge came to no grade about."""
        return sum(s.judge is None for s in self.scored) if self.judge else 0

    @property
    def over_budget(self) -> int:
        """Questions of the arm `budget` whose prompt is longer than it may be, with a single frame."""
        return sum(s.given.prompt_tokens > self.made.budget_tokens for s in self.scored if s.arm == "budget")

    def to_json(self) -> dict[str, Any]:
        """Everything but the single answers, which a journal keeps."""
        return {
            "kind": "quality", "v2l": v2l.__version__, **asdict(self.made), "arms": [asdict(arm) for arm in self.arms],
            "clips": self.clips, "questions": self.questions,
            "unreadable": [{"name": clip.name, "reason": clip.reason} for clip in self.answers.unreadable],
            "without_reference": self.asked.unanswerable, "over_budget": self.over_budget,
            "judge": self.judge or None, "ungraded": self.ungraded, "seed": self.seed,
            "tables": {name: {"margin": found.margin, "rows": [row.to_json() for row in found.rows]}
                       for name, found in self.tables.items()},
            "kinds": {"margin": self.kinds.margin, "rows": [row.to_json() for row in self.kinds.rows]},
        }
