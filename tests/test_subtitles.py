"""Subtitles and chapters: what ffmpeg's libraries read back from the files is what was written."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest

from v2l.report.subtitles import SUBTITLES, Cue, subtitles

CUES = [Cue(12.0, 24.25, "A red ring\nmoves left."), Cue(0.0, 12.0, "Ünïcode; a=b #1 \\ & more"),
        Cue(3600.5, 360_000.0, "late"), Cue(30.0, 40.0, "  \n ")]
SPANS = [(0, 12_000), (12_000, 24_250), (3_600_500, 360_000_000)]
TEXTS = ["Ünïcode; a=b #1 \\ & more", "A red ring moves left.", "late"]
TRICKS = ["00:00:01,000 --> 00:00:02,000", "\n\n9\n00:00:01,000 --> 00:00:02,000\nhidden", "NOTE\n\nSTYLE",
          "<b>bold</b> {\\an8}", "[CHAPTER]\nSTART=5\ntitle=x\n;FFMETADATA1"]


def cues_read(text: str, format: str) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds and text of every cue, as libavformat reads them."""
    with av.open(io.BytesIO(text.encode()), format={"vtt": "webvtt"}.get(format, format)) as file:
        (stream,) = file.streams
        assert stream.time_base == Fraction(1, 1000)
        return [(packet.pts, packet.pts + packet.duration, bytes(packet).decode())
                for packet in file.demux() if packet.size]


def chapters_read(text: str) -> list[tuple[int, int, str]]:
    with av.open(io.BytesIO(text.encode()), format="ffmetadata") as file:
        return [(each["start"], each["end"], each["metadata"]["title"]) for each in file.chapters()]


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles_are_read_back(format: str) -> None:
    """In the order of time, each text on one line; a cue without text is left out."""
    found = cues_read(subtitles(CUES, format), format)
    assert [cue[:2] for cue in found] == SPANS
    expected = [text.replace("&", "&amp;") for text in TEXTS] if format == "vtt" else TEXTS
    assert [cue[2] for cue in found] == expected


def test_chapters_are_read_back() -> None:
    expected = [(*span, text) for span, text in zip(SPANS, TEXTS, strict=True)]
    assert chapters_read(subtitles(CUES, "chapters")) == expected


@pytest.mark.parametrize("format", SUBTITLES)
def test_no_text_makes_a_cue_of_its_own(format: str) -> None:
    """Times stay what they are, whatever a model says."""
    written = subtitles([Cue(float(i), i + 1.0, text) for i, text in enumerate(TRICKS)], format)
    found = chapters_read(written) if format == "chapters" else cues_read(written, format)
    assert [cue[:2] for cue in found] == [(1000 * i, 1000 * i + 1000) for i in range(len(TRICKS))]
    if format == "chapters":
        assert [cue[2] for cue in found] == [" ".join(text.split()) for text in TRICKS]
    else:
        assert "<b>" not in found[3][2]


@pytest.mark.parametrize("format", SUBTITLES)
def test_a_file_without_cues_is_one_still(format: str) -> None:
    written = subtitles([Cue(0.0, 1.0, "")], format)
    assert written.startswith({"srt": "\n", "vtt": "WEBVTT\n", "chapters": ";FFMETADATA1\n"}[format])
    assert written.endswith("\n")
