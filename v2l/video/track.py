"""What a video file holds: which of its streams is the film, how many pictures there are, and when each is shown.

Times count from the file's start, as a player shows them. `packets` tells them, and `pictures` where packets do not.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from struct import error as StructError
from struct import unpack
from typing import Any

from v2l.config import LARGEST_PICTURE, MOST_FRAMES
from v2l.errors import VideoError
from v2l.video.container import AVI, FLV, MATROSKA, MP4, decoder_version, open_container, unknown_matrix
from v2l.video.crop import UNCROPPED, Crop, crop_of
from v2l.video.holes import has_hole
from v2l.video.kinds import TEXT, check_file, other_kind
from v2l.video.packets import StreamPackets, read_packets
from v2l.video.pictures import Pictures, are_a_film, look
from v2l.video.source import ANIMATION, animation
from v2l.video.streams import choose_stream
from v2l.video.structure import is_encrypted
from v2l.video.whole import check_whole, frames_said
from v2l.wording import count_of, duration_text, time_text

_PLAYLISTS = ("hls", "concat", "dash", "sdp", "rtsp", "rtp", "imf")
"""Formats that read other files than the one given."""
_RAW = ("dirac", "h264", "hevc", "vvc")
"""Formats of nothing but pictures that may say themselves how many there are a second; FFmpeg says 25 for all."""
_HDR = (16, 18)
"""Transfer functions of PQ (SMPTE 2084) and HLG (ARIB B67)."""
_LATER = 0.5
"""Seconds after the file's start from which on pictures begin noticeably later."""
_UNEVEN = 0.25
"""Seconds by which a picture may be away from where it would be if all were shown equally long, at a constant rate."""
_STILL = 300.0
"""Seconds for which one picture is shown that are worth a word."""
_SQUARE = 0.01
"""How far from square pixels may be and count as square: 1088 lines for 1080 are no shape that was meant."""


@dataclass(frozen=True)
class Track:
    """The video stream of a file that is looked at; frames are counted in the order they are shown."""

    name: str
    """The path as the user gave it."""
    path: str
    """Absolute, so that no name can mean an option, an address or a device to a decoder."""
    fps: float
    width: int
    """Pixels as displayed: after rotation, with square pixels."""
    height: int
    times: array[float]
    """When each frame is shown, seconds from the file's start, ascending."""
    pts: array[int]
    """The same in the file's own ticks; empty where packets carry none."""
    timed: bool
    """Whether a decoded frame is known by its ticks."""
    begin: int | None
    """Ticks of the first packet that can be decoded, where that is told: what earlier ones need was cut off."""
    keys: tuple[int, ...]
    """Frames a decoder can start at; empty where seeking is not to be trusted."""
    hdr: bool
    stream: int
    """Index of the stream in the file."""
    orientation: tuple[bool, bool, bool] = (False, False, False)
    """How pictures are shown: with x and y exchanged, then mirrored left to right, then upside down."""
    coded: tuple[int, int] = (0, 0)
    """Width and height of the pictures as they are stored."""
    crop: Crop = UNCROPPED
    """What of them is not shown."""
    varies: bool = False
    """Whether the rate varies so much that frames are to be taken by their times, not by their numbers."""
    decoder: str = ""
    """What decodes it, and which version of it."""
    notes: tuple[str, ...] = ()
    """What a user should know: sentences."""

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def start(self) -> float:
        """When its pictures begin, seconds from the file's start; 0 where that is not noticeably later."""
        return self.times[0]

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height with square pixels, before `orientation`."""
        return (self.height, self.width) if self.orientation[0] else (self.width, self.height)

    def key_before(self, index: int) -> int:
        """The last key frame at or before `index`; 0 if there is none."""
        place = bisect_right(self.keys, index)
        return self.keys[place - 1] if place else 0


def read_track(path: Path, stream: int | None = None) -> Track:
    """Reads a video file's packets and its first pictures; `stream` is the one to take, else the film is told.

    Errors: `VideoError` for what is missing, unreadable, not a video, without frames, or truncated.
    """
    check_file(path)
    import av

    try:
        with open_container(os.path.abspath(path)) as container:
            return _read(container, path, stream)
    except (av.FFmpegError, ValueError, UnicodeError, MemoryError) as error:
        _refuse_encrypted(path)
        known = other_kind(path) or "is not a video that can be read, or it is truncated"
        raise VideoError(f"{path} {known}.") from error


def _refuse_encrypted(path: Path) -> None:
    if is_encrypted(path):
        raise VideoError(f"{path} is encrypted, and v2l has no keys; get it without encryption.")


def _read(container: Any, path: Path, wanted: int | None) -> Track:
    format = container.format.name
    if format in _PLAYLISTS:
        raise VideoError(f"{path} {other_kind(path) or 'is a playlist, not a video; give the video files themselves'}.")
    if format == "tty":  # any text, which FFmpeg would draw
        raise VideoError(f"{path} {other_kind(path) or TEXT}.")
    if not container.streams.video and (known := other_kind(path)) not in ("", TEXT):  # FFmpeg reads such as subtitles
        raise VideoError(f"{path} {known}.")
    if format == "webp_pipe" and (track := _animation(path)):
        return track
    if format == "image2":
        raise VideoError(f"{path} is a picture, not a video.")
    contents = read_packets(container, path)
    packets, notes = choose_stream(container, contents.streams, wanted, path)
    if (format.endswith("_pipe") or format == "mjpeg") and not are_a_film(packets):
        raise VideoError(f"{path} is a picture, not a video.")
    if packets.encrypted:
        _refuse_encrypted(path)
    _check_codec(packets.stream.codec_context, path)
    notes += check_whole(container, packets, contents, path)
    if has_hole(path, format, contents.passed_over, contents.read_to):
        behind = "come too early" if format == "avi" else "may look wrong"
        notes.append(f"{path} is damaged within, and pictures are lost there; those behind {behind}. Copy or "
                     "download it again.")
    pictures = look(packets, format, os.path.abspath(path), str(path))
    if pictures.first is None or not (packets.count or pictures.pts):
        _refuse_encrypted(path)
        raise VideoError(f"{path} {other_kind(path) or 'holds no frame that can be decoded'}.")
    return _track(container, packets, pictures, notes, path)


def _check_codec(context: Any, path: Path) -> None:
    if context is None:
        _refuse_encrypted(path)
        raise VideoError(f"{path} is coded in a way that cannot be decoded; convert it, to H.264 for example.")
    if context.width * context.height > LARGEST_PICTURE:
        raise VideoError(f"{path} says its pictures are {context.width} x {context.height} pixels; make them smaller, "
                         f"{LARGEST_PICTURE // 1_000_000} million at most.")


def _track(container: Any, packets: StreamPackets, pictures: Pictures, notes: list[str], path: Path) -> Track:
    stream, format, first = packets.stream, container.format.name, pictures.first
    shown = _shown(packets, pictures, format)
    pts, count = shown.pts, shown.count
    if shown.missing:
        cut = count_of(shown.missing, "picture")
        notes.append(f"{path} begins in the middle of a film, whose key frame is missing; {cut} cannot be shown.")
    if shown.lost:
        notes.append(f"{path} breaks off within a picture, or is damaged; {count_of(shown.lost, 'picture')} cannot be "
                     "shown.")
    tick, start = float(stream.time_base), _start(container, stream, pts)
    last = _last_duration(container, stream, pts, shown.last)
    paired = pictures.interlaced and 2 * count <= packets.count + 1  # then pictures a second, by what is coded itself
    itself = stream.codec_context.framerate if paired or format in _RAW else None
    said = float(itself or stream.average_rate or 0)
    said = said if math.isfinite(said) and said > 0 else 0.0
    length = (pts[-1] - pts[0] + last) * tick if len(pts) > 1 else 0.0
    real = count / length if length > 0 else said
    if said and paired and abs(2 * real / said - 1) <= 0.01 + 1 / count:
        tick, length, real = tick / 2, length / 2, 2 * real  # field pictures, stamped as if each were a whole one
    # One frame of slack: the last one's duration is a guess in some containers.
    fps = said if said and (not real or abs(said / real - 1) <= 0.01 + 1 / count) else real or 25.0
    times = array("d", (start + (p - pts[0]) * tick for p in pts) if pts else (start + i / fps for i in range(count)))
    uneven = is_uneven(times, length)
    if uneven:
        fps = count / length
    if matrix := unknown_matrix(first):
        notes.append(f"{path} says its colours are coded as {matrix}, which FFmpeg does not convert; they are read as "
                     "others are, and may look wrong.")
    notes += _notes_on_time(packets, times, start + length, path)
    keys: tuple[int, ...] = ()
    if shown.indexed and not packets.clock.jumps and format in (MP4, MATROSKA):  # their index leads to key frames
        keys = tuple(bisect_left(pts, p) for p in sorted(packets.key_pts))
    orientation = orientation_of(first)
    crop = crop_of(path, format, container.streams.video.index(stream), (first.width, first.height))
    width, height = square_size(first.width - crop[0] - crop[2], first.height - crop[1] - crop[3],
                                stream.sample_aspect_ratio)
    if orientation[0]:
        width, height = height, width
    return Track(str(path), os.path.abspath(path), fps, width, height, times, pts, shown.timed, shown.begin, keys,
                 stream.codec_context.color_trc in _HDR, stream.index, orientation, (first.width, first.height), crop,
                 uneven, decoder_version(), tuple(notes))


@dataclass(frozen=True)
class _Shown:
    """The pictures of a stream, as its packets tell or as they were counted."""

    pts: array[int]
    """Presentation time of each picture, ascending; empty where they have no times."""
    count: int
    last: int
    """Ticks for which the last one is shown; 0 where that is not known."""
    timed: bool
    """Whether a decoded picture is known by its ticks."""
    begin: int | None
    """Ticks of the first packet that can be decoded."""
    indexed: bool
    """Whether packets are pictures, so that the file's index is one of pictures."""
    missing: int = 0
    """Packets before the first picture that can be shown."""
    lost: int = 0
    """Packets behind it that become no picture."""


def _shown(packets: StreamPackets, pictures: Pictures, format: str) -> _Shown:
    pts = array("q") if packets.unstamped else array("q", sorted(packets.pts))
    # AVI keeps no times; those of its packets are guessed, in the order they are decoded in.
    times = format != AVI
    timed = times and bool(pts) and all(a < b for a, b in pairwise(pts))
    ordered, begin = pictures.ordered(), pts[0] if times and pts else None
    if pictures.pts is None or (timed and ordered == pts):
        return _Shown(pts, packets.count, packets.last_duration, timed, begin, indexed=timed)
    count = len(pictures.pts)
    missing, lost = bisect_left(pts, ordered[0]) + packets.early if ordered and times else 0, 0
    if packets.unstamped and not pictures.interlaced:
        lost = max(0, packets.count - count)
        if pictures.late:
            missing, lost = lost, 0
    counted = array("q", sorted({p for p in pictures.pts if p is not None}))
    if len(counted) != count:
        counted = array("q")
    last = packets.last_duration if count + missing + lost >= packets.count else 0  # else of a field
    return _Shown(counted, count, last, times and bool(ordered), begin, False, missing, lost)


def _start(container: Any, stream: Any, pts: array[int]) -> float:
    """When the pictures begin, seconds from the file's start: 0 where that is not noticeably later."""
    if not pts or container.start_time is None:
        return 0.0
    later = float(pts[0] * stream.time_base) - container.start_time / 1e6
    return later if later >= _LATER else 0.0


def _last_duration(container: Any, stream: Any, pts: array[int], known: int) -> float:
    """Ticks for which the last picture is shown: until the file's end, where a header tells that of this stream."""
    if len(pts) < 2:
        return known
    last = known or (pts[-1] - pts[0]) / (len(pts) - 1)
    if container.format.name == AVI:  # whose packets last a tick each, of which there may be two a picture
        last = max(last, min(b - a for a, b in pairwise(pts)))
    end = None
    if container.format.name == AVI and frames_said(stream) and stream.duration:
        end = (stream.start_time or 0) + stream.duration
    elif container.format.name == MATROSKA and len(container.streams) == 1 and not container.start_time:
        end = round((container.duration or 0) / 1e6 / stream.time_base)
    elif container.format.name == FLV and len(container.streams) == 1 and not known:
        shown = round((container.duration or 0) / 1e6 / stream.time_base) - pts[-1]
        return shown if 0 < shown < last else last
    later = float((end - pts[-1] - last) * stream.time_base) if end else 0.0
    return end - pts[-1] if end and later > _UNEVEN else last


def is_uneven(times: array[float], length: float) -> bool:
    """Whether some picture is noticeably away from where it would be if all were shown equally long."""
    step = length / len(times)
    return length > 0 and any(abs(time - times[0] - i * step) > _UNEVEN for i, time in enumerate(times))


def _notes_on_time(packets: StreamPackets, times: array[float], end: float, path: Path) -> list[str]:
    notes = []
    if jumps := packets.clock.jumps:
        notes.append(f"{path} has a clock that jumps {count_of(jumps, 'time')}, as where films were "
                     "put together; it is watched as one film without gaps.")
    if packets.holes:
        notes.append(f"{path} has lost pictures at {count_of(packets.holes, 'place')}, as where reception failed; "
                     "those behind may look wrong.")
    still, at = max(((b - a, a) for a, b in pairwise([*times, end])), default=(0.0, 0.0))
    if still >= _STILL:
        notes.append(f"{path} shows one picture for {duration_text(still)}, from {time_text(at)} on.")
    return notes


def orientation_of(picture: Any) -> tuple[bool, bool, bool]:
    """(x and y exchanged, then mirrored left to right, then upside down), as a picture's display matrix says; that of
    another angle is taken for the nearest of the eight."""
    try:
        a, b, _, c, d = unpack("=9i", bytes(picture.side_data["DISPLAYMATRIX"]))[:5]
    except (KeyError, ValueError, StructError):
        return False, False, False
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def square_size(width: int, height: int, ratio: Any) -> tuple[int, int]:
    """The size of a picture with square pixels in place of those that are `ratio` times as wide as high."""
    if not ratio or abs(ratio - 1) <= _SQUARE or not 1 / 8 <= ratio <= 8 or width * ratio * height > LARGEST_PICTURE:
        return width, height
    return max(1, round(width * ratio)), height


def _animation(path: Path) -> Track | None:
    """An animated WebP file; None for a still one."""
    from PIL import Image, UnidentifiedImageError
    from PIL import __version__ as version

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) < 2:
                return None
            if image.width * image.height > LARGEST_PICTURE:
                return None
    except (OSError, ValueError, UnidentifiedImageError) as error:
        raise VideoError(f"{path} is truncated or damaged; copy or download it again.") from error
    pts, last, size = array("q"), 0, (0, 0)
    for picture in animation(path):
        if len(pts) == MOST_FRAMES:
            raise VideoError(f"{path} holds more than {MOST_FRAMES} frames; cut it into parts.")
        pts.append(picture.pts)
        last, size = picture.duration, (picture.width, picture.height)
    length = (pts[-1] + last) / 1000
    times = array("d", (p / 1000 for p in pts))
    return Track(str(path), os.path.abspath(path), len(pts) / length, *size, times, pts, True, None, (), False,
                 ANIMATION, coded=size, varies=is_uneven(times, length), decoder=f"Pillow {version}")
