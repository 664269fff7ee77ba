"""Numbers, sizes, times and names as people write and read them, each in one way."""

from __future__ import annotations

import re

_CLOCK = re.compile(r"(?:(?:(\d+):(?=[0-5]?\d:))?(\d+):(?=[0-5]?\d(?:\.|$)))?(\d+(?:\.\d+)?)", re.ASCII)


def clock_seconds(text: str) -> float | None:
    """Seconds of `90`, `90.5`, `MM:SS` or `H:MM:SS.fff`; None where it is nothing of the kind."""
    match = _CLOCK.fullmatch(text)
    if not match:
        return None
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def time_text(seconds: float) -> str:
    """Seconds as `--start` takes them: 0:05, 12:30.5, 1:02:03."""
    if seconds < 0:
        return f"-{time_text(-seconds)}"
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
    return (text + f".{thousandths:03d}").rstrip("0") if thousandths else text


def size_text(size: float) -> str:
    """Bytes for people: 8.1 MB."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} GB"


def shortened(text: str, room: int) -> str:
    """At most `room` characters; the end stays, where a name differs from its neighbours."""
    if len(text) <= room:
        return text
    front = (room - 1) // 2
    return f"{text[:front]}…{text[len(text) - (room - 1 - front):]}"


def number_text(value: float) -> str:
    """20M, 10k, 1,024, 37, 3.5, 0.053."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and abs(value) >= 9999.5:
            return f"{value / size:,.3g}{sign}"
    if value == 0 or abs(value) >= 99.5:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) >= 0.001 else f"{value:.0e}"


def count_text(value: float | None) -> str:
    """26.1k or 1,024 or 33 or 7.3; nothing for None."""
    if value is None:
        return ""
    if value >= 9999.5:
        return f"{value / 1000:.3g}k"
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def times_text(value: float | None) -> str:
    """17×; nothing for None."""
    return f"{count_text(value)}×" if value is not None else ""


def lasting_text(seconds: float) -> str:
    """2.1 ms, 0.53 s, 12 s, 4.5 min, 2 h."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.2g} min" if minutes < 9.95 else f"{minutes:.0f} min"
    return f"{minutes / 60:.2g} h" if minutes < 9.95 * 60 else f"{minutes / 60:,.0f} h"


def clock(seconds: float) -> str:
    """0:05, 12:30, 1h02."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}"
