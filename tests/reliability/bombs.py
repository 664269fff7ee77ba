"""Small video files that claim enormous things: `python tests/reliability/bombs.py`.

A process with 4 GiB of address space looks at each as `v2l ingest` does. Printed are what became of it, the seconds,
and the most memory the process has had so far. Exit status 1 for a crash, a hang, an error that is no sentence, or more
than `MOST` bytes.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability.corpus import Entry, make
from reliability.damage import Watcher

MOST = 1 << 30


class Bits:
    """Bits written one number after the other, as codecs' headers have them."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, value: int, width: int = 1) -> Bits:
        self.text += f"{value:0{width}b}"
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)
        return self

    def done(self, stop: str = "1") -> bytes:
        text = self.text + stop
        return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


def h264(width: int, height: int) -> bytes:
    """Stream of one picture: its headers, and the beginning of a slice."""
    sequence = Bits().put(66, 8).put(0, 8).put(62, 8).golomb(0, 0, 0, 0, 1).put(0)
    sequence.golomb(width // 16 - 1, height // 16 - 1).put(0b1100, 4)  # whole frames, direct, no cropping, no VUI
    picture = Bits().golomb(0, 0).put(0b00, 2).golomb(0, 0, 0).put(0b000, 3).golomb(0, 0, 0).put(0b000, 3)
    part = Bits().golomb(0, 7, 0).put(0, 4).golomb(0).put(0, 4).put(0b00, 2).golomb(0)
    nals = ((0x67, sequence.done()), (0x68, picture.done()), (0x65, part.done() + b"\x5a" * 200))
    return b"".join(b"\0\0\0\1" + bytes([kind]) + escaped(body) for kind, body in nals)


def escaped(body: bytes) -> bytes:
    """Without what would look like the start of another unit."""
    out = bytearray()
    for byte in body:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def ivf(codec: bytes, width: int, height: int, frames: list[bytes]) -> bytes:
    head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, codec, width, height, 25, 1, len(frames), 0)
    return head + b"".join(struct.pack("<IQ", len(frame), i) + frame for i, frame in enumerate(frames))


def vp9(width: int, height: int) -> bytes:
    head = Bits().put(0b10, 2).put(0, 2).put(0).put(0).put(1).put(0).put(0x498342, 24).put(1, 3).put(0)
    head.put(width - 1, 16).put(height - 1, 16).put(0).put(0, 4).put(0, 2)
    return head.done() + b"\0" * 200


def av1(width: int, height: int) -> bytes:
    sequence = Bits().put(0, 3).put(1).put(1).put(31, 5).put(15, 4).put(15, 4).put(width - 1, 16).put(height - 1, 16)
    sequence.put(0, 16)
    body, frame = sequence.done(), b"\x10" + b"\0" * 100
    return b"\x12\0" + bytes([0x0A, len(body)]) + body + bytes([0x32, len(frame)]) + frame


def gif(width: int, height: int, frames: int = 1) -> bytes:
    one = b"\x21\xf9\x04\0\x0a\0\0\0," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff" + frames * one + b";"


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"acTL", struct.pack(">II", 3, 0))
            + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b""))


def box(content: bytes, kind: bytes) -> int:
    """Where the body of the first such box of an mp4 begins."""
    return content.index(kind) + 4


def changed(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def quicktime(path: Path, chunk: int | None = None) -> bytes:
    """A second of pictures and sound, the sound's samples counted as QuickTime does: by the ticks of its clock; with
    `chunk`, so many in each of its chunks and one in all."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 64
        sound: Any = container.add_stream("adpcm_ima_qt", rate=44100, layout="mono")
        for start in range(0, 44100, 64):
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 64), np.int16), "s16p", "mono")
            tone.sample_rate, tone.pts = 44100, start
            container.mux(sound.encode(tone))
        for _ in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux([*video.encode(None), *sound.encode(None)])
    content = path.read_bytes()
    track = content.rindex(b"trak")
    head, out = content[:track], content[track:]
    count = struct.unpack_from(">I", out, box(out, b"stsz") + 8)[0] * 64
    out = changed(out, box(out, b"stsz") + 4, struct.pack(">II", 1, 1 if chunk else count))
    out = changed(out, box(out, b"stts") + 4, struct.pack(">III", 1, count, 1))
    runs = box(out, b"stsc") + 4
    for i in range(struct.unpack_from(">I", out, runs)[0]):
        at = runs + 8 + 12 * i
        packets = struct.unpack_from(">I", out, at)[0]
        out = changed(out, at, struct.pack(">I", chunk or packets * 64))
    return head + out


class Bombs:
    """The files, made of small real ones in a folder where they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        small: dict[str, Any] = {"frames": 5, "size": (64, 48), "options": {"preset": "ultrafast"}}
        read = lambda entry: make(folder, entry).read_bytes()
        self.mp4, self.mkv = read(Entry("small.mp4", **small)), read(Entry("small.mkv", **small))
        self.h264 = read(Entry("small.h264", **small))
        self.jpeg = read(Entry("small.avi", "mjpeg", "yuvj420p", frames=3))
        self.png = read(Entry("small.mov", "png", "rgba", frames=3))

    def files(self) -> dict[str, Callable[[], bytes]]:
        return {
            "huge.gif": lambda: gif(65535, 65535),
            "large.gif": lambda: gif(16000, 16000, 50),
            "large.png": lambda: png(16000, 16000),
            "large.h264": lambda: h264(16000, 16000),
            "large.ivf": lambda: ivf(b"VP90", 64, 64, [vp9(16000, 16000)] * 3),
            "claimed.ivf": lambda: ivf(b"VP90", 65535, 65535, [vp9(65536, 65536)] * 3),
            "large-av1.ivf": lambda: ivf(b"AV01", 64, 64, [av1(16000, 16000)] * 3),
            "growing.h264": lambda: self.h264 + h264(16000, 16000) + self.h264,
            "large-jpeg.avi": self._jpeg,
            "large-png.mov": self._png,
            "many-frames.mp4": self._counts,
            "many-sounds.mov": lambda: quicktime(self.folder / "sound.mov", 1 << 30),
            "deep.mp4": lambda: b"".join(struct.pack(">I4s", 8 * i, b"moov") for i in range(20000, 0, -1)),
            "long-frames.mp4": self._durations,
            "long.mkv": self._duration,
            "wide-track.mp4": lambda: self.mp4.replace(struct.pack(">HH", 64, 48), struct.pack(">HH", 65535, 65535)),
        }

    def _jpeg(self) -> bytes:
        """Height and width of every picture."""
        out = self.jpeg
        at = out.find(b"\xff\xc0")
        while at >= 0:
            out = changed(out, at + 5, struct.pack(">HH", 16000, 16000))
            at = out.find(b"\xff\xc0", at + 1)
        return out

    def _png(self) -> bytes:
        out = self.png
        at = out.find(b"IHDR")
        while at >= 0:
            head = b"IHDR" + struct.pack(">II", 16000, 16000) + out[at + 12 : at + 17]
            out = changed(out, at, head + struct.pack(">I", zlib.crc32(head)))
            at = out.find(b"IHDR", at + 1)
        return out

    def _counts(self) -> bytes:
        """Thirty million frames of one byte each, in one chunk."""
        out, count = self.mp4, struct.pack(">I", 30_000_000)
        out = changed(out, box(out, b"stsz") + 4, struct.pack(">I", 1) + count)
        out = changed(out, box(out, b"stts") + 8, count)
        return changed(out, box(out, b"stsc") + 12, count)

    def _durations(self) -> bytes:
        """Frames of a century each."""
        return changed(self.mp4, box(self.mp4, b"stts") + 12, struct.pack(">I", 0x7FFFFFFF))

    def _duration(self) -> bytes:
        """A header that promises 1e300 milliseconds."""
        return changed(self.mkv, self.mkv.index(b"\x44\x89\x88") + 3, struct.pack(">d", 1e300))


def explode(folder: Path) -> tuple[list[tuple[str, int, dict[str, Any], float]], list[str]]:
    """([(name, bytes, what became of it, seconds)], what must not be)."""
    found, findings, watcher = [], [], Watcher()
    for name, content in Bombs(folder).files().items():
        path = folder / name
        path.write_bytes(content())
        started = time.monotonic()
        seen = watcher.look(path)
        found.append((name, path.stat().st_size, seen, time.monotonic() - started))
        if seen["outcome"] in ("raised", "crashed", "hung") or seen.get("memory", 0) > MOST:
            findings.append(f"{name}: {seen}")
    said = watcher.close()
    return found, findings + ([f"stderr says {said!r}"] if said else [])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found, findings = explode(Path(folder))
    for name, size, seen, seconds in found:
        words = seen["words"].replace(folder + "/", "")
        print(f"{name}: {size} bytes, {seen['outcome']}, {seconds:.2f} s, {seen.get('memory', 0) >> 20} MiB; {words}")
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
