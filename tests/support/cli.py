"""Running the command line in the tests: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from typer.testing import CliRunner, Result

from v2l.cli.app import app

REFERENCE = Path(__file__).parents[1] / "reference"
ROOT = Path(__file__).parents[2]
MODEL = ("--model", str(REFERENCE / "tiny-vlm"), "--dtype", "float32", "--device", "cpu")
MAKE = (*MODEL, "--checkpoint", str(REFERENCE / "hypernetwork.pt"), "--resolution", "64")

typer.main.get_group = cache(typer.main.get_group)  # the commands are made once, not for each run: 34 ms


class Typing(CliRunner):
    """Gives a command a stdin that says it is a terminal."""

    @contextmanager
    def isolation(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with super().isolation(*args, **kwargs) as streams:
            sys.stdin.isatty = lambda: True  # type: ignore[method-assign]
            yield streams


def run(*words: object, stdin: str | bytes | None = None, typed: bool = False, status: int = 0) -> Result:
    """A command in this process; its exit status must be `status`. `typed`: stdin comes from a terminal."""
    result = (Typing if typed else CliRunner)().invoke(app, [str(word) for word in words], input=stdin, prog_name="v2l")
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result


def refused(*words: object, status: int = 1, stdin: str | None = None) -> str:
    """The one sentence a command fails with; it must print nothing else."""
    result = run(*words, stdin=stdin, status=status)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: ") and lines[0].endswith("."), lines
    return lines[0].removeprefix("Error: ")


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "v2l", *map(str, words)]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def heed_interrupts() -> None:
    """For a child's `preexec_fn`: a shell starts what runs in its background deaf to SIGINT, nohup to SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def process(*words: object, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(command(*words), cwd=cwd, env=environment(**changes), capture_output=True, text=True,
                          timeout=240)
