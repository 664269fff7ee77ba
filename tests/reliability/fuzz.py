"""Mutated and crafted files against everything of v2l that reads a file of a stranger's.

    python tests/reliability/fuzz.py --count 10000 --seed 1
    python tests/reliability/fuzz.py released --count 500 --only 1234

Each input must either be refused by one sentence (V2LError) or read as an independent reader reads it, in bounded time
and memory, and without a program being started, a connection opened or a file read that lies elsewhere; inputs that are
valid must be accepted. Prints a line of figures a format; ends with 1 and the seeds of the findings if there are any.
The same seed gives the same inputs; `--only N` runs the Nth alone.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Protocol

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

SECONDS = 20.0
"""That reading one input may take, on a busy machine."""
GROWTH = 400 << 20
"""Bytes by which the process may be larger at its largest than after the first valid inputs."""
ADDRESS_SPACE = 12 << 30
LONGEST = 4000
"""Characters of an error's sentence."""


class Format(Protocol):
    """A kind of file, and who reads it."""

    name: str

    def write(self, random: Random) -> bool:
        """Makes the next input; True if it is a valid one, which must be accepted."""

    def read(self) -> None:
        """Reads it with v2l. Raises what v2l raises, and AssertionError where another reader does not agree."""


class TooSlow(Exception):
    """Reading took longer than `SECONDS`."""


@dataclass
class Figures:
    """What became of the inputs."""

    name: str
    accepted: int = 0
    refused: int = 0
    sentences: set[str] = field(default_factory=set)
    """The first words of refusals."""
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds of computing, and of which input."""
    growth: int = 0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.accepted + self.refused + len(self.findings)} inputs, {self.accepted} accepted, "
            f"{self.refused} refused in {len(self.sentences)} ways, slowest {self.slowest[0]:.2f} s "
            f"(input {self.slowest[1]}), memory +{self.growth >> 20} MB, {len(self.findings)} findings"
        )


def run(format: Format, count: int, seed: int, only: int | None = None) -> Figures:
    """Reads so many inputs of a format."""
    from v2l.errors import V2LError

    figures = Figures(format.name)
    peak = 0
    for number in range(count) if only is None else [only]:
        random = Random(f"{format.name} {seed} {number}")
        valid = format.write(random)
        started = time.process_time()
        try:
            with _guarded():
                format.read()
            figures.accepted += 1
        except V2LError as error:
            wrong = "a valid file was refused" if valid else _told_badly(str(error))
            if wrong:
                figures.findings.append(f"{number}: {wrong}: {str(error)[:300]!r}")
            figures.refused += not wrong
            figures.sentences.add(" ".join(word for word in str(error).split() if "/" not in word)[:60])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            figures.findings.append(
                f"{number}: {type(error).__name__}: {str(error)[:300]!r} in {last.filename}, line {last.lineno}"
            )
            if only is not None:
                traceback.print_exc()
        figures.slowest = max(figures.slowest, (time.process_time() - started, number))
        largest = _largest()
        peak = peak or largest
        if number < 20 and only is None:
            peak = largest  # caches fill, modules come in
        figures.growth = largest - peak
    if figures.growth > GROWTH:
        figures.findings.append(f"the process grew by {figures.growth >> 20} MB")
    return figures


def _told_badly(sentence: str) -> str:
    """What is wrong with an error's sentence; empty where it is as it should be."""
    if not sentence.endswith("."):
        return "no sentence"
    if len(sentence) > LONGEST:
        return f"a sentence of {len(sentence)} characters"
    return ""


def _largest() -> int:
    """Bytes of the process at its largest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# What must not happen.

_watching = False
_seen: list[str] = []
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "ctypes.dlopen",
    "os.symlink",
    "os.chmod",
    "pickle.find_class",
    "webbrowser.open",
    "code.__new__",
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in _FORBIDDEN:
        _seen.append(f"{event} {arguments!r}"[:200])
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.fsdecode(arguments[0])
        if "secret" in name or "passwd" in name or ".ssh" in name:
            _seen.append(f"open {name[:200]}")


def fire(*_: object) -> None:
    """What a hostile file tries to have called."""
    _seen.append("code of the file was run")


@contextmanager
def _guarded() -> Iterator[None]:
    """Bounds the time of the block, and raises AssertionError if it did what reading a file must not."""
    global _watching

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _seen.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        assert not _seen, _seen[0]


def formats() -> dict[str, Callable[[Path], Format]]:
    """Each takes a folder to work in."""
    from reliability import documents, models, released, tensors

    return {
        kind.name: kind
        for kind in (
            tensors.Adapters,
            tensors.Hypernetworks,
            released.Checkpoints,
            models.Bases,
            documents.Manifests,
            documents.Journals,
            documents.Annotations,
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="*", help="all if none is named")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one input")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    from v2l.system import threads

    threads.contention.set_spinning = lambda spinning: None  # beside other work it opens a library, whatever is read
    sys.addaudithook(_audit)
    found = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        os.environ |= {"V2L_CACHE": f"{place}/cache", "HF_HOME": f"{place}/hf", "HF_HUB_OFFLINE": "1"}
        for name, make in formats().items():
            if chosen.formats and name not in chosen.formats:
                continue
            folder = Path(place, name)
            folder.mkdir()
            started = time.perf_counter()
            figures = run(make(folder), chosen.count, chosen.seed, chosen.only)
            print(f"{figures} ({time.perf_counter() - started:.0f} s)", flush=True)
            for finding in figures.findings[:20]:
                print(f"  {finding}", flush=True)
            found += len(figures.findings)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    import reliability.fuzz  # one module by one name, for `fire` and what it notes

    reliability.fuzz.main()
