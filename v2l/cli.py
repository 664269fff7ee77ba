"""The command line: parses, calls, prints. What is heavy is imported only after the arguments were checked."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from v2l import __version__
from v2l.asking import answer_all, base_of, check_call, check_direct, converse, joined, print_answer
from v2l.config import DEFAULT_MODEL, Decoding, Sampling
from v2l.console import Boundary, Console, Failures, columns, debugging, write, write_json
from v2l.errors import AdapterError, OutputError, UsageError, V2LError
from v2l.options import (
    Checkpoint,
    Command,
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
    not_negative,
    option,
    positive,
)
from v2l.plan import Job, check_output, create_folder, expand, is_adapter_name, plan

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.answer import Reply
    from v2l.engine import Engine
    from v2l.video import Clip


app = typer.Typer(cls=Boundary, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        write(f"v2l {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def v2l(ctx: typer.Context, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                                  help="Show the version.")] = False) -> None:
    """Watch a video once, keep a small file, ask it forever.

    \b
      v2l ingest lecture.mp4
      v2l ask lecture.v2lora "What happens first?"

    Answers come from the file alone; nothing leaves this machine. Exit status: 0 done, 1 some input failed,
    2 wrong usage, 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        write(ctx.get_help())


def main() -> None:
    """The `v2l` command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not debugging():
        warnings.simplefilter("ignore")
    app(prog_name="v2l", terminal_width=min(shutil.get_terminal_size().columns, 80) - 2)


def _load(console: Console, model: str, checkpoint: str | None, device: str | None, dtype: Dtype,
          offline: bool) -> Engine:
    """An engine whose base is on the disk."""
    with console.working("Loading"):
        from v2l.engine import Engine

        engine = Engine(model, checkpoint, device=device, dtype=dtype.value, offline=offline, progress=console.progress)
        _ = engine.files
        return engine


# --- ingest ---


@app.command(cls=Command)
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
    sampling = _changes(frames=frames, fps=fps, start=start, end=end)
    jobs, failed = plan(expand(videos), output, output_dir)
    console, failures = Console(quiet), Failures()
    for failure in failed:
        failures.add(failure, "")
    engine: Engine | None = None
    for number, (job, clip) in enumerate(_opened(jobs, Sampling(**sampling), failures), 1):
        # A model that cannot be had ends everything; a video that cannot be read only itself.
        engine = engine or _load(console, model, checkpoint, device, dtype, offline)
        _ = engine.hypernetwork_files
        wanted = engine.sampling(**sampling, resolution=resolution)
        try:
            with console.working(job.video.name, prefix=f"{number}/{len(jobs)} " if len(jobs) > 1 else ""):
                made = _ingest(engine, job, clip, wanted, adapter_dtype.value, force)
            _tell_ingested(job, made, clip, json, console)
        except Exception as error:
            failures.add(error, job.video)
    failures.exit()


def _changes(**options: Any) -> dict[str, Any]:
    """The options that were given. UsageError where start and end leave nothing."""
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("end") is not None and given["end"] <= given.get("start", 0.0):
        raise UsageError("--end must come after --start.")
    return given


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


# --- ask ---


@app.command(cls=Command)
def ask(
    words: Annotated[list[str] | None, argument("ADAPTER... [QUESTION]...")] = None,
    model: Annotated[str | None, option("NAME", "Base model.", "the adapter's own")] = None,
    max_new_tokens: Annotated[int, option("N", "Longest answer, in tokens.", "128", callback=positive)]
    = Decoding.max_new_tokens,
    temperature: Annotated[float, option("T", "Above 0, words are drawn.", "0", callback=not_negative)]
    = Decoding.temperature,
    direct: Annotated[Path | None, option("VIDEO", "Put this video in the prompt, and no adapter.")] = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None, start: Start = None, end: End = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    json: Json = False, quiet: Quiet = False, offline: Offline = False,
) -> None:
    """Ask about what was watched.

    What ends in .v2lora is an adapter (several are joined), the rest are questions; - reads questions from stdin.
    Without a question there is a conversation. The options about frames go with --direct.

    \b
      v2l ask lecture.v2lora "What happens first?"
      v2l ask part1.v2lora part2.v2lora "What changes?"
      v2l ask --direct lecture.mp4 "What happens first?"
    """
    names = [word for word in words or [] if is_adapter_name(word)]
    questions = [word for word in words or [] if not is_adapter_name(word)]
    sampling = _changes(frames=frames, fps=fps, resolution=resolution, start=start, end=end)
    check_call(names, questions, direct, sampling)
    console = Console(quiet)
    adapter = joined(names, console) if names else None
    base = model or (base_of(adapter) if adapter else DEFAULT_MODEL)
    if direct is not None:
        check_direct(direct, Sampling(**sampling), bool(names), console)
    engine = _load(console, base, None, device, dtype, offline)
    decoding = Decoding(max_new_tokens, temperature)
    with console.working("Loading"):
        bound = engine.bind(adapter) if adapter else None
        _ = engine.base.text
    facts: dict[str, Any] = {"adapter": names[0] if len(names) == 1 else names, "model": engine.files.name}
    if direct is not None:
        facts = {"adapter": None, "video": str(direct), "model": engine.files.name}

    def reply(question: str) -> Reply:
        if direct is None:
            return engine.ask(bound, question, decoding)
        return engine.direct(direct, question, engine.sampling(**sampling), decoding)

    def answer(question: str) -> None:
        with console.working("Thinking"):
            print_answer(reply(question), question, facts, json, console)

    if not questions:
        converse(answer)
    else:
        answer_all(expand(questions, lambda line: line.decode(errors="replace")), answer,
                    console if len(questions) > 1 or "-" in questions else Console(quiet=True))


# --- compose, info ---


@app.command(cls=Command)
def compose(
    segments: Annotated[list[str], argument("ADAPTER...")],
    output: Annotated[Path, Output],
    force: Force = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Join adapters into one that answers from all of them.

    They must be of one base and one hypernetwork; - reads names from stdin. No model is needed.

    \b
      v2l compose part1.v2lora part2.v2lora -o full.v2lora
    """
    from v2l.adapter import load, save

    names, console = list(expand(segments)), Console(quiet)
    check_output(output)
    if os.path.realpath(output) in map(os.path.realpath, names):
        raise UsageError(f"{output} is one of the adapters to join; name another file with -o.")
    adapter = joined(names, console)
    skipped = False
    if not force:
        with suppress(AdapterError):
            skipped = _same(adapter, load(output))
    if skipped:
        console.note(f"{output} is up to date.")
    else:
        save(adapter, output)
    if json:
        write_json({"output": str(output), "segments": len(adapter.segments),
                    "sources": [source["name"] for source in adapter.sources],
                    "rank": adapter.total_rank + adapter.rank, "size": adapter.file_size, "skipped": skipped})
    else:
        write(str(output))


def _same(one: Adapter, other: Adapter) -> bool:
    """Whether two adapters are the same file."""
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return one.record == other.record and one.dtype == other.dtype and all(a.tobytes() == b.tobytes() for a, b in pairs)


@app.command(cls=Command)
def info(
    files: Annotated[list[str], argument("ADAPTER...")],
    json: Json = False,
) -> None:
    """Show what an adapter says about itself.

    \b
      v2l info lecture.v2lora
    """
    from v2l.adapter import load
    from v2l.show import adapter_text

    failures = Failures()
    for number, name in enumerate(expand(files)):
        try:
            adapter = load(name)
        except V2LError as error:
            failures.add(error, name)
            continue
        if json:
            shapes = {f"down_proj.{key}": list(array.shape) for key, array in adapter.tensors().items()}
            write_json({"file": name, "size": os.path.getsize(name), "dtype": adapter.dtype, "tensors": shapes,
                        **adapter.record})
        else:
            write(("\n" if number else "") + adapter_text(adapter, columns()))
    failures.exit()


# --- models ---

models = typer.Typer(rich_markup_mode=None)
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def list_models(ctx: typer.Context, json: Json = False) -> None:
    """Show the models known by name and what of them is on this disk.

    \b
      v2l models
      v2l models pull 500m
    """
    if ctx.invoked_subcommand is not None:
        return
    from v2l.checkpoints import available
    from v2l.show import model_record, models_text

    if json:
        for model in available():
            write_json(model_record(model))
    else:
        write(models_text(available(), columns()))


@models.command("pull", cls=Command)
def pull_model(
    name: Annotated[str, argument("NAME")],
    checkpoint: Checkpoint = None, quiet: Quiet = False,
) -> None:
    """Fetch a model now, so that it is there offline.

    NAME is as for --model. What is there is brought up to date.

    \b
      v2l models pull 500m
    """
    console = Console(quiet)
    with console.working("Asking the Hub"):
        from v2l.checkpoints import find_hypernetwork, pull

        base, hypernetwork = pull(name, progress=console.progress)
        if checkpoint is not None:
            hypernetwork = find_hypernetwork(name, checkpoint, progress=console.progress)
    write(str(base.folder))
    if hypernetwork is None:
        console.warn(f"No hypernetwork is known for {name}; name one with --checkpoint when you ingest.")
    else:
        write(str(hypernetwork.weights))


# --- bench ---


class _Bench(TyperGroup):
    """`v2l bench VIDEO` is `v2l bench compare VIDEO`; the names of other benches come first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else ["compare", *args])


bench = typer.Typer(cls=_Bench, rich_markup_mode=None)
app.add_typer(bench, name="bench")


@bench.callback()
def _bench() -> None:
    """Measure what an adapter saves."""


@bench.command("compare", cls=Command)
def compare_ways(
    video: Annotated[Path | None, argument("[VIDEO]")] = None,
    question: Annotated[str | None, option("TEXT", "What to ask.", "what happens")] = None,
    repeat: Annotated[int, option("N", "Answers to take the median of.", "3", callback=positive)] = 3,
    model: Model = DEFAULT_MODEL, checkpoint: Checkpoint = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    json: Json = False, quiet: Quiet = False, offline: Offline = False,
) -> None:
    """Measure what an adapter saves, against the video in the prompt.

    Times are for a model that is loaded and warm. "cached" is the video in the prompt with its part of the prompt
    computed before. Without a VIDEO, a clip is drawn.

    \b
      v2l bench lecture.mp4 --model 500m
    """
    sampling, console = _changes(frames=frames, fps=fps), Console(quiet)
    if question is not None and not question.strip():
        raise UsageError("The question is empty.")
    if video is not None:
        from v2l.video import open_clip

        open_clip(video, Sampling(**sampling))
    engine = _load(console, model, checkpoint, device, dtype, offline)
    with console.working("Measuring"), TemporaryDirectory() as folder:
        from v2l.bench.compare import QUESTION, compare
        from v2l.show import comparison_text

        found = compare(engine, video or _drawn_clip(Path(folder)), question=question or QUESTION,
                        sampling=engine.sampling(**sampling, resolution=resolution), repeats=repeat)
    if json:
        write_json(found.to_json())
    else:
        write(comparison_text(found))


def _drawn_clip(folder: Path) -> Path:
    from v2l.tiny.clips import examples, write_video

    video = folder / "three-shapes.mp4"
    write_video(examples()["three-shapes"], video)
    return video
