"""The options that commands share, how they and their help are written, and the engine they describe."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from v2l.cli.outputs import Shard, parse_shard
from v2l.config import DEFAULT_MODEL, PRESETS, STRATEGIES, Sampling
from v2l.errors import UsageError
from v2l.wording import clock_seconds

if TYPE_CHECKING:
    from v2l.cli.console import Console
    from v2l.engine import Engine


class Dtype(str, Enum):
    """Number formats to choose from."""

    auto, float32, bfloat16, float16 = "auto", "float32", "bfloat16", "float16"


def parse_time(text: str) -> float:
    """Seconds of `90`, `90.5`, `MM:SS` or `H:MM:SS.fff`. Raises typer.BadParameter."""
    seconds = clock_seconds(text)
    if seconds is None:
        raise typer.BadParameter(f"{text!r} is not a time; write seconds, MM:SS or H:MM:SS.")
    return seconds


def numbers(text: str) -> tuple[int, ...]:
    """Numbers of a list such as `8,12,24`, each once. Raises typer.BadParameter."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 100_000 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 8,12,24.")
    return tuple(dict.fromkeys(map(int, parts)))


def positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a number above 0.")
    return value


def not_negative(value: float | None) -> float | None:
    if value is not None and not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{value} is not 0 or a number above it.")
    return value


def strategy(value: str | None) -> str | None:
    if value is not None and value not in STRATEGIES:
        raise typer.BadParameter(f"{value!r} is not {', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}.")
    return value


def device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", value, re.ASCII):
        raise typer.BadParameter(f"{value!r} is not cpu, cuda, cuda:N or mps.")
    return value


def _named(ctx: typer.Context, param: typer.CallbackParam, value: str) -> str:
    """The model that was named, or the one that is taken where none was."""
    from v2l.store.default import default_model

    return value if is_given(ctx, param.name) else default_model().name


def is_given(ctx: typer.Context, *names: str | None) -> bool:
    """Whether one of these parameters was given on the command line, and is not what holds without it."""
    return any(name and str(ctx.get_parameter_source(name)).endswith("COMMANDLINE") for name in names)


def option(metavar: str, help: str, default: str = "", *names: str, **settings: Any) -> Any:
    """An option; `default` says in words what holds without it."""
    help = f"{help} [{default}]" if default else help
    return typer.Option(*names, metavar=metavar, help=help, show_default=False, **settings)


def argument(metavar: str) -> Any:
    """An argument, which the command's help explains in its text."""
    return typer.Argument(metavar=metavar, hidden=True, show_default=False)


class Command(TyperCommand):
    """A command whose usage line is made of its metavars as they are: VIDEO..., not {VIDEO...}..."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *(str(p.metavar) for p in self.params if p.param_type_name == "argument")]


MODEL_NAMES = f"{', '.join(PRESETS)}, a folder or a Hugging Face id"
Model = Annotated[str, option("NAME", f"Base model: {MODEL_NAMES}.",
                              f"V2L_MODEL or what `v2l models use` says, else {DEFAULT_MODEL}", callback=_named)]
Checkpoint = Annotated[str | None, option("FILE", "Hypernetwork: a file, a folder or HUB_ID[:FILE].", "the model's")]
MaxFrames = Annotated[int | None, option("N", "Sample at most N frames.", f"{Sampling.frames}", callback=positive)]
Fps = Annotated[float | None, option("F", "Sample F frames per second, up to --frames.", f"{Sampling.fps:g}",
                                     callback=positive)]
Resolution = Annotated[int | None, option("PIXELS", "Scale frames to this longest edge.", "the model's",
                                          callback=positive)]
Start = Annotated[float | None, option("TIME", "Use the video from TIME on: seconds, MM:SS or H:MM:SS.",
                                       parser=parse_time)]
End = Annotated[float | None, option("TIME", "Use the video up to TIME.", parser=parse_time)]
Stream = Annotated[int | None, option("N", "Use video stream N of the file, counted as ffprobe counts.", "the film",
                                      callback=not_negative)]
From = Annotated[float | None, option("TIME", "Only segments that end after TIME: seconds, MM:SS or H:MM:SS.", "",
                                      "--from", parser=parse_time)]
To = Annotated[float | None, option("TIME", "Only segments that start before TIME.", parser=parse_time)]
Device = Annotated[str | None, option("NAME", "Compute on cpu, cuda, cuda:N or mps.", "cuda, else mps, else cpu",
                                      callback=device)]
ComputeDtype = Annotated[Dtype, option("TYPE", "Compute in float32, bfloat16 or float16.",
                                       "bfloat16 where it is fast, else float32")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, one object per line.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the output even if it is up to date.")]
OnlyShard = Annotated[Shard | None, option(
    "I/N", "Do only part I of N, to share the work between N machines; auto takes I and N from a SLURM job array.",
    "everything", parser=parse_shard)]
OUTPUT = option("FILE", "Write the adapter to FILE.", "", "-o", "--output")


# What they mean together.


def given(**values: Any) -> dict[str, Any]:
    """The options that were given. UsageError where start and end leave nothing."""
    present = {name: value for name, value in values.items() if value is not None}
    if present.get("end") is not None and present["end"] <= present.get("start", 0.0):
        raise UsageError("--end must come after --start.")
    return present


def load_engine(console: Console, model: str, checkpoint: str | None, device: str | None, dtype: Dtype,
                offline: bool) -> Engine:
    """An engine whose base is on the disk. V2LError."""
    with console.working("Loading"):
        from v2l.engine import Engine

        engine = Engine(model, checkpoint, device=device, dtype=dtype.value, offline=offline, progress=console.progress)
        engine.fetch_base()
        return engine
