"""What an mp4 says of its samples, read before FFmpeg makes room for as many: 72 bytes for each, there or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from struct import unpack
from typing import BinaryIO

_AROUND = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
"""Boxes that hold the ones that count."""
_DEEPEST = 10
"""Box within a box; FFmpeg reads no deeper."""


def overclaims(path: Path) -> bool:
    """Whether a track or a fragment of an mp4 holds more samples, by its own account, than the file has bytes.

    False for other formats. OSError.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return any(claimed > size for claimed in _claims(file, 0, size))


def _claims(file: BinaryIO, start: int, stop: int, depth: int = 0) -> Iterator[int]:
    """Bytes, or where those are not told samples, that the boxes from `start` to `stop` say there are."""
    while start + 8 <= stop:
        file.seek(start)
        head = file.read(24)
        length, kind = unpack(">I4s", head[:8])
        body = start + 8
        if length == 1 and len(head) >= 16:
            (length,), body = unpack(">Q", head[8:16]), body + 8
        end = min(start + length, stop) if length else stop  # 0: to the end
        if end < body:
            return
        if kind in _AROUND and depth < _DEEPEST:
            yield from _claims(file, body, end, depth + 1)
        elif kind in (b"stsz", b"trun"):
            file.seek(body)
            numbers = unpack(">III", file.read(12).ljust(12, b"\0"))
            yield numbers[1] if kind == b"trun" else numbers[2] * max(1, numbers[1])
        start = end
