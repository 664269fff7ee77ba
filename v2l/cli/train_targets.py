"""`v2l train targets`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.console import Console, Failures, write_json, write_path
from v2l.cli.options import argument, option
from v2l.cli.outputs import Shard, check_writable, expand
from v2l.config import DEFAULT_MODEL, Decoding
from v2l.errors import UsageError

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.manifest import Item
    from v2l.train.targets import ClipTargets, Targets

SUFFIX = ".jsonl"


def targets(
    sources: Annotated[list[str], argument("MANIFEST|VIDEO...")],
    output: Annotated[Path, option("FILE", "The manifest to write.", "", "-o", "--output")],
    prompt: Annotated[str | None, option("TEXT", "Ask this of plain videos.", "one of five of its kind")] = None,
    shard: options.OnlyShard = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace targets that are there, and a finished FILE.")]
    = False,
    model: options.Model = DEFAULT_MODEL, frames: options.MaxFrames = None, fps: options.Fps = None,
    resolution: options.Resolution = None,
    max_new_tokens: Annotated[int, option("N", "Longest text, in tokens.", "128", callback=options.positive)]
    = Decoding.max_new_tokens,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Have a model write captions and answers to learn from.

    It has the video in its prompt and answers every prompt of the manifest that has no target yet; plain videos, and
    those of folders, it is asked to describe. A run that was ended goes on where it was. Parts are put together with
    cat.

    \b
      v2l train targets clips.jsonl -o targets.jsonl --model 2.2b
      v2l train targets talks/ -o part1.jsonl --model 2.2b --shard 1/4
    """
    sampling = options.given(frames=frames, fps=fps)
    _check_output(output, sources)
    lines = _lines(sources, output, prompt)
    mine = [line for line in lines if shard is None or shard.holds(_clip_name(*line))]
    run = _Run(Console(quiet), shard, len(mine), len(lines))
    if not mine:
        return
    engine = options.load_engine(run.console, model, None, device, dtype, offline)
    from v2l.train.targets import Targets, teacher

    looking, decoding = engine.sampling(**sampling, resolution=resolution), Decoding(max_new_tokens)
    with Targets(output, mine, teacher(engine, looking, decoding), force) as wanted:
        run.write(engine, wanted, looking, decoding)
        run.end(wanted, json)


def _check_output(output: Path, sources: list[str]) -> None:
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"{output} does not end in {SUFFIX}, by which manifests are known; name the output so.")
    if any(Path(source).resolve() == output.resolve() for source in sources if source != "-"):
        raise UsageError(f"{output} would replace the manifest that is read; name another file with -o.")
    check_writable(output)


def _lines(sources: list[str], output: Path, prompt: str | None) -> list[tuple[Item, dict[str, Any]]]:
    manifests = [source for source in sources if source.lower().endswith(SUFFIX)]
    if manifests and len(sources) > 1:
        raise UsageError(f"{manifests[0]} is a manifest; give it alone.")
    if manifests:
        if prompt is not None:
            raise UsageError("--prompt goes with plain videos; a manifest says what is asked.")
        from v2l.manifest import read_lines

        return read_lines(manifests[0])
    if prompt is not None and not prompt.strip():
        raise UsageError("The prompt is empty.")
    from v2l.train.targets import lines_of_videos

    return lines_of_videos(expand(sources), output.parent, prompt)


def _clip_name(item: Item, document: dict[str, Any]) -> str:
    """By which a line falls to a part: all about one clip to the same, on every machine."""
    return f"{document['video_path']} {item.start} {item.end}"


class _Run:
    """What is told of many clips, and how it ends."""

    def __init__(self, console: Console, part: Shard | None, lines: int, of: int) -> None:
        self.console, self.failures, self.started = console, Failures(), time.perf_counter()
        self.texts, self.cut = 0, 0
        if part is not None:
            console.note(f"Part {part}: {lines} of {of} lines.")
        elif not of:
            console.warn("No videos were named.")

    def write(self, engine: Engine, plan: Targets, *how: Any) -> None:
        from v2l.train.targets import write_targets

        clips = plan.clips()
        if plan.resumed and clips:
            self.console.note(f"Going on: {plan.resumed} of {len(plan.lines) - plan.given} lines are written.")
        with self.console.working("Loading", of=len(clips)):
            for answered in write_targets(engine, plan, *how):
                self.console.finished(worked=not answered.errors)
                self.console.aside()
                self.tell(answered)

    def tell(self, answered: ClipTargets) -> None:
        self.texts += answered.texts
        self.cut += answered.cut
        for warning in answered.warnings:
            self.console.warn(warning)
        for error in answered.errors:
            self.failures.add(error, answered.video)

    def end(self, plan: Targets, json: bool) -> None:
        """Puts the output in its place. Raises typer.Exit if something failed."""
        done, missing = len(plan.ready), len(plan.lines) - len(plan.ready)
        if plan.finish():
            seconds = time.perf_counter() - self.started
            self.console.note(f"{done} of {len(plan.lines)} lines, {self.texts} texts written, {seconds:.1f} s")
            if self.cut:
                self.console.warn(f"{self.cut} of the texts were cut off; a larger --max-new-tokens lets them end.")
            if json:
                write_json({"output": str(plan.path), "lines": done, "left_out": missing, "given": plan.given,
                            "resumed": plan.resumed, "texts": self.texts, "cut": self.cut,
                            "seconds": round(seconds, 3)})
            else:
                write_path(plan.path)
        self.failures.exit()
