"""`v2l slice`: segments out of composed adapters."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.cli import options
from v2l.cli.adapters import Choice, check_exists, note_ambiguous, refuse_input, save_adapter
from v2l.cli.console import Console, Failures
from v2l.cli.inputs import adapters_of
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_output
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import UsageError, V2LError
from v2l.system.files import beside, create_folder, without_ending
from v2l.wording import command, shell_word

if TYPE_CHECKING:
    from v2l.adapter import Adapter


def _segment_numbers(text: str) -> range:
    """Indices of segments that `info` numbers from 1: `3` or `3-7`. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise typer.BadParameter(f"{text!r} names no segments; write a number from 1 on, or two as in 3-7.")
    return range(first - 1, last)


def slice_(
    adapters: Annotated[list[str], argument("ADAPTER...")],
    output: Annotated[Path | None, options.OUTPUT] = None,
    from_: options.From = None, to: options.To = None,
    video: options.OfVideo = None,
    segment: Annotated[list[range] | None, option("N", "Only segment N, or segments N-M; may be repeated.", "",
                                                  parser=_segment_numbers)] = None,
    each: Annotated[bool, typer.Option("--each", help="Write one file per segment.")] = False,
    output_dir: Annotated[Path | None, option("DIR", "Write the files of --each to DIR.",
                                              "next to the adapter")] = None,
    force: options.Force = False, json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """Take segments out of composed adapters.

    Segments are taken whole: all that overlap the time from --from to --to, or those of --segment, numbered as in
    `v2l info`. They are byte for byte the files that were composed. --each writes the segments of full.v2lora, all or
    those chosen, to full-1.v2lora, full-2.v2lora and so on. ADAPTER may be a folder, or
    - to read names from stdin, one per line.

    \b
      v2l slice full.v2lora --from 12:00 --to 13:30 -o part.v2lora
      v2l slice full.v2lora --each --output-dir parts
    """
    if each == (output is not None) or (output_dir is not None and not each):
        raise UsageError("Name one file with -o, or write one file per segment with --each.")
    if segment and (from_ is not None or to is not None or video is not None):
        raise UsageError("--segment and --from, --to or --video exclude each other.")
    if not each and not segment and from_ is None and to is None and video is None:
        raise UsageError("Nothing is chosen; say what to take with --from, --to, --video or --segment.")
    wanted = Choice(*options.bounds(from_, to), video)
    wanted.check()
    console, failures = Console(quiet), Failures()
    names = wanted.among(list(adapters_of(adapters, console, failures)), console)
    outputs = [(names[0], output)] if output and _is_one(names, output) else _outputs(names, output_dir, failures)

    def selected(adapter: Adapter) -> list[int]:
        count = len(adapter.segments)
        if segment and max(numbers.stop for numbers in segment) > count:
            raise UsageError(f"{adapter.name} has segments 1 to {count}; name some of these.")
        if segment:
            return [i for numbers in segment for i in numbers]
        note_ambiguous(adapter, wanted, console)
        return wanted.of(adapter)

    for name, place in outputs:
        try:
            for adapter, path in _cut(name, place, selected, each):
                refuse_input(path, names)
                start, end = adapter.span
                save_adapter(adapter, path, force, json, console, start=round(start, 3), end=round(end, 3))
        except V2LError as error:
            if len(names) == 1:
                raise
            failures.add(error, name)
    failures.exit()


def _is_one(names: list[str], output: Path) -> bool:
    """Whether there is one adapter, for -o. UsageError where there are more, OutputError where it cannot be written."""
    if len(names) != 1:
        raise UsageError(f"-o names one file and there are {len(names)} adapters; slice one, or use --each.")
    check_output(output)
    return True


def _outputs(names: list[str], folder: Path | None, failures: Failures) -> list[tuple[str, Path]]:
    """Each adapter with the path that the files of its segments begin with; one that is named twice is taken once.
    Those of which two would become the same files, or that cannot be written, are counted as failures."""
    rivals: dict[Path, dict[str, tuple[str, Path]]] = {}
    for name in names:
        place = (folder or Path(name).parent) / without_ending(Path(name), [ADAPTER_SUFFIX]).name
        rivals.setdefault(Path(os.path.realpath(place)), {}).setdefault(os.path.realpath(name), (name, place))
    outputs = []
    for several in map(list, map(dict.values, rivals.values())):
        for (name, place), (other, _) in zip(several, several[1:] + several[:1], strict=True):
            try:
                if other != name:
                    own = f"{command('slice --each', name)} --output-dir {shell_word(beside(place, '{}-2'))}"
                    raise UsageError(f"{name} and {other} would become the same files; slice it by itself: {own}.")
                check_output(_numbered(place, "1"), create_folder=True)
                outputs.append((name, place))
            except V2LError as error:
                if len(names) == 1:
                    raise
                failures.add(error, name)
    return outputs


def _numbered(place: Path, number: str) -> Path:
    """The file of a segment."""
    return beside(place, f"{{}}-{number}{ADAPTER_SUFFIX}")


def _cut(
    name: str, output: Path, selected: Callable[[Adapter], list[int]], each: bool
) -> Iterator[tuple[Adapter, Path]]:
    """The slices of an adapter, each with the file to write."""
    from v2l.adapter import load
    from v2l.adapter.join import each_segment, slice_segments

    check_exists(name)
    adapter = load(name)
    indices = selected(adapter)
    if not each:
        yield slice_segments(adapter, indices), output
        return
    create_folder(output.parent)
    digits = len(str(len(adapter.segments)))  # so that their names sort
    for i, segment in each_segment(adapter, indices):
        yield segment, _numbered(output, f"{i + 1:0{digits}d}")
