"""Many videos: what is decoded ahead, what a bad one does, resuming, shards, the bar, leftovers."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from rich.console import Console as RichConsole
from support.cli import MAKE, REFERENCE, command, documents, environment, refused, run
from support.videos import write
from torch import Tensor

from v2l.adapter import load
from v2l.cli.bar import Bar
from v2l.cli.console import Console
from v2l.cli.outputs import plan_outputs
from v2l.cli.pace import EVERY, Log, Pace, Work
from v2l.cli.shards import Shard
from v2l.config import Sampling
from v2l.engine import Engine
from v2l.errors import OutputError, VideoError
from v2l.many import ingest as bulk
from v2l.many.ingest import Failed, Ingested, Settings, ingest_all
from v2l.many.jobs import Job
from v2l.segments import lock_of
from v2l.system.files import replacing
from v2l.video.clip import Clip, Frame, open_clip
from v2l.wording import clock_text, shortened

VIDEOS = REFERENCE / "videos"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(str(REFERENCE / "tiny-vlm"), str(REFERENCE / "hypernetwork.pt"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four small videos that differ."""
    folder = tmp_path_factory.mktemp("clips")
    return [write(folder / f"{i}.mp4", frames=50 + 10 * i, size=(64, 64)) for i in range(4)]


@pytest.fixture
def jobs(clips: list[Path], tmp_path: Path) -> list[Job]:
    return [Job(clip, tmp_path / f"{clip.stem}.v2lora") for clip in clips]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert "v2l-ahead" not in [thread.name for thread in threading.enumerate()]


def settings(engine: Engine, **changes: object) -> Settings:
    return Settings(engine.sampling(resolution=64, frames=4, fps=2), **changes)  # type: ignore[arg-type]


def broken(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, after: int) -> None:
    """Decoding the video of that name raises `error` after so many frames."""
    usual = Clip.frames

    def frames(self: Clip) -> Iterator[Frame]:
        for number, frame in enumerate(usual(self)):
            if self.info.path.name == name and number == after:
                raise error
            yield frame

    monkeypatch.setattr(Clip, "frames", frames)


# The loop.


def test_what_is_decoded_ahead_is_what_is_watched(engine: Engine, jobs: list[Job]) -> None:
    results = list(ingest_all(engine, jobs, settings(engine)))
    assert [(r.job, r.skipped) for r in results if isinstance(r, Ingested)] == [(job, False) for job in jobs]
    for job, made in zip(jobs, results, strict=True):
        alone = engine.ingest(job.video, settings(engine).sampling)
        there = load(job.output)
        assert isinstance(made, Ingested) and made.size == job.output.stat().st_size and made.record == there.record
        assert there.record == alone.record
        for name, array in alone.tensors().items():
            np.testing.assert_array_equal(there.tensors()[name], array)


def test_the_next_video_is_decoded_while_one_is_computed(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, usual = threading.Event(), engine.internalize

    def internalize(*args: object) -> object:
        assert decoded.wait(20)
        return usual(*args)  # type: ignore[arg-type]

    def frames(self: Clip) -> Iterator[Frame]:
        yield from plain(self)
        if self.info.path == jobs[1].video:
            decoded.set()

    plain = Clip.frames
    monkeypatch.setattr(Clip, "frames", frames)
    monkeypatch.setattr(engine, "internalize", internalize)
    with closing(ingest_all(engine, jobs, settings(engine))) as results:
        assert isinstance(next(results), Ingested)


def test_no_more_frames_wait_than_the_bound(engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    frame, count, usual = 64 * 64 * 3, 0, Clip.frames
    monkeypatch.setattr(bulk, "DECODED_AHEAD", 6 * frame)

    def frames(self: Clip) -> Iterator[Frame]:
        nonlocal count
        for image in usual(self):
            count += 1
            yield image

    def internalize(*_: object) -> object:
        time.sleep(0.3)
        raise RuntimeError(count)

    monkeypatch.setattr(Clip, "frames", frames)
    monkeypatch.setattr(engine, "internalize", internalize)
    with closing(ingest_all(engine, jobs, settings(engine))) as results:
        result = next(results)
    # 4 of this video; ahead at most 6 less what clips count, and one in the making.
    assert isinstance(result, Failed) and 6 <= int(str(result.error)) <= 4 + 7


@pytest.mark.parametrize("error", [VideoError("1.mp4 is damaged."), MemoryError(), ValueError("odd")], ids=repr)
@pytest.mark.parametrize("after", [0, 2])
def test_a_video_that_breaks_on_the_way(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, error: Exception, after: int
) -> None:
    jobs[1].output.write_bytes(b"before")
    monkeypatch.setattr(bulk, "DECODED_AHEAD", 1)  # the thread always waits for room, as it does with real videos
    broken(monkeypatch, "1.mp4", error, after)
    results = list(ingest_all(engine, jobs, settings(engine)))
    assert [type(result) for result in results] == [Ingested, Failed, Ingested, Ingested]
    assert isinstance(results[1], Failed) and results[1].error is error and results[1].job == jobs[1]
    assert jobs[1].output.read_bytes() == b"before"


def test_computing_that_fails_stops_no_other(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, calls = engine.base.see, []

    def see(tiles: Iterator[np.ndarray]) -> object:
        calls.append(next(tiles))
        if len(calls) == 2:
            raise MemoryError  # with frames of the video still to come
        return usual([calls[-1], *tiles])

    monkeypatch.setattr(engine.base, "see", see)
    results = list(ingest_all(engine, jobs, settings(engine)))
    assert [type(result) for result in results] == [Ingested, Failed, Ingested, Ingested]
    assert load(jobs[2].output).record == engine.ingest(jobs[2].video, settings(engine).sampling).record


def test_leaving_early_and_ctrl_c_leave_no_thread(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ingest_all(engine, jobs, settings(engine))) as results:
        next(results)

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "internalize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(ingest_all(engine, jobs[1:], settings(engine)))
    assert [job.output.exists() for job in jobs] == [True, False, False, False]


def test_what_is_up_to_date_is_not_even_opened(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(ingest_all(engine, jobs, settings(engine)))
    opened = []

    def opening(path: Path, sampling: Sampling) -> Clip:
        opened.append(path.name)
        return open_clip(path, sampling)

    monkeypatch.setattr(bulk, "open_clip", opening)
    again = list(ingest_all(engine, jobs, settings(engine)))
    assert all(isinstance(result, Ingested) and result.skipped for result in again) and opened == []
    jobs[2].output.unlink()
    again = list(ingest_all(engine, jobs, settings(engine)))
    assert [isinstance(r, Ingested) and r.skipped for r in again] == [True, True, False, True] and opened == ["2.mp4"]


def test_a_video_of_the_same_size_that_is_another(engine: Engine, jobs: list[Job], tmp_path: Path) -> None:
    copy = shutil.copy(jobs[0].video, tmp_path / "copy.mp4")
    job = Job(copy, tmp_path / "copy.v2lora")
    list(ingest_all(engine, [job], settings(engine)))
    data = bytearray(copy.read_bytes())
    place = data.index(b"Lavf")  # the encoder's name: the same video, other bytes
    data[place] = ord("M")
    copy.write_bytes(data)
    (again,) = ingest_all(engine, [job], settings(engine))
    assert isinstance(again, Ingested) and not again.skipped


def test_a_variable_rate_is_up_to_date_too(engine: Engine, tmp_path: Path) -> None:
    """Its last frame comes after frames / fps, so the record alone does not settle where it ends."""
    stamps = [i * 40 for i in range(40)] + [1655]
    job = Job(write(tmp_path / "vfr.mkv", frames=41, size=(64, 64), stamps_ms=stamps), tmp_path / "vfr.v2lora")
    for skipped in (False, True):
        (made,) = ingest_all(engine, [job], settings(engine))
        assert isinstance(made, Ingested) and made.skipped is skipped
    source = made.record["sources"][0]
    assert made.record["segments"][0]["end"] == 1.655 > source["duration"]


# The command.


def test_a_killed_run_goes_on_where_it_was(here: Path, clips: list[Path]) -> None:
    Path("in").mkdir()
    for number in range(8):
        shutil.copy(clips[number % 4], f"in/{number}.mp4")
    words = ("ingest", "in", "--output-dir", "out", *MAKE)
    with subprocess.Popen(command(*words, "--json"), env=environment(), stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        done = [first, *map(json.loads, process.stdout)]
    there = sorted(name for name in os.listdir("out") if not name.startswith("."))
    assert len(done) <= len(there) < 8
    again = documents(run(*words, "--json"))
    assert again.pop()["counts"]["up to date"] == len(there)
    assert [Path(each["output"]).name for each in again] == [f"{number}.v2lora" for number in range(8)]
    assert sorted(Path(each["output"]).name for each in again if each["skipped"]) == there


def test_a_bad_file_anywhere_is_named_and_counted(here: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch
                                                  ) -> None:
    for number, clip in enumerate(clips):
        shutil.copy(clip, f"{number}.mp4")
    Path("1b.mp4").write_text("no video")
    broken(monkeypatch, "2.mp4", MemoryError(), after=1)
    run("ingest", "0.mp4", *MAKE)
    result = run("ingest", ".", "missing", *MAKE, status=1)
    assert result.stdout == "0.v2lora\n1.v2lora\n3.v2lora\n"
    for error in ("1b.mp4 is text, not a video", "2.mp4: The memory did not suffice", "missing: no such file"):
        assert f"Error: {error}" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("1 up to date, 2 made, 3 failed, ")
    *lines, counts = documents(run("ingest", ".", "missing", "--json", *MAKE, status=1))
    assert [each["source"] for each in lines if "error" in each] == ["1b.mp4", "2.mp4", "missing"]
    assert all(f"Error: {each['error']}\n" in result.stderr for each in lines if "error" in each)
    assert counts.pop("seconds") > 0 and counts == {
        "counts": {"made": 0, "up to date": 3, "kept": 0, "failed": 3, "foreign": 0}}
    assert "failed" not in run("ingest", ".", "--quiet", *MAKE, status=1).stderr
    *told, counts = documents(run("status", ".", "--json", status=1))
    assert counts == {"counts": {"done": 3, "failed": 2, "stale": 0, "missing": 0}}
    reasons = {each["source"]: each["reason"] for each in told if each["state"] == "failed"}
    assert reasons == {each["source"]: each["error"] for each in lines if each["source"] in reasons}
    assert sorted(reasons) == ["1b.mp4", "2.mp4"]


def test_the_next_success_forgets_a_failure(here: Path, clips: list[Path]) -> None:
    Path("a.mp4").write_text("no video")
    for _ in range(2):
        run("ingest", ".", *MAKE, status=1)
        (told, _) = documents(run("status", ".", "--json", status=1))
        assert told["state"] == "failed" and told["reason"].startswith("a.mp4 is text, not a video")
    shutil.copy(clips[0], "a.mp4")
    run("ingest", ".", *MAKE)
    assert sorted(os.listdir()) == ["a.mp4", "a.v2lora"] and run("status", ".").stdout.startswith("1 done, 0 failed")
    Path(".a.v2lora.failed").write_text("{")  # of a run whose disk failed, say
    assert "The note of its failure cannot be read" in run("status", ".", status=1).stdout
    run("ingest", ".", *MAKE)  # it is up to date, which is a success too
    run("status", ".")


def test_a_folder_that_cannot_be_written_is_no_second_failure(
    engine: Engine, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space is left")

    monkeypatch.setattr("v2l.many.failures.replacing", full)
    broken(monkeypatch, jobs[0].video.name, VideoError("0.mp4 is damaged."), after=1)
    (failed,) = ingest_all(engine, jobs[:1], settings(engine))
    assert isinstance(failed, Failed) and str(failed.error) == "0.mp4 is damaged."


def test_an_adapter_is_no_video(here: Path, clips: list[Path]) -> None:
    shutil.copy(clips[0], "a.mp4")
    run("ingest", "a.mp4", *MAKE)
    assert refused("ingest", "a.v2lora", *MAKE) == (
        "a.v2lora is an adapter already; ask it with: v2l ask a.v2lora QUESTION.")
    assert run("ingest", "a.mp4", "a.v2lora", *MAKE, status=1).stdout == "a.v2lora\n"


def test_a_compressed_adapter_stays(here: Path, clips: list[Path]) -> None:
    shutil.copy(clips[0], "a.mp4")
    run("ingest", "a.mp4", *MAKE)
    run("compose", "a.v2lora", "--max-rank", 1, "-o", "small.v2lora")
    os.replace("small.v2lora", "a.v2lora")
    before = Path("a.v2lora").read_bytes()
    kept = run("ingest", "a.mp4", *MAKE)
    assert (kept.stdout, kept.stderr) == ("a.v2lora\n", "a.v2lora is kept: it was compressed. --force replaces it.\n")
    assert Path("a.v2lora").read_bytes() == before
    shutil.copy(clips[1], "a.mp4")
    assert "a.v2lora was compressed, and its video has changed since" in refused("ingest", "a.mp4", *MAKE)


def test_full_stdout_stops_nothing(here: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1):
        shutil.copy(clips[number], f"{number}.mp4")

    def full(path: Path) -> None:
        raise OutputError("Cannot write to stdout: No space left on device.")

    monkeypatch.setattr("v2l.cli.ingest.write_path", full)
    assert "Cannot write to stdout" in run("ingest", ".", *MAKE, status=1).stderr
    assert Path("0.v2lora").exists() and Path("1.v2lora").exists()


def test_ctrl_c_while_importing(here: Path) -> None:
    Path("typer.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(command("--help"), env=environment(PYTHONPATH=f"{here}:{environment()['PYTHONPATH']}"),
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


# Segments.


def test_segments_of_one_and_of_many(here: Path) -> None:
    for name in ("clip.mp4", "short.mp4"):
        shutil.copy(VIDEOS / name, name)
    words = ("ingest", ".", "--segment", "3s", *MAKE)
    result = run(*words, "--keep-segments")
    assert result.stdout == "clip.v2lora\nshort.v2lora\n"
    assert result.stderr.startswith("clip.mp4: 3 segments, 8 frames, ")
    assert "segments in clip.segments-3s" in result.stderr
    assert len(os.listdir("clip.segments-3s")) == 3 == len(load("clip.v2lora").segments)
    again = documents(run(*words, "--json"))
    assert [each["skipped"] for each in again[:2]] == [True, True] and again[0]["segments"] == 3
    assert "clip.v2lora holds 3 segments, 0:00 to 0:08; " in refused("ingest", "clip.mp4", "--segment", "0:02", *MAKE)
    stale = documents(run("ingest", "clip.mp4", "--segment", "0:02", "--force", "--json", *MAKE))
    assert stale[0]["skipped"] is False and stale[0]["segments"] == 4 and stale[0]["resumed"] == 0
    before = Path("clip.v2lora").read_bytes()
    assert run("ingest", "clip.mp4", *MAKE).stderr == "clip.v2lora is up to date.\n"
    assert "holds 4 segments" in refused("ingest", "clip.mp4", "--end", 3, *MAKE)
    run("compose", "clip.v2lora", "short.v2lora", "-o", "both.v2lora")
    os.replace("both.v2lora", "short.v2lora")
    assert "2 videos" in refused("ingest", "short.mp4", "--segment", "3s", *MAKE)
    assert documents(run("ingest", "clip.mp4", "--json", "--force", "--segment", "0:02", *MAKE))[0]["skipped"] is False
    assert Path("clip.v2lora").read_bytes() == before


def test_segments_go_on_after_a_failure(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(VIDEOS / "clip.mp4", "clip.mp4")
    usual, calls = Engine.ingest, []

    def failing(self: Engine, *args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise VideoError("clip.mp4 is damaged.")
        return usual(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "ingest", failing)
    words = ("ingest", "clip.mp4", "--segment", "3s", "--output-dir", "out", *MAKE)
    assert "Segment 3 of 3" in refused(*words)
    (made,) = documents(run(*words, "--json", "--keep-segments"))
    assert made["resumed"] == 2 and len(made["kept"]) == 3 and all(Path(kept).exists() for kept in made["kept"])
    assert "3 segments (2 from the run before)" not in run(*words).stderr


@pytest.mark.parametrize(("words", "said"), [
    (("--segment", "x"), "'x' is no way to cut a video"), (("--keep-segments",), "--keep-segments needs --segment")])
def test_wrong_segments(here: Path, words: tuple[str, ...], said: str) -> None:
    shutil.copy(VIDEOS / "short.mp4", "short.mp4")
    assert said in refused("ingest", "short.mp4", *words, *MAKE, status=2)


# What is there.


def test_a_plain_run_keeps_what_another_model_made(here: Path, clips: list[Path]) -> None:
    """The night's work of a large model, and then the same folder without --model."""
    for number in (0, 1):
        shutil.copy(clips[number], f"{number}.mp4")
    run("ingest", "0.mp4", *MAKE)
    before = Path("0.v2lora").read_bytes()
    result = run("ingest", ".", "--json")
    kept, made = documents(result)[:2]
    assert (kept["output"], kept["skipped"], kept["reason"]) == (
        "0.v2lora", True, "was made with the model tiny-vlm") and "reason" not in made
    assert "0.v2lora is kept: it was made with the model tiny-vlm. --force replaces it.\n" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("1 kept, 1 made, ")
    assert "0.v2lora was made with the model tiny-vlm; " in refused("ingest", "0.mp4", "--model", "tiny")
    assert "1.v2lora was made with the model v2l/tiny; " in refused("ingest", "1.mp4", *MAKE)
    assert Path("0.v2lora").read_bytes() == before
    shutil.copy(clips[2], "0.mp4")
    assert "0.v2lora was made with the model tiny-vlm, and its video has changed since" in refused("ingest", "0.mp4")
    assert Path("0.v2lora").read_bytes() == before


def test_a_part_is_not_the_whole(here: Path, clips: list[Path]) -> None:
    shutil.copy(clips[3], "a.mp4")
    run("ingest", "a.mp4", "--end", "1.5", *MAKE)
    assert "a.v2lora holds 0:00 to 0:01.5 in one segment; " in refused("ingest", "a.mp4", *MAKE)
    run("ingest", "a.mp4", "--end", "1.5", *MAKE)
    run("ingest", "a.mp4", "--force", *MAKE)
    run("ingest", "a.mp4", *MAKE)


# Runs that meet.


def test_a_video_that_another_run_is_at_comes_last(engine: Engine, jobs: list[Job]) -> None:
    started, go_on = threading.Event(), threading.Event()
    other = Engine(engine.model, engine.checkpoint, device="cpu", dtype="float32")
    usual, theirs = other.internalize, []

    def slow(context: Tensor, *layer_done: Any) -> tuple[Tensor, Tensor]:
        started.set()
        assert go_on.wait(20)
        return usual(context, *layer_done)

    other.internalize = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: theirs.extend(ingest_all(other, jobs[:1], settings(other))))
    thread.start()
    assert started.wait(20)
    results = []
    for result in ingest_all(engine, jobs, settings(engine, force=True)):
        assert isinstance(result, Ingested)
        results.append((result.job, result.skipped))
        if len(results) == 3:
            go_on.set()
    thread.join()
    assert results == [*((job, False) for job in jobs[1:]), (jobs[0], True)] and len(theirs) == 1
    assert sorted(os.listdir(jobs[0].output.parent)) == [f"{i}.v2lora" for i in range(4)]


def test_a_killed_run_holds_nobody_up(engine: Engine, jobs: list[Job]) -> None:
    lock = lock_of(jobs[0].output)
    code = f"from pathlib import Path; from v2l.system.lock import alone; lock = alone(Path({str(lock)!r})); " \
           "lock.__enter__(); import os; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert lock.exists()
    (made,) = ingest_all(engine, jobs[:1], settings(engine))
    assert isinstance(made, Ingested) and not made.skipped and not lock.exists()


# Shards.


def shares(*inputs: str, count: int = 3) -> list[set[str]]:
    """The names of the videos of each shard."""
    return [{job.video.as_posix() for job in plan_outputs(inputs, None, None, Shard(index, count)).jobs}
            for index in range(1, count + 1)]


def test_what_falls_to_a_shard_is_stable(here: Path) -> None:
    names = [f"a/{i}/video.mp4" for i in range(12)]
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(bytes(number))
    parts = shares("a")
    assert sorted(name for part in parts for name in part) == sorted(names) and all(parts)
    shutil.copytree("a", "elsewhere/b")
    assert [{name.removeprefix("elsewhere/b") for name in part} for part in shares("elsewhere/b")] == [
        {name.removeprefix("a") for name in part} for part in parts]
    shutil.rmtree("a/3")
    Path("a/new.mp4").touch()
    assert [part - {"a/new.mp4"} for part in shares("a")] == [part - {names[3]} for part in parts]


def test_files_given_by_name_fall_to_shards_in_any_order(here: Path) -> None:
    names = [f"{i}/video.mp4" for i in range(12)]
    for number, name in enumerate(names):
        Path(name).parent.mkdir()
        Path(name).write_bytes(bytes(number))
    parts = shares(*names)
    assert sorted(name for part in parts for name in part) == sorted(names) and all(parts)
    assert parts == shares(*reversed(names))
    assert [{os.path.relpath(name) for name in part} for part in shares(*map(os.path.abspath, names))] == parts
    twice = [*names, "."]
    assert [sorted(map(os.path.realpath, part)) for part in shares(*twice)] == [
        sorted(map(os.path.realpath, part)) for part in shares(*reversed(twice))]


def test_a_clash_is_settled_alike_in_every_shard(here: Path) -> None:
    for name in ("a.mp4", "a.mkv", "b.mp4"):
        Path(name).write_bytes(name.encode())
    planned = [job for index in (1, 2, 3) for job in plan_outputs(["."], None, None, Shard(index, 3)).jobs]
    assert sorted(job.output.name for job in planned) == ["a.mkv.v2lora", "a.mp4.v2lora", "b.v2lora"]


def test_all_shards_make_everything_once(here: Path, clips: list[Path]) -> None:
    for clip in clips:
        shutil.copy(clip, clip.name)
    results = [run("ingest", ".", "--shard", f"{index}/2", *MAKE) for index in (1, 2)]
    made = [result.stdout.splitlines() for result in results]
    assert sorted(made[0] + made[1]) == [f"{number}.v2lora" for number in range(4)] and all(made)
    assert results[0].stderr.startswith(f"Part 1/2: {len(made[0])} of 4 videos.\n")
    only = [run("ingest", "0.mp4", "--shard", f"{index}/2", "--json", *MAKE) for index in (1, 2)]
    assert sorted(len(documents(result)) for result in only) == [0, 1]


# The bar.


def test_the_estimate_counts_what_took_work() -> None:
    now = 100.0
    pace = Pace(12, clock=lambda: now)
    for _ in range(4):  # there already, told in no time
        now += 0.01
        pace.finish(worked=False)
    assert pace.left is None
    for _ in range(2):
        now += 10
        pace.finish(worked=True)
    assert pace.left == pytest.approx(60)
    pace.advance(0.0)
    pace.advance(0.5)
    now += 5
    assert pace.left == pytest.approx(55) and pace.elapsed == pytest.approx(25.04)


def test_the_estimate_of_one_that_is_resumed() -> None:
    now = 0.0
    pace = Pace(1, clock=lambda: now)
    pace.advance(0.8)  # by a run before
    now += 10
    pace.advance(0.9)
    assert pace.left == pytest.approx(10)


def test_times_and_names_of_the_bar() -> None:
    assert [clock_text(s) for s in (0, 59.6, 754, 3599.4, 3600, 45_000)] == [
        "0:00", "1:00", "12:34", "59:59", "1h00", "12h30"]
    assert shortened("lecture.mp4", 11) == "lecture.mp4" and shortened("lecture.mp4", 8) == "lec….mp4"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_bar_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    now = 0.0
    bar = Bar(Work("Loading", 1000, clock=lambda: now))
    for _ in range(999):
        bar.finish(worked=False)

    def rows(done: int) -> list[str]:
        bar.update("a lecture with a name of a certain length.mp4", done, 1024)
        bar.hide()
        screen = io.StringIO()
        RichConsole(file=screen, width=columns).print(bar.rows())
        return [line.rstrip() for line in screen.getvalue().splitlines()]

    rows(0)
    now = 45_000.0
    first, second = rows(512)
    assert second.startswith("999/1000 videos ") and second.endswith("12h30, 12h30 left")
    first, second = rows(1023)
    assert first.startswith("a lec") and ".mp4 " in first and first.endswith(" 1023/1024")


def test_a_log_gets_a_line_a_minute() -> None:
    now, lines = 0.0, list[str]()
    log = Log(Work("Loading", 3, clock=lambda: now), lines.append, clock=lambda: now)
    for second in range(151):
        now = float(second)
        log.update("a.mp4" if second < 100 else "b.mp4, layer 1/32", second % 100, 100)
        if second == 99:
            log.finish(worked=True)
    assert EVERY == 60 and lines == ["a.mp4 60/100, 0/3 videos, 1:00 so far, 4:00 left",
                                     "b.mp4, layer 1/32 20/100, 1/3 videos, 2:00 so far, 2:57 left"]


def test_the_estimate_of_one_video_ends_with_its_frames() -> None:
    now = 0.0
    pace = Pace(1, clock=lambda: now)
    pace.advance(0.0)
    now += 10
    pace.advance(0.5)
    assert pace.left == pytest.approx(10)
    pace.advance(1.0)
    assert pace.left is None


def report(stream: TextIO, quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar, and a note beside it, with `stream` for stderr."""
    monkeypatch.setattr(sys, "stderr", stream)
    console = Console(quiet)
    with console.working("Loading", of=2):
        console.progress("\x1b[31ma.mp4", 1, 2)
        console.aside()
        console.note("a note")
        console.finished(worked=True)
    stream.write("end")
    stream.flush()


def test_the_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", 0) as screen:
        def shown() -> str:
            text = b""
            while not text.endswith(b"end"):
                text += screen.read(1 << 16)
            return text.decode()

        report(terminal, False, monkeypatch)
        text = shown()
        assert "\ufffd[31ma.mp4" in text and "0/2 videos" in text and "1/2" in text
        assert text.endswith("a note\r\nend")  # the bar went before, and came not again
        report(terminal, True, monkeypatch)
        assert shown() == "end"
    file = io.StringIO()
    report(file, False, monkeypatch)
    assert file.getvalue() == "a note\nend"


# Leftovers.


def test_what_a_killed_run_left_is_swept_after_a_day(tmp_path: Path) -> None:
    def leave(name: str, days: float) -> Path:
        path = tmp_path / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - days * 86_400,) * 2)
        return path

    old = leave(".v2l-0123456789abcdef.tmp", 1.1)
    target = leave("target", 9)
    kept = [leave(".v2l-0123456789abcdee.tmp", 0.9), leave(".v2l-0123456789abcde.tmp", 9), target,
            leave("v2l-0123456789abcdef.tmp", 9), leave(".v2l-0123456789ABCDEF.tmp", 9)]
    link = tmp_path / ".v2l-aaaaaaaaaaaaaaaa.tmp"
    link.symlink_to(target)
    (tmp_path / ".v2l-bbbbbbbbbbbbbbbb.tmp").mkdir()
    os.utime(tmp_path / ".v2l-bbbbbbbbbbbbbbbb.tmp", (1, 1))
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert not old.exists() and all(path.exists() for path in kept) and link.is_symlink()
    assert (tmp_path / "a").read_bytes() == b"whole" and (tmp_path / ".v2l-bbbbbbbbbbbbbbbb.tmp").is_dir()
