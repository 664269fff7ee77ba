"""What was fetched from the Hub: of every file the commit and its sha256, kept in our cache, so that the same file is
used until one asks for a newer one, and no other.

A branch moves on, and other programs move the Hugging Face cache with it. What is recorded here stays where it is; it
is used without asking the network, and held against its sha256 whenever its size or time of change is another.

Why not the Hugging Face cache's own names: a file there is a link to `blobs/HASH`, its sha256 if it is large, its git
sha1 if not. The commit has to be recorded in any case, since `refs/main` moves. The names would then save us the sha256
alone, and hold only where they are there and right: without symbolic links (on Windows, or in a cache that was copied)
nothing has such a name, a mirror may give any other, whoever changes a file can change its link too, and a sha1 can be
forged, which would matter for config.json and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from v2l.errors import ModelError
from v2l.store.hub import Repo
from v2l.system.cache import cache_dir, caching, hash_of, sha256_of


@dataclass(frozen=True)
class Pin:
    """A file of a repository as it was fetched."""

    commit: str
    sha256: str


@dataclass(frozen=True)
class Verified:
    """Files that were read through, and which of them changed."""

    name: str
    """The repository, or what was converted."""
    files: int
    """How many there are."""
    size: int
    """Bytes of all."""
    changed: list[Path]
    """Files with another content than when they were fetched or converted."""


def _place(repo: Repo) -> Path:
    return cache_dir() / "pins" / f"{hashlib.sha256(f'{repo.id}@{repo.revision}'.encode()).hexdigest()[:32]}.json"


def _read(place: Path) -> tuple[Repo, dict[str, Pin]]:
    """The repository and the pins of a record. OSError, ValueError, TypeError, LookupError: it cannot be read."""
    content = json.loads(place.read_bytes())
    files = {name: Pin(**pin) for name, pin in content["files"].items()}
    if not all(isinstance(text, str) for pin in files.values() for text in (pin.commit, pin.sha256)):
        raise ValueError
    return Repo(str(content["repo"]), str(content["revision"])), files


def pins(repo: Repo) -> dict[str, Pin]:
    """The record of a repository's revision by file; empty where it cannot be read."""
    with suppress(ModelError, OSError, ValueError, TypeError, LookupError, AttributeError):
        return _read(_place(repo))[1]
    return {}


def pinned(repo: Repo, name: str) -> Repo:
    """The repository at the commit that a file of it was fetched from; as it is, where none is recorded."""
    pin = pins(repo).get(name)
    return Repo(repo.id, pin.commit) if pin else repo


def keep(repo: Repo, folder: Path, names: Iterable[str]) -> None:
    """Holds files of a snapshot's folder, which is named by its commit, against what is recorded, and records what is
    not. Read through are only files whose size or time of change is new. ModelError where one has another content than
    it had at that commit. A cache that cannot be written to keeps no record.
    """
    known, new = pins(repo), []
    for name in names:
        pin = known.get(name)
        if pin is None or pin.commit != folder.name:
            new.append(name)
        elif sha256_of(folder / name) != pin.sha256:
            raise ModelError(f"{(folder / name).resolve()} is not what was fetched from {repo} before; delete it and "
                             "fetch it again with `v2l models pull`.")
    if not new:
        return
    with suppress(ModelError), caching(_place(repo)) as out:
        known |= {name: Pin(folder.name, sha256_of(folder / name)) for name in new}
        files = {name: asdict(known[name]) for name in sorted(known)}
        out.write(json.dumps({"repo": repo.id, "revision": repo.revision, "files": files}, indent=1).encode())


def is_damaged(repo: Repo, folder: Path, name: str) -> bool:
    """Whether a file of a snapshot's folder, read through, is not what was recorded, or cannot be read."""
    pin = pins(repo).get(name)
    return pin is not None and pin.commit == folder.name and _changed(folder / name, pin)


def _changed(file: Path, pin: Pin) -> bool:
    try:
        return hash_of(file) != pin.sha256
    except OSError:
        return True


def verify_fetched() -> Iterator[Verified]:
    """Reads through all files that were fetched and are still on this disk, one repository after the other."""
    for place in sorted((cache_dir() / "pins").glob("*.json")):
        try:
            repo, files = _read(place)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            continue
        folders = {name: repo.folder / "snapshots" / pin.commit for name, pin in files.items()}
        present = [name for name, folder in folders.items() if (folder / name).is_file()]
        if present:
            yield Verified(
                str(repo), len(present), sum((folders[name] / name).stat().st_size for name in present),
                [(folders[name] / name).resolve() for name in present if _changed(folders[name] / name, files[name])])
