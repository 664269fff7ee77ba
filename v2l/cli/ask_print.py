"""Who is asked, and how the answers are printed: a video, an adapter, or each of many."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.cli.ask_inputs import Range, read_adapter
from v2l.cli.console import Console, Failures, harmless, is_terminal, one_line, report, write, write_json
from v2l.config import Decoding, Strategy
from v2l.errors import AdapterError, V2LError
from v2l.system.interrupts import Terminated
from v2l.wording import shortened

if TYPE_CHECKING:
    from v2l.adapter.file import Adapter
    from v2l.engine import Engine, Seen
    from v2l.model.generate import Answer, Reply
    from v2l.strategies import Parts, Prepared


def document(question: str, made: Answer, took: float, facts: dict[str, Any]) -> dict[str, Any]:
    """An answer as JSON; `took` seconds passed before it was begun."""
    return {"question": question, "answer": made.text, "prompt_tokens": made.prompt_tokens,
            "visual_tokens": made.visual_tokens, "new_tokens": len(made.ids), "ttft_s": round(took + made.ttft_s, 4),
            "total_s": round(took + made.total_s, 4), **facts}


def print_reply(reply: Reply, question: str, took: float, facts: dict[str, Any], json: bool, console: Console) -> None:
    """Prints an answer as it is made, or as JSON when it is."""
    if json:
        made = reply.finish()
        console.stop()
        write_json(document(question, made, took, facts))
        return
    try:
        for piece in reply:
            console.stop()
            write(piece, end="")
    finally:
        console.stop()
        write("")


class Asker:
    """Puts lots of questions to something and prints the answers; what fails by itself is counted."""

    def __init__(self, engine: Engine, decoding: Decoding, json: bool, console: Console) -> None:
        self._engine, self._decoding, self._json, self._console = engine, decoding, json, console
        self.failures = Failures()

    def __call__(self, lot: list[str], noted: bool = False) -> None:
        """`noted` repeats each question on stderr."""
        raise NotImplementedError

    def fitting(self, lot: list[str]) -> list[str]:
        """Without the questions that are too long for the base: they fail by themselves, and stop no other."""
        fit = []
        for question in lot:
            try:
                self._engine.check_question(question)
                fit.append(question)
            except V2LError as error:
                self.failures.add(error, "")
        return fit

    def _note(self, question: str) -> None:
        self._console.note(f"Q: {shortened(question, 1000)}")

    def _print(self, made: Answer, question: str, took: float, facts: dict[str, Any], before: str = "") -> None:
        self._console.aside()
        if not made.finite:
            name = facts["adapter"] if isinstance(facts["adapter"], str) else ", ".join(facts["adapter"])
            self.failures.add(AdapterError(f"{name} gives no answer to {question!r}, because with it the model's "
                                           "numbers are not finite: it was damaged, or made so; get it again, or try "
                                           "--dtype float32."), name)
        elif self._json:
            write_json(document(question, made, took, facts))
        else:
            write(before + made.text)


class AskVideo(Asker):
    """With the video in the prompt; it is seen once."""

    def __init__(self, video: Path, sampling: dict[str, Any], *with_what: Any) -> None:
        super().__init__(*with_what)
        self._video, self._sampling = video, self._engine.sampling(**sampling)
        self._facts = {"adapter": None, "video": str(video), "model": self._engine.files.name}
        self._seen: Seen | None = None

    def __call__(self, lot: list[str], noted: bool = False) -> None:
        for question in lot:
            if noted:
                self._note(question)
            try:
                with self._console.working("Thinking"):
                    started = time.perf_counter()
                    self._seen = seen = self._seen or self._see()
                    took = time.perf_counter() - started
                    reply = self._engine.direct(seen, question, self._sampling, self._decoding)
                    print_reply(reply, question, took, self._facts, self._json, self._console)
            except V2LError as error:
                self.failures.add(error, question)

    def _see(self) -> Seen:
        from v2l.video.clip import open_clip

        clip = open_clip(self._video, self._sampling)
        told = len(clip.warnings)  # when the video was checked
        seen = self._engine.see(clip, self._sampling)
        for warning in clip.warnings[told:]:
            self._console.warn(warning)
        return seen


class AskAdapter(Asker):
    """One adapter, or several joined."""

    def __init__(self, adapter: Adapter, names: list[str], strategy: Strategy, *with_what: Any) -> None:
        from v2l.strategies import Parts

        super().__init__(*with_what)
        self._parts, self._strategy = Parts(self._engine, adapter), strategy
        self._facts = {"adapter": names[0] if len(names) == 1 else names, "model": self._engine.files.name}

    def __call__(self, lot: list[str], noted: bool = False) -> None:
        from v2l.strategies import ask_prepared, prepare

        with self._console.working("Thinking"):
            prepared = prepare(self._engine, self._parts, lot, self._strategy, self._decoding)
            if len(lot) > 1:
                for one, made in ask_prepared(self._engine, prepared, self._decoding):
                    self._tell(one, noted)
                    self._print(made, one.question, one.took, self._facts | strategy_facts(self._parts, one))
                return
            one = next(prepared)
            self._tell(one, noted)
            facts = self._facts | strategy_facts(self._parts, one)
            if one.answer:
                self._print(one.answer, one.question, one.took, facts)
            else:
                reply = self._engine.ask(one.adapter, one.prompt, self._decoding)
                print_reply(reply, one.question, one.took, facts, self._json, self._console)

    def _tell(self, one: Prepared, noted: bool) -> None:
        if noted:
            self._note(one.question)
        if len(one.by) < len(self._parts):
            self._console.warn(f"Answered from {' and '.join(map(self._parts.label, one.by))}.")


class AskEach(Asker):
    """Every adapter by itself, all in one batch; adapters are read as they are needed."""

    def __init__(self, names: list[str], times: Range, strategy: Strategy, several: bool, *with_what: Any) -> None:
        super().__init__(*with_what)
        self._names, self._times, self._strategy = names, times, strategy
        self._several = several
        """Whether a line of text says which question it answers."""

    def __call__(self, lot: list[str], noted: bool = False) -> None:
        from v2l.strategies import ask_prepared

        whose: deque[tuple[str, dict[str, Any]]] = deque()
        others: dict[str, list[str]] = {}
        facts = {"model": self._engine.files.name}
        with self._console.working("Thinking"):
            rows = self._prepared(lot, whose, others)
            for number, (one, made) in enumerate(ask_prepared(self._engine, rows, self._decoding)):
                name, strategy = whose.popleft()
                made = made if self._json else replace(made, text=" ".join(harmless(made.text).splitlines()))
                before = f"{one_line(name)}: " + (f"{one.question} " if self._several else "")
                self._print(made, one.question, one.took, {"adapter": name, **facts, **strategy}, before)
                if not is_terminal(sys.stdout):
                    self._console.progress("Asking", number // len(lot) + 1, len(self._names))
        for base, names in others.items():
            one_or_all = f"{names[0]} was" if len(names) == 1 else f"{', '.join(names)} were"
            self.failures.add(AdapterError(f"{one_or_all} made for the base {base}, not {self._engine.files.name}; "
                                           "ask by themselves, or name another --model."), names[0])

    def _prepared(self, lot: list[str], whose: deque[tuple[str, dict[str, Any]]], others: dict[str, list[str]]
                  ) -> Iterator[Prepared]:
        from v2l.strategies import Parts, prepare

        for name in self._names:
            try:
                adapter = read_adapter(name, self._times)
                base = adapter.record["base"]
                if base["fingerprint"] != self._engine.base.fingerprint:
                    others.setdefault(f"{base['id']} ({base['fingerprint'][:19]})", []).append(name)
                    continue
                parts = Parts(self._engine, adapter)
                for one in prepare(self._engine, parts, lot, self._strategy, self._decoding):
                    whose.append((name, strategy_facts(parts, one)))
                    yield one
            except V2LError as error:
                self._console.aside()
                self.failures.add(error, name)


def strategy_facts(parts: Parts, one: Prepared) -> dict[str, Any]:
    """What JSON says of an answer from several segments: how, and the times of those that answer if not all do."""
    if len(parts) == 1:
        return {}
    times = [list(span) for part in one.by for span in parts.parts[part].spans]
    return {"strategy": one.strategy} | ({"segments": times} if len(one.by) < len(parts) else {})


def converse(ask: Callable[[list[str]], None]) -> None:
    """Questions from the terminal until an empty one. Ctrl-C ends the answer being printed, or at the prompt all."""
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
            ask([question])
        except Terminated:
            raise
        except KeyboardInterrupt:
            continue
        except V2LError as error:
            report(error)
