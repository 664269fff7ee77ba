"""What `v2l ask` says of adapters that are asked one by one, once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from v2l.adapter.record import Record, is_foreign
from v2l.cli.adapters import Choice, changed_videos, chosen, note_ambiguous

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.cli.console import Console


class EachNotes:
    """What is odd about adapters as they are read, told when all have been."""

    def __init__(self, console: Console, tell_foreign: Callable[..., object], choice: Choice, count: int) -> None:
        self._console, self._tell_foreign, self._choice, self._count = console, tell_foreign, choice, count
        self._foreign: dict[str, None] = {}
        self._changed: list[tuple[str, str]] = []
        self._told_times = self._told_changed = False

    def begin(self) -> None:
        """Forgets what was read for earlier questions."""
        self._foreign.clear()
        self._changed.clear()

    def changed(self, name: str, sources: Sequence[Record]) -> None:
        """Takes note of the videos beside an adapter that are not what was watched any more."""
        self._changed += [(video, name) for video in changed_videos(name, sources)]

    def chosen(self, adapter: Adapter) -> Adapter:
        """The adapter of the segments that are meant; says whose times they are. AdapterError, UsageError."""
        if not self._told_times and self._choice.is_ambiguous(adapter):
            note_ambiguous(adapter, self._choice, self._console)
            self._told_times = True
        return chosen(adapter, self._choice)

    def foreign(self, name: str, record: Record) -> dict[str, Any]:
        """JSON keys of an adapter's answers; takes note of what the model was not made for."""
        if not is_foreign(record):
            return {}
        self._foreign[name] = None
        return {"foreign": True}

    def tell(self) -> None:
        """Says it, each thing once a call."""
        if self._foreign:  # all have been read only now
            self._tell_foreign(*self._foreign, of=self._count)
        if self._changed and not self._told_changed:
            (video, name), *others = self._changed
            rest = f", as have the videos of {len(others)} more; ingest them" if others else "; ingest it"
            self._console.warn(f"{video} has changed since {name} was made of it{rest} again.")
            self._told_changed = True
