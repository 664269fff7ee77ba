"""The process that listens: its socket, what it bears of a client, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from v2l.errors import UsageError
from v2l.system.interrupts import BOUNCE_S

REQUEST_S = 30.0
"""Seconds within which a request must have come whole, and a connection its first one."""
RESPONSE_S = 30.0
"""Seconds within which a client must take what is ready for it: 48 kB of it, as asyncio counts."""
IDLE_S = 5
"""Seconds for which a connection is kept for another request."""
DRAIN_S = 30
"""Seconds for which answers are finished when the server is told to end."""
MOST_CONNECTIONS = 512
"""Connections at a time; systems commonly let a process have 1024 files open."""


class ServerProtocol(H11Protocol):
    """HTTP over one connection, which is cut where the client is too slow: uvicorn would wait for ever."""

    request_s, response_s = REQUEST_S, RESPONSE_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request: asyncio.TimerHandle | None = None
        self._response: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._request = self._cut_after(self.request_s)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._request = _unset(self._request)  # it is whole, and being answered
        elif self._request is None:  # the first byte of the next request
            self._request = self._cut_after(self.request_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._response = self._response or self._cut_after(self.response_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._response = _unset(self._response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request, self._response = _unset(self._request), _unset(self._response)
        super().connection_lost(exc)

    def _cut_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)


def _unset(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer, in the place of one that is cancelled."""
    if timer is not None:
        timer.cancel()
    return None


class Listening(uvicorn.Server):
    """The server on a socket. A signal has it finish the answers that are under way, a second one end at once."""

    def __init__(self, app: ASGIApp, note: Callable[[str], None], protocol: type[H11Protocol] = ServerProtocol) -> None:
        super().__init__(uvicorn.Config(
            app, http=protocol, ws="none", lifespan="on", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=IDLE_S))
        self._note = note
        self._signals: list[tuple[int, float]] = []
        self.cut: int | None = None
        """The signal for which answers were broken off; None where all were finished."""
        logger = logging.getLogger("uvicorn")  # whose sentences name no way out
        logger.addHandler(logging.NullHandler())
        logger.propagate = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Has the signals that end a process end the server; what they did before they do again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))
                  and signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handler of the signals."""
        now = time.monotonic()
        if not self._signals:
            self._signals.append((sig, now))
            self.should_exit = True
        elif now - self._signals[0][1] > BOUNCE_S:
            self.cut = sig

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finishes the answers under way, for up to DRAIN_S."""
        if count := len(self.server_state.tasks):
            self._note(f"Stopping: {count} under way, for up to {DRAIN_S} s; Ctrl-C again ends at once.")
        ending = asyncio.ensure_future(super().shutdown(sockets))
        deadline = time.monotonic() + DRAIN_S
        while not ending.done():
            if self._signals and time.monotonic() > deadline:
                self.cut = self.cut or self._signals[0][0]
            if self.cut:
                for connection in list(self.server_state.connections):
                    connection.transport.abort()
            await asyncio.wait((ending,), timeout=0.1)
        await ending


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address, which nobody can connect to yet. UsageError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host} is no address of this machine; name one, such as 127.0.0.1.") from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise UsageError(f"Cannot listen on {host}, port {port}: {error.strerror}; choose another --port (0 takes any "
                         "that is free), or another --host.") from None
    return found


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def url_of(listening: socket.socket) -> str:
    """The address of a socket, as clients write it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
