"""Which file each input becomes, settled and checked before any work; with --shard, only this machine's part."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.config import ADAPTER_SUFFIX
from v2l.errors import OutputError, UsageError, V2LError, VideoError
from v2l.system.files import replacing, without_ending
from v2l.wording import command, shell_word

if TYPE_CHECKING:
    from v2l.many import Job


# Shards.


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 1, of many inputs that several machines share."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether the input of that name is in this part. That depends on nothing but the name, so on no other file."""
        name = unicodedata.normalize("NFC", key)  # the same files are spelled otherwise on another system
        return int.from_bytes(sha256(os.fsencode(name)).digest()[:8], "big") % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """The shard of `2/8`, or of `auto`: the task of a SLURM job array. UsageError."""
    if text == "auto":
        return _slurm_task()
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text} is not I/N with I from 1 to N, such as 1/4, nor auto.")
    return Shard(int(match[1]), int(match[2]))


def _slurm_task() -> Shard:
    names = ("TASK_ID", "TASK_MIN", "TASK_MAX", "TASK_COUNT", "TASK_STEP")
    values = {name: os.environ.get(f"SLURM_ARRAY_{name}", "1" if name == "TASK_STEP" else "") for name in names}
    for name, value in values.items():
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            reason = f"SLURM_ARRAY_{name} is {value!r}" if value else f"there is no SLURM_ARRAY_{name}"
            raise UsageError(f"--shard auto is for the tasks of a SLURM job array, and {reason}; "
                             "submit with sbatch --array, or write --shard I/N.")
    task, first, last, count, step = (int(values[name]) for name in names)
    # Of an irregular array, such as 1,2,7, the variables do not say which tasks there are.
    if step < 1 or (task - first) % step or not first <= task <= last or (last - first) // step + 1 != count:
        raise UsageError("--shard auto needs a regular SLURM job array, such as --array=0-7; write --shard I/N.")
    return Shard((task - first) // step + 1, count)


# Outputs.


@dataclass(frozen=True)
class Outputs:
    """The adapters to make."""

    jobs: list[Job]
    failures: list[V2LError]
    """Errors of inputs that cannot be used."""
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


def plan_outputs(inputs: Iterable[str], output: Path | None, folder: Path | None, shard: Shard | None = None
                 ) -> Outputs:
    """Videos and folders of videos -> the adapters to make of them, or of the shard's.

    An adapter lies next to its video, or in `folder` as its video does in the folder it was found in, or is `output`.
    UsageError where two videos would become one file, or a file would replace an input.
    """
    from v2l.many import Job

    if output is not None and os.path.isdir(output):
        raise UsageError(f"{output} is a folder; to put adapters there, write --output-dir {shell_word(output)}.")
    videos: dict[Path, _Input] = {}  # by their real paths
    failures: list[V2LError] = []
    notes: list[str] = []
    for name in map(Path, inputs):
        try:
            for video in _videos(name, notes):
                same = videos.setdefault(Path(os.path.realpath(video.video)), video)
                if same.video != video.video:
                    notes.append(f"{video.video} is another name of {same.video}, which is watched once.")
                same.key = min(same.key, video.key)  # one given twice falls to one shard, in whatever order
        except V2LError as error:
            failures.append(error)
    if output is not None and len(videos) > 1:
        raise UsageError(f"-o names one file and there are {len(videos)} videos; use --output-dir.")
    jobs = {Job(video.video, output or _adapter_of((folder / video.relative) if folder else video.video)): video.key
            for video in videos.values()}
    _refuse_clashes(jobs, videos.keys())
    usable = []
    for job in [job for job, key in jobs.items() if shard is None or shard.holds(key)]:
        try:
            if os.path.exists(job.video):  # of one that is missing, opening it will say so
                check_output(job.output, create_folder=folder is not None)
            usable.append(job)
        except OutputError as error:
            failures.append(error)
    return Outputs(usable, failures, len(videos), notes)


def _adapter_of(video: Path) -> Path:
    """`talk.mp4` -> `talk.v2lora`."""
    from v2l.video.folder import EXTENSIONS

    path = without_ending(video, EXTENSIONS)
    return path.with_name(path.name + ADAPTER_SUFFIX)


def _videos(name: Path, notes: list[str]) -> Iterator[_Input]:
    """A video itself, or those below a folder; what was passed over there goes to `notes`. VideoError."""
    from v2l.adapter.find import adapter_file
    from v2l.video.folder import find_videos

    if os.path.isdir(name):  # unlike Path's, it takes any name
        found = find_videos([name])
        notes += [f"{name}: {note}" for note in found.notes()]
        for video in found.videos:
            relative = video.relative_to(name)
            yield _Input(video, relative, relative.as_posix())
    elif os.path.isfile(name) and adapter_file(str(name)):
        raise VideoError(f"{name} is an adapter already; ask it with: {command('ask', name)} QUESTION.")
    else:
        size = os.path.getsize(name) if os.path.isfile(name) else 0
        yield _Input(name, Path(name.name), f"{name.name} {size}")  # `*/video.mp4` must not all be one shard's


def _refuse_clashes(jobs: Iterable[Job], inputs: Iterable[Path]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        final = Path(os.path.realpath(job.output))
        if final in inputs:
            raise UsageError(f"{job.output} would replace a video that is to be read; name another file with -o.")
        other = taken.setdefault(final, job.video)
        if other is not job.video:
            raise UsageError(f"{other} and {job.video} would both become {job.output}; use -o for one of them.")


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
