"""Whether a file holds all that it should: refused where it breaks off, a note where a recorder was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from v2l.errors import VideoError
from v2l.video.container import AVI, FLV, MATROSKA, MP4
from v2l.video.mp4 import samples_of_fragments
from v2l.video.packets import Contents, StreamPackets
from v2l.video.structure import (
    becomes_encrypted,
    breaks_off_in_fragment,
    holds_unread_films,
    is_read_through,
    kept_part,
    tells_its_length,
)

_RECORDED = (MATROSKA, AVI, FLV, "asf", "dv", "ivf", "mpjpeg", "mpegts", "mxf", "nut", "obu",
             "ogg", "yuv4mpegpipe")
"""Formats whose writers may be stopped at any moment, without having promised a length."""
_MARKED = ("apng", "mpjpeg", "smjpeg")
"""Formats at whose end stands a mark that FFmpeg takes for a picture."""
_NOT_COUNTED = 1 << 30
"""Frames in the header of an AVI whose writer could not go back to it, such as one into a pipe, and up."""


def check_whole(container: Any, packets: StreamPackets, contents: Contents, path: Path) -> list[str]:
    """Refuses a file that breaks off, unless all the pictures are there that its header promises. A recorder that was
    killed has promised nothing: then a note tells it."""
    format = container.format.name
    index = len(packets.stream.index_entries) if format == MP4 else 0  # of an mp4, it lists every picture
    cut = (packets.cut and format in (MP4, MATROSKA, AVI, FLV)) or packets.read < index
    failed = contents.failed and not (format in _MARKED and is_read_through(path, contents.read_to))
    part = kept_part(path, format, contents.read_to)
    if format == "mpegts" and becomes_encrypted(path, packets.read_to, packets.stream.id):
        return [f"{path} is encrypted in its later part, and v2l has no keys; what comes before is watched."]
    if part == 1 and not (cut and format == MP4) and (unread := _notes_on_unread(path, format, packets, contents)):
        return unread
    stopped = [f"{path} breaks off before its end, as where a recorder was stopped or a copy was not finished; what is "
               "there is watched."]
    if not cut and not failed and part == 1:
        return stopped if format == MP4 and breaks_off_in_fragment(path) else []
    promised, seen = (1.0, part) if 0 < part < 1 else _promised(container, packets, contents.end)
    spared = 0.01 * promised + 2 * seen / max(1, packets.count) if format in (AVI, MATROSKA, FLV) else 0.0
    if not cut and promised and promised - seen <= spared:
        return []
    if not promised and format in _RECORDED:
        return stopped
    whole = packets.count - packets.cut
    found = whole if 0 < part < 1 else packets.count
    wanted = max(index, whole + 1, round(found * promised / seen) if seen > 0 else 0)
    raise VideoError(f"{path} is truncated: {whole} of about {wanted} frames could be read; "
                     "copy or download it again.")


def _notes_on_unread(path: Path, format: str, packets: StreamPackets, contents: Contents) -> list[str]:
    """What to say of films put behind the first one, where FFmpeg does not read them all."""
    if (format == "ogg" and not contents.failed) or not holds_unread_films(path, format):
        return []
    fragments = samples_of_fragments(path) if format == MP4 else 0
    if fragments and contents.count >= fragments and packets.read == packets.count + packets.early:
        return []
    read = "of which FFmpeg does not read all" if fragments else "of which FFmpeg reads only the first"
    read = "which FFmpeg mixes up" if format == "swf" else read
    return [f"{path} holds films put one behind the other, {read}{' where there is sound' if format == 'ogg' else ''}; "
            "give each as a file of its own."]


def _promised(container: Any, packets: StreamPackets, file_end: float) -> tuple[float, float]:
    """(seconds the header promises, seconds found); 0 promised where it promises nothing."""
    format, stream = container.format.name, packets.stream
    start = min(packets.pts, default=0)
    seen = float((max(packets.pts, default=0) + packets.last_duration - start) * stream.time_base)
    if format == AVI and stream.average_rate:  # its length is guessed from the file's size, the count is the header's
        return float(frames_said(stream) / stream.average_rate), seen
    if format == FLV and not tells_its_length(Path(container.name)):
        return 0.0, seen
    if format in (MATROSKA, FLV):  # one length for all tracks
        return (container.duration or 0) / 1e6, file_end - min(0.0, (container.start_time or 0) / 1e6)
    if format == "mxf" and stream.average_rate:
        return (container.duration or 0) / 1e6, float(packets.count / stream.average_rate)
    return ((container.duration or 0) / 1e6 if format == "rm" else 0.0), seen


def frames_said(stream: Any) -> int:
    """How many pictures the header of an AVI promises; 0 where it promises nothing."""
    return stream.frames if stream.frames < _NOT_COUNTED else 0
