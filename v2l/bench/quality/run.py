"""Wires the bench: what a journal knows is taken over, the rest is answered by a model that is loaded only for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from v2l.bench.config import QUESTION, Comparing
from v2l.bench.quality.answers import Answered, Made, Record, Task, Unreadable, sampling_values
from v2l.bench.quality.plan import Asked, Setting, Watch
from v2l.config import Decoding, Sampling
from v2l.errors import UsageError

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.model.base import Base

Told = Callable[[str, int, int | None], None]
"""What is being done, how many are done, and of how many."""
Perform = Callable[["Engine", Sequence[Task], Decoding], Iterable[tuple[Task, "Answered | Unreadable"]]]
"""Answers tasks, an arm at a time."""


@dataclass(frozen=True)
class Answers:
    """What came of some clips and arms."""

    units: tuple[Answered, ...]
    unreadable: tuple[Unreadable, ...]

    def of(self, arm: str) -> dict[str, Answered]:
        """An arm's answers by the clip's id."""
        return {unit.watch: unit for unit in self.units if unit.arm == arm}


class Session:
    """One setting's answers; `load` gives the model. Errors: V2LError where the model cannot be used at all."""

    def __init__(self, setting: Setting, record: Record, load: Callable[[], Engine],
                 told: Told = lambda *_: None) -> None:
        self.setting, self.record, self.told, self._load = setting, record, told, load
        self.earlier = 0
        """Answers taken over from the journal."""

    @cached_property
    def engine(self) -> Engine:
        """The model, which is from now on the one that answers."""
        engine = self._load()
        made = made_of(engine, self.setting)
        if self.earlier and made != self.record.made:
            raise UsageError("The answers in the --resume file are those of another model of this name; give another "
                             "file.")
        self.record.made_by(made)
        return engine

    @property
    def made(self) -> Made:
        """Who answers; as long as no new answer is needed, who did."""
        if self.record.made is None:
            _ = self.engine
        assert self.record.made is not None
        return self.record.made

    @property
    def decoding(self) -> Decoding:
        return Decoding(max_new_tokens=self.setting.max_new_tokens)

    def answer(self, asked: Asked) -> Answers:
        """All arms of all clips, as they are sampled by default."""
        tasks = [self.task(watch, self.setting.arms) for watch in asked.watches]
        if self.missing(tasks):
            _ = self.engine  # which need not be the one that the journal knows
            tasks = [self.task(watch, self.setting.arms) for watch in asked.watches]
        return self.perform(tasks)

    def task(self, watch: Watch, arms: Sequence[str], **sampling: Any) -> Task:
        return Task(watch, self.made.sampling_of(watch, **sampling), tuple(arms), self.made.budget_tokens)

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks with the arms that nothing is known of."""
        cut = (replace(task, arms=tuple(arm for arm in task.arms if self.record.find(task, arm) is None))
               for task in tasks)
        return [task for task in cut if task.arms]

    def perform(self, tasks: Sequence[Task], how: Perform | None = None) -> Answers:
        """What the journal knows of the tasks, and answers to all else, by default those of `arms.perform`. A clip that
        cannot be read is told once."""
        if self.missing(tasks):
            _ = self.engine
        pending, known = self.missing(tasks), (self.record.find(task, arm) for task in tasks for arm in task.arms)
        self.earlier += sum(len(found.answers) for found in known if isinstance(found, Answered))
        if pending:
            from v2l.bench.quality.arms import perform

            total, done = sum(len(task.arms) for task in pending), 0
            for task, found in (how or perform)(self.engine, pending, self.decoding):
                if isinstance(found, Unreadable):
                    self.record.add_unreadable(task, found)
                    done += len(task.arms)
                else:
                    self.record.add(task, found)
                    done += 1
                self.told(f"Answering about {task.watch.name}", done, total)
        found_all = [self.record.find(task, arm) for task in tasks for arm in task.arms]
        unreadable = {found.watch: found for found in found_all if isinstance(found, Unreadable)}
        units = (found for found in found_all if isinstance(found, Answered) and found.watch not in unreadable)
        return Answers(tuple(units), tuple(unreadable.values()))


def made_of(engine: Engine, setting: Setting) -> Made:
    """Who answers under a setting. Loads no weights."""
    sampling = engine.sampling(frames=setting.frames, fps=setting.fps, resolution=setting.resolution)
    hypernetwork = engine.hypernetwork_files
    return Made(engine.files.name, engine.base.fingerprint, hypernetwork.name, hypernetwork.sha256,
                str(engine.dtype).removeprefix("torch."), engine.device.type, sampling_values(sampling),
                engine.base.tile, setting.budget_tokens or default_budget(engine.base, sampling))


def default_budget(base: Base, sampling: Sampling) -> int:
    """Tokens of the arm `budget` where no number is given: that share of the prompt with a whole 16:9 video in it."""
    from v2l.bench.speed.drawn import ASPECT
    from v2l.model.prompt import tile_grid

    stamps = [i / sampling.fps for i in range(sampling.frames)]
    grid = tile_grid(*ASPECT, sampling.resolution, base.tile)
    whole = base.prompt_tokens(stamps, grid, sampling.frames / sampling.fps, QUESTION, generate=True)
    return math.ceil(whole * Comparing.budget_share)
