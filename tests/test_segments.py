"""A video in segments: the bytes of its windows joined, one pass over the file, and no work done twice."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import environment, run
from support.processes import ROOT
from support.shots import Film, Shot
from support.videos import write

from v2l import segments
from v2l.adapter import Adapter, load, save
from v2l.adapter.compress import compress
from v2l.adapter.join import join
from v2l.config import Sampling
from v2l.engine import Engine
from v2l.errors import OutputError, UsageError, VideoError
from v2l.segments import Segmented, ingest_segments, kept_folder, work_folder
from v2l.video.clip import Clip, open_clip
from v2l.video.cuts import SegmentSpec, parse_segments, regular, windows
from v2l.video.decode import Decoder, FrameReader
from v2l.video.track import read_track

PAUSES = [40 * i + 5000 * (i >= 30) + 9000 * (i >= 40) for i in range(60)]
"""Milliseconds: frames at 25 a second, with nothing new from 1.2 to 6.2 and from 6.6 to 15.6 seconds."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", device="cpu", dtype="float32", offline=True)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Nine and a half seconds."""
    return write(tmp_path / "film.mp4", frames=228, rate=24, options={"g": "48"})


def ingest(engine: Engine, video: Path, text: str = "3s", output: Path | None = None, **options: object) -> Segmented:
    own = {key: options.pop(key) for key in ("start", "end", "frames") if key in options}
    sampling = engine.sampling(**{"frames": 4, **own})
    output = output or video.with_suffix(".v2lora")
    return ingest_segments(engine, video, sampling, parse_segments(text), output, **options)


def watched(engine: Engine, monkeypatch: pytest.MonkeyPatch, fail_at: float | None = None) -> list[float]:
    """Fills with the start of each segment that is watched; one may fail."""
    starts: list[float] = []

    def counted(clip: Clip, sampling: Sampling, dtype: str) -> Adapter:
        assert sampling.start is not None
        if sampling.start == fail_at:
            raise VideoError(f"{clip.info.path} is damaged.")
        starts.append(sampling.start)
        return Engine.ingest(engine, clip, sampling, dtype)

    monkeypatch.setattr(engine, "ingest", counted)
    return starts


def apart(engine: Engine, video: Path, made: Adapter, sampling: Sampling, output: Path) -> bytes:
    """The file one gets of the same windows, each ingested by itself and then joined."""
    spans = [(segment["start"], segment["end"]) for segment in made.segments]
    save(join([engine.ingest(video, replace(sampling, start=a, end=b)) for a, b in spans])[0], output)
    return output.read_bytes()


# -- where to cut ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [
    ("60s", 60), ("90", 90), ("2m", 120), ("1.5h", 5400), ("0.5m", 30), ("12.5", 12.5), ("1:30", 90), ("1:02:03", 3723),
    ("0:01.5", 1.5), ("1", 1), ("scenes", None)])
def test_ways_to_cut(text: str, seconds: float | None) -> None:
    assert parse_segments(text) == SegmentSpec(seconds)


@pytest.mark.parametrize("text", ["", "s", "60 seconds", "1:2:3:4", "1:75", "-5", "nan", "inf", "1e3", "Scene", "٣",
                                  "9" * 400])
def test_what_is_no_way_to_cut(text: str) -> None:
    with pytest.raises(UsageError, match="is no way to cut a video; write a length, such as 90, 5s, 1:30, 2m or 1h5"):
        parse_segments(text)


@pytest.mark.parametrize("text", ["0", "0.99s", "0:00"])
def test_lengths_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="at least 1 second"):
        parse_segments(text)


@pytest.mark.parametrize(("start", "end", "length", "cuts"), [
    (0, 180, 60, [60, 120]),
    (0, 59, 60, []),
    (0, 194.9, 60, [60, 120]),  # a rest of less than a quarter joins the one before
    (0, 195, 60, [60, 120, 180]),
    (12, 100, 30, [42, 72]),
    (0, 74, 60, []),
    (0, 10, 0.1 * 30, [3, 6, 9]),  # no rounding noise in what is recorded
    (0.1, 1.1, 0.1, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
])
def test_lengths_count_from_the_start(start: float, end: float, length: float, cuts: list[float]) -> None:
    assert regular(start, end, length) == cuts


def test_windows_cover_what_was_asked_for(video: Path) -> None:
    def spans(cuts: list[float], **sampling: float) -> list[tuple[float | None, float | None]]:
        clip = open_clip(video, Sampling(**sampling))
        return [(window.start, window.end) for window in windows(clip, Sampling(**sampling), cuts)]

    assert spans([]) == [(0, None)]
    assert spans([4, 8]) == [(0, 4), (4, 8), (8, None)]
    assert spans([4], start=1, end=9) == [(1, 4), (4, 9)]
    assert spans([4], end=99) == [(0, 4), (4, 99)]
    assert spans([4.01, 4.02, 4.03]) == [(0, 4.03), (4.03, None)]  # no frame in between
    assert spans([9.49, 9.499]) == [(0, None)]


def test_a_pause_joins_the_segment_whose_picture_it_shows(engine: Engine, tmp_path: Path) -> None:
    video = write(tmp_path / "pauses.mkv", stamps_ms=PAUSES)
    made = ingest(engine, video, "1s", start=0.5, end=15.9).adapter
    assert [(s["start"], s["end"]) for s in made.segments] == [
        (0.5, 5.5), (5.5, 6.5), (6.5, 15.5), (15.5, 15.9)]
    frames = [time for segment in made.segments for time in segment["timestamps"]]
    assert frames == sorted(set(frames)) and all(s["start"] <= min(s["timestamps"]) for s in made.segments)
    whole = ingest(engine, video, "1s", output=tmp_path / "whole.v2lora").adapter
    last = whole.segments[-1]  # of 0.4 s, in which one look is taken
    assert (last["start"], last["end"], last["timestamps"]) == (16.0, pytest.approx(16.4), [16.0])


# -- the same bytes in one pass ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec", "more"), [
    ("film.mp4", "libx264", {"options": {"g": "24", "bf": "2"}}),
    ("film.ts", "libx264", {}),
    ("film.mkv", "libsvtav1", {"options": {"preset": "12", "crf": "10"}}),
    ("pauses.mkv", "libx264", {"frames": 60, "stamps_ms": PAUSES}),
])
def test_the_bytes_are_those_of_the_windows_joined(
    engine: Engine, tmp_path: Path, name: str, codec: str, more: dict
) -> None:
    video = write(tmp_path / name, codec, **{"frames": 150, **more})
    done = ingest(engine, video, "2s")
    assert (done.segments, done.watched, done.skipped) == (3, 3, False)
    output = video.with_suffix(".v2lora")
    assert done.frames == sum(len(segment["timestamps"]) for segment in load(output).segments) > 3
    expected = apart(engine, video, done.adapter, engine.sampling(frames=4), tmp_path / "apart.v2lora")
    assert output.read_bytes() == expected


def test_a_short_video_is_one_segment_with_the_bytes_of_the_plain_file(engine: Engine, video: Path) -> None:
    assert ingest(engine, video, "60s").segments == 1
    save(engine.ingest(video, engine.sampling(frames=4)), video.with_name("plain"))
    assert video.with_suffix(".v2lora").read_bytes() == video.with_name("plain").read_bytes()


def test_the_file_is_read_and_decoded_once(engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def counting(place: str, what: str) -> None:
        original = getattr(sys.modules[place], what)
        monkeypatch.setattr(f"{place}.{what}", lambda *a, **b: (reads.append(what), original(*a, **b))[1])

    for place, what in (("v2l.video.clip", "read_track"), ("v2l.video.clip", "hash_of"), ("v2l.segments", "Decoder")):
        counting(place, what)
    taken: list[int] = []
    advance = FrameReader.advance
    monkeypatch.setattr(FrameReader, "advance", lambda self: (taken.append(1), advance(self))[1])
    assert ingest(engine, video).segments == 3
    assert sorted(reads) == ["Decoder", "hash_of", "read_track"]
    assert len(taken) <= 228


def test_decoding_goes_on_where_it_was(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = read_track(video)
    decoder = Decoder(track)
    opened: list[object] = []
    start = FrameReader.__init__
    monkeypatch.setattr(FrameReader, "__init__", lambda self, *a: (opened.append(self), start(self, *a))[1])
    lists = [[0, 5, 23], [24, 30], [200, 227]]
    assert [[index for index, _ in decoder.images(indices)] for indices in lists] == lists
    assert len(opened) == 1
    decoder.close()


def test_one_segment_is_in_memory_at_a_time(engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Adapter]] = []

    def single(clip: Clip, sampling: Sampling, dtype: str) -> Adapter:
        gc.collect()
        assert all(ref() is None for ref in made)
        adapter = Engine.ingest(engine, clip, sampling, dtype)
        made.append(weakref.ref(adapter))
        return adapter

    monkeypatch.setattr(engine, "ingest", single)
    assert ingest(engine, video, "2s").segments == len(made) == 5


def test_progress_counts_the_frames_of_all_segments(engine: Engine, video: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    ingest(engine, video, progress=lambda *state: told.append(state))
    assert told[0] == ("film.mp4, segment 1/3", 1, told[-1][2])
    total = told[-1][2]
    assert sorted({done for _, done, _ in told}) == list(range(1, told[-1][1] + 1)) and told[-1][1] == total
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    # After the last frame of a segment it goes on.
    assert ("film.mp4, segment 3/3, layer 6/6", total, total) in told and told[-1][0] == "film.mp4, writing"
    assert engine.progress is None


# -- what is there already ---------------------------------------------------------------------------------------------


def test_what_is_up_to_date_is_not_made_again(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ingest(Engine("tiny", device="cpu", dtype="float32", offline=True), video)
    output = video.with_suffix(".v2lora")
    os.utime(output, (1, 1))
    fresh = Engine("tiny", device="cpu", dtype="float32", offline=True)
    again = ingest(fresh, video)
    assert again.skipped and again.watched == 0 and again.adapter.record == made.adapter.record
    assert output.stat().st_mtime == 1
    assert "hypernetwork" not in vars(fresh) and "vision" not in vars(fresh.base)
    assert sorted(os.listdir(video.parent)) == ["film.mp4", "film.v2lora"]
    starts = watched(fresh, monkeypatch)
    for change in ({"text": "4s"}, {"end": 9.0}, {"adapter_dtype": "float16"}, {}):
        if change:
            with pytest.raises(OutputError, match="replace it with --force"):
                ingest(fresh, video, **change)
        assert not ingest(fresh, video, **change, force=True).skipped
    assert starts == [0, 4, 8, 0, 3, 6, 0, 3, 6, 0, 3, 6]


def test_the_segments_own_files(engine: Engine, video: Path, tmp_path: Path) -> None:
    done = ingest(engine, video, "3.5s", keep=True, start=1.0)
    folder = kept_folder(video.with_suffix(".v2lora"), parse_segments("3.5s"))
    names = ["00h00m01s-00h00m04.500s", "00h00m04.500s-00h00m08s", "00h00m08s-00h00m09.500s"]
    assert folder.name == "film.segments-3.5s" and done.kept == [folder / f"{name}.v2lora" for name in names]
    save(engine.ingest(video, engine.sampling(frames=4, start=4.5, end=8.0)), tmp_path / "window")
    assert done.kept[1].read_bytes() == (tmp_path / "window").read_bytes()
    assert not work_folder(video.with_suffix(".v2lora")).exists()
    done.kept[1].unlink()
    again = ingest(engine, video, "3.5s", keep=True, start=1.0)  # cut out of the joined file
    assert again.skipped and done.kept[1].read_bytes() == (tmp_path / "window").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.v2lora" for name in names]


def test_what_cannot_be_made_again_is_not_replaced_unasked(engine: Engine, video: Path, tmp_path: Path) -> None:
    output = video.with_suffix(".v2lora")
    other = write(tmp_path / "other.mp4", frames=48, rate=24)
    both, _ = join([engine.ingest(video), engine.ingest(other)])
    save(both, output)
    with pytest.raises(OutputError, match=r"film\.v2lora holds 2 videos, joined, and its video has changed since"):
        ingest(engine, video)
    save(compress(ingest(engine, video, output=tmp_path / "whole.v2lora").adapter, 4), output)
    with pytest.raises(OutputError, match="segments that were compressed"):
        ingest(engine, video)
    assert ingest(engine, video, force=True).segments == 3


# -- ended early -------------------------------------------------------------------------------------------------------


def test_a_segment_that_fails_is_named_and_the_others_kept(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = video.with_suffix(".v2lora")
    with monkeypatch.context() as failing:
        watched(engine, failing, fail_at=6.0)
        with pytest.raises(VideoError, match=r"^Segment 3 of 3 \(0:06 to 0:09\.5\) failed, and what was done "
                                             r"before it is kept for the next run: .*film\.mp4 is damaged\.$"):
            ingest(engine, video)
    assert not output.exists()
    starts = watched(engine, monkeypatch)
    done = ingest(engine, video)
    assert starts == [6.0] and done.watched == 1 and done.segments == 3
    content = output.read_bytes()
    output.unlink()
    ingest(engine, video)
    assert output.read_bytes() == content


def test_segments_kept_of_what_is_up_to_date_are_its_own(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a run with other settings left stays for that run."""
    ingest(engine, video)
    with monkeypatch.context() as failing, pytest.raises(VideoError):
        watched(engine, failing, fail_at=6.0)
        ingest(engine, video, frames=2, force=True)
    waiting = sorted(os.listdir(work_folder(video.with_suffix(".v2lora"))))
    done = ingest(engine, video, keep=True)
    assert done.skipped and [load(path).record["sampling"]["frames"] for path in done.kept] == [4] * 3
    assert sorted(os.listdir(work_folder(video.with_suffix(".v2lora")))) == waiting and len(waiting) == 2


def test_more_segments_than_a_file_holds_are_refused_before_the_work(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = watched(engine, monkeypatch)
    monkeypatch.setattr(segments, "MAX_HEADER", 500)
    with pytest.raises(UsageError, match=r"^3 segments record more than one file can hold; cut longer ones"):
        ingest(engine, video)
    assert starts == [] and os.listdir(video.parent) == ["film.mp4"]


def test_a_failure_at_once_leaves_nothing(engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(engine, monkeypatch, fail_at=0.0)
    with pytest.raises(VideoError, match=r"^Segment 1 of 3 \(0:00 to 0:03\) failed: "):
        ingest(engine, video)
    assert os.listdir(video.parent) == ["film.mp4"]


def test_frames_that_cannot_be_decoded_fail_their_segment(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Decoder.images

    def broken(self: Decoder, indices: list[int]) -> object:
        if indices[0] >= 72:
            raise VideoError(f"{self.track.name} is truncated or damaged.")
        return images(self, indices)

    monkeypatch.setattr(Decoder, "images", broken)
    with pytest.raises(VideoError, match=r"^Segment 2 of 3 \(0:03 to 0:06\) failed, and what was done"):
        ingest(engine, video)
    assert len(list(work_folder(video.with_suffix(".v2lora")).iterdir())) == 1


@pytest.mark.parametrize("change", ["video", "settings", "damage"])
def test_stale_segments_are_made_again(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with monkeypatch.context() as failing, pytest.raises(VideoError):
        watched(engine, failing, fail_at=6.0)
        ingest(engine, video)
    options: dict[str, object] = {}
    if change == "video":
        write(video, frames=227, rate=24, options={"g": "48", "crf": "30"})
    elif change == "settings":
        options["adapter_dtype"] = "float16"
    else:
        next(work_folder(video.with_suffix(".v2lora")).glob("00h00m03s*")).write_bytes(b"damaged")
    starts = watched(engine, monkeypatch)
    done = ingest(engine, video, **options)
    assert starts == ([3.0, 6.0] if change == "damage" else [0, 3.0, 6.0])
    assert len(done.adapter.sources) == 1
    assert sorted(os.listdir(video.parent)) == ["film.mp4", "film.v2lora"]


def test_a_video_that_changes_meanwhile_is_noticed(
    engine: Engine, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(clip: Clip, sampling: Sampling, dtype: str) -> Adapter:
        with video.open("ab") as file:
            file.write(b"more")
        return Engine.ingest(engine, clip, sampling, dtype)

    monkeypatch.setattr(engine, "ingest", growing)
    with pytest.raises(VideoError, match=r"film\.mp4 was changed while it was watched"):
        ingest(engine, video)


KILLED = """
import sys, time
from pathlib import Path
from v2l.engine import Engine
from v2l.segments import ingest_segments
from v2l.video.cuts import parse_segments
engine = Engine("tiny", device="cpu", dtype="float32", offline=True)
print("ready", flush=True)
for _ in sys.stdin:
    ingest_segments(engine, Path("film.mp4"), engine.sampling(frames=4), parse_segments("2s"), Path("film.v2lora"),
                    progress=lambda *_: time.sleep(0.03))
"""


def kill_after(parts: int, folder: Path) -> dict[str, tuple[int, int]]:
    """Runs until so many segments are there and kills it; inode and time of each that is."""
    work = work_folder(folder / "film.v2lora")
    with subprocess.Popen([sys.executable, "-c", KILLED], env=environment(PYTHONPATH=ROOT, OMP_NUM_THREADS="1"),
                          cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        until = time.monotonic() + 100
        while len(list(work.glob("*.v2lora"))) < parts and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in work.glob("*.v2lora")}


def test_a_killed_run_goes_on_at_the_segment_it_was_in(
    engine: Engine, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.v2lora"
    assert ingest(engine, video, "2s", output=whole).segments == 5
    first = kill_after(1, tmp_path)
    assert 1 <= len(first) < 5 and not (tmp_path / "film.v2lora").exists()
    second = kill_after(len(first) + 2, tmp_path)
    assert len(first) + 2 <= len(second) < 5
    assert {name: second[name] for name in first} == first
    starts = watched(engine, monkeypatch)
    done = ingest(engine, video, "2s")
    assert starts == [2.0 * i for i in range(len(second), 5)] and done.watched == len(starts)
    assert (tmp_path / "film.v2lora").read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "film.v2lora", "whole.v2lora"]


def test_cutting_a_video_needs_nothing_heavy() -> None:
    code = "import sys, v2l.segments; sys.exit(bool({'torch', 'transformers', 'cv2', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


# -- scenes ------------------------------------------------------------------------------------------------------------


def test_scenes_are_segments_and_looked_for_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = Film([Shot(60, seed, pan=0.3, things=2) for seed in range(3)])
    video = film.write(tmp_path / "film.mp4", rate=5)
    told: list[str] = []
    with monkeypatch.context() as failing, pytest.raises(VideoError, match=r"\(0:24 to 0:36\)"):
        watched(engine, failing, fail_at=24.0)
        ingest(engine, video, "scenes", progress=lambda what, *_: told.append(what))
    assert told[0] == "film.mp4, looking for scenes"
    with monkeypatch.context() as once:
        once.setattr(segments, "scene_edges", lambda *_: pytest.fail("looked for again"))
        starts = watched(engine, once)
        done = ingest(engine, video, "scenes")
        assert starts == [24.0]
    assert [(s["start"], s["end"]) for s in done.adapter.segments] == [(0, 12), (12, 24), (24, 36)]
    output = video.with_suffix(".v2lora")
    expected = apart(engine, video, done.adapter, engine.sampling(frames=4), tmp_path / "apart.v2lora")
    assert output.read_bytes() == expected
    assert ingest(engine, video, "scenes").skipped
    part = ingest(engine, video, "scenes", tmp_path / "part.v2lora", start=13.0, end=35.0)
    assert [(s["start"], s["end"]) for s in part.adapter.segments] == [(13, 24), (24, 35)]
    assert sorted(os.listdir(tmp_path)) == ["apart.v2lora", "film.mp4", "film.v2lora", "part.v2lora"]


def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(ROOT) / "examples" / "long.mp4", film := tmp_path / "long.mp4")
    words = ("ingest", film, "--segment", "12s", "--frames", 1, "--device", "cpu")

    def interrupted(adapter: Adapter, path: Path) -> None:
        if len(list(path.parent.glob("*.v2lora"))) == 2:
            raise KeyboardInterrupt
        save(adapter, path)

    with monkeypatch.context() as patched:
        patched.setattr("v2l.segments.save", interrupted)
        said = run(*words, status=130).stderr
    assert said.endswith(f"{film}: 2 segments kept; the same command goes on from there.\nInterrupted.\n")
    assert "3 segments (2 from the run before)" in run(*words).stderr
