"""Files that survive: kills, full and vanished disks, processes at the same time, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

from v2l import files
from v2l.files import replacing

KILL = str(Path(__file__).parent / "reliability" / "kill.py")


# Killed.


def test_kills() -> None:
    """A few; by hand hundreds (see there). In a process of its own, which forks and so must know no threads."""
    done = subprocess.run([sys.executable, KILL, "--kills", "21", "--seed", "2"], capture_output=True, text=True,
                          timeout=250, env={**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("21 kills, ")


def test_the_next_run_removes_what_a_killed_one_left_and_not_what_another_writes(tmp_path: Path) -> None:
    code = "with replacing(sys.argv[1]) as f:\n f.write(b'half'); f.flush(); print('there', flush=True); input()"
    writers = [subprocess.Popen([sys.executable, "-c", f"import sys\nfrom v2l.files import replacing\n{code}",
                                 str(tmp_path / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": ROOT}) for name in ("dead", "alive")]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "there\n"
    writers[0].kill()
    writers[0].wait()
    assert len(list(tmp_path.iterdir())) == 2
    files._sweep.cache_clear()
    with replacing(tmp_path / "next") as file:
        file.write(b"whole")
    assert len(list(tmp_path.iterdir())) == 2  # what is alive, and this
    writers[1].communicate("\n", timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {"alive", "next"}


def test_a_file_swept_before_it_was_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making it and locking it another process may take it for left over."""
    lock, swept = files.fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole" and len(swept) == 1 == len(list(tmp_path.iterdir()))
