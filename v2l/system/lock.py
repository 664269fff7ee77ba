"""One process at a time: a lock that the system opens when its process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Busy(Exception):
    """Another process, or another block of this one, holds the lock."""


@contextmanager
def alone(path: Path, waiting: Callable[[], None] | None = None, patience: float = 0.2) -> Iterator[None]:
    """Runs the block while no other is in a block of the same `path`, an empty file that exists meanwhile.

    Where another is, `waiting` is called once and the lock is looked at every `patience` seconds until it is free;
    without `waiting`, Busy is raised. Where no lock can be had (in a folder that does not exist or cannot be written,
    on a mount that knows none) the block runs without, and no file is left.
    """
    lock = _acquired(path, waiting, patience)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):  # Windows removes no open file; filelock does it there, after the release
                os.unlink(path)  # before the release: who waits for it sees that this file is the name's no more
            lock.release()


def _acquired(path: Path, waiting: Callable[[], None] | None, patience: float) -> BaseFileLock | None:
    """The lock, held; None where there is no such thing. Raises Busy."""
    from filelock import FileLock

    if not path.parent.is_dir():  # filelock would create it
        return None
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        if _locks(lock, path, 0, patience):
            return lock
        if waiting is None:
            raise Busy
        waiting()
        _locks(lock, path, -1, patience)
        return lock
    except _NoLocks:
        return None


class _NoLocks(Exception):
    """No lock can be had there."""


def _locks(lock: BaseFileLock, path: Path, timeout: float, patience: float) -> bool:
    """Whether the lock could be had within seconds (-1: however long that takes). Raises _NoLocks."""
    from filelock import Timeout

    try:
        lock.acquire(timeout, patience)
        return True
    except Timeout:
        return False
    except (OSError, ValueError, NotImplementedError) as error:  # ValueError: a NUL in the path
        if getattr(error, "filename", None) is None:  # it could be opened, or created, and not locked: it means nothing
            with suppress(OSError, ValueError):
                path.unlink()
        raise _NoLocks from error
