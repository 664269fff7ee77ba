"""`v2l ingest`."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.cli.console import Console, Failures, write_json, write_path
from v2l.cli.options import (
    Checkpoint,
    Compute,
    Device,
    Dtype,
    End,
    Force,
    Fps,
    Frames,
    Json,
    Model,
    Offline,
    Output,
    Quiet,
    Resolution,
    Start,
    argument,
    option,
)
from v2l.cli.plan import Plan, expand, plan
from v2l.cli.shard import Shard, parse_shard
from v2l.cli.start import changes, load_engine
from v2l.config import DEFAULT_MODEL, Sampling
from v2l.errors import OutputError, UsageError

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.many import Job, Made, Settings
    from v2l.video.clip import Clip
    from v2l.video.cuts import SegmentSpec


def ingest(
    videos: Annotated[list[str], argument("VIDEO...")],
    output: Annotated[Path | None, Output] = None,
    output_dir: Annotated[Path | None, option("DIR", "Put the adapters here.", "next to each video")] = None,
    segment: Annotated[str | None, option(
        "LENGTH", "Watch piece by piece: 60s, 2m, 1:30; scenes cuts where the picture changes.", "one piece")] = None,
    keep_segments: Annotated[bool, typer.Option("--keep-segments", help="Keep a file of each segment too.")] = False,
    shard: Annotated[str | None, option(
        "I/N", "Only part I of N, from 1/N to N/N; auto takes both from SLURM's job array.", "all")] = None,
    model: Model = DEFAULT_MODEL, checkpoint: Checkpoint = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None, start: Start = None, end: End = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    adapter_dtype: Annotated[Dtype, option(
        "TYPE", "Store float32, bfloat16 or float16.", "float32 where computing in it, else float16")] = Dtype.auto,
    force: Force = False, json: Json = False, quiet: Quiet = False, offline: Offline = False,
) -> None:
    """Watch videos and keep each as a small .v2lora file.

    VIDEO is a file, a folder of them, or - for names from stdin. The path of each adapter is printed. One that is
    there and up to date is not made again, so a run that was ended goes on where it was.

    \b
      v2l ingest lecture.mp4
      v2l ingest lecture.mp4 --start 12:00 --end 13:30 -o part.v2lora
      v2l ingest lecture.mp4 --segment 60s
      v2l ingest talks/ --output-dir adapters --shard 1/4
    """
    if output is not None and output_dir is not None:
        raise UsageError("-o and --output-dir exclude each other.")
    sampling, spec = changes(frames=frames, fps=fps, start=start, end=end), _segments(segment, keep_segments)
    part = None if shard is None else parse_shard(shard)
    planned = plan(expand(videos), output, output_dir, part)
    run = _Run(Console(quiet), json, planned)
    run.tell_plan(part)
    if not planned.found and not planned.failed:
        run.console.warn("No videos were named.")
    jobs, clip = run.first_that_opens(Sampling(**sampling))
    if jobs:
        engine = load_engine(run.console, model, checkpoint, device, dtype, offline)
        with run.console.working("Loading"):
            _ = engine.hypernetwork_files  # a model that cannot be had ends everything, a video only itself
        from v2l.many import Settings

        run.watch(engine, jobs, clip, Settings(engine.sampling(**sampling, resolution=resolution), adapter_dtype.value,
                                               force, spec, keep_segments))
    run.end()


def _segments(length: str | None, keep: bool) -> SegmentSpec | None:
    if length is None:
        if keep:
            raise UsageError("--keep-segments needs --segment.")
        return None
    from v2l.video.cuts import parse_segments

    return parse_segments(length)


class _Run:
    """What is told of many videos, and how it ends."""

    def __init__(self, console: Console, json: bool, planned: Plan) -> None:
        self.console, self.json, self.planned = console, json, planned
        self.failures, self.ended = Failures(), Counter[str]()
        self.started = time.perf_counter()

    def tell_plan(self, part: Shard | None) -> None:
        if part is not None:
            self.console.note(f"Part {part}: {len(self.planned.jobs)} of {self.planned.found} videos.")
        for failure in self.planned.failed:
            self.failures.add(failure, "")

    def first_that_opens(self, sampling: Sampling) -> tuple[list[Job], Clip | None]:
        """The jobs without the first ones whose video cannot be read, and the clip of the next: before a model is
        loaded for nothing."""
        from v2l.video.clip import open_clip

        for number, job in enumerate(self.planned.jobs):
            try:
                return self.planned.jobs[number:], open_clip(job.video, sampling)
            except Exception as error:
                self.failures.add(error, job.video)
        return [], None

    def watch(self, engine: Engine, jobs: list[Job], clip: Clip | None, settings: Settings) -> None:
        from v2l.many import Made, ingest_all

        with (self.console.working(jobs[0].video.name, of=len(jobs)),
              closing(ingest_all(engine, jobs, settings, clip)) as results):
            for result in results:
                self.console.finished(worked=isinstance(result, Made) and not result.skipped)
                self.console.aside()
                if isinstance(result, Made):
                    self.tell(result)
                else:
                    self.failures.add(result.error, result.job.video)

    def tell(self, made: Made) -> None:
        self.ended["up to date" if made.skipped else "made"] += 1
        for warning in made.warnings:
            self.console.warn(warning)
        self.console.note(_note(made))
        try:
            if self.json:
                write_json(_document(made))
            else:
                write_path(made.job.output)
        except OutputError as error:
            self.failures.add(error, made.job.video)

    def end(self) -> None:
        """Sums up, where there were several. Raises typer.Exit if something failed."""
        if len(self.planned.jobs) + len(self.planned.failed) > 1:
            counts = {**self.ended, "failed": self.failures.count}
            text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            self.console.note(f"{text}, {time.perf_counter() - self.started:.1f} s")
        self.failures.exit()


def _note(made: Made) -> str:
    if made.skipped:
        kept = f"; its segments are in {made.kept[0].parent}" if made.kept else ""
        return f"{made.job.output} is up to date{kept}."
    frames = f"{made.frames} {'frame' if made.frames == 1 else 'frames'}"
    parts = [frames, f"{made.tokens} tokens", f"{made.seconds:.1f} s"]
    if made.segments > 1:
        before = f" ({made.resumed} from the run before)" if made.resumed else ""
        parts.insert(0, f"{made.segments} segments{before}")
    if made.kept:
        parts.append(f"segments in {made.kept[0].parent}")
    return f"{made.job.video}: {', '.join(parts)}"


def _document(made: Made) -> dict[str, object]:
    document: dict[str, object] = {
        "output": str(made.job.output), "source": str(made.job.video), "frames": made.frames, "tokens": made.tokens,
        "size": made.size, "seconds": round(made.seconds, 3), "skipped": made.skipped}
    if made.segments > 1:
        document |= {"segments": made.segments, "resumed": made.resumed}
    return document | ({"kept": [str(path) for path in made.kept]} if made.kept else {})
