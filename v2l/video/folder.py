"""Which files of a folder are videos, told by their names and, where those mean other things too, by what they hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from v2l.errors import VideoError
from v2l.wording import count_of

EXTENSIONS = (
    ".264", ".265", ".3g2", ".3gp", ".3gp2", ".3gpp", ".360", ".amv", ".apng", ".asf", ".avi", ".avif", ".dav",
    ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t",
    ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vob",
    ".webm", ".webp", ".wmv", ".wtv", ".y4m",
)
"""Endings by which videos are found in a folder; a file given by name may have any."""
_HEAD = 4096
"""Bytes that tell what a file holds."""


@dataclass
class VideosFound:
    """The videos of some paths, and what else was there."""

    videos: list[Path] = field(default_factory=list)
    """Files as given; below folders, sorted by path."""
    closed: list[Path] = field(default_factory=list)
    """Folders that may not be entered."""
    linked: list[Path] = field(default_factory=list)
    """Links to folders, which are not followed: some lead back to where they are."""
    again: list[tuple[Path, Path]] = field(default_factory=list)
    """(another name of a file, the name under which it is among the videos)."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files of each ending are no videos."""

    def notes(self) -> list[str]:
        """What was passed over, as sentences for the user."""
        notes = [f"{path} may not be entered, so nothing in it was looked at; check its permissions."
                 for path in self.closed]
        notes += [f"{path} is a link to a folder, which is not followed; name that folder too." for path in self.linked]
        notes += [f"{path} is another name of {first}, which is watched once." for path, first in self.again]
        if self.others:
            kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in self.others.most_common(8))
            more = ", ..." if len(self.others) > 8 else ""
            notes.append(f"{count_of(sum(self.others.values()), 'file')} passed over as no videos: {kinds}{more}.")
        return notes


def find_videos(paths: Iterable[Path]) -> VideosFound:
    """Files as given; for a folder, the videos below it, hidden ones left out.

    Errors: `VideoError` for a folder without videos, or one that may not be entered.
    """
    found = VideosFound()
    for path in paths:
        if not path.is_dir():
            found.videos.append(path)
            continue
        below = sorted(_below(path, found))
        if not below:
            if path in found.closed:
                raise VideoError(f"{path} may not be entered; check its permissions.")
            raise VideoError(f"{path} is a folder without videos.")
        names: dict[str, Path] = {}
        for video in below:
            first = names.setdefault(os.path.realpath(video), video)
            if first is video:
                found.videos.append(video)
            else:
                found.again.append((video, first))
    return found


def _below(folder: Path, found: VideosFound) -> Iterator[Path]:
    def closed(error: OSError) -> None:
        found.closed.append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.linked += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted(files):
            if name.startswith("."):
                continue
            path, ending = Path(place, name), os.path.splitext(name)[1].lower()
            if ending in EXTENSIONS and _may_be_video(path, ending):
                yield path
            else:
                found.others[ending] += 1


def _may_be_video(path: Path, ending: str) -> bool:
    """False for what shares its ending with videos: programs in TypeScript, Go's modules, still pictures. Whoever opens
    a file that cannot be read tells why."""
    if ending not in (".ts", ".mts", ".mod", ".webp", ".avif"):
        return True
    try:
        if not path.is_file():
            return True
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return True
    if ending == ".webp":
        return head[12:16] != b"VP8 " and head[12:16] != b"VP8L" and not (head[12:16] == b"VP8X" and not head[20] & 2)
    if ending == ".avif":
        return b"avis" in head[8 : int.from_bytes(head[:4], "big")] or head[4:8] != b"ftyp"
    return not _is_text(head)


def _is_text(head: bytes) -> bool:
    """Whether a file's first bytes hold no control characters, as no video does without."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
