"""How much is there of a file whose format says in pages, packets or frames what there should be.

Each function takes an open file and its size, and tells the part that is there: 1 of a whole file, 0 of one that breaks
off and does not say how much there should be, as where a recorder was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack
from typing import BinaryIO

_MOST = 1 << 24
"""Elements that are looked at; a file of nothing but headers could have any number."""
_FILM_OF_OGG = (b"\x80theora", b"OVP80", b"BBCD", b"\x01video")
"""How the first packet of a video stream begins."""
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_PACKET = b"\x82"
"""How a packet begins."""
_NOT_SAID = (0, 0xFFFFFFFF)
"""What stands in place of an IVF's length until it is finished, by its writer."""
_SWF_OF_A_PIPE = 100 << 20
_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_MXF_HEADER = bytes.fromhex("060e2b34020501010d0102010102")
_SAMPLES = {"420": (2, 2, 2), "422": (2, 1, 2), "444": (1, 1, 2), "411": (4, 1, 2), "mono": (1, 1, 0)}
"""Colours of a Y4M file: by how much colour planes are less wide and less high, and how many of them there are."""


def of_ogg(file: BinaryIO, size: int) -> float:
    """A page that goes past the end, or a film without the page that is marked as its last."""
    films: set[bytes] = set()
    for head in ogg_pages(file, size):
        if not head:
            return 0
        if head[5] & 2 and file.read(8).startswith(_FILM_OF_OGG):
            films.add(head[14:18])
        if head[5] & 4:
            films.discard(head[14:18])
    return 0 if films else 1


def is_chained(file: BinaryIO, size: int) -> bool:
    """Whether streams of an Ogg file begin behind others, as where films were put together with `cat`."""
    begun = False
    for head in ogg_pages(file, size):
        if begun and head and head[5] & 2:
            return True
        begun = begun or not (head and head[5] & 2)
    return False


def ogg_pages(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The heads of an Ogg file's pages, the file being at what each holds; an empty one for a page that goes past the
    end."""
    start = 0
    for _ in range(_MOST):
        file.seek(start)
        head = file.read(27)
        if head[:4] != b"OggS" and start + 4 <= size:
            start = _next_page(file, start)
            if start < 0:
                return
            continue
        if start >= size:
            return
        lacing = file.read(head[26]) if len(head) == 27 else b""
        start += 27 + len(lacing) + sum(lacing)
        if len(head) < 27 or len(lacing) < head[26] or start > size:
            yield b""
            return
        yield head


def _next_page(file: BinaryIO, start: int) -> int:
    """Where the next page begins behind what is none; -1 where none comes."""
    file.seek(start)
    before = b""
    while block := file.read(1 << 20):
        at = (before + block).find(b"OggS")
        if at >= 0:
            return start + at - len(before)
        start, before = start + len(block), (before + block)[-3:]
    return -1


def asf_packets(file: BinaryIO, end: int) -> range:
    """Where the packets of an ASF file begin that end before a place (bytes)."""
    file.seek(0)
    head = file.read(1 << 20)
    about, data = head.find(_ASF_FILE), head.find(_ASF_DATA)
    length = int.from_bytes(head[about + 92 : about + 96], "little")
    return range(data + 50, end - length + 1, length) if about >= 0 and data >= 0 and length else range(0)


def of_asf(file: BinaryIO, size: int) -> float:
    """Packets, of which the header tells the number, unless it is a broadcast."""
    file.seek(0)
    head = file.read(1 << 20)
    about, data = head.find(_ASF_FILE), head.find(_ASF_DATA)
    if about < 0 or data < 0 or len(head) < max(about + 100, data + 50):
        return 1
    count = int.from_bytes(head[about + 56 : about + 64], "little")
    length = int.from_bytes(head[about + 92 : about + 96], "little")
    there = size - data - 50
    if not length:
        return 1
    if count and not head[about + 88] & 1:
        begin = data + 50 + (count - 1) * length
        return 1 if count * length - there <= _padding(file, begin) else max(0, there) / (count * length)
    file.seek(size - there % length)  # an index may come after packets
    return 0 if there % length and file.read(1) == _ASF_PACKET else 1


def _padding(file: BinaryIO, start: int) -> int:
    """Bytes at the end of an ASF packet that hold nothing."""
    file.seek(start)
    head = file.read(64)
    at = 1 + (head[0] & 15) if head and head[0] & 0x80 else 0
    if len(head) < at + 16:
        return 0
    whole, number, padding = ((0, 1, 2, 4)[head[at] >> bit & 3] for bit in (5, 1, 3))
    at += 2 + whole + number
    return int.from_bytes(head[at : at + padding], "little")


def of_ivf(file: BinaryIO, size: int) -> float:
    """Frames, of which the header tells the number or, by other writers, how many ticks they last."""
    file.seek(0)
    head = file.read(32)
    if len(head) < 32:
        return 0
    promised = unpack("<I", head[24:28])[0]
    start, count, last, step = unpack("<H", head[6:8])[0], 0, 0, 1
    broken = False
    for _ in range(_MOST):
        file.seek(start)
        frame = file.read(12)
        if len(frame) < 12:
            broken = bool(frame)
            break
        length, stamp = unpack("<Iq", frame)
        start += 12 + length
        if start > size:
            broken = True
            break
        if length:
            count, last, step = count + 1, stamp, max(step, stamp - last if count else 1)
    if promised in _NOT_SAID:
        return 0 if broken else 1
    slack = step if broken else 2 * step
    return 1 if count >= promised or last + slack >= promised else max(count, last + step) / promised


def of_y4m(file: BinaryIO, size: int) -> float:
    """Frames of one size, each behind a line."""
    file.seek(0)
    words = file.readline(1 << 12).split()
    start = file.tell()
    frame = _y4m_frame({word[:1]: word[1:].decode("ascii", "replace") for word in words[1:]})
    if not frame:
        return 1
    for _ in range(_MOST):
        file.seek(start)
        line = file.readline(1 << 12)
        if not b"FRAME".startswith(line[:5]) or not line:
            return 1  # the end, or what is no frame
        start = file.tell() + frame
        if start > size:
            return 0
    return 1


def _y4m_frame(said: dict[bytes, str]) -> int:
    """Bytes of a frame; 0 where its header does not tell."""
    colours = said.get(b"C", "420")
    kind = "mono" if colours.startswith("mono") else colours[:3]
    width, height = said.get(b"W", ""), said.get(b"H", "")
    if kind not in _SAMPLES or not width.isdecimal() or not height.isdecimal():
        return 0
    narrow, low, planes = _SAMPLES[kind]
    w, h = int(width), int(height)
    samples = w * h * (2 if "alpha" in colours else 1) + planes * -(-w // narrow) * -(-h // low)
    deep = colours[len(kind) :].strip("p").isdecimal()  # 420p10, mono16; but 420paldv, 420jpeg
    return samples * (2 if deep else 1)


def of_apng(file: BinaryIO, size: int) -> float:
    """Frames, of which a chunk tells the number, up to the one that is the end."""
    start, promised, count = 8, 0, 0
    for _ in range(_MOST):
        file.seek(start)
        head = file.read(12)
        if len(head) < 8:
            break
        length, kind = unpack(">I4s", head[:8])
        if kind == b"IEND":
            return 1
        if kind == b"acTL" and len(head) == 12:
            promised = int.from_bytes(head[8:], "big")
        count += kind == b"fcTL"
        start += 12 + length
    count -= start != size
    if count >= promised:
        return 1  # only the end is missing, and no picture
    return max(0, count) / promised


def of_mxf(file: BinaryIO, size: int) -> float:
    """A header that says where the last part begins, and elements with their lengths."""
    file.seek(0)
    head = file.read(1 << 16)
    start = head.find(_MXF_HEADER)
    if start < 0:
        return 1
    for count in range(_MOST):
        file.seek(start)
        element = file.read(25)
        if len(element) < 17:
            return 0 if element else 1
        extra = element[16] & 0x7F if element[16] & 0x80 else 0
        if extra > 8 or element[:4] != b"\x06\x0e\x2b\x34":
            return 1  # something else comes after its end
        length = int.from_bytes(element[17 : 17 + extra], "big") if extra else element[16]
        start += 17 + extra + length
        if start > size:
            return 0
        if not count:
            footer = int.from_bytes(head[start - length + 24 : start - length + 32], "big")
            if footer >= size:
                return 0
    return 1


def of_swf(file: BinaryIO, size: int) -> float:
    """Bytes, of which the header tells the number; FFmpeg says 100 MiB into a pipe. Of packed ones it is no use."""
    file.seek(0)
    head = file.read(8)
    promised = int.from_bytes(head[4:], "little")
    return 1 if head[:3] != b"FWS" or promised in (0, _SWF_OF_A_PIPE) else min(1, size / promised)


def of_dv(file: BinaryIO, size: int) -> float:
    """Frames of one size, each in blocks of which the first says which one it is."""
    file.seek(0)
    head = file.read(480)
    if len(head) < 480 or head[:3] != b"\x1f\x07\x00":
        return 1
    tail = 144_000 if head[3] & 0x80 else 120_000
    rest = size % tail
    file.seek(size - rest)
    return 0 if rest and file.read(3) == head[:3] else 1


def of_nut(file: BinaryIO, size: int) -> float:
    """An index, which is written when all else is."""
    file.seek(max(0, size - (1 << 22)))
    return 1 if _NUT_INDEX in file.read() else 0
