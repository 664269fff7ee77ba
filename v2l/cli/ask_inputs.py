"""What `v2l ask` begins with: whether the call makes sense, which adapters and which base, lots of questions."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.cli.console import Console, is_terminal, report
from v2l.cli.outputs import expand
from v2l.config import PRESETS, Sampling, Strategy
from v2l.errors import AdapterError, UsageError, V2LError
from v2l.wording import time_text

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.adapter.record import Record

Range = tuple[float | None, float | None]
"""--from and --to in seconds."""


# What is asked.


def as_written(word: str) -> str:
    """An argument as text: where the locale does not know its bytes, as UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return os.fsencode(word).decode(errors="replace")
    return word


def check_call(names: list[str], questions: list[str], direct: Path | None, sampling: dict[str, Any],
               chosen: dict[str, Any], console: Console) -> None:
    """UsageError where the arguments make no sense together. `sampling` are the options given that belong to --direct,
    `chosen` those that belong to adapters."""
    if not names and direct is None:
        there = next((word for word in questions if os.path.exists(word)), None)
        hint = f"{there} is not one; watch it first with `v2l ingest`" if there else "name a .v2lora file"
        raise UsageError(f"There is {'a question and ' if questions else ''}no adapter: {hint}.")
    if sampling and direct is None:
        option = next(iter(sampling))
        hint = "; --from and --to choose segments of it" if option in ("start", "end") else ""
        raise UsageError(f"--{option} needs --direct: an adapter holds what was watched already{hint}.")
    if chosen and direct is not None:
        option = next(iter(chosen))
        hint = "; --start and --end choose a part of the video" if option in ("from", "to") else ""
        raise UsageError(f"--{option} is for adapters, and --direct asks the video{hint}.")
    if chosen.get("to") is not None and chosen["to"] <= chosen.get("from", 0.0):
        raise UsageError("--to must come after --from.")
    if not questions and not is_terminal(sys.stdin):
        raise UsageError("There is no question; name one, or - to read questions from stdin.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question is empty.")
    single = [question for question in questions if question != "-" and not any(map(str.isspace, question.strip()))]
    if len(single) > 1:
        console.warn(f"{' and '.join(single[:2])} are questions by themselves; put quotes around one of several words.")


def segment_scale(text: str | None) -> float | None:
    """A number above 0; None for `1/k`, one over the number of segments. UsageError."""
    if text == "1/k":
        return None
    try:
        scale = Strategy.segment_scale if text is None else float(text)
    except ValueError:
        scale = None
    if scale is None or not 0 < scale < float("inf"):
        raise UsageError(f"--segment-scale {text} is neither a number above 0 nor 1/k.")
    return scale


def listed(file: str | None, questions: list[str]) -> list[str]:
    """The adapters that --adapters names. UsageError where it cannot be read."""
    if file is None:
        return []
    if file == "-" and "-" in questions:
        raise UsageError("Adapters and questions cannot both come from stdin; give --adapters a file.")
    try:
        lines = expand("-") if file == "-" else map(os.fsdecode, Path(file).read_bytes().splitlines())
        names = [line for line in lines if line.strip()]
    except OSError as error:
        raise UsageError(f"Cannot read the list of adapters {file}: {error.strerror}.") from None
    if not names:
        raise UsageError(f"--adapters {file} names no adapter; write one a line.")
    return names


def lots(words: Iterable[str]) -> Iterator[list[str]]:
    """Questions, as many at a time as there are: the words, with `-` standing for the lines of stdin.

    One read of stdin takes what is there and waits only where that is nothing; so a file comes in large lots and what
    someone types line by line.
    """
    lot: list[str] = []
    for word in words:
        if word != "-":
            lot.append(word)
            continue
        if lot:
            yield lot
        lot = []
        yield from _stdin_lots()
    if lot:
        yield lot


_LONGEST_LINE = 8 << 20
"""Bytes; no base reads as much."""


def _stdin_lots() -> Iterator[list[str]]:
    stdin: Any = sys.stdin.buffer if sys.stdin else io.BytesIO()
    rest, there = b"", True
    while there:
        data = stdin.read1(1 << 16)
        there = bool(data)
        *lines, rest = (rest + (data or b"\n")).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise UsageError(f"A line of stdin is longer than {_LONGEST_LINE >> 20} MB; write one question a line.")
        if lot := [line.rstrip(b"\r").decode(errors="replace") for line in lines if line.strip()]:
            yield lot


# Who is asked.


def read_adapter(name: str, times: Range) -> Adapter:
    """An adapter, or its segments in a range of time. AdapterError with the way out, UsageError."""
    from v2l.adapter import load
    from v2l.adapter.join import within

    _check_there(name)
    adapter = load(name)
    return adapter if times == (None, None) else within(adapter, *times)


def _check_there(name: str) -> None:
    """AdapterError where there is no such file; the video it would be made of may lie in its place."""
    try:
        os.lstat(name)
        return
    except FileNotFoundError:
        pass
    except (OSError, ValueError):  # reading it will tell
        return
    from v2l.video.clip import EXTENSIONS

    videos = (os.path.splitext(name)[0] + suffix for suffix in sorted(EXTENSIONS))
    video = next(filter(os.path.isfile, videos), None)
    way_out = f"make it with `v2l ingest {video}`" if video else "check the name, or make it with `v2l ingest VIDEO`"
    raise AdapterError(f"Cannot read the adapter {name}: No such file or directory; {way_out}.")


def joined(names: list[str], console: Console, times: Range = (None, None)) -> Adapter:
    """The adapter of one or several files, or of their segments in a range of time, with notes on what is odd."""
    from v2l.adapter.join import join, within

    adapters = [read_adapter(name, (None, None)) for name in names]
    adapter, notes = (adapters[0], []) if len(adapters) == 1 else join(adapters)
    for note in notes:
        console.warn(note)
    if times == (None, None):
        return adapter
    adapter = within(adapter, *times)
    console.warn(f"Asking {listed_segments(adapter)}.")
    return adapter


def listed_segments(adapter: Adapter) -> str:
    """Which segments an adapter holds, the first three by name."""
    told = [f"{time_text(segment['start'])} to {time_text(segment['end'])} of "
            f"{adapter.sources[segment['source']]['name']}" for segment in adapter.segments]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return f"{'the segment' if len(told) == 1 else 'the segments'} {', '.join(told[:3])}{more}"


def first_record(names: list[str]) -> tuple[str, Record]:
    """The first file that can be read, and its record; AdapterError where there is none."""
    from v2l.adapter import load_label

    errors: list[V2LError] = []
    for name in names:
        try:
            _check_there(name)
            return name, load_label(name).record
        except V2LError as error:
            errors.append(error)
    for other in errors[:-1]:
        report(other)
    raise errors[-1]


def base_of(name: str, record: Record) -> str:
    """What `--model` would say for the base an adapter names. A name from a file never becomes a path, nor has
    anything fetched that is not known by name."""
    from v2l.store.hub import Repo, snapshot
    from v2l.store.resolve import preset_of

    base = str(record["base"]["id"])
    if preset := preset_of(base):
        return preset.name
    repo = Repo.parse(base)
    if repo and not os.path.exists(base):
        if snapshot(repo):
            return base
        raise UsageError(f"{name} was made with the base {base}, which is not on this disk; fetch it with "
                         f"--model {base} if you trust whoever published it.")
    raise UsageError(f"{name} was made with a base in a folder called {base}; name that folder with --model.")


def check_base(name: str, record: Record, model: str) -> None:
    """UsageError where an adapter names another base than the one asked for by its short name; nothing is fetched."""
    from v2l.store.resolve import preset_of

    made_for = preset_of(str(record["base"]["id"]))
    if made_for and model in PRESETS and made_for.name != model:
        raise UsageError(f"{name} was made with {made_for.name}, and {model} cannot read it; leave --model out.")


def check_direct(video: Path, sampling: Sampling, with_adapter: bool, console: Console) -> None:
    """VideoError where the video cannot be read; nothing heavy is loaded."""
    from v2l.video.clip import open_clip

    for warning in open_clip(video, sampling).warnings:
        console.warn(warning)
    if with_adapter:
        console.warn("The answer comes from the video; the adapter only names the model.")
