"""Which files of a folder are videos, told by their names and, where those mean other things too, by what they hold;
and whether one is what was watched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2l.config import ADAPTER_SUFFIX
from v2l.errors import V2LError, VideoError
from v2l.system.scan import Scan, scan

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


def find_videos(folder: Path) -> Scan:
    """The videos below a folder. Raises VideoError for a folder without videos, or one that may not be entered."""
    found = scan(folder, looks_like_video, ours=frozenset([ADAPTER_SUFFIX]))
    if not found.files:
        raise VideoError(f"{folder} may not be entered; check its permissions." if folder in found.closed else
                         f"{folder} is a folder without videos.")
    return found


def looks_like_video(path: Path) -> bool:
    """Whether a file is called as videos are and, where other things are called so too, begins as videos do."""
    ending = path.suffix.lower()
    return ending in EXTENSIONS and _may_be_video(path, ending)


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


def has_changed(video: Path, source: Mapping[str, Any], adapter: Path) -> bool | None:
    """Whether a file is not what was watched; None where it cannot be read or was watched while it grew, and where the
    record, which may be a stranger's, names something else than a file beside others. One of the same size that is no
    newer than the adapter is taken for it; only others are read, once, to compare their sha256."""
    try:
        if "started" in source or video.name != source["name"] or not video.is_file():
            return None
        status = video.stat()
        if status.st_size != source["size"] or status.st_mtime <= adapter.stat().st_mtime:
            return bool(status.st_size != source["size"])
        from v2l.system.cache import sha256_of

        return sha256_of(video) != source["sha256"]
    except (OSError, ValueError, V2LError):
        return None
