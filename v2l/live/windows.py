"""Pictures of a live source, as they come -> segments, each with the pictures that are looked at.

Which pictures these are is told by the rule for files (v2l/README.md section 2), before the segment is over: of a
stream at a constant rate they are the very ones that `v2l ingest --segment` takes of the same film in a file. So all
others need not be converted, sent or held, but for some that stand in where a segment turns out shorter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from v2l.config import Sampling
from v2l.video.clip import SLACK, frame_indices

USUAL_RATE = 25.0
"""Pictures a second that a stream is taken to have which does not say."""
SPARE = 4
"""Pictures that may be held of a segment for each one that is looked at, in case that it ends early."""


@dataclass(frozen=True)
class Plan:
    """Which pictures of a stream are looked at, segment by segment."""

    length: float
    """Seconds of a segment; they count from when watching began."""
    sampling: Sampling
    rate: float = 0.0
    """Pictures a second that the stream says it has; 0 where it does not."""

    @property
    def step(self) -> float:
        """Seconds from a picture to the next."""
        return 1 / (self.rate or USUAL_RATE)

    def number(self, at: float) -> int:
        """The segment that a moment belongs to, from 0."""
        return math.floor((at + SLACK) / self.length)

    def span(self, number: int) -> tuple[float, float]:
        """Seconds at which a segment begins and ends."""
        return round(number * self.length, 6), round((number + 1) * self.length, 6)

    def moments(self, start: float, end: float) -> list[float]:
        """When the pictures are shown that are looked at of [start, end), if none is missing; at least one."""
        rate = 1 / self.step
        first, stop = (math.ceil((edge - SLACK) * rate) for edge in (start, end))
        of_them = frame_indices(max(1, stop - first), rate, replace(self.sampling, start=None, end=None))
        return [(first + index) / rate for index in of_them]

    @property
    def spare(self) -> float:
        """Seconds from one picture to the next of those that are held in case that a segment ends early."""
        return max(1 / self.sampling.fps, self.length / (SPARE * self.sampling.frames))


class Chooser:
    """Tells of one picture after the other whether it may be looked at."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._number = -1
        self._moments: list[float] = []
        self._spare = 0.0

    def wants(self, at: float) -> bool:
        """Whether the picture of that moment may be looked at; moments ascend."""
        number = self.plan.number(at)
        if number != self._number:
            self._number = number
            self._spare, end = self.plan.span(number)
            self._moments = self.plan.moments(self._spare, end)
        passed = bisect_left(self._moments, at + self.plan.step / 2)
        spare = at + SLACK >= self._spare
        if spare:
            self._spare = at + self.plan.spare
        wanted, self._moments = passed > 0, self._moments[passed:]
        return wanted or spare


@dataclass
class Window:
    """A segment of a live source: its time, and the pictures of it that are looked at."""

    start: float
    """Seconds since watching began."""
    end: float
    times: list[float] = field(default_factory=list)
    """When each picture was shown, seconds since watching began, ascending."""
    images: list[np.ndarray] = field(default_factory=list)
    """RGB uint8 [height, width, 3]"""
    left_out: int = 0
    """Pictures that would be looked at as well, were there time."""

    def thinned(self) -> Window:
        """The window with every other of its pictures."""
        times, images = self.times[::2], self.images[::2]
        return replace(self, times=times, images=images, left_out=self.left_out + len(self.times) - len(times))


class Windows:
    """Cuts what comes of a live source into windows, none of them without a picture."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.at = 0.0
        """Seconds since watching began, as far as it is known."""
        self._number = 0
        self._times: list[float] = []
        self._images: list[np.ndarray] = []

    @property
    def held(self) -> int:
        """Pictures held of the segment that is open."""
        return len(self._times)

    @property
    def span(self) -> tuple[float, float]:
        """Seconds at which the segment that is open begins and will end."""
        return self.plan.span(self._number)

    def add(self, image: np.ndarray, at: float, rate: float) -> Iterator[Window]:
        """Yields the window that ends before a picture, if one does, and takes the picture into the next."""
        yield from self.passed(at)
        if rate != self.plan.rate:
            self.plan = replace(self.plan, rate=rate)
        self._times.append(at)
        self._images.append(image)

    def passed(self, at: float) -> Iterator[Window]:
        """Yields the window that has ended at a moment, if one has."""
        self.at = max(self.at, at)
        if self.plan.number(self.at) > self._number:
            yield from self._closed(self.plan.span(self._number)[1])
            self._number = self.plan.number(self.at)

    def close(self) -> Iterator[Window]:
        """Yields what is open, at the end of watching: it lasts until the end of its last picture."""
        last = self._times[-1] + self.plan.step if self._times else 0.0
        start, end = self.plan.span(self._number)
        yield from self._closed(min(end, round(max(start, self.at, last), 6)))

    def _closed(self, end: float) -> Iterator[Window]:
        times, images, self._times, self._images = self._times, self._images, [], []
        if not times:
            return
        start, step = self.plan.span(self._number)[0], self.plan.step
        first = start if times[0] - start < step else times[0]
        last = end if end - times[-1] <= self.plan.spare + step else times[-1] + step
        chosen = nearest_of(times, self.plan.moments(first, last))
        yield Window(start, end, [times[i] for i in chosen], [images[i] for i in chosen])


def nearest_of(times: Sequence[float], moments: Sequence[float]) -> list[int]:
    """The indices of the times that come nearest to some moments, each once; both ascend."""
    chosen = set()
    for moment in moments:
        after = bisect_left(times, moment)
        chosen.add(min((i for i in (after - 1, after) if 0 <= i < len(times)), key=lambda i: abs(times[i] - moment)))
    return sorted(chosen)
