"""The progress bar of a terminal: a row for what is under way and, of many things, one for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from v2l.wording import clock_text, shortened, size_text

_TELLING = 3.0
"""Seconds from which on the frames of the first of many things tell how long all will take."""


class Pace:
    """How long is left of `total` things, told from those that took work: one that was there already says nothing."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, 0
        self.fraction = 0.0
        """Of the one under way that is there."""
        self._clock, self._started, self._since = clock, clock(), clock()
        self._began_at: float | None = None
        """The fraction that was there of the one under way when it began: it may be resumed."""
        self._worked, self._spent = 0.0, 0.0
        """Things made, and seconds they took."""

    def advance(self, fraction: float) -> None:
        """So much of the one under way is there."""
        if self._began_at is None:
            self._began_at = fraction
        self.fraction = fraction

    def finish(self, worked: bool) -> None:
        """The one under way is there, or was before."""
        now = self._clock()
        if worked:
            self._worked += 1 - (self._began_at or 0)
            self._spent += now - self._since
        self.done, self.fraction, self._began_at, self._since = self.done + 1, 0.0, None, now

    @property
    def elapsed(self) -> float:
        """Seconds since the first began."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Seconds; None before it can be told."""
        rest, so_far = self.total - self.done, self._clock() - self._since
        if self._worked:
            mean = self._spent / self._worked
            return max(mean * (rest - 1), mean * (rest - (self._began_at or 0)) - so_far)
        seen = self.fraction - (self._began_at or 0)
        return so_far / seen * (rest - self.fraction) if seen > 0 and so_far >= _TELLING else None


class Bar:
    """Shows itself on stderr with `update` until `hide`. `total` is how many things there are to do, if it is known."""

    def __init__(self, what: str, total: int | None) -> None:
        self._pace = Pace(total or 1)
        self._counted = total is not None
        self._what, self._done = what, 0
        self._of: int | None = None
        self._live: Live | None = None

    def update(self, what: str, done: int, total: int | None) -> None:
        """`what` is under way: so many of its frames, or bytes, are there."""
        self._what, self._done, self._of = what, done, total
        if total:
            self._pace.advance(min(1.0, done / total))
        self.show()

    def finish(self, worked: bool) -> None:
        """One thing is done; `worked` unless it was there already."""
        self._pace.finish(worked)

    def show(self) -> None:
        if self._live is None:
            # What is written meanwhile goes to the streams as they are: results must not pass through the bar's stderr.
            self._live = Live(get_renderable=self._rows, console=Console(stderr=True), transient=True,
                              refresh_per_second=8, redirect_stdout=False, redirect_stderr=False)
            self._live.start(refresh=True)

    def hide(self) -> None:
        """Leaves the terminal as it was before `show`."""
        live, self._live = self._live, None  # a note may come from another thread
        if live is not None:
            live.stop()

    def _rows(self) -> Table:
        columns = Console(stderr=True).width
        width = 4 if columns < 60 else 12 if columns < 100 else 24
        room = max(8, columns - width - 20)
        pace, several = self._pace, self._pace.total > 1
        left = [f"{clock_text(pace.left)} left"] if self._counted and pace.left is not None else []
        rows = Table.grid(padding=(0, 1))
        for text, done, total, count in (
                (self._what, self._done, self._of, ", ".join([self._count(), *([] if several else left)])),
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


