"""`v2l bench`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from v2l.bench.config import QUESTION, QUICK_FRAMES, REPEATS, RESOLUTIONS, SPEED_FRAMES, SWEEP_MINUTES
from v2l.cli import options
from v2l.cli.bench_quality import measure_quality
from v2l.cli.console import Console, columns, write, write_json
from v2l.cli.options import argument, option
from v2l.config import DEFAULT_MODEL, Sampling
from v2l.errors import OutputError, UsageError


class _Bench(TyperGroup):
    """`v2l bench VIDEO` is `v2l bench compare VIDEO`; the names of other benches come first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in (*self.commands, "-h", "--help")
        return super().parse_args(ctx, args if named else ["compare", *args])


_QUICK = f"{', '.join(map(str, QUICK_FRAMES[:-1]))} and {QUICK_FRAMES[-1]}"

bench = typer.Typer(cls=_Bench, rich_markup_mode=None)


@bench.callback()
def _bench() -> None:
    """Measure what an adapter saves. `v2l bench VIDEO` is short for `v2l bench compare VIDEO`.

    \b
      v2l bench lecture.mp4 --model 500m
      v2l bench speed --model 500m --report speed.html
      v2l bench quality --suite tiny
    """


bench.command("quality", cls=options.Command)(measure_quality)


@bench.command("compare", cls=options.Command)
def compare_ways(
    video: Annotated[Path | None, argument("[VIDEO]")] = None,
    question: Annotated[str | None, option("TEXT", "What to ask.", "what happens")] = None,
    repeat: Annotated[int, option("N", "Answers to take the median of.", f"{REPEATS}", callback=options.positive)]
    = REPEATS,
    model: options.Model = DEFAULT_MODEL, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Measure what an adapter saves, against the video in the prompt.

    Times are for a model that is loaded and warm. "cached" is the video in the prompt with its part of the prompt
    computed before. Without a VIDEO, a clip is drawn.

    \b
      v2l bench lecture.mp4 --model 500m
    """
    sampling, console = options.given(frames=frames, fps=fps), Console(quiet)
    if question is not None and not question.strip():
        raise UsageError("The question is empty.")
    if video is not None:
        from v2l.video.clip import open_clip

        open_clip(video, Sampling(**sampling))
    engine = options.load_engine(console, model, checkpoint, device, dtype, offline)
    with console.working("Measuring"), TemporaryDirectory() as folder:
        from v2l.bench.speed.compare import compare
        from v2l.bench.speed.tables import comparison_text

        found = compare(engine, video or _drawn_clip(Path(folder)), question=question or QUESTION,
                        sampling=engine.sampling(**sampling, resolution=resolution), repeats=repeat)
    if json:
        write_json(found.to_json())
    else:
        write(comparison_text(found, columns()))


@bench.command("speed", cls=options.Command)
def sweep_speed(
    model: options.Model = DEFAULT_MODEL, checkpoint: options.Checkpoint = None,
    frames: Annotated[Any, option("N,N,...", "Frames to sample.", ",".join(map(str, SPEED_FRAMES)),
                                  parser=options.numbers)] = None,
    resolutions: Annotated[Any, option("PIXELS,...", "Longest edges of a frame.", ",".join(map(str, RESOLUTIONS)),
                                       parser=options.numbers)] = None,
    budget: Annotated[float, option("MINUTES", "Start nothing that would end later.", f"{SWEEP_MINUTES:g}",
                                    callback=options.positive)] = SWEEP_MINUTES,
    quick: Annotated[bool, typer.Option("--quick", help=f"{_QUICK} frames, the model's own resolution, once.")] = False,
    repeat: Annotated[int, option("N", "Times of which the median is taken.", f"{REPEATS}", callback=options.positive)]
    = REPEATS,
    report: Annotated[Path | None, option("FILE", "Write a page with plots to it, as HTML.")] = None,
    resume: Annotated[Path | None, option("FILE", "Go on from what it holds; keep what is found.")] = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Measure a sweep of frames and resolutions, as published.

    Each cell draws a clip of which so many frames are really sampled, watches it into an adapter, and asks once from
    the adapter and once with the video in the prompt; in processes of their own, so that memory is measured truly.
    Cells run from the cheapest on. What the budget leaves out is listed with the time it would take; a later call
    with the same --resume goes on with it.

    \b
      v2l bench speed --quick
      v2l bench speed --model 500m --budget 240 --resume 500m.jsonl --report 500m.html
    """
    from v2l.bench.speed.journal import Journal
    from v2l.bench.speed.sweep import Setting, sweep
    from v2l.bench.speed.tables import sweep_text
    from v2l.system.files import replacing

    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise OutputError(f"{report} cannot be written; name a file in a folder that exists.")
    setting = Setting(model, checkpoint, device, dtype.value, offline, resolutions=resolutions,
                      frames=frames or (QUICK_FRAMES if quick else SPEED_FRAMES), repeats=1 if quick else repeat,
                      quick=quick)
    console, journal = Console(quiet), Journal(resume)
    with console.working("Starting"):
        found = sweep(setting, budget * 60, journal=journal, told=console.progress,
                      found=write_json if json else lambda _: None)
    if not json:
        write(sweep_text(found, columns()))
    if report is not None:
        from v2l.bench.speed.report import speed_page

        with replacing(report) as file:
            file.write(speed_page(found).encode())
        console.note(f"{report} shows it with plots.")


def _drawn_clip(folder: Path) -> Path:
    from v2l.tiny.clips import examples, write_video

    video = folder / "three-shapes.mp4"
    write_video(examples()["three-shapes"], video)
    return video
