"""`v2l find`: when something happens, in one adapter or in a library."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from v2l.adapter.record import foreign_text, is_foreign
from v2l.adapter.wall import at_text
from v2l.cli import options
from v2l.cli.adapters import Choice, chosen, first_record, note_ambiguous, read_adapter
from v2l.cli.ask import base_of, check_any_preset
from v2l.cli.console import Console, Failures, columns, one_line, write, write_json
from v2l.cli.inputs import adapters_and_questions, adapters_of, listed_in, read_fitting
from v2l.cli.options import argument, option
from v2l.config import PRESETS
from v2l.errors import AdapterError, UsageError, V2LError, sentence
from v2l.report.grid import Grid
from v2l.report.subtitles import SUBTITLES, Cue, subtitles

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.engine import Engine
    from v2l.strategies.parts import Parts
    from v2l.strategies.search import FoundMoment, Search


def find_(
    words: Annotated[list[str] | None, argument("ADAPTER... QUERY")] = None,
    adapters: Annotated[str | None, option("FILE", "Also search the adapters that FILE lists, one per line; - is "
                                                   "stdin.")] = None,
    from_: options.From = None, to: options.To = None, video: options.OfVideo = None,
    top: Annotated[int | None, option("N", "Print at most the N best moments.", "all", callback=options.positive)]
    = None,
    threshold: options.Threshold = None,
    format: Annotated[str | None, option("NAME", "Write the moments of one video as a file for players: "
                                                 f"{', '.join(SUBTITLES)}.", "", **options.choice(SUBTITLES))] = None,
    model: Annotated[str | None, option("NAME", f"Base model: {options.MODEL_NAMES}.", "the adapter's",
                                        callback=options.preset, autocompletion=options.completing(PRESETS))] = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Find when something happens.

    QUERY is what to look for: a thing ("red ring"), what it does ("a red ring moves left"), or a question ("Is there
    a dog?", "When does the dog bark?"). Adapters and folders of them are searched, all in batches. Each moment is a
    line: file, start, end and score, the best first; of a file of several videos, the video too. Segments that follow
    each other are one moment. Where nothing is found, nothing is printed, and the exit status is 0.

    The score is how much surer the model is that a segment shows it than it would be without the video, in nats: 6 is
    e^6 = 400 times as sure. It is that of the segment, so times are as fine as `v2l ingest --segment` cut them.

    \b
      v2l find lecture.v2lora "a red ring moves"
      v2l find talks/ "whiteboard" --top 5
      v2l find lecture.v2lora "a dog" --format vtt > dog.vtt
      find . -name "*.v2lora" | v2l find --adapters - "Is there a dog?" --json
    """
    names, queries = adapters_and_questions(words or [])
    console, failures, choice = Console(quiet), Failures(), Choice(*options.bounds(from_, to), video)
    names += [] if adapters is None else listed_in(adapters)
    query = _checked(names, queries, choice, format, json)
    alone = adapters is None and len(names) == 1 and not os.path.isdir(names[0])
    names = list(adapters_of(names, console, None if alone else failures))
    if not names and failures.count:
        failures.exit()
    if not names:
        raise UsageError("There is no adapter to search; name a .v2lora file, or a folder that holds some.")
    names = choice.among(names, console)
    if format and len(names) > 1:
        raise UsageError(f"--format {format} writes one file, and there are {len(names)} adapters; name one.")
    base = model or base_of(*first_record(names))
    check_any_preset(names, base)
    # A name that came from a file reaches the network only if it is a preset's.
    offline = offline or (model is None and base not in PRESETS)
    engine = options.load_engine(console, base, None, device, dtype, offline)
    engine.check_question(query)
    with console.working("Loading"):
        engine.load_text()
    from v2l.strategies.search import Search

    search, searching = Search(engine, query, threshold), _Searching(names, choice, engine, console, failures, json)
    with console.working("Searching"):
        found = searching.moments(search)[:top]
    _print(found, searching, query, format, engine.files.name if json else None)
    searching.note(search, bool(found))
    failures.exit()


def _checked(names: Sequence[str], queries: Sequence[str], choice: Choice, format: str | None, json: bool) -> str:
    """The query. UsageError where the arguments make no sense together."""
    if len(queries) > 1:
        raise UsageError(f"{queries[0]} and {queries[1]} are {len(queries)} queries, or adapters that are not there; "
                         "look for one at a time, in quotes.")
    if not queries or not queries[0].strip() or queries[0] == "-":
        raise UsageError("There is nothing to look for; say what after the adapters, such as \"a red ring moves\".")
    if not names:
        raise UsageError(f"There is no adapter to look for {queries[0]!r} in; name a .v2lora file, or a folder of "
                         "them.")
    choice.check()
    if format and json:
        raise UsageError(f"--format {format} writes one file for players; leave --json out.")
    return queries[0]


class _Searching:
    """Looks through adapters, and remembers what is to be told of it."""

    def __init__(self, names: list[str], choice: Choice, engine: Engine, console: Console, failures: Failures,
                 json: bool) -> None:
        self._names, self._choice, self._engine, self._json = names, choice, engine, json
        self._console, self._failures = console, failures
        self.foreign: set[str] = set()
        """Adapters of videos that the base was made for nothing like."""
        self.several_videos = self._told_times = False
        self._one_segment = ""

    def moments(self, search: Search) -> list[FoundMoment]:
        """Moments of all adapters, the best first. What fails is counted and stops no other."""
        from v2l.strategies.search import best_first

        found: list[FoundMoment] = []
        for number, one in enumerate(search.among(self._read()), 1):
            if one.moments is None:
                self._failed(AdapterError(f"{one.name} cannot be searched, because with it the model's numbers are not "
                                          "finite: it was damaged, or made so; get it again, or try --dtype "
                                          "float32."), [one.name])
            elif one.moments:
                self.several_videos |= one.parts.several_videos
                if len(one.parts) == 1 and len(self._names) == 1:
                    self._one_segment = one.name
            found += one.moments or []
            self._console.progress("Searching", number, len(self._names))
        return best_first(found)

    def _read(self) -> Iterator[tuple[str, Parts]]:
        """Every adapter that can be asked."""
        from v2l.strategies.parts import Parts

        for name, adapter in read_fitting(self._names, self._chosen, self._engine, self._failed):
            try:
                parts = Parts(self._engine, adapter)
            except V2LError as error:
                self._failed(error, [name])
                continue
            if is_foreign(adapter.record):
                self.foreign.add(name)
            yield name, parts

    def _chosen(self, name: str) -> Adapter:
        """What of an adapter is searched; says once where times are of several videos."""
        adapter = read_adapter(name)
        if not self._told_times and self._choice.is_ambiguous(adapter):
            note_ambiguous(adapter, self._choice, self._console)
            self._told_times = True
        return chosen(adapter, self._choice)

    def _failed(self, error: V2LError, names: list[str]) -> None:
        self._console.aside()
        self._failures.add(error, names[0])
        for name in names if self._json else ():
            write_json({"adapter": name, "error": sentence(error, f"{name}: ")})

    def note(self, search: Search, found: bool) -> None:
        """Says what is odd about what was found, or that nothing was."""
        if (search.unanswered or not found) and (why := search.nothing(self._engine.files.name)):
            self._console.warn(why if search.unanswered else f"{why} --threshold sets another score.")
        if self.foreign:
            self._console.warn(foreign_text(*sorted(self.foreign), of=len(self._names)))
        if self._one_segment:
            self._console.warn(f"{self._one_segment} has one segment; v2l ingest --segment gives finer times.")


def _print(found: Sequence[FoundMoment], searching: _Searching, query: str, format: str | None, model: str | None
           ) -> None:
    """Prints moments, the best first, or for players in the order of time; as JSON where `model`, the base, is named.
    UsageError where a file for players would be of several videos."""
    if not found:
        return
    if model:
        for one in found:
            foreign = {"foreign": True} if one.adapter in searching.foreign else {}
            write_json({"query": query, **one.document(), "model": model, **foreign})
        return
    if format:
        if len({(one.file, one.started) for one in found}) > 1:
            raise UsageError(f"{found[0].adapter} holds several videos, whose times a player would mix up; take one "
                             "out with --video NAME, or what was watched live with --from and --to.")
        write(subtitles([Cue(one.start, one.end, query) for one in found], format), end="")
        return
    rows = [(one_line(one.adapter), at_text(one.started, one.start), at_text(one.started, one.end), f"{one.score:.1f}",
             *([one_line(one.file)] if searching.several_videos else [])) for one in found]
    write(Grid(rows=rows, left=(0, 4)).text(columns()))
