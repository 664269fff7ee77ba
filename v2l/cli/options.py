"""The options that commands share, how they and their help are written, and the engine they describe."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from v2l.cli.complete_paths import adapter_paths, manifest_paths, video_paths
from v2l.cli.values import PlainValues
from v2l.config import DEFAULT_MODEL, MOST_FRAMES, MOST_RATE, MOST_RESOLUTION, PRESETS, SURE, SURE_OF_GENERAL, Sampling
from v2l.errors import DeviceWarning, UsageError
from v2l.system.memory import check_address_space
from v2l.wording import TIME_FORMS, WALL_FORM, clock_seconds, nearest, not_among, same_day, wall_time

if TYPE_CHECKING:
    from v2l.adapter.wall import When
    from v2l.cli.console import Console
    from v2l.cli.shards import Shard
    from v2l.engine import Engine


class Dtype(str, Enum):
    """Number formats to choose from."""

    auto, float32, bfloat16, float16 = "auto", "float32", "bfloat16", "float16"

    def __str__(self) -> str:
        return self.value


_ALIASES = {"fp32": Dtype.float32, "f32": Dtype.float32, "float": Dtype.float32, "bf16": Dtype.bfloat16,
            "fp16": Dtype.float16, "f16": Dtype.float16, "half": Dtype.float16}
"""What people call number formats besides."""


def parse_time(text: str, or_else: str = "") -> float:
    """Seconds of a time, as `clock_seconds` reads it. Raises typer.BadParameter, which also says how `or_else`."""
    seconds = clock_seconds(text)
    if seconds is None:
        raise typer.BadParameter(f"{text!r} is not a time; write it as {TIME_FORMS}{or_else}.")
    return seconds


@dataclass(frozen=True)
class WrittenTime:
    """What was written as --from or --to."""

    text: str
    when: When
    """What it means by itself."""


def parse_bound(text: str) -> WrittenTime:
    """A time of the video, or a moment of the wall clock. Raises typer.BadParameter."""
    return WrittenTime(text, wall_time(text) or parse_time(text, f", or with a date, as {WALL_FORM}"))


def bounds(start: WrittenTime | None, end: WrittenTime | None) -> tuple[When | None, When | None]:
    """What --from and --to mean together: beside a date, a time without one is of the same day."""
    return _beside(start, end), _beside(end, start)


def _beside(bound: WrittenTime | None, other: WrittenTime | None) -> When | None:
    if bound is None:
        return None
    if other is None:
        return bound.when
    return (None if wall_time(bound.text) else same_day(bound.text, other.text)) or bound.when


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


def up_to(most: int) -> Callable[[float | None], float | None]:
    """The callback of an option that takes a number above 0 and up to `most`."""

    def within(value: float | None) -> float | None:
        if positive(value) is not None and value is not None and value > most:
            raise typer.BadParameter(f"{value} is more than {most:,}.")
        return value

    return within


def not_negative(value: float | None) -> float | None:
    if value is not None and not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{value} is not 0 or a number above it.")
    return value


def any_number(text: str | float) -> float:
    """Any number. Raises typer.BadParameter for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a number.")
    return value


def minutes(text: str | float) -> float:
    """Minutes of a number, or of a time with its units. Raises typer.BadParameter."""
    with suppress(ValueError):
        return float(text)
    return parse_time(str(text)) / 60


def one_of(names: Iterable[str]) -> Callable[[str | None], str | None]:
    """The callback of an option that takes one of some names, in small letters or large."""
    names = tuple(names)

    def chosen(value: str | None) -> str | None:
        if value is None or value.lower() in names:
            return value and value.lower()
        raise typer.BadParameter(f"{not_among(value, names)}.")

    return chosen


def parse_dtype(text: str) -> Dtype:
    """A number format by its name in torch, or as people call it. Raises typer.BadParameter."""
    names = {**{kind.value: kind for kind in Dtype}, **_ALIASES}
    if text.lower() not in names:
        raise typer.BadParameter(f"{not_among(text, map(str, Dtype), _ALIASES)}.")
    return names[text.lower()]


def preset(value: str | None) -> str | None:
    """The callback of an option that names a model: `500M` is `500m`. UsageError for what can be no model."""
    if value is None:
        return None
    from v2l.store.names import check_name, model_name

    check_name(value := model_name(value))
    return value


def checkpoint(value: str | None) -> str | None:
    """The callback of an option that names a hypernetwork. ModelError for what can be none."""
    if value is not None:
        from v2l.store.names import checkpoint_place

        checkpoint_place(value)
    return value


DEVICES = ("cpu", "cuda", "mps")


def device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", value, re.ASCII):
        meant = nearest("cuda" if value.lower() == "gpu" else value, DEVICES)
        raise typer.BadParameter(f"{value!r} is not cpu, cuda, cuda:N or mps{meant}.")
    return value


def _shard(text: str) -> Shard:
    """The shard that a text names. UsageError."""
    from v2l.cli.shards import parse_shard

    return parse_shard(text)


def _named(value: str | None) -> str | None:
    """The model that was named; where none was, the default one can be one."""
    if value is None:
        from v2l.store.default import default_model

        default_model()  # what it says is refused before anything else is done
    return preset(value)


def is_given(ctx: typer.Context, *names: str | None) -> bool:
    """Whether one of these parameters was given on the command line, and is not what holds without it."""
    return any(name and str(ctx.get_parameter_source(name)).endswith("COMMANDLINE") for name in names)


def option(metavar: str, help: str, default: str = "", *names: str, **settings: Any) -> Any:
    """An option; `default` says in words what holds without it."""
    help = f"{help} [{default}]" if default else help
    settings = {"autocompletion": _completing(metavar), **settings}
    return typer.Option(*names, metavar=metavar, help=help, show_default=False, **settings)


def argument(metavar: str, names: Iterable[str] = ()) -> Any:
    """An argument, which the command's help explains in its text; shells complete `names`, or without them what its
    metavar says it is."""
    completion = completing(names) if names else _completing(metavar)
    return typer.Argument(metavar=metavar, hidden=True, show_default=False, autocompletion=completion)


def choice(names: Iterable[str]) -> dict[str, Any]:
    """Settings of an option that takes one of some names, which shells complete."""
    names = tuple(names)
    return {"callback": one_of(names), "autocompletion": completing(names)}


def _completing(metavar: str) -> Callable[[str], list[str]] | None:
    """What completes a word for an argument or option with that metavar."""
    words = set(re.findall(r"[A-Z]+", metavar))
    kinds = {"ADAPTER": adapter_paths, "MANIFEST": manifest_paths, "VIDEO": video_paths}
    found = [complete for word, complete in kinds.items() if word in words]
    return (lambda incomplete: sorted({path for complete in found for path in complete(incomplete)})) if found else None


def completing(names: Iterable[str]) -> Callable[[str], list[str]]:
    """What completes a word that is one of some names."""
    names = tuple(names)

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.lower().rpartition(",")  # of a list, its last name
        return [before + comma + name for name in names if name.startswith(last)]

    return matching


class Group(PlainValues, TyperGroup):
    """A group of commands."""


class Command(PlainValues, TyperCommand):
    """A command that takes no empty value, and whose usage line is made of its metavars as they are: VIDEO..., not
    {VIDEO...}..."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from v2l.cli.usage import refuse_empty

        if "--ray" in args:
            from v2l.cli.ingest_ray import with_address

            args = with_address(args)
        if not ctx.resilient_parsing:  # of a call that is still being typed
            refuse_empty(self.params, args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:  # as click's parser leaves it where an option lacks its value
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", *(str(p.metavar) for p in self.params if p.param_type_name == "argument")]


MODEL_NAMES = f"{', '.join(PRESETS)}, a folder or a Hugging Face id"
Model = Annotated[str | None, option("NAME", f"Base model: {MODEL_NAMES}.",
                              f"V2L_MODEL or what `v2l models use` says, else {DEFAULT_MODEL}", callback=_named,
                              autocompletion=completing(PRESETS))]
Checkpoint = Annotated[str | None, option("FILE", "Hypernetwork: a file, a folder or HUB_ID[:FILE].", "the model's",
                                            callback=checkpoint)]
MaxFrames = Annotated[int | None, option("N", "Sample at most N frames.", f"{Sampling.frames}",
                                            callback=up_to(MOST_FRAMES))]
Fps = Annotated[float | None, option("F", "Sample F frames per second, up to --frames.", f"{Sampling.fps:g}",
                                     callback=up_to(MOST_RATE))]
Resolution = Annotated[int | None, option("PIXELS", "Scale frames to this longest edge.", "the model's",
                                          callback=up_to(MOST_RESOLUTION))]
Start = Annotated[float | None, option("TIME", f"Use the video from TIME on: {TIME_FORMS}.",
                                       parser=parse_time)]
End = Annotated[float | None, option("TIME", "Use the video up to TIME.", parser=parse_time)]
Stream = Annotated[int | None, option("N", "Use video stream N of the file, counted as ffprobe counts.", "the film",
                                      callback=not_negative)]
From = Annotated[Any, option("TIME", f"Only segments that end after TIME: {TIME_FORMS}; of a live source also "
                                     f"{WALL_FORM}.", "", "--from", parser=parse_bound)]
"""A `WrittenTime` or None, which typer has no word for; with To it is read by `bounds`."""
To = Annotated[Any, option("TIME", "Only segments that start before TIME; beside a date, 15:30 is of the same day.",
                           parser=parse_bound)]
OfVideo = Annotated[str | None, option("NAME", "Only segments of the video NAME.")]
Threshold = Annotated[float | None, option("X", "Take what scores X or more to be there.",
                                           f"{SURE:g} for tiny, {SURE_OF_GENERAL:g} for others", parser=any_number)]
Device = Annotated[str | None, option("NAME", "Compute on cpu, cuda, cuda:N or mps.", "cuda, else mps, else cpu",
                                      callback=device, autocompletion=completing(DEVICES))]
ComputeDtype = Annotated[Dtype, option("TYPE", "Compute in float32, bfloat16 or float16.",
                                       "the first of bfloat16, float16 (GPU) and float32 that is fast",
                                       parser=parse_dtype, autocompletion=completing(Dtype))]
AdapterDtype = Annotated[Dtype, option("TYPE", "Store float32, bfloat16 or float16.",
                                       "float32 if computed in it, else float16", parser=parse_dtype,
                                       autocompletion=completing(Dtype))]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, one object per line.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace outputs, even those of other videos.")]
OnlyShard = Annotated[Any, option(
    "I/N", "Do only part I of N, to share the work between N machines; auto takes I and N from a SLURM job array, "
    "SkyPilot or RANK and WORLD_SIZE, auto/N only I, and auto+1000/N is a thousand further.",
    "everything", parser=_shard)]
OUTPUT = option("FILE", "Write the adapter to FILE.", "", "-o", "--output")


# What they mean together.


def given(**values: Any) -> dict[str, Any]:
    """The options that were given. UsageError where start and end leave nothing."""
    present = {name: value for name, value in values.items() if value is not None}
    if present.get("end") is not None and present["end"] <= present.get("start", 0.0):
        raise UsageError("--end must come after --start.")
    return present


def load_engine(console: Console, model: str | None, checkpoint: str | None, device: str | None, dtype: Dtype,
                offline: bool) -> Engine:
    """An engine whose base is on the disk, the default model's where none is named. V2LError."""
    check_address_space()
    with console.working("Loading"):
        from v2l.engine import Engine

        with telling_of_devices(console):
            engine = Engine(model, checkpoint, device=device, dtype=dtype.value, offline=offline,
                            progress=console.progress)
        engine.fetch_base()
        return engine


@contextmanager
def telling_of_devices(console: Console) -> Iterator[None]:
    """A GPU that cannot be used is told on the console for as long as the context lasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DeviceWarning)
        warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
        yield
