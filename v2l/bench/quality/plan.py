"""Clips with their questions, and the setting under which they are answered."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import v2l
from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.bench.config import ARMS
from v2l.config import DEFAULT_MODEL, Decoding
from v2l.errors import UsageError
from v2l.manifest import Item
from v2l.wording import time_text

_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """One question with its references."""

    id: str
    """Id that is unique in a run, and the same in the next."""
    benchmark: str
    kind: str
    prompt: str
    references: tuple[str, ...]
    task: str = ""
    """Task of its benchmark, caption or qa, where that is known: the paper's Table 1 or its Table 4."""


@dataclass(frozen=True)
class EvalClip:
    """A clip and all that is asked about it, so that it is watched once."""

    video: Path
    start: float | None
    end: float | None
    questions: tuple[Question, ...]

    @property
    def id(self) -> str:
        """Id of the first question, which no other clip has."""
        return self.questions[0].id

    @property
    def name(self) -> str:
        """The file's name, and the times where it is cut."""
        if self.start is None and self.end is None:
            return self.video.name
        return f"{self.video.name} {time_text(self.start or 0)}–{'' if self.end is None else time_text(self.end)}"


@dataclass(frozen=True)
class EvalSet:
    """All clips of a run, with their questions."""

    clips: tuple[EvalClip, ...]
    unanswerable: int = 0
    """Number of questions that were left out because they have no reference."""

    @property
    def questions(self) -> list[Question]:
        return [question for clip in self.clips for question in clip.questions]


@dataclass(frozen=True)
class EvalSetting:
    """Options that decide who answers, and how; None leaves it to the model."""

    model: str = DEFAULT_MODEL
    checkpoint: str | None = None
    device: str | None = None
    dtype: str = "auto"
    offline: bool = False
    frames: int | None = None
    fps: float | None = None
    resolution: int | None = None
    arms: tuple[str, ...] = ARMS
    budget_tokens: int | None = None
    max_new_tokens: int = Decoding.max_new_tokens
    suite: str = ""
    """The embedded clips that were drawn for it, in words; empty for all others."""

    def key(self) -> dict[str, Any]:
        """All options that decide an answer, and the version of v2l."""
        values = asdict(self)
        del values["arms"], values["offline"]
        return {"v2l": v2l.__version__, **values}


def collect(sources: Iterable[tuple[str, Sequence[Item]]], clips: int | None = None, seed: int = 0) -> EvalSet:
    """The questions of (name, items) sources, clip by clip; the name is the benchmark of items that name none.

    With `clips`, about so many clips of each benchmark at most, drawn by `seed`. Raises UsageError where two turns have
    one id, where a question cannot be asked, and where there is none.
    """
    by_clip: dict[tuple[Path, float | None, float | None], list[Question]] = {}
    ids: set[str] = set()
    unanswerable = 0
    for name, items in sources:
        for item in items:
            for number, turn in enumerate(item.turns, 1):
                if not turn.targets:
                    unanswerable += 1
                    continue
                benchmark = item.benchmark or name
                question = Question(f"{benchmark}/{item.id}/{number}", benchmark, turn.kind, turn.prompt, turn.targets,
                                    item.task or _task_of(benchmark))
                _check(question, ids)
                by_clip.setdefault((item.video, item.start, item.end), []).append(question)
    every = tuple(EvalClip(*clip, tuple(questions)) for clip, questions in by_clip.items())
    if not every:
        raise UsageError("There is no question with a reference answer in what was given.")
    return EvalSet(every if clips is None else _drawn(every, clips, seed), unanswerable)


def _task_of(benchmark: str) -> str:
    known = PUBLIC_BENCHMARKS.get(benchmark)
    return known.task if known else ""


def _check(question: Question, ids: set[str]) -> None:
    if question.id in ids:
        raise UsageError(f"Two lines of the benchmark {question.benchmark!r} have the id of {question.id!r}; "
                         "give each its own, or give their benchmarks other names.")
    if "<image>" in question.prompt:
        raise UsageError(f"The question {question.id!r} contains <image>, which cannot be asked with a video in the "
                         "prompt; leave it out.")
    ids.add(question.id)


def _drawn(every: Sequence[EvalClip], clips: int, seed: int) -> tuple[EvalClip, ...]:
    """Clips in random order are taken as long as one of their benchmarks has fewer than `clips`; their order stays."""
    taken: list[int] = []
    counts: Counter[str] = Counter()
    for place in random.Random(f"clips {seed}").sample(range(len(every)), len(every)):
        benchmarks = {question.benchmark for question in every[place].questions}
        if any(counts[benchmark] < clips for benchmark in benchmarks):
            taken.append(place)
            counts.update(benchmarks)
    return tuple(every[place] for place in sorted(taken))


def items_of_split(items: Sequence[Item], split: str | None) -> list[Item]:
    """The items of one split; of none given, those a model is to be tested on: test, else val, else all."""
    for wanted in (split,) if split else ("test", "val"):
        if chosen := [item for item in items if item.split == wanted]:
            return chosen
    return [] if split else list(items)


def evenly(values: Sequence[_T], count: int) -> list[_T]:
    """So many of the values, evenly from first to last: the middle of each of `count` equal parts."""
    count = min(count, len(values))
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]
