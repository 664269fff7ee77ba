"""The files below a folder that a command is after, and what else was there: nothing is passed over in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from v2l.wording import count_of

_SYSTEMS = ("#recycle", "$RECYCLE.BIN", "@eaDir", "@Recycle", "RECYCLER", "System Volume Information", "lost+found")
"""Folders in which Windows and network disks keep what was deleted, and copies of their own."""
_MOST_KINDS = 8
"""Endings that are told of what was passed over."""


@dataclass
class Scan:
    """The files of one kind below a folder, and what was passed over there."""

    files: list[Path] = field(default_factory=list)
    """Files of that kind, sorted by path; each once, whatever names it has."""
    closed: list[Path] = field(default_factory=list)
    """Folders that may not be entered."""
    links: list[Path] = field(default_factory=list)
    """Links to folders, which are not followed: some lead back to where they are."""
    systems: list[Path] = field(default_factory=list)
    """Folders that a system keeps for itself, which are passed over."""
    again: list[tuple[Path, Path]] = field(default_factory=list)
    """(another name of a file, the name under which it is among the files)."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files of each ending are of another kind."""

    def notes(self, kind: str) -> list[str]:
        """What was passed over because it is no `kind`, or is one already, as sentences for the user."""
        notes = [f"{path} is a link to a folder, which is not followed; name it to have what is in it." for path in
                 self.links]
        notes += [f"{path} is a folder in which a system keeps deleted files or copies of its own; it is passed over."
                  for path in self.systems]
        notes += [f"{path} is another name of {first}, which is taken once." for path, first in self.again]
        if self.others:
            kinds = [f"{count} {ending or 'without ending'}" for ending, count in self.others.most_common()]
            more = " and others" if len(kinds) > _MOST_KINDS else ""
            notes.append(f"{count_of(self.others.total(), 'file')} passed over as no {kind}: "
                         f"{', '.join(kinds[:_MOST_KINDS])}{more}.")
        return notes


def scan(folder: Path, wanted: Callable[[Path], bool], ours: frozenset[str] = frozenset()) -> Scan:
    """The files below a folder that are `wanted`, hidden ones left out; endings in `ours` are not told.
    Raises nothing: see `closed`."""
    found, names = Scan(), dict[str, Path]()
    for path in sorted(files_below(folder, found)):
        ending = path.suffix.lower()
        if not wanted(path):
            if ending not in ours:
                found.others[ending] += 1
            continue
        first = names.setdefault(os.path.realpath(path), path)
        if first is path:
            found.files.append(path)
        else:
            found.again.append((path, first))
    return found


def files_below(folder: Path, found: Scan | None = None) -> Iterator[Path]:
    """Every file below a folder that is not hidden, in no order; what may not be entered, links and what systems keep
    for themselves go to `found`."""
    found = found or Scan()

    def closed(error: OSError) -> None:
        found.closed.append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=closed):
        found.systems += [Path(place, name) for name in sorted(folders) if name in _SYSTEMS]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SYSTEMS)
        found.links += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
        for name in files:
            if not name.startswith("."):
                yield Path(place, name)
