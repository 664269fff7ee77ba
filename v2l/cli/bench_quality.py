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
from v2l.config import Decoding
from v2l.errors import UsageError, VideoError
from v2l.wording import not_among

if TYPE_CHECKING:
    from v2l.bench.quality.bench import QualityRun
    from v2l.bench.quality.score import Judging


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value:g} is not between 0 and 1.")
    return value


def _arms(text: str) -> tuple[str, ...]:
    parts = dict.fromkeys(part.strip().lower() for part in text.split(","))
    for part in parts:
        if part not in ARMS:
            raise typer.BadParameter(f"{not_among(part, ARMS)}.")
    return tuple(arm for arm in ARMS if arm in parts)


def measure_quality(
    manifests: Annotated[list[Path] | None, argument("[MANIFEST]...")] = None,
    benchmark: Annotated[list[str] | None, option(
        "NAME=FOLDER", "Ask a public benchmark's questions, from your copy of it; repeatable.")] = None,
    suite: Annotated[str | None, option(
        "NAME", f"Ask about clips that v2l draws itself, with known answers: {', '.join(SUITES)}.",
        **options.choice(SUITES))] = None,
    split: Annotated[str | None, option("NAME", "Ask only lines of this split.", "test, else val, else all")] = None,
    clips: Annotated[int | None, option(
        "N", "Take about N clips of each benchmark, with all their questions.",
        f"all; {Comparing.suite_clips} of a suite", callback=options.positive)] = None,
    arms: Annotated[Any, option("ARM,...", "Ways of answering to compare (see above).", ",".join(ARMS),
                                parser=_arms, autocompletion=options.completing(ARMS))] = None,
    budget_tokens: Annotated[int | None, option(
        "N", "Longest prompt of the arm budget, in tokens.",
        f"{Comparing.budget_share:.0%} of the prompt with the whole video", callback=options.positive)] = None,
    judge: Annotated[str | None, option(
        "NAME", "Text model that also grades each answer: a folder or a Hub id.",
        "none; a suite has its own rules")] = None,
    margin: Annotated[float, option(
        "X", "Differences of grades up to X count as none.", f"{Comparing.margin}", callback=_share)]
    = Comparing.margin,
    f1_margin: Annotated[float, option(
        "X", "Differences of token F1 and of exact matches up to X count as none.", f"{Comparing.f1_margin}",
        callback=_share)] = Comparing.f1_margin,
    seed: Annotated[int, option("N", "Seed of the resampling and of which clips are taken.", f"{Comparing.seed}",
                                callback=options.not_negative)] = Comparing.seed,
    max_new_tokens: Annotated[int, option("N", "Longest answer, in tokens.", f"{Decoding.max_new_tokens}",
                                          callback=options.positive)] = Decoding.max_new_tokens,
    sweep: Annotated[bool, typer.Option(
        "--sweep", help="Compare adapter and direct at other numbers of frames and resolutions too.")] = False,
    sweep_frames: Annotated[Any, option("N,N,...", "Numbers of frames in the sweep.",
                                        ",".join(map(str, SWEEP_FRAMES)), parser=options.numbers)] = None,
    sweep_resolutions: Annotated[Any, option(
        "PIXELS,...", "Longest edges of a frame in the sweep.", f"{','.join(map(str, RESOLUTIONS))}; smaller for tiny",
        parser=options.numbers)] = None,
    sweep_clips: Annotated[int, option("N", "Clips in the sweep.", f"{Comparing.sweep_clips}",
                                       callback=options.positive)] = Comparing.sweep_clips,
    budget: Annotated[float, option("MINUTES", "Start no part of the sweep that would end later than this.",
                                    f"{SWEEP_MINUTES:g}", callback=options.positive, parser=options.minutes)]
    = SWEEP_MINUTES,
    finetune: Annotated[Any, option(
        "STEPS,...", "Also fine-tune an adapter on the references of one clip, and ask it after so many steps.",
        parser=options.numbers)] = None,
    finetune_clips: Annotated[int, option("N", "Clips to fine-tune an adapter on, one each.",
                                          f"{Comparing.tuned_clips}", callback=options.positive)]
    = Comparing.tuned_clips,
    report: Annotated[Path | None, option("FILE", "Write a page with plots, as HTML.")] = None,
    resume: Annotated[Path | None, option("FILE", "Keep the answers in FILE, and do not ask again what it holds.")]
    = None,
    model: options.Model = None, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Compare the answers of adapters with those of the video in the prompt.

    Asks the questions of manifests (JSON lines with id, video_path, prompt and target_text), of public benchmarks or of
    the embedded suite in four ways, the "arms": adapter, from the video's adapter; direct, with the video in the
    prompt; budget, with so few frames of it that the prompt keeps within --budget-tokens; none, without the video.
    Every answer is scored against the references: exact match, token F1 (words in common), ROUGE-L, the grade of a
    judge where there is one, and whether it is degenerate (a loop, or nothing). Tells with what certainty the adapter
    is as good as direct: the columns of the paper's Tables 1 and 4. With --resume, answers are kept, and scored again
    without asking.

    \b
      v2l bench quality --suite tiny
      v2l bench quality clips.jsonl --model 500m --resume 500m.jsonl --report quality.html
      v2l bench quality --benchmark vdc=/data/vdc --model 2.2b --judge Qwen/Qwen2.5-7B-Instruct
    """
    if not (manifests or benchmark or suite):
        raise UsageError(f"Name a MANIFEST, a --benchmark NAME=FOLDER or --suite {SUITES[0]}.")
    named = [_named(word) for word in benchmark or ()]
    if report is not None:
        check_writable(report)
    console, failures = Console(quiet), Failures()

    from v2l.bench.quality.answers import AnswerStore
    from v2l.bench.quality.bench import SweepOptions, TuningOptions, run_quality
    from v2l.bench.quality.plan import EvalSetting, collect
    from v2l.bench.quality.results import Margins
    from v2l.bench.quality.run import Session
    from v2l.bench.quality.sources import Sources, suite_judge
    from v2l.bench.record import open_record
    from v2l.manifest import read_manifest
    from v2l.store.default import chosen_model

    judging = _judging(judge, device, offline, console) if judge else None
    only_suite, sweeps = not (manifests or benchmark), bool(sweep or sweep_frames or sweep_resolutions)
    with (open_record(resume) as file,
          _suite_clips(console, suite, clips or Comparing.suite_clips, sweep_clips if sweeps and only_suite else None,
                       seed) as (manifest, long, about)):
        sources = Sources()
        for path in manifests or ():
            sources.add_manifest(path, split)
        for name, folder in named:
            sources.add_benchmark(name, folder, split, clips, seed)
        if manifest:
            sources.add_manifest(manifest, None)
        asked = collect(sources.items, clips if manifests else None, seed)
        for note in sources.notes:
            console.warn(note)
        setting = EvalSetting(chosen_model(model).name, checkpoint, device, dtype.value, offline, frames, fps,
                              resolution, arms or ARMS, budget_tokens, max_new_tokens, about)
        if judging is None and suite and only_suite:  # a suite's own judge knows no other world
            judging = suite_judge(suite)
        swept = collect([(long.stem, read_manifest(long))], None, seed) if long else None
        wanted = SweepOptions(sweep_frames or SWEEP_FRAMES, sweep_resolutions, sweep_clips, budget * 60, swept)
        with console.working("Starting"):
            session = Session(setting, AnswerStore(file, setting),
                              lambda: options.load_engine(Console(True), model, checkpoint, device, dtype, offline),
                              console.progress)
            run = run_quality(session, asked, judging=judging, margins=Margins(margin, f1_margin), seed=seed,
                              sweeping=wanted if sweeps else None,
                              tuning=TuningOptions(finetune, finetune_clips) if finetune else None)
            page = _page(run) if report else b""
    for clip in run.quality.answers.unreadable:
        failures.add(VideoError(clip.reason), clip.name)
    if report is not None:  # first, so that it is there though nobody reads the rest
        from v2l.system.files import replacing

        with replacing(report) as output:
            output.write(page)
        console.note(f"{report} shows it with plots.")
    _show(run, json)
    failures.exit()


def _named(word: str) -> tuple[str, Path]:
    """NAME=FOLDER. Raises UsageError."""
    name, equals, folder = word.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--benchmark takes NAME=FOLDER, not {word!r}.")
    return name, Path(folder)


@contextmanager
def _suite_clips(console: Console, suite: str | None, clips: int, long_clips: int | None,
                 seed: int) -> Iterator[tuple[Path | None, Path | None, str]]:
    """A suite's manifest, that of its long clips for a sweep, and what decides them, in words; nothing where none is
    wanted."""
    if suite is None:
        yield None, None, ""
        return
    from v2l.bench.quality.sources import write_suite_clips

    with TemporaryDirectory() as folder:
        with console.working("Drawing the suite's clips"):
            manifest = write_suite_clips(suite, Path(folder) / "clips", clips, seed)
            long = write_suite_clips(suite, Path(folder) / "long", long_clips, seed, long=True) if long_clips else None
        yield manifest, long, f"{suite}, {clips} clips, seed {seed}"


def _judging(judge: str, device: str | None, offline: bool, console: Console) -> Judging:
    from v2l.bench.quality.sources import model_judge
    from v2l.score.judge import Judge, find_judge

    find_judge(judge, offline, console.progress)  # before anything is answered
    return model_judge(judge, lambda: Judge(judge, device=device, offline=offline, progress=console.progress))


def _show(run: QualityRun, json: bool) -> None:
    if json:
        write_json(run.to_json())
        return
    from v2l.bench.quality.table import quality_text

    write(quality_text(run, columns()))


def _page(run: QualityRun) -> bytes:
    from v2l.bench.quality.page import quality_page

    return quality_page(run).encode()
