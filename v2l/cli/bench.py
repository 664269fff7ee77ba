"""`v2l bench`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from v2l.adapter.record import foreign_text
from v2l.bench.config import QUESTION, QUICK_FRAMES, REPEATS, RESOLUTIONS, SPEED_FRAMES, SWEEP_MINUTES
from v2l.cli import options
from v2l.cli.bench_quality import measure_quality
from v2l.cli.complete_paths import video_paths
from v2l.cli.console import Console, columns, write, write_json
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable
from v2l.config import Sampling
from v2l.errors import OutputError, UsageError


class _Bench(options.Group):
    """`v2l bench VIDEO` is `v2l bench compare VIDEO`; the names of other benches come first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = args or ["--help"]  # to measure a clip of our own at once would tell nobody what it is about
        named = bool(args) and args[0] in (*self.commands, "-h", "--help")
        return super().parse_args(ctx, args if named else ["compare", *args])


_QUICK = f"{', '.join(map(str, QUICK_FRAMES[:-1]))} and {QUICK_FRAMES[-1]}"

bench = typer.Typer(cls=_Bench, rich_markup_mode=None)


@bench.callback()
def _bench() -> None:
    """Measure adapters against the video in the prompt.

    `v2l bench VIDEO`, short for `v2l bench compare VIDEO`, asks one video both ways and tells what the adapter saves:
    prompt tokens, time to the first token, and after how many questions making it has paid; and whether the adapter
    tells of that video. speed measures the same savings, and memory, over numbers of frames and resolutions; quality,
    how good the answers are.

    Words: an arm is a way of answering the same questions. The base is the model as it is, with the video in its
    prompt. A judge is a language model that grades answers from 0 to 1. A degenerate answer repeats itself without
    end or says nothing. Token F1 is the share of words that answer and reference have in common, 0 to 1.

    \b
      v2l bench lecture.mp4 --model 500m
      v2l bench speed --model 500m --report speed.html
      v2l bench quality --suite tiny
    """


bench.command("quality", cls=options.Command)(measure_quality)


@bench.command("compare", cls=options.Command)
def compare_ways(
    video: Annotated[Path | None, argument("[VIDEO]")] = None,
    question: Annotated[str | None, option("TEXT", "Ask this.", QUESTION)] = None,
    repeat: Annotated[int, option("N", "Take the median of N answers.", f"{REPEATS}", callback=options.positive)]
    = REPEATS,
    other: Annotated[Path | None, option("VIDEO", "Check that VIDEO's adapter tells less of the first video than its "
                                                  "own does.", "a drawn clip", autocompletion=video_paths)] = None,
    model: options.Model = None, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    stream: options.Stream = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Measure what an adapter saves, against the video in the prompt, and whether it tells of its video.

    Times are those of a model that is loaded and warm. "cached" is the video in the prompt, with that part of the
    prompt computed beforehand. Without VIDEO, a small clip is drawn.

    Then captions that the model writes with the video in its prompt are scored without the video: by how likely they
    are to the base alone, with the bias alone (the part of an adapter that no video changes), with the adapter of
    another video, and with the adapter. No reference answers are needed. The verdict says whether they rank as those of
    a working model do; `v2l models check` finds faults more surely, on more clips. Another clip is drawn, unless
    --other names a video, and checked beside VIDEO.

    \b
      v2l bench lecture.mp4 --model 500m
      v2l bench lecture.mp4 --model 500m --other talk.mp4
    """
    sampling, console = options.given(frames=frames, fps=fps, stream=stream), Console(quiet)
    if question is not None and not question.strip():
        raise UsageError("The question is empty.")
    for named in filter(None, (video, other)):
        from v2l.video.clip import open_clip

        open_clip(named, Sampling(**sampling))
    engine = options.load_engine(console, model, checkpoint, device, dtype, offline)
    with console.working("Measuring"), TemporaryDirectory() as folder:
        from v2l.bench.likelihood import check_model, draw_other
        from v2l.bench.likelihood_text import check_text
        from v2l.bench.speed.compare import compare
        from v2l.bench.speed.tables import comparison_text

        video, chosen = video or _drawn_clip(Path(folder)), engine.sampling(**sampling, resolution=resolution)
        found = compare(engine, video, question=question or QUESTION, sampling=chosen, repeats=repeat)
        check = check_model(engine, [video, other or draw_other(Path(folder))], chosen, progress=console.progress)
    if check.foreign:
        console.warn(foreign_text(*check.foreign, of=len(check.clips)))
    if json:
        write_json({**found.to_json(), "likelihood": check.to_json()})
    else:
        write(f"{comparison_text(found, columns())}\n\n{check_text(check, columns())}")


@bench.command("speed", cls=options.Command)
def sweep_speed(
    model: options.Model = None, checkpoint: options.Checkpoint = None,
    frames: Annotated[Any, option("N,N,...", "Numbers of frames to sample.", ",".join(map(str, SPEED_FRAMES)),
                                  parser=options.numbers)] = None,
    resolutions: Annotated[Any, option("PIXELS,...", "Resolutions: longest edges of a frame.",
                                       ",".join(map(str, RESOLUTIONS)),
                                       parser=options.numbers)] = None,
    budget: Annotated[float, option("MINUTES", "Time limit; skip what would take longer.", f"{SWEEP_MINUTES:g}",
                                    callback=options.positive, parser=options.minutes)]
    = SWEEP_MINUTES,
    quick: Annotated[bool, typer.Option("--quick", help=f"Measure {_QUICK} frames at the model's resolution, once.")]
    = False,
    repeat: Annotated[int, option("N", "Take the median of N runs.", f"{REPEATS}", callback=options.positive)]
    = REPEATS,
    report: Annotated[Path | None, option("FILE", "Write an HTML page with plots to FILE.")] = None,
    resume: Annotated[Path | None, option("FILE", "Skip what FILE holds from earlier runs, add new results.")] = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Measure speed and memory over frames and resolutions.

    For each number of frames and resolution, a clip is drawn and turned into an adapter; a question is then asked with
    the adapter, and with the video in the prompt. Each runs in a process of its own, so that its memory is measured
    alone. The cheapest run first; those that --budget leaves out are listed with the time they would take, and a later
    call with the same --resume FILE continues with them. The default numbers of frames are those of the paper.

    \b
      v2l bench speed --quick
      v2l bench speed --model 500m --budget 240 --resume 500m.jsonl --report 500m.html
    """
    from v2l.bench.record import open_record
    from v2l.bench.speed.sweep import SpeedSetting, measure_sweep
    from v2l.bench.speed.tables import sweep_text
    from v2l.store.default import chosen_model

    if report is not None:
        check_writable(report)
    setting = SpeedSetting(chosen_model(model).name, checkpoint, device, dtype.value, offline, resolutions=resolutions,
                           frames=frames or (QUICK_FRAMES if quick else SPEED_FRAMES), repeats=1 if quick else repeat,
                           quick=quick)
    console = Console(quiet)
    printing = _Printing(console, go_on=report is not None)
    with open_record(resume) as record, console.working("Starting"):
        sweep = measure_sweep(setting, budget * 60, record=record, progress=console.progress,
                              emit=printing if json else lambda _: None)
    if report is not None:  # first, so that it is there though nobody reads the rest
        from v2l.bench.speed.report import speed_page
        from v2l.system.files import replacing

        with replacing(report) as file:
            file.write(speed_page(sweep).encode())
        console.note(f"{report} shows it with plots.")
    printing.end()
    if not json:
        write(sweep_text(sweep, columns()))


class _Printing:
    """Prints documents while others are measured, beside the bar. With `go_on`, a stdout that takes no more stops
    nothing before `end`."""

    def __init__(self, console: Console, go_on: bool) -> None:
        self._console, self._go_on = console, go_on
        self._failure: Exception | None = None

    def __call__(self, document: dict[str, Any]) -> None:
        if self._failure is None:
            self._console.aside()
            try:
                write_json(document)
            except (BrokenPipeError, OutputError) as error:
                if not self._go_on:
                    raise
                self._failure = error

    def end(self) -> None:
        """Raises what stdout failed with."""
        if self._failure is not None:
            raise self._failure


def _drawn_clip(folder: Path) -> Path:
    from v2l.tiny.clips import examples, write_video

    video = folder / "three-shapes.mp4"
    write_video(examples()["three-shapes"], video)
    return video
