"""What of a picture is cut off where it is shown, by what the container says: players and FFmpeg's programs do so, its
decoders do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from struct import unpack
from typing import BinaryIO, TypeAlias

from v2l.video.container import MATROSKA, MP4
from v2l.video.mp4 import video_samples
from v2l.video.structure import SEGMENT, ebml_element

Crop: TypeAlias = tuple[int, int, int, int]
"""Pixels cut off at the left, the top, the right and the bottom of a picture as it is stored."""
UNCROPPED: Crop = (0, 0, 0, 0)
_TRACKS, _TRACK, _KIND, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_EDGES = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
"""Elements of Matroska in the order of a Crop."""
_ENTRY = 78
"""Bytes of what an mp4 says of samples of video before the boxes in that."""


def crop_of(path: Path, format: str, number: int, coded: tuple[int, int]) -> Crop:
    """The crop of the video stream that is the `number`-th (from 0) of a file of this format, whose pictures are stored
    with this width and height; UNCROPPED where it makes no sense for these. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if format == MATROSKA:
            crops = _of_matroska(file, size)
        else:
            crops = map(_of_mp4, video_samples(file, size)) if format == MP4 else iter(())
        left, top, right, bottom = next((crop for i, crop in enumerate(crops) if i == number), UNCROPPED)
    fits = left + right < coded[0] and top + bottom < coded[1]
    return (left, top, right, bottom) if fits else UNCROPPED


def _of_mp4(entry: bytes) -> Crop:
    """The crop by the clean aperture of a description of samples: its size, and how far its middle is off."""
    width, height = unpack(">2H", entry[24:28].ljust(4, b"\0"))
    at = entry.find(b"clap", _ENTRY) + 4
    numbers = unpack(">4I", entry[at : at + 16]) if at > 4 and len(entry) >= at + 32 else ()
    shifts = unpack(">8i", entry[at : at + 32])[4:] if numbers else ()
    if not all([*numbers[1::2], *shifts[1::2]]) or not numbers:
        return UNCROPPED
    kept = Fraction(numbers[0], numbers[1]), Fraction(numbers[2], numbers[3])
    off = Fraction(shifts[0], shifts[1]), Fraction(shifts[2], shifts[3])
    left, top = (int((whole - part) / 2 + shift) for whole, part, shift in zip((width, height), kept, off, strict=True))
    right, bottom = width - left - int(kept[0]), height - top - int(kept[1])
    return (left, top, right, bottom) if min(kept) > 0 and min(left, top, right, bottom) >= 0 else UNCROPPED


def _of_matroska(file: BinaryIO, size: int) -> Iterator[Crop]:
    """The crop of each track of video."""
    for place, end in _within(file, 0, size, SEGMENT):
        for first, last in _within(file, place, end, _TRACKS):
            for track in _within(file, first, last, _TRACK):
                if _number(file, *track, _KIND) == 1:
                    video = next(_within(file, *track, _VIDEO), (0, 0))
                    left, top, right, bottom = (_number(file, *video, edge) for edge in _EDGES)
                    yield left, top, right, bottom
            return


def _within(file: BinaryIO, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """(where its content begins, where it ends) of the elements of one kind from `start` to `end`."""
    while start < end and (element := ebml_element(file, start)):
        kind, body, length = element
        start = end if length is None else min(end, body + length)
        if kind == wanted:
            yield body, start


def _number(file: BinaryIO, start: int, end: int, wanted: int) -> int:
    """What an element holds; 0 where there is none."""
    for body, last in _within(file, start, end, wanted):
        file.seek(body)
        return int.from_bytes(file.read(min(8, last - body)), "big")
    return 0
