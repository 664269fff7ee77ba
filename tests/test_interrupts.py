"""Signals: none is lost or comes in the wrong place, the exit status says what happened, a training saves first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.cli import command, environment, heed_interrupts
from torch import nn

from v2l.cli.console import Console
from v2l.errors import ModelError
from v2l.system.files import replacing
from v2l.system.interrupts import Terminated, at_the_end, interrupt_behind
from v2l.train.config import Recipe
from v2l.train.loop import Fit, Schedule
from v2l.train.optim import cosine, optimizers


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Ctrl-C is heard, though the tests be started in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


KILL = "import os, signal; os.kill(os.getpid(), signal.{})\n"


def ended(code: str, cwd: Path, prepare: Callable[[], object] = heed_interrupts, **files: str) -> tuple[int, str]:
    """Exit status and stderr of `v2l --version`, where `v2l.cli.app` is replaced by a module that runs `code`."""
    (cwd / "v2l" / "cli").mkdir(parents=True)
    for name, text in {"cli/__init__": "", "cli/app": f"def main():\n    {code}", **files}.items():
        (cwd / "v2l" / f"{name}.py").write_text(text)
    program = f"import v2l; v2l.__path__.insert(0, {str(cwd / 'v2l')!r}); from v2l.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True,
                          preexec_fn=prepare, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(("code", "files", "status", "told"), [
    (KILL.format("SIGINT"), {}, 130, "Interrupted.\n"),
    (KILL.format("SIGTERM"), {}, 143, "Terminated.\n"),
    (KILL.format("SIGHUP"), {}, 143, "Terminated.\n"),
    ("", {"cli/app": KILL.format("SIGINT") + "def main(): import time; time.sleep(20)"}, 130, "Interrupted.\n"),
    # A module that swallows whatever is raised while it is imported.
    ("import v2l.deaf, time; time.sleep(20)", {"deaf": f"try:\n    {KILL.format('SIGINT')}except BaseException: pass"},
     130, "Interrupted.\n"),
    ("import v2l.slow", {"slow": KILL.format("SIGINT") * 2 + "import time; time.sleep(20)"}, 130, "Interrupted.\n"),
    # Python prints what is raised in a finalizer, and goes on.
    (f"import time\n    class A:\n        def __del__(self): {KILL.format('SIGTERM')}    A()\n    time.sleep(20)", {},
     143, "Terminated.\n"),
    # It remembers an interrupted exec, and ends by the signal even if the interrupt was caught.
    (f"try: exec({KILL.format('SIGINT')!r})\n    except KeyboardInterrupt: raise SystemExit(130)", {}, 130, ""),
    ("import atexit\n    atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\nimport os, signal", {}, 0, ""),
], ids=["Ctrl-C", "SIGTERM", "SIGHUP", "while v2l is imported", "swallowed by an import", "twice in an import",
        "in a finalizer", "in an exec", "at the very end"])
def test_the_exit_status(tmp_path: Path, code: str, files: dict[str, str], status: int, told: str) -> None:
    assert ended(code, tmp_path, **files) == (status, told)


def test_what_a_process_was_started_to_ignore_it_ignores(tmp_path: Path) -> None:
    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    code = KILL.format("SIGINT") + "    " + KILL.format("SIGHUP") + "    raise SystemExit(7)"
    assert ended(code, tmp_path, ignore) == (7, "")


def test_an_error_in_the_wake_of_an_interrupt_is_one(tmp_path: Path) -> None:
    try:
        try:
            raise Terminated
        except KeyboardInterrupt:
            raise IndexError("pop from an empty stack")  # noqa: B904
    except IndexError as error:
        try:
            raise ModelError("It cannot be built.") from None
        except ModelError as other:
            assert isinstance(interrupt_behind(other), Terminated) and isinstance(interrupt_behind(error), Terminated)
    assert interrupt_behind(ValueError()) is None


def test_closed_streams(tmp_path: Path) -> None:
    """No file that is opened gets the number of one of them, where what a library prints would be written into it."""
    code = """import os
    from pathlib import Path
    file = os.open(Path(__file__).with_name("opened"), os.O_CREAT)
    Path(__file__).with_name("number").write_text(str(file))
    print("a message", file=__import__("sys").stderr)"""
    status, _ = ended(code, tmp_path, lambda: (os.close(0), os.close(2)))
    assert status == 0 and int((tmp_path / "v2l" / "cli" / "number").read_text()) > 2


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("ask", "--help")], ids=" ".join)
def test_stdout_that_takes_nothing(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*words), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=60)
    assert (done.returncode, done.stderr) == (1, "Error: Cannot write to stdout: No space left on device.\n")


def test_a_closed_stdout_is_told() -> None:
    done = subprocess.run(command("--version"), env=environment(), stderr=subprocess.PIPE, text=True, timeout=60,
                          preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (1, "Error: Cannot write to stdout: it is closed.\n")


def test_a_file_that_is_just_begun_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        os.close(opened(*_))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    opened = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a"):
            pass
    assert os.listdir(tmp_path) == []


def test_a_note_takes_the_bar_away_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Else it stands at the end of the bar's row, which then stays."""
    shown: list[str] = []

    class Bar:
        def __init__(self, work: object) -> None: ...

        def show(self) -> None: ...

        def hide(self) -> None:
            shown.append("hidden" + capsys.readouterr().err)

    monkeypatch.setattr("v2l.cli.bar.Bar", Bar)
    monkeypatch.setattr("v2l.cli.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("TERM", "xterm")
    console = Console(quiet=False)
    with console.working("Training"):
        console.note("Step 1 of 2")
        assert shown == ["hidden"] and capsys.readouterr().err == "Step 1 of 2\n"


# Training.


class Task:
    """Its weights are the steps taken; `then` happens in a step."""

    def __init__(self, then: dict[int, Callable[[], object]]) -> None:
        self.model, self.then = nn.Linear(1, 1), then

    def losses(self, step: int):  # type: ignore[no-untyped-def]
        yield self.model(torch.ones(1, 1)).square().sum(), 1
        self.then.get(step, lambda: None)()

    def validate(self) -> dict[str, float]:
        return {"loss": 1.0}

    def keep(self, which: str) -> None: ...

    def state(self) -> dict[str, object]:
        return self.model.state_dict()

    def restore(self, state: dict[str, object]) -> None:
        self.model.load_state_dict(state)


def fit(folder: Path, then: dict[int, Callable[[], object]], notes: list[str] | None = None) -> Fit:
    task, recipe = Task(then), Recipe(steps=9)
    return Fit(task, optimizers(task.model.named_parameters(), recipe), Schedule(9, 50, cosine(9, 0.1)), folder, {},
               note=(notes if notes is not None else []).append)


def test_a_training_is_saved_before_it_is_interrupted(tmp_path: Path) -> None:
    heard = threading.Event()
    notes: list[str] = []
    run = fit(tmp_path, {3: lambda: signal.raise_signal(signal.SIGINT), 4: heard.set}, notes)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.now.step == 4 and not heard.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = fit(tmp_path, {}, notes)
    assert again.now.step == 4 and again.run().step == 9
    assert notes[0].startswith("After step 4 all is saved and the run ends; ")
    events = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(line["event"], line["step"]) for line in events] == [("start", 0), ("start", 4), ("validation", 9)]


def test_interrupted_twice_it_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.system.interrupts.BOUNCE_S", 0.0)
    twice = lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    run = fit(tmp_path, {3: twice})
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.now.step == 3 and not (tmp_path / "training.pt").exists()
    monkeypatch.setattr("v2l.system.interrupts.BOUNCE_S", 60.0)  # and a key that bounces is pressed once
    assert fit(tmp_path, {}).now.step == 0
    run = fit(tmp_path, {3: twice})
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.now.step == 4 and fit(tmp_path, {}).now.step == 4


def test_only_the_main_thread_gets_signals() -> None:
    seen: list[bool] = []

    def work() -> None:
        with at_the_end(lambda: None) as waits:
            seen.append(waits())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
