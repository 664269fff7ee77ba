"""A live source -> its memory: segments are watched as they close, and each stands in the file before the next does."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, Protocol

from v2l.adapter import Adapter
from v2l.adapter.record import Record
from v2l.config import Sampling
from v2l.errors import OutputError
from v2l.live.address import Address
from v2l.live.clip import LiveClip, LiveInfo, shrunk
from v2l.live.rolling import Kept, Rolling
from v2l.live.source import Gap, Picture, Reading, Waiting, events
from v2l.live.windows import Plan, Window, Windows
from v2l.segments import lock_of
from v2l.system.interrupts import at_the_end
from v2l.system.lock import Busy, alone
from v2l.wording import count_of, wall_json

if TYPE_CHECKING:
    from v2l.engine import Engine

RULE = ("Where the base is slower than the stream, at most one segment's frames wait: every other frame of the segment "
        "that has most is left out, until they fit; with one frame left in each, the oldest segment is dropped.")
"""What is done about a base that does not keep up, as records tell it."""
_STOPPING = "Stopping: what has been seen is watched and written; a second Ctrl-C stops at once."
_MOST_FAILURES = 3
"""Segments in a row that fail, until watching does."""
_LOOK = 0.2
"""Seconds after which it is looked again whether watching is to end."""


@dataclass(frozen=True)
class Watching:
    """What is watched, and what becomes of it."""

    address: Address
    output: Path
    length: float
    """Seconds of a segment."""
    sampling: Sampling
    reading: Reading
    keep: float | None = None
    """Seconds after which segments leave the file."""
    roll: float | None = None
    """Seconds of the day that have a file of their own."""
    until: float | None = None
    """Seconds of the source after which watching ends."""
    adapter_dtype: str = "auto"


@dataclass(frozen=True)
class Watched:
    """A segment that was watched, and stands in its file."""

    file: Kept
    start: datetime
    """When it began, by the wall clock."""
    end: datetime
    frames: int
    left_out: int
    """Frames that were not looked at, so that the base keeps up."""
    seconds: float
    """Time it took."""

    @property
    def segment(self) -> Adapter:
        """Its adapter: the segment alone."""
        return self.file.segment


@dataclass(frozen=True)
class State:
    """How watching goes, for who looks on."""

    now: datetime | None
    """Where the source's time is; None before its first picture."""
    passed: float
    """Seconds of the open segment that have passed."""
    held: int
    """Pictures held of it."""
    silence: str
    """Why no pictures come, where none do."""


class Listener(Protocol):
    """Who is told, as it happens, from the thread that computes but for `state`."""

    def state(self, state: State) -> None:
        """How watching goes; called often, from a thread of its own."""

    def watched(self, watched: Watched, engine: Engine) -> None:
        """A segment stands in its file; the engine may be asked about it."""

    def note(self, text: str) -> None:
        """A sentence of what went otherwise than one would expect."""

    def failed(self, error: Exception) -> None:
        """A segment could not be watched, or not be written; watching goes on."""


def watch(engine: Engine, watching: Watching, listener: Listener) -> None:
    """Watches a live source until it ends, or `until`, or an interrupt comes, which is raised after all that has been
    seen is in the file; a second one does not wait.

    Errors: those of `events`, after what was seen is in the file; OutputError where the output cannot be had, another
    run has it, or what was seen last could not be written; V2LError where one segment after the other fails.
    """
    try:
        with (alone(lock_of(watching.output)), engine.base.remembering(),
              at_the_end(lambda: listener.note(_STOPPING)) as stopping):
            _Watch(engine, watching, listener).run(stopping)
    except Busy:
        raise OutputError(f"{watching.output} is being written by another run; end that, or name another file with -o."
                          ) from None


class Backlog:
    """Windows between the thread that collects them and the one that watches them: never more frames than one has."""

    def __init__(self, most: int, patient: bool) -> None:
        """`most` frames wait; `patient`: whoever brings a window is held back while another waits."""
        self.most, self.patient = most, patient
        self.waiting: deque[Window] = deque()
        self.dropped: list[Window] = []
        """Windows that nothing was kept of."""
        self.ended = self.stopped = False
        self.changed = Condition()

    def put(self, window: Window) -> None:
        with self.changed:
            while self.patient and self.waiting and not self.stopped:
                self.changed.wait(_LOOK)
            self.waiting.append(window)
            while not self.patient and sum(len(one.times) for one in self.waiting) > self.most:
                self._thin()
            self.changed.notify_all()

    def _thin(self) -> None:
        place = max(range(len(self.waiting)), key=lambda i: len(self.waiting[i].times))  # of equal ones, the oldest
        if len(self.waiting[place].times) > 1:
            self.waiting[place] = self.waiting[place].thinned()
        else:
            self.dropped.append(self.waiting.popleft())

    def take(self) -> Window | None:
        """The window that has waited longest; None where none comes for a moment."""
        with self.changed:
            if not self.waiting and not self.ended:
                self.changed.wait(_LOOK)
            if not self.waiting:
                return None
            window = self.waiting.popleft()
            self.changed.notify_all()
            return window

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def stop(self) -> None:
        """Holds nobody back any more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    @property
    def is_over(self) -> bool:
        with self.changed:
            return self.ended and not self.waiting


class Collector:
    """A thread that takes what comes of a source, and cuts it into windows."""

    def __init__(self, watching: Watching, listener: Listener) -> None:
        self.watching, self.listener = watching, listener
        plan = Plan(watching.length, watching.sampling)
        self.windows = Windows(plan)
        self.source = events(watching.address, replace(watching.reading, plan=plan))
        self.backlog = Backlog(watching.sampling.frames, not watching.address.paced)
        self.started: datetime | None = None
        """The wall clock's moment of time 0."""
        self.size = 0, 0
        """Width and height of the pictures."""
        self.gaps: list[tuple[float, float, str]] = []
        self.error: Exception | None = None
        self.stopped = False
        self._silence = ""
        self.thread = Thread(target=self._run, name="v2l-watch", daemon=True)

    def _run(self) -> None:
        try:
            with closing(self.source) as source:  # type: ignore[type-var]
                for event in source:
                    if self.stopped or self._take(event):
                        break
        except Exception as error:
            self.error = error
        finally:
            with suppress(Exception):
                self._put(self.windows.close())
            self.backlog.end()

    def _put(self, windows: Iterator[Window]) -> None:
        for window in windows:
            self.backlog.put(window)

    def _take(self, event: Picture | Gap | Waiting) -> bool:
        """Takes what came; whether it was the last that is wanted."""
        until = self.watching.until
        if isinstance(event, Gap):
            self._gap(event)
        elif until is not None and event.at >= until:
            self._put(self.windows.passed(until))
            return True
        elif isinstance(event, Picture):
            self._picture(event)
        else:
            self._silence = getattr(event, "reason", "")
            self._put(self.windows.passed(event.at))
        self._tell()
        return False

    def _picture(self, picture: Picture) -> None:
        if self.started is None:
            self.started = datetime.now(timezone.utc) - timedelta(seconds=picture.at)
            self.size = picture.rgb.shape[1], picture.rgb.shape[0]
        self._silence = ""
        image = shrunk(picture.rgb, self.watching.sampling.resolution)
        self._put(self.windows.add(image, picture.at, picture.rate))

    def _gap(self, gap: Gap) -> None:
        """Notes a stretch without pictures, as one with the stretch before it where that led up to it."""
        start, end = round(gap.start, 3), round(gap.end, 3)
        if self.gaps and self.gaps[-1][1] >= start and self.gaps[-1][2] == gap.reason:
            self.gaps[-1] = self.gaps[-1][0], max(start, end), gap.reason
        else:
            self.gaps.append((start, max(start, end), gap.reason))
        if self.started and end > start:
            self.listener.note(f"No pictures for {end - start:.1f} s: {gap.reason}.")

    def _tell(self) -> None:
        start, windows = self.windows.span[0], self.windows
        self.listener.state(State(self.started and self.started + timedelta(seconds=windows.at),
                                  max(0.0, windows.at - start), windows.held, self._silence))

    def stop(self) -> None:
        """Has the thread end: what is open is closed."""
        self.stopped = True
        self.backlog.stop()


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

    def run(self, stopping: Callable[[], bool]) -> None:
        label = self.rolling.check(datetime.now(timezone.utc), self.made_with)
        if label is not None:
            known = list(dict.fromkeys(source["name"] for source in label.record["sources"]))
            new = "" if self.watching.address.shown in known else f", and this is {self.watching.address.shown}"
            path = self.rolling.path_at(datetime.now(timezone.utc))
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
            self._written(self.rolling.write(), 0, 0.0)
        if self.collector.error is not None:
            raise self.collector.error

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
        try:
            kept = self.rolling.add(segment)
        except OutputError as error:
            self._unwritten(error)
            return
        self.unwritten = False
        self._written(kept, window.left_out, time.perf_counter() - began)

    def _unwritten(self, error: OutputError) -> None:
        """Tells once that the file cannot be written."""
        if not self.unwritten:
            self.listener.failed(error)
            self.listener.note("Watching goes on, and what cannot be written is tried again after each segment.")
        self.unwritten = True
        while (lost := self.rolling.give_up()) is not None:
            segment = lost.segments[0]
            self.lost.append((segment["start"], segment["end"], "it could not be written"))

    def _written(self, kept: list[Kept], left_out: int, seconds: float) -> None:
        for one in kept:
            segment = one.segment.segments[0]
            last = one is kept[-1]
            self.listener.watched(
                Watched(one, self._moment(segment["start"]), self._moment(segment["end"]), len(segment["timestamps"]),
                        left_out if last else 0, seconds if last else 0.0), self.engine)

    def _clip(self, window: Window) -> LiveClip:
        collector = self.collector
        info = LiveInfo(Path(f"the segment from {self._moment(window.start):%H:%M:%S}"), len(window.times),
                        collector.windows.plan.rate or 0.0, *collector.size, seconds=window.end - window.start,
                        of=self._source(window))
        return LiveClip(info, window)

    def _source(self, window: Window) -> Record:
        """What the record says of the source, as of a window."""
        collector, name = self.collector, self.watching.address.shown
        assert collector.started is not None
        started, rate = wall_json(collector.started), collector.windows.plan.rate
        gaps = sorted([*collector.gaps, *self.lost])
        source: Record = {
            "name": name, "duration": window.end, "fps": rate, "frames": round(window.end * rate),
            "width": collector.size[0], "height": collector.size[1], "size": 0,
            "sha256": hashlib.sha256(f"{name} {started}".encode()).hexdigest(), "started": started}
        if gaps:
            source["gaps"] = [list(gap) for gap in gaps if gap[0] < window.end]
        if self.left_out:
            source["dropped"] = {"rule": RULE, "frames": self.left_out, "segments": self.dropped}
        return source
