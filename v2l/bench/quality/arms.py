"""Clips and questions -> answers: a clip is decoded and seen once for all arms, questions are answered in batches."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from v2l.bench.quality.answers import ClipAnswers, ClipTask, Unreadable
from v2l.bench.quality.plan import evenly
from v2l.bench.speed.timing import timed
from v2l.config import Decoding
from v2l.engine import Engine, Seen
from v2l.errors import VideoError
from v2l.model.answer import Answer
from v2l.model.base import Base
from v2l.model.running import ROWS_AT_ONCE
from v2l.model.text import LayerAdapter
from v2l.video.clip import Clip, open_clip


def fewer_frames(base: Base, seen: Seen, questions: Sequence[str], tokens: int) -> Seen:
    """A video with as many of its frames, evenly spread, as keep each prompt within so many tokens; at least one."""
    total = len(seen.timestamps)
    longest = max(questions, key=lambda question: len(base.encode(question)))

    def size(count: int) -> int:
        stamps = [seen.timestamps[place] for place in evenly(range(total), count)]
        return base.prompt_tokens(stamps, seen.grid, seen.duration, longest, generate=True)

    places = evenly(range(total), max(1, bisect_right(range(1, total + 1), tokens, key=size)))
    each = seen.image_tokens.unflatten(0, (total, -1))
    return replace(seen, image_tokens=each[places].flatten(0, 1), timestamps=[seen.timestamps[p] for p in places],
                   times=[seen.times[p] for p in places])


@dataclass(frozen=True)
class _Ready:
    """A clip that was watched into an adapter and is still to be asked."""

    task: ClipTask
    frames: int
    setup_s: float
    adapter: list[LayerAdapter] | None
    """Adapter to ask; None is the bare base, without a video."""

    def answered(self, answers: Sequence[Answer], seconds: float) -> ClipAnswers:
        """The answers to its questions, which took so long together."""
        arm = "none" if self.adapter is None else "adapter"
        return ClipAnswers.of(self.task.clip, arm, self.frames, self.setup_s, answers, seconds)


def answer_tasks(engine: Engine, tasks: Iterable[ClipTask],
                 decoding: Decoding) -> Iterator[tuple[ClipTask, ClipAnswers | Unreadable]]:
    """Answers of one arm at a time, each with its task; a clip that cannot be decoded comes out once.

    Adapters wait for each other, so that their questions fill a batch.
    """
    engine.load()  # before the clock runs
    waiting: list[_Ready] = []
    for task in tasks:
        if "none" in task.arms:
            waiting.append(_Ready(task, 0, 0.0, None))
        if task.arms != ("none",):
            try:
                seen, see_s, adapter, adapt_s = _watched(engine, task)
            except VideoError as error:
                waiting = [ready for ready in waiting if ready.task is not task]
                yield task, Unreadable(task.clip.id, task.clip.name, str(error))
                continue
            if adapter:
                waiting.append(_Ready(task, len(seen.timestamps), see_s + adapt_s, adapter))
            for arm in ("direct", "budget"):
                if arm in task.arms:
                    yield task, _direct(engine, task, arm, seen, see_s, decoding)
        if sum(len(ready.task.clip.questions) for ready in waiting) >= ROWS_AT_ONCE:
            yield from _asked(engine, waiting, decoding)
            waiting = []
    yield from _asked(engine, waiting, decoding)


def _watched(engine: Engine, task: ClipTask) -> tuple[Seen, float, list[LayerAdapter] | None, float]:
    """The clip as seen, its adapter where that is wanted, and the seconds of each."""
    sampling = task.sampling

    def look() -> tuple[Seen, Clip]:
        clip = open_clip(task.clip.video, sampling)
        return engine.see(clip, sampling), clip

    (seen, clip), see_s = timed(engine.device, look)
    if "adapter" not in task.arms:
        return seen, see_s, None, 0.0
    adapter, adapt_s = timed(engine.device, lambda: engine.bind(engine.ingest_seen(clip, seen, sampling)))
    return seen, see_s, adapter, adapt_s


def _direct(engine: Engine, task: ClipTask, arm: str, seen: Seen, see_s: float, decoding: Decoding) -> ClipAnswers:
    questions = [question.prompt for question in task.clip.questions]
    if arm == "budget":
        total = len(seen.timestamps)
        seen = fewer_frames(engine.base, seen, questions, task.budget_tokens)
        see_s *= len(seen.timestamps) / total
    prefix, prefix_s = timed(engine.device, lambda: engine.prefix(seen, 0))
    started = time.perf_counter()
    answers = list(engine.direct_batch(seen, prefix, questions, decoding))
    elapsed = time.perf_counter() - started
    return ClipAnswers.of(task.clip, arm, len(seen.timestamps), see_s + prefix_s, answers, elapsed)


def _asked(engine: Engine, waiting: Sequence[_Ready], decoding: Decoding) -> Iterator[tuple[ClipTask, ClipAnswers]]:
    """The questions of all waiting, those with an adapter and those without in batches of their own."""
    for bare in (False, True):
        batch = [ready for ready in waiting if (ready.adapter is None) == bare]
        started = time.perf_counter()
        rows = ((ready.adapter, question.prompt) for ready in batch for question in ready.task.clip.questions)
        answers = list(engine.ask_batch(rows, decoding))
        share, given = (time.perf_counter() - started) / max(1, len(answers)), iter(answers)
        for ready in batch:
            count = len(ready.task.clip.questions)
            yield ready.task, ready.answered(list(islice(given, count)), share * count)
