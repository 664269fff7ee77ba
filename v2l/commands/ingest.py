"""`v2l ingest`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from v2l.commands.console import Console, Failures, write, write_json
from v2l.commands.options import (
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
from v2l.commands.plan import Job, create_folder, expand, plan
from v2l.commands.start import changes, load_engine
from v2l.config import DEFAULT_MODEL, Sampling
from v2l.errors import AdapterError, OutputError, UsageError

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.engine import Engine
    from v2l.video import Clip


def ingest(
    videos: Annotated[list[str], argument("VIDEO...")],
    output: Annotated[Path | None, Output] = None,
    output_dir: Annotated[Path | None, option("DIR", "Put the adapters here.", "next to each video")] = None,
    model: Model = DEFAULT_MODEL, checkpoint: Checkpoint = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None, start: Start = None, end: End = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    adapter_dtype: Annotated[Dtype, option(
        "TYPE", "Store float32, bfloat16 or float16.", "float32 where computing in it, else float16")] = Dtype.auto,
    force: Force = False, json: Json = False, quiet: Quiet = False, offline: Offline = False,
) -> None:
    """Watch videos and keep each as a small .v2lora file.

    VIDEO is a file, a folder of them, or - for names from stdin. The path of each adapter is printed. One that is
    there and up to date is not made again.

    \b
      v2l ingest lecture.mp4
      v2l ingest talks/ --output-dir adapters
      v2l ingest lecture.mp4 --start 12:00 --end 13:30 -o part.v2lora
    """
    if output is not None and output_dir is not None:
        raise UsageError("-o and --output-dir exclude each other.")
    sampling = changes(frames=frames, fps=fps, start=start, end=end)
    jobs, failed = plan(expand(videos), output, output_dir)
    console, failures = Console(quiet), Failures()
    for failure in failed:
        failures.add(failure, "")
    engine: Engine | None = None
    for number, (job, clip) in enumerate(_opened(jobs, Sampling(**sampling), failures), 1):
        # A model that cannot be had ends everything; a video that cannot be read only itself.
        engine = engine or load_engine(console, model, checkpoint, device, dtype, offline)
        _ = engine.hypernetwork_files
        wanted = engine.sampling(**sampling, resolution=resolution)
        try:
            with console.working(job.video.name, prefix=f"{number}/{len(jobs)} " if len(jobs) > 1 else ""):
                made = _ingest(engine, job, clip, wanted, adapter_dtype.value, force)
            _tell_ingested(job, made, clip, json, console)
        except Exception as error:
            failures.add(error, job.video)
    failures.exit()


def _opened(jobs: Iterable[Job], sampling: Sampling, failures: Failures) -> Iterator[tuple[Job, Clip]]:
    from v2l.video import open_clip

    for job in jobs:
        try:
            clip = open_clip(job.video, sampling)
        except Exception as error:
            failures.add(error, job.video)
        else:
            yield job, clip


@dataclass(frozen=True)
class Made:
    """An adapter file that is there now; `seconds` it took, `skipped` if it was there before."""

    adapter: Adapter
    seconds: float
    skipped: bool


def _ingest(engine: Engine, job: Job, clip: Clip, sampling: Sampling, adapter_dtype: str, force: bool) -> Made:
    from v2l.adapter import load, save

    started = time.perf_counter()
    if not force:
        with suppress(AdapterError):
            there = load(job.output)
            if engine.is_current(there, clip, sampling, adapter_dtype):
                return Made(there, time.perf_counter() - started, skipped=True)
            if len(there.segments) > 1:
                raise OutputError(f"{job.output} holds {len(there.segments)} segments that were joined; "
                                  "name another file with -o, or replace it with --force.")
    adapter = engine.ingest(clip, sampling, adapter_dtype)
    create_folder(job.output.parent)
    save(adapter, job.output)
    return Made(adapter, time.perf_counter() - started, skipped=False)


def _tell_ingested(job: Job, made: Made, clip: Clip, json: bool, console: Console) -> None:
    frames, tokens = len(made.adapter.segments[0]["timestamps"]), made.adapter.record["compute"].get("tokens")
    for warning in clip.warnings:
        console.warn(warning)
    if made.skipped:
        console.note(f"{job.output} is up to date.")
    else:
        console.note(f"{job.video}: {frames} frames, {tokens} tokens, {made.seconds:.1f} s")
    if json:
        write_json({"output": str(job.output), "source": str(job.video), "frames": frames, "tokens": tokens,
                    "size": made.adapter.file_size, "seconds": round(made.seconds, 3), "skipped": made.skipped})
    else:
        write(str(job.output))
