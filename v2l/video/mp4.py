"""What an mp4 says of its samples, read before FFmpeg makes room for as many: 72 bytes for each, there or not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from struct import iter_unpack, unpack
from typing import BinaryIO

_AROUND = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
"""Boxes that hold the ones that count."""
_COUNT = {b"trun": 16, b"hdlr": 16, b"stts": 16, b"stsz": 16, b"stco": 16, b"co64": 16, b"stsc": 1 << 24,
          b"stsd": 1 << 16}
"""How much is read of those, at most."""
_DEEPEST = 10
"""Box within a box; FFmpeg reads no deeper."""
_SOUND = {b"soun", b"alis", b"url ", b"rsrc"}
"""Handlers of a track of sound, and of where its data is."""
_IN_A_BYTE = 64
"""Samples of sound, at most. FFmpeg makes room for hundreds of them at once, not for each."""


def overclaims(path: Path) -> bool:
    """Whether a track or a fragment of an mp4 holds more samples, by its own account, than the file has bytes.

    False for other formats. OSError.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return any(claimed > size for claimed in _claims(file, size))


def samples_of_fragments(path: Path) -> int:
    """Samples of all tracks that the fragments of an mp4 describe; 0 where it has none. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return sum(_numbers(content)[1] for kind, content in _boxes(file, 0, size) if kind == b"trun")


def video_samples(file: BinaryIO, size: int) -> Iterator[bytes]:
    """What the tracks of video say of their samples, the first description of each, from its box's content on."""
    video = False
    for kind, content in _boxes(file, 0, size):
        if kind == b"hdlr":
            video = content[8:12] == b"vide"
        elif kind == b"stsd" and video:
            yield content[16 : 8 + int.from_bytes(content[8:12], "big")]


def _claims(file: BinaryIO, size: int) -> Iterator[int]:
    """Bytes, or where those are not told samples, that a file's tracks and fragments say there are."""
    track: dict[bytes, list[bytes]] = defaultdict(list)
    for kind, content in chain(_boxes(file, 0, size), [(b"trak", b"")]):
        if kind == b"trak":
            yield from _claims_of(track)
            track.clear()
        elif kind == b"trun":
            yield _numbers(content)[1]
        else:
            track[kind].append(content)


def _claims_of(track: Mapping[bytes, list[bytes]]) -> Iterator[int]:
    """The same of one track, given by its boxes."""
    kinds = {content[8:12] for content in track[b"hdlr"]}
    if b"soun" in kinds <= _SOUND and {_numbers(content)[1::2] for content in track[b"stts"]} == {(1, 1)}:
        # As QuickTime counts sound: by the ticks of its clock, of which compressed sound has many in a byte.
        chunks = max((_numbers(content)[1] for content in track[b"stco"] + track[b"co64"]), default=0)
        for content in track[b"stsc"]:
            runs = [run[:2] for run in iter_unpack(">3I", content[8:len(content) - (len(content) - 8) % 12])]
            yield sum(max(0, until - first) * samples
                      for (first, samples), (until, _) in pairwise([*runs, (chunks + 1, 0)])) // _IN_A_BYTE
    else:
        for content in track[b"stsz"]:
            _, size, count, _ = _numbers(content)
            yield count * max(1, size)


def _numbers(content: bytes) -> tuple[int, ...]:
    """The first four of a box, of which the very first are its version and flags."""
    return unpack(">4I", content[:16].ljust(16, b"\0"))


def _boxes(file: BinaryIO, start: int, stop: int, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes from `start` to `stop` that count; a `trak` comes before those in it."""
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
        if kind == b"trak":
            yield kind, b""
        if kind in _AROUND and depth < _DEEPEST:
            yield from _boxes(file, body, end, depth + 1)
        elif kind in _COUNT:
            file.seek(body)
            yield kind, file.read(min(end - body, _COUNT[kind]))
        start = end
