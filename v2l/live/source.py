"""A live source -> its pictures on one time line that never goes back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from v2l.errors import VideoError
from v2l.live.address import Address
from v2l.live.windows import Chooser, Plan
from v2l.video.container import decoder_of, limited
from v2l.video.decode import fitted, rgb_image
from v2l.video.track import orientation_of, square_size


@dataclass(frozen=True)
class Picture:
    """A picture of a live source. All pictures of a watch have one size, that of the first."""

    rgb: np.ndarray
    """uint8 [height, width, 3], as it is shown."""
    at: float
    """Seconds since watching began, never going back."""
    rate: float = 0.0
    """Pictures a second that its source says it has; 0 where it does not."""


@dataclass(frozen=True)
class Gap:
    """A time without pictures."""

    start: float
    """Seconds since watching began."""
    end: float
    reason: str
    """Why: part of a sentence, such as `the connection was lost`."""


@dataclass(frozen=True)
class Waiting:
    """Nothing came, and time passes: told about once a second, so that what is open can be closed."""

    at: float
    """Seconds since watching began: of a pipe or a file, whose time is that of its pictures, when the last one was."""


@dataclass(frozen=True)
class Reading:
    """How a live source is read."""

    plan: Plan | None = None
    """Which pictures are wanted, so that no others are converted and handed over; None for all of them."""
    timeout: float = 10.0
    """Seconds without anything after which a source counts as silent."""
    retries: int | None = None
    """How often in a row to connect again where that fails; None for ever."""


def events(address: Address, reading: Reading) -> Iterator[Picture | Gap | Waiting]:
    """Yields what comes of a live source, in the order of time, until it ends.

    Of a pipe and a file the pictures' own times count, however fast they come, and a reader that is slow holds them
    back; all others keep to this machine's clock. Errors: `VideoError` where nothing (more) can be read.
    """
    with _opened(address) as file:
        yield from _pictures(file, address, reading)


def _opened(address: Address) -> Any:
    if address.kind == "pipe":
        return closing(_Unseekable(sys.stdin.buffer))
    try:
        return closing(_Unseekable(open(address.location, "rb")))
    except OSError as error:
        raise VideoError(f"{address.shown} cannot be read ({error.strerror}).") from error


class _Unseekable:
    """A file that is read from its beginning to its end, as a pipe is."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.close = file.read, file.close


def _pictures(file: Any, address: Address, reading: Reading) -> Iterator[Picture]:
    import av
    from av.video.reformatter import VideoReformatter

    try:
        container: Any = av.open(file, options={"max_pixels": "67108864"})
        stream = container.streams.video[0]
        limited(stream.codec_context)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise VideoError(f"{address.shown} is no video that can be watched as it comes.") from error
    convert, first, size = VideoReformatter(), None, None
    rate = float(stream.average_rate or 0)
    choice = Chooser(replace(reading.plan, rate=rate)) if reading.plan else None
    decoder = decoder_of(stream)
    for packet in container.demux(stream):
        for frame in decoder.decode(packet if packet.size else None):
            if frame.pts is None:
                continue
            first = frame.pts if first is None else first
            at = float((frame.pts - first) * stream.time_base)
            if choice and not choice.wants(at):
                continue
            square = square_size(frame.width, frame.height, stream.sample_aspect_ratio)
            image = rgb_image(frame, convert, square, orientation_of(frame))
            size = size or (image.shape[1], image.shape[0])
            yield Picture(fitted(image, *size), at, rate)
