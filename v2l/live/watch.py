"""A live source -> its memory: segments are watched as they close, and each stands in the file before the next does."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.adapter.record import Record
from v2l.adapter.wall import wall_moments
from v2l.errors import AdapterError, OutputError
from v2l.live.clip import LiveClip, LiveInfo
from v2l.live.collect import RULE, Collector
from v2l.live.rolling import Kept, Rolling
from v2l.live.watching import Listener, Watched, Watching
from v2l.live.windows import Window
from v2l.segments import lock_of
from v2l.system.interrupts import at_the_end
from v2l.system.lock import Busy, alone
from v2l.wording import count_of, wall_json, wall_span_text

if TYPE_CHECKING:
    from v2l.engine import Engine

_STOPPING = "Stopping: what has been seen is watched and written; a second Ctrl-C stops at once."
_STOPPING_BLIND = "Stopping: no picture came."
_OVERLAPS = ("The times of what is watched now overlap those of what the file holds: the source comes faster than it "
             "plays, and what is read last is taken to be of now. Name another file with -o where times matter.")
_MOST_FAILURES = 3
"""Segments in a row that fail, until watching does."""


def watch_live(engine: Engine, watching: Watching, listener: Listener) -> None:
    """Watches a live source until it ends, or `until`, or an interrupt comes, which is raised after all that has been
    seen is in the file; a second one does not wait.

    Errors: those of `events`, after what was seen is in the file; OutputError where the output cannot be had, another
    run has it, or what was seen last could not be written; V2LError where one segment after the other fails.
    """
    try:
        with alone(lock_of(watching.output)), engine.base.remembering():
            watch = _Watch(engine, watching, listener)
            seen = watch.collector
            with at_the_end(lambda: listener.note(_STOPPING if seen.started else _STOPPING_BLIND)) as stopping:
                watch.run(stopping)
    except Busy:
        raise OutputError(f"{watching.output} is being written by another run; end that, or name another file with -o."
                          ) from None


class _Watch:
    """One source on its way into one memory, from its first picture to its last."""

    def __init__(self, engine: Engine, watching: Watching, listener: Listener) -> None:
        self.engine, self.watching, self.listener = engine, watching, listener
        self.rolling = Rolling(watching.output, watching.keep, watching.roll)
        self.made_with = engine.provenance(watching.sampling, watching.adapter_dtype)
        self.collector = Collector(watching, listener)
        self.lost: list[tuple[float, float, str]] = []
        """Stretches that were seen and are in no file, and why."""
        self.left_out, self.dropped, self.failures, self.unwritten = 0, 0, 0, False
        self.held: datetime | None = None
        """When what the file held before ends, until it was told that this overlaps it."""
        self.took: deque[tuple[int, float]] = deque()
        """Frames left out, and seconds that watching took, of each segment that is to be written."""

    def run(self, stopping: Callable[[], bool]) -> None:
        label = self.rolling.check(datetime.now(timezone.utc), self.made_with)
        if label is not None:
            known = list(dict.fromkeys(source["name"] for source in label.record["sources"]))
            new = "" if self.watching.address.name in known else f", and this is {self.watching.address.name}"
            path = self.rolling.path_at(datetime.now(timezone.utc))
            self.held = max(wall_moments(label.record["sources"], label.record["segments"]))
            self.listener.note(f"{path} is there and goes on: {count_of(len(label.record['segments']), 'segment')} of "
                               f"{known[-1]}{new}.")
        self.collector.thread.start()
        try:
            while not self.collector.backlog.is_over:
                if stopping() and not self.collector.stopped:
                    self.collector.stop()
                self._note_dropped()
                if (window := self.collector.backlog.take()) is not None:
                    self._watch(window)
        finally:
            self.collector.stop()
        if self.rolling.waiting:
            self._write_last()
        if self.collector.error is not None:
            raise self.collector.error

    def _write_last(self) -> None:
        """Writes what waits. OutputError, which says what is lost."""
        try:
            self._written(self.rolling.write())
        except (OutputError, AdapterError) as error:
            waiting = [one.segments[0] for one in self.rolling.waiting]
            stretch = wall_span_text(self._moment(waiting[0]["start"]), self._moment(waiting[-1]["end"]))
            raise OutputError(f"{error} {count_of(len(waiting), 'segment')} that waited for it, {stretch}, "
                              f"{'is' if len(waiting) == 1 else 'are'} lost.") from error

    def _note_dropped(self) -> None:
        while self.collector.backlog.dropped:
            window = self.collector.backlog.dropped.pop(0)
            self.dropped += 1
            self.left_out += len(window.times) + window.left_out
            self.lost.append((window.start, window.end, "watching the segments before it took too long"))
            self.listener.note(f"The segment from {self._moment(window.start):%H:%M:%S} was dropped: "
                               "watching those before it took too long.")

    def _moment(self, at: float) -> datetime:
        assert self.collector.started is not None
        return (self.collector.started + timedelta(seconds=at)).astimezone()

    def _watch(self, window: Window) -> None:
        began = time.perf_counter()
        if self.held and self._moment(window.start) < self.held:
            self.listener.note(_OVERLAPS)
            self.held = None
        self.left_out += window.left_out
        try:
            segment = self.engine.ingest(self._clip(window), self.watching.sampling, self.watching.adapter_dtype)
        except Exception as error:
            self.failures += 1
            if self.failures >= _MOST_FAILURES:
                raise
            self.lost.append((window.start, window.end, "it could not be watched"))
            self.listener.failed(error)
            return
        self.failures = 0
        self.took.append((window.left_out, time.perf_counter() - began))
        try:
            kept = self.rolling.add(segment)
        except (OutputError, AdapterError) as error:
            if isinstance(error, AdapterError) and not isinstance(error.__cause__, OSError):
                raise  # the file is damaged, and stays so
            self._unwritten(error)
            return
        self.unwritten = False
        self._written(kept)

    def _unwritten(self, error: Exception) -> None:
        """Tells once that the file cannot be written, and gives up what has waited too long for it."""
        if not self.unwritten:
            self.listener.troubled(error)
            self.listener.note("Watching goes on, and what cannot be written is tried again after each segment.")
        self.unwritten = True
        while (lost := self.rolling.give_up()) is not None:
            self.took.popleft()
            start, end = lost.segments[0]["start"], lost.segments[0]["end"]
            self.lost.append((start, end, "it could not be written"))
            self.listener.failed(OutputError(f"The segment from {self._moment(start):%H:%M:%S} is lost: it could not "
                                             "be written for too long."))

    def _written(self, kept: list[Kept]) -> None:
        for one in kept:
            segment, (left_out, seconds) = one.segment.segments[0], self.took.popleft()
            self.listener.watched(
                Watched(one, self._moment(segment["start"]), self._moment(segment["end"]), len(segment["timestamps"]),
                        left_out, seconds), self.engine)

    def _clip(self, window: Window) -> LiveClip:
        collector = self.collector
        info = LiveInfo(Path(f"the segment from {self._moment(window.start):%H:%M:%S}"), len(window.times),
                        collector.windows.plan.rate or 0.0, *collector.size, seconds=window.end - window.start,
                        of=self._source(window))
        return LiveClip(info, window)

    def _source(self, window: Window) -> Record:
        """What the record says of the source, as of a window."""
        collector, name = self.collector, self.watching.address.name
        assert collector.started is not None and collector.begun is not None
        started, rate = wall_json(collector.started), collector.windows.plan.rate
        gaps = sorted([*collector.gaps, *self.lost])
        pictured = window.end - sum(end - start for start, end, _ in collector.gaps if end <= window.end)
        source: Record = {
            "name": name, "duration": window.end, "fps": rate, "frames": round(max(0.0, pictured) * rate),
            "width": collector.size[0], "height": collector.size[1], "size": 0,
            "sha256": hashlib.sha256(f"{name} {wall_json(collector.begun)}".encode()).hexdigest(), "started": started}
        if gaps:
            source["gaps"] = [list(gap) for gap in gaps if gap[0] < window.end]
        if self.left_out:
            source["dropped"] = {"rule": RULE, "frames": self.left_out, "segments": self.dropped}
        return source
