"""Lists of HLS segments: which of them were read before, and what is left of a list without these."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

_OF_ONE = {"#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-DISCONTINUITY", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-GAP",
           "#EXT-X-PART", "#EXT-X-DATERANGE"}
"""Lines that tell of the segment that follows, and leave with it; those of keys (#EXT-X-KEY) and of the beginning of
an mp4 (#EXT-X-MAP) hold until another comes."""


@dataclass(frozen=True)
class SegmentRead:
    """A segment of which something was read."""

    list: str
    """The list that named it, as a digest: one of several may be followed."""
    sequence: int
    name: str
    """The path as the list wrote it and where in that it begins, as a digest: hosts and parameters may change from
    one connection to the next."""


@dataclass(frozen=True)
class _Segment:
    sequence: int
    address: str
    offset: int
    """Bytes of the file before it."""
    name: str
    lines: tuple[str, ...]


class Playlist:
    """A list of segments, of its text and its address."""

    def __init__(self, text: str, address: str) -> None:
        self.digest = _digest(urlsplit(address).path)
        self.segments: list[_Segment] = []
        self.ended, self.seconds = False, 0.0
        """Whether no more comes; how long a segment lasts at most."""
        self.encrypted = ""
        """How its segments are encrypted, where they are."""
        self._rest: list[str] = []
        sequence, lines, size, ends = 0, list[str](), -1, dict[str, int]()
        for line in filter(None, map(str.strip, text.splitlines())):
            name, _, value = line.partition(":")
            if name == "#EXT-X-MEDIA-SEQUENCE" and value.isdecimal():
                sequence = int(value)
                continue
            if name == "#EXT-X-BYTERANGE":
                length, _, begin = value.partition("@")
                size = int(length) if length.isdecimal() else 0
                if begin.isdecimal():
                    ends[""] = int(begin)
                continue
            if name == "#EXT-X-KEY" and (method := value.partition("METHOD=")[2].partition(",")[0]) not in ("", "NONE"):
                self.encrypted = method
            self.ended = self.ended or line == "#EXT-X-ENDLIST"
            if name == "#EXT-X-TARGETDURATION" and value.isdecimal():
                self.seconds = float(value)
            if line.startswith("#") or not any(one.startswith("#EXTINF") for one in lines):
                lines.append(line)
                continue
            offset = ends.pop("", ends.get(line, 0)) if size >= 0 else 0
            if size >= 0:
                lines.append(f"#EXT-X-BYTERANGE:{size}@{offset}")
                ends[line] = offset + size
            self.segments.append(_Segment(sequence, urljoin(address, line), offset,
                                          _digest(f"{urlsplit(line).path} {offset}"), (*lines, line)))
            sequence, lines, size = sequence + 1, [], -1
        self._rest = lines

    def seen(self, address: str, offset: int) -> SegmentRead | None:
        """What is kept of the segment that is at an address, if it is one of this list."""
        for one in reversed(self.segments):
            if one.address == address and one.offset == offset:
                return SegmentRead(self.digest, one.sequence, one.name)
        return None

    def last_seen(self, seen: Iterable[SegmentRead]) -> int | None:
        """The number of the last segment that was read of the session that this list is of; None for another session:
        no segment that was read is in it."""
        listed = {(one.sequence, one.name) for one in self.segments}
        lists = {one.list for one in seen if (one.sequence, one.name) in listed}
        return max((one.sequence for one in seen if one.list in lists), default=None)

    def after(self, sequence: int) -> str:
        """The list without the segments up to a number; empty where none are left."""
        left = [one for one in self.segments if one.sequence > sequence]
        if not left:
            return ""
        kept = [line for one in self.segments if one.sequence <= sequence for line in one.lines
                if line.startswith("#") and line.partition(":")[0] not in _OF_ONE]
        head = ["#EXTM3U", f"#EXT-X-MEDIA-SEQUENCE:{left[0].sequence}", *(line for line in kept if line != "#EXTM3U")]
        return "\n".join([*head, *(line for one in left for line in one.lines if line != "#EXTM3U"), *self._rest, ""])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
