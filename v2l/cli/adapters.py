"""Commands that work on adapter files alone, with no model: `v2l compose`, `v2l slice`, `v2l info`; and how commands
read adapters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from v2l.adapter.wall import check_order, overlaps, stretch_text, wall_moments, wall_start
from v2l.cli import options
from v2l.cli.console import Console, Failures, columns, report, write, write_json, write_path
from v2l.cli.inputs import adapters_of
from v2l.cli.options import argument, option
from v2l.errors import AdapterError, OutputError, UsageError, V2LError
from v2l.wording import command, shell_word, wall_text

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.adapter.record import Record
    from v2l.adapter.wall import When


@dataclass(frozen=True)
class Choice:
    """Which segments of adapters are meant; by default all."""

    start: When | None = None
    """--from."""
    end: When | None = None
    """--to."""
    video: str | None = None

    def __bool__(self) -> bool:
        return self != Choice()

    def check(self) -> None:
        """UsageError where the times make no sense together."""
        check_order(self.start, self.end, "--to must come after --from.")

    def of(self, adapter: Adapter) -> list[int]:
        """Indices of the segments of an adapter. UsageError where it has none."""
        from v2l.adapter.join import overlapping

        return overlapping(adapter, self.start, self.end, self.video)

    @property
    def by_wall(self) -> bool:
        """Whether a time has a date."""
        return isinstance(self.start, datetime) or isinstance(self.end, datetime)

    def among(self, names: list[str], console: Console) -> list[str]:
        """Names of the adapters that hold something of a time with a date, and of those that cannot be read; says how
        many are passed over. UsageError where all are."""
        from v2l.adapter import load_label

        if not self.by_wall or len(names) < 2:
            return names
        kept, held = [], list[datetime]()
        for name in names:
            try:
                record = load_label(name).record
            except V2LError:
                kept.append(name)
                continue
            held += wall_moments(record["sources"], record["segments"])
            if any("started" in source and overlaps(segment, source, self.start, self.end)
                   for segment in record["segments"] for source in [record["sources"][segment["source"]]]):
                kept.append(name)
        if not kept:
            between = f"; what they hold lies between {wall_text(min(held))} and {wall_text(max(held))}" if held else ""
            raise UsageError(f"None of {len(names)} adapters holds anything of that time{between}.")
        if len(kept) < len(names):
            console.note(f"{len(names) - len(kept)} of {len(names)} adapters hold nothing of that time.")
        return kept

    def is_ambiguous(self, adapter: Adapter) -> bool:
        """Whether what is meant of an adapter is of several videos, each with its own times."""
        return bool(self) and not self.by_wall and len({adapter.segments[i]["source"] for i in self.of(adapter)}) > 1


ALL = Choice()


def compose_(
    segments: Annotated[list[str], argument("ADAPTER...")],
    output: Annotated[Path, options.OUTPUT],
    max_rank: Annotated[int | None, option("R", "Compress the segments to rank R; the bias comes on top.",
                                           "no compression", callback=options.positive)] = None,
    force: options.Force = False, json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """Join adapters into one that answers from all of them.

    ADAPTER is a file, a folder of them, or - to read names from stdin, one per line. All must come from one base model
    and one hypernetwork. No model is loaded.
    --max-rank makes the file smaller: it keeps the best approximation of rank R and reports its relative error. The
    segments of the result cannot be told apart: it cannot be sliced, and every question, "What happened?" too, has one
    answer from all of them together, which the relative error says nothing of.

    \b
      v2l compose part1.v2lora part2.v2lora -o full.v2lora
      v2l compose day*.v2lora --max-rank 64 -o week.v2lora
    """
    from v2l.adapter import load
    from v2l.adapter.compress import compress, is_compressed
    from v2l.cli.outputs import check_output

    console = Console(quiet)
    check_output(output)
    names = list(adapters_of(segments, console, output=output))
    refuse_input(output, names)
    whole = load_joined(names, console)
    adapter = whole
    if max_rank is not None and max_rank < whole.total_rank:
        existing = None
        with suppress(AdapterError):
            existing = None if force else load(output)
        if existing is not None and is_compressed(existing, whole, max_rank):
            adapter = existing
        else:
            del existing  # on Windows a file that is mapped cannot be replaced
            with console.working("Compressing"):
                adapter = compress(whole, max_rank, console.progress)
        _note_compressed(adapter, whole, console)
    elif max_rank is not None:
        console.note(f"Rank {whole.total_rank} needs no compressing to {max_rank}.")
    save_adapter(adapter, output, force, json, console)


def refuse_input(output: Path, names: list[str]) -> None:
    if os.path.realpath(output) in map(os.path.realpath, names):
        raise UsageError(f"{output} is one of the adapters to read; name another file with -o.")


def _note_compressed(adapter: Adapter, whole: Adapter, console: Console) -> None:
    block = adapter.compressed[0]
    most = "at most " if whole.compressed else ""  # a bound, where some of it was compressed before
    console.note(f"Compressed from rank {whole.total_rank} to {adapter.total_rank}, "
                 f"relative error {most}{block['error']:.2g}; by layer "
                 f"{' '.join(f'{error:.2g}' for error in block['errors'])}.")
    if (count := len(adapter.segments)) > 1:
        from v2l.adapter.record import as_one_text

        console.warn(f"The {as_one_text(count)}; leave --max-rank out to have each asked by itself.")


def save_adapter(adapter: Adapter, output: Path, force: bool, json: bool, console: Console, **facts: Any) -> None:
    """Writes an adapter unless the same one is there, and prints its name; `facts` go into its JSON."""
    from v2l.adapter import load, save
    from v2l.adapter.provenance import lost_by

    skipped = False
    if not force:
        with suppress(AdapterError):
            there = load(output)
            skipped = _same(adapter, there)
            if not skipped and (lost := lost_by(adapter, there)):
                raise OutputError(f"{output} is there and {lost}; name another file with -o, or replace it with "
                                  "--force.")
            del there  # on Windows a file that is mapped cannot be replaced
    if skipped:
        console.note(f"{output} is up to date.")
    else:
        save(adapter, output)
    if json:
        error = {"error": max(block["error"] for block in adapter.compressed)} if adapter.compressed else {}
        write_json({"output": str(output), "segments": len(adapter.segments),
                    "sources": [source["name"] for source in adapter.sources],
                    "rank": adapter.total_rank + adapter.rank, **error, **facts, "size": adapter.file_size,
                    "skipped": skipped})
    else:
        write_path(output)


def _same(adapter: Adapter, other: Adapter) -> bool:
    """Whether two adapters are the same file."""
    pairs = zip(adapter.tensors().values(), other.tensors().values(), strict=True)
    return adapter.record == other.record and adapter.dtype == other.dtype and all(
        # Layer by layer, because the tensors may be large.
        a.shape == b.shape and all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)) for a, b in pairs)


def info(
    files: Annotated[list[str], argument("ADAPTER...")],
    json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """Show what adapters hold.

    Lists the base model, the videos, the segments and the settings of each. ADAPTER is a file, a folder of them, or -
    to read names from stdin, one per line.

    \b
      v2l info lecture.v2lora
    """
    from v2l.adapter import load
    from v2l.cli.describe import adapter_text

    failures = Failures()
    for number, name in enumerate(adapters_of(files, Console(quiet), failures)):
        try:
            check_exists(name)
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


# Reading.


def read_adapter(name: str) -> Adapter:
    """An adapter. AdapterError with the way out."""
    from v2l.adapter import load

    check_exists(name)
    return load(name)


def chosen(adapter: Adapter, choice: Choice) -> Adapter:
    """The adapter of the segments that are meant. AdapterError, UsageError."""
    from v2l.adapter.join import slice_segments

    return slice_segments(adapter, choice.of(adapter)) if choice else adapter


def check_exists(name: str) -> None:
    """AdapterError where there is no such file; the video it would be made of may lie in its place."""
    try:
        os.lstat(name)
        return
    except FileNotFoundError:
        pass
    except (OSError, ValueError):  # reading it will say what is wrong
        return
    from v2l.video.folder import EXTENSIONS

    videos = (os.path.splitext(name)[0] + suffix for suffix in sorted(EXTENSIONS))
    video = next(filter(os.path.isfile, videos), None)
    way_out = f"`{command('ingest', video)}`" if video else "`v2l ingest VIDEO`"
    raise AdapterError(f"Cannot read the adapter {name}: No such file or directory; "
                       f"{'' if video else 'check the name, or '}make it with {way_out}.")


def load_joined(names: list[str], console: Console, choice: Choice = ALL) -> Adapter:
    """The adapter of one or several files, or of the segments of them that are meant, with notes on what is odd.
    AdapterError, UsageError."""
    from v2l.adapter.join import join

    adapters = [read_adapter(name) for name in names]
    adapter, notes = (adapters[0], []) if len(adapters) == 1 else join(adapters)
    for note in notes:
        console.warn(note)
    for name, one in zip(names, adapters, strict=True):
        note_changed(name, one.sources, console)
    if not choice:
        return adapter
    note_ambiguous(adapter, choice, console)
    adapter = chosen(adapter, choice)
    console.warn(f"Asking {_segments_text(adapter)}.")
    return adapter


def note_changed(name: str, sources: Sequence[Record], console: Console) -> None:
    """Says which videos beside an adapter's file are not what was watched any more."""
    for video in changed_videos(name, sources):
        console.warn(f"{video} has changed since {name} was made of it; ingest it again.")


def changed_videos(name: str, sources: Sequence[Record]) -> list[str]:
    """Names of the videos beside an adapter's file that are not what was watched any more."""
    from v2l.video.folder import has_changed

    file = Path(name)
    return [source["name"] for source in sources if has_changed(file.parent / source["name"], source, file)]


def note_ambiguous(adapter: Adapter, choice: Choice, console: Console) -> None:
    """Says whose times --from and --to are, where an adapter holds several videos and none was named."""
    if choice.is_ambiguous(adapter):
        videos = [source["name"] for source in adapter.sources]
        console.warn(f"--from and --to are the times of each video by itself; of the {len(videos)} in {adapter.name}, "
                     f"--video chooses one, such as --video {shell_word(videos[0])}.")


def _segments_text(adapter: Adapter) -> str:
    """Which segments an adapter holds, the first three by name."""
    segments = [f"{stretch_text(wall_start(source), segment['start'], segment['end'])} of {source['name']}"
                for segment in adapter.segments for source in [adapter.sources[segment["source"]]]]
    more = f" and {len(segments) - 3} more" if len(segments) > 3 else ""
    return f"{'the segment' if len(segments) == 1 else 'the segments'} {', '.join(segments[:3])}{more}"


def first_record(names: list[str]) -> tuple[str, Record]:
    """The first file that can be read, and its record; AdapterError where there is none."""
    from v2l.adapter import load_label

    errors: list[V2LError] = []
    for name in names:
        try:
            check_exists(name)
            return name, load_label(name).record
        except V2LError as error:
            errors.append(error)
    for other in errors[:-1]:
        report(other)
    raise errors[-1]
