"""The command that runs when a standing question is answered with yes, beside the watching."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Condition, Thread

from v2l.errors import V2LError
from v2l.live.standing import StandingAnswer
from v2l.wording import duration_text, shortened

COMMAND_S = 60.0
"""Seconds a command may take: what takes longer starts something of its own and ends."""
_AT_ONCE = 0.5
"""Seconds for which commands are waited for without a word."""


class OnYes:
    """A command of the shell, run once each time a question becomes yes: one at a time, in the order in which they did.

    What one question says is kept until the command has begun, and only the latest of it, so nothing piles up. Closing
    waits for what has to be run.
    """

    def __init__(self, command: str, failed: Callable[[V2LError], object], longest: float = COMMAND_S,
                 note: Callable[[str], object] = lambda text: None) -> None:
        """`failed` is told, from another thread, of a command that cannot be run, ends badly or takes too long; `note`,
        when it is closed, of what has to be waited for."""
        self._command, self._failed, self._longest, self._note = command, failed, longest, note
        self._are_yes: set[str] = set()
        self._waiting: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._changed = Condition()
        self._closing = False
        self._running: subprocess.Popen[bytes] | None = None
        self._asked = ""
        """The question whose command runs."""
        self._thread = Thread(target=self._work, name="on-yes", daemon=True)
        self._thread.start()

    def take(self, answer: StandingAnswer, environment: Mapping[str, str]) -> None:
        """Has the command run where the answer is yes and the one before was not; what is neither changes nothing."""
        if answer.yes is None:
            return
        with self._changed:
            if answer.yes and answer.question not in self._are_yes:
                self._waiting[answer.question] = environment
                self._changed.notify()
            (self._are_yes.add if answer.yes else self._are_yes.discard)(answer.question)

    def close(self) -> None:
        """Waits until all commands have ended; an interrupt meanwhile ends the one that runs, and runs no other."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        try:
            self._thread.join(_AT_ONCE)
            self._tell()
            self._thread.join()
        except BaseException:
            with self._changed:
                self._waiting.clear()
                if self._running:
                    _kill(self._running)
            raise

    def _tell(self) -> None:
        """Says what is waited for."""
        with self._changed:
            questions = [*([self._asked] if self._asked else []), *self._waiting]
        if questions:
            whose = repr(shortened(questions[0], 60)) if len(questions) == 1 else f"{len(questions)} questions"
            self._note(f"Waiting for the command of {whose} (at most {duration_text(self._longest * len(questions))}); "
                       "Ctrl-C ends it.")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._asked = ""
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                question, environment = self._waiting.popitem(last=False)
                self._asked = question
            try:
                self._run(environment)
            except V2LError as error:
                self._failed(V2LError(f"The command for {shortened(question, 60)!r} {error}"))

    def _run(self, environment: Mapping[str, str]) -> None:
        try:
            process = subprocess.Popen(self._command, shell=True, env={**os.environ, **environment},
                                       stdin=subprocess.DEVNULL, stdout=_stderr(), stderr=_stderr(),
                                       start_new_session=True)
        except (OSError, ValueError) as error:
            raise V2LError(f"cannot be run ({error}).") from error
        with self._changed:
            self._running = process
        try:
            status = process.wait(self._longest)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise V2LError(f"was ended, because it took more than {duration_text(self._longest)}; let it start in the "
                           "background what takes longer.") from None
        finally:
            with self._changed:
                self._running = None
        if status:
            how = f"with status {status}" if status > 0 else f"by signal {-status}"
            raise V2LError(f"ended {how}.")


def _stderr() -> int:
    """Where a command's output goes: stdout is for results."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or no file
        return subprocess.DEVNULL


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a command with all that it started, where the system tells what that is."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
