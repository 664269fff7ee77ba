"""`--shard`: the part of many inputs that one of several machines does, and how launchers tell it which."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby

from v2l.errors import UsageError

MOST_TASKS = 1000
"""Tasks of an array that any SLURM takes: unless its site says otherwise, ids end at 1000 (MaxArraySize is 1001)."""


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 1, of many inputs that several machines share."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether the input of that name is in this part. That depends on nothing but the name, so on no other file."""
        return shard_of(key, self.count) == self


def shard_of(key: str, count: int) -> Shard:
    """The one of so many parts that the input of that name is in."""
    name = unicodedata.normalize("NFC", key)  # the same files are spelled otherwise on another system
    return Shard(int.from_bytes(sha256(os.fsencode(name)).digest()[:8], "big") % count + 1, count)


def parse_shard(text: str) -> Shard:
    """The shard of `2/8`; of `auto`, what the launcher says; of `auto/8` or `auto+1000/4000`, part task + 1 (+ 1000) of
    so many, whatever the launcher says of their number. UsageError."""
    match = re.fullmatch(r"(?:(\d{1,9})|auto(?:\+(\d{1,9}))?)/(\d{1,9})", text, re.ASCII)
    if text == "auto":
        return _told(None)
    if not match:
        raise UsageError(f"--shard {text} is not I/N with I from 1 to N, such as 1/4, nor auto, auto/N or "
                         "auto+OFFSET/N.")
    count = int(match[3])
    index = int(match[1]) if match[1] else _told(count).index + int(match[2] or 0)
    if not 1 <= index <= count:
        reason = "" if match[1] else f" here: that gives part {index}, and the first task is number 0"
        raise UsageError(f"--shard {text} is not I/N with I from 1 to N, such as 1/4{reason}.")
    return Shard(index, count)


# What launchers say, in the environment.

_LAUNCHERS = (("SkyPilot", "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"), ("torchrun", "RANK", "WORLD_SIZE"))
"""Who counts nodes or processes from 0, by which variables. Other launchers set those of torchrun, too."""


def _told(count: int | None) -> Shard:
    """The part that the environment tells of: a SLURM job array, SkyPilot, or RANK and WORLD_SIZE; with a `count`, the
    part that follows so many tasks before it, which may be more than `count`. UsageError where there is none, or where
    two differ."""
    found = {}
    if any(name.startswith("SLURM_ARRAY_TASK_") for name in os.environ):
        found["the SLURM job array"] = _slurm_task(count)
    for launcher, rank, size in _LAUNCHERS:
        if rank in os.environ or (size in os.environ and count is None):
            index = _number(rank, size, launcher)
            of = count or _number(size, rank, launcher)
            if count is None and index >= of:
                raise UsageError(f"--shard auto finds {rank} {index} and {size} {of}, which leaves no such part; write "
                                 "--shard I/N.")
            found[f"{rank} ({launcher})"] = Shard(index + 1, of)
    # One process of one, as many an image has it, says nothing beside a launcher of several.
    telling = {name: shard for name, shard in found.items() if shard.count > 1} or found
    if len(set(telling.values())) > 1:
        said = " and ".join(f"{shard} by {name}" for name, shard in telling.items())
        raise UsageError(f"--shard auto could be {said}; write the one that is meant as --shard I/N.")
    if not found:
        names = ", ".join(["SLURM_ARRAY_TASK_ID", *(f"{rank} and {size}" for _, rank, size in _LAUNCHERS)])
        raise UsageError(f"--shard auto takes its part from what a launcher sets, and there is no {names}; submit with "
                         "sbatch --array, or write --shard I/N.")
    return next(iter(telling.values()))


def _number(name: str, other: str, launcher: str) -> int:
    value = os.environ.get(name, "")
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        reason = f"{name} is {value!r}" if value else f"there is {other} and no {name}"
        raise UsageError(f"--shard auto takes its part from {launcher}, and {reason}; write --shard I/N.")
    return int(value)


def _slurm_task(of: int | None) -> Shard:
    names = ("TASK_ID",) if of else ("TASK_ID", "TASK_MIN", "TASK_MAX", "TASK_COUNT", "TASK_STEP")
    values = {name: os.environ.get(f"SLURM_ARRAY_{name}", "1" if name == "TASK_STEP" else "") for name in names}
    for name, value in values.items():
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            reason = f"SLURM_ARRAY_{name} is {value!r}" if value else f"there is no SLURM_ARRAY_{name}"
            raise UsageError(f"--shard auto is for the tasks of a SLURM job array, and {reason}; "
                             "submit with sbatch --array, or write --shard I/N.")
    if of:
        return Shard(int(values["TASK_ID"]) + 1, of)
    task, first, last, count, step = (int(values[name]) for name in names)
    # Of an irregular array, such as 1,2,7, the variables do not say which tasks there are.
    if step < 1 or (task - first) % step or not first <= task <= last or (last - first) // step + 1 != count:
        raise UsageError("--shard auto needs a regular SLURM job array, such as --array=0-7; say of how many parts: "
                         "--shard auto/8 takes task 0 for the first of 8.")
    return Shard((task - first) // step + 1, count)


def array_lines(shards: Iterable[Shard]) -> Iterator[str]:
    """The options that have SLURM do just these parts, a line for each array: `--array=1,4-5 --shard auto/8`."""
    for offset, group in groupby(sorted(shards, key=lambda shard: shard.index),
                                 lambda shard: (shard.index - 1) // MOST_TASKS * MOST_TASKS):
        parts = list(group)
        yield (f"--array={_ranges([shard.index - 1 - offset for shard in parts])} "
               f"--shard auto{f'+{offset}' if offset else ''}/{parts[0].count}")


def _ranges(numbers: list[int]) -> str:
    """Numbers in their order, as SLURM lists them: 1,4-5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)
