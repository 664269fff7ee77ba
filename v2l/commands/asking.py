"""The steps of `v2l ask`: which adapters and which base, then lot after lot of questions."""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.commands.console import Console, Failures, is_terminal, report, write, write_json
from v2l.commands.plan import expand
from v2l.config import PRESETS, Decoding, Sampling, Strategy
from v2l.errors import AdapterError, UsageError, V2LError
from v2l.show import time_text

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.answer import Answer, Reply
    from v2l.engine import Engine, Seen
    from v2l.record import Record
    from v2l.strategies import Parts, Prepared

Range = tuple[float | None, float | None]
"""--from and --to in seconds."""


# What is asked.


def check_call(names: list[str], questions: list[str], direct: Path | None, sampling: dict[str, Any],
               chosen: dict[str, Any], console: Console) -> None:
    """UsageError where the arguments make no sense together. `sampling` are the options given that belong to --direct,
    `chosen` those that belong to adapters."""
    if not names and direct is None:
        there = next((word for word in questions if os.path.exists(word)), None)
        hint = f"{there} is not one; watch it first with `v2l ingest`" if there else "name a .v2lora file"
        raise UsageError(f"There is {'a question and ' if questions else ''}no adapter: {hint}.")
    if sampling and direct is None:
        option = next(iter(sampling))
        hint = "; --from and --to choose segments of it" if option in ("start", "end") else ""
        raise UsageError(f"--{option} needs --direct: an adapter holds what was watched already{hint}.")
    if chosen and direct is not None:
        option = next(iter(chosen))
        hint = "; --start and --end choose a part of the video" if option in ("from", "to") else ""
        raise UsageError(f"--{option} is for adapters, and --direct asks the video{hint}.")
    if chosen.get("to") is not None and chosen["to"] <= chosen.get("from", 0.0):
        raise UsageError("--to must come after --from.")
    if not questions and not is_terminal(sys.stdin):
        raise UsageError("There is no question; name one, or - to read questions from stdin.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question is empty.")
    single = [question for question in questions if question != "-" and not any(map(str.isspace, question.strip()))]
    if len(single) > 1:
        console.warn(f"{' and '.join(single[:2])} are questions by themselves; put quotes around one of several words.")


def segment_scale(text: str | None) -> float | None:
    """A number above 0; None for `1/k`, one over the number of segments. UsageError."""
    if text == "1/k":
        return None
    try:
        scale = Strategy.segment_scale if text is None else float(text)
    except ValueError:
        scale = None
    if scale is None or not 0 < scale < float("inf"):
        raise UsageError(f"--segment-scale {text} is neither a number above 0 nor 1/k.")
    return scale


def listed(file: str | None, questions: list[str]) -> list[str]:
    """The adapters that --adapters names. UsageError where it cannot be read."""
    if file is None:
        return []
    if file == "-" and "-" in questions:
        raise UsageError("Adapters and questions cannot both come from stdin; give --adapters a file.")
    try:
        lines = expand("-") if file == "-" else map(os.fsdecode, Path(file).read_bytes().splitlines())
        names = [line for line in lines if line.strip()]
    except OSError as error:
        raise UsageError(f"Cannot read the list of adapters {file}: {error.strerror}.") from None
    if not names:
        raise UsageError(f"--adapters {file} names no adapter; write one a line.")
    return names


def lots(words: Iterable[str]) -> Iterator[list[str]]:
    """Questions, as many at a time as there are: the words, with `-` standing for the lines of stdin.

    One read of stdin takes what is there and waits only where that is nothing; so a file comes in large lots and what
    someone types line by line.
    """
    lot: list[str] = []
    for word in words:
        if word != "-":
            lot.append(word)
            continue
        if lot:
            yield lot
        lot = []
        yield from _stdin_lots()
    if lot:
        yield lot


def _stdin_lots() -> Iterator[list[str]]:
    stdin: Any = sys.stdin.buffer if sys.stdin else io.BytesIO()
    rest, there = b"", True
    while there:
        data = stdin.read1(1 << 16)
        there = bool(data)
        *lines, rest = (rest + (data or b"\n")).split(b"\n")
        if lot := [line.rstrip(b"\r").decode(errors="replace") for line in lines if line.strip()]:
            yield lot


# Who is asked.


def read_adapter(name: str, times: Range) -> Adapter:
    """An adapter, or its segments in a range of time. AdapterError with the way out, UsageError."""
    from v2l.adapter import load
    from v2l.compose import within

    _check_there(name)
    adapter = load(name)
    return adapter if times == (None, None) else within(adapter, *times)


def _check_there(name: str) -> None:
    """AdapterError where there is no such file; the video it would be made of may lie in its place."""
    if os.path.lexists(name):
        return
    from v2l.video import EXTENSIONS

    videos = (Path(name).with_suffix(suffix) for suffix in sorted(EXTENSIONS))
    video = next((video for video in videos if video.is_file()), None)
    way_out = f"make it with `v2l ingest {video}`" if video else "check the name, or make it with `v2l ingest VIDEO`"
    raise AdapterError(f"Cannot read the adapter {name}: No such file or directory; {way_out}.")


def joined(names: list[str], console: Console, times: Range = (None, None)) -> Adapter:
    """The adapter of one or several files, or of their segments in a range of time, with notes on what is odd."""
    from v2l.compose import join, within

    adapters = [read_adapter(name, (None, None)) for name in names]
    adapter, notes = join(adapters) if len(adapters) > 1 else (adapters[0], [])
    for note in notes:
        console.warn(note)
    if times == (None, None):
        return adapter
    adapter = within(adapter, *times)
    console.warn(f"Asking {listed_segments(adapter)}.")
    return adapter


def listed_segments(adapter: Adapter) -> str:
    """Which segments an adapter holds, the first three by name."""
    told = [f"{time_text(segment['start'])} to {time_text(segment['end'])} of "
            f"{adapter.sources[segment['source']]['name']}" for segment in adapter.segments]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return f"{'the segment' if len(told) == 1 else 'the segments'} {', '.join(told[:3])}{more}"


def first_record(names: list[str]) -> tuple[str, Record]:
    """The first file that can be read, and its record; AdapterError where there is none."""
    from v2l.adapter import load_record

    errors: list[V2LError] = []
    for name in names:
        try:
            _check_there(name)
            return name, load_record(name)
        except V2LError as error:
            errors.append(error)
    for other in errors[:-1]:
        report(other)
    raise errors[-1]


def base_of(name: str, record: Record) -> str:
    """What `--model` would say for the base an adapter names. A name from a file never becomes a path."""
    from v2l.checkpoints import TINY_ID
    from v2l.hub import Repo

    base = str(record["base"]["id"])
    known = {TINY_ID: "tiny"} | {preset.base: preset.name for preset in PRESETS.values() if preset.base}
    if base in known:
        return known[base]
    if Repo.parse(base) and not os.path.exists(base):
        return base
    raise UsageError(f"{name} was made with a base in a folder called {base}; name that folder with --model.")


def check_direct(video: Path, sampling: Sampling, with_adapter: bool, console: Console) -> None:
    """VideoError where the video cannot be read; nothing heavy is loaded."""
    from v2l.video import open_clip

    for warning in open_clip(video, sampling).warnings:
        console.warn(warning)
    if with_adapter:
        console.warn("The answer comes from the video; the adapter only names the model.")


# The answers.


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
    """Puts lots of questions to something and prints the answers. One that fails does not stop the others."""

    def __init__(self, engine: Engine, decoding: Decoding, json: bool, console: Console) -> None:
        self._engine, self._decoding, self._json, self._console = engine, decoding, json, console
        self.failures = Failures()

    def __call__(self, lot: list[str], noted: bool = False) -> None:
        """`noted` repeats each question on stderr."""
        raise NotImplementedError

    def _print(self, made: Answer, question: str, took: float, facts: dict[str, Any], before: str = "") -> None:
        self._console.aside()
        if self._json:
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
                self._console.note(f"Q: {question}")
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
        from v2l.video import open_clip

        return self._engine.see(open_clip(self._video, self._sampling), self._sampling)


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
        self._console.aside()
        if noted:
            self._console.note(f"Q: {one.question}")
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
                made = made if self._json else replace(made, text=" ".join(made.text.splitlines()))
                before = f"{name}: {one.question} " if self._several else f"{name}: "
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
        except KeyboardInterrupt:
            continue
        except V2LError as error:
            report(error)
