"""Puts the questions of `v2l ask` to a video, an adapter, or each of many, and prints the answers."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.adapter.record import is_foreign
from v2l.cli.adapters import TimeRange, read_adapter
from v2l.cli.console import Console, Failures, harmless, is_terminal, one_line, write, write_json
from v2l.config import Decoding, Strategy
from v2l.errors import AdapterError, V2LError
from v2l.system.interrupts import Terminated
from v2l.wording import shortened

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.engine import Engine, Seen
    from v2l.model.generate import Answer, Reply
    from v2l.strategies import Parts, Prepared


class Printer:
    """Prints the answers of one call, as text or as JSON, and counts what failed by itself."""

    def __init__(self, console: Console, json: bool, several: bool) -> None:
        self.console, self.json, self.failures = console, json, Failures()
        self.several = several
        """Whether there are several questions, so that text has to say which one an answer is to."""
        self._told = False

    def foreign(self, name: str) -> dict[str, Any]:
        """Says, once a call, that the model was made for nothing like this video; JSON fields of its answers."""
        if not self._told:
            from v2l.cli.describe import foreign_text

            self.console.warn(foreign_text(name))
        self._told = True
        return {"foreign": True}

    def question(self, question: str) -> None:
        """Repeats one of several questions on stderr."""
        if self.several:
            self.console.note(f"Q: {shortened(question, 1000)}")

    def reply(self, reply: Reply, question: str, delay: float, facts: dict[str, Any]) -> None:
        """Prints an answer as it is generated, or as JSON when it is finished; `delay` as for `answer`."""
        if self.json:
            answer = reply.finish()
            self.console.stop()
            write_json(_document(question, answer, delay, facts))
            return
        try:
            for piece in reply:
                self.console.stop()
                write(piece, end="")
        finally:
            self.console.stop()
            write("")

    def answer(self, answer: Answer, question: str, delay: float, facts: dict[str, Any]) -> None:
        """Prints a finished answer, which was begun `delay` seconds after its question was asked."""
        self._print(answer, question, delay, facts, answer.text)

    def line(self, name: str, answer: Answer, question: str, delay: float, facts: dict[str, Any]) -> None:
        """Prints a finished answer of one of many adapters; as text it takes one line."""
        before = f"{one_line(name)}: " + (f"{question} " if self.several else "")
        self._print(answer, question, delay, facts, before + " ".join(harmless(answer.text).splitlines()))

    def _print(self, answer: Answer, question: str, delay: float, facts: dict[str, Any], text: str) -> None:
        self.console.aside()
        if not answer.finite:
            name = facts["adapter"] if isinstance(facts["adapter"], str) else ", ".join(facts["adapter"])
            self.failures.add(AdapterError(f"{name} gives no answer to {question!r}, because with it the model's "
                                           "numbers are not finite: it was damaged, or made so; get it again, or try "
                                           "--dtype float32."), name)
        elif self.json:
            write_json(_document(question, answer, delay, facts))
        else:
            write(text)


def _document(question: str, answer: Answer, delay: float, facts: dict[str, Any]) -> dict[str, Any]:
    return {"question": question, "answer": answer.text, "prompt_tokens": answer.prompt_tokens,
            "visual_tokens": answer.visual_tokens, "new_tokens": len(answer.ids),
            "ttft_s": round(delay + answer.ttft_s, 4), "total_s": round(delay + answer.total_s, 4), **facts}


class Asker(ABC):
    """Puts questions to something and has the answers printed."""

    def __init__(self, engine: Engine, decoding: Decoding, printer: Printer) -> None:
        self.engine, self.decoding, self.printer = engine, decoding, printer

    def ask(self, questions: list[str]) -> None:
        """Asks all at once. What fails by itself, such as a question that is too long for the base, is counted and
        stops no other. V2LError where none can be answered."""
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


class AskVideo(Asker):
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


class AskAdapter(Asker):
    """Asks one adapter, or several joined."""

    def __init__(self, adapter: Adapter, names: list[str], strategy: Strategy, engine: Engine, decoding: Decoding,
                 printer: Printer) -> None:
        from v2l.strategies import Parts

        super().__init__(engine, decoding, printer)
        self._parts, self._strategy = Parts(engine, adapter), strategy
        self._facts = {"adapter": names[0] if len(names) == 1 else names, "model": engine.files.name}
        if is_foreign(adapter.record):
            self._facts |= printer.foreign(adapter.name)

    def _ask(self, questions: list[str]) -> None:
        from v2l.strategies import ask_prepared, prepare

        with self.printer.console.working("Thinking"):
            prepared = prepare(self.engine, self._parts, questions, self._strategy, self.decoding)
            if len(questions) > 1:
                for each, answer in ask_prepared(self.engine, prepared, self.decoding):
                    self._note(each)
                    self.printer.answer(answer, each.question, each.elapsed, self._facts_of(each))
                return
            only = next(prepared)
            self._note(only)
            if only.answer:
                self.printer.answer(only.answer, only.question, only.elapsed, self._facts_of(only))
            else:
                reply = self.engine.ask(only.adapter, only.prompt, self.decoding)
                self.printer.reply(reply, only.question, only.elapsed, self._facts_of(only))

    def _note(self, prepared: Prepared) -> None:
        self.printer.question(prepared.question)
        if len(prepared.by) < len(self._parts):
            self.printer.console.warn(f"Answered from {' and '.join(map(self._parts.label, prepared.by))}.")

    def _facts_of(self, prepared: Prepared) -> dict[str, Any]:
        return self._facts | _strategy_facts(self._parts, prepared)


class AskEach(Asker):
    """Asks every adapter by itself, all in one batch; adapters are read as they are needed."""

    def __init__(self, names: list[str], times: TimeRange, strategy: Strategy, engine: Engine, decoding: Decoding,
                 printer: Printer) -> None:
        super().__init__(engine, decoding, printer)
        self._names, self._times, self._strategy = names, times, strategy

    def _ask(self, questions: list[str]) -> None:
        from v2l.strategies import ask_prepared

        waiting: deque[dict[str, Any]] = deque()
        misfits: dict[str, list[str]] = {}
        with self.printer.console.working("Thinking"):
            prepared = self._prepare(questions, waiting, misfits)
            for number, (each, answer) in enumerate(ask_prepared(self.engine, prepared, self.decoding)):
                facts = waiting.popleft()
                self.printer.line(facts["adapter"], answer, each.question, each.elapsed, facts)
                if not is_terminal(sys.stdout):
                    self.printer.console.progress("Asking", number // len(questions) + 1, len(self._names))
        for base, names in misfits.items():
            were = f"{names[0]} was" if len(names) == 1 else f"{', '.join(names)} were"
            self.printer.failures.add(AdapterError(
                f"{were} made for the base {base}, not {self.engine.files.name}; ask by themselves, or name another "
                "--model."), names[0])

    def _prepare(self, questions: list[str], waiting: deque[dict[str, Any]], misfits: dict[str, list[str]]
                 ) -> Iterator[Prepared]:
        """Reads every adapter, prepares its questions. Appends the JSON fields of the answers to `waiting`, in
        the same order; adapters that were made for another base are added to `misfits`, by that base."""
        from v2l.strategies import Parts, prepare

        for name in self._names:
            try:
                adapter = read_adapter(name, self._times)
                base = adapter.record["base"]
                if base["fingerprint"] != self.engine.base.fingerprint:
                    misfits.setdefault(f"{base['id']} ({base['fingerprint'][:19]})", []).append(name)
                    continue
                parts = Parts(self.engine, adapter)
                foreign = self.printer.foreign(name) if is_foreign(adapter.record) else {}
                for prepared in prepare(self.engine, parts, questions, self._strategy, self.decoding):
                    waiting.append({"adapter": name, "model": self.engine.files.name, **foreign,
                                    **_strategy_facts(parts, prepared)})
                    yield prepared
            except V2LError as error:
                self.printer.console.aside()
                self.printer.failures.add(error, name)


def _strategy_facts(parts: Parts, prepared: Prepared) -> dict[str, Any]:
    """JSON fields of an answer from several segments: strategy and, if not all answer, the times of those that do."""
    if len(parts) == 1:
        return {}
    times = [list(span) for part in prepared.by for span in parts.parts[part].spans]
    return {"strategy": prepared.strategy} | ({"segments": times} if len(prepared.by) < len(parts) else {})


def converse(asker: Asker) -> None:
    """Asks questions from the terminal, until an empty one. Ctrl-C ends the answer or, at the prompt, the command."""
    with suppress(ImportError):
        import readline  # noqa: F401 (gives `input` line editing)

    prompt = "> " if is_terminal(sys.stdout) else ""
    while True:
        if not prompt:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            question = input(prompt).strip()
        except EOFError:
            print(file=sys.stderr)
            return
        if question in ("", "exit"):
            return
        try:
            asker.ask([question])
        except Terminated:
            raise
        except KeyboardInterrupt:
            continue
        except V2LError as error:
            asker.printer.failures.add(error, "")
