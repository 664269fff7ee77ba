"""H.264 field pictures, as camcorders and broadcasts write them: two coded pictures a frame, of raw macroblocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

GOP = 25


class _Bits:
    def __init__(self) -> None:
        self.bits: list[int] = []

    def u(self, value: int, length: int) -> _Bits:
        self.bits += [value >> i & 1 for i in reversed(range(length))]
        return self

    def ue(self, *values: int) -> _Bits:
        for value in values:
            length = (value + 1).bit_length()
            self.u(0, length - 1).u(value + 1, length)
        return self

    def se(self, value: int) -> _Bits:
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    def bytes(self, stop: bool = True) -> bytes:
        bits = [*self.bits, 1] if stop else self.bits
        return np.packbits(np.array(bits, np.uint8)).tobytes()


def _nal(reference: int, kind: int, content: bytes) -> bytes:
    safe, zeros = bytearray(), 0
    for byte in content:
        if zeros >= 2 and byte <= 3:
            safe.append(3)
            zeros = 0
        safe.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([reference << 5 | kind]) + bytes(safe)


def _sets(width: int, height: int, rate: int) -> bytes:
    """What a decoder must know: Main profile, fields allowed, `rate` frames a second."""
    sps = _Bits().u(77, 8).u(0, 8).u(30, 8).ue(0, 0, 0, 4, 1).u(0, 1).ue(width // 16 - 1, height // 32 - 1)
    sps.u(0, 1).u(0, 1).u(1, 1).u(0, 1).u(1, 1).u(0, 4).u(1, 1).u(1, 32).u(2 * rate, 32).u(1, 1).u(0, 5)
    pps = _Bits().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).se(0).se(0).se(0).u(1, 1).u(0, 2)
    return _nal(3, 7, sps.bytes()) + _nal(3, 8, pps.bytes())


def _field(luma: np.ndarray, number: int, bottom: int) -> bytes:
    place = number % GOP
    first = place == 0 and not bottom
    head = _Bits().ue(0, 7, 0).u(place % 16, 4).u(1, 1).u(bottom, 1)
    if first:
        head.ue(number // GOP % 2)
    head.u((2 * place + bottom) % 256, 8).u(0, 2 if first else 1).se(0).ue(1)
    content = bytearray()
    for y in range(0, luma.shape[0], 16):
        for x in range(0, luma.shape[1], 16):
            head.ue(25)  # a raw macroblock, from the next byte on
            content += head.bytes(stop=False) + luma[y : y + 16, x : x + 16].tobytes() + bytes([128]) * 128
            head = _Bits()
    return _nal(1, 5 if first else 1, bytes(content) + b"\x80")


def fields(pictures: Iterable[np.ndarray], rate: int = 25) -> list[tuple[bytes, bool]]:
    """(content, whether it is a key picture) of the two fields of each picture: luma, uint8 [height, width], which are
    multiples of 32 and 16."""
    coded = []
    for number, luma in enumerate(pictures):
        for bottom in (0, 1):
            key = number % GOP == 0 and not bottom
            sets = _sets(luma.shape[1], luma.shape[0], rate) if key else b""
            coded.append((_nal(0, 9, b"\x10") + sets + _field(luma[bottom::2], number, bottom), key))
    return coded
