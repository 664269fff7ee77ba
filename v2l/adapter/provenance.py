"""What adapters are made with, apart from the video: where all of it is the same, `ingest` gives the same adapter."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from v2l.adapter.record import Record, singles
from v2l.adapter.wall import stretch_text, wall_start
from v2l.errors import OutputError
from v2l.wording import time_text

if TYPE_CHECKING:
    from v2l.adapter.file import Adapter
    from v2l.adapter.label import Label


SAME_SPAN = 0.5
"""Seconds that one span may be shorter than another, which holds the same: times of last frames."""


@dataclass(frozen=True)
class Provenance:
    """What an adapter is made with. Names of fields are those that `differences` gives."""

    base: str
    """Fingerprint of the base's text stack."""
    hypernetwork: str
    """sha256 of its weights."""
    sampling: Record
    """How frames are chosen, as recorded: without start and end, which stand with each segment."""
    prompt: str
    """Text that the video is internalized with."""
    compute: str
    """dtype that was computed in."""
    dtype: str
    """dtype that the adapter is stored in."""

    @classmethod
    def of(cls, record: Record, dtype: str) -> Provenance:
        """What the record of one segment says, of an adapter that is stored in `dtype`."""
        return cls(record["base"]["fingerprint"], record["hypernetwork"]["sha256"], record["sampling"],
                   record["prompt"], record["compute"]["dtype"], dtype)

    def differences(
        self, adapter: Adapter | Label, spans: Sequence[tuple[float, float]], video: Record | None = None
    ) -> list[str]:
        """Names of what `adapter` was made with and what is otherwise here; empty where `ingest` would make it again.

        Besides the fields: `segments` where its segments were compressed, or their (start, end) in seconds are not
        `spans`; `video`, if that is given, where one is of another file than it records, or of one read otherwise now.
        """
        segments = singles(adapter.record)
        recorded = [Provenance.of(segment, adapter.dtype) for segment in segments]
        names = [field.name for field in fields(self)
                 if any(getattr(each, field.name) != getattr(self, field.name) for each in recorded)]
        of_segments = [(segment["segments"][0]["start"], segment["segments"][0]["end"]) for segment in segments]
        if "compressed" in adapter.record or of_segments != list(spans):
            names.append("segments")
        if video is not None and any(_nameless(source) != _nameless(video) for source in adapter.record["sources"]):
            names.append("video")
        return names

    def why_kept(
        self, name: str, adapter: Adapter | Label, spans: Sequence[tuple[float, float]], video: Record,
        asked: Collection[str] | None = None, segmented: bool = False,
    ) -> str | None:
        """Why the adapter that stands in the file `name`, where `ingest` would write, stays there: nothing where it is
        up to date, a clause where it is of this video and was made otherwise; None where it is to be replaced, because
        it was made alike and the video has changed since.

        `asked` names what was asked for, and is not only so by default: fields, keys of `sampling`, `segments`, `part`;
        None is all of it. `segmented`: the video is cut into segments. OutputError where the adapter is not what was
        asked for, or could not be made again from the video.
        """
        names = self.differences(adapter, spans, video)
        reason, cut = self._otherwise(adapter, names), "segments" in names
        if "video" in names:
            if not (reason := _composed(adapter.record, segmented) or reason):
                return None
            raise _kept(name, f"{reason}, and its video has changed since")
        if cut:
            reason = reason or (_composed(adapter.record, segmented) if "compressed" in adapter.record else "")
            if not _covers(adapter.record, spans) or asked is None or not {"segments", "part"}.isdisjoint(asked):
                raise _kept(name, reason or _extent(adapter.record))
        if names and (asked is None or self._contradicts(adapter, names, asked)):
            raise _kept(name, reason)
        return reason

    def _otherwise(self, adapter: Adapter | Label, names: Collection[str]) -> str:
        """How it was made otherwise, as a clause about the adapter; nothing where it was made alike."""
        segments = singles(adapter.record)
        one = next((one for one in segments if Provenance.of(one, adapter.dtype) != self), segments[0])
        if "base" in names:
            return f"was made with the model {one['base']['id']}"
        if "hypernetwork" in names:
            return f"was made with the hypernetwork {one['hypernetwork']['id']}"
        if "sampling" in names:
            pairs = {key: (one["sampling"].get(key), value) for key, value in self.sampling.items()}
            return "was made with " + ", ".join(f"{key} {was:g} instead of {now:g}"
                                                for key, (was, now) in pairs.items() if was != now)
        if "prompt" in names:
            return "was made with another prompt"
        if "compute" in names:
            return f"was computed in {one['compute']['dtype']} instead of {self.compute}"
        return f"is stored as {adapter.dtype} instead of {self.dtype}" if "dtype" in names else ""

    def _contradicts(self, adapter: Adapter | Label, names: Collection[str], asked: Collection[str]) -> bool:
        recorded = [one["sampling"] for one in singles(adapter.record)]
        keys = [key for key, value in self.sampling.items() if any(one.get(key) != value for one in recorded)]
        return not {*names, *keys}.isdisjoint(asked)


def _kept(name: str, reason: str) -> OutputError:
    return OutputError(f"{name} {reason}; name another file with -o, or replace it with --force; --output-dir "
                       "can name another folder.")


def _composed(record: Record, segmented: bool) -> str:
    """A clause about an adapter that took more than watching one video; `segmented`: watching it in segments."""
    sources, segments = len(record["sources"]), len(record["segments"])
    if "compressed" in record:
        return f"holds {segments} segments that were compressed" if segments > 1 else "was compressed"
    if segments > 1 and not segmented:
        return f"holds {segments} segments that were joined"
    return f"holds {sources} videos, joined" if sources > 1 else ""


def _times(record: Record) -> list[tuple[float, float]]:
    return [(segment["start"], segment["end"]) for segment in record["segments"]]


def _covers(record: Record, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether its segments follow one another from the beginning of the spans to their end."""
    times, close = _times(record), lambda a, b: abs(a - b) < 1e-3
    return (close(times[0][0], spans[0][0]) and close(times[-1][1], spans[-1][1])
            and all(close(one[1], other[0]) for one, other in pairwise(times)))


def _extent(record: Record) -> str:
    times = _times(record)
    text = f"{time_text(times[0][0])} to {time_text(times[-1][1])}"
    return f"holds {len(times)} segments, {text}" if len(times) > 1 else f"holds {text} in one segment"


def _nameless(source: Record) -> Record:
    """The record of a video without its name, which may change while the file stays the same."""
    return {key: value for key, value in source.items() if key != "name"}


def lost_by(adapter: Adapter, there: Adapter) -> str:
    """What would be lost of the adapter that is there if another took its place: another base's work, or a video or a
    part of one that only the former tells of. Empty where nothing would: composed again, of more or of videos that
    changed."""
    base = there.record["base"]
    if base["fingerprint"] != adapter.record["base"]["fingerprint"]:
        return f"was made for another base, {base['id']}"
    held = _spans(adapter)
    for (name, began), (start, end) in _spans(there).items():
        first, last = held.get((name, began), (math.inf, -math.inf))
        if start < first - SAME_SPAN or end > last + SAME_SPAN:
            return f"holds {stretch_text(began, start, end)} of {name}, which would be lost"
    return ""


def _spans(adapter: Adapter) -> dict[tuple[str, datetime | None], tuple[float, float]]:
    """Where each video's segments begin and end, seconds, by its name and, if it was watched live, when it started."""
    spans: dict[tuple[str, datetime | None], tuple[float, float]] = {}
    for segment in adapter.segments:
        source = adapter.sources[segment["source"]]
        video = source["name"], wall_start(source)
        start, end = spans.get(video, (math.inf, -math.inf))
        spans[video] = min(start, segment["start"]), max(end, segment["end"])
    return spans
