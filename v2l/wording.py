"""Numbers, sizes, times and names as people write and read them, each in one way."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches

_CLOCK = re.compile(r"(?:(?:(\d+):(?=[0-5]?\d:))?(\d+):(?=[0-5]?\d(?:\.|$)))?(\d+(?:\.\d+)?)", re.ASCII)
_UNITS = re.compile(r"(?=\d)(?:(\d+(?:\.\d+)?)\s*h\s*)?(?:(\d+(?:\.\d+)?)\s*m\s*)?(?:(\d+(?:\.\d+)?)\s*s)?",
                    re.ASCII | re.IGNORECASE)

TIME_FORMS = "90, 5s, 1:30, 2m or 1h5m"
"""How times are written, for help and errors: whatever `clock_seconds` reads."""

_WALL = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)? ?"
                   r"(?:(Z)|([+-])(\d\d):?(\d\d))?)?", re.ASCII | re.IGNORECASE)
_YEARS = 1970, 2900
"""Between these every system knows what is local time; Windows knows no other years."""
WALL_FORM = "2026-11-28T14:00"
"""How moments of the wall clock are written, for help and errors: one of what `wall_time` reads."""


def clock_seconds(text: str) -> float | None:
    """Seconds of a time as people write it: `90`, `90.5`, `5s`, `2m`, `1.5h`, `1h5m`, `MM:SS`, `H:MM:SS.fff`; None
    where it is nothing of the kind."""
    match = _CLOCK.fullmatch(text.strip()) or _UNITS.fullmatch(text.strip())
    if not match:
        return None
    hours, minutes, seconds = (float(part) for part in match.groups(default="0"))
    total = hours * 3600 + minutes * 60 + seconds
    return total if total < math.inf else None


def wall_time(text: str) -> datetime | None:
    """A moment of the wall clock as people write it, in UTC: `2026-11-28`, `2026-11-28T14:00`, `2026-11-28
    14:00:05.5+01:00`, `2026-11-28T13:00Z`; local time where no zone is given. None where it is nothing of the kind."""
    match = _WALL.fullmatch(text.strip())
    if not match or not _YEARS[0] < int(match[1]) < _YEARS[1]:
        return None
    *numbers, fraction, utc, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    try:
        naive = datetime(year, month, day, hour, minute, second, int((fraction or "").ljust(6, "0")))
        if utc or sign:
            ahead = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
            return naive.replace(tzinfo=timezone(ahead)).astimezone(timezone.utc)
        return naive.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):  # the 30th of February, or a zone a day away
        return None


def same_day(clock: str, moment: str) -> datetime | None:
    """A time of day, `20:59` or `20:59:33.5`, on the day and in the zone of a moment that people wrote, in UTC; None
    where they are nothing of the kind."""
    match = _WALL.fullmatch(moment.strip())
    if not match:
        return None
    year, month, day, *_, utc, sign, hours, minutes = match.groups(default="")
    return wall_time(f"{year}-{month}-{day}T{clock.strip()}{utc}{sign}{hours}{minutes}")


def wall_text(when: datetime) -> str:
    """A moment as a clock here shows it, in local time: 2026-11-28 14:00:05."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def wall_span_text(start: datetime, end: datetime) -> str:
    """2026-11-28 14:00:00 to 14:01:00, with the second date where it is another."""
    (day, _), (last, clock) = wall_text(start).split(), wall_text(end).split()
    return f"{wall_text(start)} to {clock if day == last else wall_text(end)}"


def wall_json(when: datetime) -> str:
    """A moment in UTC to the millisecond, for JSON and for records: 2026-11-28T13:00:05.250Z."""
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_text(seconds: float) -> str:
    """A point in a video as `--start` takes it: 0:05, 12:30.5, 1:02:03."""
    whole, thousandths = divmod(abs(round(seconds * 1000)), 1000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
    text += f".{thousandths:03d}".rstrip("0") if thousandths else ""
    return f"-{text}" if round(seconds * 1000) < 0 else text


def file_time_text(seconds: float) -> str:
    """A point in a video as part of a file's name, of the same length below 100 hours: 01h02m03s, 00h00m05.250s."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    fraction = f".{thousandths:03d}" if thousandths else ""
    return f"{whole // 3600:02d}h{whole // 60 % 60:02d}m{whole % 60:02d}{fraction}s"


def clock_text(seconds: float) -> str:
    """How long something has taken or will take, as a clock shows it: 0:05, 12:30, 1h02."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}"


def duration_text(seconds: float) -> str:
    """How long something takes, in two digits: 2.1 ms, 0.53 s, 12 s, 4.5 min, 2 h."""
    units = (("ms", 0.001, 100), ("s", 1, 120), ("min", 60, 120), ("h", 3600, math.inf))
    return _in_unit(seconds, units, lambda value: f"{value:.2g}" if value < 9.95 else f"{value:,.0f}")


def size_text(size: float) -> str:
    """Bytes in three digits: 999 bytes, 8.1 MB, 139 GB."""
    if size < 999.5:
        return f"{size:.0f} bytes"
    return _in_unit(size, (("kB", 1e3, 1000), ("MB", 1e6, 1000), ("GB", 1e9, 1000), ("TB", 1e12, math.inf)),
                    lambda value: f"{value:.3g}" if value < 999.5 else f"{value:,.0f}")


def _in_unit(value: float, units: Iterable[tuple[str, float, float]], number: Callable[[float], str]) -> str:
    """The value in the first unit (its name, its size, and what is too much for it) for which it is not too much as it
    is written: 119.9 s would be written as 120 s, so it is 2 min."""
    return next(f"{text} {unit}" for unit, size, limit in units
                if float((text := number(value / size)).replace(",", "")) < limit)


def number_text(value: float) -> str:
    """20M, 26.1k, 1,024, 37, 3.5, 0.053."""
    if value == 0 or 99.5 <= abs(value) < 9999.5:
        return f"{value:,.0f}"
    if abs(value) < 99.5:
        return f"{value:.2g}" if abs(value) >= 0.0009995 else f"{value:.0e}"
    thousands = (("k", 1e3, 1000), ("M", 1e6, 1000), ("G", 1e9, math.inf))
    text = _in_unit(abs(value), thousands, lambda part: f"{part:.3g}" if part < 999.5 else f"{part:,.0f}")
    return f"{'-' * (value < 0)}{text.replace(' ', '')}"


def ratio_text(value: float | None) -> str:
    """17×; nothing for None."""
    return "" if value is None else f"{number_text(value)}×"


def count_of(count: int, what: str) -> str:
    """1 clip, 2 clips."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def shortened(text: str, room: int) -> str:
    """At most `room` characters; the end stays, where a name differs from its neighbours."""
    if len(text) <= room:
        return text
    front = (room - 1) // 2
    return f"{text[:front]}…{text[len(text) - (room - 1 - front):]}"


_PLAIN = re.compile(r"[\w@%+=:,./\\-]+", re.ASCII)
"""What shells on Windows take without quotes."""


def shell_word(name: str | os.PathLike[str]) -> str:
    """A name as a shell takes it: quoted where it must be, and no option though it begins with a dash."""
    text = os.fspath(name)
    text = f"./{text}" if text.startswith("-") and text != "-" else text
    if os.name == "nt":  # cmd takes double quotes alone, and PowerShell them too
        return text if _PLAIN.fullmatch(text) else f'"{text}"'
    return shlex.quote(text)


def command(words: str, *names: str | os.PathLike[str]) -> str:
    """A command of v2l that a user can type as it is: `words` as they are, then names, as a shell takes them."""
    return " ".join(["v2l", words, *map(shell_word, names)])


def not_among(word: str, names: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """'word' is not a, b or c (did you mean b?); what may have been meant is one of the names or of their aliases."""
    *others, last = names
    choice = f"{', '.join(others)} or {last}" if others else last
    return f"{word!r} is not {choice}{nearest(word, [*others, last, *aliases])}"


def nearest(word: str, names: Iterable[str]) -> str:
    """` (did you mean NAME?)` where one of the names is much like a word; nothing where none is."""
    close = get_close_matches(word.lower(), list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
