"""Whether a file ends where its structure says that it goes on, and whether its pictures are encrypted.

A container's promise of a length proves nothing: a piece of a live recording promises the length of the whole, and a
slide may be shown for a minute. What breaks off in the middle of an element does.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from struct import iter_unpack, unpack
from typing import BinaryIO

from v2l.video import endings
from v2l.video.container import AVI, FLV, MATROSKA, MP4

_MOST = 1 << 20
"""Elements that are looked at; a file of nothing but headers could have any number."""
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
_HOLDERS = {SEGMENT, CLUSTER, 0xA3, 0xA0}
"""Elements of Matroska that hold pictures; the last two are blocks."""
_SIZE = (1 << 31) - 1
"""What is the size in the index of an mp4's fragments; a bit more tells what is listed."""
_HEAD_OF_FLV, _SIZE_IN_FLV, _LENGTH_IN_FLV = 1 << 16, b"\0\x08filesize\0", b"\0\x08duration\0"
"""Bytes in which an FLV's description stands, and what stands in that before its size and before its length in
seconds, numbers of 64 bits."""
_UNREAD = 256
"""Bytes behind the last packet that are nothing lost."""
_TAIL = 10 * 204
"""Bytes of the end of a broadcast that tell whether it ends within a packet: ten of the longest there are."""
_FEW = 5
"""Packets of a broadcast in a row, by whose beginnings it is known."""
_UNTOLD = (1 << 32) - 1
"""What stands in place of an AVI's lengths where its writer could not go back to them, such as one into a pipe."""
_FIRST_ONLY, _BEGIN = ("asf", FLV, "ivf", "rm", "wtv", "yuv4mpegpipe"), 9
"""Formats of which FFmpeg reads one film a file, and bytes by which their beginning is known."""
_FLASH = (b"FWS", b"CWS", b"ZWS")
"""How Flash films begin; FFmpeg takes the head of one behind another for parts of it."""
_ENCRYPTED_ASF = (bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"), bytes.fromhex("14e68a292226174cb935dae07ee9289c"))
"""GUIDs of the content encryption objects."""


def kept_part(path: Path, format: str, read_to: int) -> float:
    """The part of a file of this format (FFmpeg's name of it) that is there: 1 of a whole one, and of formats without
    structure, such as broadcasts; 0 of one that ends in the middle of an element that holds pictures, or goes on behind
    where its last packet ended (bytes), and whose structure does not tell how much there should be. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if format in _PARTS:
            return _PARTS[format](file, size)
        broken = format in _CHECKS and _CHECKS[format](file, size)
        behind = format == MATROSKA and _clusters_end(file, size) > read_to + _UNREAD > _UNREAD
        behind = behind or (format == AVI and _goes_on_with_zeros(file, read_to, size))
    return 0 if broken or behind else 1


def holds_unread_films(path: Path, format: str) -> bool:
    """Whether films were put behind the first one in a way that FFmpeg does not read: they begin as the file does. Of
    Ogg, it fails where there is sound, and reads them where there is none. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if format == "ogg":
            return endings.is_chained(file, size)
        if format == "swf":  # which tells its own length
            file.seek(int.from_bytes(file.read(8)[4:], "little"))
            return file.read(3) in _FLASH
        if format == MP4:
            return [kind for kind, _ in mp4_boxes(file, size) if kind in (b"moov", b"moof")].count(b"moov") > 1
        if format not in _FIRST_ONLY:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(content[:_BEGIN], _BEGIN) > 0


def is_read_through(path: Path, read_to: int) -> bool:
    """Whether no packet can come behind where the last one ended (bytes). OSError."""
    return path.stat().st_size <= read_to + _UNREAD


def is_encrypted(path: Path) -> bool:
    """Whether a file whose pictures cannot be decoded says why: they are encrypted. OSError."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
    if head[4:8] in (b"ftyp", b"styp", b"moov", b"moof"):
        return (b"encv" in head or b"drmi" in head) and b"sinf" in head
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return b"\x50\x35" in head and b"\x47\xe1" in head  # ContentEncryption, ContentEncAlgo
    if head[:4] == b"\x30\x26\xb2\x75":
        return any(guid in head for guid in _ENCRYPTED_ASF)
    if head[:4] == b"\0\0\1\xba":
        return any(head[at + 6] & 0x30 for at in _places(head, b"\0\0\1\xe0"))
    return _is_scrambled(head)


def becomes_encrypted(path: Path, place: int, stream: int) -> bool:
    """Whether packets of a stream (its PID) of a broadcast are encrypted behind a place (bytes). OSError."""
    with path.open("rb") as file:
        file.seek(place)
        return _is_scrambled(file.read(1 << 20), stream)


def _is_scrambled(content: bytes, stream: int | None = None) -> bool:
    """Whether some packets of a broadcast are encrypted, of one stream or of any; it may begin within a packet."""
    for length in (188, 192):
        for first in range(length):
            heads = content[first :: length]
            if len(heads) > _FEW and heads[:_FEW].count(b"G") == _FEW:
                packets = (content[at : at + 4] for at in range(first, len(content) - 3, length))
                return any(p[3] & 0x80 for p in packets
                           if p[0] == 0x47 and stream in (None, (p[1] & 31) << 8 | p[2]))
    return False


def _places(content: bytes, what: bytes) -> Iterator[int]:
    at = content.find(what)
    while 0 <= at < len(content) - 8:
        yield at
        at = content.find(what, at + 1)


def mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """(kind, where it ends) of the outermost boxes of an mp4."""
    start = 0
    for _ in range(_MOST):
        if start + 8 > size:
            return
        file.seek(start)
        head = file.read(16)
        length, kind = unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = unpack(">Q", head[8:])
        if length < 8:
            return
        start += length
        yield kind, start


def _of_mp4(file: BinaryIO, size: int) -> float:
    """Fragments, where one breaks off within its description, so that what it describes is unknown, and those that an
    index before them lists. Whether all samples that are described are there, their packets tell."""
    ends = {0}
    listed: list[int] = []
    for kind, end in mp4_boxes(file, size):
        if kind == b"moof" and end > size:
            return 0
        if kind == b"sidx" and not listed:
            listed = _listed(file, max(ends), end)
        ends.add(end)
    known = [end for end in listed if end <= size]
    if not known or len(known) == len(listed) or not ends.issuperset(known):
        return 1  # also where a piece was cut out of the middle, which no longer is what the index lists
    return known[-1] / listed[-1]


def _listed(file: BinaryIO, start: int, end: int) -> list[int]:
    """Where the parts begin and end that an index of fragments lists."""
    file.seek(start)
    box = file.read(min(end - start, _MOST))
    at = 40 if box[8:9] == b"\1" else 32  # behind its times, of 64 or 32 bits
    first = int.from_bytes(box[28:36] if at == 40 else box[24:28], "big")
    sizes = [size & _SIZE for size, _, _ in iter_unpack(">3I", box[at : at + max(0, len(box) - at) // 12 * 12])]
    return [*accumulate(sizes, initial=end + first)]


def breaks_off_in_fragment(path: Path) -> bool:
    """Whether an mp4 ends within what its last fragment holds; which samples that lacks, packets tell. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        boxes = list(mp4_boxes(file, size))[-2:]
    return len(boxes) == 2 and [kind for kind, _ in boxes] == [b"moof", b"mdat"] and boxes[1][1] > size


def ebml_element(file: BinaryIO, start: int) -> tuple[int, int, int | None] | None:
    """(id, where its content begins, its length or None where that is unknown) of an EBML element."""
    file.seek(start)
    head = file.read(12)
    if not head or not head[0] or len(head) < 2:
        return None
    first = 9 - head[0].bit_length()
    if first > 4 or len(head) <= first or not head[first]:
        return None
    second = 9 - head[first].bit_length()
    if len(head) < first + second:
        return None
    length = int.from_bytes(head[first : first + second], "big") - (1 << 7 * second)
    unknown = length + 1 == 1 << 7 * second
    return int.from_bytes(head[:first], "big"), start + first + second, None if unknown else length


def _matroska(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """(id, where it ends) of the elements of a file's segments; within clusters only where these tell no length."""
    start = 0
    for _ in range(_MOST):
        element = ebml_element(file, start) if start < size else None
        if element is None:
            if 0 < size - start < 12:
                yield CLUSTER, size + 1  # not even a whole head
            return
        kind, body, length = element
        if kind == SEGMENT and length is not None:
            yield kind, body + length
        if kind == SEGMENT or (kind == CLUSTER and length is None):
            start = body  # go on within it
            continue
        if length is None:
            return
        start = body + length
        yield kind, start


def _matroska_breaks_off(file: BinaryIO, size: int) -> bool:
    """A segment, a cluster or a block of one whose length goes past the end."""
    return any(end > size and kind in _HOLDERS for kind, end in _matroska(file, size))


def _clusters_end(file: BinaryIO, size: int) -> int:
    return max((end for kind, end in _matroska(file, size) if kind in _HOLDERS and kind != SEGMENT), default=0)


def _avi_breaks_off(file: BinaryIO, size: int) -> bool:
    return any(end > size and (end - at != _UNTOLD or _chunk_breaks_off(file, at + 4, size))
               for at, end in _lists_of_avi(file, size))


def _goes_on_with_zeros(file: BinaryIO, at: int, size: int) -> bool:
    """Whether zeros stand behind the last packet of an AVI within its pictures: it breaks off there, and was made as
    long before as it might become."""
    file.seek(at)
    more = file.read(_UNREAD)
    return len(more) == _UNREAD and not any(more) and any(begin < at < end - _UNREAD
                                                          for begin, end in _lists_of_avi(file, size))


def _lists_of_avi(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where the lists of an AVI's pictures begin, and where they say they end; none behind one that goes past the end
    of the file."""
    start = 0
    while start + 12 <= size:
        file.seek(start)
        riff, length, _ = unpack("<4sI4s", file.read(12))
        if riff != b"RIFF":
            return
        end, at = start + 8 + length, start + 12
        while at + 12 <= min(end, size):
            file.seek(at)
            kind, length, name = unpack("<4sI4s", file.read(12))
            if kind == b"LIST" and name == b"movi":
                yield at + 8, at + 8 + length
                if at + 8 + length > size:
                    return
            at += 8 + length + length % 2
        start = end + end % 2


def _chunk_breaks_off(file: BinaryIO, at: int, size: int) -> bool:
    """Whether the last of the chunks from a place on goes past the end; they may stand in lists."""
    while at + 8 <= size:
        file.seek(at)
        kind, length = unpack("<4sI", file.read(8))
        if kind == b"LIST":
            at += 12
        elif kind.isalnum():
            at += 8 + length + length % 2
        else:
            return False
    return at > size + 1  # some leave out the byte that fills up the last one


def _packet_breaks_off(file: BinaryIO, size: int) -> bool:
    """Whether a broadcast ends within one of its packets; not where something else comes behind them."""
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    for length in (188, 192, 204):
        for first in range(min(length, len(tail))):
            if set(tail[first::length]) == {0x47} and len(tail) > _FEW * length:
                left = (len(tail) - first - 1) % length + 1
                return left not in (length, 188)
    return False


def _said_in_flv(file: BinaryIO, name: bytes) -> float:
    """What an FLV says of itself; 0 where it does not, as where its writer could not go back to it."""
    file.seek(0)
    said = file.read(_HEAD_OF_FLV).partition(name)[2][:8]
    return float(unpack(">d", said)[0]) if len(said) == 8 else 0.0


def tells_its_length(path: Path) -> bool:
    """Whether an FLV says how long it is; of one that does not, FFmpeg takes its last bytes for a time. OSError."""
    with path.open("rb") as file:
        return _said_in_flv(file, _LENGTH_IN_FLV) > 0


def _flv_breaks_off(file: BinaryIO, size: int) -> bool:
    """Behind each tag stands how long it was, and in the first one, by most writers, how long the file is: it may have
    been cut between two tags."""
    if size < 24 or _said_in_flv(file, _SIZE_IN_FLV) > size:
        return True
    file.seek(size - 4)
    (length,) = unpack(">I", file.read(4))
    at = size - 4 - length
    if length < 11 or at < 13:
        return True
    file.seek(at + 1)
    return int.from_bytes(file.read(3), "big") + 11 != length


def _gif_breaks_off(file: BinaryIO, size: int) -> bool:
    """Whether a GIF breaks off; not where only the trailer is missing, or where something comes after it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, suppress(IndexError):
        at = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
        while at < size and content[at] in b"!,":
            if content[at] == 0x21:
                at += 2
            else:
                colours = content[at + 9]
                at += 11 + (3 << (colours & 7) + 1 if colours & 0x80 else 0)
            while content[at]:
                at += 1 + content[at]
            at += 1
        return at > size
    return True


_CHECKS = {MATROSKA: _matroska_breaks_off, AVI: _avi_breaks_off, FLV: _flv_breaks_off,
           "gif": _gif_breaks_off, "mpegts": _packet_breaks_off}
_PARTS = {MP4: _of_mp4, "apng": endings.of_apng, "asf": endings.of_asf, "dv": endings.of_dv, "ivf": endings.of_ivf,
          "mxf": endings.of_mxf, "nut": endings.of_nut, "ogg": endings.of_ogg, "swf": endings.of_swf,
          "yuv4mpegpipe": endings.of_y4m}
