"""Windows and macOS, simulated by what differs there: nobody here has either."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import environment
from support.processes import ROOT

from v2l.cli.complete_paths import video_paths
from v2l.errors import OutputError
from v2l.store.hub import Repo
from v2l.system import files
from v2l.system.files import replacing
from v2l.system.threads import usable_cores
from v2l.wording import command

EXAMPLE = Path(ROOT) / "examples" / "one-shape.mp4"
WITHOUT = f"""
import os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline"):
    sys.modules[name] = None
for room, names in ((os, ("sched_getaffinity", "pathconf", "mkfifo", "wait4", "geteuid", "getpgrp")),
                    (signal, ("SIGHUP", "SIGKILL", "pthread_kill"))):
    for name in names:
        delattr(room, name)
os.replace = lambda old, new, real=os.replace: real(old, new) if not is_open(old) else refuse()
def is_open(path):
    return any(os.path.realpath(f"/proc/self/fd/{{n}}") == os.path.realpath(path) for n in os.listdir("/proc/self/fd"))
def refuse():
    raise PermissionError(13, "The process cannot access the file because it is being used by another process")
from v2l.cli.app import main
for words in {json.dumps([
    ["ingest", str(EXAMPLE), "--frames", "2", "--segment", "6s", "-o", "a.v2lora", "--quiet"],
    ["compose", "a.v2lora", "-o", "b.v2lora", "--json"],
    ["ask", "b.v2lora", "What?", "--max-new-tokens", "2", "--join"]])}:
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""Commands in a Python that lacks what Windows's lacks, and renames no file that is open."""


def test_commands_work_without_what_windows_lacks(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, timeout=100,
                          env=environment(PYTHONIOENCODING="cp1252"))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.v2lora", "b.v2lora"] and b"one-shape.mp4" in done.stdout


def in_use(times: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has renaming fail so often as it does in Windows onto a file that another program has open."""
    tried, real = [], os.replace

    def replace(old: Path, new: Path) -> None:
        tried.append(str(new))
        if len(tried) <= times:
            error = PermissionError(errno.EACCES, "Access is denied")
            error.winerror = 5  # type: ignore[attr-defined]
            raise error
        real(old, new)

    monkeypatch.setattr(files, "PATIENCE", 0.05)
    monkeypatch.setattr(os, "replace", replace)
    return tried


def test_a_file_that_a_virus_scanner_has_open_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = in_use(3, monkeypatch)
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert len(tried) == 4 and (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_that_stays_open_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"before")
    in_use(1000, monkeypatch)
    with pytest.raises(OutputError, match="it may not be written, or another program has it open; close that"), \
            replacing(tmp_path / "a") as file:
        file.write(b"after")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"before"


@pytest.mark.parametrize("knows", [True, False])
def test_bytes_reach_the_disk_of_a_mac(knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def full(handle: int, what: int) -> None:
        asked.append(what)
        if not knows:
            raise OSError(errno.ENOTSUP, "")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda handle: asked.append("fsync"))
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert asked == [51, 51] if knows else asked == [51, "fsync", 51, "fsync"]  # the file, and the folder


def test_a_closed_console_is_a_call_to_end(tmp_path: Path) -> None:
    code = ("import os, signal; signal.SIGBREAK = signal.SIGUSR1; from v2l.system import interrupts\n"
            "interrupts.listen()\ntry: os.kill(os.getpid(), signal.SIGUSR1)\n"
            "except KeyboardInterrupt as error: print(interrupts.message_and_status(error))")
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "('Terminated.', 143)\n", done.stderr


def test_commands_are_quoted_as_shells_on_windows_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        typed = command("ask", r"C:\My Videos\a.v2lora", r"D:\b.v2lora", "-c.v2lora")
    assert typed == r'v2l ask "C:\My Videos\a.v2lora" D:\b.v2lora ./-c.v2lora'
    assert command("ask", r"C:\b.v2lora") == r"v2l ask 'C:\b.v2lora'"


def test_tab_goes_on_after_a_backslash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talks\\").mkdir()
    Path("talks\\", "lecture.mp4").touch()
    with monkeypatch.context() as windows:
        windows.setattr(os, "sep", "\\")
        found = video_paths("talks\\le")
    assert found == ["talks\\lecture.mp4"] and video_paths("talks\\le") == []


@pytest.mark.parametrize("path", [r"C:\models\mine", "C:/models/mine", r"models\mine", r"\\server\share\mine",
                                  r"..\mine"])
def test_a_path_of_windows_is_no_repository(path: str) -> None:
    assert Repo.parse(path) is None


def test_cores_are_counted_where_nothing_tells_of_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path, tmp_path / "none") == 6
