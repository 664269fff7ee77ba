"""The standing questions of `v2l watch`: what each segment answers is printed, and a command run where it is yes."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from v2l.cli.console import Console, clean, columns, harmless, write, write_json
from v2l.cli.wrap import wrap_lines
from v2l.errors import UsageError
from v2l.wording import wall_span_text

if TYPE_CHECKING:
    from v2l.live.on_yes import OnYes
    from v2l.live.standing import StandingAnswer, StandingQuestions
    from v2l.live.watching import Watched


def check_standing(questions: Sequence[str], on_yes: str | None, threshold: float | None) -> None:
    """UsageError where the options make no sense together."""
    from v2l.model.claims import is_open

    for name, value in (("--on-yes", on_yes), ("--threshold", threshold)):
        if value is not None and not questions:
            raise UsageError(f"{name} is for a standing question; name one with --ask.")
    if on_yes is not None and not on_yes.strip():
        raise UsageError("--on-yes is empty; name a command.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question of --ask is empty; say what to ask.")
    if on_yes is not None and (asked := next(filter(is_open, questions), None)):
        raise UsageError(f"{asked!r} is not answered with yes or no, and --on-yes runs a command when one becomes yes; "
                         "ask whether something is there, such as \"Is someone at the door?\".")


class StandingPrinter:
    """Asks each segment, prints what it answers, and has the command run."""

    def __init__(self, console: Console, json: bool, standing: StandingQuestions, on_yes: OnYes | None, lock: Lock
                 ) -> None:
        """`lock` is held while something is printed: another thread draws the bar."""
        self._console, self._json, self._standing, self._on_yes = console, json, standing, on_yes
        self._lock = lock
        self._told: set[str] = set()

    def of(self, watched: Watched) -> None:
        """Puts the questions to a segment. V2LError."""
        from v2l.live.standing import answer_document, answer_environment

        for answer in self._standing.answers(watched.segment):
            with self._lock:
                self._tell_unknown(answer)
                self._console.aside()
                if self._json:
                    write_json(answer_document(watched, answer))
                else:
                    self._write(watched, answer)
            if self._on_yes:
                self._on_yes.take(answer, answer_environment(watched, answer))

    def _tell_unknown(self, answer: StandingAnswer) -> None:
        """Says once of a question that the model does not know it."""
        if not answer.known and answer.question not in self._told:
            self._told.add(answer.question)
            self._console.warn(f"{self._standing.model} does not know what {answer.question!r} asks, so no answer "
                               "to it counts as yes; say it in other words, or name another model with --model.")

    def _write(self, watched: Watched, answer: StandingAnswer) -> None:
        score = "" if answer.score is None else f" ({answer.score:.1f})"
        text = clean(f"{watched.file.path}: {wall_span_text(watched.start, watched.end)}: {answer.question} "
                     f"{harmless(' '.join(answer.text.split()))}{score}")
        write(wrap_lines(text, width) if (width := columns()) else text)
