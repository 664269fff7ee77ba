"""`v2l ask`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from v2l.commands.asking import answer_all, base_of, check_call, check_direct, converse, joined, print_answer
from v2l.commands.console import Console
from v2l.commands.options import (
    Compute,
    Device,
    Dtype,
    End,
    Fps,
    Frames,
    Json,
    Offline,
    Quiet,
    Resolution,
    Start,
    argument,
    not_negative,
    option,
    positive,
)
from v2l.commands.plan import expand, is_adapter_name
from v2l.commands.start import changes, load_engine
from v2l.config import DEFAULT_MODEL, Decoding, Sampling

if TYPE_CHECKING:
    from v2l.answer import Reply


def ask(
    words: Annotated[list[str] | None, argument("ADAPTER... [QUESTION]...")] = None,
    model: Annotated[str | None, option("NAME", "Base model.", "the adapter's own")] = None,
    max_new_tokens: Annotated[int, option("N", "Longest answer, in tokens.", "128", callback=positive)]
    = Decoding.max_new_tokens,
    temperature: Annotated[float, option("T", "Above 0, words are drawn.", "0", callback=not_negative)]
    = Decoding.temperature,
    direct: Annotated[Path | None, option("VIDEO", "Put this video in the prompt, and no adapter.")] = None,
    frames: Frames = None, fps: Fps = None, resolution: Resolution = None, start: Start = None, end: End = None,
    device: Device = None, dtype: Compute = Dtype.auto,
    json: Json = False, quiet: Quiet = False, offline: Offline = False,
) -> None:
    """Ask about what was watched.

    What ends in .v2lora is an adapter (several are joined), the rest are questions; - reads questions from stdin.
    Without a question there is a conversation. The options about frames go with --direct.

    \b
      v2l ask lecture.v2lora "What happens first?"
      v2l ask part1.v2lora part2.v2lora "What changes?"
      v2l ask --direct lecture.mp4 "What happens first?"
    """
    names = [word for word in words or [] if is_adapter_name(word)]
    questions = [word for word in words or [] if not is_adapter_name(word)]
    sampling = changes(frames=frames, fps=fps, resolution=resolution, start=start, end=end)
    check_call(names, questions, direct, sampling)
    console = Console(quiet)
    adapter = joined(names, console) if names else None
    base = model or (base_of(adapter) if adapter else DEFAULT_MODEL)
    if direct is not None:
        check_direct(direct, Sampling(**sampling), bool(names), console)
    engine = load_engine(console, base, None, device, dtype, offline)
    decoding = Decoding(max_new_tokens, temperature)
    with console.working("Loading"):
        bound = engine.bind(adapter) if adapter else None
        _ = engine.base.text
    facts: dict[str, Any] = {"adapter": names[0] if len(names) == 1 else names, "model": engine.files.name}
    if direct is not None:
        facts = {"adapter": None, "video": str(direct), "model": engine.files.name}

    def reply(question: str) -> Reply:
        if direct is None:
            return engine.ask(bound, question, decoding)
        return engine.direct(direct, question, engine.sampling(**sampling), decoding)

    def answer(question: str) -> None:
        with console.working("Thinking"):
            print_answer(reply(question), question, facts, json, console)

    if not questions:
        converse(answer)
    else:
        answer_all(expand(questions, lambda line: line.decode(errors="replace")), answer,
                    console if len(questions) > 1 or "-" in questions else Console(quiet=True))
