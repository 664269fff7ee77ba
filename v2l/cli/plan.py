"""Which file each input becomes, settled and checked before any work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.cli.shard import Shard
from v2l.errors import OutputError, UsageError, V2LError, VideoError
from v2l.system.files import replacing

if TYPE_CHECKING:
    from v2l.many import Job

SUFFIX = ".v2lora"


def is_adapter_name(text: str) -> bool:
    return text.lower().endswith(SUFFIX)


def expand(words: Iterable[str]) -> Iterator[str]:
    """The words, with `-` standing for the lines of stdin that are not blank, each given as it is read. UsageError
    where those are no text."""
    for word in words:
        if word != "-":
            yield word
            continue
        for line in sys.stdin.buffer if sys.stdin else ():
            if b"\0" in line:
                raise UsageError("- reads lines of text from stdin, and what is there is none, a video perhaps; "
                                 "save it to a file and name that.")
            if line.strip():
                yield os.fsdecode(line.rstrip(b"\r\n"))


@dataclass(frozen=True)
class Plan:
    """What is to be made."""

    jobs: list[Job]
    failed: list[V2LError]
    """Inputs that failed already."""
    found: int
    """Videos, those of all shards."""


@dataclass
class _Found:
    video: Path
    within: Path
    """Its name within what was given."""
    key: str
    """By which it falls to a shard."""


def plan(inputs: Iterable[str], output: Path | None, folder: Path | None, shard: Shard | None = None) -> Plan:
    """Videos and folders of videos -> what is to be made of them, or of the shard's.

    An adapter lies next to its video, or in `folder` as its video does in the folder it was found in, or is `output`.
    UsageError where two videos would become one file, or a file would replace an input.
    """
    from v2l.many import Job

    if output is not None and os.path.isdir(output):
        raise UsageError(f"{output} is a folder; to put adapters there, write --output-dir {output}.")
    found: dict[Path, _Found] = {}  # by what a video really is
    failed: list[V2LError] = []
    for name in map(Path, inputs):
        try:
            for video in _videos(name):
                same = found.setdefault(Path(os.path.realpath(video.video)), video)
                same.key = min(same.key, video.key)  # one given twice falls to one shard, in whatever order
        except V2LError as error:
            failed.append(error)
    if output is not None and len(found) > 1:
        raise UsageError(f"-o names one file and there are {len(found)} videos; use --output-dir.")
    jobs = {Job(each.video, output or ((folder / each.within) if folder else each.video).with_suffix(SUFFIX)): each.key
            for each in found.values()}
    _refuse_clashes(jobs, found.keys())
    usable = []
    for job in jobs if shard is None else [job for job, key in jobs.items() if shard.holds(key)]:
        try:
            if os.path.exists(job.video):  # of one that is not there, opening it will tell
                check_output(job.output, create_folder=folder is not None)
            usable.append(job)
        except OutputError as error:
            failed.append(error)
    return Plan(usable, failed, len(found))


def _videos(name: Path) -> Iterator[_Found]:
    """A video itself, or those below a folder. VideoError."""
    from v2l.video.clip import find_videos

    if os.path.isdir(name):  # unlike Path's, it takes any name
        for video in find_videos([name]):
            within = video.relative_to(name)
            yield _Found(video, within, within.as_posix())
    elif is_adapter_name(name.name) and os.path.isfile(name):
        raise VideoError(f"{name} is an adapter already; ask it with: v2l ask {name} QUESTION.")
    else:
        size = os.path.getsize(name) if os.path.isfile(name) else 0
        yield _Found(name, Path(name.name), f"{name.name} {size}")  # `*/video.mp4` must not all be one shard's


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
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises OutputError unless `path` can be written now."""
    with suppress(_Enough), replacing(path):
        raise _Enough
