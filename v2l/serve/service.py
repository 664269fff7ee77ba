"""What the routes of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from v2l.engine import Engine
from v2l.serve.batcher import Batcher
from v2l.serve.library import Library


@dataclass
class Service:
    """An engine, the adapters that may be asked, and the rows that questions become."""

    engine: Engine
    library: Library
    batcher: Batcher
    last_turn_only: bool = False
    """Whether what a conversation holds before its last question is left out, instead of refused."""
    may_ingest: bool = False
    """Whether clients may have videos watched."""
    note: Callable[[str], None] = lambda text: None
    """Takes a line for the server's log."""
    loading: Lock = field(default_factory=Lock)
    watching: Lock = field(default_factory=Lock)
    """Held while a video is watched for a client."""

    def load(self) -> None:
        """Reads the text stack into memory, once, at the first question. ModelError."""
        with self.loading:
            self.engine.load_text()
