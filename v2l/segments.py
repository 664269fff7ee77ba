"""A long video -> one adapter of its segments: cut, watched one after the other in flat memory, joined.

The file is opened, hashed and decoded once for all segments. Each is the very adapter that its window alone would give,
kept in a folder beside the output as soon as it is made, so a run that was killed goes on at the segment it was in.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.adapter import Adapter, load, save
from v2l.compose import join, slice_segments
from v2l.config import REMNANT, SHORTEST_SEGMENT, Sampling
from v2l.decode import Decoder
from v2l.errors import AdapterError, OutputError, UsageError, V2LError, VideoError
from v2l.video import SLACK, Clip, open_clip

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.hub import Progress

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class SegmentSpec:
    """How a video is cut: every so many seconds, or (None) where its picture changes."""

    length: float | None

    def __str__(self) -> str:
        return "scenes" if self.length is None else f"{self.length:g}s"


def parse(text: str) -> SegmentSpec:
    """`60s`, `90`, `2m`, `1h`, `1:30`, `1:02:03` or `scenes`. UsageError."""
    if text == "scenes":
        return SegmentSpec(None)
    clock = re.fullmatch(r"(?:(\d+):(?=[0-5]?\d:))?(\d+):([0-5]?\d(?:\.\d+)?)", text, re.ASCII)
    plain = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text, re.ASCII)
    if clock:
        hours, minutes, rest = clock.groups(default="0")
        seconds = int(hours) * 3600 + int(minutes) * 60 + float(rest)
    elif plain:
        seconds = float(plain[1]) * _UNITS[plain[2] or "s"]
    else:
        raise UsageError(f"{text!r} is no way to cut a video; write a length, such as 60s, 2m or 1:30, or scenes.")
    if not SHORTEST_SEGMENT <= seconds < float("inf"):
        raise UsageError(f"Segments must be at least {SHORTEST_SEGMENT:g} second long, not {text}.")
    return SegmentSpec(seconds)


# Where to cut.


def cut(clip: Clip, sampling: Sampling, spec: SegmentSpec) -> list[Sampling]:
    """The sampling of each segment, in time order; together they cover [start, end) of `sampling` without gap.

    Fixed lengths count from the start; a rest shorter than REMNANT of one joins the segment before it. A segment during
    which no frame begins (the rate varies) joins the one before it, whose last frame is what is shown.
    """
    start, end = sampling.start or 0.0, min(sampling.end or clip.end, clip.end)
    cuts = _regular(start, end, spec.length or 0.0)
    edges = _holding_frames(clip, [start, *cuts], end)
    ends: list[float | None] = [*edges[1:], sampling.end]
    return [replace(sampling, start=a, end=b) for a, b in zip(edges, ends, strict=True)]


def _regular(start: float, end: float, length: float) -> list[float]:
    count = max(1, ceil((end - start) / length - 1e-6))
    if count > 1 and end - start - (count - 1) * length < REMNANT * length:
        count -= 1
    return [round(start + i * length, 6) for i in range(1, count)]


def _holding_frames(clip: Clip, edges: Sequence[float], end: float) -> list[float]:
    """The edges without those that would leave a segment no frame of its own."""
    first = [bisect_left(clip.track.times, edge - SLACK) for edge in (*edges, end)]
    if end >= clip.end:
        first[-1] = clip.track.frames
    kept, taken = [edges[0]], first[0]
    for edge, place in zip(edges[1:], first[1:-1], strict=True):
        if taken < place < first[-1]:
            kept.append(edge)
            taken = place
    return kept


# Watching.


@dataclass(frozen=True)
class Segmented:
    """The file that is there now."""

    adapter: Adapter
    """Joined from all segments."""
    made: int
    """Segments that were watched in this call; the others were there from a run before."""
    skipped: bool
    """The output was up to date."""
    seconds: float
    kept: list[Path]
    """The segments' own files, where they were to be kept."""
    warnings: list[str]

    @property
    def segments(self) -> int:
        return len(self.adapter.segments)

    @property
    def frames(self) -> int:
        return sum(len(segment["timestamps"]) for segment in self.adapter.segments)


def ingest_segments(
    engine: Engine,
    video: Path | Clip,
    sampling: Sampling,
    spec: SegmentSpec,
    output: Path,
    *,
    adapter_dtype: str = "auto",
    keep: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Segmented:
    """Watches a video segment by segment and writes what was joined of them to `output`.

    `sampling` holds for each segment; a clip must have been opened with its start and end. `keep` leaves the segments'
    own files in a folder beside the output (`kept_folder`); `force` makes everything again. `progress` gets (what is
    under way, frames seen, frames of all segments). Errors: those of `open_clip` and `Engine.ingest`, the segment's
    times before them; OutputError for an output that was joined from several videos, unless forced.
    """
    started = time.perf_counter()
    clip = video if isinstance(video, Clip) else open_clip(video, sampling)
    run = _Run(engine, clip, output, adapter_dtype)
    if force:
        run.clear()
    there = None if force else run.output_there()
    windows = cut(clip, sampling, spec)
    skipped = there is not None and engine.holds(there, clip, windows, adapter_dtype)
    made = 0
    if there is None or not skipped:
        made = run.watch(windows, progress)
        there = run.join(windows)
    kept = run.keep(there, windows, kept_folder(output, spec)) if keep else []
    run.clear()
    return Segmented(there, made, skipped, time.perf_counter() - started, kept, list(clip.warnings))


def work_folder(output: Path) -> Path:
    """Where segments wait until all are there; a run that finds it goes on from it."""
    return output.with_name(f".{output.name}.parts")


def kept_folder(output: Path, spec: SegmentSpec) -> Path:
    """Where segments are kept: `lecture.segments-60s/` beside `lecture.v2lora`, so that no two ways of cutting mix."""
    return output.with_name(f"{output.stem}.segments-{spec}")


def _clock(seconds: float | None, hours: str = ":", minutes: str = ":", unit: str = "") -> str:
    """H:MM:SS, with thousandths where there are some."""
    if seconds is None:
        return "the end"
    thousandths = round(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    fraction = f".{rest:03d}" if rest else ""
    return f"{whole // 3600:02d}{hours}{whole // 60 % 60:02d}{minutes}{whole % 60:02d}{fraction}{unit}"


class _Run:
    """One video on its way to one output."""

    def __init__(self, engine: Engine, clip: Clip, output: Path, adapter_dtype: str) -> None:
        self.engine, self.clip, self.output, self.adapter_dtype = engine, clip, output, adapter_dtype
        self.work = work_folder(output)
        self.state = self._state()

    def _state(self) -> tuple[int, int]:
        try:
            found = self.clip.info.path.stat()
        except OSError as error:
            raise VideoError(f"{self.clip.info.path} cannot be read any more ({error}).") from error
        return found.st_size, found.st_mtime_ns

    def output_there(self) -> Adapter | None:
        """The adapter that stands where the output goes. OutputError if it is not ours to replace."""
        with suppress(AdapterError):
            there = load(self.output)
            if len(there.sources) > 1:
                raise OutputError(f"{self.output} holds {len(there.sources)} videos that were joined; "
                                  "name another file with -o, or replace it with --force.")
            return there
        return None

    def _name(self, window: Sampling) -> str:
        """Sorts by time: 00h12m00s-00h13m00s.v2lora."""
        end = self.clip.end if window.end is None else min(window.end, self.clip.end)
        return "-".join(_clock(t, "h", "m", "s") for t in (window.start or 0.0, end)) + self.output.suffix

    def _is_made(self, window: Sampling) -> bool:
        """Whether a run before made this segment, of this very file, with this version."""
        with suppress(AdapterError):
            there = load(self.work / self._name(window))
            import v2l

            return (self.engine.is_current(there, self.clip, window, self.adapter_dtype)
                    and there.sources == [self.clip.info.source] and there.record["v2l"] == v2l.__version__)
        return False

    def watch(self, windows: Sequence[Sampling], progress: Progress | None) -> int:
        """Makes the segments that are not there yet; how many that were."""
        _make_folder(self.work)
        clips = [self.clip.window(window) for window in windows]
        missing = {i for i, window in enumerate(windows) if not self._is_made(window)}
        frames = [len(clip.indices) for clip in clips]
        with closing(Decoder(self.clip.track)) as decoder:
            for i in sorted(missing):
                what = f"{self.clip.info.path.name}, segment {i + 1}/{len(windows)}"
                with _counted(self.engine, progress, what, sum(frames[:i]), sum(frames)):
                    try:
                        self._watch(replace(clips[i], decoder=decoder), windows[i])
                    except V2LError as error:
                        raise type(error)(self._where(i, windows) + str(error)) from error
        return len(missing)

    def _watch(self, clip: Clip, window: Sampling) -> None:
        adapter = self.engine.ingest(clip, window, self.adapter_dtype)
        if self._state() != self.state:
            raise VideoError(f"{clip.info.path} was changed while it was watched; start again when it is complete.")
        save(adapter, self.work / self._name(window))

    def _where(self, i: int, windows: Sequence[Sampling]) -> str:
        window = windows[i]
        kept = f", and the {i} before it are kept for the next run" if i else ""
        return f"Segment {i + 1} of {len(windows)} ({_clock(window.start)} to {_clock(window.end)}) failed{kept}: "

    def join(self, windows: Sequence[Sampling]) -> Adapter:
        parts: list[Adapter] = []
        for window in windows:
            part = load(self.work / self._name(window))
            first = parts[0] if parts else part
            # All carry the hypernetwork's bias, half of a file; it is held once.
            if all(getattr(first, name).tobytes() == getattr(part, name).tobytes() for name in ("bias_A", "bias_B")):
                part = replace(part, bias_A=first.bias_A, bias_B=first.bias_B)
            parts.append(part)
        adapter, _ = join(parts)
        save(adapter, self.output)
        return adapter

    def keep(self, adapter: Adapter, windows: Sequence[Sampling], folder: Path) -> list[Path]:
        """Moves the segments to where they stay; those that are gone are cut out of the joined adapter again."""
        _make_folder(folder)
        kept = []
        for i, window in enumerate(windows):
            name = self._name(window)
            try:
                os.replace(self.work / name, folder / name)
            except OSError:
                save(slice_segments(adapter, [i]), folder / name)
            kept.append(folder / name)
        return kept

    def clear(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create the folder {folder}: {error.strerror}; choose another place.") from error


@contextmanager
def _counted(engine: Engine, progress: Progress | None, what: str, before: int, total: int) -> Iterator[None]:
    """Lets the engine's report of the frames of a segment count on from those before it."""
    if progress is None:
        yield
        return
    usual = engine.progress
    engine.progress = lambda _, done, __: progress(what, before + done, total)
    try:
        yield
    finally:
        engine.progress = usual
