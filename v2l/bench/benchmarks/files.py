"""The files below a user's folder: annotation files by name, and videos by what annotations call them.

A name from an annotation is only ever looked up among the files that were found, never joined to a path, so that no
name leads out of the folder.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from v2l.errors import UsageError
from v2l.video.folder import EXTENSIONS


class FolderFiles:
    """The files below a folder, hidden ones left out; folders that are symbolic links are looked into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._named: dict[str, list[Path]] = defaultdict(list)
        self._videos: dict[str, list[Path]] = defaultdict(list)
        seen: set[str] = set()
        for place, folders, files in os.walk(folder, followlinks=True):
            real = os.path.realpath(place)
            if real in seen:  # a link leads back to a folder it lies in
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                stem, ending = os.path.splitext(name)
                if ending.lower() in EXTENSIONS:
                    self._videos[stem].append(Path(place, name))
                else:
                    self._named[name].append(Path(place, name))

    @property
    def videos(self) -> int:
        """Number of videos."""
        return sum(map(len, self._videos.values()))

    def file(self, name: str) -> Path | None:
        """The file of that name, wherever it lies; copies of one count once. Raises UsageError where several differ."""
        copies = sorted(self._named.get(name, []), key=lambda path: (len(path.parts), path))
        differing = [path for path in copies[1:] if not _alike(path, copies[0])]
        if differing:
            raise UsageError(f"{copies[0]} and {differing[0]} have the same name and differ; give the file itself "
                             "in place of the folder.")
        return copies[0] if copies else None

    def video(self, name: str) -> Path | None:
        """The video an annotation calls `name`: whatever its ending and folder; of several, the one that shares most
        of the annotation's folders, then its ending. Raises UsageError where that leaves more than one."""
        *folders, last = re.split(r"[/\\]+", name)
        stem, ending = os.path.splitext(last)
        stem = stem if ending.lower() in EXTENSIONS else last

        def likeness(path: Path) -> tuple[int, bool]:
            pairs = zip(reversed(folders), reversed(path.parent.parts), strict=False)
            return next((i for i, (a, b) in enumerate(pairs) if a != b), len(folders)), path.name == last

        candidates = self._videos.get(stem, [])
        likest = [path for path in candidates if likeness(path) == max(map(likeness, candidates))]
        if len(likest) > 1:
            raise UsageError(f"{last} may be {likest[0]} or {likest[1]}; keep one of them below {self.folder}.")
        return likest[0] if likest else None


def _alike(path: Path, other: Path) -> bool:
    try:
        return path.read_bytes() == other.read_bytes()
    except OSError:
        return False
