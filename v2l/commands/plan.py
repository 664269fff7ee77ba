"""Which file each input becomes, settled and checked before any work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from v2l.errors import OutputError, UsageError, V2LError
from v2l.files import replacing

SUFFIX = ".v2lora"


def is_adapter_name(text: str) -> bool:
    return text.lower().endswith(SUFFIX)


def expand(words: Iterable[str], decode: Callable[[bytes], str] = os.fsdecode) -> Iterator[str]:
    """The words, with `-` standing for the lines of stdin that are not blank, each given as it is read."""
    for word in words:
        if word != "-":
            yield word
            continue
        for line in sys.stdin.buffer if sys.stdin else ():
            if line.strip():
                yield decode(line.rstrip(b"\r\n"))


@dataclass(frozen=True)
class Job:
    """A video to watch and the adapter file it becomes."""

    video: Path
    output: Path


def plan(inputs: Iterable[str], output: Path | None, folder: Path | None) -> tuple[list[Job], list[V2LError]]:
    """Videos and folders of videos -> what is to be made, and what failed already.

    An adapter lies next to its video, or in `folder` as its video does in the folder it was found in, or is `output`.
    UsageError where two videos would become one file, or a file would replace an input.
    """
    from v2l.video import find_videos

    found: dict[Path, tuple[Path, Path]] = {}  # by what a video really is: itself, and its name within what was given
    failures: list[V2LError] = []
    for name in map(Path, inputs):
        try:
            folder_given = os.path.isdir(name)  # unlike Path's, it takes any name
            for video in find_videos([name]) if folder_given else [name]:
                within = video.relative_to(name) if folder_given else Path(name.name)
                found.setdefault(Path(os.path.realpath(video)), (video, within))
        except V2LError as error:
            failures.append(error)
    if output is not None and len(found) > 1:
        raise UsageError(f"-o names one file and there are {len(found)} videos; use --output-dir.")
    jobs = [Job(video, output or ((folder / within) if folder else video).with_suffix(SUFFIX))
            for video, within in found.values()]
    _refuse_clashes(jobs, found.keys())
    usable = []
    for job in jobs:
        try:
            if os.path.exists(job.video):  # of one that is not there, opening it will tell
                check_output(job.output, create_folder=folder is not None)
            usable.append(job)
        except OutputError as error:
            failures.append(error)
    return usable, failures


def _refuse_clashes(jobs: Iterable[Job], inputs: Iterable[Path]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        final = Path(os.path.realpath(job.output))
        if final in inputs:
            raise UsageError(f"{job.output} would replace a video that is to be read; name another file with -o.")
        other = taken.setdefault(final, job.video)
        if other is not job.video:
            raise UsageError(f"{other} and {job.video} would both become {job.output}; use -o for one of them.")


class _Enough(Exception):
    """Ends the trial writing before anything has its final name."""


def check_output(path: Path, create_folder: bool = False) -> None:
    """Raises OutputError unless `path` can be written now; UsageError if `ask` would not know it for an adapter."""
    if not is_adapter_name(path.name):
        raise UsageError(f"{path} does not end in {SUFFIX}, by which adapters are known; name the output so.")
    if create_folder and not path.exists():
        while not path.parent.exists():
            path = path.parent
    with suppress(_Enough), replacing(path):
        raise _Enough


def create_folder(folder: Path) -> None:
    """Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {error.strerror}; choose another place.") from error
