"""Disks that fail and runs that meet: `python tests/reliability/faults.py [--count 120] [--seed 1] [--only NAME ...]`.

The works of `kill.py`. First, from a random call on that makes, renames or removes a file, the system's answer is an
error: no space, quota, permission, read-only, an I/O error, a mount that went away. The run must end with status 1 and
sentences that say so, or do without (a cache); what has a final name must be whole; and when the disk is well again,
the same command must finish. Then each work is run by two processes at once, a random while apart: both must end well,
with the files of one. Exit status 1 on a finding.
"""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability.kill import Place, Strike, Work, arguments, finish, left, start, tree, works

GONE = (errno.EIO, errno.ESTALE, errno.EROFS)
"""Nothing there can be changed any more."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES)
"""Nothing can be made."""
_MAKES = ("open", "os.mkdir", "os.symlink", "os.link")


def failing(number: int, code: int) -> Strike:
    """From the call of that number on, this error."""
    def strike(call: int, event: str) -> None:
        if call >= number and (event in _MAKES or (code in GONE and event != "shutil.rmtree")):  # no call itself
            raise OSError(code, os.strerror(code))
    return strike


def failed(place: Place, random_: random.Random) -> Iterator[str]:
    """One work on a disk that fails; what is wrong with how it went."""
    number, code = random_.randint(1, place.calls), random_.choice(GONE + FULL)
    status = finish(place.begin(failing(number, code)))
    moment = f"{place.work.name}, {errno.errorcode[code]} from call {number} on"
    errors = [line for line in place.log().splitlines() if line.startswith("Error: ")]
    told = errors and all(line.endswith(".") for line in errors)
    if status not in (0, 1) or (status == 1 and not told) or "bug in v2l" in place.log() or "Traceback" in place.log():
        yield f"{moment}: status {status}, {place.log()!r}"
    yield from (f"{moment}: {fault}" for fault in (*place.wrong(), *place.after_all()))


def together(place: Place, random_: random.Random) -> Iterator[str]:
    """One work, done by two processes at once."""
    first = place.begin()
    apart = random_.uniform(0, place.seconds / 2)
    time.sleep(apart)
    statuses = finish(start(place.trial, place.work.words)), finish(first)
    faults = [*([f"statuses {statuses}, {place.log()}"] if any(statuses) else []), *left(tree(place.trial), place.made)]
    yield from (f"{place.work.name}, twice, {apart:.3f} s apart: {fault}" for fault in faults)


def try_out(work: Work, count: int, random_: random.Random) -> list[str]:
    """So many failing disks, and half as many meetings."""
    with tempfile.TemporaryDirectory(prefix="v2l-faults-") as temporary:
        place = Place(work, Path(temporary))
        found = [fault for _ in range(count) for fault in failed(place, random_)]
        return found + [fault for _ in range(-(-count // 2)) for fault in together(place, random_)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=120, help="failing disks in all; half as many meetings")
    asked = parser.parse_args()
    total = 0
    with works(asked.only) as chosen:
        each = -(-asked.count // len(chosen))
        for work in chosen:
            found = try_out(work, each, random.Random(f"{asked.seed} {work.name}"))
            print(f"{work.name}: {each} failing disks, {-(-each // 2)} meetings, {len(found)} faults")
            print("".join(f"{fault}\n" for fault in found), end="", flush=True)
            total += len(found)
    print(f"{each * len(chosen)} failing disks, {-(-each // 2) * len(chosen)} meetings, {total} faults")
    return bool(total)


if __name__ == "__main__":
    sys.exit(main())
