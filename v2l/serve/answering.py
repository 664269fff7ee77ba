"""One question to one adapter: its rows in the running batch, then pieces of text, then what they make."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from v2l.adapter import Adapter
from v2l.adapter.record import is_foreign
from v2l.config import Decoding
from v2l.errors import not_finite
from v2l.model.answer import Answer
from v2l.model.base import Base
from v2l.model.likelihood import ScoredRow
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter
from v2l.serve.batcher import Ticket
from v2l.serve.question import ServedQuestion
from v2l.serve.refusal import TooBusy
from v2l.serve.service import Service
from v2l.strategies.answered import origin
from v2l.strategies.strategy import prepare

BYTES_OF_ROWS = 256 << 20
"""Bytes of adapters that the rows of one question hold at a time; a question to many segments is many rows."""
ROWS_OF_ONE = 32
"""Rows of one question that are asked at a time: half of those that the batch has, so that others find room."""


class Cancelled(Exception):
    """Whoever asked has gone."""


@dataclass(frozen=True)
class Finished:
    """An answer that has ended."""

    text: str
    finish: str
    """stop or length."""
    prompt_tokens: int
    new_tokens: int
    facts: dict[str, Any]
    """v2l's own field of a response."""


class Answering:
    """A question being answered: iterate it in one thread; any other may `cancel` it."""

    def __init__(self, service: Service, question: ServedQuestion) -> None:
        self._service, self._question = service, question
        self._rows = RunningRows(service)

    def cancel(self) -> None:
        """Has the rows leave the running batch; the iteration raises Cancelled, if it has not ended."""
        self._rows.cancel()

    def __iter__(self) -> Iterator[str | Finished]:
        """Pieces of text, and at last what they make. V2LError, Refusal, Cancelled."""
        service, question = self._service, self._question
        served = service.library.entry(question.model)
        service.load()
        service.check_question(question.text)
        parts = service.library.parts(served, service.engine, question.times)
        prepared = next(prepare(self._rows, parts, [question.text], question.strategy, question.decoding))
        facts = origin(parts, prepared)
        if served.label and is_foreign(served.label.record):
            facts["foreign"] = True
        if question.left_out:
            facts["left_out"] = list(question.left_out)
        text = Stopped(question.stop)
        if prepared.answer:
            answer, ticket = prepared.answer, None
            yield from text.add(answer.text)
        else:
            ticket = self._rows.submit(prepared.adapter, prepared.prompt, question.decoding)
            for piece in ticket:
                yield from text.add(piece)
                if text.ended:
                    ticket.cancel()
                    break
            else:
                answer = self._rows.close(ticket)
        if not text.ended:
            if not answer.finite:
                raise not_finite("start the server with --dtype float32", f"{served.id} gives no answer")
            yield from text.end()
            yield Finished(text.shown, answer.finish, answer.prompt_tokens, len(answer.ids), facts)
            return
        encode = service.engine.base.encode
        prompt = encode(question_prompt(prepared.prompt))
        yield Finished(text.shown, "stop", len(prompt), len(encode(text.shown)), facts)


class Stopped:
    """A text as it comes, up to the first of some texts that end it; what may begin one of those is held back."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.shown, self.ended = "", False
        self._stops, self._held = stops, ""

    def add(self, piece: str) -> Iterator[str]:
        """Pieces that are certain now."""
        text = self._held + piece
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.ended, keep = True, min(found)
        else:
            keep = len(text) - max((size for stop in self._stops for size in range(1, min(len(stop), len(text) + 1))
                                    if text.endswith(stop[:size])), default=0)
        self._held = "" if self.ended else text[keep:]
        yield from self._show(text[:keep])

    def end(self) -> Iterator[str]:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        yield from self._show(held)

    def _show(self, text: str) -> Iterator[str]:
        self.shown += text
        if text:
            yield text


class RunningRows:
    """The engine as strategies see it: what it is asked are rows of the running batch, and all leave it together."""

    def __init__(self, service: Service) -> None:
        self._engine, self._batcher = service.engine, service.batcher
        self._open: set[Ticket] = set()
        self._lock, self._cancelled = Lock(), False

    @property
    def base(self) -> Base:
        return self._engine.base

    def submit(self, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding) -> Ticket:
        """A row. TooBusy; UsageError for what is too long."""
        self._engine.check_question(question)
        with self._lock:
            if self._cancelled:
                raise Cancelled
            ticket = self._batcher.submit(adapter, question, decoding)
            self._open.add(ticket)
        return ticket

    def _answer_of(self, ticket: Ticket) -> Answer:
        """The answer of a row, which is waited for. Cancelled."""
        for _ in ticket:
            pass
        return self.close(ticket)

    def close(self, ticket: Ticket) -> Answer:
        """The answer of a row whose pieces have ended. Cancelled where they were ended."""
        with self._lock:
            self._open.discard(ticket)
        if ticket.answer is None:
            raise Cancelled
        return ticket.answer

    def ask_batch(self, rows: Iterable[tuple[list[LayerAdapter] | Adapter | None, str]],
                  decoding: Decoding | None = None) -> Iterator[Answer]:
        """`Engine.ask_batch`, by rows of the running batch. TooBusy where none of them is taken."""
        waiting: deque[tuple[Ticket, int]] = deque()
        for adapter, question in rows:
            bound = self._engine.bind(adapter) if isinstance(adapter, Adapter) else adapter
            size = sum(layer.A.nbytes + layer.B.nbytes for layer in bound or ())
            while len(waiting) >= ROWS_OF_ONE or (waiting and size + sum(held for _, held in waiting) > BYTES_OF_ROWS):
                yield self._answer_of(waiting.popleft()[0])
            while True:
                try:
                    waiting.append((self.submit(bound, question, decoding or Decoding()), size))
                    break
                except TooBusy:  # with rows of other questions; those of this one make room
                    if not waiting:
                        raise
                    yield self._answer_of(waiting.popleft()[0])
        while waiting:
            yield self._answer_of(waiting.popleft()[0])

    def answer_logprobs(self, rows: Iterable[ScoredRow]) -> Iterator[list[float]]:
        """`Engine.answer_logprobs`, beside the running batch: some 64 prompts at a time, and none after `cancel`.
        Cancelled."""
        for logprobs in self._engine.answer_logprobs(rows):
            if self._cancelled:
                raise Cancelled
            yield logprobs

    def cancel(self) -> None:
        """Has all rows leave, those to come too."""
        with self._lock:
            self._cancelled = True
            for ticket in self._open:
                ticket.cancel()
