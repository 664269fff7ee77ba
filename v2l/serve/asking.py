"""POST /api/ask: what `v2l ask --server` asks, and what it prints as JSON lines, as they come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from starlette.requests import Request

from v2l.adapter import Adapter, load
from v2l.adapter.join import join, within
from v2l.adapter.wall import When
from v2l.config import ADAPTER_SUFFIX, STRATEGIES, Decoding, Strategy
from v2l.errors import AdapterError, V2LError, not_finite
from v2l.serve.answering import RunningRows
from v2l.serve.events import EventStream, Worked
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.library import ServedAdapter
from v2l.serve.openai import MOST_TOKENS
from v2l.serve.question import when
from v2l.serve.refusal import Refusal, refusal_of
from v2l.serve.service import Service
from v2l.strategies.answered import Answered
from v2l.strategies.parts import Parts
from v2l.strategies.strategy import ask_prepared, prepare

_Line = dict[str, Any]
"""One line of the response, an object with a `type`: see `QuestionsAsked`."""


@dataclass(frozen=True)
class AskRequest:
    """Questions to adapters, which are named by what they hold: the client has the files, too."""

    adapters: tuple[tuple[str, str], ...]
    """The fingerprint of each, and what the client calls it."""
    questions: tuple[str, ...]
    one: bool
    """Whether there is one answer to a question, from all adapters joined."""
    strategy: Strategy
    choice: tuple[When | None, When | None, str | None]
    """The segments that are asked: from and to, and the name of a video."""
    decoding: Decoding

    @classmethod
    def of(cls, fields: Fields) -> AskRequest:
        """The request that the fields make. Refusal."""
        adapters = fields.any("adapters")
        questions = fields.any("questions")
        if not isinstance(adapters, list) or not adapters or not all(
                isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one)
                for one in adapters):
            raise fields.wrong("adapters", "a list of pairs: a fingerprint and a name")
        if not isinstance(questions, list) or not questions or not all(
                isinstance(one, str) and one.strip() for one in questions):
            raise fields.wrong("questions", "a list of texts, none of them empty")
        name = fields.text("strategy") or Strategy.name
        if name not in STRATEGIES:
            raise fields.wrong("strategy", f"one of {', '.join(STRATEGIES)}")
        scale = None if fields.any("segment_scale") == "1/k" else fields.number("segment_scale", 1e-9, 1e9) or 1.0
        choice = when(fields, "from"), when(fields, "to"), fields.text("video")
        decoding = Decoding(fields.whole("max_new_tokens", 1, MOST_TOKENS) or Decoding.max_new_tokens,
                            fields.number("temperature", 0, 1e9) or 0.0)
        one = fields.flag("one")
        fields.end()
        return cls(tuple((one[0], one[1]) for one in adapters), tuple(questions), one,
                   Strategy(name, segment_scale=scale), choice, decoding)


async def ask_lines(service: Service, request: Request) -> EventStream:
    """The endpoint. Refusal; what fails later is a line."""
    asked = QuestionsAsked(service, AskRequest.of(Fields.of(await body_of(request))))
    lines = Worked(asked, asked.cancel)
    response = EventStream(_encoded(lines), lines.close)
    response.headers["Content-Type"] = "application/x-ndjson"
    return response


async def _encoded(lines: AsyncIterator[_Line]) -> AsyncGenerator[bytes, None]:
    try:
        async for line in lines:
            yield json.dumps(line).encode() + b"\n"
    except Exception as error:
        yield json.dumps(_failure(error)).encode() + b"\n"


def _failure(error: Exception, **about: Any) -> _Line:
    kind = type(error).__name__ if isinstance(error, V2LError) else "V2LError"
    return {"type": "error", "kind": kind, "message": refusal_of(error).message, **about}


class QuestionsAsked:
    """Questions being answered. Iterated, it gives lines:

    - `model`, the name of the base, first;
    - `misfit`: an `adapter`, by its number, that was made for another base;
    - `error` with `kind` and `message`: of a `question` (its number), of an `adapter`, or else of all;
    - `told`: what is told of an answer beside its words, with the number of the `adapter`;
    - `piece`, text of the answer that was told of last, where there is one adapter and one question;
    - `answer`, whole.
    """

    def __init__(self, service: Service, request: AskRequest) -> None:
        self._service, self._request = service, request
        self._rows = RunningRows(service)
        self._failed: list[_Line] = []

    def cancel(self) -> None:
        """Has all rows leave the running batch."""
        self._rows.cancel()

    def __iter__(self) -> Iterator[_Line]:
        service, request = self._service, self._request
        entries = [service.library.of_content(fingerprint, name) for fingerprint, name in request.adapters]
        service.load()
        yield {"type": "model", "model": service.engine.files.name}
        questions = []
        for number, question in enumerate(request.questions):
            try:
                service.check_question(question)
                questions.append(question)
            except V2LError as error:
                yield _failure(error, question=number)
        if questions:
            yield from (self._of_one if request.one else self._of_each)(entries, questions)

    def _of_one(self, entries: list[ServedAdapter], questions: list[str]) -> Iterator[_Line]:
        request = self._request
        parts = self._parts(entries, [name for _, name in request.adapters])
        prepared = prepare(self._rows, parts, questions, request.strategy, request.decoding)
        if request.strategy.name == "timeline":
            for each in prepared:
                yield _told(parts, each, 0)
            return
        if len(questions) > 1:
            for each, answer in ask_prepared(self._rows, prepared, request.decoding):
                yield _told(parts, each, 0)
                yield {"type": "answer", "answer": asdict(answer)}
            return
        only = next(prepared)
        yield _told(parts, only, 0)
        if only.answer:
            yield {"type": "answer", "answer": asdict(only.answer)}
            return
        ticket = self._rows.submit(only.adapter, only.prompt, request.decoding)
        for piece in ticket:
            yield {"type": "piece", "text": piece}
        answer = self._rows.close(ticket)
        if not answer.finite:
            raise not_finite("start the server with --dtype float32")
        yield {"type": "answer", "answer": asdict(answer)}

    def _of_each(self, entries: list[ServedAdapter], questions: list[str]) -> Iterator[_Line]:
        service, request = self._service, self._request
        waiting: deque[tuple[Parts, int]] = deque()

        def prepared() -> Iterator[Any]:
            for number, (entry, (_, name)) in enumerate(zip(entries, request.adapters, strict=True)):
                if entry.record["base"]["fingerprint"] != service.engine.base.fingerprint:
                    self._failed.append({"type": "misfit", "adapter": number})
                    continue
                try:
                    parts = self._parts([entry], [name])
                    for each in prepare(self._rows, parts, questions, request.strategy, request.decoding):
                        waiting.append((parts, number))
                        yield each
                except (V2LError, Refusal) as error:
                    self._failed.append(_failure(error, adapter=number))

        for each, answer in ask_prepared(self._rows, prepared(), request.decoding):
            parts, number = waiting.popleft()
            yield from self._failures()
            yield _told(parts, each, number)
            yield {"type": "answer", "answer": asdict(answer)}
        yield from self._failures()

    def _failures(self) -> Iterator[_Line]:
        failed, self._failed = self._failed, []
        yield from failed

    def _parts(self, entries: list[ServedAdapter], names: list[str]) -> Parts:
        """What is asked of adapters, in errors called as the client calls them. V2LError, Refusal."""
        service, (start, end, video) = self._service, self._request.choice
        try:
            if len(entries) == 1 and video is None:
                return service.library.parts(entries[0], service.engine, (start, end))
            adapters = [replace(load(entry.path), name=name) for entry, name in zip(entries, names, strict=True)]
            whole: Adapter = adapters[0] if len(adapters) == 1 else join(adapters)[0]
            chosen = whole if (start, end, video) == (None, None, None) else within(whole, start, end, video)
            return Parts(service.engine, chosen)
        except AdapterError as error:
            text = str(error)
            for entry, name in zip(entries, names, strict=True):
                text = text.replace(str(entry.path), name).replace(entry.id + ADAPTER_SUFFIX, name)
            raise AdapterError(text) from error


def _told(parts: Parts, prepared: Any, adapter: int) -> _Line:
    return {"type": "told", "adapter": adapter, **{"told": Answered.of(parts, prepared).document()}}
