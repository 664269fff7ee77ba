"""`v2l ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2l.cli import ask_inputs as asking
from v2l.cli import ask_print as askers
from v2l.cli import options
from v2l.cli.console import Console
from v2l.cli.options import argument, option
from v2l.cli.outputs import is_adapter_name
from v2l.config import DEFAULT_MODEL, STRATEGIES, Decoding, Sampling, Strategy


def ask(
    words: Annotated[list[str] | None, argument("ADAPTER... [QUESTION]...")] = None,
    each: Annotated[bool, typer.Option("--each", help="Ask every adapter by itself, all at once.")] = False,
    adapters: Annotated[str | None, option("FILE", "Adapters too: a list of files, one a line; - is stdin.")] = None,
    since: Annotated[float | None, option("TIME", "Only the segments after this: seconds, MM:SS, H:MM:SS.", "",
                                          "--from", parser=options.parse_time)] = None,
    until: Annotated[float | None, option("TIME", "Only the segments before this.", "", "--to",
                                          parser=options.parse_time)] = None,
    strategy: Annotated[str | None, option("NAME", f"How segments answer: {', '.join(STRATEGIES)}.", Strategy.name,
                                           callback=options.strategy)] = None,
    scale: Annotated[str | None, option("X", "Scale joined segments by a number, or by 1/k.", "1",
                                        "--segment-scale")] = None,
    model: Annotated[str | None, option("NAME", "Base model.", "the adapter's own")] = None,
    max_new_tokens: Annotated[int, option("N", "Longest answer, in tokens.", "128", callback=options.positive)]
    = Decoding.max_new_tokens,
    temperature: Annotated[float, option("T", "Above 0, words are drawn.", "0", callback=options.not_negative)]
    = Decoding.temperature,
    direct: Annotated[Path | None, option("VIDEO", "Put this video in the prompt, and no adapter.")] = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    start: options.Start = None, end: options.End = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Ask about what was watched.

    What ends in .v2lora is an adapter, the rest are questions; - reads questions from stdin, one a line, and answers
    them as they come. Without a question there is a conversation.

    Several adapters are joined and answer together; with --each they answer one by one, a line FILE: ANSWER each. Where
    there are several segments, --strategy join sums them all (good for few), route asks all and has the best two answer
    (good for many), each makes one answer out of all; auto joins up to 4 and routes more.

    The options about frames, --start and --end go with --direct.

    \b
      v2l ask lecture.v2lora "What happens first?"
      v2l ask part1.v2lora part2.v2lora "What changes?"
      v2l ask day.v2lora --from 12:00 --to 13:30 "Who speaks?"
      v2l ask library/*.v2lora --each "Is there a red square?"
      find . -name "*.v2lora" | v2l ask --each --adapters - "Is there a dog?"
      v2l ask --direct lecture.mp4 "What happens first?"
    """
    names = [word for word in words or [] if is_adapter_name(word)]
    questions = [asking.as_written(word) for word in words or [] if not is_adapter_name(word)]
    console = Console(quiet)
    sampling = options.given(frames=frames, fps=fps, resolution=resolution, start=start, end=end)
    chosen = {"each": each or None, "adapters": adapters, "from": since, "to": until, "strategy": strategy,
              "segment-scale": scale}
    names += asking.listed(adapters, questions)
    asking.check_call(names, questions, direct, sampling, options.given(**chosen), console)
    how = Strategy(strategy or Strategy.name, segment_scale=asking.segment_scale(scale))
    times, adapter = (since, until), None
    if names and not each:
        adapter = asking.joined(names, console, times)
    base = model or DEFAULT_MODEL
    if names and not model:
        base = asking.base_of(adapter.name, adapter.record) if adapter else asking.base_of(*asking.first_record(names))
    elif adapter and direct is None:
        asking.check_base(adapter.name, adapter.record, base)
    if direct is not None:
        asking.check_direct(direct, Sampling(**sampling), bool(names), console)
    engine = options.load_engine(console, base, None, device, dtype, offline)
    with_what = engine, Decoding(max_new_tokens, temperature), json, console
    several = len(questions) > 1 or "-" in questions
    with console.working("Loading"):
        asker: askers.Asker
        if direct is not None:
            asker = askers.AskVideo(direct, sampling, *with_what)
        elif adapter:
            asker = askers.AskAdapter(adapter, names, how, *with_what)
        else:
            asker = askers.AskEach(names, times, how, several, *with_what)
        engine.load_text()
    if not questions:
        askers.converse(asker)
        return
    for lot in asking.lots(questions):
        if fit := asker.fitting(lot):
            asker(fit, noted=several and not each)
    asker.failures.exit()
