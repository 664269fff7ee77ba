"""The steps of `v2l ask`: which adapters and which base, then question after question."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.commands.console import Console, Failures, is_terminal, report, write, write_json
from v2l.config import PRESETS, Sampling
from v2l.errors import UsageError, V2LError

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.answer import Reply


def check_call(names: list[str], questions: list[str], direct: Path | None, sampling: dict[str, Any]) -> None:
    """UsageError where the arguments make no sense together."""
    if not names and direct is None:
        there = next((word for word in questions if os.path.exists(word)), None)
        hint = f"{there} is not one; watch it first with `v2l ingest`" if there else "name a .v2lora file"
        raise UsageError(f"There is {'a question and ' if questions else ''}no adapter: {hint}.")
    if sampling and direct is None:
        raise UsageError(f"--{next(iter(sampling))} needs --direct: an adapter holds what was watched already.")
    if not questions and not is_terminal(sys.stdin):
        raise UsageError("There is no question; name one, or - to read questions from stdin.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question is empty.")


def check_direct(video: Path, sampling: Sampling, with_adapter: bool, console: Console) -> None:
    """VideoError where the video cannot be read; nothing heavy is loaded."""
    from v2l.video import open_clip

    for warning in open_clip(video, sampling).warnings:
        console.warn(warning)
    if with_adapter:
        console.warn("The answer comes from the video; the adapter only names the model.")


def joined(names: list[str], console: Console) -> Adapter:
    """The adapter of one or several files, with notes on what is odd. AdapterError."""
    from v2l.adapter import load
    from v2l.compose import join

    adapters = [load(name) for name in names]
    if len(adapters) == 1:
        return adapters[0]
    adapter, notes = join(adapters)
    for note in notes:
        console.warn(note)
    return adapter


def base_of(adapter: Adapter) -> str:
    """What `--model` would say for the base an adapter names. A name from a file never becomes a path."""
    from v2l.checkpoints import TINY_ID
    from v2l.hub import Repo

    name = str(adapter.record["base"]["id"])
    known = {TINY_ID: "tiny"} | {preset.base: preset.name for preset in PRESETS.values() if preset.base}
    if name in known:
        return known[name]
    if Repo.parse(name) and not os.path.exists(name):
        return name
    raise UsageError(f"{adapter.name} was made with a base in a folder called {name}; name that folder with --model.")


def print_answer(reply: Reply, question: str, facts: dict[str, Any], json: bool, console: Console) -> None:
    """Prints an answer as it is made, or as JSON when it is."""
    if json:
        made = reply.finish()
        console.stop()
        write_json({"question": question, "answer": made.text, "prompt_tokens": made.prompt_tokens,
                    "visual_tokens": made.visual_tokens, "new_tokens": len(made.ids), "ttft_s": round(made.ttft_s, 4),
                    "total_s": round(made.total_s, 4), **facts})
        return
    try:
        for piece in reply:
            console.stop()
            write(piece, end="")
    finally:
        console.stop()
        write("")


def answer_all(questions: Iterable[str], answer: Callable[[str], None], console: Console) -> None:
    """One question after the other; one that fails does not stop the others."""
    failures = Failures()
    for question in questions:
        console.note(f"Q: {question}")
        try:
            answer(question)
        except V2LError as error:
            failures.add(error, question)
    failures.exit()


def converse(answer: Callable[[str], None]) -> None:
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
            answer(question)
        except KeyboardInterrupt:
            continue
        except V2LError as error:
            report(error)
