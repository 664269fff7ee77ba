"""The progress bar on a terminal: a row for the video or file under way and, where there are several, one for all.

Drawn with rich's Live and ProgressBar, not its Progress: results and notes are printed between two updates, to streams
of their own, so the bar goes away and comes back. A Progress that is started again (rich 15) first moves the cursor up
by the rows it had, and erases what was printed there meanwhile.
"""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from v2l.cli.pace import Work
from v2l.wording import clock_text, shortened


class Bar:
    """A bar on stderr, from `show` or `update` until `hide`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._live: Live | None = None

    def update(self, title: str, done: int, total: int | None) -> None:
        """The item of that title is under way, and so many of its frames or bytes are finished."""
        self._work.update(title, done, total)
        self.show()

    def finish(self, worked: bool) -> None:
        """One item is finished; `worked` unless it was up to date."""
        self._work.pace.finish(worked)

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
        work, pace = self._work, self._work.pace
        rows = Table.grid(padding=(0, 1))
        for text, done, total, count in (
                (work.title, work.done, work.of, ", ".join([work.count(), *([] if work.several else work.left)])),
                (f"{pace.done}/{pace.total} videos", pace.done + pace.fraction, pace.total,
                 ", ".join([clock_text(pace.elapsed), *work.left])))[:1 + work.several]:
            rows.add_row(Text(shortened(text, room)), ProgressBar(total, done, width, pulse=total is None),
                         Text(count, no_wrap=True))
        return rows
