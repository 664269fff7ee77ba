"""`--shard`: the part of many videos that falls to one of several machines."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from v2l.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether what is named so falls to this part. That depends on nothing but the name, so on no other file."""
        name = unicodedata.normalize("NFC", key)  # the same files are spelled otherwise on another system
        return int.from_bytes(sha256(os.fsencode(name)).digest()[:8], "big") % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """`2/8`, or `auto`: the task of a SLURM job array. UsageError."""
    if text == "auto":
        return _slurm()
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text} is not I/N with I from 1 to N, such as 1/4, nor auto.")
    return Shard(int(match[1]), int(match[2]))


def _slurm() -> Shard:
    names = ("TASK_ID", "TASK_MIN", "TASK_MAX", "TASK_COUNT", "TASK_STEP")
    given = {name: os.environ.get(f"SLURM_ARRAY_{name}", "1" if name == "TASK_STEP" else "") for name in names}
    for name, value in given.items():
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            said = f"SLURM_ARRAY_{name} is {value!r}" if value else f"there is no SLURM_ARRAY_{name}"
            raise UsageError(f"--shard auto is for the tasks of a SLURM job array, and {said}; "
                             "submit with sbatch --array, or write --shard I/N.")
    task, first, last, count, step = (int(given[name]) for name in names)
    # Of an irregular array, such as 1,2,7, the variables do not say which tasks there are.
    if step < 1 or (task - first) % step or not first <= task <= last or (last - first) // step + 1 != count:
        raise UsageError("--shard auto needs a regular SLURM job array, such as --array=0-7; write --shard I/N.")
    return Shard((task - first) // step + 1, count)
