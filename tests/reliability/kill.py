"""Kill -9 at random moments: `python tests/reliability/kill.py [--kills 200] [--seed 1] [--only NAME ...]`.

Each work (watching, in segments too, joining, cutting apart, pulling a model from a Hub on the loopback, converting a
released checkpoint) is done once undisturbed. Then, so many times, it is begun again from where that began and killed:
every other time before one of its calls that make, rename or remove a file, else after some time. Then

- every file with a final name must be the one the undisturbed run made, or the one that stood there before;
- the same command must finish, leave the very files of the undisturbed run, and nothing of its dead predecessor.

Works are command lines, run in forks of this process, which has everything imported. Exit status 1 on a finding.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork must not find threads that are not there

from support.hub import preset_hub

from v2l.cli.app import app

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"
LIMIT = 120.0
"""Seconds a work may take."""

Tree = dict[str, bytes]
"""Path in a folder -> content; of a link, where it leads."""
_UNFINISHED = re.compile(r".*(\.v2l-[0-9a-f]+\.tmp|\.incomplete|\.lock)")
_SEGMENT = re.compile(r".*\.parts/(.+\.v2lora)")
_CLIENTS = re.compile(r"hf/hub/(\.locks/.+|.+/tmp\w+/dummy_file_(src|dst))")
"""What huggingface_hub leaves by itself: its locks, and with which it tried whether there can be links."""
_NOTE = re.compile(r"v2l/sha256/.+\.json")
"""A hash remembered for as long as a file's time of change stays the same: different in every folder."""


@dataclass(frozen=True)
class Work:
    """A command line, and what must be there before: it runs in a folder that is also its home."""

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Path], object]
    kept: str | None = None
    """Where the undisturbed run leaves the files that wait in a work folder meanwhile."""


@dataclass
class Findings:
    """What came of the kills of one work."""

    name: str
    kills: int = 0
    before_the_end: int = 0
    """Kills that came while it still ran."""
    seconds: float = 0.0
    """The undisturbed run took."""
    calls: int = 0
    """It made, that make, rename or remove a file."""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (f"{self.name}: {self.kills} kills, {self.before_the_end} before its end ({self.seconds:.2f} s, "
                f"{self.calls} calls), {len(self.faults)} faults")


# Works.


def _copy(*names: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for name in names:
            shutil.copy(ROOT / "examples" / name, folder)
    return prepare


def _adapters(folder: Path) -> None:
    """Three files to join, and one where the result goes."""
    _copy("long.mp4")(folder)
    finish(start(folder, ("ingest", "long.mp4", "--segment", "12s", "--keep-segments", "--quiet")))
    parts = sorted((folder / "long.segments-12s").iterdir())
    for name, part in zip("abc", parts, strict=True):
        part.rename(folder / f"{name}.v2lora")
    (folder / "long.v2lora").rename(folder / "abc.v2lora")
    shutil.copy(folder / "a.v2lora", folder / "week.v2lora")
    (folder / "long.segments-12s").rmdir()


def warm_up() -> None:
    """Lets this process import all that its forks will need."""
    with tempfile.TemporaryDirectory(prefix="v2l-kill-") as temporary:
        example, made = ROOT / "examples" / "one-shape.mp4", Path(temporary, "a.v2lora")
        for words in (("ingest", str(example), "-o", str(made), "--quiet"), ("info", str(made))):
            with suppress(SystemExit), redirect_stdout(io.StringIO()):
                app(words, prog_name="v2l")


@contextmanager
def works(names: Collection[str]) -> Iterator[list[Work]]:
    """Those named, or all; the Hub that one needs lives as long."""
    warm_up()
    model = ("--model", str(REFERENCE / "tiny-vlm"), "--checkpoint", str(REFERENCE / "hypernetwork.pt"))
    with preset_hub() as hub:
        os.environ["HF_ENDPOINT"] = hub.endpoint
        hub.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client was killed
        known = [
            Work("ingest", ("ingest", "one-shape.mp4", "two-shapes.mp4", "--output-dir", "out"),
                 _copy("one-shape.mp4", "two-shapes.mp4")),
            Work("segments", ("ingest", "long.mp4", "--segment", "12s", "--keep-segments", "-o", "long.v2lora"),
                 _copy("long.mp4"), "long.segments-12s"),
            Work("scenes", ("ingest", "three-shapes.mp4", "--segment", "scenes"), _copy("three-shapes.mp4")),
            Work("compose", ("compose", "a.v2lora", "b.v2lora", "c.v2lora", "-o", "week.v2lora", "--max-rank", "24",
                             "--force"), _adapters),
            Work("slice", ("slice", "abc.v2lora", "--each", "--output-dir", "out"), _adapters),
            Work("pull", ("models", "pull", "500m"), _copy()),
            Work("convert", ("ingest", "one-shape.mp4", "--resolution", "64", "--frames", "2", *model),
                 _copy("one-shape.mp4")),
        ]
        if unknown := set(names) - {work.name for work in known}:
            sys.exit(f"no work is called {', '.join(unknown)}; there are {', '.join(work.name for work in known)}")
        yield [work for work in known if not names or work.name in names]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options of whoever tries these works."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these works")
    return parser


# Doing one, and killing it.


Strike = Callable[[int, str], object]
"""Called before the nth call that changes a file in the folder, with n from 1 and its audit event."""


def start(folder: Path, words: tuple[str, ...], strike: Strike | None = None, count: Path | None = None) -> int:
    """A fork that runs the command in a folder, its messages going to FOLDER.log; `count` is told how many calls
    changed a file there."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.chdir(folder)
        for name, place in {"HOME": ".", "HF_HOME": "hf", "V2L_CACHE": "v2l"}.items():
            os.environ[name] = str(folder / place)
        nothing = os.open(os.devnull, os.O_RDWR)
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, handle in enumerate((nothing, nothing, log)):
            os.dup2(handle, number)
        calls = _watch(folder, strike)
        try:
            app(words, standalone_mode=True, prog_name="v2l")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if count is not None:
            count.write_text(str(calls[0]))
    finally:
        os._exit(status)


_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}


def _watch(folder: Path, strike: Strike | None) -> list[int]:
    """Counts the calls from now on that change a file in a folder."""
    calls = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & writes):
            if isinstance(arguments[0], int) or not Path(os.fsdecode(arguments[0])).absolute().is_relative_to(folder):
                return
            calls[0] += 1
            if strike:
                strike(calls[0], event)

    sys.addaudithook(hook)
    return calls


def kill_at(number: int) -> Strike:
    """Death before the call of that number."""
    return lambda call, _: call == number and os.kill(os.getpid(), signal.SIGKILL)


def finish(pid: int, after: float = LIMIT) -> int:
    """Its exit status; it is killed when the time is over, and then it is -9."""
    end = time.monotonic() + after
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.002)


def tree(folder: Path) -> Tree:
    """All files and links in a folder."""
    found: Tree = {}
    for where, _, names in os.walk(folder):
        for path in (Path(where, name) for name in names):
            name = str(path.relative_to(folder))
            found[name] = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
    return found


def wrong(found: Tree, before: Tree, after: Tree, kept: str | None) -> Iterator[str]:
    """Files with a final name that are neither what was there before nor what there is to be."""
    for name, content in found.items():
        segment = _SEGMENT.fullmatch(name)
        expected = after.get(f"{kept}/{segment[1]}" if segment else name)
        if _UNFINISHED.fullmatch(name) or _CLIENTS.fullmatch(name) or content in (before.get(name), expected):
            continue
        if _NOTE.fullmatch(name) or name.endswith(".parts/scenes.json"):
            try:
                json.loads(content)
            except ValueError:
                yield f"{name} is torn"
        elif segment is None or kept is not None:
            yield f"{name} is neither what was nor what is to be"


def left(found: Tree, after: Tree) -> Iterator[str]:
    """In what way the files of a run that finished differ from those of the undisturbed one."""
    here, there = ({name for name in files if not _NOTE.fullmatch(name) and not _CLIENTS.fullmatch(name)}
                   for files in (found, after))
    yield from (f"{name} is left" for name in sorted(here - there))
    yield from (f"{name} is missing" for name in sorted(there - here))
    yield from (f"{name} is another" for name in sorted(here & there) if found[name] != after[name])


class Place:
    """Where a work is tried, again and again from the same beginning; its undisturbed run is the measure."""

    def __init__(self, work: Work, temporary: Path) -> None:
        self.work, self.first, self.trial = work, temporary / "first", temporary / "trial"
        self.first.mkdir()
        work.prepare(self.first)
        self.before, count, began = tree(self.first), temporary / "count", time.monotonic()
        if status := finish(self.begin(count=count)):
            raise RuntimeError(f"{work.name} does not run: {status}, {self.log()}")
        self.seconds, self.calls, self.made = time.monotonic() - began, int(count.read_text()), tree(self.trial)

    def begin(self, strike: Strike | None = None, count: Path | None = None) -> int:
        """Its process."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.first, self.trial, symlinks=True)
        return start(self.trial, self.work.words, strike, count)

    def log(self) -> str:
        return self.trial.with_suffix(".log").read_text()

    def wrong(self) -> Iterator[str]:
        """What is not whole now."""
        return wrong(tree(self.trial), self.before, self.made, self.work.kept)

    def after_all(self) -> Iterator[str]:
        """Runs it again, undisturbed; what is amiss then."""
        if status := finish(start(self.trial, self.work.words)):
            yield f"ended with {status} when run again: {self.log()}"
        yield from left(tree(self.trial), self.made)


def try_out(work: Work, kills: int, random_: random.Random, told: Callable[[str], object] = print) -> Findings:
    """Kills one work so many times."""
    findings = Findings(work.name)
    with tempfile.TemporaryDirectory(prefix="v2l-kill-") as temporary:
        place = Place(work, Path(temporary))
        findings.seconds, findings.calls = place.seconds, place.calls
        for number in range(kills):
            die_at = random_.randint(1, findings.calls) if number % 2 else None
            delay = random_.uniform(0, findings.seconds)
            status = finish(place.begin(kill_at(die_at) if die_at else None), LIMIT if die_at else delay)
            findings.kills += 1
            findings.before_the_end += status == -signal.SIGKILL
            moment = f"{work.name}, killed " + (f"before call {die_at}" if die_at else f"after {delay:.3f} s")
            faults = [*place.wrong(), *place.after_all()]
            for fault in faults:
                told(f"{moment}: {fault}")
            findings.faults += [f"{moment}: {fault}" for fault in faults]
    return findings


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all")
    asked = parser.parse_args()
    with works(asked.only) as chosen:
        total = [try_out(work, -(-asked.kills // len(chosen)), random.Random(f"{asked.seed} {work.name}"))
                 for work in chosen]
    for findings in total:
        print(findings)
    faults = sum(len(findings.faults) for findings in total)
    kills, early = (sum(numbers) for numbers in zip(*((f.kills, f.before_the_end) for f in total), strict=True))
    print(f"{kills} kills, {early} before the end, {faults} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
