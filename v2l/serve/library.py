"""What may be asked: the adapters below the folders that are served, found anew at every call."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from v2l.adapter import Label, load, load_label
from v2l.adapter.find import is_adapter_name
from v2l.adapter.join import within
from v2l.config import ADAPTER_SUFFIX
from v2l.engine import Engine
from v2l.errors import AdapterError
from v2l.parts import Parts
from v2l.serve.refusal import Refusal
from v2l.system.files import without_ending
from v2l.system.scan import files_below
from v2l.wording import nearest

Version = tuple[str, int, int, int]
"""Path, mtime in ns, size and inode of a file: another one is another adapter."""
Times = tuple["float | None", "float | None"]


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that is served."""

    id: str
    path: Path
    version: Version
    label: Label | None
    """What its header says; None where it cannot be read."""
    error: str = ""
    """Why it cannot be read."""


class Library:
    """The adapters below some folders, or named themselves; those asked last are held, up to so many bytes."""

    def __init__(self, places: Sequence[Path], held: int = 1 << 30) -> None:
        self.places, self._most = places, held
        self._labels: dict[Version, Label | str] = {}
        self._held: OrderedDict[tuple[Version, Times], Parts] = OrderedDict()
        self._lock = Lock()

    def entries(self) -> dict[str, ServedAdapter]:
        """What there is now, by id: the path below its folder, without the ending."""
        found: dict[str, ServedAdapter] = {}
        for place in self.places:
            root = place if place.is_dir() else place.parent
            files = sorted(path for path in files_below(place) if is_adapter_name(path.name)) if place.is_dir() else [
                place]
            real = os.path.realpath(root)
            for path in files:
                if place.is_dir() and not os.path.realpath(path).startswith(real + os.sep):
                    continue  # a link that leads out of the folder
                id = without_ending(path.relative_to(root), [ADAPTER_SUFFIX]).as_posix()
                if id not in found and (entry := self._entry(id, path)):
                    found[id] = entry
        return found

    def _entry(self, id: str, path: Path) -> ServedAdapter | None:
        try:
            status = path.stat()
        except OSError:
            return None
        version = (str(path), status.st_mtime_ns, status.st_size, status.st_ino)
        label = self._labels.get(version)
        if label is None:
            try:
                label = load_label(path)
            except AdapterError as error:
                label = str(error).replace(str(path), id + ADAPTER_SUFFIX)
            self._labels[version] = label
        if isinstance(label, str):
            return ServedAdapter(id, path, version, None, label)
        return ServedAdapter(id, path, version, label)

    def entry(self, id: str) -> ServedAdapter:
        """The adapter of an id. Refusal, with the nearest name, where there is none."""
        entries = self.entries()
        if id not in entries:
            near = nearest(id, entries)
            raise Refusal(404, f"The model {id!r} does not exist{near}; GET /v1/models lists what there is.",
                          param="model", code="model_not_found")
        return entries[id]

    def parts(self, entry: ServedAdapter, engine: Engine, times: Times = (None, None)) -> Parts:
        """An adapter, or its segments in a range of time, ready to be asked. AdapterError, UsageError."""
        key = (entry.version, times)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        try:
            adapter = load(entry.path)
            parts = Parts(engine, adapter if times == (None, None) else within(adapter, *times))
        except AdapterError as error:
            raise AdapterError(str(error).replace(str(entry.path), entry.id + ADAPTER_SUFFIX)) from error
        with self._lock:
            self._held[key] = parts
            while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self._most:
                self._held.popitem(last=False)
        return parts


def _bytes(parts: Parts) -> int:
    return sum(layer.A.nbytes + layer.B.nbytes for layer in parts.whole)
