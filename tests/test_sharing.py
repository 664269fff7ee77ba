"""Many videos shared out to workers: uneven ones balance, and nothing that becomes of a worker loses a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.cli import MAKE, MODEL, REFERENCE, refused, run
from support.videos import write

from v2l.cli.ingest_ray import with_address
from v2l.errors import OutputError, V2LError, VideoError
from v2l.many.failures import last_failure
from v2l.many.ingest import Failed, Ingested
from v2l.many.jobs import Job
from v2l.many.sharing import MOST_ENDS, Ended, Happening, Ready, Taken, Unable, share_out
from v2l.many.worker import Order, Worker


@dataclass
class Pretended:
    """Workers that take as long as a video's name says, and to which happens what the tests say."""

    happens: Callable[[int, Job | None], Happening | None] = lambda worker, job: None
    """What happens to a worker that starts (no job) or was given a video; None: what should."""
    started: int = 0
    now: float = 0.0
    busy: dict[int, float] = field(default_factory=dict)
    """Seconds of work that each has done."""
    dismissed: list[int] = field(default_factory=list)
    given: list[tuple[int, str, bool]] = field(default_factory=list)
    coming: list[tuple[float, int, Happening]] = field(default_factory=list)

    def start(self) -> int:
        self.started += 1
        self.coming.append((self.now, self.started, self.happens(self.started, None) or ready(self.started)))
        return self.started

    def give(self, worker: int, job: Job, again: bool) -> None:
        seconds = float(job.video.stem.partition("-")[0])
        self.given.append((worker, job.video.stem, again))
        self.busy[worker] = self.busy.get(worker, 0) + seconds
        event = self.happens(worker, job) or Ingested(job, {}, 0, seconds, skipped=False)
        self.coming.append((self.now + seconds, worker, Taken() if isinstance(event, Taken) and again else event))

    def dismiss(self, worker: int) -> None:
        self.dismissed.append(worker)

    def wait(self) -> tuple[int, Happening]:
        self.coming.sort(key=lambda item: item[0])
        self.now, worker, event = self.coming.pop(0)
        return worker, event


def ready(worker: int, device: str = "on a cpu") -> Ready:
    return Ready(f"machine{worker}", ("v2l 1", "it computes in bfloat16", device))


@pytest.fixture
def jobs(tmp_path: Path) -> Callable[..., list[Job]]:
    def made(*names: object) -> list[Job]:
        for name in names:
            (tmp_path / f"{name}.mp4").touch()
        return [Job(tmp_path / f"{name}.mp4", tmp_path / "out" / f"{name}.v2lora") for name in names]

    return made


def shared(crew: Pretended, jobs: list[Job], workers: int = 2) -> tuple[dict[str, str], list[str]]:
    """What became of each video, and what was told."""
    told: list[str] = []
    results = list(share_out(crew, jobs, workers, told.append, lambda under_way: None))
    assert len(results) == len(jobs)
    return {result.job.video.stem: str(result.error) if isinstance(result, Failed) else "made" for result in results
            }, told


def test_uneven_videos_balance(jobs: Callable[..., list[Job]]) -> None:
    crew = Pretended()
    became, told = shared(crew, jobs(9, *(f"1-{number}" for number in range(9))))
    assert set(became.values()) == {"made"} and told == [] and crew.started == 2 and crew.now == 9
    assert Pretended().started == 0 and shared(Pretended(), jobs("1-a"), 8)[0] == {"1-a": "made"}


def test_a_dead_workers_video_goes_to_another(jobs: Callable[..., list[Job]]) -> None:
    crew = Pretended(lambda worker, job: Ended("it was killed") if job and worker == 1 else None)
    became, told = shared(crew, jobs("1-a", "1-b", "1-c"))
    assert set(became.values()) == {"made"} and crew.started == 3
    assert len(told) == 1 and "1-" in told[0] and "another will watch: it was killed." in told[0]


def test_a_video_that_ends_workers_is_not_tried_for_ever(jobs: Callable[..., list[Job]]) -> None:
    crew = Pretended(lambda worker, job: Ended("it was killed") if job and job.video.stem == "1-bad" else None)
    videos = jobs("1-bad", "1-a", "1-b")
    became, _ = shared(crew, videos)
    assert became["1-a"] == became["1-b"] == "made" and f"{MOST_ENDS} workers ended" in became["1-bad"]
    assert [name for _, name, _ in crew.given].count("1-bad") == MOST_ENDS
    failure = last_failure(videos[0].output)
    assert failure is not None and failure.error == became["1-bad"]


def test_what_another_run_is_at_comes_last(jobs: Callable[..., list[Job]]) -> None:
    tried: list[str] = []

    def happens(worker: int, job: Job | None) -> Happening | None:
        if job and job.video.stem == "1-taken" and not tried:
            tried.append("")
            return Taken()
        return None

    crew = Pretended(happens)
    became, told = shared(crew, jobs("1-taken", "1-a", "1-b"), workers=1)
    assert set(became.values()) == {"made"} and told == []
    assert [(name, again) for _, name, again in crew.given] == [
        ("1-taken", False), ("1-a", False), ("1-b", False), ("1-taken", True)]


def test_a_worker_that_would_make_other_adapters_is_left_out(jobs: Callable[..., list[Job]]) -> None:
    crew = Pretended(lambda worker, job: None if job or worker == 1 else ready(worker, "on a cuda"))
    became, told = shared(crew, jobs("1-a", "1-b"))
    assert set(became.values()) == {"made"} and {worker for worker, _, _ in crew.given} == {1}
    assert told == ["A worker on machine2 is left out. It would make other adapters than the first: on a cuda instead "
                    "of on a cpu."] and crew.dismissed == [2]


def test_a_machine_that_does_not_see_the_folder_fails_no_video(jobs: Callable[..., list[Job]]) -> None:
    unseen = Unable("machine1", VideoError("/data is not to be seen there."))
    crew = Pretended(lambda worker, job: unseen if job and worker == 1 else None)
    became, told = shared(crew, jobs("1-a", "1-b", "1-c"))
    assert set(became.values()) == {"made"} and len(told) == 1 and crew.started == 2
    with pytest.raises(VideoError, match="/data is not to be seen there"):
        shared(Pretended(lambda worker, job: unseen if job else None), jobs("1-a", "1-b", "1-c"))


def test_a_folder_that_nobody_sees_any_more_fails_its_videos_alone(jobs: Callable[..., list[Job]], tmp_path: Path
                                                                   ) -> None:
    gone = Job(tmp_path / "gone" / "1.mp4", tmp_path / "out" / "1.v2lora")
    unseen = Unable("machine1", VideoError("gone is not to be seen there."))
    crew = Pretended(lambda worker, job: unseen if job == gone else None)
    became, told = shared(crew, [gone, *jobs("1-a")])
    assert became == {"1": "gone is not to be seen there.", "1-a": "made"} and told == []


def test_without_a_worker_that_can_work_the_run_ends(jobs: Callable[..., list[Job]]) -> None:
    unable = Unable("machine", V2LError("There is no model big."))
    with pytest.raises(V2LError, match="There is no model big"):
        shared(Pretended(lambda worker, job: unable), jobs("1-a"))
    crew = Pretended(lambda worker, job: Ended("no module named v2l"))
    with pytest.raises(V2LError, match="Workers end before they are ready: no module named v2l"):
        shared(crew, jobs("1-a", "1-b"))
    assert crew.started == 2 * MOST_ENDS


def test_a_place_that_cannot_be_written_fails_its_videos(jobs: Callable[..., list[Job]], tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    became, _ = shared(Pretended(), jobs("1-a", "1-b"))
    assert all("Cannot create the folder" in reason for reason in became.values())


# One worker.


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker of the small reference model, with a video in its folder; it sets this process up as it does its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "V2L_OF_THE_ORDER"):
        monkeypatch.setenv(name, "1")
    write(tmp_path / "a.mp4", frames=50, size=(64, 64))
    yield Worker(Order(MODEL[1], str(REFERENCE / "hypernetwork.pt"), "cpu", "float32", False,
                       {"resolution": 64, "frames": 4}, "auto", False, frozenset(), None, False, str(tmp_path),
                       {"V2L_OF_THE_ORDER": "2"}, 1))


def test_a_worker_watches_as_one_machine_does(worker: Worker, tmp_path: Path) -> None:
    told = worker.ready()
    assert isinstance(told, Ready) and told.makes[1:3] == ("it computes in float32", "on a cpu")
    assert os.environ["V2L_OF_THE_ORDER"] == "2"
    Path("b.mp4").write_text("no video")
    made, bad = worker.watch(Job(Path("a.mp4"), Path("a.v2lora")), again=False), worker.watch(
        Job(Path("b.mp4"), Path("b.v2lora")), again=False)
    assert isinstance(made, Ingested) and made.job.output == Path("a.v2lora") and not made.skipped
    assert isinstance(bad, Failed) and type(bad.error) is VideoError and str(bad.error).startswith("b.mp4 is text")
    alone = run("ingest", "a.mp4", "-o", "alone.v2lora", "--frames", 4, *MAKE)
    assert "a.mp4: 2 frames" in alone.stderr and Path("alone.v2lora").read_bytes() == Path("a.v2lora").read_bytes()
    unseen = worker.watch(Job(Path("elsewhere/a.mp4"), Path("a.v2lora")), again=False)
    assert isinstance(unseen, Unable) and f"{tmp_path}/elsewhere is not to be seen there" in str(unseen.error)
    unseen = worker.watch(Job(Path("a.mp4"), Path("elsewhere/a.v2lora")), again=False)
    assert isinstance(unseen, Unable) and isinstance(unseen.error, OutputError)
    worker.stop()
    Path("a.v2lora").unlink()
    assert isinstance(worker.watch(Job(Path("a.mp4"), Path("a.v2lora")), again=False), Taken)
    assert sorted(os.listdir()) == [".b.v2lora.failed", "a.mp4", "alone.v2lora", "b.mp4"]


def test_a_worker_without_its_model_says_so(tmp_path: Path) -> None:
    worker = Worker(Order(str(tmp_path / "nothing"), None, "cpu", "auto", True, {}, "auto", False, frozenset(), None,
                          False, str(tmp_path)))
    unable = worker.ready()
    assert isinstance(unable, Unable) and "nothing" in str(unable.error) and "bug" not in str(unable.error)


# The call.


@pytest.mark.parametrize(("words", "meant"), [
    (["--ray", "talks"], ["--ray=auto", "talks"]), (["talks", "--ray"], ["talks", "--ray=auto"]),
    (["--ray", "--json", "talks"], ["--ray=auto", "--json", "talks"]), (["--ray", "auto", "a"], ["--ray", "auto", "a"]),
    (["--ray", "10.0.0.1:6379", "a"], ["--ray", "10.0.0.1:6379", "a"]), (["--ray=local", "a"], ["--ray=local", "a"]),
    (["--ray", "ray://head:10001"], ["--ray", "ray://head:10001"]), (["a", "--", "--ray"], ["a", "--", "--ray"]),
    (["--ray", "--", "b"], ["--ray=auto", "--", "b"]), (["--ray", "[::1]:6379"], ["--ray", "[::1]:6379"]),
], ids=str)
def test_an_address_need_not_be_written(words: list[str], meant: list[str]) -> None:
    assert with_address(words) == meant


@pytest.mark.parametrize(("words", "said"), [
    (("--workers", "2"), "--workers is for the workers of a cluster; it needs --ray"),
    (("--ray=talks",), "--ray talks is no address of a Ray cluster"),
    (("--ray", "--device", "cuda:1"), "write --device cuda."), (("--ray", "--workers", "0"), "0"),
])
def test_a_call_that_makes_no_sense(words: tuple[str, ...], said: str) -> None:
    assert said in refused("ingest", "a.mp4", *words, status=2)
