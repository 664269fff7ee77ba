"""Files and decoders in PyAV, kept from what a small file can claim, and from whatever lies outside the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from v2l.config import LARGEST_PICTURE
from v2l.system.threads import usable_cores

MP4, MATROSKA, AVI, FLV = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv"
"""FFmpeg's names of formats."""

_LIMITS = {"max_pixels": str(LARGEST_PICTURE)}
_UNALIGNED = 1
"""FFmpeg's flag for pictures without the columns to be cut off at their left, wherever that leaves them in memory."""
_UNREADABLE = 1 << 20
"""Places at which nothing can be read; FFmpeg passes over 64 KB of a broadcast at a time."""
_CHECKING = {"vp9": "libvpx-vp9"}
"""Decoders that notice nearly every damage, where FFmpeg's own, no faster and equal to the bit, notices none."""
_ALONE = ("theora",)
"""Decoders that take no other film behind the first one where they decode several pictures at a time."""
_UNKNOWN_MATRICES = {
    3: "nothing that is defined", 8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "YDzDx", 14: "ICtCp",
    12: "derived from their primaries", 13: "derived from their primaries", 15: "IPT-C2", 16: "YCgCo-Re",
    17: "YCgCo-Ro"}
"""Matrices that FFmpeg does not convert, by their numbers in ITU-T H.273."""
_SMALL, _AT_ONCE, _MOST = 1 << 18, 1 << 28, 16
"""Pixels of a picture up to which one is decoded at a time: these are fast anyway, and where pictures are decoded one
by one none is handed out before its faults are noted. Pixels, of 1.5 bytes at least, of all that are decoded at a time.
As many pictures as FFmpeg takes by itself, where there are as many cores."""


def open_container(path: str) -> Any:
    """A file by its absolute name, in PyAV; none of its decoders makes a picture above LARGEST_PICTURE.

    FFmpeg lets a file's content lead to other files at most, never to the network. Errors: PyAV's.
    """
    import av

    # While a file is opened, pictures are decoded too. PyAV before 18 crashes of options for some formats.
    container = av.open(path, options=_LIMITS if int(av.__version__.split(".")[0]) >= 18 else None)
    for stream in container.streams.video:
        if stream.codec_context is not None:
            limited(stream.codec_context)
    return container


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Packets of these streams, or of all, in the order of the file, also those behind a place at which nothing can be
    read, such as the zeros of a broadcast that a camera made as large as it might become. Errors: PyAV's."""
    from av.error import BlockingIOError

    for _ in range(_UNREADABLE):
        with suppress(BlockingIOError):  # FFmpeg's word for: ask again, there may be more
            yield from container.demux(*streams)
            return


def limited(context: Any) -> Any:
    """The decoder, kept from pictures above LARGEST_PICTURE, cutting off of pictures what is to be cut off."""
    context.options = _LIMITS
    context.flags |= _UNALIGNED
    return context


def decoder_of(stream: Any) -> Any:
    """The decoder of a stream's pictures, with as many threads as its pictures' size allows."""
    import av

    context = stream.codec_context
    name, pixels, size = _CHECKING.get(context.name), context.format, context.width * context.height
    if name and pixels is not None and pixels.components[0].bits == 8:  # what they decode however they were built
        with suppress(av.codec.codec.UnknownCodecError):
            checking = limited(av.CodecContext.create(name, "r"))
            checking.extradata = context.extradata
            context = checking
    context.thread_type = "AUTO"  # "SLICE" would keep FFmpeg from looking for faults, even alone
    context.thread_count = 1 if context.name in _ALONE else decoder_threads(size)
    return context


def decoder_threads(size: int) -> int:
    """How many pictures of so many pixels are decoded at a time."""
    if size < _SMALL:
        return 1
    return max(1, min(usable_cores(), _AT_ONCE // size, _MOST))


def unknown_matrix(picture: Any) -> str:
    """The name of the matrix of a picture's colours where FFmpeg does not convert them; empty where it does."""
    return _UNKNOWN_MATRICES.get(int(picture.colorspace), "")


def decoder_version() -> str:
    """What decodes: `PyAV 18.1.0, libavcodec 62.28.102`; pictures may differ by a bit from one to the next."""
    import av

    return f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
