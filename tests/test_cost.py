"""What watching costs is told before it is paid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.cli import run
from support.videos import write

from v2l.cli.console import Console
from v2l.cli.cost import Cost, Teller
from v2l.engine import Engine
from v2l.video.clip import open_clip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cost") / "film.mp4", frames=200, rate=1)


def cost(engine: Engine, video: Path, segmented: bool = False, **changes: int) -> Cost:
    sampling = engine.sampling(**changes)
    return Cost(engine, open_clip(video, sampling), sampling, segmented)


class Told(Console):
    """A console that keeps what it warns of."""

    def __init__(self) -> None:
        super().__init__(quiet=False)
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


def watched(of: Cost, seconds_a_frame: float, videos: int = 1) -> list[str]:
    """What is told while the frames of a clip come, four at a time and the model at first."""
    console, now, frames = Told(), 0.0, len(of.clip.indices)
    teller = Teller(console, of, videos, clock=lambda: now)
    teller.progress("film.mp4", 0, frames)
    now += 100  # the model is loaded
    for frame in range(1, frames + 1):
        teller.progress("film.mp4", frame, frames)
        now += 4 * seconds_a_frame * (frame % 4 == 0)
    return console.lines


def test_long_work_says_how_long_and_what_is_cheaper(engine: Engine, video: Path) -> None:
    of = cost(engine, video, frames=160, resolution=1920)
    (line,) = watched(of, 5)
    told = re.fullmatch(r"160 frames of .*film\.mp4 \(\d+ tiles each\) take ([\d.]+) (min|h) or more, and about "
                        r"[\d.]+ [MG]B of memory; --resolution 64 takes 1 % of it, --frames 128 takes (\d+) % of it.*",
                        line)
    assert told and float(told[1]) > (156 * 5 / 60 if told[2] == "min" else 156 * 5 / 3600)
    assert 50 < int(told[3]) < 81  # of tokens half again as many, attention takes more than that


def test_short_work_says_nothing(engine: Engine, video: Path) -> None:
    assert watched(cost(engine, video), 0.5) == []
    assert watched(cost(engine, video), 0.5, videos=50)[0].startswith("50 videos like ")


def test_segments_are_reckoned_by_their_frames(engine: Engine, video: Path) -> None:
    (line,) = watched(cost(engine, video, segmented=True, frames=160), 3)
    assert line.startswith("The segments of ") and "fewer --frames of each segment" in line


def test_memory_that_does_not_suffice_is_told_before_anything_is_watched(
        video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.bench.speed.machine.free_memory", lambda: 100_000_000)
    given = ("ingest", video, "--frames", 2, "-o", tmp_path / "a.v2lora")
    told = " ".join(run(*given).stderr.split())
    assert re.match(r"Note: 2 frames of .* need about 4\d\d MB of memory, and 100 MB are free; ", told)
    assert "MB" not in run(*given).stderr  # it is up to date
    assert run(*given, "--force", "--quiet").stderr == ""
