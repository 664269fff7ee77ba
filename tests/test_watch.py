"""Watching live: pictures become segments as they come, and segments a file that is whole at any moment."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from threading import Condition, Event, Thread

import numpy as np
import pytest
from support.cli import command, documents, environment, refused, run
from support.videos import number, write

from v2l.adapter import Adapter, load, save
from v2l.adapter.wall import wall_start
from v2l.config import Sampling
from v2l.engine import Engine
from v2l.errors import ModelError, OutputError, VideoError
from v2l.live import collect, rolling
from v2l.live.address import parse_address
from v2l.live.clip import shrunk
from v2l.live.collect import Backlog
from v2l.live.rolling import Rolling
from v2l.live.source import Gap, Picture, Reading, Waiting, events
from v2l.live.watch import watch_live
from v2l.live.watching import State, Watched, Watching
from v2l.live.windows import Chooser, Plan, Window, Windows
from v2l.model.prompt import cut_tiles
from v2l.video.clip import Clip, open_clip
from v2l.video.cuts import regular, windows
from v2l.video.decode import Decoder
from v2l.video.given import clip_of_frames
from v2l.wording import wall_json


def cut(clip: Clip, plan: Plan) -> Iterator[Window]:
    """The windows of a film whose frames come one by one."""
    chooser, collected = Chooser(plan), Windows(plan)
    for index, image in Decoder(clip.track).images(range(clip.info.frames)):
        if chooser.wants(at := clip.track.times[index]):
            yield from collected.add(image, at, plan.rate)
    yield from collected.close()


@pytest.mark.parametrize(("rate", "length", "frames", "fps"), [
    (Fraction(10), 2.0, 12, 1.0), (Fraction(10), 3.0, 4, 8.0), (Fraction(24), 1.5, 5, 2.5),
    (Fraction(25), 1.3, 12, 12.0), (Fraction(30000, 1001), 1.001, 3, 4.0)])
def test_a_film_at_a_constant_rate_gives_the_frames_that_ingest_takes_of_the_file(
        tmp_path: Path, rate: Fraction, length: float, frames: int, fps: float) -> None:
    film = write(tmp_path / "film.mkv", frames=round(6 * length * rate), rate=rate)
    sampling = Sampling(frames=frames, fps=fps)
    clip = open_clip(film, sampling)
    parts = windows(clip, sampling, regular(0, clip.end, length))
    made = list(cut(clip, Plan(length, sampling, float(rate))))
    assert [[number(image) for image in window.images] for window in made] == [clip.window(p).indices for p in parts]
    assert [time for window in made for time in window.times] == pytest.approx(
        [clip.track.times[i] for p in parts for i in clip.window(p).indices], abs=0.001)
    assert [(w.start, w.end) for w in made] == [pytest.approx(clip.span(part), abs=0.002) for part in parts]


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, 10 pictures each."""
    return write(tmp_path_factory.mktemp("film") / "film.mkv", frames=40, rate=10)


def test_a_segment_is_what_ingest_makes_of_a_film_of_that_time_alone(
        film: Path, engine: Engine, tmp_path: Path) -> None:
    options = ("--segment", "2s", "--frames", 3, "--device", "cpu", "--dtype", "float32", "--json")
    told = documents(run("watch", film, "-o", tmp_path / "a.v2lora", *options))
    assert [(one["start"], one["end"], one["frames"], one["segments"]) for one in told] == [(0, 2, 2, 1), (2, 4, 2, 2)]
    assert told[-1]["size"] == (tmp_path / "a.v2lora").stat().st_size
    memory = load(tmp_path / "a.v2lora")
    assert [segment["timestamps"] for segment in memory.segments] == [[0, 1.9], [2.0, 3.9]]
    assert memory.sources[0]["name"] == "film.mkv" and memory.sources[0]["duration"] == 4

    sampling = Sampling(frames=3, resolution=64)
    images = [event.rgb for event in events(parse_address(str(film)), Reading()) if isinstance(event, Picture)][20:]
    alone = engine.ingest(clip_of_frames(np.stack(images), [i / 10 for i in range(20)], sampling), sampling)
    assert memory.A[:, 16:].tobytes() == alone.A.tobytes() and memory.B[:, 16:].tobytes() == alone.B.tobytes()


def test_a_picture_is_held_as_small_as_its_tiles_need_it() -> None:
    pictures = np.random.default_rng(0)
    for width, height, resolution in ((1280, 720, 384), (640, 479, 64), (333, 700, 512), (96, 64, 384), (720, 980, 64)):
        image = pictures.integers(0, 255, (height, width, 3), np.uint8)
        small = shrunk(image, resolution)
        assert small.size <= image.size and max(small.shape) in (resolution, max(width, height))
        assert np.array_equal(cut_tiles(small, resolution, 512), cut_tiles(image, resolution, 512))


# -- a base that does not keep up --------------------------------------------------------------------------------------


def window(number: int, pictures: int) -> Window:
    return Window(number, number + 1, [number + i / pictures for i in range(pictures)], [np.zeros(1)] * pictures)


def waiting(backlog: Backlog) -> list[tuple[float, int]]:
    """The segments that wait, and how many frames of each."""
    return [(one.start, len(one.times)) for one in backlog.waiting]


def test_frames_that_wait_are_never_more_than_one_segment_has() -> None:
    backlog = Backlog(patient=False)
    seen = []
    for place in range(12):
        backlog.put(window(place, 8))
        seen.append(waiting(backlog))
    assert seen[:4] == [[(0, 8)], [(0, 4), (1, 4)], [(0, 2), (1, 2), (2, 4)], [(0, 2), (1, 2), (2, 2), (3, 2)]]
    assert seen[-1] == [(place, 1) for place in range(4, 12)]
    assert [one.start for one in backlog.dropped] == [0, 1, 2, 3]
    first = backlog.take()
    assert first is not None and (first.times, first.left_out) == ([4.0], 7)


def test_a_pipe_is_held_back_instead() -> None:
    backlog = Backlog(patient=True)

    def bring() -> None:
        for place in range(3):
            backlog.put(window(place, 8))
        backlog.end()

    thread = Thread(target=bring)
    thread.start()
    taken = []
    while not backlog.is_over:
        assert len(backlog.waiting) <= 1
        if (one := backlog.take()) is not None:
            taken.append((one.start, len(one.times)))
    thread.join()
    assert taken == [(0, 8), (1, 8), (2, 8)]


# -- watching, of a source that the test plays -------------------------------------------------------------------------

SCENE = np.zeros((64, 64, 3), np.uint8)


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.segments: list[Watched] = []
        self.notes: list[str] = []
        self.errors: list[Exception] = []
        self.troubles: list[Exception] = []
        self.states: list[State] = []
        self.told = Condition()

    def state(self, state: State) -> None:
        self.states.append(state)

    def watched(self, watched: Watched, engine: Engine) -> None:
        with self.told:
            self.segments.append(watched)
            self.told.notify_all()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def failed(self, error: Exception) -> None:
        with self.told:
            self.errors.append(error)
            self.told.notify_all()

    def troubled(self, error: Exception) -> None:
        with self.told:
            self.troubles.append(error)
            self.told.notify_all()

    def until(self, what: Callable[[], bool]) -> None:
        with self.told:
            assert self.told.wait_for(what, 30)

    @property
    def spans(self) -> list[tuple[float, float, int]]:
        """Start, end and frames of each segment."""
        return [(one.segment.segments[0]["start"], one.segment.segments[0]["end"], one.frames)
                for one in self.segments]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", device="cpu", dtype="float32", offline=True)


@pytest.fixture
def play(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Notes]:
    """Watches what a generator yields in segments of two seconds, four frames of each; as fast as that goes, unless
    the address is one of a camera."""

    def play(source: Iterator[object], notes: Notes | None = None, address: str = "cam.ts",
             output: Path | None = None, **settings: object) -> Notes:
        monkeypatch.setattr(collect, "events", lambda address, reading: source)
        notes = notes or Notes()
        watch_live(engine, Watching(parse_address(address), output or tmp_path / "cam.v2lora", 2.0,
                                    Sampling(frames=4, fps=4.0, resolution=64), Reading(), **settings), notes)
        return notes

    return play


def pictures(start: float, end: float, rate: float = 5.0) -> Iterator[Picture]:
    for i in range(round(start * rate), round(end * rate)):
        yield Picture(SCENE, i / rate, rate)


def test_stretches_without_pictures_are_told_and_recorded(play: Callable[..., Notes], tmp_path: Path) -> None:
    def source() -> Iterator[object]:
        yield Waiting(0.0)
        yield from pictures(0, 3)
        yield Waiting(4.5, "the connection was lost; trying again in 1 s")
        yield Waiting(4.5, "the connection was refused; trying again in 2 s")
        yield Gap(3.0, 9.0, "the connection was lost")
        yield from pictures(9, 12)

    notes = play(source())
    assert notes.spans == [(0, 2, 4), (2, 4, 4), (8, 10, 4), (10, 12, 4)]
    assert notes.notes == ["No picture comes: the connection was lost; trying again in 1 s, and then after ever "
                           "longer, 60 s at most.", "No pictures for 6.0 s: the connection was lost."]
    memory = load(tmp_path / "cam.v2lora")
    assert [(s["name"], s["duration"], s["gaps"]) for s in memory.sources] == [
        ("cam.ts", 12, [[3.0, 9.0, "the connection was lost"]])]
    began = wall_start(memory.sources[0])
    assert began is not None and abs((datetime.now(timezone.utc) - began).total_seconds()) < 60


def test_a_watch_that_is_begun_again_goes_on_with_the_file(play: Callable[..., Notes], tmp_path: Path) -> None:
    play(pictures(0, 2))
    notes = play(pictures(0, 4))
    assert notes.notes[0] == f"{tmp_path / 'cam.v2lora'} is there and goes on: 1 segment of cam.ts."
    memory = load(tmp_path / "cam.v2lora")
    assert len(memory.sources) == 2 and len(memory.segments) == 3


def test_what_comes_faster_than_it_plays_is_of_no_later_than_now_and_where_that_overlaps_it_is_told(
        play: Callable[..., Notes], tmp_path: Path) -> None:
    play(pictures(0, 2))
    notes = play(each for each in [Picture(SCENE, 0.0, 5.0), Picture(SCENE, 60.0, 5.0)])
    assert "overlap those of what the file holds" in notes.notes[-1]
    memory = load(tmp_path / "cam.v2lora")
    assert len(memory.sources) == 2 and len(memory.segments) == 3  # one more source, though its time was set back
    began = wall_start(memory.sources[0])
    assert began is not None and began + timedelta(seconds=60) <= datetime.now(timezone.utc)


def test_it_goes_on_with_no_file_of_another_model_or_of_no_watch(
        play: Callable[..., Notes], engine: Engine, tmp_path: Path) -> None:
    play(pictures(0, 2))
    there = load(tmp_path / "cam.v2lora")
    other = {"base": {**there.record["base"], "fingerprint": "other"}}
    film = {"sources": [{key: value for key, value in there.sources[0].items() if key != "started"}]}
    for change, said in ((other, "was made with the model v2l/tiny"), (film, "no watch wrote it")):
        save(replace(there, record={**there.record, **change}), tmp_path / "cam.v2lora")
        before = (tmp_path / "cam.v2lora").read_bytes()
        with pytest.raises(OutputError, match=said):
            play(pictures(0, 2))
        assert (tmp_path / "cam.v2lora").read_bytes() == before


def test_old_segments_leave_the_file_and_their_gaps_with_them(play: Callable[..., Notes], tmp_path: Path) -> None:
    def source() -> Iterator[object]:
        yield from pictures(0, 1)
        yield Gap(1.0, 2.0, "the connection was lost")
        yield from pictures(2, 11)

    play(source(), keep=4.0)
    memory = load(tmp_path / "cam.v2lora")
    assert [(s["start"], s["end"]) for s in memory.segments] == [(6, 8), (8, 10), (10, 11)]
    assert memory.sources[0]["gaps"] == []


def test_a_disk_on_which_nothing_can_be_written_is_told_once_and_tried_again(
        play: Callable[..., Notes], tmp_path: Path) -> None:
    folder, away, notes = tmp_path / "disk", tmp_path / "away", Notes()
    folder.mkdir()

    def source() -> Iterator[object]:
        yield from pictures(0, 2.2)
        notes.until(lambda: len(notes.segments) == 1)
        folder.rename(away)
        yield from pictures(2.2, 6.2)
        notes.until(lambda: len(notes.troubles) == 1)
        away.rename(folder)
        yield from pictures(6.2, 8)

    play(source(), notes, output=folder / "cam.v2lora")
    assert [type(error) for error in notes.troubles] == [OutputError] and notes.errors == []
    assert notes.spans == [(0, 2, 4), (2, 4, 4), (4, 6, 4), (6, 8, 4)]
    assert [s["start"] for s in load(folder / "cam.v2lora").segments] == [0, 2, 4, 6]


def test_a_file_that_no_watch_wrote_is_left_alone_and_what_waited_for_it_is_told(
        play: Callable[..., Notes], tmp_path: Path) -> None:
    notes, path = Notes(), tmp_path / "cam.v2lora"

    def source() -> Iterator[object]:
        yield from pictures(0, 2.2)
        notes.until(lambda: len(notes.segments) == 1)
        there = load(path)
        film = {key: value for key, value in there.sources[0].items() if key != "started"}
        save(replace(there, record={**there.record, "sources": [film]}), path)
        yield from pictures(2.2, 6)

    with pytest.raises(OutputError, match=r"no watch wrote it; move it away.* 2 segments that waited for it, .* lost"):
        play(source(), notes)
    assert len(notes.troubles) == 1 and len(load(path).segments) == 1


def test_what_waits_too_long_for_a_disk_is_given_up_and_told(
        play: Callable[..., Notes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "MOST_WAITING", 2)
    notes = Notes()

    def source() -> Iterator[object]:
        yield from pictures(0, 6.2)
        notes.until(lambda: len(notes.errors) == 1)
        (tmp_path / "disk").mkdir()
        yield from pictures(6.2, 8)

    play(source(), notes, output=tmp_path / "disk" / "cam.v2lora")
    assert re.match(r"The segment from [0-9:]+ is lost: it could not be written", str(notes.errors[0]))
    memory = load(tmp_path / "disk" / "cam.v2lora")
    assert [s["start"] for s in memory.segments] == [2, 4, 6]
    assert [one.segment.segments[0]["start"] for one in notes.segments] == [2, 4, 6]


def test_a_segment_that_cannot_be_watched_stops_no_other(
        play: Callable[..., Notes], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(clip: Clip, sampling: Sampling, dtype: str) -> Adapter:
        if clip.span(sampling)[0] == 2:
            raise ModelError("The model gave numbers that are not finite.")
        return Engine.ingest(engine, clip, sampling, dtype)

    monkeypatch.setattr(engine, "ingest", failing)
    notes = play(pictures(0, 6))
    assert notes.spans == [(0, 2, 4), (4, 6, 4)] and len(notes.errors) == 1
    assert load(tmp_path / "cam.v2lora").sources[0]["gaps"] == [[2, 4, "it could not be watched"]]


def test_a_base_that_is_too_slow_leaves_frames_out_and_says_so(
        play: Callable[..., Notes], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came = Event()

    def slow(clip: Clip, sampling: Sampling, dtype: str) -> Adapter:
        assert came.wait(30)
        return Engine.ingest(engine, clip, sampling, dtype)

    def source() -> Iterator[object]:
        yield from pictures(0, 2.2)
        notes.until(lambda: bool(notes.states))
        yield from pictures(2.2, 10)
        came.set()

    notes = Notes()
    monkeypatch.setattr(engine, "ingest", slow)
    play(source(), notes, "rtsp://me:hidden@cam/a")
    memory = load(tmp_path / "cam.v2lora")
    assert memory.sources[0]["name"] == "rtsp://cam/a" and b"hidden" not in (tmp_path / "cam.v2lora").read_bytes()
    dropped = memory.sources[0]["dropped"]
    assert sum(frames for _, _, frames in notes.spans) + dropped["frames"] == 20
    assert dropped["frames"] >= 8 and dropped["rule"].endswith(".")


def test_what_ends_a_source_comes_after_what_it_showed(play: Callable[..., Notes], tmp_path: Path) -> None:
    def source() -> Iterator[object]:
        yield from pictures(0, 3)
        raise VideoError("rtsp://cam/a: the connection was refused; tried again 3 times.")

    with pytest.raises(VideoError, match="tried again 3 times"):
        play(source())
    assert [(s["start"], s["end"]) for s in load(tmp_path / "cam.v2lora").segments] == [(0, 2), (2, 3)]


def test_watching_ends_when_it_is_to(play: Callable[..., Notes]) -> None:
    assert play(pictures(0, 1e9), until=5.0).spans == [(0, 2, 4), (2, 4, 4), (4, 5, 4)]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system has no zone of a process's own")
@pytest.mark.parametrize(("roll", "name"), [
    (None, "cam.v2lora"), (3600, "cam-2026-11-28T14.v2lora"), (1800, "cam-2026-11-28T14-30.v2lora"),
    (86400, "cam-2026-11-28.v2lora"), (25200, "cam-2026-11-28T14.v2lora"), (90, "cam-2026-11-28T14-58-30.v2lora")])
def test_a_file_is_named_by_the_local_time_at_which_it_begins(
        monkeypatch: pytest.MonkeyPatch, roll: float | None, name: str) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert Rolling(Path("cam.v2lora"), roll=roll).path_at(datetime(2026, 11, 28, 13, 59, 58, tzinfo=timezone.utc)
                                                              ) == Path(name)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_files_that_hold_nothing_of_late_go_and_no_others(play: Callable[..., Notes], tmp_path: Path) -> None:
    play(pictures(0, 2), roll=86400)
    now = datetime.now(timezone.utc)
    (today,) = tmp_path.glob("cam-*.v2lora")
    memory = load(today)
    for day, began in ((3, now - timedelta(days=3)), (1, now - timedelta(days=1, seconds=-60)), (4, None)):
        source = {key: value for key, value in memory.sources[0].items() if key != "started"}
        if began:
            source["started"] = wall_json(began)
        path = tmp_path / f"cam-{now.astimezone() - timedelta(days=day):%Y-%m-%d}.v2lora"
        save(replace(memory, record={**memory.record, "sources": [source]}), path)
        save(memory, path.with_name("old" + path.name))
    before = set(tmp_path.iterdir())
    today.unlink()
    play(pictures(0, 2), roll=86400, keep=86400.0)
    assert before - set(tmp_path.iterdir()) == {
        tmp_path / f"cam-{now.astimezone() - timedelta(days=3):%Y-%m-%d}.v2lora"}


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_watch_has_its_file_alone_and_where_it_is_killed_the_next_goes_on(tmp_path: Path, film: Path) -> None:
    path = tmp_path / "cam.v2lora"
    piped = write(tmp_path / "film.ts", frames=50, rate=10, options={"g": "10", "bf": "0"})
    process = subprocess.Popen(
        command("watch", "-", "-o", path, "--segment", "2s", "--frames", 2, "--json"), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(piped.read_bytes())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["end"] == 2
            assert "is being written by another run" in run("watch", film, "-o", path, status=1).stderr
        finally:
            process.kill()
    held = len(load(path).segments)
    assert held in (1, 2)
    run("watch", film, "-o", path, "--segment", "2s", "--frames", 2)
    sources = [segment["source"] for segment in load(path).segments]  # by their clocks, which may overlap
    assert sorted(map(sources.count, {0, 1})) == sorted((held, 2))


def test_what_was_seen_is_written_when_watching_is_interrupted(play: Callable[..., Notes], tmp_path: Path) -> None:
    notes = Notes()

    def source() -> Iterator[object]:
        yield from pictures(0, 3)
        signal.raise_signal(signal.SIGINT)
        while True:
            time.sleep(0.01)
            yield Waiting(3.0)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            play(source(), notes)
    finally:
        signal.signal(signal.SIGINT, before)
    assert notes.spans == [(0, 2, 4), (2, 3, 4)] and notes.notes[0].startswith("Stopping")
    assert len(load(tmp_path / "cam.v2lora").segments) == 2


@pytest.mark.parametrize(("words", "said"), [
    (("cam.ts",), "with -o"),
    (("cam.ts", "-o", "cam.mp4"), "does not end in .v2lora"),
    (("cam.ts", "-o", "a.v2lora", "--segment", "0.5s"), "at least 1 second"),
    (("cam.ts", "-o", "a.v2lora", "--keep", "30s"), "--keep must be at least as long as a segment, 60 s"),
    (("cam.ts", "-o", "a.v2lora", "--roll", "25h"), "give 24h or less"),
    (("cam.ts", "-o", "a.v2lora", "--segment", "1000000h"), "--segment may be a day long at most; give 24h or less."),
    (("cam.ts", "-o", "a.v2lora", "--keep", "24000000h"), "--keep may be a hundred years at most"),
    (("cam.ts", "-o", "a.v2lora", "--for", "99999999999999999999999999h"), "--for may be a hundred years at most"),
    (("ftp://me:hidden@cam/a", "-o", "a.v2lora"), "is no kind of address"),
    (("@nothing", "-o", "a.v2lora"), "nothing, which is to name the source, cannot be read"),
    (("@address", "-o", "a.v2lora"), "http:// address names no host"),
])
def test_calls_that_make_no_sense_are_refused_before_a_model_is_loaded(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("address").write_text("http://me:hidden@/live\n")
    assert said in refused("watch", *words, status=2)


def test_a_file_that_is_not_there_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    said = refused("watch", tmp_path / "cam.ts", "-o", tmp_path / "a.v2lora", "--model", tmp_path)
    assert said == f"{tmp_path / 'cam.ts'}: it cannot be read (No such file or directory)."


def test_ingest_names_the_command_that_watches_an_address_and_no_password() -> None:
    said = refused("ingest", "rtsp://me:hidden@cam/stream")
    assert "rtsp://cam/stream is an address" in said and "v2l watch" in said and "hidden" not in said
