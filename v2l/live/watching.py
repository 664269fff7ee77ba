"""What is to be watched, what came of it, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from v2l.adapter import Adapter
from v2l.config import Sampling
from v2l.live.address import Address
from v2l.live.rolling import Kept
from v2l.live.source import Reading

if TYPE_CHECKING:
    from v2l.engine import Engine


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
    """Time that watching it took."""

    @property
    def segment(self) -> Adapter:
        """The adapter of the segment alone."""
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
        """A segment is lost; watching goes on."""

    def troubled(self, error: Exception) -> None:
        """Something does not work for now, and is tried again."""
