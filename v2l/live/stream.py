"""A live source, opened: its pictures one after the other, with the times they carry. Runs in the reader's process."""

from __future__ import annotations

import math
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from v2l.config import LARGEST_PICTURE, MOST_RATE
from v2l.live.playlist import SegmentRead
from v2l.live.windows import USUAL_RATE
from v2l.video.container import decoder_of, limited
from v2l.video.decode import rgb_image
from v2l.video.kinds import HEAD, begins_as
from v2l.video.track import orientation_of, square_size

if TYPE_CHECKING:
    from v2l.live.web import Web

_LIMITS = {"max_pixels": str(LARGEST_PICTURE)}
_SENT = "matroska,webm,mpegts,flv,mpjpeg"
_PARTS = "mov,mp4,aac,mp3,ac3,eac3,webvtt"
_FORMATS = {"http": f"hls,{_SENT},{_PARTS}",
            "file": f"{_SENT},mov,mp4,mpeg,h264,hevc,vvc,nut,yuv4mpegpipe,mjpeg,avi,ogg,ivf,asf,mpegvideo,m4v,obu,av1"}
"""Formats that may come, by FFmpeg's names; none but HLS names anything else that is to be read."""
_RAW = ("h264", "hevc", "vvc", "mpegvideo", "m4v", "obu", "av1", "mjpeg", "mpjpeg")
"""Formats without times."""
_BROADCASTS = ("mpegts", "mpeg")
_OPENED: list[Any] = []
"""Containers that were opened, none of which may be closed: PyAV can crash of it where Python files are read."""
_POLL = 0.1
"""Seconds between looks at whether a file has grown."""


class Unwatchable(Exception):
    """The source cannot be read (any more); its text, the end of a sentence, holds no address."""

    def __init__(self, reason: str, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        """Whether trying again cannot help."""


class Over(Unwatchable):
    """The source is there as a whole, and has an end: nothing to be watched live, or not any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, lasting=True)


@dataclass
class OpenSource:
    """An open source."""

    pictures: Iterator[tuple[float | None, Callable[[], np.ndarray]]]
    """Presentation time in seconds, where there is one, and what makes the picture: RGB uint8 [height, width, 3]."""
    live: bool
    """Whether the source keeps to this machine's clock."""
    in_parts: bool = False
    """Whether the source comes in segments, each much faster than it lasts."""
    broadcast: bool = False
    tick: float = 0.0
    """Seconds of the unit of its times."""
    rate: float = 0.0
    """Pictures a second that it says it has; 0 where it does not."""
    step: float | None = None
    """How long each picture is shown, of a source without times; None where arrivals tell."""
    slower: bool = False
    """Whether pictures without times may come more slowly than that, and are then shown as they come."""
    patience: float = 0.0
    """Seconds of silence that are nothing unusual for it."""
    ended: Callable[[], bool] = lambda: True
    """Whether the end of the pictures is that of the source, rather than of the connection."""


def open_stream(kind: str, location: str, timeout: float, alive: Callable[[], None], seen: Sequence[SegmentRead] = (),
                tell: Callable[[SegmentRead], None] = lambda one: None) -> OpenSource:
    """Opens a source; `alive` is called whenever something of it came, `tell` with each segment of HLS that is read,
    and those that were `seen` before are not read again. Unwatchable."""
    if kind == "camera":
        return _camera(location, alive)
    import av

    from v2l.live.web import Web

    try:
        if kind == "rtsp":
            return _rtsp(location, alive)
        if kind == "http":
            return _web(location, Web(timeout, alive, seen, tell))
        return _file(kind, location, timeout, alive)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise Unwatchable(*reason_of(error, location)) from error


def reason_of(error: Exception, location: str) -> tuple[str, bool]:
    """Why reading failed, and whether it will again; in words without the address."""
    import av

    if isinstance(error, (av.HTTPUnauthorizedError, av.HTTPForbiddenError)) or getattr(error, "code", 0) in (401, 403):
        return "the user or the password is not accepted", True
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
        from v2l.live.web import is_untrusted, web_reason

        return web_reason(error), is_untrusted(error) or getattr(error, "lasting", False)
    if isinstance(error, av.HTTPNotFoundError):
        return "there is nothing under this path", False
    if isinstance(error, (av.HTTPError, ConnectionRefusedError)):
        return "the connection was refused", False
    if isinstance(error, (av.DemuxerNotFoundError, ValueError)):
        return "what comes is no video that can be watched as it comes; v2l ingest takes complete files", True
    if isinstance(error, OSError) and location.startswith("rtsp") and not _is_known(location):
        return "its host is not known", False
    return "the connection broke off", False


def _is_known(location: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(location).hostname, None)
    except OSError:
        return False
    return True


def _rtsp(location: str, alive: Callable[[], None]) -> OpenSource:
    import av

    # By TCP alone: nothing is lost on the way, and no port of this machine is opened.
    options = {"rtsp_transport": "tcp", "protocol_whitelist": "tcp,tls", "allowed_media_types": "video",
               "fpsprobesize": "0"}
    container = av.open(location, format="rtsp", container_options=options)
    stream = _decoded(container, alive, live=True)
    stream.ended = lambda: False
    return stream


def _web(location: str, web: Web) -> OpenSource:
    import av

    options = {"protocol_whitelist": "none", "format_whitelist": _FORMATS["http"], "fpsprobesize": "0",
               "http_persistent": "0", "http_multiple": "0"}
    # How long a list may stand still is told by the parent's patience, not by how often it was asked for in vain.
    options |= {"max_reload": "1000000", "m3u8_hold_counters": "1000000"}
    # So long, at most, are pictures waited for that tell more than is known: of FLV, sound that may not come.
    options["analyzeduration"] = "2000000"
    try:
        container: Any = av.open(location, container_options=options, io_open=web.open)
    except (av.FFmpegError, ValueError) as error:
        raise web.failed or error from None
    if web.failed and not container.streams.video:
        raise web.failed
    listed = container.format.name == "hls"
    whole = web.ended if listed else web.length is not None or container.format.name.startswith("mov")
    if whole:
        raise Over("it is a film with an end, and nothing live; download it, and use v2l ingest")
    stream = _decoded(container, web.alive, live=True)
    stream.in_parts, stream.patience = listed, 3 * web.longest
    stream.ended = lambda: listed and web.ended
    return stream


def _file(kind: str, location: str, timeout: float, alive: Callable[[], None]) -> OpenSource:
    import av

    try:
        file = Growing(0, None, alive) if kind == "pipe" else Growing(os.open(location, _READ), timeout, alive)
    except OSError as error:
        raise Unwatchable(f"it cannot be read ({error.strerror})", lasting=True) from error
    options, format = {"protocol_whitelist": "none", "format_whitelist": _FORMATS["file"]}, None
    if file.peek().startswith(_JPEG):  # to be sure of that, and of its rate, FFmpeg reads 1 MB and 5 s
        format, options["analyzeduration"], options["fpsprobesize"] = "mjpeg", "1", "0"
    try:
        container: Any = av.open(file, format=format, container_options=options)
    except av.EOFError:
        raise Unwatchable("nothing came", lasting=True) from None
    except (av.FFmpegError, ValueError):
        _refuse_others(file.began)
        if file.began.find(b"ftyp", 4, 8) == 4:
            raise Unwatchable("it is an mp4 file, which can be read only when it is complete; use v2l ingest then, or "
                          "record to Matroska or MPEG-TS (or mp4 with -movflags frag_keyframe+empty_moov)",
                          lasting=True) from None
        raise Unwatchable("what comes is no video that can be watched as it comes" if file.began else "nothing came",
                      lasting=True) from None
    _refuse_others(file.began)
    stream = _decoded(container, alive, live=False)
    if container.format.name in _RAW:
        stream.step, stream.slower = 1 / (stream.rate or USUAL_RATE), kind == "pipe" and not stream.rate
    return stream


_BEGINNING = 64
_JPEG = b"\xff\xd8\xff"
def _refuse_others(began: bytes) -> None:
    """Raises Unwatchable for what begins as no video does, in which FFmpeg finds pictures all the same."""
    if known := begins_as(began):
        raise Unwatchable(f"it {known}", lasting=True)


_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class Growing:
    """A file or a pipe, from its beginning to its end. A file ends where it does once no program has it open to write,
    or, where the system does not tell, when it has not grown for `timeout` seconds; a pipe (`timeout` None) when its
    writer closes it."""

    def __init__(self, number: int, timeout: float | None, alive: Callable[[], None]) -> None:
        self._number, self._timeout, self._alive = number, timeout, alive
        self._regular = stat.S_ISREG(os.fstat(number).st_mode)
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise IsADirectoryError(0, "it is a folder")
        self._read, self._ended, self._ahead = 0, False, b""
        self.began = b""
        """How it begins."""

    def peek(self) -> bytes:
        """How it begins, which is read again."""
        ahead = b""
        while len(ahead) < _BEGINNING and (part := self.read(_BEGINNING - len(ahead))):
            ahead += part
        self._ahead = ahead
        return ahead

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        if self._ahead:
            part, self._ahead = self._ahead[:size], self._ahead[size:]
            return part
        grew, written = time.monotonic(), True
        while not (part := b"" if self._ended else os.read(self._number, size)):
            waited = time.monotonic() - grew
            if self._timeout is None or waited >= self._timeout or self._was_cut() or not written:
                self._ended = True
                return b""
            time.sleep(min(_POLL, self._timeout))
            written = is_written(self._number)  # before the last look at whether there is more
        self._read += len(part)
        self.began += part[: HEAD - len(self.began)]
        self._alive()
        return part

    def _was_cut(self) -> bool:
        return self._regular and os.fstat(self._number).st_size < self._read


def is_written(number: int) -> bool:
    """Whether some program may have a file open to write that is open here to read. Linux tells of files of one's own:
    where there is such a program, it grants no lease on them."""
    try:
        import fcntl

        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (ImportError, AttributeError, OSError):
        return True
    return False


def _decoded(container: Any, alive: Callable[[], None], live: bool) -> OpenSource:
    if not container.streams.video:
        raise Unwatchable("it sends sound, and no pictures" if container.streams.audio else "it sends no pictures",
                      lasting=True)
    stream = max(container.streams.video, key=_fitness)
    _OPENED.append(container)
    with suppress(ImportError, AttributeError):  # before PyAV 18, all that is sent is fetched
        from av.stream import Discard

        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all  # of HLS, what is discarded is not fetched
    if stream.codec_context is None:
        raise Unwatchable("its pictures are coded in a way that cannot be decoded", lasting=True)
    if stream.codec_context.width * stream.codec_context.height > LARGEST_PICTURE:
        raise Unwatchable(f"its pictures are larger than {LARGEST_PICTURE // 1_000_000} million pixels", lasting=True)
    limited(stream.codec_context)
    raw = container.format.name in _RAW
    rate = float((None if raw else stream.average_rate) or stream.codec_context.framerate or 0)
    return OpenSource(_pictures(container, stream, live, not raw, alive), live,
                      broadcast=container.format.name in _BROADCASTS, tick=float(stream.time_base),
                      rate=rate if math.isfinite(rate) and 0 < rate <= MOST_RATE else 0.0)


_LARGE = 1280 * 720
"""Pixels beyond which more show a model nothing that it does not see: it looks at 384 to 1024 on the longer edge."""


def _fitness(stream: Any) -> tuple[bool, int, int]:
    """Which of several streams to take: the smallest of the large ones, else the largest."""
    context = stream.codec_context
    size = 0 if context is None else context.width * context.height
    return size >= _LARGE, -size if size >= _LARGE else size, -stream.index


def _pictures(container: Any, stream: Any, live: bool, timed: bool, alive: Callable[[], None]
              ) -> Iterator[tuple[float | None, Callable[[], np.ndarray]]]:
    import av
    from av.video.reformatter import VideoReformatter

    decoder, convert = decoder_of(stream), VideoReformatter()
    if live:  # a decoder of several pictures at a time hands each out that much later
        decoder.thread_count = 1
    ratio, tick, turned = stream.sample_aspect_ratio, stream.time_base, None
    for packet in container.demux(stream):
        alive()
        try:
            frames = decoder.decode(packet if packet.size else None)
        except av.EOFError:
            return
        except MemoryError:
            raise
        except av.FFmpegError:  # a damaged picture; the ones after it may be well
            continue
        for frame in frames:
            shown = float(frame.pts * tick) if timed and frame.pts is not None else None
            # A frame that was asked for its side data holds itself, and so 3 MB of 1080p, until garbage is collected.
            turned = orientation_of(frame) if turned is None else turned
            yield shown, partial(_rgb, frame, convert, ratio, turned)


def _rgb(frame: Any, convert: Any, ratio: Any, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    return rgb_image(frame, convert, square_size(frame.width, frame.height, ratio), orientation)


def _camera(location: str, alive: Callable[[], None]) -> OpenSource:
    import sys

    import cv2

    api = cv2.CAP_V4L2 if sys.platform.startswith("linux") and _is_device(location) else cv2.CAP_ANY
    camera = cv2.VideoCapture(int(location) if location.isdecimal() else location, api)
    if not camera.isOpened():
        raise Unwatchable("no camera can be opened there; see that it is plugged in, and that nothing else uses it")
    return OpenSource(_looked(camera, alive), live=True)


def _is_device(location: str) -> bool:
    return location.isdecimal() or location.startswith("/dev/")


def _looked(camera: Any, alive: Callable[[], None]) -> Iterator[tuple[float | None, Callable[[], np.ndarray]]]:
    """The pictures of a camera, which carry no times that can be relied on: they are as they arrive."""
    while True:
        there, image = camera.read()
        if not there:
            raise Unwatchable("the camera gives no more pictures")
        alive()
        if image.shape[0] * image.shape[1] > LARGEST_PICTURE:
            raise Unwatchable("its pictures are too large", lasting=True)
        yield None, partial(np.ascontiguousarray, image[..., ::-1])
