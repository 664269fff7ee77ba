"""Answers of a run: what a file of answers holds is taken over, the rest is asked of a model that is loaded only for
that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from v2l.bench.config import QUESTION, Comparing
from v2l.bench.quality.answers import (
    AnswerStore,
    ClipAnswers,
    ClipTask,
    Respondent,
    Unreadable,
)
from v2l.bench.quality.plan import EvalClip, EvalSet, EvalSetting
from v2l.config import Decoding, Sampling
from v2l.errors import UsageError
from v2l.system.progress import Progress, silent

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.model.base import Base

AnswerTasks = Callable[["Engine", Sequence[ClipTask], Decoding], Iterable[tuple[ClipTask, "ClipAnswers | Unreadable"]]]
"""Answers tasks, an arm at a time."""


@dataclass(frozen=True)
class Answers:
    """Answers about some clips, and the clips that could not be decoded."""

    by_clip: tuple[ClipAnswers, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def of(self, arm: str) -> dict[str, ClipAnswers]:
        """An arm's answers by the clip's id."""
        return {answers.clip: answers for answers in self.by_clip if answers.arm == arm}


class Session:
    """One setting's answers; `load` gives the model. Errors: V2LError where the model cannot be used at all."""

    def __init__(self, setting: EvalSetting, store: AnswerStore, load: Callable[[], Engine],
                 progress: Progress = silent) -> None:
        self.setting, self.store, self.progress, self._load = setting, store, progress, load
        self.earlier = 0
        """Number of answers taken over from the file."""

    @cached_property
    def engine(self) -> Engine:
        """The model, which is from now on the one that answers."""
        engine = self._load()
        respondent = respondent_of(engine, self.setting)
        if self.earlier and respondent != self.store.respondent:
            raise UsageError("The answers in the --resume file are those of another model of this name; give another "
                             "file.")
        self.store.respondent = respondent
        return engine

    def load_engine(self) -> None:
        """Loads the model, if it is not loaded yet."""
        _ = self.engine

    @property
    def respondent(self) -> Respondent:
        """The model that answers; as long as no new answer is needed, the one that did."""
        if self.store.respondent is None:
            self.load_engine()
        assert self.store.respondent is not None
        return self.store.respondent

    @property
    def decoding(self) -> Decoding:
        return Decoding(max_new_tokens=self.setting.max_new_tokens)

    def answer(self, eval_set: EvalSet) -> Answers:
        """All arms of all clips, as they are sampled by default."""
        tasks = [self.task(clip, self.setting.arms) for clip in eval_set.clips]
        if self.missing(tasks):
            self.load_engine()  # which need not be the model that the file knows
            tasks = [self.task(clip, self.setting.arms) for clip in eval_set.clips]
        return self.complete(tasks)

    def task(self, clip: EvalClip, arms: Sequence[str], **sampling: Any) -> ClipTask:
        """A task about a clip as this session samples it, but for what `sampling` says."""
        respondent = self.respondent
        return ClipTask(clip, respondent.sampling_of(clip, **sampling), tuple(arms), respondent.budget_tokens)

    def missing(self, tasks: Iterable[ClipTask]) -> list[ClipTask]:
        """The tasks with the arms that nothing is known of."""
        cut = (replace(task, arms=tuple(arm for arm in task.arms if self.store.find(task, arm) is None))
               for task in tasks)
        return [task for task in cut if task.arms]

    def complete(self, tasks: Sequence[ClipTask], answer: AnswerTasks | None = None) -> Answers:
        """Answers to the tasks: those known, and new ones to all else, by default of `arms.answer_tasks`. A clip that
        cannot be read is named once."""
        if self.missing(tasks):
            self.load_engine()
        pending, known = self.missing(tasks), (self.store.find(task, arm) for task in tasks for arm in task.arms)
        self.earlier += sum(len(answers.answers) for answers in known if isinstance(answers, ClipAnswers))
        if pending:
            from v2l.bench.quality.arms import answer_tasks

            total, done = sum(len(task.arms) for task in pending), 0
            for task, result in (answer or answer_tasks)(self.engine, pending, self.decoding):
                if isinstance(result, Unreadable):
                    self.store.add_unreadable(task, result)
                    done += len(task.arms)
                else:
                    self.store.add(task, result)
                    done += 1
                self.progress(f"Answering about {task.clip.name}", done, total)
        results = [self.store.find(task, arm) for task in tasks for arm in task.arms]
        unreadable = {result.clip: result for result in results if isinstance(result, Unreadable)}
        answers = (result for result in results if isinstance(result, ClipAnswers) and result.clip not in unreadable)
        return Answers(tuple(answers), tuple(unreadable.values()))


def respondent_of(engine: Engine, setting: EvalSetting) -> Respondent:
    """The model that answers under a setting. Loads no weights."""
    sampling = engine.sampling(frames=setting.frames, fps=setting.fps, resolution=setting.resolution)
    hypernetwork = engine.hypernetwork_files
    return Respondent(engine.files.name, engine.base.fingerprint, hypernetwork.name, hypernetwork.sha256,
                      str(engine.dtype).removeprefix("torch."), engine.device.type, sampling.recorded(),
                      engine.base.tile, setting.budget_tokens or default_budget(engine.base, sampling))


def default_budget(base: Base, sampling: Sampling) -> int:
    """Tokens of the arm `budget` where no number is given: a share of the prompt with a whole 16:9 video in it."""
    from v2l.bench.speed.drawn import ASPECT
    from v2l.model.prompt import tile_grid

    stamps = [i / sampling.fps for i in range(sampling.frames)]
    grid = tile_grid(*ASPECT, sampling.resolution, base.tile)
    whole = base.prompt_tokens(stamps, grid, sampling.frames / sampling.fps, QUESTION, generate=True)
    return math.ceil(whole * Comparing.budget_share)
