"""The file of a live memory: one adapter of its segments, whole at any moment, which old segments may leave.

After each segment the file is read, joined with it and written anew under its name, so nothing of it stays in memory,
and whoever reads it, or goes on with it after a crash, finds all segments but the one that was open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from v2l.adapter import Adapter, Label, load, load_label, save
from v2l.adapter.join import join, slice_segments
from v2l.adapter.label import MAX_HEADER
from v2l.adapter.provenance import Provenance
from v2l.adapter.record import Record
from v2l.adapter.wall import wall_moments
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import OutputError, V2LError
from v2l.system.files import without_ending

DAY = 24 * 3600.0
"""Seconds of the longest stretch that has a file of its own."""
_SHARE = 0.75
"""Share of what one file can say of its segments that a memory fills."""
MOST_WAITING = 60
"""Segments that wait for a disk on which nothing can be written, before the oldest is given up."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(-\d\d(-\d\d)?)?)?", re.ASCII)
"""When a file begins, as its name says it."""


def most_segments(frames: int) -> int:
    """How many segments of so many frames one file holds; more push out the oldest."""
    return int(_SHARE * MAX_HEADER) // (120 + 20 * frames)  # about what they take


@dataclass(frozen=True)
class Kept:
    """A segment that stands in its file."""

    path: Path
    segment: Adapter
    """The segment alone."""
    segments: int
    """How many the file holds now."""
    size: int
    """Bytes of the file."""


class Rolling:
    """The file of a watch, or its files, one for each stretch of the day."""

    def __init__(self, output: Path, keep: float | None = None, roll: float | None = None) -> None:
        """`keep`: seconds after which segments leave; `roll`: seconds of a stretch that has a file of its own."""
        self.output, self.keep, self.roll = output, keep, roll
        self.made_with: Provenance | None = None
        """What segments are made with; files that are there must have been, too."""
        self.waiting: list[Adapter] = []
        """Segments that are not in a file yet, because it could not be written."""

    def path_at(self, moment: datetime) -> Path:
        """The file of a moment: where `roll` is given, `cam-2026-11-28T14.v2lora` for `cam.v2lora`, by local time.
        Stretches count from midnight."""
        if self.roll is None:
            return self.output
        local = moment.astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        past = (local.replace(tzinfo=None) - midnight).total_seconds()
        begin = midnight + timedelta(seconds=past // self.roll * self.roll)
        form = "%Y-%m-%d" if self.roll == DAY else "%Y-%m-%dT%H" + (
            "" if self.roll % 3600 == 0 else "-%M" if self.roll % 60 == 0 else "-%M-%S")
        return without_ending(self.output, [ADAPTER_SUFFIX]).with_name(
            f"{self._stem}-{begin.strftime(form)}{ADAPTER_SUFFIX}")

    @property
    def _stem(self) -> str:
        return without_ending(self.output, [ADAPTER_SUFFIX]).name

    def check(self, moment: datetime, made_with: Provenance) -> Label | None:
        """What the file of a moment says, if it is there and more can be added to it. AdapterError; OutputError where
        no watch wrote it, or one with another model."""
        self.made_with, path = made_with, self.path_at(moment)
        return _checked(path, made_with, "name another file with -o") if path.exists() else None

    def add(self, segment: Adapter) -> list[Kept]:
        """Writes a segment, and before it those that wait, into their files; what became of each.

        Files of before that know of this watch learn what its record says now. OutputError where a file cannot be
        written: the segments wait then. AdapterError where one was damaged.
        """
        self.waiting.append(segment)
        return self.write()

    def write(self) -> list[Kept]:
        """Writes the segments that wait. Errors as of `add`."""
        kept: list[Kept] = []
        for path, group in groupby(list(self.waiting), lambda one: self.path_at(_first(one))):
            segments = list(group)
            whole = self._joined(path, segments)
            new = not path.exists()
            save(whole, path)
            del self.waiting[:len(segments)]
            kept += [Kept(path, one, len(whole.segments), whole.file_size) for one in segments]
            if new and self.keep is not None and self.roll is not None:
                self._remove_old(_last(whole.record) - timedelta(seconds=self.keep))
        return kept

    def give_up(self) -> Adapter | None:
        """The segment that has waited longest, no longer waiting, where more wait than may."""
        return self.waiting.pop(0) if len(self.waiting) > MOST_WAITING else None

    def _joined(self, path: Path, segments: Sequence[Adapter]) -> Adapter:
        now = segments[-1].sources[0]
        if path.exists() and self.made_with:  # another program may have put it there since watching began
            _checked(path, self.made_with, "move it away, and what waits is written")
        parts = [load(path)] if path.exists() else []
        whole, _ = join([with_source(part, now) for part in (*parts, *segments)])
        if self.keep is not None:
            whole = since(whole, _last(whole.record) - timedelta(seconds=self.keep))
        if (over := len(whole.segments) - most_segments(max(len(one["timestamps"]) for one in whole.segments))) > 0:
            whole = slice_segments(whole, range(over, len(whole.segments)))
        return trimmed(whole)

    def _remove_old(self, before: datetime) -> None:
        """Removes the files of this memory that hold nothing of later."""
        for path in self.files():
            with suppress(V2LError, OSError):
                record = load_label(path).record
                if is_live(record) and _last(record) <= before:
                    path.unlink()

    def files(self) -> list[Path]:
        """The files for stretches of the day that are there."""
        begin = f"{self._stem}-"
        with suppress(OSError):
            return sorted(path for path in self.output.parent.iterdir() if path.name.startswith(begin)
                          and path.suffix == ADAPTER_SUFFIX and _STAMP.fullmatch(path.stem.removeprefix(begin)))
        return []


def _checked(path: Path, made_with: Provenance, way_out: str) -> Label:
    """What a file says, if more can be added to it. AdapterError; OutputError, with what can be done about it."""
    label = load_label(path)
    base, made_by = label.record["base"], label.record["hypernetwork"]
    if not is_live(label.record):
        raise OutputError(f"{path} is there, and no watch wrote it; {way_out}.")
    if base["fingerprint"] != made_with.base or made_by["sha256"] != made_with.hypernetwork:
        raise OutputError(f"{path} was made with the model {base['id']}, which differs; name that with --model, or "
                          f"{way_out}.")
    if label.dtype != made_with.dtype:
        raise OutputError(f"{path} holds {label.dtype}, not {made_with.dtype}; name that with --adapter-dtype, or "
                          f"{way_out}.")
    return label


def is_live(record: Record) -> bool:
    """Whether all that a file holds was watched live."""
    return all("started" in source for source in record["sources"])


def with_source(adapter: Adapter, source: Record) -> Adapter:
    """The adapter with what is known now of a source, where it has segments of it."""
    return _with_sources(adapter, [source if one["sha256"] == source["sha256"] else one for one in adapter.sources])


def since(adapter: Adapter, moment: datetime) -> Adapter:
    """The adapter without the segments that ended by a moment; what was compressed together goes when all of it did,
    and the last stays whatever its age."""
    def last(inside: Sequence[int]) -> datetime:
        return max(wall_moments(adapter.sources, [adapter.segments[i] for i in inside]))

    kept: list[int] = []
    ranks = [segment["rank"] for segment in adapter.segments]
    for _, group in groupby(range(len(ranks)), key=lambda i: tuple(ranks[i])):
        inside = list(group)
        if last(inside) > moment:
            kept += inside
    if not kept or len(kept) == len(ranks):
        return adapter
    return slice_segments(adapter, kept)


def trimmed(adapter: Adapter) -> Adapter:
    """The adapter without the gaps that end before the first segment of their source."""
    first: dict[int, float] = {}
    for segment in adapter.segments:
        first[segment["source"]] = min(segment["start"], first.get(segment["source"], segment["start"]))
    sources = [{**source, "gaps": [gap for gap in source["gaps"] if gap[1] > first[i]]} if "gaps" in source else source
               for i, source in enumerate(adapter.sources)]
    return _with_sources(adapter, sources)


def _with_sources(adapter: Adapter, sources: list[Record]) -> Adapter:
    return replace(adapter, record={**adapter.record, "sources": sources})


def _first(adapter: Adapter) -> datetime:
    """When an adapter's first segment began, by the wall clock."""
    return wall_moments(adapter.sources, adapter.segments[:1])[0]


def _last(record: Record) -> datetime:
    """When the last segment ended, by the wall clock."""
    return max(wall_moments(record["sources"], record["segments"]))
