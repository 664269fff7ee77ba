"""Watching live: pictures become segments as they come, and segments a file that is whole at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.cli import documents, run
from support.videos import number, write

from v2l.adapter import load
from v2l.config import Sampling
from v2l.engine import Engine
from v2l.live.address import parse_address
from v2l.live.source import Picture, Reading, events
from v2l.live.windows import Plan, Window, Windows
from v2l.video.clip import open_clip
from v2l.video.cuts import regular, windows
from v2l.video.given import clip_of_frames


def cut(path: Path, plan: Plan) -> Iterator[Window]:
    """The windows of a file that is watched as a live source."""
    open_one = Windows(plan)
    for event in events(parse_address(str(path)), Reading(plan)):
        if isinstance(event, Picture):
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


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, 10 pictures each."""
    return write(tmp_path_factory.mktemp("film") / "film.mkv", frames=40, rate=10)


def test_a_segment_is_what_ingest_makes_of_a_film_of_that_time_alone(film: Path, tmp_path: Path) -> None:
    options = ("--segment", "2s", "--frames", 3, "--device", "cpu", "--json")
    told = documents(run("watch", film, "-o", tmp_path / "a.v2lora", *options))
    assert [(one["start"], one["end"], one["frames"], one["segments"]) for one in told] == [(0, 2, 2, 1), (2, 4, 2, 2)]
    assert told[-1]["size"] == (tmp_path / "a.v2lora").stat().st_size
    memory = load(tmp_path / "a.v2lora")
    assert [segment["timestamps"] for segment in memory.segments] == [[0, 1.9], [2.0, 3.9]]
    assert memory.sources[0]["name"] == str(film) and memory.sources[0]["duration"] == 4

    engine, sampling = Engine("tiny", device="cpu", offline=True), Sampling(frames=3, resolution=64)
    images = [event.rgb for event in events(parse_address(str(film)), Reading()) if isinstance(event, Picture)][20:]
    alone = engine.ingest(clip_of_frames(np.stack(images), [i / 10 for i in range(20)], sampling), sampling)
    assert memory.A[:, 16:].tobytes() == alone.A.tobytes() and memory.B[:, 16:].tobytes() == alone.B.tobytes()
