"""Watching live: pictures become segments as they come, and segments a file that is whole at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from support.videos import number, write

from v2l.config import Sampling
from v2l.live.address import parse_address
from v2l.live.source import Picture, Reading, events
from v2l.live.windows import Plan, Window, Windows
from v2l.video.clip import open_clip
from v2l.video.cuts import regular, windows


def cut(path: Path, plan: Plan) -> Iterator[Window]:
    """The windows of a file that is watched as a live source."""
    open_one = Windows(plan)
    for event in events(parse_address(str(path)), Reading(plan)):
        assert isinstance(event, Picture)
        yield from open_one.add(event.rgb, event.at, event.rate)
    yield from open_one.close()


@pytest.mark.parametrize(("rate", "length", "frames", "fps"), [
    (Fraction(10), 2.0, 12, 1.0), (Fraction(10), 3.0, 4, 8.0), (Fraction(24), 1.5, 5, 2.5),
    (Fraction(25), 1.3, 12, 12.0), (Fraction(30000, 1001), 1.001, 3, 4.0)])
def test_a_film_at_a_constant_rate_gives_the_frames_that_ingest_takes_of_the_file(
        tmp_path: Path, rate: Fraction, length: float, frames: int, fps: float) -> None:
    film = write(tmp_path / "film.mkv", frames=round(6 * length * rate), rate=rate)
    sampling = Sampling(frames=frames, fps=fps)
    clip = open_clip(film, sampling)
    parts = windows(clip, sampling, regular(0, clip.end, length))
    made = list(cut(film, Plan(length, sampling)))
    assert [[number(image) for image in window.images] for window in made] == [clip.window(p).indices for p in parts]
    assert [time for window in made for time in window.times] == pytest.approx(
        [clip.track.times[i] for p in parts for i in clip.window(p).indices], abs=0.001)
    assert [(w.start, w.end) for w in made] == [pytest.approx(clip.span(part), abs=0.002) for part in parts]
