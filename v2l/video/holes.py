"""Places within a file at which its structure is broken, as where sectors of a disk or parts of a download are missing:
FFmpeg goes on behind them, and what stood there is lost without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from v2l.video.container import MATROSKA
from v2l.video.endings import asf_packets, ogg_pages
from v2l.video.structure import CLUSTER, SEGMENT, ebml_element

_MOST = 1 << 22
"""Elements that are looked at; a file of nothing but headers could have any number."""
_PASSED_OVER = 256
"""Bytes between two packets that hold nothing but what containers write there."""


def has_hole(path: Path, format: str, passed_over: int, read_to: int) -> bool:
    """Whether the structure of a file of this format (FFmpeg's name of it) is broken before the end of its last packet;
    False for formats in which that is not looked for. `passed_over` is how many bytes at most lie between two packets,
    and `read_to` where the last one ends. OSError."""
    if format not in _CHECKS or (format in (MATROSKA, "avi") and passed_over <= _PASSED_OVER):
        return False
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _CHECKS[format](file, min(read_to, size), size)


def _of_matroska(file: BinaryIO, end: int, size: int) -> bool:
    """An element, of a segment or of a cluster, that is none, or goes past the end of the file."""
    start = 0
    for _ in range(_MOST):
        if start >= end:
            return start > size
        element = ebml_element(file, start)
        if element is None:
            return True
        kind, body, length = element
        start = body if kind in (SEGMENT, CLUSTER) or length is None else body + length
    return False


def _of_ogg(file: BinaryIO, end: int, size: int) -> bool:
    """A page whose number does not follow that of the stream's last one."""
    last: dict[bytes, int] = {}
    for head in ogg_pages(file, end):
        if not head:
            return False
        stream, number = head[14:18], int.from_bytes(head[18:22], "little")
        if not head[5] & 2 and number != last.get(stream, number - 1) + 1:
            return True
        last[stream] = number
    return False


def _of_asf(file: BinaryIO, end: int, size: int) -> bool:
    """A packet that begins with a zero, where the first one says that all begin with how faults are mended."""
    first = 0
    for at in asf_packets(file, end):
        file.seek(at)
        begin = file.read(2)
        first = first or begin[0]
        if first & 0x80 and begin == b"\0\0":
            return True
    return False


def _of_avi(file: BinaryIO, end: int, size: int) -> bool:
    """A chunk whose name is none; that of a chunk of odd length may follow at once, as some programs write it."""
    at = 0
    for _ in range(_MOST):
        file.seek(at)
        head = file.read(12)
        if at >= end or len(head) < 12:
            return False
        if not (head[:4].isascii() and head[:4].decode("ascii").isprintable()):
            return True
        length = int.from_bytes(head[4:8], "little")
        if head[:4] == b"RIFF" or (head[:4] == b"LIST" and head[8:] in (b"movi", b"rec ")):
            at += 12
            continue
        at += 8 + length
        if length % 2:
            file.seek(at)
            at += file.read(1) in (b"\0", b"")
    return False


_CHECKS = {MATROSKA: _of_matroska, "ogg": _of_ogg, "asf": _of_asf, "avi": _of_avi}
