"""How a video is cut into segments, and the sampling of each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from v2l.config import MOST_SEGMENTS, REMNANT, SHORTEST_SEGMENT, Sampling
from v2l.errors import UsageError
from v2l.video.clip import SLACK, Clip
from v2l.wording import TIME_FORMS, clock_seconds, nearest


@dataclass(frozen=True)
class SegmentSpec:
    """How a video is cut: every so many seconds, or (None) where its picture changes."""

    length: float | None

    def __str__(self) -> str:
        return "scenes" if self.length is None else f"{self.length:g}s"


def parse_segments(text: str) -> SegmentSpec:
    """A length as `clock_seconds` reads it, or `scenes`. UsageError."""
    if text.strip().lower() == "scenes":
        return SegmentSpec(None)
    seconds = clock_seconds(text)
    if seconds is None:
        raise UsageError(f"{text!r} is no way to cut a video; write a length, such as {TIME_FORMS}, or scenes"
                         f"{nearest(text, ['scenes'])}.")
    if not SHORTEST_SEGMENT <= seconds < float("inf"):
        raise UsageError(f"Segments must be at least {SHORTEST_SEGMENT:g} second long, not {text}.")
    return SegmentSpec(seconds)


def regular(start: float, end: float, length: float) -> list[float]:
    """Where to cut [start, end) seconds into segments of a length, the ends left out. They count from the start; a rest
    shorter than REMNANT of the length stays with the segment before it. UsageError for more than MOST_SEGMENTS."""
    count = max(1, ceil((end - start) / length - 1e-6))
    if count > 1 and end - start - (count - 1) * length < REMNANT * length:
        count -= 1
    if count > MOST_SEGMENTS:  # a file of a few bytes can say that it lasts for centuries
        raise UsageError(f"{end - start:.0f} seconds would be {count} segments; cut longer ones.")
    return [round(start + i * length, 6) for i in range(1, count)]


def windows(clip: Clip, sampling: Sampling, cuts: Sequence[float]) -> list[Sampling]:
    """The sampling of each segment, in time order; together they cover [start, end) of `sampling` without a gap.

    A segment during which no frame begins (the rate may vary) joins the one before it, whose last frame is what shows.
    """
    start, end = clip.span(sampling)
    first = [frame_at(clip, cut) for cut in cuts]
    edges, taken, stop = [start], frame_at(clip, start), frame_at(clip, end)
    for cut, place in zip(cuts, first, strict=True):
        if taken < place < stop:
            edges.append(cut)
            taken = place
        elif place == taken and len(edges) > 1:
            edges[-1] = cut
    ends: list[float | None] = [*edges[1:], sampling.end]
    return [replace(sampling, start=a, end=b) for a, b in zip(edges, ends, strict=True)]


def frame_at(clip: Clip, seconds: float) -> int:
    """The first frame shown from then on; the number of frames past the last."""
    return clip.track.frames if seconds >= clip.end else bisect_left(clip.track.times, seconds - SLACK)
