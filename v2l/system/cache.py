"""v2l's own cache on this disk, and the sha256 of files, remembered there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from v2l.errors import ModelError, OutputError
from v2l.system.files import replacing


def cache_dir() -> Path:
    """Our own cache: what V2L_CACHE says, else the platform's place. ModelError for a user who has no home."""
    from platformdirs import user_cache_dir

    with needs_home("V2L_CACHE"):
        return Path(os.environ.get("V2L_CACHE") or user_cache_dir("v2l")).expanduser()


@contextmanager
def needs_home(variable: str) -> Iterator[None]:
    """Turns the RuntimeError of a user who has no home, neither HOME nor an entry in the system's list of users, as in
    many containers, into a ModelError that names the variable by which another folder can be named."""
    try:
        yield
    except RuntimeError:
        raise ModelError(f"There is no home folder for this user; set {variable} to a folder, or HOME.") from None


@contextmanager
def caching(path: Path) -> Iterator[IO[bytes]]:
    """A file in our cache to write into, as `files.replacing` has it; its folders are created. Raises ModelError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            yield file
    except (OSError, OutputError) as error:
        raise ModelError(f"v2l's cache is not usable: {str(error).rstrip('.')}; V2L_CACHE can name another.") from error


def sha256_of(file: Path) -> str:
    """sha256 of a file; remembered in our cache, where there is one, for as long as its size and time of change stay
    the same."""
    try:
        return _sha256_of(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror or error}).") from None


def _sha256_of(file: Path) -> str:
    try:
        note, facts = _note(file)
    except ModelError:
        return hash_of(file)
    try:
        known = json.loads(note.read_bytes())
        if isinstance(known, dict) and known.items() >= facts.items():
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, RecursionError):
        pass  # nothing remembered, or nothing readable: it is only a shortcut
    digest = hash_of(file)
    remember(file, digest)
    return digest


def remember(file: Path, digest: str) -> None:
    """Notes the sha256 of a file, for `sha256_of`. OSError where there is no such file."""
    with suppress(ModelError):  # a cache that cannot be written costs time, nothing else
        note, facts = _note(file)
        with caching(note) as out:
            out.write(json.dumps({**facts, "sha256": digest}).encode())


def _note(file: Path) -> tuple[Path, dict[str, Any]]:
    """File in which the hash of a file is remembered, and the facts for which it holds."""
    real, status = file.resolve(), file.stat()
    facts = {"path": str(real), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return cache_dir() / "sha256" / f"{hashlib.sha256(str(real).encode()).hexdigest()[:32]}.json", facts


def hash_of(file: Path) -> str:
    """sha256 of a file, read through."""
    digest = hashlib.sha256()
    with file.open("rb") as f:
        while block := f.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
