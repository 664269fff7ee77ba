"""`v2l train targets`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.console import Console, Failures, write_json, write_path
from v2l.cli.inputs import expand
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable, find_named
from v2l.cli.shards import Shard
from v2l.config import Decoding, Sampling
from v2l.errors import UsageError
from v2l.train.config import CAPTION_PROMPTS

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.manifest import Item
    from v2l.train.targets import ClipTargets, Targets

_MANIFEST = ".jsonl"


def targets(
    sources: Annotated[list[str], argument("MANIFEST|VIDEO...")],
    output: Annotated[Path, option("FILE", "The manifest to write.", "", "-o", "--output")],
    prompt: Annotated[str | None, option("TEXT", "What to ask of plain videos.",
                                           f"one of {len(CAPTION_PROMPTS)} wordings")] = None,
    shard: options.OnlyShard = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write every target anew, and replace a finished FILE.")]
    = False,
    model: options.Model = None, frames: options.MaxFrames = None, fps: options.Fps = None,
    resolution: options.Resolution = None,
    max_new_tokens: Annotated[int, option("N", "Longest text, in tokens.", f"{Decoding.max_new_tokens}",
                                           callback=options.positive)]
    = Decoding.max_new_tokens,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Have a model write captions and answers to learn from.

    With the video in its prompt, the model answers every prompt of the manifest that has no target yet; plain videos,
    and those in folders, it is asked to describe. After an interrupt the same command resumes. cat joins the files of
    --shard.

    \b
      v2l train targets clips.jsonl -o targets.jsonl --model 2.2b
      v2l train targets talks/ -o part1.jsonl --model 2.2b --shard 1/4
    """
    sampling = options.given(frames=frames, fps=fps)
    _check_output(output, sources)
    run = _Run(Console(quiet))
    lines = _lines(sources, output, prompt, run)
    mine = [line for line in lines if shard is None or shard.holds(_clip_name(*line))]
    run.report_part(shard, len(mine), len(lines))
    if not mine:
        run.failures.exit()
        return
    if not run.any_opens(mine, Sampling(**sampling)):
        run.failures.exit()
    engine = options.load_engine(run.console, model, None, device, dtype, offline)
    from v2l.train.targets import Targets, teacher

    looking, decoding = engine.sampling(**sampling, resolution=resolution), Decoding(max_new_tokens)
    with Targets(output, mine, teacher(engine, looking, decoding), force) as wanted:
        run.write(engine, wanted, looking, decoding)
        run.end(wanted, json)


def _check_output(output: Path, sources: list[str]) -> None:
    if output.suffix.lower() != _MANIFEST:
        raise UsageError(f"{output} does not end in {_MANIFEST}, by which manifests are known; name the output so.")
    if any(Path(source).resolve() == output.resolve() for source in sources if source != "-"):
        raise UsageError(f"{output} would replace the manifest that is read; name another file with -o.")
    check_writable(output)


def _lines(sources: list[str], output: Path, prompt: str | None, run: _Run) -> list[tuple[Item, dict[str, Any]]]:
    """The lines of the manifest, or one for each video; those that cannot be used are counted as failures."""
    manifests = [source for source in sources if source.lower().endswith(_MANIFEST)]
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

    videos = find_named(expand(sources))
    for note in videos.notes:
        run.console.note(note)
    for source, failure in videos.failures:
        run.failures.add(failure, source)
    return lines_of_videos([video.video for video in videos.found.values()], output.parent, prompt)


def _clip_name(item: Item, document: dict[str, Any]) -> str:
    """The name by which a line falls to a part: all lines about one clip to the same part, on every machine."""
    return f"{document['video_path']} {item.start} {item.end}"


class _Run:
    """The messages, counts and failures of a run over many clips."""

    def __init__(self, console: Console) -> None:
        self.console, self.failures, self.started = console, Failures(), time.perf_counter()
        self.texts, self.cut = 0, 0

    def report_part(self, part: Shard | None, lines: int, of: int) -> None:
        if part is not None:
            self.console.note(f"Part {part}: {lines} of {of} lines.")
        elif not of and not self.failures.count:
            self.console.warn("No videos were named.")

    def any_opens(self, lines: list[tuple[Item, dict[str, Any]]], sampling: Sampling) -> bool:
        """Whether there is a video that can be read, for which alone a model is loaded; where there is none, all are
        counted as failures."""
        from v2l.video.clip import open_clip

        errors: dict[Path, Exception] = {}
        for item, _ in lines:
            if item.video in errors:
                continue
            try:
                open_clip(item.video, replace(sampling, start=item.start, end=item.end))
                return True
            except Exception as error:
                errors[item.video] = error
        for video, why in errors.items():
            self.failures.add(why, video)
        return False

    def write(self, engine: Engine, wanted: Targets, sampling: Sampling, decoding: Decoding) -> None:
        from v2l.train.targets import write_targets

        clips = wanted.clips()
        if wanted.resumed and clips:
            self.console.note(f"Going on: {wanted.resumed} of {len(wanted.lines) - wanted.given} lines are written.")
        with self.console.working("Loading", of=len(clips)):
            for result in write_targets(engine, wanted, sampling, decoding):
                self.console.finished(worked=not result.errors)
                self.console.aside()
                self._report(result)

    def _report(self, result: ClipTargets) -> None:
        self.texts += result.texts
        self.cut += result.cut
        for warning in result.warnings:
            self.console.warn(warning)
        for error in result.errors:
            self.failures.add(error, result.video)

    def end(self, wanted: Targets, json: bool) -> None:
        """Writes the output. Raises typer.Exit if something failed."""
        done, missing = len(wanted.ready), len(wanted.lines) - len(wanted.ready)
        if wanted.finish():
            seconds = time.perf_counter() - self.started
            self.console.note(f"{done} of {len(wanted.lines)} lines, {self.texts} texts written, {seconds:.1f} s")
            if self.cut:
                self.console.warn(f"{self.cut} of the texts were cut off; a larger --max-new-tokens lets them end.")
            if json:
                write_json({"output": str(wanted.path), "lines": done, "left_out": missing, "given": wanted.given,
                            "resumed": wanted.resumed, "texts": self.texts, "cut": self.cut,
                            "seconds": round(seconds, 3)})
            else:
                write_path(wanted.path)
        self.failures.exit()
