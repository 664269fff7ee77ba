"""One process at a time: a lock that the system opens when its process ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 0.2
"""Seconds from one look at a lock to the next."""


class Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def alone(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Runs the block while no other process is in a block of the same `path`, an empty file that is there meanwhile.

    Where another is, `waiting` is called once and it is waited for; without `waiting`, Busy is raised. Where no lock
    can be had (on Windows, in a folder that cannot be written, on a mount that knows none) the block runs without.
    """
    while True:
        try:
            handle = _acquired(path)
            break
        except Busy:
            if waiting is None:
                raise
            waiting()
            waiting = _nothing  # told once
            time.sleep(_PATIENCE)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                os.unlink(path)  # before the lock is opened: who waits for it sees that this file is the name's no more
            os.close(handle)


def _nothing() -> None: ...


def _acquired(path: Path) -> int | None:
    """A handle that holds the lock; None where there is no such thing. Raises Busy."""
    if fcntl is None:
        return None
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError):
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:
                return handle
        except BlockingIOError:
            os.close(handle)
            raise Busy from None
        except OSError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was taken away between the two
