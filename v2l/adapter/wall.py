"""The wall clock of a source that was watched live, which its record tells besides what any video's does.

- `started`: the moment of its time 0, ISO 8601 with a zone (2026-11-28T13:00:00.250Z). All its times are seconds from
  there on, as of any video
- `gaps`: [start, end, reason] of each stretch in which no picture came
- `dropped`: what was not watched because the base could not keep up: `rule`, a sentence, and numbers of what it cost
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from v2l.errors import UsageError
from v2l.system.strict_json import Invalid, is_finite
from v2l.wording import WALL_FORM, time_text, wall_json, wall_span_text, wall_text, wall_time

When = float | datetime
"""Where a choice of segments begins or ends: seconds of a video, or a moment of the wall clock."""
FARTHEST = 1e9
"""Seconds from `started` that a time may lie away: 31 years, which every clock and calendar can add."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


def check_live(source: Mapping[str, Any], where: str) -> None:
    """Raises Invalid, calling the source `where`, unless what it tells of being watched live is what it should be."""
    for key, check in (("started", _moment), ("gaps", _gaps), ("dropped", _dropped)):
        if key in source and not check(source[key]):
            raise Invalid(f"'{key}' in {where} is not what it should be")


def check_times(source: Mapping[str, Any], segment: Mapping[str, Any], where: str) -> None:
    """Raises Invalid where a segment of a source with a wall clock lies where no calendar reaches."""
    times = segment["start"], segment["end"], *segment["timestamps"]
    if "started" in source and max(map(abs, times)) > FARTHEST:
        raise Invalid(f"{where} lies more than {FARTHEST:.0e} s from when its source started")


def _moment(x: Any) -> bool:
    return isinstance(x, str) and bool(_MOMENT.fullmatch(x)) and wall_time(x) is not None


def _gaps(x: Any) -> bool:
    return isinstance(x, list) and all(
        isinstance(gap, list) and len(gap) == 3 and is_finite(gap[0]) and is_finite(gap[1]) and gap[0] <= gap[1]
        and isinstance(gap[2], str) and gap[2] != "" for gap in x)


def _dropped(x: Any) -> bool:
    return isinstance(x, dict) and isinstance(x.get("rule"), str) and x["rule"] != "" and all(
        is_finite(value) and value >= 0 for key, value in x.items() if key != "rule")


def wall_start(source: Mapping[str, Any]) -> datetime | None:
    """The moment of a source's time 0; None where it was not watched live."""
    return wall_time(source["started"]) if "started" in source else None


def wall_moments(sources: Sequence[Mapping[str, Any]], segments: Iterable[Mapping[str, Any]]) -> list[datetime]:
    """When segments of some sources began and ended, of those that were watched live."""
    return [began + timedelta(seconds=segment[key]) for segment in segments for key in ("start", "end")
            if (began := wall_start(sources[segment["source"]]))]


def wall_keys(began: datetime | None, start: float, end: float) -> dict[str, str]:
    """JSON keys of a stretch of a source that began then, `started_at` and `ended_at` in UTC; none where it was not
    watched live."""
    if began is None:
        return {}
    return {name: wall_json(began + timedelta(seconds=at)) for name, at in (("started_at", start), ("ended_at", end))}


def whole_keys(record: Mapping[str, Any]) -> dict[str, str]:
    """JSON keys of when the first segment of a record began and the last ended, as of `wall_keys`, of those that were
    watched live."""
    moments = wall_moments(record["sources"], record["segments"])
    return {"started_at": wall_json(min(moments)), "ended_at": wall_json(max(moments))} if moments else {}


def at_text(began: datetime | None, seconds: float) -> str:
    """A time of a source for people: by the wall clock, in local time, where that is known."""
    return time_text(seconds) if began is None else wall_text(began + timedelta(seconds=seconds))


def stretch_text(began: datetime | None, start: float, end: float) -> str:
    """A stretch of a source for people: by the wall clock, in local time, where that is known."""
    if began is None:
        return f"{time_text(start)} to {time_text(end)}"
    return wall_span_text(began + timedelta(seconds=start), began + timedelta(seconds=end))


def check_kinds(start: When | None, end: When | None) -> None:
    """UsageError where one of two bounds is of the wall clock, the other of a video."""
    if None not in (start, end) and isinstance(start, datetime) != isinstance(end, datetime):
        raise UsageError("Of the two times, one has a date and the other is of the video; write both as "
                         f"{WALL_FORM} or both as 1:30.")


def check_order(start: When | None, end: When | None, named: str = "The end must come after the start.") -> None:
    """UsageError, in those words, where nothing of a video or of a day can lie between two bounds; and where they are
    of two kinds."""
    check_kinds(start, end)
    earliest = 0.0 if start is None and not isinstance(end, datetime) else start
    if end is not None and earliest is not None and end <= earliest:  # type: ignore[operator]
        raise UsageError(named)


def seconds_of(bound: When, source: Mapping[str, Any]) -> float:
    """Seconds of a source that a bound is at; a moment needs a source that was watched live."""
    if not isinstance(bound, datetime):
        return bound
    began = wall_start(source)
    assert began is not None
    return (bound - began).total_seconds()


def overlaps(segment: Mapping[str, Any], source: Mapping[str, Any], start: When | None, end: When | None) -> bool:
    """Whether a segment of a source overlaps [start, end); None leaves a side open, and a moment needs a source that
    was watched live."""
    first = -math.inf if start is None else seconds_of(start, source)
    last = math.inf if end is None else seconds_of(end, source)
    begin, stop = segment["start"], segment["end"]
    # A segment of no length, one frame, is where it starts.
    return bool(begin < last and (stop > first or begin == stop == first))
