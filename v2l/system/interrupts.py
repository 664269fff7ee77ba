"""Ctrl-C and being told to end: whatever is under way unwinds, and the exit status says what it was."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses, as the shell gives them to what SIGINT and SIGTERM end."""
# SIGBREAK is Windows's: Ctrl-Break, and a console window that is closed.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
_SOON = 0.03
"""Seconds until a lost interrupt is raised again."""
BOUNCE_S = 1.0
"""Seconds within which signals count as one: a key that bounced, or a launcher that passes on what all got."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP or SIGBREAK came. It does what Ctrl-C does, but ends a conversation too."""


def message_and_status(error: KeyboardInterrupt) -> tuple[str, int]:
    """Message for the user, and exit status, of an interrupt."""
    return ("Terminated.", TERMINATED) if isinstance(error, Terminated) else ("Interrupted.", INTERRUPTED)


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Interrupt in whose wake an error came: some code breaks when it unwinds, and its error takes the place."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return error
        error = error.__cause__ or error.__context__
    return None


def listen() -> None:
    """Has SIGTERM, SIGHUP and SIGBREAK unwind the stack as Ctrl-C does, none of them lost; those that this process was
    started to ignore (`nohup`, a shell's background) it still ignores. For the main thread."""
    for number in _heeded():
        signal.signal(number, _raise)
    sys.unraisablehook = _unraisable


def ignore() -> None:
    """Ignores the signals from now on: the work is done, and its exit status stands."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave(status: int) -> None:
    """Ends the process. After `sys.exit`, Python would end it by SIGINT itself where Ctrl-C came while a text was run
    as code, as modules do that define dataclasses: it remembers that, whoever caught the exception."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
    os._exit(status)


def _heeded() -> list[int]:
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


# Nothing is raised while a module is imported: some swallow it, others come out in pieces. A second one does not wait.

_waits = False


def _raise(number: int, frame: FrameType | None) -> None:
    """Handler of all these signals."""
    global _waits
    if _importing(frame) and not _waits:
        _waits = True
        _raise_soon(number)
        return
    _waits = False
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _raise_soon(number: int) -> None:
    def wait() -> None:
        time.sleep(_SOON)
        while _waits and _importing(sys._current_frames().get(main)):
            time.sleep(_SOON)
        if _waits and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)  # which also ends a wait of the system's
        elif _waits:
            _thread.interrupt_main(signal.Signals(number))

    main = main_thread().ident or 0
    Thread(target=wait, daemon=True).start()


def _unraisable(lost: Any) -> None:
    """Raises an interrupt that came in a finalizer or a callback of C code, where Python would print it and go on."""
    global _waits
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _waits = True
        _raise_soon(signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT)
    else:
        sys.__unraisablehook__(lost)


@contextmanager
def at_the_end(noted: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Has an interrupt wait for the end of the block; what it yields says whether one waits, and then the block should
    end soon. A second one does not wait. `noted` is called, in a thread of its own, when one begins to wait."""
    if current_thread() is not main_thread():  # which alone gets signals
        yield lambda: False
        return
    handlers = {number: signal.getsignal(number) for number in _heeded()}
    waiting: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not waiting:
            waiting.append((number, time.monotonic()))
            Thread(target=noted, daemon=True).start()  # in here, printing might come in the middle of printing
        elif time.monotonic() - waiting[0][1] > BOUNCE_S:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: bool(waiting)
    finally:
        restore()
    if waiting:
        signal.raise_signal(waiting[0][0])
