"""Which file each input becomes, settled and checked before any work; with --shard, only this machine's part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.cli.shards import Shard
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import OutputError, UsageError, V2LError, VideoError
from v2l.system.files import beside, has_room_for, replacing
from v2l.wording import command, shell_word

if TYPE_CHECKING:
    from v2l.many.jobs import Job


@dataclass(frozen=True)
class Outputs:
    """The adapters to make."""

    jobs: list[Job]
    failures: list[tuple[Path, V2LError]]
    """Inputs that cannot be used, and why."""
    videos: int
    """Number of videos in all shards."""
    notes: list[str] = field(default_factory=list)
    """What was passed over: sentences for the user."""


@dataclass
class _Input:
    video: Path
    relative: Path
    """The video's path relative to the folder it was found in."""
    key: str
    """Name that decides which shard it is in."""


@dataclass
class Videos:
    """The videos that were named, and those below folders."""

    found: dict[Path, _Input] = field(default_factory=dict)
    """Videos by their real paths."""
    failures: list[tuple[Path, V2LError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_named(inputs: Iterable[str]) -> Videos:
    """Videos and folders of videos -> the videos, each once; what fails stops no other."""
    videos = Videos()
    for name in map(Path, inputs):
        try:
            for video in _videos(name, videos.notes, videos.failures):
                same = videos.found.setdefault(Path(os.path.realpath(video.video)), video)
                if same.video != video.video:
                    videos.notes.append(f"{video.video} is another name of {same.video}, which is watched once.")
                same.key = min(same.key, video.key)  # one given twice falls to one shard, in whatever order
        except V2LError as error:
            videos.failures.append((name, error))
    return videos


@dataclass(frozen=True)
class Planned:
    """Which adapter each video becomes, of all shards."""

    jobs: dict[Job, str]
    """The names that decide which shard each is in."""
    failures: list[tuple[Path, V2LError]]
    """Inputs that cannot be used, and why."""
    videos: int
    """Number of videos."""
    notes: list[str]
    """What was passed over: sentences for the user."""


def plan_all(inputs: Iterable[str], output: Path | None, folder: Path | None) -> Planned:
    """Videos and folders of videos -> the adapters that become of them; nothing is written, not even for a trial.

    An adapter lies next to its video, or in `folder` as its video does in the folder it was found in, or is `output`.
    Videos of which two would become one file, or that a file would replace, are among the failures.
    """
    from v2l.many.jobs import Job, adapter_for, videos_by_stem

    if output is not None and os.path.isdir(output):
        raise UsageError(f"{output} is a folder; to put adapters there, write --output-dir {shell_word(output)}.")
    videos_by_stem.cache_clear()
    named = find_named(inputs)
    videos = named.found
    if output is not None and len(videos) > 1:
        raise UsageError(f"-o names one file and there are {len(videos)} videos; use --output-dir.")
    jobs = {Job(video.video, output or adapter_for(video.video, folder and folder / video.relative)): video.key
            for video in videos.values()}
    clashes = _clashes(jobs, videos.keys())
    if clashes and len(jobs) == 1:
        raise next(iter(clashes.values()))
    failures = [*named.failures, *((job.video, error) for job, error in clashes.items())]
    return Planned({job: key for job, key in jobs.items() if job not in clashes}, failures, len(videos), named.notes)


def plan_outputs(inputs: Iterable[str], output: Path | None, folder: Path | None, shard: Shard | None = None
                 ) -> Outputs:
    """What `plan_all` says, or of that the shard's part; a place that cannot be written is among the failures."""
    plan = plan_all(inputs, output, folder)
    usable, failures = [], plan.failures
    for job in [job for job, key in plan.jobs.items() if shard is None or shard.holds(key)]:
        try:
            if os.path.isfile(job.video):  # of what is missing, or no file, opening it will say so
                if not has_room_for(job.output):
                    raise OutputError(f"{job.output} has a name that is too long for that disk; {_by_itself(job)}.")
                check_output(job.output, create_folder=folder is not None)
            usable.append(job)
        except OutputError as error:
            failures.append((job.video, error))
    return Outputs(usable, failures, plan.videos, plan.notes)


def _videos(name: Path, notes: list[str], failures: list[tuple[Path, V2LError]]) -> Iterator[_Input]:
    """A video itself, or those below a folder; what was passed over there goes to `notes`, folders that may not be
    entered to `failures`. VideoError."""
    from v2l.adapter.find import adapter_file, holds_adapter
    from v2l.video.folder import find_videos

    if os.path.isdir(name):  # unlike Path's, it takes any name
        found = find_videos(name)
        notes += [f"{name}: {note}" for note in found.notes("videos")]
        failures += [(closed, VideoError(f"{closed} may not be entered; check its permissions."))
                     for closed in found.closed]
        for video in found.files:
            relative = video.relative_to(name)
            yield _Input(video, relative, relative.as_posix())
    elif os.path.isfile(name) and adapter_file(str(name)):
        if not holds_adapter(name):
            raise VideoError(f"{name} has the name of an adapter and holds none; give a video another ending.")
        raise VideoError(f"{name} is an adapter already; ask it with: {command('ask', name)} QUESTION.")
    else:
        size = os.path.getsize(name) if os.path.isfile(name) else 0
        yield _Input(name, Path(name.name), f"{name.name} {size}")  # `*/video.mp4` must not all be one shard's


def _clashes(jobs: Iterable[Job], inputs: Iterable[Path]) -> dict[Job, UsageError]:
    """The videos that cannot have the output planned for them, since another has it or is it, and why."""
    wrong: dict[Job, UsageError] = {}
    taken: dict[Path, list[Job]] = {}
    for job in jobs:
        final = Path(os.path.realpath(job.output))
        taken.setdefault(final, []).append(job)
        if final in inputs:
            wrong[job] = UsageError(f"{job.output} would replace a video that is to be read; name another file with "
                                    "-o.")
    for rivals in taken.values():
        for job, other in zip(rivals, rivals[1:] + rivals[:1], strict=True):
            if len(rivals) > 1:
                wrong[job] = UsageError(f"{job.video} and {other.video} would both become {job.output}; "
                                        f"{_by_itself(job)}.")
    return wrong


def _by_itself(job: Job) -> str:
    """What makes an adapter with another name of a video, as the end of a sentence; -o takes only a folder that is
    there."""
    place = job.output if job.output.parent.is_dir() else job.video
    own = beside(place.with_name(job.video.name), "{}-2" + ADAPTER_SUFFIX)
    return f"ingest it by itself: {command('ingest', job.video)} -o {shell_word(own)}"


class _NotToBeWritten(Exception):
    """Ends the trial writing before anything has its final name."""


def check_output(path: Path, create_folder: bool = False) -> None:
    """Raises OutputError unless `path` can be written now; UsageError if `ask` would not know it for an adapter."""
    if not path.name.lower().endswith(ADAPTER_SUFFIX):
        raise UsageError(f"{path} does not end in {ADAPTER_SUFFIX}, by which adapters are known; name the output so.")
    if create_folder and not path.exists():
        while not path.parent.exists():
            path = path.parent
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises OutputError unless `path` can be written now."""
    with suppress(_NotToBeWritten), replacing(path):
        raise _NotToBeWritten
