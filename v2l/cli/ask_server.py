"""`v2l ask --server`: a server answers the questions, and its answers are printed as those that are made here.

Adapters are named to the server by what they hold: it must have the very file that is asked, whatever it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from v2l.adapter.label import fingerprint_of, load_label
from v2l.adapter.record import is_foreign
from v2l.adapter.wall import When
from v2l.cli.adapters import Choice, check_exists, load_joined, note_changed, read_adapter
from v2l.cli.ask_notes import EachNotes
from v2l.cli.ask_print import Asker, Printer
from v2l.cli.console import is_terminal
from v2l.cli.inputs import base_text, tell_misfits
from v2l.cli.served_reply import ServedLine, ServedReply, error_of, next_line
from v2l.cli.server_address import ServerAddress
from v2l.config import Decoding, Strategy
from v2l.errors import V2LError
from v2l.model.answer import Answer
from v2l.strategies.answered import Answered
from v2l.wording import wall_json

AT_ONCE = 1000
"""Adapters that one request names; a request has 1 MB, and each name some 100 bytes."""


class AskServer(Asker):
    """Asks a server, of which `document` holds what is the same for all questions."""

    def __init__(self, server: ServerAddress, strategy: Strategy, choice: Choice, decoding: Decoding, printer: Printer
                 ) -> None:
        super().__init__(printer)
        self._server = server
        scale = "1/k" if strategy.segment_scale is None else strategy.segment_scale
        self._document = {"strategy": strategy.name, "segment_scale": scale, "from": _sent(choice.start),
                          "to": _sent(choice.end),
                          "video": choice.video, "max_new_tokens": decoding.max_new_tokens,
                          "temperature": decoding.temperature}

    def _lines(self, adapters: Sequence[tuple[str, str]], questions: list[str], one: bool) -> Iterator[ServedLine]:
        """The lines about answers, the name of the base in each. What questions fail by themselves is counted."""
        document = {**self._document, "adapters": adapters, "questions": questions, "one": one}
        model = None
        for line in self._server.lines("/api/ask", document):
            if line["type"] == "model":
                model = line["model"]
            elif line["type"] == "error" and "question" in line:
                self.printer.failures.add(error_of(line), "")
            elif line["type"] == "error" and "adapter" not in line:
                raise error_of(line)
            else:
                yield {**line, "model": model}


def _sent(when: When | None) -> float | str | None:
    """A bound of the segments that are asked, as JSON has it."""
    return wall_json(when) if isinstance(when, datetime) else when


class AskServerOne(AskServer):
    """Asks for one answer to each question, from one adapter or several joined."""

    def __init__(self, server: ServerAddress, names: list[str], choice: Choice, strategy: Strategy, decoding: Decoding,
                 printer: Printer) -> None:
        super().__init__(server, strategy, choice, decoding, printer)
        if len(names) == 1 and not choice:  # which needs no numpy
            check_exists(names[0])
            self._name, record = names[0], load_label(names[0]).record
            note_changed(names[0], record["sources"], printer.console)
        else:
            adapter = load_joined(names, printer.console, choice)
            self._name, record = adapter.name, adapter.record
        printer.shape.check(self._name, record["sources"])
        self._adapters = [(fingerprint_of(name, load_label(name)), name) for name in names]
        self._facts: dict[str, Any] = {"adapter": names[0] if len(names) == 1 else names, "model": None}
        if is_foreign(record):
            self._facts |= printer.foreign(self._name)

    def ask(self, questions: list[str]) -> None:
        printer, facts = self.printer, self._facts
        with printer.console.working("Thinking"):
            lines = self._lines(self._adapters, questions, True)
            for line in lines:
                facts["model"] = line["model"]
                told = Answered.read(line["told"])
                if printer.shape.timeline:
                    printer.question(told.question)
                    printer.timeline(told, facts, None)
                    continue
                printer.notes(told, self._name)
                first = next_line(lines)
                if first["type"] == "piece":
                    printer.reply(ServedReply(first, lines), told.question, told.elapsed, facts | told.origin)
                else:
                    printer.answer(Answer(**first["answer"]), told.question, told.elapsed, facts | told.origin)


class AskServerEach(AskServer):
    """Asks each adapter by itself."""

    def __init__(self, server: ServerAddress, names: list[str], choice: Choice, strategy: Strategy, decoding: Decoding,
                 printer: Printer) -> None:
        super().__init__(server, strategy, choice, decoding, printer)
        self._names, self._choice = names, choice
        self._notes = EachNotes(printer.console, printer.foreign, choice, len(names))

    def ask(self, questions: list[str]) -> None:
        self._notes.begin()
        with self.printer.console.working("Thinking"):
            for start in range(0, len(self._names), AT_ONCE):
                self._ask_some(self._names[start : start + AT_ONCE], questions, start)
        self._notes.tell()

    def _ask_some(self, names: list[str], questions: list[str], before: int) -> None:
        printer = self.printer
        adapters: list[tuple[str, str]] = []
        records = []
        for name in names:
            try:
                check_exists(name)
                label = load_label(name)
                if self._choice:
                    self._notes.chosen(read_adapter(name))
                self._notes.changed(name, label.record["sources"])
                adapters.append((fingerprint_of(name, label), name))
                records.append(label.record)
            except V2LError as error:
                printer.failed(error, [name])
        misfits: dict[str, list[str]] = {}
        lines = self._lines(adapters, questions, False) if adapters else iter(())
        done = 0
        for line in lines:
            number = line["adapter"]
            name, record = adapters[number][1], records[number]
            if line["type"] == "misfit":
                misfits.setdefault(base_text(record), []).append(name)
            elif line["type"] == "error":
                printer.failed(error_of(line), [name])
            else:
                foreign = self._notes.foreign(name, record)
                told = Answered.read(line["told"])
                answer = Answer(**next_line(lines)["answer"])
                printer.one_of_many(told, answer, name, {"adapter": name, "model": line["model"], **foreign})
                done += 1
                if not is_terminal(sys.stdout):
                    printer.console.progress("Asking", before + (done - 1) // len(questions) + 1, len(self._names))
            model = line["model"]
        if misfits:
            tell_misfits(misfits, model, printer.failed)
