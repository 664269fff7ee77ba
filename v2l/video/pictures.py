"""Whether each packet of a stream becomes a picture of its own; where not, the pictures are counted by decoding them.

Two field pictures make one (AVCHD camcorders, broadcasts); where a muxer took the order of decoding for that of
showing, times are in no order at all; where a stream without key frames was cut, its first ones cannot be shown.
"""

from __future__ import annotations

from array import array
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from v2l.video.container import AVI, MATROSKA, limited
from v2l.video.packets import StreamPackets
from v2l.video.source import Source

_PIXELS, _FEWEST = 1 << 26, 4
"""Pixels of the pictures that are decoded for a look, and how many pictures these are at least."""

_TRIED = 6
"""Pictures in a row that are looked at."""
_HEAD = 1 << 18
"""Bytes of a photo in which its own list of further pictures stands."""


@dataclass
class Pictures:
    """What was decoded of a stream to learn which pictures it holds."""

    first: Any = None
    """The first picture, decoded."""
    pts: list[int | None] | None = None
    """The ticks that all pictures carry, in the order they are shown; None where each packet is one."""
    interlaced: bool = False
    late: bool = False
    """Whether some of the first packets became no picture, other than the last one."""

    def ordered(self) -> array[int] | None:
        """`pts`, where these are the times of the pictures."""
        known = [p for p in self.pts or () if p is not None]
        return array("q", known) if known == self.pts and all(a < b for a, b in pairwise(known)) else None


def look(packets: StreamPackets, format: str, path: str, name: str) -> Pictures:
    """Decodes the first packets of a stream; and all of it where these do not become a picture each."""
    found = Pictures()
    if not _each_is_one(packets, format, found):
        first = min(packets.pts) if packets.pts and not packets.unstamped and format != AVI else None
        with closing(Source(path, name, packets.stream.index, first)) as source:
            found.pts = []
            for frame in source.frames:
                found.first = found.first or frame
                found.pts.append(frame.pts)
    return found


def are_a_film(packets: StreamPackets) -> bool:
    """Whether pictures in a row, as cameras send and shells join them, are a film: several of one size. A photo may
    hold others, of other sizes or listed in it (MPF): previews, depth, the brightness of bright parts."""
    import av

    context = packets.stream.codec_context
    if context is None or packets.count < 2 or b"MPF\0" in bytes(packets.first[0])[:_HEAD]:
        return False
    sizes = []
    for packet in packets.first[:_TRIED]:
        decoder = limited(av.CodecContext.create(context.name, "r"))
        with suppress(av.FFmpegError):
            sizes += [(frame.width, frame.height) for fed in (packet, None) for frame in decoder.decode(fed)]
    return len(sizes) > 1 and len(set(sizes)) == 1


def _each_is_one(packets: StreamPackets, format: str, found: Pictures) -> bool:
    """Whether packets become a picture each, as far as a few tell; faults are another matter."""
    wanted, shown, fault = _decode_first(packets, found)
    if found.first is None:
        return False
    if fault:
        return True
    if len(shown) != len(wanted):
        return False
    if not packets.unstamped and format != AVI and shown != sorted(wanted):
        return False
    return not (_stamped_in_order(packets, format) or (found.interlaced and _fields_later(packets)))


def _decode_first(packets: StreamPackets, found: Pictures) -> tuple[list[Any], list[Any], bool]:
    """(ticks of the packets whose pictures should come, of those that came, whether a decoder found fault)."""
    import av

    wanted: list[Any] = []
    shown: list[Any] = []
    fault, fed, most = False, 0, len(packets.first)
    for packet in [*packets.first, None]:
        if packet is not None:
            if fed >= most or not (packets.is_late(packet) or packet.is_keyframe):
                continue
            fed += 1
            if packets.is_shown(packet):
                wanted.append(packet.pts)
        try:
            frames = packets.stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            fault, frames = True, []
        for frame in frames:
            found.first = found.first or frame
            fault = fault or frame.is_corrupt
            found.interlaced = found.interlaced or frame.interlaced_frame
            shown.append(frame.pts)
            most = max(_FEWEST, _PIXELS // (frame.width * frame.height))
    found.late = len(shown) < len(wanted) - (fed >= packets.count)  # the last one may be broken off
    return wanted, shown, fault


def _stamped_in_order(packets: StreamPackets, format: str) -> bool:
    """Whether no picture is shown out of the order of the file, in a stream that says it has such pictures."""
    context = packets.stream.codec_context
    return bool(context.name in ("h264", "hevc") and context.has_b_frames and packets.in_order and format != AVI
                and packets.count > len(packets.first)
                and (format == MATROSKA or _are_shown_alike(packets)))


def _are_shown_alike(packets: StreamPackets) -> bool:
    """Whether the first packets are shown as long after they are decoded as each other, or tell nothing of that."""
    return len({None if packet.pts is None or packet.dts is None else packet.pts - packet.dts
                for packet in packets.first}) == 1


def _fields_later(packets: StreamPackets) -> bool:
    """Whether some packets come at about half the distance of others, as field pictures do among whole ones; a few that
    do not are lost pictures."""
    gaps = sorted(b - a for a, b in pairwise(sorted(packets.pts)))
    few = len(gaps) // 50
    return (packets.stream.codec_context.name == "h264" and len(gaps) > 2
            and gaps[-1 - few] > 1.8 * gaps[few])
