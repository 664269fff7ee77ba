"""The paper's contrast to itself: an adapter made by gradient steps on one clip, not by watching it.

It never sees the clip: it is taught every second question about it, with the references, and asked all of them. Those
it was taught show how fast it learns, the others whether what it learned is the video or the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from v2l.bench.quality.answers import ClipAnswers, ClipTask
from v2l.bench.quality.plan import EvalSet, evenly
from v2l.bench.quality.results import known_mean
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Scored
from v2l.config import Decoding
from v2l.manifest import Turn

if TYPE_CHECKING:
    from v2l.engine import Engine


@dataclass(frozen=True)
class TunedArm:
    """One arm on the clips that adapters were fine-tuned for; scores are means, None of nothing."""

    name: str
    steps: int | None
    """Steps of fine-tuning; None for an arm without."""
    seconds: float
    """Time to the adapter, from the video file or the references; or to the video's part of the prompt. Means over
    clips."""
    taught_f1: float | None
    taught_exact: float | None
    others_f1: float | None
    others_exact: float | None


@dataclass(frozen=True)
class FineTuned:
    """Fine-tuned adapters beside the other arms."""

    clips: int
    taught: int
    """Questions in all that adapters were taught; `others` were kept back."""
    others: int
    arms: tuple[TunedArm, ...]
    """The adapter and the video in the prompt, where they were asked, then fine-tuning from the fewest steps on."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def finetuned(session: Session, eval_set: EvalSet, answers: Answers, steps: Sequence[int], clips: int,
              score: Callable[[Answers], list[Scored]]) -> FineTuned:
    """Fine-tunes an adapter for each of some clips and asks it after so many `steps` each; `answers` are those of the
    other arms."""
    chosen = evenly(eval_set.clips, clips)
    taught = {question.id for clip in chosen for question in clip.questions[::2]}
    steps_of = {f"finetuned {count}": count for count in sorted(steps)}
    tasks = [ClipTask(clip, session.respondent.sampling_of(clip), tuple(steps_of),
                      taught=tuple(question.id for question in clip.questions[::2])) for clip in chosen]
    tuned = session.complete(tasks, partial(_tune, steps_of)).by_clip
    known = {each.clip for each in tuned}
    both = Answers((*(each for each in answers.by_clip if each.clip in known and each.arm in ("adapter", "direct")),
                    *tuned))
    scored = score(both)
    arms = [_tuned_arm(arm, steps_of.get(arm), both, scored, taught)
            for arm in dict.fromkeys(each.arm for each in both.by_clip)]
    questions = [question for clip in chosen if clip.id in known for question in clip.questions]
    return FineTuned(len(known), sum(question.id in taught for question in questions),
                     sum(question.id not in taught for question in questions),
                     tuple(sorted(arms, key=lambda arm: (-1 if arm.steps is None else arm.steps, arm.name))))


def _tuned_arm(arm: str, steps: int | None, answers: Answers, scored: Iterable[Scored], taught: set[str]) -> TunedArm:
    mine = [s for s in scored if s.arm == arm]
    parts = [[s for s in mine if (s.question.id in taught) == wanted] for wanted in (True, False)]
    means = (known_mean(getattr(s, metric) for s in part) for part in parts for metric in ("token_f1", "exact"))
    return TunedArm("fine-tuned" if steps is not None else arm, steps,
                    known_mean(each.setup_s for each in answers.of(arm).values()) or 0.0, *means)


def _tune(steps_of: Mapping[str, int], engine: Engine, tasks: Sequence[ClipTask],
          decoding: Decoding) -> Iterator[tuple[ClipTask, ClipAnswers]]:
    """Answers of adapters after each number of steps, which `steps_of` gives by arm."""
    from v2l.train.finetune import finetune

    for task in tasks:
        clip = task.clip
        turns = [Turn(q.prompt, q.references, q.kind) for q in clip.questions if q.id in task.taught]
        arms = {steps_of[arm]: arm for arm in task.arms}
        for tuned in finetune(engine, turns, list(arms)):
            started = time.perf_counter()
            answers = list(engine.ask_batch([(tuned.adapter, q.prompt) for q in clip.questions], decoding))
            elapsed = time.perf_counter() - started
            yield task, ClipAnswers.of(clip, arms[tuned.steps], 0, tuned.seconds, answers, elapsed)
