"""The progress bar on a terminal: a row for the video or file under way and, where there are several, one for all.

Drawn with rich's Live and ProgressBar, not its Progress: results and notes are printed between two updates, to streams
of their own, so the bar goes away and comes back. A Progress that is started again (rich 15) first moves the cursor up
by the rows it had, and erases what was printed there meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from v2l.wording import clock_text, shortened, size_text

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
        return so_far / progress * (rest - self.fraction) if progress > 0 and so_far >= _FIRST_ESTIMATE else None


class Bar:
    """A bar on stderr, from `show` or `update` until `hide`. `total` is the number of items, if it is known."""

    def __init__(self, title: str, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(total or 1, clock)
        self._estimates = total is not None
        self._title, self._done = title, 0
        self._of: int | None = None
        self._live: Live | None = None

    def update(self, title: str, done: int, total: int | None) -> None:
        """The item of that title is under way, and so many of its frames or bytes are finished."""
        self._title, self._done, self._of = title, done, total
        if total:
            self._pace.advance(min(1.0, done / total))
        self.show()

    def finish(self, worked: bool) -> None:
        """One item is finished; `worked` unless it was up to date."""
        self._pace.finish(worked)

    def show(self) -> None:
        if self._live is None:
            # What is written meanwhile goes to the streams as they are: results must not pass through the bar's stderr.
            self._live = Live(get_renderable=self.rows, console=Console(stderr=True), transient=True,
                              refresh_per_second=8, redirect_stdout=False, redirect_stderr=False)
            self._live.start(refresh=True)

    def hide(self) -> None:
        """Leaves the terminal as it was before `show`."""
        live, self._live = self._live, None  # a note may come from another thread
        if live is not None:
            live.stop()

    def rows(self) -> Table:
        """The table that is drawn, as wide as the terminal at most."""
        columns = Console(stderr=True).width
        width = 4 if columns < 60 else 12 if columns < 100 else 24
        room = max(8, columns - width - 20)
        pace, several = self._pace, self._pace.total > 1
        left = [f"{clock_text(pace.left)} left"] if self._estimates and pace.left is not None else []
        rows = Table.grid(padding=(0, 1))
        for text, done, total, count in (
                (self._title, self._done, self._of, ", ".join([self._count(), *([] if several else left)])),
                (f"{pace.done}/{pace.total} videos", pace.done + pace.fraction, pace.total,
                 ", ".join([clock_text(pace.elapsed), *left])))[:1 + several]:
            rows.add_row(Text(shortened(text, room)), ProgressBar(total, done, width, pulse=total is None),
                         Text(count, no_wrap=True))
        return rows

    def _count(self) -> str:
        if self._of is None and not self._done:
            return ""
        large = max(self._done, self._of or 0) > 99_999  # bytes; nobody samples as many frames
        return "/".join(size_text(n) if large else str(n) for n in (self._done, self._of) if n is not None)
