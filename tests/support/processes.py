"""A second process at the same time, and a disk that is full."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = str(Path(__file__).parents[2])


class Beside:
    """A Python process that has made its imports and waits at the line; `go` lets it run `code`."""

    def __init__(self, imports: str, code: str) -> None:
        run = f"{imports}\nprint('ready', flush=True); input()\n{code}"
        env = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, "-c", run], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> str:
        output = self.process.communicate(timeout=250)[0]
        assert self.process.returncode == 0
        return output.strip()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing on beyond so many bytes fails, by the system's hand, much as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
