"""Puts the questions of `v2l ask` to a video, an adapter, or each of many, and prints the answers."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.adapter.record import Record, as_one_text, foreign_text, is_foreign, many_as_one_text
from v2l.cli.adapters import Choice, read_adapter
from v2l.cli.ask_notes import EachNotes
from v2l.cli.console import (
    Console,
    Failures,
    clean,
    columns,
    harmless,
    is_terminal,
    one_line,
    write,
    write_json,
)
from v2l.cli.inputs import read_fitting
from v2l.cli.wrap import Wrapped, wrap_lines
from v2l.config import Decoding, Strategy
from v2l.errors import UsageError, V2LError, not_finite, sentence
from v2l.strategies.answered import Answered, document, stretch
from v2l.wording import shortened

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.cli.served_reply import ServedReply
    from v2l.engine import Engine, Seen
    from v2l.model.answer import Answer
    from v2l.model.generate import Reply
    from v2l.strategies.parts import Parts
    from v2l.strategies.prepared import Prepared


@dataclass(frozen=True)
class Shape:
    """How answers are printed."""

    json: bool
    several: bool
    """Whether there are several questions, so that text has to say which one an answer is to."""
    timeline: bool = False
    """Whether each segment's answer is a result of its own."""
    format: str | None = None
    """One of `SUBTITLES`: all answers of segments as one such file."""

    def check(self, name: str, sources: Sequence[Record]) -> None:
        """UsageError where what an adapter holds cannot be printed so."""
        if self.format and len(sources) > 1:
            raise UsageError(f"{name} holds {len(sources)} videos, whose times a player would mix up; choose one with "
                             "--video NAME, or what was watched live with --from and --to.")


class Printer:
    """Prints the answers of one call, and counts what failed by itself."""

    def __init__(self, console: Console, shape: Shape, failures: Failures) -> None:
        self.console, self.shape, self.failures = console, shape, failures
        self.streamed = False
        """Whether the last answer was printed as it came, and its line ended even if it was interrupted."""
        self._told = self._told_of_one = False

    def foreign(self, *names: str, of: int = 1) -> dict[str, Any]:
        """Says, once a call, that the model was made for nothing like these videos of several; JSON fields of their
        answers."""
        if not self._told:
            self.console.warn(foreign_text(*names, of=of))
        self._told = True
        return {"foreign": True}

    def failed(self, error: V2LError, names: list[str]) -> None:
        """Reports and counts an error, and with --json writes a line for each adapter that has no answer for it."""
        self.console.aside()
        self.failures.add(error, names[0])
        for name in names if self.shape.json else ():
            write_json({"adapter": name, "error": sentence(error, f"{name}: ")})

    def _few_times(self, told: Answered, name: str) -> None:
        """Says, once a call, that more segments are asked as one than can be told apart, or that a question of times
        was put to all there is."""
        count, many = told.as_one, told.as_one > Strategy.join_up_to
        if not self._told_of_one and (many or told.needs_segments):
            self.console.warn(many_as_one_text(name, count) if many else
                              f"{name} has one segment, which is asked; v2l ingest --segment gives finer times."
                              if count == 1 else f"The {as_one_text(count)}; {name} was made with --max-rank.")
            self._told_of_one = True

    def question(self, question: str) -> None:
        """Repeats one of several questions on stderr."""
        if self.shape.several:
            self.console.note(f"Q: {shortened(question, 1000)}")

    def reply(self, reply: Reply | ServedReply, question: str, delay: float, facts: dict[str, Any]) -> None:
        """Prints an answer as it is generated, or as JSON when it is finished; `delay` as for `answer`."""
        if self.shape.json:
            answer = reply.finish()
            self.console.stop()
            write_json(document(question, answer, delay, **facts))
            return
        width, self.streamed = columns(), True
        lines = Wrapped(width) if width else None
        try:
            for piece in reply:
                self.console.stop()
                write(lines.add(clean(piece)) if lines else piece, end="")
            if reply.answer and (cut := _ellipsis(reply.answer)):
                write(lines.add(cut) if lines else cut, end="")
        finally:
            self.console.stop()
            write(lines.end() if lines else "")

    def answer(self, answer: Answer, question: str, delay: float, facts: dict[str, Any]) -> None:
        """Prints a finished answer, which was begun `delay` seconds after its question was asked."""
        self._print(answer, question, delay, facts, [answer.text + _ellipsis(answer)])

    def line(self, name: str, answer: Answer, question: str, delay: float, facts: dict[str, Any], lines: bool) -> None:
        """Prints a finished answer of one of many adapters; as text it takes one line, or where it is made of `lines`
        of its own, each of these."""
        before = f"{one_line(name)}: " + (f"{question} " if self.shape.several else "")
        text = harmless(answer.text) + _ellipsis(answer)
        rows = text.split("\n") if lines else [text]
        self._print(answer, question, delay, facts, [before + " ".join(row.splitlines()) for row in rows])

    def timeline(self, told: Answered, facts: dict[str, Any], name: str | None) -> None:
        """Prints what each segment says as a result of its own; `name` is the adapter's, if there are several."""
        if self.shape.format:
            from v2l.report.subtitles import Cue, subtitles

            cues = [Cue(one.start, one.end, harmless(one.answer.text)) for one in told.said]
            self.console.aside()
            write(subtitles(cues, self.shape.format), end="")
            return
        before = "" if name is None else f"{one_line(name)}: " + (
            f"{told.question} " if self.shape.several else "")
        facts = facts | {"strategy": told.origin["strategy"]}
        for one in told.said:
            text = harmless(" ".join(one.answer.text.split())) + _ellipsis(one.answer)
            times = stretch(one.source, one.start, one.end) | one.wall
            self._print(one.answer, told.question, 0.0, facts | times, [f"{before}{one.label}: {text}"])

    def notes(self, told: Answered, name: str) -> None:
        """Says what is odd about the answer of the one adapter that is asked."""
        self.question(told.question)
        if told.from_:
            self.console.warn(f"Answered from {told.from_}.")
        self._few_times(told, name)

    def one_of_many(self, told: Answered, answer: Answer, name: str, facts: dict[str, Any]) -> None:
        """Prints the answer of one of many adapters; `facts` are its JSON keys but for those of its origin."""
        if self.shape.timeline:
            self.timeline(told, facts, name)
            return
        if told.from_ and not self.shape.json:
            self.console.warn(f"{name} answers from {told.from_}.")
        self._few_times(told, name)
        self.line(name, answer, told.question, told.elapsed, facts | told.origin, lines=bool(told.said))

    def _print(self, answer: Answer, question: str, delay: float, facts: dict[str, Any], lines: list[str]) -> None:
        self.console.aside()
        if not answer.finite:
            name = facts["adapter"] if isinstance(facts["adapter"], str) else ", ".join(facts["adapter"])
            self.failures.add(not_finite("try --dtype float32", f"{name} gives no answer to {question!r}"), name)
        elif self.shape.json:
            write_json(document(question, answer, delay, **facts))
        else:
            for line in lines:
                write(wrap_lines(clean(line), width) if (width := columns()) else line)


def _ellipsis(answer: Answer) -> str:
    """What shows people that an answer was cut; programs read it in `finish`."""
    return " …" if answer.finish == "length" and columns() else ""


class Asker(ABC):
    """Puts questions to something and has the answers printed."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    @abstractmethod
    def ask(self, questions: list[str]) -> None:
        """Asks all at once. What fails by itself, such as a question that is too long for the base, is counted and
        stops no other. V2LError where none can be answered."""


class AskEngine(Asker):
    """Asks an engine of this process."""

    def __init__(self, engine: Engine, decoding: Decoding, printer: Printer) -> None:
        super().__init__(printer)
        self.engine, self.decoding = engine, decoding

    def ask(self, questions: list[str]) -> None:
        short_enough = []
        for question in questions:
            try:
                self.engine.check_question(question)
                short_enough.append(question)
            except V2LError as error:
                self.printer.failures.add(error, "")
        if short_enough:
            self._ask(short_enough)

    @abstractmethod
    def _ask(self, questions: list[str]) -> None: ...


class AskVideo(AskEngine):
    """Asks with the video in the prompt; it is looked at once."""

    def __init__(self, video: Path, sampling: dict[str, Any], engine: Engine, decoding: Decoding, printer: Printer
                 ) -> None:
        super().__init__(engine, decoding, printer)
        self._video, self._sampling = video, engine.sampling(**sampling)
        self._seen: Seen | None = None

    def _ask(self, questions: list[str]) -> None:
        facts: dict[str, Any] = {"adapter": None, "video": str(self._video), "model": self.engine.files.name}
        for question in questions:
            self.printer.question(question)
            try:
                with self.printer.console.working("Thinking"):
                    started = time.perf_counter()
                    self._seen = self._seen or self._look()
                    if self.engine.is_foreign(self._seen):
                        facts |= self.printer.foreign(str(self._video))
                    delay = time.perf_counter() - started
                    reply = self.engine.direct(self._seen, question, self._sampling, self.decoding)
                    self.printer.reply(reply, question, delay, facts)
            except V2LError as error:
                self.printer.failures.add(error, question)

    def _look(self) -> Seen:
        from v2l.video.clip import open_clip

        clip = open_clip(self._video, self._sampling)
        known = len(clip.warnings)  # those of opening it were shown when the video was checked
        seen = self.engine.see(clip, self._sampling)
        for warning in clip.warnings[known:]:
            self.printer.console.warn(warning)
        return seen


class AskAdapter(AskEngine):
    """Asks one adapter, or several joined."""

    def __init__(self, adapter: Adapter, names: list[str], strategy: Strategy, engine: Engine, decoding: Decoding,
                 printer: Printer) -> None:
        from v2l.strategies.parts import Parts

        super().__init__(engine, decoding, printer)
        self._parts, self._strategy = Parts(engine, adapter), strategy
        self._name = adapter.name
        self._facts = {"adapter": names[0] if len(names) == 1 else names, "model": engine.files.name}
        if is_foreign(adapter.record):
            self._facts |= printer.foreign(adapter.name)

    def _ask(self, questions: list[str]) -> None:
        from v2l.strategies.strategy import ask_prepared, prepare

        with self.printer.console.working("Thinking"):
            prepared = prepare(self.engine, self._parts, questions, self._strategy, self.decoding)
            if self.printer.shape.timeline:
                for each in prepared:
                    self.printer.question(each.question)
                    self.printer.timeline(Answered.of(self._parts, each), self._facts, None)
                return
            if len(questions) > 1:
                for each, answer in ask_prepared(self.engine, prepared, self.decoding):
                    told = self._noted(each)
                    self.printer.answer(answer, told.question, told.elapsed, self._facts | told.origin)
                return
            only = next(prepared)
            told = self._noted(only)
            if only.answer:
                self.printer.answer(only.answer, told.question, told.elapsed, self._facts | told.origin)
            else:
                reply = self.engine.ask(only.adapter, only.prompt, self.decoding)
                self.printer.reply(reply, told.question, told.elapsed, self._facts | told.origin)

    def _noted(self, prepared: Prepared) -> Answered:
        told = Answered.of(self._parts, prepared)
        self.printer.notes(told, self._name)
        return told


class AskEach(AskEngine):
    """Asks every adapter by itself, all in one batch; adapters are read as they are needed."""

    def __init__(self, names: list[str], choice: Choice, strategy: Strategy, engine: Engine, decoding: Decoding,
                 printer: Printer) -> None:
        super().__init__(engine, decoding, printer)
        self._names, self._strategy = names, strategy
        self._notes = EachNotes(printer.console, printer.foreign, choice, len(names))

    def _ask(self, questions: list[str]) -> None:
        from v2l.strategies.strategy import ask_prepared

        waiting: deque[tuple[Parts, dict[str, Any]]] = deque()
        self._notes.begin()
        with self.printer.console.working("Thinking"):
            prepared = self._prepare(questions, waiting)
            for number, (each, answer) in enumerate(ask_prepared(self.engine, prepared, self.decoding)):
                parts, facts = waiting.popleft()
                self.printer.one_of_many(Answered.of(parts, each), answer, facts["adapter"], facts)
                if not is_terminal(sys.stdout):
                    self.printer.console.progress("Asking", number // len(questions) + 1, len(self._names))
        self._notes.tell()

    def _read(self, name: str) -> Adapter:
        """What of an adapter is asked; says what is odd about it."""
        adapter = read_adapter(name)
        self._notes.changed(name, adapter.sources)
        return self._notes.chosen(adapter)

    def _prepare(self, questions: list[str], waiting: deque[tuple[Parts, dict[str, Any]]]) -> Iterator[Prepared]:
        """Reads every adapter, prepares its questions. Appends the JSON fields of the answers to `waiting`, in
        the same order."""
        from v2l.strategies.parts import Parts
        from v2l.strategies.strategy import prepare

        for name, adapter in read_fitting(self._names, self._read, self.engine, self.printer.failed):
            try:
                parts = Parts(self.engine, adapter)
                foreign = self._notes.foreign(name, adapter.record)
                for prepared in prepare(self.engine, parts, questions, self._strategy, self.decoding):
                    waiting.append((parts, {"adapter": name, "model": self.engine.files.name, **foreign}))
                    yield prepared
            except V2LError as error:
                self.printer.failed(error, [name])
