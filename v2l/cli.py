"""The command line: parses, calls, prints. What is heavy is imported only after the arguments were checked."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from v2l import __version__
from v2l.config import DEFAULT_MODEL, PRESETS, Decoding, Sampling
from v2l.console import Boundary, Console, columns, debugging, is_terminal, parse_time, report, write, write_json
from v2l.errors import AdapterError, UsageError, V2LError
from v2l.plan import Job, check_output, create_folder, expand, is_adapter_name, plan

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.answer import Reply
    from v2l.engine import Engine
    from v2l.video import Clip


class Dtype(str, Enum):
    auto, float32, bfloat16, float16 = "auto", "float32", "bfloat16", "float16"


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a number above 0.")
    return value


def _not_negative(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{value} is not 0 or a number above it.")
    return value


def _device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", value, re.ASCII):
        raise typer.BadParameter(f"{value!r} is not cpu, cuda, cuda:N or mps.")
    return value


def _option(metavar: str, help: str, default: str = "", *names: str, **settings: Any) -> Any:
    """An option; `default` says in words what holds where it is not given."""
    help = f"{help} [{default}]" if default else help
    return typer.Option(*names, metavar=metavar, help=help, show_default=False, **settings)


def _argument(metavar: str) -> Any:
    """An argument; the command's text explains it."""
    return typer.Argument(metavar=metavar, hidden=True, show_default=False)


class _Command(TyperCommand):
    """Usage in the words of the metavars: VIDEO..., not {VIDEO...}..."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *(str(p.metavar) for p in self.params if p.param_type_name == "argument")]


Model = Annotated[str, _option("NAME", f"Base: {', '.join(PRESETS)}, a folder or a Hub id.", DEFAULT_MODEL)]
Checkpoint = Annotated[str | None, _option("FILE", "Hypernetwork: a file or HUB_ID[:FILE].", "the model's own")]
Frames = Annotated[int | None, _option("N", "Look at no more frames.", f"{Sampling.frames}", callback=_positive)]
Fps = Annotated[float | None, _option("F", "Frames a second of video.", f"{Sampling.fps:g}", callback=_positive)]
Resolution = Annotated[int | None, _option("PIXELS", "Longest edge of a frame.", "the model's own", callback=_positive)]
Start = Annotated[float | None, _option("TIME", "Look from here on: seconds, MM:SS, H:MM:SS.", parser=parse_time)]
End = Annotated[float | None, _option("TIME", "Look up to here.", parser=parse_time)]
Device = Annotated[str | None, _option("NAME", "cpu, cuda or mps.", "the best there is", callback=_device)]
Compute = Annotated[Dtype, _option("TYPE", "Compute in float32, bfloat16 or float16.", "what is fast here")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Make it again even if it is up to date.")]
Output = _option("FILE", "The adapter file to write.", "", "-o", "--output")

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


class Failures:
    """Counts the inputs that failed, so that the others can go on."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: Exception, name: str | Path) -> None:
        report(error, subject=f"{name}: ")
        self.count += 1

    def exit(self) -> None:
        if self.count:
            raise typer.Exit(1)


# --- ingest ---


@app.command(cls=_Command)
def ingest(
    videos: Annotated[list[str], _argument("VIDEO...")],
    output: Annotated[Path | None, Output] = None,
    output_dir: Annotated[Path | None, _option("DIR", "Put the adapters here.", "next to each video")] = None,
    model: Model = DEFAULT_MODEL, checkpoint: Checkpoint = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None, start: Start = None, end: End = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    adapter_dtype: Annotated[Dtype, _option(
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


@app.command(cls=_Command)
def ask(
    words: Annotated[list[str], _argument("ADAPTER... [QUESTION]...")],
    model: Annotated[str | None, _option("NAME", "Base model.", "the adapter's own")] = None,
    max_new_tokens: Annotated[int, _option("N", "Longest answer, in tokens.", "128", callback=_positive)]
    = Decoding.max_new_tokens,
    temperature: Annotated[float, _option("T", "Above 0, words are drawn.", "0", callback=_not_negative)]
    = Decoding.temperature,
    direct: Annotated[Path | None, _option("VIDEO", "Put this video in the prompt, and no adapter.")] = None,
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
    names = [word for word in words if is_adapter_name(word)]
    questions = [word for word in words if not is_adapter_name(word)]
    sampling = _changes(frames=frames, fps=fps, resolution=resolution, start=start, end=end)
    _check_call(names, questions, direct, sampling)
    console = Console(quiet)
    adapter = _joined(names, console) if names else None
    base = model or (_base_of(adapter) if adapter else DEFAULT_MODEL)
    if direct is not None:
        _check_direct(direct, Sampling(**sampling), bool(names), console)
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
            _answer(reply(question), question, facts, json, console)

    if not questions:
        _converse(answer)
    else:
        _answer_all(expand(questions, lambda line: line.decode(errors="replace")), answer,
                    console if len(questions) > 1 or "-" in questions else Console(quiet=True))


def _check_call(names: list[str], questions: list[str], direct: Path | None, sampling: dict[str, Any]) -> None:
    """UsageError where the arguments make no sense together."""
    if not names and direct is None:
        there = next((word for word in questions if Path(word).exists()), None)
        hint = f"{there} is not one; watch it first with `v2l ingest`" if there else "name a .v2lora file"
        raise UsageError(f"There is a question and no adapter: {hint}.")
    if sampling and direct is None:
        raise UsageError(f"--{next(iter(sampling))} needs --direct: an adapter holds what was watched already.")
    if not questions and not is_terminal(sys.stdin):
        raise UsageError("There is no question; name one, or - to read questions from stdin.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question is empty.")


def _check_direct(video: Path, sampling: Sampling, with_adapter: bool, console: Console) -> None:
    from v2l.video import open_clip

    for warning in open_clip(video, sampling).warnings:
        console.warn(warning)
    if with_adapter:
        console.warn("The answer comes from the video; the adapter only names the model.")


def _joined(names: list[str], console: Console) -> Adapter:
    from v2l.adapter import load
    from v2l.compose import join

    adapters = [load(name) for name in names]
    if len(adapters) == 1:
        return adapters[0]
    adapter, notes = join(adapters)
    for note in notes:
        console.warn(note)
    return adapter


def _base_of(adapter: Adapter) -> str:
    """What `--model` would say for the base an adapter names. A name from a file never becomes a path."""
    from v2l.checkpoints import TINY_ID
    from v2l.hub import Repo

    name = str(adapter.record["base"]["id"])
    known = {TINY_ID: "tiny"} | {preset.base: preset.name for preset in PRESETS.values() if preset.base}
    if name in known:
        return known[name]
    if Repo.parse(name) and not Path(name).exists():
        return name
    raise UsageError(f"{adapter.name} was made with a base in a folder called {name}; name that folder with --model.")


def _answer(reply: Reply, question: str, facts: dict[str, Any], json: bool, console: Console) -> None:
    """Prints an answer as it is made, or as JSON when it is."""
    if json:
        made = reply.finish()
        console.stop()
        write_json({"question": question, "answer": made.text, "prompt_tokens": made.prompt_tokens,
                    "visual_tokens": made.visual_tokens, "new_tokens": len(made.ids), "ttft_s": round(made.ttft_s, 4),
                    "total_s": round(made.total_s, 4), **facts})
        return
    try:
        for piece in reply:
            console.stop()
            write(piece, end="")
    finally:
        console.stop()
        write("")


def _answer_all(questions: Iterable[str], answer: Callable[[str], None], console: Console) -> None:
    failures = Failures()
    for question in questions:
        console.note(f"Q: {question}")
        try:
            answer(question)
        except V2LError as error:
            failures.add(error, question)
    failures.exit()


def _converse(answer: Callable[[str], None]) -> None:
    """Questions from the terminal until an empty one. Ctrl-C ends the answer being printed, or at the prompt all."""
    with suppress(ImportError):
        import readline  # noqa: F401 (gives `input` line editing)

    prompt = "> " if is_terminal(sys.stdout) else ""
    while True:
        if not prompt:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            question = input(prompt).strip()
        except EOFError:
            print(file=sys.stderr)
            return
        if question in ("", "exit"):
            return
        try:
            answer(question)
        except KeyboardInterrupt:
            continue
        except V2LError as error:
            report(error)


# --- compose, info ---


@app.command(cls=_Command)
def compose(
    segments: Annotated[list[str], _argument("ADAPTER...")],
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
    adapter = _joined(names, console)
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


@app.command(cls=_Command)
def info(
    files: Annotated[list[str], _argument("ADAPTER...")],
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


@models.command("pull", cls=_Command)
def pull_model(
    name: Annotated[str, _argument("NAME")],
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


@bench.command("compare", cls=_Command)
def compare_ways(
    video: Annotated[Path | None, _argument("[VIDEO]")] = None,
    question: Annotated[str | None, _option("TEXT", "What to ask.", "what happens")] = None,
    repeat: Annotated[int, _option("N", "Answers to take the median of.", "3", callback=_positive)] = 3,
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
