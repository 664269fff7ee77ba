"""What the paper contrasts itself with: an adapter made by gradient steps on one clip, not by watching it.

It never sees the clip: it is taught every second question about it, with the references, and asked all of them. Those
it was taught show how fast it learns, the others whether what it learned is the video or the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from v2l.bench.quality.answers import Answered, Task, given_of
from v2l.bench.quality.plan import Asked
from v2l.bench.quality.results import mean
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Scored
from v2l.bench.quality.sweep import spread
from v2l.config import Decoding
from v2l.manifest import Turn

if TYPE_CHECKING:
    from v2l.engine import Engine

_ARM = "finetuned "


@dataclass(frozen=True)
class Learned:
    """One arm on the clips that adapters were fine-tuned for; scores are means, None of nothing."""

    name: str
    steps: int | None
    """Of fine-tuning; None for an arm without."""
    seconds: float
    """To the adapter, from the video file or the references; or to the video's part of the prompt. Means over clips."""
    taught_f1: float | None
    taught_exact: float | None
    others_f1: float | None
    others_exact: float | None


@dataclass(frozen=True)
class Tuned:
    clips: int
    taught: int
    """Questions in all; `others` were kept back."""
    others: int
    arms: tuple[Learned, ...]
    """The adapter and the video in the prompt, where they were asked, then fine-tuning from the fewest steps on."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def finetuned(session: Session, asked: Asked, answers: Answers, steps: Sequence[int], clips: int,
              score: Callable[[Answers], list[Scored]]) -> Tuned:
    """`answers` are those of the other arms."""
    chosen = spread(asked.watches, clips)
    taught = {question.id for watch in chosen for question in watch.questions[::2]}
    tasks = [Task(watch, session.made.sampling_of(watch), tuple(f"{_ARM}{n}" for n in sorted(steps)),
                  taught=tuple(question.id for question in watch.questions[::2])) for watch in chosen]
    found = session.perform(tasks, _tune)
    known = {unit.watch for unit in found.units}
    others = Answers(tuple(unit for unit in answers.units if unit.watch in known and unit.arm in ("adapter", "direct")),
                     ())
    units = (*others.units, *found.units)
    scored = score(Answers(units, ()))
    arms = [_learned(arm, units, scored, taught) for arm in dict.fromkeys(unit.arm for unit in units)]
    asked_of = [question for watch in chosen if watch.id in known for question in watch.questions]
    return Tuned(len(known), sum(question.id in taught for question in asked_of),
                 sum(question.id not in taught for question in asked_of),
                 tuple(sorted(arms, key=lambda arm: (-1 if arm.steps is None else arm.steps, arm.name))))


def _learned(arm: str, units: Iterable[Answered], scored: Iterable[Scored], taught: set[str]) -> Learned:
    mine = [s for s in scored if s.arm == arm]
    parts = [[s for s in mine if (s.question.id in taught) == wanted] for wanted in (True, False)]
    means = (mean(getattr(s, metric) for s in part) for part in parts for metric in ("token_f1", "exact"))
    steps = int(arm.removeprefix(_ARM)) if arm.startswith(_ARM) else None
    return Learned("fine-tuned" if steps is not None else arm, steps,
                   mean(unit.setup_s for unit in units if unit.arm == arm) or 0.0, *means)


def _tune(engine: Engine, tasks: Sequence[Task], decoding: Decoding) -> Iterator[tuple[Task, Answered]]:
    from v2l.train.finetune import finetune

    for task in tasks:
        watch = task.watch
        turns = [Turn(q.prompt, q.references, q.kind) for q in watch.questions if q.id in task.taught]
        for tuned in finetune(engine, turns, [int(arm.removeprefix(_ARM)) for arm in task.arms]):
            started = time.perf_counter()
            answers = list(engine.ask_batch([(tuned.adapter, q.prompt) for q in watch.questions], decoding))
            share = (time.perf_counter() - started) / len(answers)
            given = tuple(given_of(q, answer, share) for q, answer in zip(watch.questions, answers, strict=True))
            arm = f"{_ARM}{tuned.steps}"
            yield task, Answered(watch.id, arm, task.conditions(arm), 0, tuned.seconds, given)
