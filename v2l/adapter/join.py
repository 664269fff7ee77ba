"""Adapters -> adapter: joining segments along the rank axis, and taking them apart again (v2l/README.md section 6).

Nothing is computed: a segment's rows stay the bytes they were. A file keeps the hypernetwork's bias apart from its
segments, so files that were joined before join like any other and the bias still counts once. `join` is associative,
and `slice_segments` undoes it: both give the very bytes of the files one would have made directly. Segments that were
compressed together (`v2l.adapter.compress`) join as the one piece they are, and only leave as that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from v2l.adapter.dtypes import Array, from_float32, to_float32
from v2l.adapter.file import Adapter, as_adapter
from v2l.adapter.record import Piece, Record, combine, pieces
from v2l.adapter.wall import When, check_kinds, overlaps, stretch_text, wall_moments, wall_start
from v2l.errors import AdapterError, UsageError
from v2l.system.strict_json import encode
from v2l.wording import time_text, wall_text


@dataclass(frozen=True)
class _Segment:
    """A segment on its way from a file to another."""

    record: Record
    """Record of a file that holds this segment alone."""
    file: str
    """Name of the file it comes from."""

    @property
    def source(self) -> Record:
        source: Record = self.record["sources"][0]
        return source

    @property
    def video(self) -> str:
        """Hash of the video's file: two videos may have the same name."""
        return str(self.source["sha256"])

    @property
    def start(self) -> float:
        return float(self.record["segments"][0]["start"])

    @property
    def end(self) -> float:
        return float(self.record["segments"][0]["end"])

    def __str__(self) -> str:
        return f"{stretch_text(wall_start(self.source), self.start, self.end)} of {self.source['name']}"

    @property
    def key(self) -> tuple[str, float, float]:
        return self.video, self.start, self.end


@dataclass(frozen=True)
class _Part:
    """A segment, or segments that were compressed together, and their rows."""

    A: Array
    B: Array
    piece: Piece
    file: str

    @property
    def segments(self) -> list[_Segment]:
        return [_Segment(record, self.file) for record in self.piece.segments]


def join(adapters: Sequence[Adapter]) -> tuple[Adapter, list[str]]:
    """Adapters of one base and hypernetwork -> one that holds the segments of all, and notes for the user.

    Videos come in the order they are first met, then those that were watched live by when they started; the segments of
    each by start, then end. What times cannot tell apart stays in the order given. Segments that were compressed
    together come where the first of them belongs. Files of different dtypes become float32, which is exact, where one
    of them is. AdapterError, naming both files, where they do not fit together or hold the same segment (the same
    frames of the same video sampled alike, which would count double). UsageError if there are none.
    """
    if not adapters:
        raise UsageError("There is nothing to compose: name at least one adapter.")
    for other in adapters[1:]:
        _check_fit(adapters[0], other)
    adapters, widened = _same_dtype(adapters)
    bias = _same_bias(adapters)
    parts = _in_time_order([part for adapter in adapters for _, part in _parts(adapter)])
    segments = [segment for part in parts for segment in part.segments]
    _refuse_repeats(segments)
    return _assemble(parts, bias, "The composed adapter"), widened + _notes(segments)


def compose(adapters: Iterable[str | os.PathLike[str] | Adapter], max_rank: int | None = None) -> Adapter:
    """Adapters, or files of some, joined into one that answers from all of them, as `v2l compose` does.

    With `max_rank` its segments are compressed to that rank where they have more. AdapterError where they do not fit
    together or hold the same segment; UsageError for what is no adapter, or a rank below 1.
    """
    if isinstance(adapters, (str, bytes)) or not isinstance(adapters, Iterable):
        raise UsageError("compose takes a list of adapters, or of the paths of their files.")
    whole, _ = join([as_adapter(one) for one in adapters])
    if max_rank is None:
        return whole
    if type(max_rank) is not int or max_rank < 1:
        raise UsageError(f"max_rank must be a whole number from 1 on, not {max_rank!r}.")
    if max_rank >= whole.total_rank:
        return whole
    from v2l.adapter.compress import compress

    return compress(whole, max_rank)


def slice_segments(adapter: Adapter, indices: Sequence[int]) -> Adapter:
    """The adapter of some of its segments, in the order they have in it: the very bytes of the file that was composed.

    UsageError where no index is given or one is out of range, AdapterError where it was compressed with others that
    are not asked for.
    """
    chosen = _chosen(adapter, indices)
    parts = []
    for inside, part in _parts(adapter):
        if chosen >= inside:
            parts.append(part)
        elif chosen & inside:
            raise _mixed(adapter)
    return _assemble(parts, adapter, adapter.name)


def each_segment(adapter: Adapter, indices: Sequence[int]) -> Iterator[tuple[int, Adapter]]:
    """Adapters of some of its segments, each by itself, with its index, in the order they have in it; one at a time.

    Raises as `slice_segments` does, before the first.
    """
    chosen = _chosen(adapter, indices)
    parts = [(inside, part) for inside, part in _parts(adapter) if chosen & inside]
    if any(part.piece.block for _, part in parts):
        raise _mixed(adapter)
    return ((min(inside), _assemble([part], adapter, adapter.name)) for inside, part in parts)


def _chosen(adapter: Adapter, indices: Sequence[int]) -> set[int]:
    count, chosen = len(adapter.segments), set(indices)
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise UsageError(f"{adapter.name} has segments 0 to {count - 1}; name some of these.")
    return chosen


def _mixed(adapter: Adapter) -> AdapterError:
    return AdapterError(f"{adapter.name} was compressed with --max-rank, which mixed its segments for good, so they "
                        "cannot be taken apart; use the files it was composed of.")


def within(adapter: Adapter, start: When | None, end: When | None, video: str | None = None) -> Adapter:
    """The adapter of the segments that `overlapping` finds, whole, in the order they have in it.

    UsageError, saying what there is, where none fits; AdapterError where segments were compressed with others.
    """
    return slice_segments(adapter, overlapping(adapter, start, end, video))


def overlapping(adapter: Adapter, start: When | None, end: When | None, video: str | None = None) -> list[int]:
    """The indices of the segments that overlap [start, end); there is at least one.

    Seconds are those of each video by itself, moments those of the wall clock, which what was watched live has. None
    leaves a side open; `video` keeps the segments of one video, called by its name in `sources` or its sha256.
    UsageError, saying what there is, where none fits.
    """
    check_kinds(start, end)
    by_wall = isinstance(start, datetime) or isinstance(end, datetime)
    first: Any = -math.inf if start is None else start
    last: Any = math.inf if end is None else end
    if not (by_wall and None in (start, end)) and not first < last:
        shown = (wall_text(at) if by_wall else f"{at:.6g} s" for at in (first, last))
        raise UsageError(f"A range from {' to '.join(shown)} is empty; let it end after it starts.")
    wanted = {i for i, source in enumerate(adapter.sources) if video in (None, source["name"], source["sha256"])}
    if not wanted:
        names = _listed(list(dict.fromkeys(source["name"] for source in adapter.sources)))
        raise UsageError(f"{adapter.name} holds nothing of {video}; name one of {names}.")
    if by_wall:
        wanted = {i for i in wanted if "started" in adapter.sources[i]}
    known = [(i, s) for i, s in enumerate(adapter.segments) if s["source"] in wanted]
    if not known:
        raise UsageError(f"{adapter.name} does not record when it was filmed, so nothing of it has a date; times of "
                         "the video, such as 1:30, choose segments of it.")
    chosen = [i for i, segment in known if overlaps(segment, adapter.sources[segment["source"]], start, end)]
    if not chosen:
        raise UsageError(f"{adapter.name} has no segment there; what it holds lies between "
                         f"{_extent(adapter, [segment for _, segment in known], by_wall)}.")
    return chosen


def _extent(adapter: Adapter, segments: Sequence[Record], by_wall: bool) -> str:
    """The earliest start and the latest end, as `--from` and `--to` take them."""
    if not by_wall:
        return f"{time_text(min(s['start'] for s in segments))} and {time_text(max(s['end'] for s in segments))}"
    moments = wall_moments(adapter.sources, segments)
    return f"{wall_text(min(moments))} and {wall_text(max(moments))}"


def _parts(adapter: Adapter) -> Iterator[tuple[set[int], _Part]]:
    """Parts that cannot be taken apart further, each with the indices of the segments in it."""
    index = end = 0
    for piece in pieces(adapter.record):
        rows = slice(end, end + piece.rank)
        inside = set(range(index, index + len(piece.segments)))
        yield inside, _Part(adapter.A[:, rows], adapter.B[:, rows], piece, adapter.name)
        index, end = index + len(inside), rows.stop


def _assemble(parts: Sequence[_Part], bias: Adapter, name: str) -> Adapter:
    A = np.concatenate([part.A for part in parts], axis=1)
    B = np.concatenate([part.B for part in parts], axis=1)
    return replace(bias, A=A, B=B, record=combine([part.piece for part in parts]), name=name)


# What fits together.

_MUST_AGREE: tuple[tuple[str, Callable[[Adapter], Any], Callable[[Adapter], Any]], ...] = (
    ("base model", lambda a: a.record["base"]["fingerprint"],
     lambda a: f"{a.record['base']['id']} (fingerprint {a.record['base']['fingerprint'][:12]})"),
    ("hypernetwork", lambda a: a.record["hypernetwork"]["sha256"],
     lambda a: f"{a.record['hypernetwork']['id']} (sha256 {a.record['hypernetwork']['sha256'][:12]})"),
    ("rank", lambda a: a.rank, lambda a: a.rank),
    ("scale", lambda a: a.scale, lambda a: a.scale),
    ("number of layers", lambda a: a.num_layers, lambda a: a.num_layers),
    ("layer size", lambda a: (a.A.shape[2], a.B.shape[2]), lambda a: f"{a.A.shape[2]} x {a.B.shape[2]}"),
)
"""Properties that must agree: name, value compared, value shown. target_modules is one thing in either format."""


def _check_fit(first: Adapter, other: Adapter) -> None:
    for what, value, shown in _MUST_AGREE:
        if value(first) != value(other):
            raise AdapterError(f"{first.name} and {other.name} cannot be composed, since they differ in {what}: "
                               f"{shown(first)} and {shown(other)}; compose adapters that were made alike.")


def _same_dtype(adapters: Sequence[Adapter]) -> tuple[Sequence[Adapter], list[str]]:
    """Adapters in one dtype, exactly, and notes.

    The narrower bias is a rounding of the wider, so the wider must be at hand: float32 joins with either half type,
    the two half types not with each other.
    """
    first = adapters[0]
    other = next((adapter for adapter in adapters if adapter.dtype != first.dtype), None)
    if other is None:
        return adapters, []
    exact = next((adapter for adapter in adapters if adapter.dtype == "float32"), None)
    if exact is None:
        raise AdapterError(f"{first.name} and {other.name} cannot be composed exactly, since one holds {first.dtype} "
                           f"and the other {other.dtype}; ingest the other again with --adapter-dtype {first.dtype}.")
    return [_widen(adapter, exact) for adapter in adapters], ["Adapters of different dtypes were composed as float32."]


def _widen(adapter: Adapter, exact: Adapter) -> Adapter:
    if adapter.dtype == "float32":
        return adapter
    for wide, narrow in ((exact.bias_A, adapter.bias_A), (exact.bias_B, adapter.bias_B)):
        if from_float32(wide, adapter.dtype).tobytes() != narrow.tobytes():
            raise _other_bias(exact, adapter)
    return replace(adapter, A=to_float32(adapter.A, adapter.dtype), B=to_float32(adapter.B, adapter.dtype),
                   bias_A=exact.bias_A, bias_B=exact.bias_B, dtype="float32")


def _same_bias(adapters: Sequence[Adapter]) -> Adapter:
    """The adapter whose bias stands for all: one hypernetwork has one bias, to the last bit."""
    first = adapters[0]
    bias_A, bias_B = first.bias_A.tobytes(), first.bias_B.tobytes()
    for other in adapters[1:]:
        if other.bias_A.tobytes() != bias_A or other.bias_B.tobytes() != bias_B:
            raise _other_bias(first, other)
    return first


def _other_bias(first: Adapter, other: Adapter) -> AdapterError:
    return AdapterError(f"{first.name} and {other.name} cannot be composed: they name the same hypernetwork and carry "
                        "different biases, so one of them was changed; ingest them again.")


# Order, repeats and notes.


def _in_time_order(parts: Sequence[_Part]) -> list[_Part]:
    """Sorting by video as first met is what keeps `join` associative: a sorted part does not change who comes first. So
    does sorting what was watched live by when it started, and placing it behind all others."""
    videos: dict[str, tuple[float, int]] = {}
    for part in parts:
        first = part.segments[0]
        began = wall_start(first.source)
        videos.setdefault(first.video, (began.timestamp() if began else -math.inf, len(videos)))

    def place(part: _Part) -> tuple[tuple[float, int], float, float]:
        video, start, end = part.segments[0].key
        return videos[video], start, end

    return sorted(parts, key=place)


def _refuse_repeats(segments: Sequence[_Segment]) -> None:
    seen: dict[str, _Segment] = {}
    for segment in segments:
        key = encode([*segment.key, segment.record["segments"][0]["timestamps"], segment.record["sampling"]])
        twin = seen.setdefault(key, segment)
        if twin is not segment:
            raise AdapterError(f"{twin.file} and {segment.file} both hold {segment}, sampled alike, which would count "
                               "double; give each segment once.")


def _notes(segments: Sequence[_Segment]) -> list[str]:
    notes = []
    names: dict[str, str] = {}
    for segment in segments:
        names.setdefault(segment.video, segment.source["name"])
    if len(names) > 1:
        notes.append(f"Segments of {len(names)} different videos were composed: {_listed([*names.values()])}.")
    # What was compressed comes as one piece, whatever lies between its segments.
    in_time = sorted(segments, key=lambda segment: segment.key)
    overlaps, latest = [], in_time[0]
    for segment in in_time[1:]:
        if segment.video == latest.video and segment.start < latest.end:
            overlaps.append((latest, segment))
        if segment.video != latest.video or segment.end > latest.end:
            latest = segment
    if overlaps:
        a, b = overlaps[0]
        more = f" (and {len(overlaps) - 1} more)" if len(overlaps) > 1 else ""
        notes.append(f"Segments overlap, so what they share counts more than once: {a} and {b}{more}.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
