"""What is said of a video at which time, written for players: SubRip and WebVTT subtitles, and chapters.

WebVTT serves as subtitles and, in a page's `<track kind="chapters">`, as chapters; ffmpeg reads chapters from its own
metadata file. Text becomes one line, and nothing in it can end a cue or begin another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SUBTITLES = ("srt", "vtt", "chapters")
"""The formats by name: SubRip, WebVTT, and ffmpeg's metadata file with a chapter for each cue."""


@dataclass(frozen=True)
class Cue:
    """A text and when it holds, in seconds from the start of the video."""

    start: float
    end: float
    text: str


def subtitles(cues: Iterable[Cue], format: str) -> str:
    """A whole file of that format, one of SUBTITLES, with the cues that have a text, in the order of time; it ends with
    a newline."""
    write = {"srt": _srt, "vtt": _vtt, "chapters": _chapters}[format]
    lines = [Cue(max(0.0, cue.start), max(0.0, cue.end), " ".join(cue.text.split())) for cue in cues]
    return write(sorted((cue for cue in lines if cue.text), key=lambda cue: (cue.start, cue.end)))


def _srt(cues: list[Cue]) -> str:
    """SubRip has no way to write its arrow, or what looks like a tag, as text: both get a look-alike."""
    text = lambda cue: cue.text.replace("-->", "->").replace("<", "\u2039").replace("{", "(").replace("}", ")")
    return "\n".join(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text(cue)}\n"
                     for number, cue in enumerate(cues, 1)) or "\n"


def _vtt(cues: list[Cue]) -> str:
    text = lambda cue: cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "\n".join(["WEBVTT\n", *(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text(cue)}\n"
                                    for cue in cues)])


_ESCAPED = str.maketrans({character: f"\\{character}" for character in "=;#\\"})


def _chapters(cues: list[Cue]) -> str:
    return "\n".join([";FFMETADATA1", *(
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={_milliseconds(cue.start)}\nEND={_milliseconds(cue.end)}\n"
        f"title={cue.text.translate(_ESCAPED)}" for cue in cues)]) + "\n"


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(seconds: float, point: str) -> str:
    """01:02:03.250, with that decimal point; hours may pass 99."""
    whole, thousandths = divmod(_milliseconds(seconds), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{thousandths:03d}"
