"""The rows that all clients' questions become, and the thread that owns them."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Thread

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model.answer import Answer
from v2l.model.prompt import question_prompt
from v2l.model.running import Draft, NextToken, RunningBatch
from v2l.model.text import LayerAdapter
from v2l.serve.refusal import TooBusy

RUNNING_BYTES = 1 << 30
"""Bytes of adapters and cache that the running batch may hold: 50 rows of the 500M base with an adapter each."""


@dataclass(eq=False)
class _Line:
    """What a ticket and the thread that owns its row say to each other. The thread knows no tickets, so that one which
    nobody holds any more is found out, and its row leaves."""

    prompt: list[int]
    adapter: list[LayerAdapter] | None
    decoding: Decoding
    started: float = field(default_factory=time.perf_counter)
    said: SimpleQueue[NextToken | Exception | None] = field(default_factory=SimpleQueue)
    """The row's tokens; an error that ended it; None where it was cancelled."""
    gone: bool = False

    def end(self, error: Exception | None) -> None:
        self.gone = True
        self.adapter = None
        self.said.put(error)


class Batcher:
    """Takes questions of many threads and answers them together, in a thread of its own; a context manager.

    Rows are taken in the order of coming, as many as `rows` and `size` bytes allow (`RunningBatch`); the rest waits.
    """

    def __init__(self, engine: Engine, rows: int = 64, waiting: int = 256, size: int = RUNNING_BYTES) -> None:
        self.engine, self.rows, self.most_waiting, self.size = engine, rows, waiting, size
        self._coming: deque[_Line] = deque()
        self._in_batch = 0
        """Rows that wait in the batch, for room."""
        self._change = Condition()
        self._closing = self._over = False
        self._thread: Thread | None = None

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(0)

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        with self._change:
            return self._in_batch + sum(not line.gone for line in self._coming)

    def submit(self, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding) -> Ticket:
        """A row for a question. TooBusy where too many rows wait, or the server ends."""
        base = self.engine.base
        line = _Line(base.encode(question_prompt(question)), adapter, decoding)
        with self._change:
            if self._closing:
                raise TooBusy("The server is ending and takes no more questions; ask when it runs again.")
            if self.waiting >= self.most_waiting:
                raise TooBusy("The server is busy: too many questions wait; ask again in a second.")
            self._coming.append(line)
            self._thread = self._thread or self._started()
            self._change.notify()
        return Ticket(Draft(base, len(line.prompt), 0, line.started), line)

    def close(self, drain: float) -> None:
        """Takes no more rows, and ends those that run after `drain` seconds; their tickets raise TooBusy."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread:
            self._thread.join(drain)
            self._over = True
            self._thread.join()

    def _started(self) -> Thread:
        thread = Thread(target=self._work, name="v2l-batcher", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        """Answers rows until the server ends. An error ends the rows of that time; the next ones start afresh."""
        lines: dict[int, _Line] = {}
        batch: RunningBatch | None = None
        while self._wait(bool(lines)):
            try:
                batch = batch or RunningBatch(self.engine.base, rows_at_once=self.rows, bytes_at_once=self.size)
                self._exchange(batch, lines)
                self._step(batch, lines)
            except Exception as error:
                batch, lines = None, self._failed(lines, error)
        self._failed(lines, TooBusy("The server ended before the answer did; ask when it runs again."))

    def _wait(self, busy: bool) -> bool:
        """Waits for something to do; False where there will be nothing more."""
        with self._change:
            self._change.wait_for(lambda: busy or self._coming or self._closing)
            return not self._over and (busy or bool(self._coming))

    def _exchange(self, batch: RunningBatch, lines: dict[int, _Line]) -> None:
        """Lets rows leave whose tickets are gone, and those join that came."""
        for number in [number for number, line in lines.items() if line.gone]:
            batch.leave(number)
            del lines[number]
        with self._change:
            coming, self._coming = [line for line in self._coming if not line.gone], deque()
            self._in_batch = batch.waiting + len(coming)
        for line in coming:
            try:
                lines[batch.join(line.prompt, line.adapter, line.decoding)] = line
            except Exception as error:  # such as a seed that torch does not take
                line.end(error)

    def _step(self, batch: RunningBatch, lines: dict[int, _Line]) -> None:
        for said in batch.step():
            line = lines.pop(said.row) if said.end else lines[said.row]
            line.said.put(said)
        self._in_batch = batch.waiting

    def _failed(self, lines: dict[int, _Line], error: Exception) -> dict[int, _Line]:
        """Ends rows with an error, and those that came in the meantime if the server ends; returns no rows."""
        if error.__traceback__:
            traceback.clear_frames(error.__traceback__)  # the batch's memory is free before the next one is made
        with self._change:
            ended = [*lines.values(), *(self._coming if self._over else ())]
            self._in_batch = 0
        for line in ended:
            line.end(error)
        return {}


class Ticket:
    """One row: iterate it, once, for pieces of text as they come; then `answer` is there. Its row leaves the batch
    between two tokens when it is cancelled, or when the iteration is closed or nobody holds the ticket any more."""

    def __init__(self, draft: Draft, line: _Line) -> None:
        self._draft, self._line = draft, line
        self.answer: Answer | None = None
        """The answer, after the last piece; none where the row was cancelled. One that is not `finite` is empty."""

    def __iter__(self) -> Iterator[str]:
        """Pieces of text. Raises what ended the row, and ends where it was cancelled."""
        try:
            while said := self._line.said.get():
                if isinstance(said, Exception):
                    raise said
                if piece := self._draft.add(said):
                    yield piece
                if said.end:
                    self.answer = self._draft.answer(said)
                    if said.finite and (rest := self._draft.pieces.rest()):
                        yield rest
                    return
        finally:
            self.cancel()

    def finish(self) -> Answer:
        """Waits for the answer. Raises what ended the row; TooBusy where it was cancelled."""
        for _ in self:
            pass
        if self.answer is None:
            raise TooBusy("The question was cancelled.")
        return self.answer

    def cancel(self) -> None:
        """Lets the row leave between two tokens; its pieces end. Any thread may call it, and more than once."""
        if not self._line.gone:
            self._line.end(None)

    def __del__(self) -> None:
        self.cancel()
