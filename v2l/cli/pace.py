"""How far the work on one or many items is, how long the rest takes, and lines that say so in a log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from v2l.wording import clock_text, size_text

EVERY = 60.0
"""Seconds from one line of a log to the next."""
_LAYER = re.compile(r", layer (\d+)/(\d+)$")
"""How the title says, when all frames were seen, which layer's features are under way."""
_FIRST_ESTIMATE = 3.0
"""Seconds after which the frames of the first item are enough to estimate how long all items take."""


class Pace:
    """Estimates how long the rest of `total` items takes, from those that took work: one that was up to date says
    nothing."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, 0
        self.fraction = 0.0
        """Finished fraction of the current item."""
        self._clock, self._started, self._item_started = clock, clock(), clock()
        self._resumed_at: float | None = None
        """Fraction of the current item that was finished when it began: a run before may have left it."""
        self._worked, self._spent = 0.0, 0.0
        """Items made, and the seconds they took."""

    def advance(self, fraction: float) -> None:
        """Notes that this fraction of the current item is finished."""
        if self._resumed_at is None:
            self._resumed_at = fraction
        self.fraction = fraction

    def finish(self, worked: bool) -> None:
        """The current item is finished; `worked` unless it was up to date."""
        now = self._clock()
        if worked:
            self._worked += 1 - (self._resumed_at or 0)
            self._spent += now - self._item_started
        self.done, self.fraction, self._resumed_at, self._item_started = self.done + 1, 0.0, None, now

    @property
    def elapsed(self) -> float:
        """Seconds since the first item began."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Seconds until all items are finished; None before there is an estimate."""
        rest, so_far = self.total - self.done, self._clock() - self._item_started
        if self._worked:
            mean = self._spent / self._worked
            return max(mean * (rest - 1), mean * (rest - (self._resumed_at or 0)) - so_far)
        progress = self.fraction - (self._resumed_at or 0)
        if self.fraction == 1 and rest == 1:
            return None  # all frames were seen, and nobody knows how long what is made of them takes
        return so_far / progress * (rest - self.fraction) if progress > 0 and so_far >= _FIRST_ESTIMATE else None


class Work:
    """The item under way, and all items. `total` is the number of items, if it is known; `seeing` tells the share
    of an item's work that is done when its frames were seen, where layers are the rest; it is asked once there is
    work."""

    def __init__(self, title: str, total: int | None, clock: Callable[[], float] = time.monotonic,
                 seeing: Callable[[], float] = lambda: 1.0) -> None:
        self.pace = Pace(total or 1, clock)
        self._estimates = total is not None
        self.title, self.done = title, 0
        self.of: int | None = None
        self._seeing = seeing

    def update(self, title: str, done: int, total: int | None) -> None:
        """The item of that title is under way, and so many of its frames or bytes are finished."""
        self.title, self.done, self.of = title, done, total
        if not total:
            return
        seeing, layer = self._seeing(), _LAYER.search(title)
        if layer and seeing < 1:
            self.pace.advance(seeing + (1 - seeing) * int(layer[1]) / int(layer[2]))
        else:
            self.pace.advance((1.0 if title.endswith(", writing") else seeing) * min(1.0, done / total))

    @property
    def several(self) -> bool:
        return self.pace.total > 1

    @property
    def left(self) -> list[str]:
        """How long the rest takes, where that can be estimated."""
        return [f"{clock_text(self.pace.left)} left"] if self._estimates and self.pace.left is not None else []

    def count(self) -> str:
        if self.of is None and not self.done:
            return ""
        large = max(self.done, self.of or 0) > 99_999  # bytes; nobody samples as many frames
        return "/".join(size_text(n) if large else str(n) for n in (self.done, self.of) if n is not None)


class Log:
    """Says every minute in a line how far the work is, where no terminal shows a bar."""

    def __init__(self, work: Work, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._tell, self._clock = work, tell, clock
        self._last = clock()

    def update(self, title: str, done: int, total: int | None) -> None:
        self._work.update(title, done, total)
        self._tell_if_due()

    def finish(self, worked: bool) -> None:
        self._work.pace.finish(worked)
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        if self._clock() - self._last < EVERY:
            return
        self._last, work = self._clock(), self._work
        all_items = [f"{work.pace.done}/{work.pace.total} videos"] if work.several else []
        parts = [" ".join(filter(None, (work.title, work.count()))), *all_items,
                 f"{clock_text(work.pace.elapsed)} so far", *work.left]
        self._tell(", ".join(parts))

    def show(self) -> None:
        """Nothing: there is no bar."""

    def hide(self) -> None:
        """Nothing: there is no bar."""
