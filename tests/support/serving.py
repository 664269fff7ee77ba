"""A real server on the loopback, in a thread of this process, and batchers that do as tests say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

from starlette.types import ASGIApp

from v2l.config import Decoding
from v2l.door import Engine
from v2l.model.answer import Answer
from v2l.model.text import LayerAdapter
from v2l.serve.app import create_app
from v2l.serve.batcher import Batcher
from v2l.serve.guard import Rules, allowed_hosts
from v2l.serve.library import Library
from v2l.serve.server import Listening, ServerProtocol, listening_socket
from v2l.serve.service import Service

LOCAL = Rules(None, allowed_hosts("127.0.0.1"))


@dataclass
class Server:
    """A server that runs."""

    listening: Listening
    port: int
    thread: Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """A request -> status, headers, JSON. `_` in the names of headers stands for a dash; None leaves one out."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), json.loads(text) if text else None


@contextmanager
def listening(app: ASGIApp, note: Callable[[str], None] = lambda line: None,
              protocol: type[ServerProtocol] = ServerProtocol) -> Iterator[Server]:
    """An application, listened to for as long as the block lasts."""
    bound = listening_socket("127.0.0.1", 0)
    listener = Listening(app, note, protocol)
    thread = Thread(target=listener.run, args=([bound],))
    server = Server(listener, bound.getsockname()[1], thread)
    thread.start()
    try:
        while not listener.started and thread.is_alive():
            time.sleep(0.005)
        yield server
    finally:
        listener.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def serving(service: Service, rules: Rules = LOCAL, **settings: Any) -> Iterator[Server]:
    """A service, served for as long as the block lasts."""
    with listening(create_app(service, rules), service.note, **settings) as server:
        yield server


@contextmanager
def served(engine: Engine, place: Path, rules: Rules = LOCAL) -> Iterator[Server]:
    """The adapters of a place, served for as long as the block lasts."""
    with serving(Service(engine, Library([place]), Batcher(engine)), rules) as server:
        yield server


@dataclass
class Row:
    """A row that yields what it is told to, when it is told to."""

    script: list[str | Exception | Event]
    answer: Answer | None = None
    cancelled: Event = field(default_factory=Event)
    begun: Event = field(default_factory=Event)

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> Iterator[str]:
        text = ""
        self.begun.set()
        for step in self.script:
            while isinstance(step, Event) and not step.wait(0.01):
                if self.cancelled.is_set():
                    return
            if isinstance(step, Exception):
                raise step
            if isinstance(step, str):
                text += step
                yield step
        self.answer = Answer(text, [1, 2], 3, 0, 0.0, 0.0)

    def cancel(self) -> None:
        self.cancelled.set()


class Scripted:
    """Stands for a batcher: each question is the next of some rows, or is refused with an error."""

    def __init__(self, *rows: Row | Exception) -> None:
        self.rows = list(rows)

    def submit(self, adapter: list[LayerAdapter] | None, question: str, decoding: Decoding) -> Row:
        row = self.rows.pop(0)
        if isinstance(row, Exception):
            raise row
        return row

    def close(self, drain: float) -> None: ...
