"""Times of a video in text, as people write and read them."""

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
