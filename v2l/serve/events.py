"""Work in threads, and what it yields in the event loop; streams of events; clients that hang up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from threading import Thread
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Made = TypeVar("Made")


class HungUp(Exception):
    """The client has closed the connection, and nobody waits for the response."""


async def unless_hung_up(receive: Receive, work: Awaitable[Made]) -> Made:
    """The result of some work, which is cancelled where the client hangs up first. HungUp."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        for one in (working, leaving):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _hang_up(receive: Receive) -> None:
    """Ends when the client hangs up; the body of its request must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


_Item = tuple["Made | None", "Exception | None", bool]
"""An item, or an error, and whether it is the last."""


class Worked(Generic[Made]):
    """What an iterable yields in a thread of its own, to be iterated in the event loop. `close` may be called at any
    time, and has `cancel` called if the thread has not ended."""

    def __init__(self, items: Iterable[Made], cancel: Callable[[], None]) -> None:
        self._queue: asyncio.Queue[_Item[Made]] = asyncio.Queue()
        self._next: list[_Item[Made]] = []
        self._cancel, self._ended = cancel, False
        loop = asyncio.get_running_loop()

        def put(item: Made | None, error: Exception | None, last: bool) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._queue.put_nowait, (item, error, last))

        def work() -> None:
            try:
                for item in items:
                    put(item, None, False)
            except Exception as error:
                put(None, error, True)
            else:
                put(None, None, True)

        Thread(target=work, name="v2l-request", daemon=True).start()

    def __aiter__(self) -> AsyncIterator[Made]:
        return self

    async def __anext__(self) -> Made:
        if self._ended:
            raise StopAsyncIteration
        item, error, self._ended = self._next.pop() if self._next else await self._queue.get()
        if error:
            raise error
        if self._ended:
            raise StopAsyncIteration
        return item  # type: ignore[return-value]  # only the last one is None

    async def first(self) -> None:
        """Waits for the first item, which stays to be iterated. Raises what came up instead of it."""
        item, error, last = await self._queue.get()
        if error:
            self._ended = True
            raise error
        self._next.append((item, None, last))

    def close(self) -> None:
        """Has no more items come."""
        if not self._ended:
            self._cancel()
        self._ended = True


def event(data: Any, name: str | None = None) -> bytes:
    """A server-sent event, of one JSON document or of a text as it is."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"{f'event: {name}{chr(10)}' if name else ''}data: {text}\n\n".encode()


class EventStream(Response):
    """A response of events, as they come. It ends where the client hangs up; `close` is called however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], close: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._close = events, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(HungUp):
                await unless_hung_up(receive, self._send(send))
        finally:
            self._close()
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
