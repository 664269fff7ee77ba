"""`v2l ask`: which questions are put to what; `v2l.cli.ask_print` puts them and prints the answers."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import ask_print, options
from v2l.cli.adapters import Choice, first_record, load_joined
from v2l.cli.console import Console, Failures, is_terminal
from v2l.cli.converse import converse
from v2l.cli.inputs import adapters_and_questions, adapters_of, listed_in
from v2l.cli.options import argument, option
from v2l.config import PRESETS, STRATEGIES, Decoding, Sampling, Strategy
from v2l.errors import AdapterError, UsageError
from v2l.report.subtitles import SUBTITLES
from v2l.system.lines import line_batches

if TYPE_CHECKING:
    from v2l.adapter.record import Record
    from v2l.engine import Engine


def ask(
    words: Annotated[list[str] | None, argument("ADAPTER... [QUESTION]...")] = None,
    each: Annotated[bool, typer.Option("--each", help="Print FILE: ANSWER lines for a single adapter, too.")] = False,
    join: Annotated[bool, typer.Option("--join", help="Join the adapters and give one answer from all.")] = False,
    adapters: Annotated[str | None, option("FILE", "Also ask the adapters that FILE lists, one per line; - is stdin.")]
    = None,
    from_: options.From = None, to: options.To = None, video: options.OfVideo = None,
    strategy: Annotated[str | None, option("NAME", f"Combine several segments: {', '.join(STRATEGIES)}.", Strategy.name,
                                           **options.choice(STRATEGIES))] = None,
    segment_scale: Annotated[str | None, option("X", "Multiply joined segments by X; 1/k averages k of them.",
                                                "1")] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Print what every segment says, a line each.")] = False,
    format: Annotated[str | None, option("NAME", f"Write the --timeline as a file for players: {', '.join(SUBTITLES)}.",
                                         "", **options.choice(SUBTITLES))] = None,
    model: Annotated[str | None, option("NAME", f"Base model: {options.MODEL_NAMES}.", "the adapter's",
                                        callback=options.preset, autocompletion=options.completing(PRESETS))] = None,
    max_new_tokens: Annotated[int, option("N", "End an answer after N tokens.", f"{Decoding.max_new_tokens}",
                                          callback=options.positive)] = Decoding.max_new_tokens,
    temperature: Annotated[float, option("T", "Sampling temperature; 0 always takes the likeliest token.",
                                         f"{Decoding.temperature:g}", callback=options.not_negative)]
    = Decoding.temperature,
    direct: Annotated[Path | None, option("VIDEO", "Ask with VIDEO in the prompt, instead of an adapter.")] = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    start: options.Start = None, end: options.End = None, stream: options.Stream = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    server: Annotated[str | None, option("URL", "Have the v2l serve at URL answer, which has the model loaded.",
                                         "V2L_SERVER, else answer here")] = None,
    api_key: Annotated[str | None, option("KEY", "The server's API key.", "V2L_API_KEY")] = None,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Answer questions about videos, from their adapters.

    Adapters and folders of them are asked, all other arguments are questions; - reads questions from stdin, one per
    line, and answers them as they come. Without a question, a conversation starts: there Ctrl-C stops an answer or
    drops what was typed, and on an empty line ends it, with status 130.
    The model that ships, tiny, knows only coloured shapes and slides; its adapters make up answers about all else.

    Several adapters are asked one by one, in batches, and each gives its answer on a line FILE: ANSWER; with --join
    they are joined first and give one answer, with --strategy join if no other is named.

    Of adapters with several segments, --strategy join adds all segments up, route asks the segment that most surely
    shows what the question names (or, where that is not known, the two best by what each answers), timeline prints what
    each segment says and when, each makes one answer of that (with a base that follows instructions; else as
    timeline). auto goes by the words of a question: of the whole, such as "What happened?", timeline; "When does a dog
    bark?", or how often, the times of the segments that say yes; of what is first or last, that segment; of what comes
    before or after something, the segments around it; of which of two comes first, their times; of what happens at
    0:15, the segment there; all else route, or join where there are few segments and nobody knows which show it.

    --timeline prints a line, or with --json an object, for each segment. --format srt and vtt are subtitles (vtt is
    chapters for a web page, too), chapters is what ffmpeg reads.

    --from and --to are times of each video by itself; --video chooses one of a file that holds several. Of what `v2l
    watch` saw they may have a date, 2026-11-28T14:00, and are local time unless they end in a zone (Z, +01:00).

    --frames, --fps, --resolution, --start, --end and --stream need --direct.

    With --server, or V2L_SERVER, a v2l serve answers that has the same adapters: nothing is loaded here, and what is
    printed is the same. --direct, --model, --device, --dtype and --offline are for what is computed here.

    \b
      v2l ask lecture.v2lora "What happens first?"
      v2l ask part1.v2lora part2.v2lora --join "What changes?"
      v2l ask day.v2lora --from 12:00 --to 13:30 "Who speaks?"
      v2l ask cam.v2lora --from 2026-11-28T14:00 "Is anyone there?"
      v2l ask library/*.v2lora "Is there a red square?"
      v2l ask lecture.v2lora --timeline --format srt "What happens?" > lecture.srt
      find . -name "*.v2lora" | v2l ask --adapters - "Is there a dog?"
      v2l ask --direct lecture.mp4 "What happens first?"
    """
    names, questions = adapters_and_questions(words or [])
    console, choice = Console(quiet), Choice(*options.bounds(from_, to), video)
    sampling = options.given(frames=frames, fps=fps, resolution=resolution, start=start, end=end, stream=stream)
    for_adapters = options.given(**{"each": each or None, "join": join or None, "timeline": timeline or None,
                                    "format": format, "adapters": adapters, "from": choice.start,
                                    "to": choice.end, "video": video, "strategy": strategy,
                                    "segment-scale": segment_scale})
    names += _adapter_list(adapters, questions)
    _check_call(names, questions, direct, sampling, for_adapters)
    alone = not (each or join or adapters) and len(names) == 1 and not os.path.isdir(names[0])
    one = join or alone
    """Whether there is one answer to a question, not one of each adapter."""
    failures = Failures()
    names = list(adapters_of(names, console, None if one else failures))
    if failures.count and not names:
        failures.exit()
    names = choice.among(names, console)
    _note_forgotten_quotes(questions, console)
    _check_timeline(for_adapters, questions, json, one)
    name = "timeline" if timeline else strategy or ("join" if join else Strategy.name)
    combining = Strategy(name, segment_scale=_parse_scale(segment_scale))

    shape = ask_print.Shape(json, len(questions) > 1 or "-" in questions, timeline, format)
    printer = ask_print.Printer(console, shape, failures)
    decoding = Decoding(max_new_tokens, temperature)
    here = options.given(direct=direct, model=model, device=device, offline=offline or None,
                         dtype=None if dtype == options.Dtype.auto else dtype)
    from v2l.cli.server_address import server_address

    if address := server_address(server, api_key, here):
        from v2l.cli.ask_server import AskServerEach, AskServerOne

        _put(questions, (AskServerOne if one else AskServerEach)(address, names, choice, combining, decoding, printer))
        return

    make_asker: Callable[[Engine, Decoding, ask_print.Printer], ask_print.Asker]
    if direct is not None:
        base = model or (base_of(*first_record(names[:1])) if names else None)
        _check_video(direct, Sampling(**sampling), bool(names), console)
        make_asker = partial(ask_print.AskVideo, direct, sampling)
    elif not one:
        first = first_record(names)
        base = model or base_of(*first)
        check_any_preset(names, base)
        make_asker = partial(ask_print.AskEach, names, choice, combining)
    else:
        adapter = load_joined(names, console, choice)
        base = model or base_of(adapter.name, adapter.record)
        check_preset(adapter.name, adapter.record, base)
        shape.check(adapter.name, adapter.sources)
        make_asker = partial(ask_print.AskAdapter, adapter, names, combining)

    # A name that came from a file reaches the network only if it is a preset's.
    offline = offline or (model is None and base is not None and base not in PRESETS)
    engine = options.load_engine(console, base, None, device, dtype, offline)
    with console.working("Loading"):
        asker = make_asker(engine, decoding, printer)
        engine.load_text()
    _put(questions, asker)


def _put(questions: list[str], asker: ask_print.Asker) -> None:
    """Puts the questions as they come; a conversation where there are none. Raises SystemExit where some failed."""
    if questions:
        for batch in question_batches(questions):
            asker.ask(batch)
    else:
        converse(asker)
    asker.printer.failures.exit()


# The call.


def _adapter_list(file: str | None, questions: list[str]) -> list[str]:
    """The adapters that --adapters names. UsageError where it cannot be read."""
    if file == "-" and "-" in questions:
        raise UsageError("Adapters and questions cannot both come from stdin; give --adapters a file.")
    return [] if file is None else listed_in(file)


def _check_call(names: list[str], questions: list[str], direct: Path | None, sampling: dict[str, Any],
                for_adapters: dict[str, Any]) -> None:
    """UsageError where the arguments make no sense together. `sampling` are the options given that belong to --direct,
    `for_adapters` those that do not."""
    if not names and direct is None:
        missing = f", and nothing called {questions[0]}" if questions and len(questions[0].split()) == 1 else ""
        raise UsageError(f"There is {'a question and ' if questions else ''}no adapter{missing}: name a .v2lora file, "
                         "or a folder of them.")
    if sampling and direct is None:
        name = next(iter(sampling))
        hint = "; --from and --to choose segments of it" if name in ("start", "end") else ""
        raise UsageError(f"--{name} needs --direct: an adapter holds what was watched already{hint}.")
    if for_adapters and direct is not None:
        name = next(iter(for_adapters))
        hint = "; --start and --end choose a part of the video" if name in ("from", "to") else ""
        raise UsageError(f"--{name} is for adapters, and --direct asks the video{hint}.")
    Choice(for_adapters.get("from"), for_adapters.get("to")).check()
    if not questions and not is_terminal(sys.stdin):
        raise UsageError("There is no question; name one, or - to read questions from stdin.")
    if "join" in for_adapters and "each" in for_adapters:
        raise UsageError("--join and --each exclude each other: one answer from all adapters, or one of each.")
    if any(not question.strip() for question in questions):
        raise UsageError("A question is empty.")


def _check_timeline(for_adapters: dict[str, Any], questions: list[str], json: bool, one: bool) -> None:
    """UsageError where --timeline and --format do not go with the rest of the call."""
    if "timeline" not in for_adapters:
        if "format" in for_adapters:
            raise UsageError("--format is how --timeline is written; give both.")
        return
    if "strategy" in for_adapters:
        raise UsageError("--timeline is a strategy by itself; leave --strategy out.")
    if "format" in for_adapters and (json or not one or len(questions) != 1 or questions == ["-"]):
        raise UsageError(f"--format {for_adapters['format']} writes one file: of one adapter and one question, without "
                         "--json.")


def _note_forgotten_quotes(questions: list[str], console: Console) -> None:
    single = [question for question in questions if question != "-" and not any(map(str.isspace, question.strip()))]
    if len(single) > 1:
        console.warn(f"{' and '.join(single[:2])} are questions by themselves; put quotes around one of several words.")


def _parse_scale(text: str | None) -> float | None:
    """The segment scale: a number above 0, or None for `1/k`, one over the number of segments. UsageError."""
    if text == "1/k":
        return None
    try:
        scale = Strategy.segment_scale if text is None else float(text)
    except ValueError:
        scale = None
    if scale is None or not 0 < scale < float("inf"):
        raise UsageError(f"--segment-scale {text} is neither a number above 0 nor 1/k.")
    return scale


def _check_video(video: Path, sampling: Sampling, with_adapter: bool, console: Console) -> None:
    """VideoError where the video cannot be read; nothing heavy is loaded."""
    from v2l.video.clip import open_clip

    for warning in open_clip(video, sampling).warnings:
        console.warn(warning)
    if with_adapter:
        console.warn("The answer comes from the video; the adapter only names the model.")


# The base.


def base_of(name: str, record: Record) -> str:
    """What `--model` would say for the base an adapter names, which is a preset or on this disk. A name from a file
    never becomes a path. UsageError."""
    from v2l.store.hub import Repo
    from v2l.store.names import preset_of
    from v2l.store.resolve import cached_base

    base = str(record["base"]["id"])
    if preset := preset_of(base):
        return preset.name
    repo = Repo.parse(base)
    if repo and not os.path.exists(base):
        if cached_base(repo):
            return base
        raise UsageError(f"{name} was made with the base {base}, which is not on this disk; fetch it with "
                         f"--model {base} if you trust whoever published it.")
    raise UsageError(f"{name} was made with a base in a folder called {base}; name that folder with --model.")


def check_preset(name: str, record: Record, model: str) -> None:
    """UsageError where an adapter names another base than the one asked for by its short name; nothing is fetched."""
    from v2l.store.names import preset_of

    preset = preset_of(str(record["base"]["id"]))
    if preset and model in PRESETS and preset.name != model:
        raise UsageError(f"{name} was made with {preset.name}, and {model} cannot read it; leave --model out.")


def check_any_preset(names: list[str], model: str) -> None:
    """`check_preset` of adapters that are asked one by one: UsageError where it refuses all it can read."""
    refusals: list[UsageError] = []
    for name in names:
        with suppress(AdapterError):
            try:
                check_preset(*first_record([name]), model)
                return
            except UsageError as refused:
                refusals.append(refused)
    if refusals:
        raise refusals[0]


# The questions.


def question_batches(words: Iterable[str]) -> Iterator[list[str]]:
    """Questions, as many at a time as are ready: the words, with `-` standing for the lines of stdin."""
    batch: list[str] = []
    for word in words:
        if word != "-":
            batch.append(word)
            continue
        if batch:
            yield batch
        batch = []
        yield from _stdin_batches()
    if batch:
        yield batch


def _stdin_batches() -> Iterator[list[str]]:
    return line_batches(sys.stdin.buffer if sys.stdin else io.BytesIO(), partial(bytes.decode, errors="replace"),
                        names=False)
