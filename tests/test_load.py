"""v2l under load and interrupted: many at once, much at once, Ctrl-C at any moment, odd terminals and surroundings."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from reliability.load import faults, interrupted, on_screen
from support.adapters import make
from support.cli import MAKE, MODEL, REFERENCE, command, environment, refused, run
from support.processes import Beside
from test_train_run import TRAIN

from v2l.adapter import load, save
from v2l.cli.ask import question_batches
from v2l.errors import UsageError
from v2l.manifest import Item, Turn, write_manifest
from v2l.system.lock import Busy, alone

VIDEOS = REFERENCE / "videos"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(VIDEOS / "long.mp4", tmp_path)
    return tmp_path


# Two at once.


def test_a_lock_is_held_by_one_and_opened_by_death(here: Path) -> None:
    lock, told = here / "lock", []
    other = Beside("from v2l.system.lock import alone; from pathlib import Path; import os, time",
                   "with alone(Path('lock')): print('mine', flush=True); input(); os._exit(0)")
    other.go()
    assert other.process.stdout is not None and other.process.stdout.readline() == "mine\n"
    with pytest.raises(Busy), alone(lock):
        raise AssertionError("held twice")
    killer = threading.Timer(0.3, other.process.kill)
    killer.start()
    with alone(lock, lambda: told.append(time.monotonic())):
        assert len(told) == 1 and other.process.wait(10) != 0
        assert lock.exists()  # the one the dead process left, taken over
    assert not lock.exists()
    other.process.communicate()
    with alone(here / "nowhere" / "lock"):  # no lock can be had there
        pass


def test_a_lock_counts_one_by_one(here: Path) -> None:
    """Where it is taken away and made again all the time, still nobody is in it twice."""
    count = """
for _ in range(150):
    with alone(Path("lock"), lambda: None, patience=0.0005):
        number = int(Path("number").read_text())
        Path("number").write_text(str(number + 1))
"""
    Path("number").write_text("0")
    setup = "from pathlib import Path; from v2l.system.lock import alone"
    both = [Beside(setup, count) for _ in range(3)]
    for each in both:
        each.go()
    for each in both:
        each.result()
    assert Path("number").read_text() == "450" and not Path("lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_where_there_are_no_locks_work_goes_on_and_nothing_stays(here: Path, monkeypatch: pytest.MonkeyPatch,
                                                                 number: int) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(here / "lock"), alone(here / "lock"):
        assert os.listdir() == ["long.mp4"]
    run("ingest", "long.mp4", "-o", "long.v2lora", "--segment", "30s", *MAKE)
    assert sorted(os.listdir()) == ["long.mp4", "long.v2lora"]


def test_two_runs_to_one_segmented_output(here: Path) -> None:
    words = command("ingest", "long.mp4", "-o", "long.v2lora", "--segment", "10s", *MAKE)
    both = [subprocess.Popen(words, env=environment(OMP_NUM_THREADS="1"), stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.PIPE) for _ in range(2)]
    told = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0] and [out for out, _ in told] == ["long.v2lora\n"] * 2
    assert sorted("is up to date" in err for _, err in told) == [False, True]
    assert len(load("long.v2lora").segments) > 1
    assert sorted(os.listdir()) == ["long.mp4", "long.v2lora"]


def test_two_trainings_in_one_folder(here: Path) -> None:
    write_manifest("clips.jsonl", [Item("long", VIDEOS / "short.mp4", (Turn("What?", ("A ball.",)),))])
    words = ("train", "run", "clips.jsonl", *TRAIN, "--steps", 1, "-o", "mine", "-q")
    Path("mine").mkdir()
    with alone(Path("mine/.v2l.lock")):
        assert refused(*words) == "Another run is training in mine; wait for its end, or name another folder."
        assert os.listdir("mine") == [".v2l.lock"]


# Much at once.


def test_a_question_of_100000_words_fails_alone(here: Path) -> None:
    run("ingest", VIDEOS / "short.mp4", "-o", "a.v2lora", *MAKE)
    words = ("ask", "a.v2lora", "-", *MODEL, "--max-new-tokens", 2)
    result = run(*words, stdin="Why?\n" + "where is it " * 33_334 + "\nWho?\n", status=1)
    assert result.stderr.splitlines() == [
        "Q: Why?", "Error: The question 'where is it where i…e is it where is it ' is 300,018 tokens long and the base "
        "tiny-vlm reads no more than 8,192; ask a shorter one.", "Q: Who?"]


def test_a_line_of_stdin_without_an_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return b"x" * size

        read1 = read

    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": Endless()})())
    with pytest.raises(UsageError, match="A line of stdin is longer than 8 MB; give each name or question a line"):
        list(question_batches(["-"]))


# Interrupted (test_interrupts.py has the signals by themselves).


def test_an_interrupt_in_a_terminal(here: Path) -> None:
    """While a bar is shown: it is gone, the cursor and the settings are back, nothing half-written is there."""
    words = ("ingest", "long.mp4", "--frames", 900, "--fps", 10, "--resolution", 160, *MAKE)
    ended = interrupted(words, here, b"/900", signal.SIGINT, terminal=True)
    assert "━" in ended.shown and ended.status == 130 and faults(ended, here, signal.SIGINT, {"long.mp4"}) == []


def test_interrupts_of_compose(here: Path) -> None:
    save(make(1), "a.v2lora")
    save(make(2, start=20.0, end=30.0), "b.v2lora")
    statuses = set()
    for at in (0.15, 0.2, 0.3, 60.0):
        ended = interrupted(("compose", "a.v2lora", "b.v2lora", "-o", "c.v2lora"), here, at, signal.SIGINT, False)
        assert faults(ended, here, signal.SIGINT, {"long.mp4"}) == [], ended.shown
        statuses.add(ended.status)
    assert 0 in statuses and load("c.v2lora").total_rank == 8


def test_the_screen_of_the_tests() -> None:
    assert on_screen("one\r\n\x1b[?25ltwo\r\x1b[2Kthree\r\n\x1b[?25h\r\x1b[1A\x1b[2Kfour\r\n") == ["one", "four"]
    assert on_screen("abc\rX") == ["Xbc"]


# Ways out.


def test_what_is_not_there_is_told_with_the_way_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "leave --device out to take the best there is" in refused("bench", "long.mp4", "--device", "cuda:99")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    assert "check the network and try again" in refused("models", "pull", "500m")


# Odd surroundings.


@pytest.mark.parametrize("changes", [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1", "TERM": "dumb", "NO_COLOR": "1", "TMPDIR": "/proc/none", "HOME": "/proc/none"},
], ids=["C", "latin-1, no home"])
def test_other_locales(here: Path, changes: dict[str, str]) -> None:
    """Names reach a pipe byte for byte and can be read back; questions are UTF-8; a full stderr is no matter."""
    name = "ü\U0001f600 x".encode()
    shutil.copy(VIDEOS / "short.mp4", name + b".mp4")
    env = environment(**changes)
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("ingest", os.fsdecode(name + b".mp4")), env=env, stdout=subprocess.PIPE,
                              stderr=full, timeout=120)
    assert (done.returncode, done.stdout) == (0, name + b".v2lora\n")
    words = command("ask", "--each", "--adapters", "-", "W\u00e4r?", "--json", "--max-new-tokens", 2, "-q")
    asked = subprocess.run(words, env=env, input=done.stdout, capture_output=True, timeout=120)
    assert (asked.returncode, asked.stderr) == (0, b"")
    assert json.loads(asked.stdout)["question"] == "W\u00e4r?"
