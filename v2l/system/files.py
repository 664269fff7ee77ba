"""Writing a file so that its name only ever stands for a whole one."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

from v2l.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.v2l-([0-9a-f]{8})?[0-9a-f]{16}\.tmp")
"""Names of files that are being written, and in them which machine does."""
LEFT_OVER = 24 * 3600
"""Seconds since a temporary file was last written to, from which on nobody can be writing it any more."""
PATIENCE = 2.0
"""Seconds for which a file that other programs have open is waited for, where that keeps its name from being taken."""
_IN_USE = (5, 32, 33, 1224)
"""What Windows says then: access denied, sharing violation, lock violation, mapped."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into, which becomes `path` when the block ends well.

    The bytes go to a hidden file in the same folder, reach the disk, and then take the name in one step, so whatever
    stood there before survives any failure. A symbolic link is followed. Raises OutputError.
    """
    try:
        final = Path(os.path.realpath(path))
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        if final.exists() and not (final.is_file() and os.access(final, os.W_OK)):
            raise PermissionError(errno.EACCES, "")  # a device or a pipe must not be replaced, nor a protected file
        _sweep(final.parent)
        temporary, handle = _create(final.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                reach_disk(file.fileno())
                renamed = False
                with suppress(OSError):  # Windows renames no open file, nor do some folders that are shared
                    os.replace(temporary, final)  # while the lock is held: see `_sweep`
                    renamed = True
            if not renamed:
                _take_name(temporary, final)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync(final.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise OutputError(f"Cannot write {path}: {_reason(error, Path(path))}.") from error


@contextmanager
def replacing_folder(path: str | os.PathLike[str], mark: str) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` when the block ends well.

    It lies hidden beside `path`; what was written into it reaches the disk, and then it takes the name. A folder that
    stands there already is replaced if it is empty or holds a file called `mark`, by which it is known to be ours.
    Raises OutputError.
    """
    try:
        final = Path(os.path.realpath(path))
        check_replaceable(final, mark)
        with scratch_folder(final.parent) as temporary:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            _rename_folder(temporary, final)
        _sync(final.parent)
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot write {path}: {_reason(error, Path(path))}.") from error


def _take_name(temporary: Path, final: Path) -> None:
    """Renames a file that is closed. Windows refuses while the one that has the name is open in another program, as in
    a virus scanner for a moment: that is waited for. OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(temporary, final)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE or time.monotonic() > end:
                raise
        time.sleep(PATIENCE / 20)


def check_replaceable(path: Path, mark: str) -> None:
    """Raises OutputError unless `path` is free for `replacing_folder`: nothing, an empty folder, or one of ours."""
    if not os.path.lexists(path):
        if not path.parent.is_dir():
            raise OutputError(f"Cannot write {path}: the folder {path.parent} does not exist; create it first.")
        return
    if not path.is_dir():
        raise OutputError(f"Cannot write the folder {path}: it is a file; choose another place.")
    if not (path / mark).is_file() and any(path.iterdir()):
        raise OutputError(f"Cannot replace the folder {path}: it holds no {mark}, so it was not made by this command; "
                          "choose another place.")


def _rename_folder(temporary: Path, final: Path) -> None:
    """Gives a folder its name. What had the name goes: before, so that for a moment nothing has it."""
    before = _hidden(final.parent)
    if final.exists():
        os.rename(final, before)
    try:
        os.rename(temporary, final)
    except BaseException:
        with suppress(OSError):
            os.rename(before, final)
        raise
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden new folder in `parent`, which is gone when the block ends; of a run that is killed, a later one removes
    it. Raises OSError.
    """
    _sweep(parent)
    handle = None
    while True:
        folder = _hidden(parent)
        folder.mkdir()
        with suppress(OSError):  # a lock, as a temporary file has one, where folders can be locked: see `_sweep`
            handle = os.open(folder, os.O_RDONLY)
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():
            break  # else a sweep came between
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def create_folder(folder: Path) -> None:
    """Creates a folder, and those above it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {_reason(error, folder / 'it')}.") from error


def beside(path: Path, pattern: str) -> Path:
    """A file or folder of v2l's own beside `path`, whose name takes the place of `{}`: `.{}.lock`.

    Where that would be too long for the file system, the name is shortened to its beginning and a hash.
    """
    name, limit = pattern.format(path.name), _longest_name(path.parent)
    if len(os.fsencode(name)) > limit:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        room = limit - len(os.fsencode(pattern.format(digest)))
        name = pattern.format(os.fsencode(path.name)[:room].decode(errors="ignore") + digest)
    return path.with_name(name)


def has_room_for(path: Path) -> bool:
    """Whether the file system takes so long a name."""
    return len(os.fsencode(path.name)) <= _longest_name(path.parent)


def _longest_name(folder: Path) -> int:
    """Bytes that the name of a file in a folder can have: nearly always 255; eCryptfs takes 143."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, or no such folder yet
        return 255


def without_ending(path: Path, endings: Iterable[str]) -> Path:
    """The path without the ending of its name, if that is one of `endings` in any case: what comes after the dot of
    `talk 1.5` is part of a name."""
    return path.with_name(path.stem) if path.suffix.lower() in endings else path


def _create(folder: Path) -> tuple[Path, int]:
    """A new temporary file and its handle, which holds a lock for as long as it is open: see `_sweep`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = _hidden(folder)
        try:
            handle = os.open(path, flags, 0o666)  # which leaves the mode to the umask
            with suppress(OSError):  # no locks there
                if fcntl is not None:
                    fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return path, handle
            os.close(handle)  # a sweep came between the two
        except BaseException:  # Ctrl-C, too, which mostly comes while the disk is waited for
            with suppress(OSError):
                path.unlink()
            raise


def _hidden(folder: Path) -> Path:
    """A new name for what is being written. A short one: built on the final name, it could be too long."""
    return folder / f".v2l-{_machine()}{secrets.token_hex(8)}.tmp"


@lru_cache(maxsize=4096)
def _sweep(folder: Path) -> None:
    """Removes what killed runs left of files and folders they were writing into a folder, once in a process.

    A run of this machine that lives holds their lock. Locks may not reach other machines that write there; what
    they began, or what cannot be locked, is taken for left over by its age.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            with suppress(OSError):
                if match is None or entry.is_symlink():
                    continue
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > LEFT_OVER
                if fcntl is not None and match[1] == _machine():
                    _remove_unlocked(entry.path, old)
                elif old and not entry.is_dir():  # folders have carried the machine in their names from the first
                    _remove(entry.path)


def _remove_unlocked(path: str, old: bool) -> None:
    """Removes a temporary file or folder unless a run holds its lock; where there are no locks, if it is old."""
    handle = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_WRONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        old = True
    except BlockingIOError:
        old = False
    except OSError:
        pass
    try:
        if old:
            _remove(path)  # while the lock is held: see `_create`
    finally:
        os.close(handle)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


@cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def reach_disk(handle: int) -> None:
    """Waits until an open file's bytes are on the disk, where its file system can tell: some cannot, and are written
    to all the same. OSError where the disk refuses them."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:  # macOS, where fsync leaves them in the disk's own memory
        with suppress(OSError):  # not every file system there knows it
            fcntl.fcntl(handle, full)
            return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def _sync(path: Path) -> None:
    """Makes a file durable or, of a folder, the names in it. Some mounts refuse the latter: not an error."""
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            reach_disk(handle)
        finally:
            os.close(handle)


def _reason(error: OSError | ValueError, path: Path) -> str:
    """End of a sentence: what went wrong, and the way out."""
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return "no space is left there; free some, or choose another place"
    if getattr(error, "winerror", None) in _IN_USE:
        return "it may not be written, or another program has it open; close that, or choose another place"
    if code in (errno.EACCES, errno.EPERM):
        return "permission denied; choose another place"
    if code == errno.EROFS:
        return "that disk is read-only; choose another place"
    if code == errno.EISDIR:
        return "it is a folder; name a file in it"
    if code == errno.ENOENT and not path.parent.is_dir():
        return f"the folder {path.parent} does not exist; create it first"
    if code == errno.ENAMETOOLONG:
        return "its name is too long for that disk; choose a shorter one"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return f"{path.parent} is not a folder; choose another place"
    return f"{(isinstance(error, OSError) and error.strerror) or error}; choose another place"
