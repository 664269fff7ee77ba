"""Presentation times that jump, wrap, stand still or are not there -> one time line that goes on.

Only differences of presentation times count. Where one cannot be, the time between the arrivals of the two pictures
stands in for it, and a gap tells. A live source is kept to this machine's clock: its pictures may come late or in
bursts, as networks have it, but where all of some seconds are early or late, the time line is brought back.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

WRAPS = (1 << 32, 1 << 33)
"""Ticks after which clocks begin anew: of RTP and FLV, and of MPEG-TS, after 13 and 26.5 hours of 90,000 a second."""
_BACK, _AHEAD = 1.0, 10.0
"""Seconds back up to which a picture is taken for one out of order, and left out; ahead up to which any step between
two pictures is believed."""
_LONGEST = 600.0
"""Seconds for which a file may show one picture; broadcasts, whose clocks jump, only _AHEAD."""
_EARLY = 2.0
"""Seconds by which a live picture may come before its time; a larger step was a jump."""
_LATE = 2.0
"""Seconds by which all pictures of a while are late before the time line leaps to where they are."""
_DEAD, _MOST = 0.25, 0.5
"""Seconds early or late that nothing is done about; share by which time is stretched or pressed for more."""
_WHILE, _WHILE_IN_PARTS = 5.0, 30.0
"""Seconds in which some picture is on time if any is: sent as they are taken, and in segments of up to ten seconds."""
_BUCKET = 0.5
_UNNOTICED = 1.0
"""Seconds that may be missing where one segment does not go on with the clock of the one before."""
_SHORTEST = 1e-3
"""Seconds between two pictures at least."""


def now() -> float:
    """Seconds of this machine's clock, the same for all its processes; it goes on while the machine sleeps, where the
    system has such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True)
class Jump:
    """Where presentation times could not be believed."""

    start: float
    """Seconds on the time line."""
    end: float
    reason: str


class LiveClock:
    """The time line of one connection to a source."""

    def __init__(self, *, live: bool, tick: float = 0.0, step: float | None = None, slower: bool = False,
                 broadcast: bool = False, in_parts: bool = False, origin: float | None = None, last: float = 0.0
                 ) -> None:
        """`live`: whether it keeps to this machine's clock; `tick`: seconds of the source's unit of time; `step`: how
        long a picture is shown where nothing else tells, None to go by arrivals, which with `slower` count where they
        are later; `origin`: when (`now`) the time line began and `last` where it is, if this connection is not the
        first."""
        self.live, self.step, self.slower, self.broadcast, self.in_parts = live, step, slower, broadcast, in_parts
        self.origin = origin
        self.last = last
        """When the last picture was."""
        self._wraps = [wrap * tick for wrap in WRAPS] if tick else []
        self._begun = False
        self._shown: float | None = None
        self._arrived = 0.0
        self._usual = step or 0.04
        self._lately: deque[list[float]] = deque()
        """Buckets of time: when each began, the least and the most that a picture in it was late."""

    def place(self, shown: float | None, arrived: float) -> tuple[float | None, Jump | None]:
        """When a picture is on the time line, of its presentation time and of when it arrived (`now`), in seconds; None
        for one that comes out of order. And the jump before it, if there was one."""
        if not self._begun:
            return self._begin(shown, arrived), None
        passed = max(arrived - self._arrived, 0.0)
        step, jump = self._step(shown, passed)
        if step is not None and shown is None and self.slower:
            step = max(step, -self.early(arrived))
        if step is None:
            return None, None
        before = self.last
        if jump:
            step = max(passed, self._usual)
        else:
            self._usual = min(step, _AHEAD) or self._usual
        self.last += max(step, _SHORTEST)
        self._shown, self._arrived = shown, arrived
        late = self._corrected(step, arrived) if self.live else 0.0
        if late:
            jump = jump or f"pictures came {late:.1f} s later than their times say"
        if self.in_parts and self.last - before < _UNNOTICED:
            jump = ""  # where segments of another make begin, as lists announce it
        return self.last, Jump(before, self.last, jump) if jump else None

    def _begin(self, shown: float | None, arrived: float) -> float:
        self._begun, self._shown, self._arrived = True, shown, arrived
        if self.origin is None:
            self.origin = arrived
        elif self.live:
            self.last = max(self.last + _SHORTEST, arrived - self.origin)
        return self.last

    def _step(self, shown: float | None, passed: float) -> tuple[float | None, str]:
        """Seconds since the last picture, None for one that comes before it; what the clock did, where it jumped."""
        if shown is None or self._shown is None:
            return (passed if self.step is None else self.step), ""
        step = self._unwrapped(shown - self._shown)
        if -_BACK < step <= 0:
            return None, ""
        if step <= 0:
            return 0.0, f"the clock of the source jumped back {-step:.1f} s"
        if not self._can_be(step, passed):
            back = min((wrap - step for wrap in self._wraps if wrap / 2 < step < wrap), default=0.0)
            if back:  # below 0, clocks go on from their end
                return 0.0, f"the clock of the source jumped back {back:.1f} s"
            return 0.0, f"the clock of the source jumped ahead {step - passed:.1f} s"
        return step, ""

    def _unwrapped(self, step: float) -> float:
        """A difference of presentation times, without that of a clock that began anew in between."""
        for wrap in self._wraps:
            for whole in (step + wrap, step - wrap):
                if 0 < whole <= _AHEAD:
                    return whole
        return step

    def _can_be(self, step: float, passed: float) -> bool:
        if step <= passed + _EARLY:
            return self.live or step <= max(_AHEAD, passed + _EARLY)
        if self.live:
            return step <= min(_AHEAD, 3 * self._usual) or (self.in_parts and step <= _AHEAD)
        return step <= (_AHEAD if self.broadcast else _LONGEST)

    @property
    def end(self) -> float:
        """When the last picture ends, if it is shown as long as the one before it."""
        return self.last + self._usual if self._begun else self.last

    def early(self, arrived: float) -> float:
        """Seconds by which the last picture came before its time."""
        return 0.0 if self.origin is None else self.last - (arrived - self.origin)

    def _corrected(self, step: float, arrived: float) -> float:
        """Brings the time line nearer to this machine's clock after a picture; the seconds it leapt, if it did."""
        late = -self.early(arrived)
        self._note(max(late, 0.0) if self.in_parts else late, arrived)
        span = _WHILE_IN_PARTS if self.in_parts else _WHILE
        while arrived - self._lately[0][0] > span + _BUCKET:
            self._lately.popleft()
        if arrived - self._lately[0][0] < span:
            return 0.0
        least, most = min(each[1] for each in self._lately), max(each[2] for each in self._lately)
        off = least if least > 0 else min(most, 0.0)
        if off > _LATE:
            self.last += off
            self._lately.clear()
            return off
        if abs(off) > _DEAD:
            moved = step * max(-_MOST, min(_MOST, off / 2))
            self.last += moved
            for each in self._lately:
                each[1:] = each[1] - moved, each[2] - moved
        return 0.0

    def _note(self, late: float, arrived: float) -> None:
        if not self._lately or arrived - self._lately[-1][0] >= _BUCKET:
            self._lately.append([arrived, late, late])
        else:
            bucket = self._lately[-1]
            bucket[1:] = min(bucket[1], late), max(bucket[2], late)

