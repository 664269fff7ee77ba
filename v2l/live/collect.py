"""The thread that takes what comes of a live source, and the windows that wait for a base which is slower."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Condition, Thread

from v2l.live.clip import shrunk
from v2l.live.source import AGAIN, LONGEST_PAUSE, Gap, Picture, Waiting, events
from v2l.live.watching import Listener, State, Watching
from v2l.live.windows import Plan, Window, Windows

RULE = ("While watching is slower than the source, no more frames wait than one segment has: every other frame of the "
        "longest segment that waits is left out, and at one frame each the oldest segment.")
"""What is done about a base that does not keep up, as records tell it."""
_LOOK = 0.2
"""Seconds after which it is looked again whether watching is to end."""


class Backlog:
    """Windows between the thread that collects them and the one that watches them: never more frames than one has."""

    def __init__(self, patient: bool) -> None:
        """`patient`: whoever brings a window is held back while another waits."""
        self.most, self.patient = 0, patient
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
            self.most = max(self.most, len(window.times))
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
        self.backlog = Backlog(not watching.address.paced)
        self.started: datetime | None = None
        """The wall clock's moment of time 0, as far as is known: what a file or a pipe gave faster than it plays is
        of earlier, so that the picture that was read last is of now at the latest."""
        self.begun: datetime | None = None
        """When the first picture came."""
        self.size = 0, 0
        """Width and height of the pictures."""
        self.gaps: list[tuple[float, float, str]] = []
        self.error: Exception | None = None
        self.stopped = False
        self._silence, self._is_silent = "", False
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
            if event.reason and not self._is_silent:
                self._is_silent = True
                reason, again, pause = event.reason.rpartition(AGAIN)
                more = f"{again}{pause}, and then after ever longer, {LONGEST_PAUSE:g} s at most" if again else ""
                self.listener.note(f"No picture comes: {reason or event.reason}{more}.")
            self._silence = event.reason
            self._put(self.windows.passed(event.at))
        self._tell()
        return False

    def _picture(self, picture: Picture) -> None:
        latest = datetime.now(timezone.utc) - timedelta(seconds=picture.at)
        if self.started is None:
            self.started = self.begun = latest
            self.size = picture.rgb.shape[1], picture.rgb.shape[0]
        elif not self.watching.address.paced:
            self.started = min(self.started, latest)  # no picture is of later than now
        self._silence, self._is_silent = "", False
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
