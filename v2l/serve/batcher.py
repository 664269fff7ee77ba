"""The rows that all clients' questions become, and the thread that owns them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model.batch import ask_batch
from v2l.model.generate import Answer
from v2l.model.text import LayerAdapter
from v2l.serve.refusal import TooBusy


class Batcher:
    """Takes questions of many threads; each is a row."""

    def __init__(self, engine: Engine, rows: int = 64, waiting: int = 256) -> None:
        self.engine, self.waiting = engine, waiting
        self.turn, self.count, self.counting = Lock(), 0, Lock()

    def submit(self, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding) -> Ticket:
        """A row for a question. TooBusy where `waiting` rows wait."""
        with self.counting:
            if self.count >= self.waiting:
                raise TooBusy("The server is busy: too many questions wait; ask again in a second.")
            self.count += 1
        return Ticket(self, adapter, question, decoding)

    def close(self, drain: float) -> None:
        """Takes no more rows, and ends those that run after `drain` seconds."""
        with self.counting:
            self.waiting = 0


class Ticket:
    """One row: iterate it, once, for pieces of text as they come."""

    def __init__(self, batcher: Batcher, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding
                 ) -> None:
        self._batcher, self._row, self._decoding = batcher, (adapter, question), decoding
        self._cancelled = False
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        batcher = self._batcher
        try:
            with batcher.turn:
                if not self._cancelled:
                    self.answer = next(ask_batch(batcher.engine.base, [self._row], self._decoding))
                    yield self.answer.text
        finally:
            with batcher.counting:
                batcher.count -= 1

    def cancel(self) -> None:
        """Lets the row leave between two tokens; its pieces end."""
        self._cancelled = True
