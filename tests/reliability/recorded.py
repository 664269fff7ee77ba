"""Files as camcorders, recorders, muxers and shells write them: `python tests/reliability/recorded.py [FOLDER]`.

Their frames are numbered as those of the corpus, and read as `corpus.py` reads those. FFmpeg 5.1 reads all but animated
WebP as we do; OpenCV 5 does so too, but for covers, small streams, mirrored and field pictures, and animations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from struct import unpack
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import av
import numpy as np
from support.paff import fields
from support.videos import silence

from reliability.corpus import Entry, copy, main, picture

Change = Callable[[Path, Path], None]
_B = {"g": "12", "bf": "2", "preset": "veryfast"}
_STRAIGHT = {"g": "12", "bf": "0", "preset": "veryfast"}
_HEVC = {"preset": "ultrafast", "x265-params": "keyint=12:bframes=2:log-level=none:pools=none:frame-threads=1"}
_MPEG4 = {"b": "1M", "bf": "2", "g": "12"}
_VP8 = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}
_REFRESH = {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=20:bframes=0:repeat-headers=1"}
_SCREEN = [*range(0, 10_000, 1000), *range(10_000, 14_000, 40), *range(14_000, 30_000, 1000)]
"""Milliseconds of a screen recording: a picture a second, and a hundred while something moves."""


def _packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(container.streams.video[0]) if packet.size]


def _write(target: Path, like: Path, packets: Sequence[tuple[bytes, int, int, bool]], base: Fraction,
           last: int = 0) -> None:
    """(content, pts, dts, key) in ticks of `base`, to a stream like that of a file; the last one lasts `last`."""
    with av.open(str(like)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for place, (content, pts, dts, key) in enumerate(packets, 1):
            packet = av.Packet(content)
            packet.pts, packet.dts, packet.time_base, packet.is_keyframe, packet.stream = pts, dts, base, key, stream
            packet.duration = last if last and place == len(packets) else round(1 / 25 / base)
            output.mux(packet)


def _fields(ticks: int) -> Change:
    """Field pictures, `ticks` fiftieths of a second apart: 1 is right, 2 is what takes each for a whole picture."""
    def change(raw: Path, target: Path) -> None:
        luma = [np.ascontiguousarray(picture(i, 160, 96) @ (0.299, 0.587, 0.114)).astype(np.uint8) for i in range(30)]
        coded = fields(luma)
        plain = raw.with_suffix(".h264")
        plain.write_bytes(b"".join(content for content, _ in coded))
        if target.suffix == ".h264":
            plain.rename(target)
            return
        _write(target, plain, [(content, i * ticks, i * ticks, key) for i, (content, key) in enumerate(coded)],
               Fraction(1, 50))
        plain.unlink()
    return change


def _in_order(raw: Path, target: Path) -> None:
    """As a muxer writes them that knows of no other order than that of decoding."""
    _write(target, raw, [(bytes(p), i, i, p.is_keyframe) for i, p in enumerate(_packets(raw))], Fraction(1, 25))


def _lasting(seconds: int) -> Change:
    def change(raw: Path, target: Path) -> None:
        packets = _packets(raw)
        _write(target, raw, [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets], packets[0].time_base,
               round(seconds / packets[0].time_base))
    return change


def _without_start(raw: Path, target: Path) -> None:
    """A stream without key frames, from its 25th picture on."""
    packets = _packets(raw)
    _write(target, raw, [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets[25:]], packets[0].time_base)


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, whole box) of an mp4 file's outermost boxes."""
    found, at = [], 0
    while at < len(content):
        length, kind = unpack(">I4s", content[at : at + 8])
        found.append((kind, content[at : at + length]))
        at += length
    return found


def _middle(raw: Path, target: Path) -> None:
    """The middle fragments of a file of some, as live and surveillance recordings are cut."""
    fragmented = raw.with_suffix(".whole.mp4")
    copy(raw, fragmented, container={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    parts = boxes(fragmented.read_bytes())
    head = [box for kind, box in parts if kind in (b"ftyp", b"moov")]
    target.write_bytes(b"".join(head + [box for kind, box in parts if kind in (b"moof", b"mdat")][2:4]))
    fragmented.unlink()


def _twice(shift: int = 0) -> Change:
    """Two films after each other, as `cat` puts them; the clock of the second one is `shift` seconds later."""
    def change(raw: Path, target: Path) -> None:
        first, second = target.with_suffix(".1" + target.suffix), target.with_suffix(".2" + target.suffix)
        copy(raw, first)
        copy(raw, second, shift=shift)
        target.write_bytes(first.read_bytes() + second.read_bytes())
        first.unlink()
        second.unlink()
    return change


def _beside(*, count: int, size: tuple[int, int], default: bool = False) -> Change:
    """Behind another stream, of some pictures of another size."""
    def change(raw: Path, target: Path) -> None:
        from av.stream import Disposition

        with av.open(str(raw)) as source, av.open(str(target), "w") as output:
            other: Any = output.add_stream("mpeg4", rate=25)
            (other.width, other.height), other.pix_fmt = size, "yuv420p"
            stream = output.add_stream_from_template(source.streams.video[0])
            if target.suffix != ".ts":
                (other if default else stream).disposition = Disposition.default
                (stream if default else other).disposition = Disposition(0)
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(picture(4000 + i, *size), format="rgb24").reformat(format="yuv420p")
                frame.pts = i
                output.mux(other.encode(frame))
            output.mux(other.encode(None))
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    return change


def _after_sound(raw: Path, target: Path) -> None:
    """With sound from the start, and pictures from 3 seconds on."""
    with av.open(str(raw)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        silence(output, output.add_stream("aac", rate=8000, layout="mono"), 5)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts = (t + round(3 / packet.time_base) for t in (packet.pts, packet.dts))
                packet.stream = stream
                output.mux(packet)


def _shown_as(a: int, b: int, c: int, d: int) -> Change:
    """With a display matrix."""
    def change(raw: Path, target: Path) -> None:
        with av.open(str(raw)) as source, av.open(str(target), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            stream.set_display_matrix([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    return change


def _by_way_of_matroska(raw: Path, target: Path) -> None:
    """Its ticks of a millisecond stay, though VP8 in Ogg has a tick a picture."""
    between = target.with_suffix(".mkv")
    copy(raw, between)
    copy(between, target)
    between.unlink()


def _pillow(duration: Sequence[int] | int = 100, **how: Any) -> Change:
    def change(raw: Path, target: Path) -> None:
        from PIL import Image

        images = [Image.fromarray(picture(i, 160, 96)) for i in range(30)]
        images[0].save(target, save_all=True, append_images=images[1:], duration=duration, **how)
    return change


def _appended(content: bytes, cut: int = 0) -> Change:
    def change(raw: Path, target: Path) -> None:
        copy(raw, target)
        whole = target.read_bytes() if raw.suffix != ".gif" else raw.read_bytes()
        target.write_bytes(whole[: len(whole) - cut] + content)
    return change


MATRICES = {"upright": (1, 0, 0, 1), "mirrored": (-1, 0, 0, 1), "upside-down": (1, 0, 0, -1), "half": (-1, 0, 0, -1),
            "exchanged": (0, 1, 1, 0), "right": (0, 1, -1, 0), "left": (0, -1, 1, 0), "crossed": (0, -1, -1, 0)}
"""a, b, c, d of the eight orientations: a pixel at x, y is shown at a x + c y, b x + d y."""

TWO_FILMS, JUMP, CUT = "holds 2 films", "clock that jumps 1 time", "begins in the middle"

RECORDED = (
    *(Entry(f"fields.{end}", change=_fields(1), colour=False) for end in ("ts", "m2ts", "mkv", "mp4", "h264")),
    *(Entry(f"fields-as-frames.{end}", change=_fields(2), colour=False) for end in ("ts", "mkv", "mp4")),
    *(Entry(f"in-order.{end}", options=_B, change=_in_order) for end in ("mkv", "mp4", "ts", "flv")),
    *(Entry(f"in-order-hevc.{end}", "libx265", options=_HEVC, change=_in_order) for end in ("mkv", "mp4", "ts")),
    Entry("in-order-mpeg4.mp4", "mpeg4", options=_MPEG4, change=_in_order),
    *(Entry(f"no-key-frame.{end}", options=_REFRESH, change=_without_start, frames=100, shown=range(48, 100),
            start=0.92, note=CUT) for end in ("mkv", "ts")),
    Entry("from-the-middle.mp4", options=_B, change=_middle, shown=range(12, 24)),
    *(Entry(f"last-for-a-minute.{end}", options=_STRAIGHT, change=_lasting(60)) for end in ("mp4", "mkv", "mov")),
    Entry("still-at-the-end.avi", "mpeg4", options={"b": "1M"}, stamps=[*range(0, 1160, 40), 4000]),
    Entry("dropped.avi", "mpeg4", options={"b": "1M"}, stamps=[*range(0, 600, 40), *range(2600, 3200, 40)]),
    *(Entry(f"cover-first.{end}", options=_B, change=_beside(count=1, size=(320, 240)))
      for end in ("mp4", "mkv", "ts")),
    Entry("cover-by-default.mp4", options=_B, change=_beside(count=1, size=(320, 240), default=True)),
    *(Entry(f"small-first.{end}", options=_B, change=_beside(count=30, size=(64, 48)), note=TWO_FILMS)
      for end in ("mp4", "mkv", "ts")),
    Entry("slides-first.mp4", options=_B, change=_beside(count=3, size=(320, 240)), note=TWO_FILMS),
    *(Entry(f"cat.{end}", "mpeg2video", options={"b": "1M"}, change=_twice(), shown=[*range(30)] * 2, note=JUMP)
      for end in ("ts", "mpg", "vob")),
    *(Entry(f"cat-h264.{end}", options=_B, change=_twice(), shown=[*range(30)] * 2, note=JUMP)
      for end in ("ts", "m2ts", "mkv")),
    Entry("cat.mxf", "mpeg2video", options={"b": "1M", "bf": "2"}, change=_twice(), shown=[*range(30)] * 2, note=JUMP),
    Entry("cat.ogv", "libvpx", options=_VP8, change=_twice(), shown=[*range(30)] * 2, note=JUMP),
    Entry("vp8-from-mkv.ogv", "libvpx", options=_VP8, change=_by_way_of_matroska),
    Entry("cat-an-hour-later.ts", options=_B, change=_twice(3600), shown=[*range(30)] * 2, note=JUMP),
    *(Entry(f"after-sound.{end}", options=_B, change=_after_sound, start=3.128 if end == "ts" else 3.0)  # silence first
      for end in ("mp4", "mkv", "ts", "mov")),
    *(Entry(f"screen.{end}", options=_STRAIGHT, frames=len(_SCREEN), stamps=_SCREEN) for end in ("mkv", "mp4", "ts")),
    *(Entry(f"oriented-{name}.{end}", options=_B, frames=5, change=_shown_as(*matrix), matrix=matrix)
      for name, matrix in MATRICES.items() for end in ("mp4", "mkv")),
    Entry("animated.webp", rate=10, change=_pillow()),
    Entry("animated-lossless.webp", rate=10, change=_pillow(lossless=True)),
    Entry("animated.apng", rate=10, change=_pillow(format="png")),
    *(Entry(f"rate-of-its-own.{end}", codec, options=options, rate=10)
      for end, codec, options in (("h264", "libx264", _B), ("hevc", "libx265", _HEVC))),
    Entry("vc2.drc", "vc2", "yuv422p", {"b": "5M", "strict": "experimental"}, rate=10),
    Entry("marked.flm", "rawvideo", "rgba", format="filmstrip"),
    Entry("marked.mjpg", "mjpeg", "yuvj420p", format="smjpeg"),
    Entry("hurried.gif", "gif", "rgb8", rate=10, change=_pillow(10)),
    Entry("hurried-by-half.gif", "gif", "rgb8", change=_pillow([10, 10, 20] * 10), stamps=[
        i // 3 * 220 + i % 3 * 100 for i in range(30)]),
    Entry("no-trailer.gif", "gif", "rgb8", rate=10, change=_appended(b"", cut=1)),
    Entry("more-after-the-end.gif", "gif", "rgb8", rate=10, change=_appended(b"made by a program" * 100)),
    *(Entry(f"more-after-the-end.{end}", options=_B, change=_appended(bytes(1000))) for end in ("mp4", "mkv", "ts")),
)


if __name__ == "__main__":
    sys.exit(main(RECORDED, sys.argv[1] if len(sys.argv) > 1 else None))
