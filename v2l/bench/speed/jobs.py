"""Processes that measure: a job for `worker`, and `v2l ask` itself from its start to its first token."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import v2l
from v2l.bench.speed.cells import Cold
from v2l.errors import UsageError, V2LError

Run = Callable[[dict[str, Any], float], dict[str, Any]]
"""Performs a job within so many seconds. Errors: NoFigures, UsageError."""


class NoFigures(V2LError):
    """A job that measured nothing; `status` is as in `cells.Missing`."""

    def __init__(self, status: Any, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def run_job(job: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """`worker.perform_job` in a process of its own; `job["result"]` is a file that may be written."""
    result = Path(job["result"])
    result.unlink(missing_ok=True)
    with TemporaryFile() as messages, subprocess.Popen(
        [sys.executable, "-m", "v2l.bench.speed.worker", str(result)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=messages, env=_environment(),
    ) as process:
        try:
            process.communicate(json.dumps(job).encode(), timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise NoFigures("stopped", "it took longer than the budget allows") from None
        finally:
            process.kill()  # whatever ends this ends it too
        if not result.exists():
            raise _died(process.returncode, messages)
    outcome: dict[str, Any] = json.loads(result.read_text())
    if outcome.get("exit_status") == UsageError.exit_status:
        raise UsageError(outcome["failed"])
    for status in ("failed", "did not fit"):
        if status in outcome:
            raise NoFigures(status, outcome[status])
    return outcome


def _died(status: int, messages: Any) -> NoFigures:
    """Why a process ended that left no result."""
    if hasattr(signal, "SIGKILL") and status == -signal.SIGKILL:
        return NoFigures("did not fit", "the system ended the process; the memory did not suffice")
    messages.seek(0)
    lines = messages.read().decode(errors="replace").strip().splitlines()
    return NoFigures("failed", " ".join((lines[-1] if lines else f"the process ended with status {status}").split()))


def cold_start(words: Sequence[object], repeats: int) -> Cold:
    """`v2l` with these words as a whole process, several times; medians, and the most memory."""
    runs = [_start(words) for _ in range(repeats)]
    peaks = [peak for _, _, peak in runs if peak is not None]
    return Cold(statistics.median(first for first, _, _ in runs), statistics.median(total for _, total, _ in runs),
                max(peaks, default=None), repeats)


def _start(words: Sequence[object]) -> tuple[float, float, int | None]:
    """Seconds to the first byte on stdout and to the end, and the process's peak memory in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "v2l", *map(str, words)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment())
    with process:
        try:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.read(1)
            first_s = time.perf_counter() - started
            process.stdout.read()
            messages = process.stderr.read()
            peak = None
            if hasattr(os, "wait4"):
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            else:
                process.wait()
            total_s = time.perf_counter() - started
        finally:
            process.kill()
    if process.returncode != 0:
        lines = messages.decode(errors="replace").strip().splitlines()
        raise NoFigures("failed", lines[-1] if lines else "v2l ask ended without a word")
    return first_s, total_s, peak


def _environment() -> dict[str, str]:
    """Environment of this process, with this very v2l to be imported."""
    root = str(Path(v2l.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}
