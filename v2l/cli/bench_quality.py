"""`v2l bench quality`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.bench.config import ARMS, RESOLUTIONS, SUITES, SWEEP_FRAMES, SWEEP_MINUTES, Comparing
from v2l.cli import options
from v2l.cli.console import Console, Failures, columns, write, write_json
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable
from v2l.config import DEFAULT_MODEL, Decoding
from v2l.errors import UsageError, VideoError

if TYPE_CHECKING:
    from v2l.bench.quality.bench import Bench
    from v2l.bench.quality.score import Judging


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value:g} is not between 0 and 1.")
    return value


def _arms(text: str) -> tuple[str, ...]:
    parts = dict.fromkeys(part.strip() for part in text.split(","))
    if not parts.keys() <= set(ARMS):
        raise typer.BadParameter(f"{text!r} is not a list of {', '.join(ARMS[:-1])} and {ARMS[-1]}.")
    return tuple(arm for arm in ARMS if arm in parts)


def _suite(value: str | None) -> str | None:
    if value is not None and value not in SUITES:
        raise typer.BadParameter(f"There is no suite {value!r}; there is {', '.join(SUITES)}.")
    return value


def measure_quality(
    manifests: Annotated[list[Path] | None, argument("[MANIFEST]...")] = None,
    benchmark: Annotated[list[str] | None, option("NAME=FOLDER", "A public benchmark, from your copy of it.")] = None,
    suite: Annotated[str | None, option("NAME", "The embedded clips and questions: tiny.", callback=_suite)] = None,
    split: Annotated[str | None, option("NAME", "Lines to ask.", "test, else val, else all")] = None,
    clips: Annotated[int | None, option("N", "Take no more clips of each benchmark.", "all",
                                        callback=options.positive)] = None,
    arms: Annotated[Any, option("ARM,...", "Who answers.", ",".join(ARMS), parser=_arms)] = None,
    budget_tokens: Annotated[int | None, option("N", "Longest prompt of the arm budget.", "a third",
                                                callback=options.positive)] = None,
    judge: Annotated[str | None, option("NAME", "A text model that judges: a folder or a Hub id.", "none; the "
                                        "suite's own")] = None,
    margin: Annotated[float, option("X", "By how much a judge's score may differ.", f"{Comparing.margin}",
                                    callback=_share)] = Comparing.margin,
    f1_margin: Annotated[float, option("X", "The same of token F1.", f"{Comparing.f1_margin}", callback=_share)]
    = Comparing.f1_margin,
    seed: Annotated[int, option("N", "Of the bootstrap and of which clips are taken.", f"{Comparing.seed}",
                                callback=options.not_negative)] = Comparing.seed,
    max_new_tokens: Annotated[int, option("N", "Longest answer, in tokens.", f"{Decoding.max_new_tokens}",
                                          callback=options.positive)] = Decoding.max_new_tokens,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also with more and fewer frames, and other resolutions.")]
    = False,
    sweep_frames: Annotated[Any, option("N,N,...", "Frames of the sweep.", ",".join(map(str, SWEEP_FRAMES)),
                                        parser=options.numbers)] = None,
    sweep_resolutions: Annotated[Any, option("PIXELS,...", "Its resolutions.", ",".join(map(str, RESOLUTIONS)),
                                             parser=options.numbers)] = None,
    sweep_clips: Annotated[int, option("N", "Its clips.", f"{Comparing.sweep_clips}", callback=options.positive)]
    = Comparing.sweep_clips,
    budget: Annotated[float, option("MINUTES", "Start no part of it that would end later.",
                                    f"{SWEEP_MINUTES:g}", callback=options.positive)] = SWEEP_MINUTES,
    finetune: Annotated[Any, option("STEPS,...", "Also adapters fine-tuned on one clip, after so many steps.",
                                    parser=options.numbers)] = None,
    finetune_clips: Annotated[int, option("N", "Clips that get one.", f"{Comparing.tuned_clips}",
                                          callback=options.positive)] = Comparing.tuned_clips,
    report: Annotated[Path | None, option("FILE", "Write a page with plots to it, as HTML.")] = None,
    resume: Annotated[Path | None, option("FILE", "Go on from the answers it holds; keep those that come.")] = None,
    model: options.Model = DEFAULT_MODEL, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Compare the answers of adapters with those of the video in the prompt.

    Asks the questions of manifests, of public benchmarks or of the embedded suite: from the adapter, directly with the
    video in the prompt, with fewer frames of it in a prompt of --budget-tokens, and with no video. Scores the answers
    against the references and tells with what certainty the adapter is as good: the columns of the paper's Tables 1 and
    4. With --resume, answers are kept, and scored again without asking.

    \b
      v2l bench quality --suite tiny
      v2l bench quality clips.jsonl --model 500m --resume 500m.jsonl --report quality.html
      v2l bench quality --benchmark vdc=/data/vdc --model 2.2b --judge Qwen/Qwen2.5-7B-Instruct
    """
    if not (manifests or benchmark or suite):
        raise UsageError("Name a MANIFEST, a --benchmark NAME=FOLDER or --suite tiny.")
    named = [_named(word) for word in benchmark or ()]
    if report is not None:
        check_writable(report)
    console, failures = Console(quiet), Failures()

    from v2l.bench.quality.plan import Setting, collect
    from v2l.bench.quality.sources import Sources, suite_judge
    from v2l.bench.speed.journal import Journal

    journal, sources = Journal(resume), Sources()
    for path in manifests or ():
        sources.add_manifest(path, split)
    for name, folder in named:
        sources.add_benchmark(name, folder, split, clips, seed)
    sweeps = bool(sweep or sweep_frames or sweep_resolutions)
    long_clips = sweep_clips if sweeps and not (manifests or benchmark) else 0
    with _suite_clips(console, suite, clips or Comparing.suite_clips, long_clips, seed) as (manifest, long, about):
        if manifest:
            sources.add_manifest(manifest, None)
        asked = collect(sources.items, clips if manifests else None, seed)
        for note in sources.notes:
            console.warn(note)
        setting = Setting(model, checkpoint, device, dtype.value, offline, frames, fps, resolution, arms or ARMS,
                          budget_tokens, max_new_tokens, about)

        from v2l.bench.quality.answers import Record
        from v2l.bench.quality.bench import Sweeping, Tuning, bench
        from v2l.bench.quality.results import Margins
        from v2l.bench.quality.run import Session
        from v2l.manifest import read_manifest

        judging = _judging(judge, device, offline, console) if judge else None
        if judging is None and suite and not (manifests or benchmark):  # its own judge knows no other world
            judging = suite_judge(suite)
        swept = collect([(long.stem, read_manifest(long))], None, seed) if long else None
        wanted = Sweeping(sweep_frames or SWEEP_FRAMES, sweep_resolutions, sweep_clips, budget * 60, swept)
        with console.working("Starting"):
            session = Session(setting, Record(journal, setting),
                              lambda: options.load_engine(Console(True), model, checkpoint, device, dtype, offline),
                              console.progress)
            found = bench(session, asked, judging=judging, margins=Margins(margin, f1_margin), seed=seed,
                          sweeping=wanted if sweeps else None,
                          tuning=Tuning(finetune, finetune_clips) if finetune else None)
            shown = _page(found) if report else b""
    for clip in found.quality.answers.unreadable:
        failures.add(VideoError(clip.reason), clip.name)
    if report is not None:  # first, so that it is there though nobody reads the rest
        from v2l.system.files import replacing

        with replacing(report) as file:
            file.write(shown)
        console.note(f"{report} shows it with plots.")
    _show(found, json)
    failures.exit()


def _named(word: str) -> tuple[str, Path]:
    """NAME=FOLDER. Raises UsageError."""
    name, equals, folder = word.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--benchmark takes NAME=FOLDER, not {word!r}.")
    return name, Path(folder)


@contextmanager
def _suite_clips(console: Console, suite: str | None, clips: int, long_clips: int,
                 seed: int) -> Iterator[tuple[Path | None, Path | None, str]]:
    """A suite's manifest, that of its long clips for a sweep, and what decides them, in words; nothing where none is
    wanted."""
    if suite is None:
        yield None, None, ""
        return
    from v2l.bench.quality.sources import write_suite

    with TemporaryDirectory() as folder:
        with console.working("Drawing the suite's clips"):
            manifest = write_suite(suite, Path(folder) / "clips", clips, seed)
            long = write_suite(suite, Path(folder) / "long", long_clips, seed, long=True) if long_clips else None
        yield manifest, long, f"{suite}, {clips} clips, seed {seed}"


def _judging(judge: str, device: str | None, offline: bool, console: Console) -> Judging:
    from v2l.bench.quality.sources import model_judge
    from v2l.score.judge import Judge, find_judge

    find_judge(judge, offline, console.progress)  # before anything is answered
    return model_judge(judge, lambda: Judge(judge, device=device, offline=offline, progress=console.progress))


def _show(found: Bench, json: bool) -> None:
    if json:
        write_json(found.to_json())
        return
    from v2l.bench.quality.table import bench_text

    write(bench_text(found, columns()))


def _page(found: Bench) -> bytes:
    from v2l.bench.quality.page import quality_page

    return quality_page(found).encode()
