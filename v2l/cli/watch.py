"""`v2l watch`."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.cli import options
from v2l.cli.console import Console, is_terminal, report, write, write_json
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_output
from v2l.cli.watch_ask import StandingPrinter, check_standing
from v2l.errors import OutputError, UsageError, V2LError
from v2l.wording import TIME_FORMS, count_of, duration_text, size_text, wall_span_text

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.live.watching import State, Watched, Watching

SEGMENT_S = 60.0
"""Seconds of a segment, unless another length is named."""
CENTURY = 100 * 366 * 24 * 3600.0
LARGE_FILE = 500_000_000
"""Bytes of a file that is written anew with each segment from which on that is worth a word: seconds of a disk."""


def watch_(
    source: Annotated[str, argument("SOURCE")],
    output: Annotated[Path | None, options.OUTPUT] = None,
    segment: Annotated[float, option("LENGTH", f"Length of a segment: {TIME_FORMS}.", "60s",
                                     parser=options.parse_time)] = SEGMENT_S,
    keep: Annotated[float | None, option(
        "TIME", "Drop segments that are older than TIME, with --roll their files, too.", "none is dropped",
        parser=options.parse_time)] = None,
    roll: Annotated[float | None, option(
        "TIME", "Begin a file each TIME of the day, by local time: with 1h, cam-2026-11-28T14.v2lora for cam.v2lora.",
        "one file", parser=options.parse_time)] = None,
    until: Annotated[float | None, option("TIME", "End after TIME of the source.", "with the source", "--for",
                                          parser=options.parse_time)] = None,
    timeout: Annotated[float, option("SECONDS", "Take a source for silent after SECONDS.", "10",
                                     callback=options.positive)] = 10.0,
    retries: Annotated[int | None, option("N", "Connect again N times, with growing pauses.", "for ever",
                                          callback=options.not_negative)] = None,
    ask: Annotated[list[str] | None, option("QUESTION", "Ask each segment this as it is written; may be repeated.")]
    = None,
    on_yes: Annotated[str | None, option("CMD", "Run this command of the shell when an answer becomes yes.")] = None,
    threshold: options.Threshold = None,
    model: options.Model = None, checkpoint: options.Checkpoint = None,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    adapter_dtype: options.AdapterDtype = options.Dtype.auto,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Watch a live source, and keep a memory of it in a file.

    SOURCE is rtsp://..., http(s)://... of an HLS stream, a camera (0, or /dev/video0), a file that grows, or - for
    what is piped in. @FILE reads an address from the first line of FILE, where others cannot see its password.
    Each segment is written when it ends, so the file can be asked at any moment; a crash loses the open one at most,
    and the same command goes on with the file. Prints a line for each segment.
    Times are those of the clock when pictures come. Of a file or a pipe that comes faster than it plays, what was read
    last is taken to be of now, and what is before it of earlier.
    A source that falls silent is connected to again. Where the model is slower than the stream, frames are left out,
    and said so. Ctrl-C ends it, and what was seen is kept.

    --ask puts a question to each segment by itself, and prints its answer on a line; yes and no are told by score, as
    `v2l find` finds. --on-yes runs a command when an answer becomes yes, and again only after it was no: one at a time,
    for a minute at most. It finds V2L_FILE, V2L_QUESTION, V2L_ANSWER, V2L_SCORE, V2L_START, V2L_END (seconds),
    V2L_STARTED_AT, V2L_ENDED_AT (UTC) and V2L_SOURCE in its environment; its output goes to stderr.

    \b
      v2l watch rtsp://camera/stream -o cam.v2lora --keep 24h
      v2l watch 0 -o desk.v2lora --segment 30s --roll 1h
      ffmpeg -i ... -f matroska - | v2l watch - -o show.v2lora
      v2l watch rtsp://camera/door -o door.v2lora --ask "Is someone there?" --on-yes 'notify-send "$V2L_QUESTION"'
      v2l ask cam.v2lora --from 2026-11-28T14:00 "What happened?"
    """
    if output is None:
        raise UsageError("Name the file of the memory with -o, such as -o cam.v2lora.")
    check_output(output)
    _check_times(segment, keep, roll, until, timeout)
    check_standing(ask or [], on_yes, threshold)
    from v2l.live.address import parse_address

    address = parse_address(_spelled_out(source))
    if address.kind == "pipe" and is_terminal(sys.stdin):
        raise UsageError("Nothing is piped in; - reads a video from a pipe: ffmpeg -i ... -f matroska - | v2l watch -")
    sampling = options.given(frames=frames, fps=fps)
    console = Console(quiet)
    from v2l.live.source import Reading, refuse_unreadable

    reading = Reading(timeout=timeout, retries=retries)
    refuse_unreadable(address, reading)
    if address.kind == "camera" and address.location.startswith("/dev/") and not Path(address.location).exists():
        console.note(f"{address.shown} is not there yet.")
    engine = options.load_engine(console, model, checkpoint, device, dtype, offline)
    with console.working("Loading"):
        engine.load()
    engine.progress = None
    from v2l.live.on_yes import OnYes
    from v2l.live.standing import StandingQuestions
    from v2l.live.watch import watch_live
    from v2l.live.watching import Watching

    watching = Watching(address, output, segment, engine.sampling(**sampling, resolution=resolution),
                        reading, keep, roll, until, adapter_dtype.value)
    _note_cost(console, engine, watching)
    reports = _Reports(console, json, watching)
    with ExitStack() as opened:
        if ask:
            command = None
            if on_yes:
                command = opened.enter_context(closing(OnYes(on_yes, reports.failed, note=reports.note)))
            reports.standing = StandingPrinter(console, json, StandingQuestions(engine, ask, threshold), command,
                                               reports.lock)
        opened.enter_context(console.working(address.shown, log=False))
        watch_live(engine, watching, reports)
    if reports.failures:
        raise typer.Exit(1)


def _spelled_out(source: str) -> str:
    """The source that was named, or the first line of the file that `@FILE` names: others on this machine see the words
    of a command, and an address may hold a password. UsageError."""
    if not source.startswith("@"):
        return source
    try:
        lines = Path(source[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise UsageError(f"{source[1:]}, which is to name the source, cannot be read: {reason}.") from None
    if not lines or not lines[0].strip():
        raise UsageError(f"{source[1:]}, which is to name the source, is empty.")
    return lines[0].strip()


def _check_times(segment: float, keep: float | None, roll: float | None, until: float | None, timeout: float) -> None:
    from v2l.config import SHORTEST_SEGMENT
    from v2l.live.rolling import DAY

    if segment < SHORTEST_SEGMENT:
        raise UsageError(f"Segments must be at least {SHORTEST_SEGMENT:g} second long.")
    for name, seconds in (("--segment", segment), ("--timeout", timeout)):
        if seconds > DAY:
            raise UsageError(f"{name} may be a day long at most; give 24h or less.")
    for name, value in (("--keep", keep), ("--for", until)):
        if value is not None and value > CENTURY:
            raise UsageError(f"{name} may be a hundred years at most; leave it out for no end.")
    for name, value in (("--keep", keep), ("--roll", roll), ("--for", until)):
        if value is not None and value < segment:
            raise UsageError(f"{name} must be at least as long as a segment, {segment:g} s.")
    if roll is not None and roll > DAY:
        raise UsageError("--roll begins a file each day at least; give 24h or less.")


def _note_cost(console: Console, engine: Engine, watching: Watching) -> None:
    """Says where the file becomes so large that writing it anew with each segment costs much, or grows without end."""
    from v2l.adapter.dtypes import DTYPES
    from v2l.live.rolling import most_segments

    config = engine.hypernetwork_files.config
    stored = DTYPES[engine.provenance(watching.sampling, watching.adapter_dtype).dtype].itemsize
    each = config.num_layers * config.rank * (config.d_in + config.d_out) * stored
    hourly = size_text(each * 3600 / watching.length)
    lasting = min((time for time in (watching.keep, watching.roll, watching.until) if time), default=None)
    console.note(f"{watching.address.shown}: a segment each {duration_text(watching.length)}, {size_text(each)}, "
                 f"{hourly} an hour.")
    most = most_segments(watching.sampling.frames) * watching.length
    if lasting is None and watching.address.paced:
        console.warn(f"{watching.output} grows by {hourly} an hour, up to {duration_text(most)} of it, and is written "
                     "anew with each segment; --keep 24h drops what is older, --roll 1h begins a file each hour.")
    elif lasting is not None and lasting > most:
        console.warn(f"One file holds no more than {duration_text(most)}, and then its oldest segments leave; "
                     "--roll 24h begins a file each day.")
    elif lasting is not None and each * lasting / watching.length > LARGE_FILE:
        roll = next((r for r in (3600, 1800, 600) if each * r / watching.length <= LARGE_FILE), 300)
        console.warn(f"{watching.output} grows to {size_text(each * lasting / watching.length)} and is written anew "
                     f"with each segment; --roll {'1h' if roll == 3600 else f'{roll // 60}m'} makes files of "
                     f"{size_text(each * roll / watching.length)}.")


class _Reports:
    """Tells how watching goes: results on stdout, all else on stderr. Two threads call it."""

    def __init__(self, console: Console, json: bool, watching: Watching) -> None:
        self.console, self.json, self.watching = console, json, watching
        self.failures = 0
        self.standing: StandingPrinter | None = None
        """What puts standing questions, where there are some."""
        self.lock = Lock()
        self._size, self._behind, self._told_pace, self._foreign = 0, False, False, False

    def state(self, state: State) -> None:
        clock = f"{state.now.astimezone():%H:%M:%S}" if state.now else "waiting for a picture"
        how = state.silence or ("frames are left out to keep up" if self._behind else count_of(state.held, "picture"))
        said = ", ".join([clock, how, *([size_text(self._size)] if self._size else [])])
        if self.lock.acquire(blocking=False):  # what is printed now is no reason to hold the source back
            try:
                self.console.progress(said, round(state.passed), round(self.watching.length))
            finally:
                self.lock.release()

    def watched(self, watched: Watched, engine: Engine) -> None:
        with self.lock:
            self.console.aside()
            self._size = watched.file.size
            self._tell_pace(watched)
            self._tell_foreign(watched)
            try:
                if self.json:
                    write_json(_document(watched))
                else:
                    write(_line(watched))
            except OutputError as error:  # where lines cannot be written, the file can
                self._fail(error)
        try:
            if self.standing:
                self.standing.of(watched)
        except V2LError as error:
            self.failed(error)

    def _tell_pace(self, watched: Watched) -> None:
        if watched.left_out and not self._told_pace:
            self._told_pace = True
            self.console.warn(f"The model does not keep up: a segment of {duration_text(self.watching.length)} takes "
                              f"{duration_text(watched.seconds)}, so frames are left out; fewer --frames, a longer "
                              "--segment or a smaller --resolution take less.")
        self._behind = watched.left_out > 0

    def _tell_foreign(self, watched: Watched) -> None:
        from v2l.adapter.record import foreign_text

        if watched.segment.is_foreign and not self._foreign:
            self._foreign = True
            self.console.warn(foreign_text(self.watching.address.shown, then="v2l watch with --model 500m"))

    def note(self, text: str) -> None:
        with self.lock:
            self.console.note(text)

    def failed(self, error: Exception) -> None:
        with self.lock:
            self._fail(error)

    def troubled(self, error: Exception) -> None:
        with self.lock:
            self._report(error)

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self._report(error)

    def _report(self, error: Exception) -> None:
        self.console.aside()
        report(error, f"{self.watching.address.shown}: ")


def _line(watched: Watched) -> str:
    seen = count_of(watched.frames, "frame")
    if watched.left_out:
        seen = f"{watched.frames} of {watched.frames + watched.left_out} frames"
    return (f"{watched.file.path}: {wall_span_text(watched.start, watched.end)}, {seen}, {watched.seconds:.1f} s, "
            f"{size_text(watched.file.size)}")


def _document(watched: Watched) -> dict[str, object]:
    from v2l.adapter.wall import wall_keys

    segment, record = watched.segment.segments[0], watched.segment.record
    return {"output": str(watched.file.path), "source": record["sources"][0]["name"], "start": segment["start"],
            "end": segment["end"], **wall_keys(watched.start, 0, segment["end"] - segment["start"]),
            "frames": watched.frames, "left_out": watched.left_out, "tokens": record["compute"]["tokens"],
            "segments": watched.file.segments, "size": watched.file.size, "seconds": round(watched.seconds, 3)}
