"""What may be asked: the adapters below the folders that are served, found anew at every call, loaded when first asked.

Names come from the listing alone: no path is ever made of what a client sends. A link that leads out of the folders is
listed with a sentence, and never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.adapter.find import is_adapter_name
from v2l.adapter.label import Label, fingerprint_of, load_label
from v2l.adapter.record import Record
from v2l.adapter.wall import When
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import AdapterError, UsageError
from v2l.serve.refusal import Refusal
from v2l.serve.shelf import Shelf
from v2l.system.files import without_ending
from v2l.system.scan import files_below
from v2l.video.folder import has_changed, looks_like_video
from v2l.wording import shortened

if TYPE_CHECKING:  # what reads an adapter is imported when one is asked: it takes numpy, 0.1 s
    from v2l.adapter import Adapter
    from v2l.engine import Engine
    from v2l.strategies.parts import Parts

HELD = 4 << 30
"""Bytes of adapters that stay loaded: 280 of one segment of 500M (14.4 MB each), or 18 of an hour in segments."""
MOST_VIDEOS = 100_000
"""Other files below the folders that are taken for videos by their names; a whole disk has millions."""

Version = tuple[str, int, int, int]
"""Path, mtime in ns, size and inode of a file: another one is another adapter."""
Times = tuple["When | None", "When | None"]


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that is served."""

    id: str
    """Path below its folder without the ending, with slashes: `talks/lecture`."""
    path: Path
    version: Version
    label: Label | None
    """What its header says; None where it cannot be used."""
    error: str = ""
    """Why it cannot be used."""
    videos: tuple[Path | None, ...] = ()
    """For each of its sources, the file of that name and size, or None; `Library.video` looks closer."""

    @property
    def record(self) -> Record:
        """What its header records. AdapterError where it cannot be used."""
        if self.label is None:
            raise AdapterError(self.error)
        return self.label.record

    @property
    def fingerprint(self) -> str:
        """What two files have in common that hold the same. AdapterError where it cannot be used."""
        if self.label is None:
            raise AdapterError(self.error)
        return fingerprint_of(self.path, self.label)


@dataclass(frozen=True)
class _Place:
    """A folder or an adapter that is served."""

    path: Path
    name: str
    """What the ids of a folder's adapters begin with; of a file, its id."""
    is_folder: bool


@dataclass
class _Walk:
    """Files below the folders: adapters by id, and all others by name, for videos that lie elsewhere."""

    roots: list[str]
    """Folders that what is read must really lie in; of an adapter that was named, its own, and that of the file it is a
    link to."""
    adapters: dict[str, tuple[Path, _Place]] = field(default_factory=dict)
    others: dict[str, list[Path]] = field(default_factory=dict)


class Library:
    """The adapters below some folders, or named themselves; those asked last are held, up to so many bytes. For any
    number of threads.

    A single folder's adapters are named by their paths below it; of several folders, each name begins with its
    folder's. UsageError where a place is neither a folder nor an adapter.
    """

    def __init__(self, places: Sequence[Path], held: int = HELD) -> None:
        paths = [Path(os.path.abspath(place)) for place in places]
        for path in paths:
            if not (path.is_dir() or is_adapter_name(path.name)):
                raise UsageError(f"{path} is neither a folder nor an adapter; name folders of .v2lora files, or such "
                                 "files.")
        alone = len(paths) == 1 and paths[0].is_dir()
        self._places = [_Place(path, "" if alone else name, path.is_dir())
                        for path, name in zip(paths, _names(paths), strict=True)]
        self._held: Shelf[Parts] = Shelf(held)
        self._labels: dict[Version, Label | str] = {}
        """What is known of files as they are now: their labels, or why they cannot be used."""
        self._last = _Walk([])
        """What was found last: whoever asks an adapter again does not wait until all folders were looked through."""
        self._ids: dict[str, str] = {}
        """Ids by the fingerprint of what was there when it was last looked for."""

    @property
    def held_bytes(self) -> int:
        """Bytes of adapters that are loaded."""
        return self._held.used

    # -- listing ---------------------------------------------------------------------------------------------------

    def entries(self) -> dict[str, ServedAdapter]:
        """What there is now, by id and sorted. Only headers are read, each once for as long as its file stays the
        same."""
        walk = self._walk()
        found = {id: entry for id in sorted(walk.adapters) if (entry := self._entry(id, walk))}
        versions = {entry.version for entry in found.values()}
        self._labels = {version: known for version, known in self._labels.copy().items() if version in versions}
        return found

    def entry(self, id: str) -> ServedAdapter:
        """The adapter of an id, which may turn out not to be usable. Refusal, with the nearest names, where there is
        none."""
        for look in (lambda: self._last, self._walk):
            walk = look()
            if id in walk.adapters and (entry := self._entry(id, walk)):
                return entry
        near = near_names(id, walk.adapters)
        hint = f" (did you mean {', or '.join(near)}?)" if near else ""
        raise Refusal(404, f"The model {shortened(id, 80)!r} does not exist{hint}; GET /v1/models lists what there is.",
                      param="model", code="model_not_found")

    def of_content(self, fingerprint: str, name: str) -> ServedAdapter:
        """The adapter that holds what a client's file called `name` holds. Refusal where none does."""
        with suppress(Refusal, KeyError, AdapterError):
            known = self.entry(self._ids[fingerprint])
            if known.fingerprint == fingerprint:
                return known
        found: dict[str, ServedAdapter] = {}
        for entry in self.entries().values():
            with suppress(AdapterError):
                found[entry.fingerprint] = entry
        self._ids = {content: entry.id for content, entry in found.items()}
        if fingerprint in found:
            return found[fingerprint]
        raise Refusal(404, f"The server has no adapter that holds what {name} holds; have it serve the folder that "
                      f"{name} is in, or ask without --server (and without V2L_SERVER).", param="adapters",
                      code="model_not_found")

    def _walk(self) -> _Walk:
        walk, taken = _Walk(self._roots()), set[str]()
        room = MOST_VIDEOS
        for place in self._places:
            adapters = [] if place.is_folder else [place.path]
            for path in files_below(place.path) if place.is_folder else ():
                if is_adapter_name(path.name):
                    adapters.append(path)
                elif (room := room - 1) >= 0:
                    walk.others.setdefault(path.name, []).append(path)
            for path in sorted(adapters):
                if (real := os.path.realpath(path)) not in taken:
                    taken.add(real)
                    id = _id(path, place)
                    walk.adapters.setdefault(id if id not in walk.adapters else id + path.suffix, (path, place))
        self._last = walk
        return walk

    def _roots(self) -> list[str]:
        roots: list[str] = []
        for place in self._places:
            real = os.path.realpath(place.path)
            roots += [real] if place.is_folder else [os.path.dirname(real), os.path.realpath(place.path.parent)]
        return roots

    def _entry(self, id: str, walk: _Walk) -> ServedAdapter | None:
        """None where the file has gone since it was listed."""
        path, place = walk.adapters[id]
        try:
            version = version_of(path)
        except OSError:
            return None
        name = id + ADAPTER_SUFFIX
        if version is None or (place.is_folder and not _inside(path, walk.roots)):
            what = "is not a file" if version is None else "is a link that leads out of the folders that are served"
            return ServedAdapter(id, path, version or (str(path), 0, 0, 0), None, f"{name} {what}.")
        known = self._labels.get(version)
        if known is None:
            try:
                known = load_label(path)
            except AdapterError as error:
                known = str(error).replace(str(path), name)
            self._labels[version] = known
        if isinstance(known, str):
            return ServedAdapter(id, path, version, None, known)
        videos = tuple(_beside(source, path, walk) for source in known.record["sources"])
        return ServedAdapter(id, path, version, known, "", videos)

    # -- what they hold --------------------------------------------------------------------------------------------

    def parts(self, entry: ServedAdapter, engine: Engine, times: Times = (None, None)) -> Parts:
        """An adapter, or its segments in a range of time, ready to be asked; where its file has changed since it was
        listed, as it is now. AdapterError, UsageError."""
        name = entry.id + ADAPTER_SUFFIX
        for _ in range(3):  # a file may be replaced while it is read
            now = self._version_now(entry)
            self._drop(now[0], but=now)
            try:
                parts = self._held.get((now, times), lambda: self._load(entry.path, engine, times))
            except AdapterError as error:
                said = str(error).replace(str(entry.path), name)
                if times == (None, None):
                    self._found_damaged(entry.path, now, said)
                raise AdapterError(said) from error
            if self._version_now(entry) == now:
                return parts
            self._drop(now[0])
        raise AdapterError(f"{name} is being written again and again; ask when it is complete.")

    def _drop(self, path: str, but: Version | None = None) -> None:
        """Lets go of what is held of a file as it was."""
        self._held.drop(lambda key: key[0][0] == path and key[0] != but)

    def _version_now(self, entry: ServedAdapter) -> Version:
        with suppress(OSError):
            if version := version_of(entry.path):
                return version
        raise Refusal(404, f"The model {entry.id!r} was there a moment ago, and is there no more.", param="model",
                      code="model_not_found")

    def _load(self, path: Path, engine: Engine, times: Times) -> tuple[Parts, int]:
        from v2l.adapter.file import load
        from v2l.adapter.join import within
        from v2l.strategies.parts import Parts

        adapter = load(path)
        if times != (None, None):
            adapter = within(adapter, *times)
        return Parts(engine, adapter), _bound_bytes(adapter)

    def _found_damaged(self, path: Path, version: Version, said: str) -> None:
        """Lets the listing tell of damage that only its values show, but not of what is wrong with the base alone."""
        from v2l.adapter.file import load

        try:
            load(path)
        except AdapterError:
            self._labels[version] = said

    def video(self, entry: ServedAdapter, source: int) -> Path:
        """The file of a source, if it is there and is what was watched: one that is newer than the adapter is read
        through, once. Refusal, with what became of it, where it is not. AdapterError."""
        sources = entry.record["sources"]
        if not 0 <= source < len(sources):
            raise Refusal(404, f"{entry.id} has no video number {source}.", code="video_not_found")
        video, name = entry.videos[source], sources[source]["name"]
        if video is None or not looks_like_video(video):
            raise Refusal(404, f"{name} is not beside {entry.id}{ADAPTER_SUFFIX}, or has changed since it was watched.",
                          code="video_not_found")
        changed = has_changed(video, sources[source], entry.path)
        if changed is not False:
            what = "has changed since it was watched; ingest it again" if changed else "is there no more"
            raise Refusal(404, f"{name} {what}.", code="video_not_found")
        return video

    # -- what is to be watched -------------------------------------------------------------------------------------

    def video_below(self, name: str) -> Path:
        """A video below the folders, named as adapters are but with its ending: `talks/lecture.mp4`. Refusal, with the
        nearest names, where there is none."""
        roots = self._roots()
        videos = {_id(path, place): path for place in self._places if place.is_folder
                  for path in files_below(place.path) if looks_like_video(path) and _inside(path, roots)}
        if name in videos:
            return videos[name]
        near = near_names(name, videos)
        hint = f" (did you mean {', or '.join(near)}?)" if near else ""
        raise Refusal(404, f"There is no video {shortened(name, 80)!r} below the folders that are served{hint}; name "
                      "one by its path there.", param="path", code="video_not_found")

    def id_of(self, adapter: Path) -> str | None:
        """The id of an adapter's file; None where it is not served."""
        return next((id for id, (path, _) in self._walk().adapters.items() if path == adapter), None)


def version_of(path: Path) -> Version | None:
    """What tells a file from what it was or will be; None for what is no regular file. OSError where there is none."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    return str(path), status.st_mtime_ns, status.st_size, status.st_ino


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names much like another, the likest first; their last parts count as much as the whole."""
    by_form: dict[str, list[str]] = {}
    for known in names:
        for form in dict.fromkeys((known.lower(), known.rpartition("/")[2].lower())):
            by_form.setdefault(form, []).append(known)
    lower = name.lower().removesuffix(ADAPTER_SUFFIX)
    close = [known for form in (lower, lower.rpartition("/")[2])
             for match in get_close_matches(form, by_form, n=3) for known in by_form[match]]
    return list(dict.fromkeys(close))[:3]


def _bound_bytes(adapter: Adapter) -> int:
    """Bytes an adapter takes when it is asked: its factors in float32, and the products that take their place in time
    where these are smaller (`LayerAdapter`)."""
    factors = 4 * sum(array.size for array in adapter.tensors().values())
    products = 4 * adapter.num_layers * adapter.A.shape[2] * adapter.B.shape[2]
    return factors + (products if products < factors else 0)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest end of each path that no other path here ends with; a file's without its ending."""
    def ends(path: Path) -> Iterator[str]:
        parts = (path if path.is_dir() else without_ending(path, [ADAPTER_SUFFIX])).parts
        return ("/".join(parts[-count:]) for count in range(1, len(parts) + 1))

    all_ends = [list(ends(path)) for path in paths]
    return [next((end for end in own if sum(end in others for others in all_ends) == 1), own[-1]) for own in all_ends]


def _id(path: Path, place: _Place) -> str:
    """The id of a file, as text: where bytes of its name are no UTF-8, JSON could not carry them."""
    below = without_ending(path.relative_to(place.path), [ADAPTER_SUFFIX]).as_posix() if place.is_folder else ""
    return os.fsencode("/".join(filter(None, (place.name, below)))).decode("utf-8", "replace")


def _inside(path: Path, roots: Iterable[str]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(root) for root in roots)


def _beside(source: Record, adapter: Path, walk: _Walk) -> Path | None:
    """The file of a source's name and size: beside its adapter, else the only such one below the folders."""
    name = source["name"]
    if name != Path(name).name:  # a stranger's record may name anything
        return None
    if _is(adapter.parent / name, source, walk):
        return adapter.parent / name
    others = {os.path.realpath(path): path for path in walk.others.get(name, ()) if _is(path, source, walk)}
    return next(iter(others.values())) if len(others) == 1 else None


def _is(path: Path, source: Record, walk: _Walk) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == source["size"] and _inside(path, walk.roots)
