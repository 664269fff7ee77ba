"""One pass over a file's packets, nothing decoded: of each video stream, which pictures there are and when.

Counts, rates and lengths written in a container's header are promises: a variable-rate mkv says 275 frames and has 80,
a screen recording says 1000 frames a second. Demuxing gives the truth at a few microseconds a packet, without decoding.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.config import MOST_FRAMES
from v2l.errors import VideoError
from v2l.video.container import AVI, packets_of

_BROADCASTS = ("mpegts", "mpeg")
"""Formats whose clock may start anew or leap at any moment; FFmpeg's own programs close gaps of theirs."""
_LEAP, _BACK = 10.0, 0.1
"""Seconds by which such a clock must go on, or back, to have jumped: as FFmpeg's programs have it."""
_OGG_HEADERS = (b"\x80theora", b"\x81theora", b"\x82theora", b"OVP80")
"""How packets of an Ogg file begin that hold no picture."""
_VP8, _END_OF_DIRAC = ("vp8", "libvpx"), b"BBCD\x10"
_HURRIED, _UNHURRIED = 2, 10
"""Hundredths of a second: what a GIF wants shown for less than the first, browsers and players show for the second;
libavformat 62 no longer does."""
_TORN = 3
"""Pictures of which FFmpeg marks the first one where packets of the file were lost within the second one."""
_FIRST, _FIRST_BYTES = 24, 1 << 25
"""Packets, and bytes of them, of each stream that are kept for a look at how packets become pictures."""


class Clock:
    """Follows the clock of a stream's packets, in the order of the file, over the places where it jumps: there the next
    picture comes right after the last one. Two films put together with `cat` are one that goes on."""

    def __init__(self, stream: Any, format: str) -> None:
        self.broadcast = format in _BROADCASTS
        self.tick = float(stream.time_base)
        self.jumps = 0
        self._shift = 0
        self._anew = False
        self._next: int | None = None
        """When the next picture is due: of a broadcast on the decoder's clock, else on that of the pictures shown."""
        self._untimed = format == "dirac"
        """Whether packets tell no times: raw Dirac has the number of a picture in place of its time."""
        self._ends = format == "mxf"
        self._decoded_in_time = format == AVI
        """Whether packets tell only when they are decoded: from that FFmpeg guesses when they are shown, wrongly at the
        end of the film."""
        self._last_dts: int | None = None
        self._hurried = _HURRIED if format == "gif" else 0
        self._lasting = _ticks_of_vp8(stream) if format == "ogg" else 0

    def start_anew(self) -> None:
        """Another film begins, whatever its times are."""
        self._anew = self._next is not None

    def correct(self, packet: Any) -> None:
        """Sets the times of a packet to those of a clock that does not jump."""
        if self._decoded_in_time:
            packet.pts = packet.dts
        if self._untimed or (self._ends and self._has_ended(packet)):
            packet.pts = packet.dts = None
            return
        if packet.is_discard:  # what an edit list leaves out, wherever that goes back to
            return
        if self._lasting:
            self._set_length(packet)
        stamp = packet.dts if self.broadcast else packet.pts
        if stamp is None:
            return
        now = stamp + self._shift
        if self._next is not None:
            ahead = (now - self._next) * self.tick
            if self.broadcast:
                jumped = ahead > _LEAP or ahead < -_BACK - (packet.duration or 0) * self.tick
            else:  # a key frame is shown after all that came before it
                jumped = packet.is_keyframe and ahead < -1.0
            if jumped or self._anew:
                self._anew = False
                self.jumps += 1
                self._shift += self._next - now
                now = self._next
        after = now + (packet.duration or 0)
        self._next = after if self.broadcast or self._next is None else max(self._next, after)
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        if packet.duration < self._hurried:
            self._shift += _UNHURRIED - packet.duration
            packet.duration = _UNHURRIED

    def _has_ended(self, packet: Any) -> bool:
        """Whether the clock of an MXF file stands still from now on: what comes after its index, as where another film
        was put behind it, has the last time of that for all its pictures."""
        if packet.dts is not None:
            self._untimed = self._last_dts is not None and packet.dts <= self._last_dts
            self._last_dts = packet.dts
        self.jumps += self._untimed
        return self._untimed

    def _set_length(self, packet: Any) -> None:
        """Sets how long a picture of VP8 in Ogg is shown, for which FFmpeg takes one tick, and earlier when the first
        one begins, and one that would then follow the last one: they are counted back from where they end."""
        if packet.pts is not None:
            begin = packet.pts + packet.duration - self._lasting
            if self._next is None or self._anew or begin + self._shift == self._next:
                packet.pts = packet.dts = begin
        packet.duration = self._lasting


def _ticks_of_vp8(stream: Any) -> int:
    """For how many ticks a picture of VP8 in Ogg is shown, where that is more than one and nothing tells it: in what
    was copied from a container with ticks of a millisecond. 0 where there is nothing to be set right."""
    if stream.codec_context is None or stream.codec_context.name not in _VP8 or not stream.base_rate:
        return 0
    ticks = round(1 / stream.base_rate / stream.time_base)
    return ticks if ticks > 1 else 0


def is_header(packet: Any, format: str) -> bool:
    """Whether a packet begins another film, put behind the first one of an Ogg file: it says how that is coded."""
    return format == "ogg" and packet.size > 4 and bytes(memoryview(packet)[:7]).startswith(_OGG_HEADERS)


def is_decoded(packet: Any) -> bool:
    """Whether a decoder takes such a header: Theora's does, but for the one of a film's title."""
    return bytes(memoryview(packet)[:1]) in (b"\x80", b"\x82")


class StreamPackets:
    """What the packets of one video stream tell."""

    def __init__(self, stream: Any, format: str) -> None:
        self.stream = stream
        self.clock = Clock(stream, format)
        self._format = format
        self.pts: array[int] = array("q")
        """Presentation times of the pictures shown, in the order of the file."""
        self.key_pts: array[int] = array("q")
        self.count = 0
        """Packets that hold a picture to be shown."""
        self.read = 0
        """Packets, also those that are not shown."""
        self.size = 0
        """Bytes."""
        self.read_to = 0
        """Where in the file the last one ends, bytes, as far as that is told."""
        self.cut = False
        """Whether a packet ended before its length."""
        self.holes = 0
        """Places of a broadcast at which pictures were lost that the next one may need."""
        self._torn, self._longest = 0, 0
        """For how many pictures more one is looked for, and the longest time from one to the next so far, ticks."""
        self._last_dts: int | None = None
        self.unstamped = False
        """Whether a packet had no presentation time."""
        self.encrypted = False
        self.early = 0
        """Packets of before the first key frame."""
        self.in_order = True
        """Whether pictures are shown in the order of the file."""
        self.last_duration = 0
        """Ticks for which the last one is shown."""
        self._end = -(1 << 62)
        self.first: list[Any] = []
        """The first ones, as long as they are small."""
        self._early: array[int] = array("q")
        self._started, self._first_pts = False, 0
        self._codec = "" if stream.codec_context is None else stream.codec_context.name

    def add(self, packet: Any) -> None:
        if is_header(packet, self._format):
            self.clock.start_anew()
            return
        self.clock.correct(packet)
        self.cut = self.cut or packet.is_corrupt
        self.size += packet.size
        self.read_to = max(self.read_to, (packet.pos or 0) + packet.size)
        self.encrypted = self.encrypted or packet.has_sidedata("encryption_info")
        if (len(self.first) < _FIRST and self.size < _FIRST_BYTES) or not self.first:
            self.first.append(packet)
        if packet.is_keyframe and not self._started:
            self._started, self._first_pts = True, packet.pts or 0
        if self._format == "mpegts" and packet.dts is not None:
            self._find_hole(packet)
        if not self.is_shown(packet):
            return
        self.count += 1
        self.last_duration = packet.duration or self.last_duration
        self._end = max(self._end, (packet.pts or 0) + self.last_duration)
        if packet.pts is None:
            self.unstamped = True
            return
        if packet.is_keyframe:
            self.key_pts.append(packet.pts)
        if self._started and packet.pts >= self._first_pts:
            self.in_order = self.in_order and not (self.pts and packet.pts <= self.pts[-1])
            self.pts.append(packet.pts)
        else:
            self._early.append(packet.pts)

    def _find_hole(self, packet: Any) -> None:
        """Counts a place where packets of the file were lost, as its counters tell, and a picture at least with them.
        Counters begin anew, too, where parts of a broadcast were put together; but there no time is missing."""
        self._torn = _TORN if packet.is_corrupt else self._torn - 1
        gap = packet.dts - self._last_dts if self._last_dts is not None else 0
        if self._torn > 0 and not packet.is_keyframe and gap > 1.5 * max(self._longest, packet.duration or 0) > 0:
            self.holes += 1
        elif self._torn <= 0:
            self._longest = max(self._longest, gap)
        self._last_dts = packet.dts

    def is_shown(self, packet: Any) -> bool:
        """False for what the file's edit list leaves out, for a VP8 picture that others are predicted from, and for the
        mark at the end of Dirac and of a filmstrip."""
        if packet.is_discard or (self._format == "filmstrip" and packet.is_corrupt):
            return False
        if self._codec == "dirac":
            return bytes(memoryview(packet)[:5]) != _END_OF_DIRAC
        return not (self._codec in _VP8 and not memoryview(packet)[0] & 0x10)

    def is_late(self, packet: Any) -> bool:
        """Whether a packet may be decoded: nothing from before the first key frame of a broadcast cut mid-way can be,
        though it may come after."""
        return not self._started or packet.pts is None or packet.pts >= self._first_pts

    def finish(self) -> None:
        if self._started:
            self.early = len(self._early)
            self.count -= self.early
        else:
            self.pts = self._early
        if self.pts and self.last_duration and not self.unstamped:  # it need not be that of the file's last packet
            self.last_duration = max(self.last_duration, self._end - max(self.pts))


@dataclass
class Contents:
    """What the packets of a file tell."""

    streams: dict[int, StreamPackets]
    """Packets of each video stream, by its index."""
    count: int = 0
    """Packets of all tracks that hold something."""
    end: float = 0.0
    """When the last packet of any track ends, seconds on the file's clock."""
    read_to: int = 0
    """Where in the file the last packet ends, bytes; 0 where that is not told."""
    passed_over: int = 0
    """Bytes, the most, between the end of what was read and the next packet."""
    failed: bool = False
    """Whether reading ended with an error."""


def read_packets(container: Any, path: Path) -> Contents:
    """Reads all packets of a file. VideoError for more than MOST_FRAMES pictures."""
    streams = {stream.index: StreamPackets(stream, container.format.name) for stream in container.streams.video}
    found = Contents(streams)
    for packet in _packets(container, found):
        of = streams.get(packet.stream_index)
        if of is not None:
            of.read += 1
        if not packet.size:
            continue
        found.count += 1
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and packet.stream.type in ("video", "audio", "subtitle"):
            found.end = max(found.end, float((stamp + (packet.duration or 0)) * packet.time_base))
        begin = packet.pos or 0
        found.passed_over = max(found.passed_over, begin - (found.read_to or begin))
        found.read_to = max(found.read_to, begin + packet.size)
        if of is not None:
            of.add(packet)
            if of.count > MOST_FRAMES:
                raise VideoError(f"{path} holds more than {MOST_FRAMES} frames; cut it into parts.")
    for of in streams.values():
        of.finish()
    return found


def _packets(container: Any, found: Contents) -> Iterator[Any]:
    """Packets of all tracks, until the end or until the file is broken."""
    import av

    try:
        for packet in packets_of(container):
            if packet.time_base and (packet.size or packet.pts is not None):
                yield packet
    except av.FFmpegError:
        found.failed = True
