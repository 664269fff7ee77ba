"""Every kind of video: the right frames upright at the right times, or one sentence; damage told; nothing enormous."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability import bombs, corpus, damage
from reliability.corpus import ALL, ENTRIES, NAMES, Entry, can_write, make
from reliability.recorded import RECORDED
from support.cli import MAKE, MODEL, documents, process, refused, run

from v2l.config import MOST_SEGMENTS, Sampling, Scenes
from v2l.errors import UsageError, VideoError
from v2l.video.clip import open_clip
from v2l.video.cuts import regular
from v2l.video.scenes import chosen_cuts

SLOW = ("8k.mp4", "hour.mkv", "tall.mp4")
"""Seconds to write, and much like others; `python tests/reliability/corpus.py` has them."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files that get damaged are."""
    return tmp_path_factory.mktemp("sources")


def entry(name: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.name == name)


@pytest.mark.parametrize("entry", [entry for entry in (*ENTRIES, *RECORDED) if entry.name not in SLOW],
                         ids=lambda entry: entry.name)
def test_the_frames_are_what_they_say(made: Path, entry: Entry) -> None:
    if not can_write(entry):
        pytest.skip("this PyAV cannot write it")
    assert corpus.faults(make(made, entry), entry) == []


def test_a_picture_is_read_only_as_it_stands() -> None:
    for number in (0, 1, 1365, 4095):
        image = corpus.picture(number, 160, 96)
        assert corpus.reading(image) == number
        wrong = [image[::-1], image[::-1, ::-1], image[..., ::-1], image.transpose(1, 0, 2)]
        assert all(corpus.reading(each) != number for each in wrong)
        if number:
            assert corpus.reading(image[:, ::-1]) != number


# -- names, and what is no file --------------------------------------------------------------------------------------


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with one small video."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "video.mp4").write_bytes(make(made, entry("2.mp4")).read_bytes())
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not take")
def test_any_name(here: Path) -> None:
    for name in NAMES:
        (here / name).write_bytes((here / "video.mp4").read_bytes())
        assert [corpus.reading(frame.image) for frame in open_clip(Path(name), ALL).frames()] == [0, 1], name
    result = run("ingest", "--quiet", *MAKE, "--", "-leading.mp4", "emoji \N{CLAPPER BOARD}.mp4", "two\nlines.mp4")
    assert Path("-leading.v2lora").exists() and Path("two\nlines.v2lora").exists()
    assert len(result.stdout.splitlines()) >= 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_links_and_what_is_no_file(here: Path) -> None:
    Path("link.mp4").symlink_to("video.mp4")
    assert documents(run("ingest", "link.mp4", "--json", "--quiet", *MAKE))[0]["source"] == "link.mp4"
    Path("dangling.mp4").symlink_to("nowhere.mp4")
    Path("loop.mp4").symlink_to("loop.mp4")
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
        for name, words in (("dangling.mp4", "no such file"), ("loop.mp4", "loop.mp4"), ("pipe.mp4", "regular file"),
                            ("socket.mp4", "regular file"), ("/dev/zero", "regular file")):
            assert words in refused("ingest", name, *MAKE)


def test_a_video_on_stdin_is_told_from_names_of_videos(here: Path) -> None:
    result = run("ingest", "-", *MAKE, stdin=Path("video.mp4").read_bytes(), status=2)
    assert result.stdout == "" and "save it to a file and name that" in result.stderr
    assert run("ingest", "-", "--quiet", *MAKE, stdin="video.mp4\n").stdout == "video.v2lora\n"


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index-first.mp4", "h264.mkv", "h264.ts", "vp9.webm", "av1.mp4", "mpeg4.avi",
                                  "moving.gif"])
def test_damage_is_told(sources: Path, name: str) -> None:
    if not can_write(damage.SOURCES[name]):
        pytest.skip("this PyAV cannot write it")
    counts, findings = damage.examine(sources, name, cut=8, flip=16)
    assert findings == []
    assert name in damage.SILENT or counts["flip"]["wrong"] <= 2
    assert counts["flip"]["warned"] + counts["flip"]["refused"] >= (4 if name not in damage.SILENT else 0)


@pytest.fixture
def damaged(sources: Path, here: Path) -> Iterator[Path]:
    """An H.264 video with one bit flipped in a picture."""
    content = bytearray(make(sources, damage.SOURCES["h264.mkv"]).read_bytes())
    content[len(content) // 3] ^= 16
    path = here / "damaged.mkv"
    path.write_bytes(content)
    yield Path(path.name)


@pytest.mark.parametrize("how", [[], ["--segment", "1s"]])
def test_an_adapter_of_a_damaged_video_comes_with_a_warning(damaged: Path, how: list[str]) -> None:
    result = run("ingest", damaged, "--frames", 12, "--fps", 5, *how, *MAKE)
    assert result.stdout == "damaged.v2lora\n"
    told = [line for line in result.stderr.splitlines() if "damaged.mkv is damaged" in line]
    assert len(told) == 1


def test_an_answer_from_a_damaged_video_comes_with_a_warning(damaged: Path) -> None:
    result = run("ask", "--direct", damaged, "What?", "--frames", 12, "--fps", 5, "--max-new-tokens", 1, *MODEL,
                 "--resolution", 64)
    assert len([line for line in result.stderr.splitlines() if "damaged.mkv is damaged" in line]) == 1


def test_a_picture_that_is_lost_shifts_no_other(made: Path, tmp_path: Path) -> None:
    """Of a clip of which a part cannot be decoded, the rest still shows what it claims."""
    source = make(made, Entry("long.webm", "libvpx-vp9", frames=500, size=(96, 64), options={
        "g": "4", "deadline": "realtime", "cpu-used": "8", "threads": "1"}))
    content = bytearray(source.read_bytes())
    at = len(content) // 2
    content[at : at + 40] = bytes(40)
    path = tmp_path / "hole.webm"
    path.write_bytes(content)
    clip = open_clip(path, ALL)
    shown = {frame.index: corpus.reading(frame.image) for frame in clip.frames()}
    wrong = [index for index, number in shown.items() if index != number]
    assert len(clip.warnings) == 1 and 0 < len(wrong) <= 8
    assert all(index < shown[index] <= index + 8 for index in wrong)


# -- what is enormous ------------------------------------------------------------------------------------------------


def test_what_small_files_claim_costs_nothing(tmp_path: Path) -> None:
    found, findings = bombs.explode(tmp_path)
    assert findings == []
    assert sum(seconds for *_, seconds in found) < 60
    outcomes = {name: seen["outcome"] for name, _, seen, _ in found}
    assert {name for name, outcome in outcomes.items() if outcome != "refused"} == {
        "growing.h264", "long-frames.mp4", "long.mkv", "wide-track.mp4"}  # in which there are pictures
    assert outcomes["growing.h264"] == "warned"


def test_sound_that_is_counted_by_the_tick_claims_nothing(tmp_path: Path) -> None:
    """Sound of QuickTime's old codecs has more ticks than bytes."""
    path = tmp_path / "a.mov"
    path.write_bytes(content := bombs.quicktime(path))
    assert len(content) < 44100
    assert open_clip(path, ALL).info.frames == 5


def test_centuries_are_not_cut_into_minutes() -> None:
    assert len(regular(0, MOST_SEGMENTS * 60, 60)) == MOST_SEGMENTS - 1
    with pytest.raises(UsageError, match="cut longer ones"):
        regular(0, 1e12, 60)
    with pytest.raises(VideoError, match="take a part"):
        chosen_cuts([], 0, 1e12, Scenes())


def test_a_damaged_header_ends_no_process(made: Path) -> None:
    """In a process of its own, through the command line."""
    path = made / "no frames.mp4"
    path.write_bytes(make(made, entry("2.mp4")).read_bytes()[:600])
    done = process("ingest", path, *MAKE, cwd=made)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_default_sampling_of_an_hour(made: Path) -> None:
    clip = open_clip(make(made, entry("hour.mp4")), Sampling())
    assert clip.indices[0] == 1 and clip.indices[-1] == 3599 and len(clip.indices) == 12
    assert [corpus.reading(frame.image) for frame in clip.frames()] == clip.indices
