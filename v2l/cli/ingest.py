"""`v2l ingest`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.adapter.record import foreign_text, is_foreign
from v2l.cli import options
from v2l.cli.console import Console, Failures, write_json, write_path
from v2l.cli.ingest_ray import Cluster, address, cluster_of, share_out_on
from v2l.cli.inputs import expand
from v2l.cli.options import argument, option
from v2l.cli.outputs import Outputs, plan_outputs
from v2l.cli.shards import Shard
from v2l.config import ADAPTER_SUFFIX, DEFAULT_MODEL, Sampling
from v2l.errors import OutputError, UsageError, sentence
from v2l.wording import TIME_FORMS, count_of, size_text, time_text

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.many.ingest import Failed, Ingested, Settings
    from v2l.many.jobs import Job
    from v2l.many.worker import Order
    from v2l.video.clip import Clip
    from v2l.video.cuts import SegmentSpec


def ingest(
    ctx: typer.Context,
    videos: Annotated[list[str], argument("VIDEO...")],
    output: Annotated[Path | None, options.OUTPUT] = None,
    output_dir: Annotated[Path | None, option("DIR", "Write the adapters to DIR.", "next to each video")] = None,
    segment: Annotated[str | None, option(
        "LENGTH", f"Split videos into segments of a length ({TIME_FORMS}), or at scene cuts: scenes.",
        "no split")] = None,
    keep_segments: Annotated[bool, typer.Option("--keep-segments", help="Also keep one file per segment.")] = False,
    shard: options.OnlyShard = None,
    ray: Annotated[str | None, option(
        "[ADDRESS]", "Share the work out on a Ray cluster: local, HOST:PORT, ray://HOST:PORT or auto, as alone: "
        "that of RAY_ADDRESS or of this machine, else one started for the run.", callback=address)] = None,
    workers: Annotated[int | None, option("N", "With --ray: so many workers.", "all that there is room for",
                                          callback=options.positive)] = None,
    worker_cpus: Annotated[int | None, option("N", "With --ray: cores of a worker.", "4, or 1 beside a GPU",
                                              callback=options.positive)] = None,
    worker_gpus: Annotated[float | None, option("X", "With --ray: GPUs of a worker; 0.25 lets four share one.",
                                                "1 where there are any", callback=options.not_negative)] = None,
    model: options.Model = None, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    start: options.Start = None, end: options.End = None, stream: options.Stream = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    adapter_dtype: options.AdapterDtype = options.Dtype.auto,
    force: options.Force = False,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Turn videos into adapters, one small .v2lora file each.

    VIDEO is a file, a folder of videos, or - to read names from stdin, one per line. Prints the path of each adapter.
    The model that ships, tiny, knows only coloured shapes and slides; for real videos, v2l models pull 500m, and then
    v2l models use 500m or --model 500m.
    Adapters that are up to date are kept, so that the same command resumes an interrupted run; several runs on the
    same videos share the work. An adapter of the same video that was made with another model or other settings is kept
    too, and said so; where it is not what the options ask for, that is an error. Only --force replaces it.
    With --json, a video that failed has a line with "source" and "error", and after several comes one with "counts".

    \b
      v2l ingest lecture.mp4
      v2l ingest lecture.mp4 --start 12:00 --end 13:30 -o part.v2lora
      v2l ingest lecture.mp4 --segment 60s
      v2l ingest talks/ --output-dir adapters --shard 1/4
      v2l ingest talks/ --model 500m --ray
    """
    if output is not None and output_dir is not None:
        raise UsageError("-o and --output-dir exclude each other.")
    sampling = options.given(frames=frames, fps=fps, start=start, end=end, stream=stream)
    spec, cluster = _segments(segment, keep_segments), cluster_of(ray, workers, worker_cpus, worker_gpus, device)
    outputs = plan_outputs(expand(videos), output, output_dir, shard)
    run = _Run(Console(quiet), json, outputs)
    run.report_plan(shard)
    if not outputs.videos and not outputs.failures:
        run.console.warn("No videos were named.")
    jobs, clip = run.first_that_opens(Sampling(**sampling))
    if clip and cluster:
        from v2l.many.worker import Order

        run.share_out(cluster, jobs, Order(model, checkpoint, device, dtype.value, offline,
                                           {**sampling, "resolution": resolution}, adapter_dtype.value, force,
                                           _asked(ctx), spec, keep_segments))
    elif clip:
        engine = options.load_engine(run.console, model, checkpoint, device, dtype, offline)
        with run.console.working("Loading"):
            engine.fetch_hypernetwork()  # a model that cannot be had ends everything, a video only itself
        from v2l.many.ingest import Settings

        run.make(engine, jobs, clip, Settings(engine.sampling(**sampling, resolution=resolution), adapter_dtype.value,
                                               force, _asked(ctx), spec, keep_segments))
    run.end()


_DECIDES = {"base": ("model",), "hypernetwork": ("model", "checkpoint"), "compute": ("dtype",),
            "dtype": ("adapter_dtype",), "segments": ("segment",), "part": ("start", "end"),
            **{name: (name,) for name in ("frames", "fps", "resolution")}}
"""What an adapter is made with, and the options that ask for it."""


def _asked(ctx: typer.Context) -> frozenset[str]:
    return frozenset(what for what, names in _DECIDES.items() if options.is_given(ctx, *names))


def _segments(length: str | None, keep: bool) -> SegmentSpec | None:
    if length is None:
        if keep:
            raise UsageError("--keep-segments needs --segment.")
        return None
    from v2l.video.cuts import parse_segments

    return parse_segments(length)


LARGE = 10_000_000
"""Bytes of an adapter of several segments from which on it is said that it is larger than its video."""
OUTCOMES = ("made", "up to date", "kept", "failed")
"""What becomes of a video."""


class _Run:
    """Reports on many videos, and how the run ends."""

    def __init__(self, console: Console, json: bool, outputs: Outputs) -> None:
        self.console, self.json, self.outputs = console, json, outputs
        self.failures, self.counts, self.told_larger = Failures(), Counter[str](), False
        self.started, self.foreign, self.coarse = time.perf_counter(), 0, 0

    def report_plan(self, shard: Shard | None) -> None:
        if shard is not None:
            self.console.note(f"Part {shard}: {len(self.outputs.jobs)} of {self.outputs.videos} videos.")
        for note in self.outputs.notes:
            self.console.note(note)
        for source, failure in self.outputs.failures:
            self.fail(failure, source)

    def fail(self, error: Exception, source: Path) -> None:
        """Reports one video that failed."""
        self.failures.add(error, source)
        if self.json:
            with suppress(OutputError):
                write_json({"source": str(source), "error": sentence(error, f"{source}: ")})

    def first_that_opens(self, sampling: Sampling) -> tuple[list[Job], Clip | None]:
        """The jobs without the first ones whose video cannot be read, and the clip of the next: before a model is
        loaded for nothing."""
        from v2l.many.failures import note_failure
        from v2l.video.clip import open_clip

        for number, job in enumerate(self.outputs.jobs):
            try:
                return self.outputs.jobs[number:], open_clip(job.video, sampling)
            except Exception as error:
                self.fail(error, job.video)
                note_failure(job, error)
        return [], None

    def make(self, engine: Engine, jobs: list[Job], clip: Clip, settings: Settings) -> None:
        from v2l.cli.cost import Cost, Teller
        from v2l.many.ingest import ingest_all

        cost = Cost(engine, clip, settings.sampling, settings.segments is not None)
        teller = Teller(self.console, cost, len(jobs))
        engine.progress = teller.progress
        with (self.noting_kept(jobs if settings.segments else []),
              self.console.working(jobs[0].video.name, of=len(jobs), seeing=lambda: cost.seeing),
              closing(ingest_all(engine, jobs, settings, clip)) as results):
            self.take(results, teller.finished)

    def share_out(self, cluster: Cluster, jobs: list[Job], order: Order) -> None:
        """`make`, by the workers of a cluster."""
        with self.noting_kept(jobs if order.segments else []):
            share_out_on(cluster, jobs, order, self.console, self.take)

    def take(self, results: Iterable[Ingested | Failed], finished: Callable[[bool], None] = lambda worked: None
             ) -> None:
        """Reports what becomes of videos; `finished` hears of each whether it took work."""
        from v2l.many.ingest import Ingested

        for result in results:
            worked = isinstance(result, Ingested) and not result.skipped
            self.console.finished(worked)
            finished(worked)
            self.console.aside()
            if isinstance(result, Ingested):
                self.report(result)
            else:
                self.fail(result.error, result.job.video)

    @contextmanager
    def noting_kept(self, jobs: list[Job]) -> Iterator[None]:
        """Says at an interrupt what is kept of the segments of videos."""
        try:
            yield
        except KeyboardInterrupt:
            self.note_kept(jobs)
            raise

    def note_kept(self, jobs: list[Job]) -> None:
        """Says what an interrupted run leaves for the next one, which goes on from there."""
        from v2l.segments import work_folder

        kept = ((job, len(list(work_folder(job.output).glob("*" + ADAPTER_SUFFIX)))) for job in jobs)
        if found := next(((job, count) for job, count in kept if count), None):
            self.console.note(f"{found[0].video}: {count_of(found[1], 'segment')} kept; the same command goes on from "
                              "there.")

    def report(self, result: Ingested) -> None:
        self.counts["kept" if result.reason else "up to date" if result.skipped else "made"] += 1
        for warning in result.warnings:
            self.console.warn(warning)
        self.console.note(_note(result))
        self.note_larger(result)
        if is_foreign(result.record):
            self.foreign += 1
            if self.foreign == 1:
                self.console.warn(foreign_text(str(result.job.video)))
        elif coarse := _coarse(result):
            self.coarse += 1
            if self.coarse == 1:
                self.console.warn(coarse)
        try:
            if self.json:
                write_json(_document(result))
            elif not (result.skipped and self.console.is_beside_results):  # the note has named it
                write_path(result.job.output)
        except OutputError as error:
            self.failures.add(error, result.job.video)

    def note_larger(self, result: Ingested) -> None:
        """Says, once a run, that an adapter is larger than its video, where that is worth a word."""
        video = sum(source["size"] for source in result.record["sources"])
        if result.segments == 1 or result.size < max(LARGE, video) or self.told_larger:
            return
        self.told_larger = True
        self.console.warn(f"{result.job.output} takes {size_text(result.size)}, and its video {size_text(video)}; "
                          "longer segments take less.")

    def end(self) -> None:
        """Sums up, where there were several. Raises typer.Exit if something failed."""
        if len(self.outputs.jobs) + len(self.outputs.failures) > 1:
            counts, seconds = {**self.counts, "failed": self.failures.count}, time.perf_counter() - self.started
            said = [f"{count} {outcome}" for outcome, count in counts.items() if count]
            if self.foreign:
                said.append(f"{self.foreign} {DEFAULT_MODEL} knows nothing of")
            self.console.note(f"{', '.join(said)}, {seconds:.1f} s")
            if self.json:
                counts = {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}
                write_json({"counts": counts | {"foreign": self.foreign}, "seconds": round(seconds, 3)})
        self.failures.exit()


def _note(result: Ingested) -> str:
    if result.reason:
        return f"{result.job.output} is kept: it {result.reason}. --force replaces it."
    if result.skipped:
        kept = f"; its segments are in {result.kept[0].parent}" if result.kept else ""
        return f"{result.job.output} is up to date{kept}."
    frames = count_of(result.frames, "frame")
    if _interval(result) >= COARSE:
        frames += f", one every {time_text(round(_interval(result)))} of {time_text(round(_seconds(result)))}"
    parts = [frames, f"{result.tokens} tokens", f"{result.seconds:.1f} s"]
    if result.segments > 1:
        before = f" ({result.resumed} from the run before)" if result.resumed else ""
        parts.insert(0, f"{result.segments} segments{before}")
    if result.kept:
        parts.append(f"segments in {result.kept[0].parent}")
    return f"{result.job.video}: {', '.join(parts)}"


COARSE = 10.0
"""Seconds from one frame to the next from which on it is said. That is twice what the released hypernetworks were
trained on, and `tiny` answers 25 % of questions about a moment then, 95 % in segments (tests/measure/coarse.py)."""


def _seconds(result: Ingested) -> float:
    return sum(segment["end"] - segment["start"] for segment in result.record["segments"])


def _interval(result: Ingested) -> float:
    return _seconds(result) / result.frames


def _coarse(result: Ingested) -> str:
    """What is said of a long video that few frames were taken of."""
    if _interval(result) < COARSE or result.skipped:
        return ""
    return (f"{result.job.video} is {time_text(round(_seconds(result)))} long, and {count_of(result.frames, 'frame')} "
            f"were looked at, one every {time_text(round(_interval(result)))}; what happens between them is not seen. "
            "--segment 60s looks at every minute by itself, which takes that many times longer.")


def _document(result: Ingested) -> dict[str, object]:
    document: dict[str, object] = {
        "output": str(result.job.output), "source": str(result.job.video), "frames": result.frames,
        "tokens": result.tokens, "size": result.size, "seconds": round(result.seconds, 3), "skipped": result.skipped}
    if result.segments > 1:
        document |= {"segments": result.segments, "resumed": result.resumed}
    if is_foreign(result.record):
        document["foreign"] = True
    if result.reason:
        document["reason"] = result.reason
    return document | ({"kept": [str(path) for path in result.kept]} if result.kept else {})
