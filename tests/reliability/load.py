"""v2l under load and interrupted, in processes as a user starts them:

    python tests/reliability/load.py parallel --count 8
    python tests/reliability/load.py adapters --count 1000
    python tests/reliability/load.py questions --count 10000
    python tests/reliability/load.py interrupts --count 50 --seed 1

`parallel`: so many `ingest` and `ask` at once, into one cache that is empty. `adapters`: so many adapters in one
`--each` batch. `questions`: so many from stdin, and one of 100,000 words. `interrupts`: SIGINT and SIGTERM at so many
random moments of each command, in a terminal and without. Each prints its figures; exit status 1 on a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.cli import MAKE, REFERENCE, command, environment, heed_interrupts
from support.hub import Hub, preset_hub

from v2l.adapter import load
from v2l.errors import V2LError
from v2l.manifest import Item, Turn, write_manifest

VIDEO, LONG = REFERENCE / "videos" / "short.mp4", REFERENCE / "videos" / "long.mp4"
QUESTION = "What color is the star?"
TRAIN = ("--model", "tiny", "--rank", 2, "--latent", 16, "--queries", 2, "--blocks", 1, "--frames", 2)
LIMIT = 300.0
"""Seconds after which a process counts as one that hangs."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    shown: str
    """All it wrote to the terminal; without one, stderr."""
    out: bytes
    seconds: float
    peak: int = 0
    """Bytes of memory it had at most; 0 where that was not watched."""


def watch(words: Sequence[object], folder: Path, stdin: bytes = b"", **changes: str) -> Ended:
    """A command to its end, without a terminal."""
    return watch_all([words], folder, stdin, **changes)[0]


def watch_all(commands: Sequence[Sequence[object]], folder: Path, stdin: bytes = b"", **changes: str) -> list[Ended]:
    """Commands at the same time, each to its end."""
    started = time.monotonic()
    running = []
    for words in commands:
        files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
        files[0].write(stdin)
        files[0].seek(0)
        process = subprocess.Popen(command(*words), cwd=folder, env=environment(**changes), stdin=files[0],
                                   stdout=files[1], stderr=files[2])
        running.append((process, files))
    ended = {}
    while len(ended) < len(running):
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if pid:
            ended[pid] = (os.waitstatus_to_exitcode(status), time.monotonic() - started, used.ru_maxrss * 1024)
        elif time.monotonic() - started > LIMIT:
            for process, _ in running:
                if process.pid not in ended:
                    process.kill()
        else:
            time.sleep(0.01)
    told = []
    for process, (_, out, err) in running:
        process.returncode, seconds, peak = ended[process.pid]
        out.seek(0)
        err.seek(0)
        told.append(Ended(process.returncode, err.read().decode(errors="replace"), out.read(), seconds, peak))
    return told


# -- many at once ----------------------------------------------------------------------------------------------------


def parallel(folder: Path, count: int) -> list[str]:
    """So many `ingest` of one video, converting the same checkpoint into an empty cache, then as many `ask`."""
    findings = []
    for empty in ("cache", "other"):
        words = [("ingest", VIDEO, "-o", folder / f"{i}.v2lora", "--force", *MAKE) for i in range(count)]
        made = watch_all(words, folder, V2L_CACHE=str(folder / empty), OMP_NUM_THREADS="1")
        findings += [f"ingest ended with {each.status}: {each.shown}" for each in made if each.status]
        if len({(folder / f"{i}.v2lora").read_bytes() for i in range(count)}) > 1:
            findings.append("the adapters differ")
        _tell("ingest", made)
    asked = watch_all([("ask", f"{i}.v2lora", "Why?", "--quiet", *MAKE[:6]) for i in range(count)], folder,
                      V2L_CACHE=str(folder / "cache"), OMP_NUM_THREADS="1")
    findings += [f"ask ended with {each.status}: {each.shown}" for each in asked if each.status or each.shown]
    if len({each.out for each in asked}) > 1:
        findings.append("the answers differ")
    _tell("ask", asked)
    left = [name for name in os.listdir(folder) if name.startswith(".")]
    return findings + [f"{name} was left" for name in left]


def _tell(what: str, ended: Sequence[Ended]) -> None:
    last = max(each.seconds for each in ended)
    print(f"{len(ended)} {what} at once: {last:.1f} s, at most {max(each.peak for each in ended) >> 20} MB each")


def adapters(folder: Path, count: int) -> list[str]:
    """So many adapters asked in one batch, against a tenth of them: in order, in memory that does not grow."""
    findings, peaks = [], []
    watch(("ingest", VIDEO, "-o", "a.v2lora"), folder)
    names = [f"{i}.v2lora" for i in range(count)]
    for name in names:
        shutil.copy(folder / "a.v2lora", folder / name)
    for some in (names[: max(64, count // 10)], names):
        (folder / "list").write_text("\n".join(some))
        ended = watch(("ask", "--each", "--adapters", "list", QUESTION, "--json", "--quiet"), folder)
        lines = [json.loads(line) for line in ended.out.splitlines()]
        if ended.status or [line["adapter"] for line in lines] != some:
            findings.append(f"{len(some)} adapters: status {ended.status}, {len(lines)} answers; {ended.shown[:300]}")
        if len({line["answer"] for line in lines}) != 1:
            findings.append("equal adapters give answers that differ")
        peaks.append(ended.peak)
        print(f"{len(some)} adapters in one batch: {ended.seconds:.1f} s, {ended.peak >> 20} MB")
    return findings + _growth(peaks)


def questions(folder: Path, count: int) -> list[str]:
    """So many questions from stdin, against a tenth of them; then one of 100,000 words between two others."""
    findings, peaks = [], []
    watch(("ingest", VIDEO, "-o", "a.v2lora"), folder)
    for some in (max(100, count // 10), count):
        asked = [f"{QUESTION} Number {i}?" for i in range(some)]
        ended = watch(("ask", "a.v2lora", "-", "--json", "--quiet"), folder, "\n".join(asked).encode())
        if ended.status or [json.loads(line)["question"] for line in ended.out.splitlines()] != asked:
            findings.append(f"{some} questions: status {ended.status}; {ended.shown[:300]}")
        peaks.append(ended.peak)
        print(f"{some} questions from stdin: {ended.seconds:.1f} s, {ended.peak >> 20} MB")
    long = " ".join(["where"] * 100_000)
    ended = watch(("ask", "a.v2lora", "-", "--quiet"), folder, f"{QUESTION}\n{long}\n{QUESTION}\n".encode())
    print(f"a question of 100,000 words: {ended.seconds:.1f} s, {ended.peak >> 20} MB, {ended.shown.strip()}")
    if ended.status != 1 or len(ended.out.splitlines()) != 2 or len(ended.shown.splitlines()) != 1:
        findings.append(f"a question of 100,000 words: status {ended.status}, {ended.shown[:300]}")
    return findings + _growth(peaks)


def _growth(peaks: Sequence[int]) -> list[str]:
    few, many = peaks
    return [f"the memory grows: {few >> 20} MB, then {many >> 20} MB"] if many > few * 1.25 + (64 << 20) else []


# -- interrupted -----------------------------------------------------------------------------------------------------


def interrupted(words: Sequence[object], folder: Path, at: float | bytes | None, number: int, terminal: bool,
                **changes: str) -> Ended:
    """A command that gets a signal `at` seconds after its start, or as soon as it has shown a text, or none."""
    end, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    if not terminal:
        inner, outer = os.pipe()
        streams = {"stdin": subprocess.DEVNULL, "stdout": outer, "stderr": outer}
    started = time.monotonic()
    with subprocess.Popen(command(*words), cwd=folder, env=environment(TERM="xterm", OMP_NUM_THREADS="1", **changes),
                          **streams, start_new_session=True, preexec_fn=heed_interrupts) as process:
        source, shown, sent = end if terminal else inner, b"", at is None
        while process.poll() is None or select.select([source], [], [], 0)[0]:
            passed = time.monotonic() - started
            if not sent and (at in shown if isinstance(at, bytes) else passed >= at):
                process.send_signal(number)
                sent = True
            if passed > LIMIT:
                process.kill()
                shown += b"It hangs."
            wait = min(0.02, max(0.0, at - passed)) if isinstance(at, float) else 0.02
            if select.select([source], [], [], wait)[0]:
                shown += os.read(source, 1 << 16)
        seconds = time.monotonic() - started
    if termios.tcgetattr(theirs) != before:
        shown += b"The terminal's settings are others."
    for handle in (end, theirs, *([] if terminal else [inner, outer])):
        os.close(handle)
    return Ended(process.returncode, shown.decode(errors="replace"), b"", seconds)


def on_screen(shown: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", shown):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.endswith("A") and piece[0] == "\x1b":
            row = max(0, row - int(piece[2:-1] or 1))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece[0] != "\x1b":
            lines[row] = lines[row].ljust(column)[:column] + piece + lines[row][column + len(piece):]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


def faults(ended: Ended, folder: Path, number: int, keeps: set[str]) -> list[str]:
    """What is wrong after an interrupt. `keeps` are names that may be there besides whole adapters."""
    wrong = []
    told, status = ("Interrupted.", 130) if number == signal.SIGINT else ("Terminated.", 143)
    lines = on_screen(ended.shown)
    if ended.status in (1, -number) and not re.search(rf"{told}|Error: |, in main\n", ended.shown):
        return []  # Python itself was still on its way to `v2l.__main__.main`, the first tenth of a second
    if ended.status not in (0, status):
        wrong.append(f"status {ended.status}")
    if ended.status == status and lines[-1:] != [told] and not lines[-1].endswith(told):
        wrong.append(f"it ended with {lines[-1:]}")
    for word in ("Traceback", "gnored", "bug in v2l", "It hangs.", "The terminal's settings", "Error: "):
        if word in ended.shown:
            wrong.append(word)
    if "\x1b[?25l" in ended.shown and ended.shown.rfind("\x1b[?25h") < ended.shown.rfind("\x1b[?25l"):
        wrong.append("the cursor is hidden")
    if any("━" in line for line in lines):
        wrong.append("a bar is left")
    for path in folder.iterdir():
        if path.suffix == ".v2lora":
            try:
                load(path)
            except V2LError as error:
                wrong.append(str(error))
        elif path.name not in keeps and not re.fullmatch(r"\..*\.parts", path.name):
            wrong.append(f"{path.name} was left")
    return wrong


COMMANDS: dict[str, tuple[Sequence[object], set[str]]] = {
    "ingest": (("ingest", "a.mp4", "-o", "new.v2lora"), set()),
    "segments": (("ingest", "long.mp4", "--segment", "2s", "-o", "new.v2lora"), set()),
    "ask": (("ask", "a.v2lora", QUESTION), set()),
    "each": (("ask", "--each", "a.v2lora", "long.v2lora", QUESTION), set()),
    "compose": (("compose", "a.v2lora", "long.v2lora", "-o", "c.v2lora"), set()),
    "bench": (("bench", "a.mp4", "--repeat", 1), set()),
    "train": (("train", "run", "clips.jsonl", *TRAIN, "--steps", 20, "--every", 10, "-o", "mine"), {"mine"}),
    "pull": (("models", "pull", "500m"), {"hub", "cache"}),
}


def interrupts(folder: Path, count: int, seed: int, names: Sequence[str]) -> list[str]:
    """SIGINT and SIGTERM at random moments of each command, every second time in a terminal."""
    with preset_hub() as hub:
        hub.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client went away
        return _interrupts(folder, count, seed, names, hub)


def _interrupts(folder: Path, count: int, seed: int, names: Sequence[str], hub: Hub) -> list[str]:
    findings = []
    made = folder / "made"
    made.mkdir()
    shutil.copy(VIDEO, made / "a.mp4")
    shutil.copy(LONG, made / "long.mp4")
    for name in ("a", "long"):
        watch(("ingest", f"{name}.mp4", "-o", f"{name}.v2lora"), made)
    write_manifest(made / "clips.jsonl", [Item("a", VIDEO, (Turn("What?", ("A ball.",)),))])
    keeps = {path.name for path in made.iterdir()}
    for name in names or COMMANDS:
        words, more = COMMANDS[name]
        places = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": "hub", "V2L_CACHE": "cache"} if name == "pull" else {}
        draw, tally = random.Random(f"{seed} {name}"), Counter[int]()
        whole, last = 0.0, 0.0
        for i in range(count + 1):
            work = folder / "work"
            shutil.copytree(made, work)
            number = (signal.SIGINT, signal.SIGINT, signal.SIGTERM)[i % 3]
            at = draw.uniform(0.05, max(0.5, whole)) if i else None
            ended = interrupted(words, work, at, number, i % 2 == 0, **places)
            whole = whole or ended.seconds
            last = max(last, ended.seconds - at) if at and ended.status else last
            tally[ended.status] += 1
            wrong = faults(ended, work, number, keeps | more)
            findings += [f"{name}, {number!r} at {at or 0:.3f} s: {fault}\n{ended.shown[-600:]}" for fault in wrong]
            shutil.rmtree(work)
        print(f"{name}: {count} interrupts within {whole:.1f} s; statuses {dict(tally)}; gone within {last:.1f} s")
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["parallel", "adapters", "questions", "interrupts"])
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", action="append", default=[], choices=list(COMMANDS), help="of interrupts; or all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["V2L_CACHE"] = str(Path(name, "cache"))
        folder = Path(name, "here")
        folder.mkdir()
        if given.what == "interrupts":
            findings = interrupts(folder, given.count, given.seed, given.command)
        else:
            findings = {"parallel": parallel, "adapters": adapters, "questions": questions}[given.what](folder,
                                                                                                       given.count)
    for finding in findings:
        print(f"FINDING {finding}")
    print(f"{given.what}: {len(findings)} findings")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
