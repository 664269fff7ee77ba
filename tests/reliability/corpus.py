"""Every kind of video there is an encoder for, its frames numbered: `python tests/reliability/corpus.py [FOLDER]`.

Writes each file (to a temporary folder unless one is named) and reads it as `v2l ingest` does. Each picture says which
one it is, where up and left are, and what yellow and blue are; its time is held against the one it was written with.
Exit status 1 if one differs.

What no encoder in PyAV's wheel writes is not here: VVC, Theora, RealVideo 3 and 4, VC-1, Indeo, VP6, Bink, VP9 of 10
bits. What camcorders, recorders and shells make of videos is in `recorded.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from v2l.config import Sampling
from v2l.errors import V2LError
from v2l.video.clip import open_clip

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder's own variable

BITS = 12
ALL = Sampling(frames=100_000, fps=1000, skip=0)

# -- the picture -----------------------------------------------------------------------------------------------------


def picture(index: int, width: int, height: int) -> np.ndarray:
    """The picture of frame `index` (0 to 4095), RGB [height, width, 3]: on top its bits, the highest on the left; in
    the middle a pattern that moves; below a yellow and a blue half, which tell colours and where up and left are. One
    pixel high, only the bits."""
    image = np.zeros((height, width, 3), np.uint8)
    third = max(1, height // 3)
    bits = np.array([index >> bit & 1 for bit in reversed(range(BITS))], np.uint8)
    image[:third] = 255 * bits[np.arange(width) * BITS // width, None]
    x, y = np.meshgrid(np.arange(width), np.arange(third))
    waves = 128 + 60 * np.sin((x + 3 * index) / 7) * np.cos((y - index) / 5)
    image[third : 2 * third] = waves[: height - third, :, None]
    image[2 * third :, : width // 2] = 255, 255, 0
    image[2 * third :, width // 2 :] = 0, 0, 255
    return image


def reading(image: np.ndarray, colour: bool = True) -> int:
    """Which frame a picture made by `picture` is; -1 if it does not stand upright or its colours are wrong."""
    height, width = image.shape[:2]
    number, top = 0, image[height // 12 : max(1, height // 4)]
    for place in range(BITS):
        left, right = ((4 * place + k) * width // (4 * BITS) for k in (1, 3))
        number = 2 * number + bool(top[:, left : right + 1].mean() > 128)
    if height == 1:
        return number
    row = image[height * 5 // 6].astype(int)
    yellow, blue = row[width // 8 : width * 3 // 8].mean(axis=0), row[width * 5 // 8 : width * 7 // 8].mean(axis=0)
    if yellow.mean() - blue.mean() < 50 or (colour and (yellow[0] - yellow[2] < 100 or blue[2] - blue[0] < 100)):
        return -1
    return number


# -- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A file of the corpus."""

    name: str
    codec: str = "libx264"
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    frames: int = 30
    rate: Fraction | int = 25
    size: tuple[int, int] = (160, 96)
    stamps: Sequence[int] | None = None
    """Milliseconds of each frame, where the rate varies."""
    colour: bool = True
    change: Callable[[Path, Path], None] | None = None
    """What is made of the encoded file."""
    shown: Sequence[int] | None = None
    """Which frames there are after it; None for all."""
    displayed: tuple[int, int] | None = None
    """Width and height as a player shows it, where its pixels are not square."""
    start: float = 0.0
    """Seconds from the file's start at which its pictures begin."""
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)
    """a, b, c, d: what is stored at x, y is shown at a x + c y, b x + d y."""
    note: str = ""
    """Words of the note that comes with it."""

    @property
    def numbers(self) -> list[int]:
        return list(range(self.frames) if self.shown is None else self.shown)

    def shown_at(self, place: int) -> float:
        """When the frame at a place is shown, seconds from the file's start."""
        return self.start + (self.stamps[place] / 1000 if self.stamps else float(place / Fraction(self.rate)))


def can_write(entry: Entry) -> bool:
    """Whether this PyAV has the encoder, and can add covers and rotations if it has to."""
    if entry.change and int(av.__version__.split(".")[0]) < 18:
        return False
    try:
        return bool(av.Codec(entry.codec, "w"))
    except av.codec.codec.UnknownCodecError:
        return False


def make(folder: Path, entry: Entry) -> Path:
    """The file of an entry, written when it is first asked for."""
    path = folder / entry.name
    if not path.exists():
        ending = {"gif": "gif", "libvpx": "ogv"}.get(entry.codec, "mp4")
        raw = folder / f"before {entry.name}.{ending}" if entry.change else path
        _encode(raw, entry)
        if entry.change:
            entry.change(raw, path)
            raw.unlink()
    return path


def _encode(path: Path, entry: Entry) -> None:
    base = Fraction(1, 1000) if entry.stamps else 1 / Fraction(entry.rate)
    with av.open(f"file:{path}", "w", format=entry.format, options=entry.container) as output:
        stream: Any = output.add_stream(entry.codec, rate=entry.rate, options=entry.options)
        (stream.width, stream.height), stream.pix_fmt = entry.size, entry.pixels
        stream.codec_context.time_base = base
        for number in range(entry.frames):
            rgb = av.VideoFrame.from_ndarray(picture(number, *entry.size), format="rgb24")
            frame = rgb if entry.pixels == "rgb24" else rgb.reformat(format=entry.pixels)
            frame.pts, frame.time_base = entry.stamps[number] if entry.stamps else number, base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def copy(source: Path, target: Path, *, shift: Fraction | int = 0, rotation: int = 0, again: bool = False,
         cover: bool = False, container: dict[str, str] | None = None) -> None:
    """Copies the packets of a video: later by `shift` seconds, with a rotation (degrees), with a second video track
    after it that is the same but for a frame (`again`), or beside a cover picture (`cover`)."""
    with av.open(f"file:{source}") as whole, av.open(f"file:{target}", "w", options=container or {}) as output:
        track = whole.streams.video[0]
        front = _cover(output) if cover else []  # before the video where the container allows it
        stream = output.add_stream_from_template(track)
        if rotation:
            stream.set_display_rotation(rotation)
        others = [output.add_stream_from_template(track)] if again else []
        output.start_encoding()
        output.mux(front)
        for place, packet in enumerate(p for p in whole.demux(track) if p.size):
            for each in [stream, *others]:
                if each is stream or place:
                    output.mux(_moved(packet, each, shift))


def _moved(packet: Any, stream: Any, shift: Fraction | int) -> Any:
    copy = av.Packet(bytes(packet))
    ticks = int(shift / packet.time_base)
    copy.pts, copy.dts = packet.pts + ticks, packet.dts + ticks
    copy.duration, copy.time_base, copy.is_keyframe = packet.duration, packet.time_base, packet.is_keyframe
    copy.stream = stream
    return copy


def _cover(output: Any) -> list[Any]:
    """Packets of a cover picture, on a track of its own; Matroska has it as an attachment."""
    from av.stream import Disposition

    if output.format.name == "matroska":
        output.add_attachment("cover.png", "image/png", _png())
        return []
    stream = output.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    return [*stream.encode(frame), *stream.encode(None)]


def _png() -> bytes:
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _changed(**how: Any) -> Callable[[Path, Path], None]:
    return lambda source, target: copy(source, target, **how)


_B = {"g": "12", "bf": "2", "preset": "veryfast"}
_HEVC = {"preset": "ultrafast",
         "x265-params": "keyint=12:min-keyint=12:bframes=2:log-level=none:pools=none:frame-threads=1"}
_VP9 = {"g": "12", "deadline": "realtime", "cpu-used": "8", "threads": "1"}
_AV1 = {"preset": "12", "crf": "10", "g": "12", "svtav1-params": "lp=1"}
_JERKY = [0, 33, 40, 350, 383, 1400, 1433, 1466, 1500, 2900, 2933, 4100]
_FAST = {"preset": "ultrafast"}

ENTRIES = (
    # codecs in containers
    *(Entry(f"h264.{end}", options=_B)
      for end in ("mp4", "mkv", "mov", "avi", "ts", "m2ts", "flv", "3gp", "nut", "h264")),
    *(Entry(f"hevc.{end}", "libx265", options=_HEVC) for end in ("mp4", "mkv", "mov", "ts", "hevc")),
    *(Entry(f"hevc10.{end}", "libx265", "yuv420p10le", _HEVC) for end in ("mp4", "mkv")),
    Entry("h264-10.mp4", pixels="yuv420p10le", options=_B),
    *(Entry(f"vp9.{end}", "libvpx-vp9", options=_VP9) for end in ("webm", "mkv", "mp4")),
    *(Entry(f"av1.{end}", "libsvtav1", options=_AV1) for end in ("webm", "mkv", "mp4", "ivf")),
    Entry("av1-10.mkv", "libsvtav1", "yuv420p10le", _AV1),
    *(Entry(f"mpeg4.{end}", "mpeg4", options={"b": "1M", "bf": "2"}) for end in ("avi", "mp4", "mkv", "mov", "3gp")),
    *(Entry(f"mjpeg.{end}", "mjpeg", "yuvj420p") for end in ("avi", "mov", "mkv", "mp4", "mjpeg")),
    Entry("vp8.webm", "libvpx", options={"deadline": "realtime", "cpu-used": "8", "threads": "1"}),
    *(Entry(f"mpeg2.{end}", "mpeg2video", options={"b": "1M"}) for end in ("ts", "mpg", "vob", "mkv", "mxf")),
    Entry("mpeg1.mpg", "mpeg1video", options={"b": "1M"}),
    Entry("wmv2.wmv", "wmv2", options={"b": "1M"}),
    Entry("wmv2.asf", "wmv2", options={"b": "1M"}),
    Entry("sorenson.flv", "flv", options={"b": "1M"}),
    Entry("h263.3gp", "h263", size=(176, 144), options={"b": "1M"}, displayed=(192, 144)),
    Entry("prores.mov", "prores_ks", "yuv422p10le"),
    Entry("animation.mov", "qtrle", "rgb24"),
    Entry("raw.avi", "rawvideo", "bgr24"),
    Entry("raw.y4m", "wrapped_avframe"),
    Entry("huffyuv.avi", "huffyuv", "yuv422p"),
    Entry("moving.gif", "gif", "rgb8", rate=10),
    Entry("moving.png", "apng", "rgb24", format="apng", rate=10),
    # no count, no index, or at the end
    Entry("fragments.mp4", options=_B, container={"movflags": "frag_keyframe+empty_moov"}),
    Entry("index-first.mp4", options=_B, container={"movflags": "faststart"}),
    Entry("live.mkv", options=_B, container={"live": "1"}),
    Entry("live.webm", "libvpx-vp9", options=_VP9, container={"live": "1"}),
    # few frames, odd shapes
    *(Entry(f"{count}.{end}", codec, pixels, frames=count, rate=10) for count in (1, 2) for end, codec, pixels in (
        ("mp4", "libx264", "yuv420p"), ("mkv", "libx264", "yuv420p"), ("webm", "libvpx-vp9", "yuv420p"),
        ("gif", "gif", "rgb8"), ("avi", "mjpeg", "yuvj420p"))),
    # Larger: of a TS below 3 kB FFmpeg thinks it is MPEG video without a container.
    *(Entry(f"{count}.ts", "mpeg2video", frames=count, size=(480, 288)) for count in (1, 2)),
    Entry("line.mkv", "ffv1", "bgr0", size=(160, 1)),
    Entry("line.gif", "gif", "gray", size=(160, 1), rate=10),
    Entry("line.mp4", pixels="yuv444p", size=(160, 1), options=_FAST),
    Entry("wide.mp4", size=(7680, 48), frames=6, options=_FAST),
    Entry("wide.webm", "libvpx-vp9", size=(7680, 48), frames=4, options=_VP9),
    Entry("8k.mp4", size=(7680, 4320), frames=2, options=_FAST),
    Entry("tall.mp4", size=(48, 4320), frames=4, options=_FAST),
    Entry("odd.mp4", pixels="yuv444p", size=(97, 65), options=_FAST),
    Entry("odd.webm", "libvpx-vp9", size=(97, 65), options=_VP9),
    Entry("odd.avi", "mjpeg", "yuvj420p", size=(97, 65)),
    Entry("odd.gif", "gif", "rgb8", size=(97, 65), rate=10),
    # colours
    Entry("grey.mp4", pixels="gray", options=_B, colour=False),
    Entry("grey.mkv", "ffv1", "gray", colour=False),
    Entry("grey16.mkv", "ffv1", "gray16le", colour=False),
    Entry("alpha.mkv", "ffv1", "yuva420p"),
    Entry("alpha.mov", "qtrle", "argb"),
    Entry("alpha-png.mov", "png", "rgba"),
    Entry("alpha-prores.mov", "prores_ks", "yuva444p10le"),
    Entry("alpha.webm", "libvpx-vp9", "yuva420p", _VP9),
    Entry("444.mp4", pixels="yuv444p", options=_B),
    Entry("444.mkv", "libx265", "yuv444p", _HEVC),
    Entry("444.webm", "libvpx-vp9", "yuv444p", _VP9),
    Entry("rgb.mp4", "libx264rgb", "rgb24", _FAST),
    Entry("full-range.mp4", pixels="yuvj420p", options=_B),
    # rates and times
    Entry("120.mp4", rate=120, frames=60, options=_B),
    Entry("fraction.mkv", rate=Fraction(30000, 1001), options=_B),
    *(Entry(f"slow.{end}", rate=Fraction(1, 5), frames=12, options=_FAST) for end in ("mp4", "mkv", "ts")),
    Entry("slow.webm", "libvpx-vp9", rate=Fraction(1, 5), frames=12, options=_VP9),
    *(Entry(f"hour.{end}", rate=1, frames=3600, size=(64, 36), options=_FAST) for end in ("mp4", "mkv")),
    *(Entry(f"jerky.{end}", frames=12, stamps=_JERKY, options=_B) for end in ("mp4", "mkv", "ts", "mov")),
    Entry("jerky.webm", "libvpx-vp9", frames=12, stamps=_JERKY, options=_VP9),
    *(Entry(f"late.{end}", options=_B, change=_changed(shift=10)) for end in ("mp4", "mkv", "ts", "flv")),
    Entry("cut-in.mp4", options=_B, change=_changed(shift=Fraction(-2, 5)), shown=range(10, 30)),
    # several tracks, rotations
    *(Entry(f"two-tracks.{end}", options=_B, change=_changed(again=True), note="holds 2 films")
      for end in ("mp4", "mkv", "ts")),
    *(Entry(f"cover.{end}", options=_B, change=_changed(cover=True)) for end in ("mp4", "mkv")),
    *(Entry(f"turned-{degrees}.{end}", options=_B, change=_changed(rotation=degrees))
      for degrees in (90, 180, 270) for end in ("mp4", "mov", "mkv")),
)

NAMES = ("with spaces.mp4", "two\nlines.mp4", "emoji \N{CLAPPER BOARD}.mp4", "-leading.mp4", "--help.mp4", "%03d.mp4",
         "concat:a|b.mp4", "http:example.mp4", "quote'\"$(x).mp4", "\x1b[31mred.mp4", "n" * 251 + ".mp4", "no ending",
         ".hidden.mp4", os.fsdecode(b"old \xff\xfe.mp4"))
"""Names that a video may have on a Unix; the last one is not UTF-8."""


def faults(path: Path, entry: Entry) -> list[str]:
    """How the frames that `open_clip` gives of a file differ from those that were written; empty if they are right."""
    turned = ("turned" in entry.name and not entry.name.startswith("turned-180")) or not entry.matrix[0]
    found, numbers = [], entry.numbers
    for sampling in (Sampling(), ALL):
        try:
            clip = open_clip(path, sampling)
            frames = [(frame.index, frame.time, _upright(frame.image, entry)) for frame in clip.frames()]
        except V2LError as error:
            return [f"refused: {error}"]
        if clip.info.frames != len(numbers):
            found.append(f"{clip.info.frames} frames instead of {len(numbers)}")
            continue
        size = entry.displayed or (entry.size[::-1] if turned else entry.size)
        if (clip.info.width, clip.info.height) != size:
            found.append(f"{clip.info.width} x {clip.info.height} instead of {size}")
        for index, time, number in frames:
            if number != numbers[index]:
                found.append(f"frame {index} shows {number} instead of {numbers[index]}")
            if abs(time - entry.shown_at(index)) > 0.006:
                found.append(f"frame {index} is shown at {time:.4f} s")
        if sampling is ALL and len(frames) != len(numbers):
            found.append(f"{len(frames)} of {len(numbers)} frames came")
        found += [f"a warning: {note}" for note in clip.warnings if not entry.note or entry.note not in note]
        if entry.note and not clip.warnings:
            found.append(f"no note of what {entry.note}")
    return found


def _upright(image: np.ndarray, entry: Entry) -> int:
    """What a picture says, turned back as it was written."""
    if entry.name.startswith("turned-"):  # written lying, as a phone does
        image = np.rot90(image, -int(entry.name[7:].split(".")[0]) // 90)
    y, x = np.mgrid[: entry.size[1], : entry.size[0]]
    a, b, c, d = entry.matrix
    if entry.matrix != (1, 0, 0, 1):
        x, y = a * x + c * y, b * x + d * y
        image = image[y - y.min(), x - x.min()]
    return reading(image, entry.colour)


def main(entries: Iterable[Entry], folder: str | None) -> int:
    """Reads every entry, in a folder that stays if one is named; the exit status."""
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return main(entries, temporary)
    Path(folder).mkdir(parents=True, exist_ok=True)
    bad = checked = 0
    for entry in entries:
        if not can_write(entry):
            print(f"{entry.name}: this PyAV cannot write it")
            continue
        checked += 1
        if found := faults(make(Path(folder), entry), entry):
            bad += 1
            print(f"{entry.name}: {'; '.join(found[:4])}")
    print(f"{checked} files, {bad} with faults")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(ENTRIES, sys.argv[1] if len(sys.argv) > 1 else None))
