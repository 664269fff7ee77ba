"""The process that opens a live source and decodes it, because FFmpeg can hang in spite of its time limits, and a
process can be killed. It is told by its parent what to read, tells it what came, and ends when the parent does.

What it tells are lines of JSON, each a message; the bytes of a picture follow the line that tells of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from threading import Condition, Thread
from typing import Any, BinaryIO

import numpy as np

from v2l.config import DECODED_AHEAD, Sampling
from v2l.live.clock import LiveClock, now
from v2l.live.code import CODE
from v2l.live.playlist import SegmentRead
from v2l.live.stream import OpenSource, Over, Unwatchable, open_stream, reason_of
from v2l.live.windows import Chooser, Plan
from v2l.video.decode import fitted

_PULSE = 0.2
"""Seconds between two messages that say that something came."""
_WAITING = 2
"""Pictures that may wait to be taken, however large they are; smaller ones up to DECODED_AHEAD bytes."""
_UNDECODED = 30.0
"""Seconds in which something came and became no picture."""


class Outbox:
    """What is told to the parent, in a thread of its own: a live source must go on being read. Pictures of one that the
    parent does not take in time are left out and counted; of a file or a pipe, they wait."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._changed = file, Condition()
        self._messages: deque[tuple[dict[str, Any], np.ndarray | None]] = deque()
        self._pictures = self._bytes = 0
        self._sending = False
        self.live = True
        self.lost = 0
        """Pictures that were left out."""
        self.blocked = 0.0
        """Seconds for which pictures had to wait."""
        Thread(target=self._send, daemon=True).start()

    def tell(self, kind: str, **values: Any) -> None:
        with self._changed:
            self._messages.append(({"kind": kind, **values}, None))
            self._changed.notify_all()

    def show(self, at: float, image: np.ndarray) -> None:
        """Tells a picture."""
        began = time.monotonic()
        with self._changed:
            while self._pictures >= _WAITING and self._bytes + image.nbytes > DECODED_AHEAD:
                if self.live:
                    self.lost += 1
                    return
                self._changed.wait()
            self.blocked += time.monotonic() - began
            height, width = image.shape[:2]
            self._messages.append(({"kind": "picture", "at": at, "height": height, "width": width, "lost": self.lost},
                                   image))
            self.lost = 0
            self._pictures, self._bytes = self._pictures + 1, self._bytes + image.nbytes
            self._changed.notify_all()

    def _send(self) -> None:
        with suppress(OSError, ValueError):
            while True:
                with self._changed:
                    while not self._messages:
                        self._sending = False
                        self._changed.notify_all()
                        self._changed.wait()
                    message, image = self._messages.popleft()
                    self._sending = True
                self._file.write(json.dumps(message).encode() + b"\n")
                if image is not None:
                    self._file.write(np.ascontiguousarray(image).data)
                    with self._changed:
                        self._pictures, self._bytes = self._pictures - 1, self._bytes - image.nbytes
                        self._changed.notify_all()
                self._file.flush()
        os._exit(0)  # nobody reads it any more

    def finish(self) -> None:
        """Waits until all was taken."""
        with self._changed:
            while self._messages or self._sending:
                self._changed.wait()


class Pulse:
    """Tells now and then that something came."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._told = outbox, 0.0
        self.at: float | None = None
        """When the last picture was, on the time line."""
        self._called, self._undecoded = time.monotonic(), 0.0

    def __call__(self) -> None:
        came = time.monotonic()
        if came - self._told >= _PULSE:
            self._told = came
            self._outbox.tell("alive", at=self.at)
        self._undecoded += min(came - self._called, 1.0)
        self._called = came
        if self._undecoded > _UNDECODED:
            raise Unwatchable("what comes cannot be decoded")

    def picture(self, at: float | None) -> None:
        """Notes that a picture was decoded."""
        self._undecoded, self.at = 0.0, self.at if at is None else at
        self()


def read(order: dict[str, Any], outbox: Outbox) -> float:
    """Reads a source to its end, and tells what comes; when that end is, on the time line. Unwatchable."""
    pulse = Pulse(outbox)
    try:
        stream = open_stream(order["kind"], order["location"], order["timeout"], pulse,
                             [SegmentRead(**one) for one in order["seen"]],
                             lambda one: outbox.tell("seen", **asdict(one)))
    except Over:
        if order["origin"] is None:
            raise
        return float(order["last"])  # it ended while the connection was lost
    outbox.live = stream.live
    clock = LiveClock(live=stream.live, tick=stream.tick, step=stream.step, slower=stream.slower,
                      broadcast=stream.broadcast, in_parts=stream.in_parts, origin=order["origin"], last=order["last"])
    outbox.tell("opened", patience=stream.patience, rate=stream.rate)
    try:
        _follow(stream, clock, order, outbox, pulse)
    except Unwatchable:
        raise
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        raise Unwatchable(*reason_of(error, order["location"])) from error
    if clock.origin is None:
        raise Unwatchable("no picture of it could be decoded")
    if not stream.ended():
        raise Unwatchable("the connection ended")
    return clock.end


def _follow(stream: OpenSource, clock: LiveClock, order: dict[str, Any], outbox: Outbox, pulse: Pulse) -> None:
    choice, size, begun = _chooser(order["plan"], stream.rate), order["size"], False
    for shown, image in stream.pictures:
        at, jump = clock.place(shown, now() - (0.0 if stream.live else outbox.blocked))
        if at is not None and not begun:
            outbox.tell("begun", origin=clock.origin, at=at)
            begun = True
        if jump:
            outbox.tell("gap", start=jump.start, end=jump.end, reason=jump.reason)
        pulse.picture(at)
        if at is None:
            continue
        while stream.live and stream.in_parts and (early := clock.early(now())) > 0:
            time.sleep(min(early, _PULSE))
            pulse()
        if choice is None or choice.wants(at):
            rgb = image()
            size = size or [rgb.shape[1], rgb.shape[0]]
            outbox.show(at, fitted(rgb, *size))


def _chooser(plan: dict[str, Any] | None, rate: float) -> Chooser | None:
    """What tells which pictures are wanted, of a `Plan` as a dict; None for all."""
    return None if plan is None else Chooser(Plan(plan["length"], Sampling(**plan["sampling"]), rate))


def _end_with(parent: int, file: BinaryIO) -> None:
    """Ends this process when its parent does: nobody has the other end of the pipe any more."""
    poll: Callable[[int], Any] = time.sleep
    if hasattr(select, "poll"):
        watched = select.poll()
        watched.register(file.fileno(), 0)
        poll = lambda seconds: watched.poll(seconds * 1000)
    while not poll(1) and os.getppid() == parent:
        pass
    os._exit(0)


def main() -> None:
    """Runs the process: the order is its first argument or, if that is empty, the first line of its stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    if hasattr(signal, "SIGIO"):  # which would come of a file that is opened to write at the wrong moment
        signal.signal(signal.SIGIO, signal.SIG_IGN)
    file = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):  # what libraries print would come among the messages, or show the address
        os.dup2(nothing, number)
    order = json.loads(sys.argv[1] or sys.stdin.buffer.readline())
    Thread(target=_end_with, args=(order["parent"], file), daemon=True).start()
    outbox = Outbox(file)
    import_module("cv2" if order["kind"] == "camera" else "av")  # which may take longer than a source may be silent
    outbox.tell("ready", code=CODE)
    try:
        outbox.tell("ended", at=read(order, outbox))
    except Unwatchable as failure:
        outbox.tell("failed", reason=str(failure), lasting=failure.lasting)
    except MemoryError:
        outbox.tell("failed", reason="the memory did not suffice", lasting=False)
    except Exception as error:  # whatever a library raises: its text may hold the address
        outbox.tell("failed", reason=f"reading broke off ({type(error).__name__})", lasting=False)
    outbox.finish()
    os._exit(0)  # closing can hang
