"""What a video file holds, told by reading its packets: how many frames there really are, and when each is shown.

Counts, rates and lengths written in a container's header are promises: a variable-rate mkv says 275 frames and has 80,
a screen recording says 1000 frames a second. Demuxing gives the truth at a few microseconds a packet, without decoding.
"""

from __future__ import annotations

import math
import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from v2l.config import LARGEST_PICTURE, MOST_FRAMES
from v2l.errors import VideoError
from v2l.video.mp4 import overclaims

_MP4, _MATROSKA, _AVI, _FLV = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv"
_PLAYLISTS = ("hls", "concat", "dash", "sdp", "rtsp", "rtp", "imf", "webvtt")
"""Formats that read other files than the one given."""
_STILLS = ("avif", "heic", "heix", "mif1")
"""Brands of still pictures that are mp4 files inside."""
_LIMITS = {"max_pixels": str(LARGEST_PICTURE)}
_HDR = (16, 18)
"""Transfer functions of PQ (SMPTE 2084) and HLG (ARIB B67)."""


@dataclass(frozen=True)
class Track:
    """The video track of a file, as far as its packets tell; frames are counted in the order they are shown."""

    name: str
    """As the user gave it."""
    path: str
    """Absolute, so that no name can mean an option, an address or a device to a decoder."""
    fps: float
    width: int
    """As displayed, after rotation; pixels."""
    height: int
    times: array[float]
    """When each frame is shown, seconds from the first one, ascending."""
    pts: array[int]
    """The same in the file's own ticks; empty where packets carry none."""
    timed: bool
    """Whether a decoded frame is known by its ticks."""
    keys: tuple[int, ...]
    """Frames a decoder can start at; empty where seeking is not to be trusted."""
    hdr: bool
    stream: int
    """Which stream of the file it is."""
    turns: int
    """Quarter turns, against the clock, by which its pictures are shown."""

    @property
    def frames(self) -> int:
        return len(self.times)

    def key_before(self, index: int) -> int:
        """The last key frame at or before `index`; 0 if there is none."""
        place = bisect_right(self.keys, index)
        return self.keys[place - 1] if place else 0


@dataclass
class _Packets:
    """What one pass over a file's packets found."""

    pts: array[int]
    key_pts: array[int]
    count: int = 0
    """Packets that hold a frame to be shown."""
    cut: bool = False
    """One ended before its length."""
    unstamped: bool = False
    """One had no presentation time."""
    last_duration: int = 0
    end: float = 0.0
    """When the last frame goes, seconds on the file's clock."""
    file_end: float = 0.0
    """When the last packet of any track ends."""
    picture: Any = None
    """The first frame, decoded."""


def read_track(path: Path) -> Track:
    """Reads a video file's packets and its first frame.

    Errors: `VideoError` for what is missing, unreadable, not a video, without frames, or truncated.
    """
    _check_file(path)
    import av

    try:
        with open_container(os.path.abspath(path)) as container:
            stream = _video_stream(container, path)
            found = _read_packets(container, stream, path)
            _check_whole(container, stream, found, path)
            return _track(container, stream, found, path)
    except (av.FFmpegError, ValueError, UnicodeError, MemoryError) as error:
        raise VideoError(f"{path} is not a video that can be read, or it is truncated.") from error


def open_container(path: str) -> Any:
    """A file by its absolute name, in PyAV; none of its decoders makes a picture above LARGEST_PICTURE.

    FFmpeg lets a file's content lead to other files at most, never to the network. Errors: PyAV's.
    """
    import av

    # While a file is opened, pictures are decoded too. PyAV before 18 crashes of options for some formats.
    container = av.open(path, options=_LIMITS if int(av.__version__.split(".")[0]) >= 18 else None)
    for stream in container.streams.video:
        if stream.codec_context is not None:
            limit(stream.codec_context)
    return container


def limit(context: Any) -> Any:
    """The same decoder; it refuses pictures above LARGEST_PICTURE."""
    context.options = _LIMITS
    return context


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video.")
        if not path.exists():
            if re.match(r"[a-z][a-z0-9+]+:/", str(path)):  # a Path makes one slash of two
                raise VideoError(f"{str(path).replace(':/', '://', 1)} is an address, and v2l reads files only; "
                                 "download the video first.")
            raise VideoError(f"{path}: no such file.")
        if not path.is_file():
            raise VideoError(f"{path} is not a regular file; save the video to a file first.")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(f"{path} is empty.")
        if overclaims(path):
            raise VideoError(f"{path} says it holds more frames than it has bytes; copy or download it again.")
    except PermissionError as error:
        raise VideoError(f"{path} may not be read; check its permissions.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({error}).") from error


def _video_stream(container: Any, path: Path) -> Any:
    from av.stream import Disposition

    name = container.format.name
    if name in _PLAYLISTS:
        raise VideoError(f"{path} is a playlist, not a video; give the video files themselves.")
    if name.endswith("_pipe") or name == "image2" or container.metadata.get("major_brand") in _STILLS:
        raise VideoError(f"{path} is a picture, not a video.")
    if name == "tty":  # any text, which FFmpeg would draw
        raise VideoError(f"{path} is text, not a video.")
    if name == "gif" and not _ends_as_gif(path):
        raise VideoError(f"{path} is truncated; copy or download it again.")
    for stream in container.streams.video:
        if Disposition.attached_pic not in stream.disposition:  # the cover of a song is a video stream too
            _check_codec(stream.codec_context, path)
            return stream
    kind = "only audio, " if container.streams.audio else ""
    raise VideoError(f"{path} holds {kind}no video stream.")


def _check_codec(context: Any, path: Path) -> None:
    if context is None:
        raise VideoError(f"{path} is coded in a way that cannot be decoded; convert it, to H.264 for example.")
    if context.width * context.height > LARGEST_PICTURE:
        raise VideoError(f"{path} says its pictures are {context.width} x {context.height} pixels; make them smaller, "
                         f"{LARGEST_PICTURE // 1_000_000} million at most.")


def _ends_as_gif(path: Path) -> bool:
    """Whether the last block is closed and the trailer is there; some programs write a little after it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return b"\x00;" in file.read()


def _packets(container: Any) -> Iterator[Any]:
    """Packets of all tracks with content, until the end or until the file is broken."""
    import av

    try:
        for packet in container.demux():
            if packet.size and packet.time_base:
                yield packet
    except av.FFmpegError:
        return


def _read_packets(container: Any, stream: Any, path: Path) -> _Packets:
    found = _Packets(array("q"), array("q"))
    vp8 = stream.codec_context.name in ("vp8", "libvpx")
    early: array[int] = array("q")
    started, first = False, 0
    for packet in _packets(container):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and packet.stream.type in ("video", "audio", "subtitle"):
            found.file_end = max(found.file_end, float((stamp + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        found.cut = found.cut or packet.is_corrupt
        if found.picture is None:
            found.picture = _decoded(packet)
        if packet.is_keyframe and not started:
            started, first = True, packet.pts or 0
        # Left out by the file's edit list; or a VP8 picture others are predicted from, that is itself not shown.
        if packet.is_discard or (vp8 and not memoryview(packet)[0] & 0x10):
            continue
        found.count += 1
        if found.count > MOST_FRAMES:
            raise VideoError(f"{path} holds more than {MOST_FRAMES} frames; cut it into parts.")
        found.last_duration = packet.duration or found.last_duration
        if packet.pts is None:
            found.unstamped = True
            continue
        if packet.is_keyframe:
            found.key_pts.append(packet.pts)
        # Nothing from before the first key frame of a broadcast cut mid-way can be decoded, though it may come after.
        (found.pts if started and packet.pts >= first else early).append(packet.pts)
    if started:
        found.count -= len(early)
    else:
        found.pts = early
    if found.picture is None:
        found.picture = next(iter(stream.codec_context.decode(None)), None)
    if found.pts:
        found.end = float((max(found.pts) + found.last_duration) * stream.time_base)
    return found


def _decoded(packet: Any) -> Any:
    import av

    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None


def _promised(container: Any, stream: Any, found: _Packets) -> tuple[float, float]:
    """(seconds the header promises, seconds found); (0, 0) for formats whose header promises nothing."""
    name, start = container.format.name, min(found.pts, default=0) * stream.time_base
    if name == _MP4:  # the length after edit lists, unlike the frame count
        return float((stream.duration or 0) * stream.time_base), found.end - float(start)
    if name == _AVI and stream.average_rate:  # the length is guessed from the file's size, the count is the header's
        return float(stream.frames / stream.average_rate), found.end - float(start)
    if name in (_MATROSKA, _FLV):  # one length for all tracks
        return (container.duration or 0) / 1e6, found.file_end - min(0.0, (container.start_time or 0) / 1e6)
    return 0.0, 0.0


def _check_whole(container: Any, stream: Any, found: _Packets, path: Path) -> None:
    """Refuses a file that ends before its header says. A few frames more or less are every container's habit."""
    if found.count == 0 or found.picture is None:
        raise VideoError(f"{path} holds no frame that can be decoded.")
    promised, seen = _promised(container, stream, found)
    ordered = sorted(found.pts)
    gap = float(max((b - a for a, b in pairwise(ordered)), default=0) * stream.time_base)
    mean = seen / found.count
    missing = promised - seen > 0.01 * promised + max(gap, 2 * mean)
    if missing or (promised and found.cut):
        wanted = max(stream.frames, round(found.count * promised / seen) if seen > 0 else 0, found.count + 1)
        raise VideoError(f"{path} is truncated: {found.count - found.cut} of about {wanted} frames could be read; "
                         "copy or download it again.")


def _track(container: Any, stream: Any, found: _Packets, path: Path) -> Track:
    pts = array("q") if found.unstamped else array("q", sorted(found.pts))
    fps = _rate(stream, pts, found)
    tick = float(stream.time_base)
    times = array("d", ((p - pts[0]) * tick for p in pts) if pts else (i / fps for i in range(found.count)))
    # AVI keeps no times; those of its packets are guessed, in the order they are decoded in.
    timed = bool(pts) and container.format.name != _AVI and all(a < b for a, b in pairwise(pts))
    keys: tuple[int, ...] = ()
    if timed and container.format.name in (_MP4, _MATROSKA):  # these have an index that leads to key frames
        keys = tuple(bisect_left(pts, p) for p in sorted(found.key_pts))
    width, height = found.picture.width, found.picture.height
    turns = round(found.picture.rotation / 90) % 4
    if turns % 2:
        width, height = height, width
    hdr = stream.codec_context.color_trc in _HDR
    return Track(str(path), os.path.abspath(path), fps, width, height, times, pts, timed, keys, hdr, stream.index,
                 turns)


def _rate(stream: Any, pts: array[int], found: _Packets) -> float:
    """Frames a second: the container's where the timestamps bear it out, else theirs."""
    said = float(stream.average_rate or 0)
    said = said if math.isfinite(said) and said > 0 else 0.0
    if len(pts) < 2:
        return said or 25.0
    gaps = pts[-1] - pts[0]
    last = found.last_duration or gaps / (len(pts) - 1)
    real = len(pts) / float((gaps + last) * stream.time_base) if gaps else said
    # One frame of slack: the last one's duration is a guess in some containers.
    return said if said and abs(said / real - 1) <= 0.01 + 1 / len(pts) else real or 25.0
