"""`v2l bench`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from v2l.commands.console import Console, write, write_json
from v2l.commands.options import (
    Checkpoint,
    Command,
    Compute,
    Device,
    Dtype,
    Fps,
    Frames,
    Json,
    Model,
    Offline,
    Quiet,
    Resolution,
    argument,
    option,
    positive,
)
from v2l.commands.start import changes, load_engine
from v2l.config import DEFAULT_MODEL, Sampling
from v2l.errors import UsageError


class _Bench(TyperGroup):
    """`v2l bench VIDEO` is `v2l bench compare VIDEO`; the names of other benches come first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else ["compare", *args])


bench = typer.Typer(cls=_Bench, rich_markup_mode=None)


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
    sampling, console = changes(frames=frames, fps=fps), Console(quiet)
    if question is not None and not question.strip():
        raise UsageError("The question is empty.")
    if video is not None:
        from v2l.video import open_clip

        open_clip(video, Sampling(**sampling))
    engine = load_engine(console, model, checkpoint, device, dtype, offline)
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
