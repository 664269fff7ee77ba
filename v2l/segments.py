"""A long video -> one adapter of its segments: cut, watched one after the other in flat memory, joined.

The file is opened, hashed and decoded once for all segments; only to find scenes, its pictures are gone through before
that. Each segment is the very adapter that its window alone would give, kept in a folder beside the output as soon as
it is made, so a run that was killed goes on at the segment it was in.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import v2l
from v2l.adapter import Adapter, Label, load, save
from v2l.adapter.join import join, slice_segments
from v2l.adapter.label import MAX_HEADER
from v2l.adapter.provenance import Provenance
from v2l.adapter.record import Record
from v2l.config import ADAPTER_SUFFIX, DECODED_AHEAD, Sampling, Scenes
from v2l.errors import AdapterError, UsageError, V2LError, VideoError
from v2l.system.ahead import ahead
from v2l.system.files import beside, create_folder, replacing, without_ending
from v2l.system.lock import alone
from v2l.system.strict_json import encode
from v2l.video.clip import Clip, Frame, open_clip
from v2l.video.cuts import SegmentSpec, frame_at, regular, windows
from v2l.video.decode import Decoder
from v2l.video.scenes import scene_edges
from v2l.wording import file_time_text, time_text

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.system.progress import Progress


@dataclass(frozen=True)
class Segmented:
    """The adapter file of a video's segments, and how it came about."""

    adapter: Adapter
    """Joined from all segments."""
    watched: int
    """Segments that were watched in this call; the others were there from a run before."""
    skipped: bool
    """The output was up to date."""
    seconds: float
    kept: list[Path]
    """The segments' own files, where they were to be kept."""
    warnings: list[str]
    reason: str = ""
    """Why what is there stayed, where it was made otherwise."""

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
    asked: Collection[str] | None = None,
    patient: bool = True,
    progress: Progress | None = None,
) -> Segmented:
    """Watches a video segment by segment and writes what was joined of them to `output`.

    `sampling` holds for each segment; a clip must have been opened with its start and end. `keep` leaves the segments'
    own files in a folder beside the output (`kept_folder`); `force` makes everything again. An output that is there and
    was made otherwise stays (`Provenance.why_kept` with `asked`), unless forced. `progress` gets (what is under way,
    frames seen, frames of all segments). Where another run makes the same output, its end is waited for; unless
    `patient`, Busy is raised.
    Errors: those of `open_clip` and `Engine.ingest`, the segment's times before them; OutputError for an output that
    is not what was asked for.
    """
    started = time.perf_counter()
    clip = video if isinstance(video, Clip) else open_clip(video, sampling)
    run = _Run(engine, clip, output, sampling, adapter_dtype, progress)
    with alone(lock_of(output), run.tell_waiting if patient else None):
        return _ingest(run, sampling, spec, keep, force, asked, started)


def _ingest(run: _Run, sampling: Sampling, spec: SegmentSpec, keep: bool, force: bool,
            asked: Collection[str] | None, started: float) -> Segmented:
    """What `ingest_segments` does while no other run makes the same output: they share the work folder."""
    if force:
        run.clear()
    adapter, reason, watched = None if force else run.output_there(), "", 0
    parts = windows(run.clip, sampling, run.cuts(sampling, spec))
    if adapter is not None:
        spans = [run.clip.span(part) for part in parts]
        why = run.made_with.why_kept(adapter.name, adapter, spans, run.clip.info.source, asked, segmented=True)
        adapter, reason = (None, "") if why is None else (adapter, why)
    skipped = adapter is not None
    if adapter is None:
        try:
            watched = run.watch(parts)
        finally:
            with suppress(OSError):
                run.work.rmdir()  # if nothing came of it
        if run.progress:
            seen = sum(len(run.clip.window(part).indices) for part in parts)
            run.progress(f"{run.clip.info.path.name}, writing", seen, seen)
        adapter = run.join(parts)
    kept = []
    if keep and not reason:
        kept = run.keep(adapter, parts, kept_folder(run.output, spec), moving=not skipped)
    if skipped:
        run.tidy(parts)
    else:
        run.clear()
    return Segmented(adapter, watched, skipped, time.perf_counter() - started, kept, list(run.clip.warnings), reason)


def is_current(
    adapter: Adapter | Label, clip: Clip, parts: Sequence[Sampling], made_with: Provenance
) -> bool:
    """Whether these parts of the clip's file, watched and joined, would give this adapter again."""
    spans = [clip.span(part) for part in parts]
    return not made_with.differences(adapter, spans, clip.info.source)


def lock_of(output: Path) -> Path:
    """The file that one run at a time locks to make `output`."""
    return beside(output, ".{}.lock")


def work_folder(output: Path) -> Path:
    """Where segments wait until all are there; a run that finds it goes on from it."""
    return beside(output, ".{}.parts")


def kept_folder(output: Path, spec: SegmentSpec) -> Path:
    """Where segments are kept: `lecture.segments-60s/` beside `lecture.v2lora`, named by the length asked for."""
    return beside(without_ending(output, [ADAPTER_SUFFIX]), f"{{}}.segments-{spec}")


class QueuedClip(Clip):
    """A clip whose frames are decoded in a thread and come out of a queue, up to the first item that is none."""

    def __init__(self, clip: Clip, queue: Iterator[object]) -> None:
        super().__init__(clip.info, clip.indices, clip.warnings, clip.track)
        self.queue = queue
        self.last: object = None
        """The item that came after the frames, once it has come."""

    def frames(self) -> Iterator[Frame]:
        for item in self.queue:
            if not isinstance(item, Frame):
                self.last = item
                return
            yield item


def _decoded(clips: Sequence[Clip]) -> Iterator[Frame | None]:
    """Frames of clips of one file, decoded in one pass, with None after each clip; runs in the thread."""
    if not clips:
        return
    with closing(Decoder(clips[0].track)) as decoder:
        for clip in clips:
            yield from replace(clip, decoder=decoder).frames()
            yield None


class _Run:
    """One video on its way to one output."""

    def __init__(
        self,
        engine: Engine,
        clip: Clip,
        output: Path,
        sampling: Sampling,
        adapter_dtype: str,
        progress: Progress | None,
    ) -> None:
        self.engine, self.clip, self.output = engine, clip, output
        self.adapter_dtype, self.progress = adapter_dtype, progress
        self.made_with = engine.provenance(sampling, adapter_dtype)
        self.work = work_folder(output)
        self.state = self._state()

    def _state(self) -> tuple[int, int]:
        try:
            status = self.clip.info.path.stat()
        except OSError as error:
            raise VideoError(f"{self.clip.info.path} cannot be read any more ({error}).") from error
        return status.st_size, status.st_mtime_ns

    def tell_waiting(self) -> None:
        if self.progress:
            self.progress(f"{self.clip.info.path.name}, waiting for another run", 0, None)

    def output_there(self) -> Adapter | None:
        """The adapter that stands where the output goes."""
        try:
            return load(self.output)
        except AdapterError:
            return None

    def cuts(self, sampling: Sampling, spec: SegmentSpec) -> list[float]:
        """Where to cut, in seconds; scenes are looked for once and noted in the work folder."""
        start, end = self.clip.span(sampling)
        if spec.length is not None:
            return regular(start, end, spec.length)
        scenes, note = Scenes(), self.work / "scenes.json"
        asked: Record = {"video": self.clip.info.source["sha256"], "start": start, "end": end, "scenes": asdict(scenes),
                         "v2l": v2l.__version__}
        with suppress(OSError, ValueError, LookupError, TypeError):
            noted = json.loads(note.read_text())
            if noted["asked"] == asked:
                return [float(cut) for cut in noted["cuts"]]
        first, stop = frame_at(self.clip, start), frame_at(self.clip, end)
        what, tell = f"{self.clip.info.path.name}, looking for scenes", self.progress
        cuts = scene_edges(self.clip.track, first, stop, scenes, tell and (lambda seen: tell(what, seen, stop - first)))
        create_folder(self.work)
        with replacing(note) as file:
            file.write(encode({"asked": asked, "cuts": cuts}).encode())
        return cuts

    def _name(self, window: Sampling) -> str:
        """File name of a segment, such as 00h12m00s-00h13m00s.v2lora; names sort by time."""
        return "-".join(file_time_text(at) for at in self.clip.span(window)) + ADAPTER_SUFFIX

    def _is_made(self, window: Sampling) -> bool:
        """Whether a run before made this segment, of this very file, with this version."""
        with suppress(AdapterError):
            adapter = load(self.work / self._name(window))
            return (is_current(adapter, self.clip, [window], self.made_with)
                    and adapter.sources == [self.clip.info.source] and adapter.record["v2l"] == v2l.__version__)
        return False

    def watch(self, parts: Sequence[Sampling]) -> int:
        """Watches the segments that no run before made, and returns how many those were."""
        clips = [self.clip.window(window) for window in parts]
        if sum(120 + 20 * len(clip.indices) for clip in clips) > MAX_HEADER:  # about what they take
            raise UsageError(f"{len(clips)} segments record more than one file can hold; cut longer ones, or take "
                             "fewer --frames of each.")
        create_folder(self.work)
        missing = [i for i, window in enumerate(parts) if not self._is_made(window)]
        frames = [len(clip.indices) for clip in clips]
        with (ahead(_decoded([clips[i] for i in missing]), DECODED_AHEAD, _bytes) as queue,
              self.engine.base.remembering()):
            for i in missing:
                clip = QueuedClip(replace(clips[i], warnings=[]), queue)
                what = (self.clip.info.path.name, f", segment {i + 1}/{len(parts)}")
                with _counted(self.engine, self.progress, what, sum(frames[:i]), sum(frames)):
                    try:
                        self._watch(clip, parts[i])
                    except V2LError as error:
                        raise type(error)(self._where(i, parts) + str(error)) from error
        return len(missing)

    def _watch(self, clip: Clip, window: Sampling) -> None:
        adapter = self.engine.ingest(clip, window, self.adapter_dtype)
        if self._state() != self.state:
            raise VideoError(f"{clip.info.path} was changed while it was watched; start again when it is complete.")
        save(adapter, self.work / self._name(window))

    def _where(self, i: int, parts: Sequence[Sampling]) -> str:
        start, end = self.clip.span(parts[i])
        kept = ", and what was done before it is kept for the next run" if i else ""
        return f"Segment {i + 1} of {len(parts)} ({time_text(start)} to {time_text(end)}) failed{kept}: "

    def join(self, parts: Sequence[Sampling]) -> Adapter:
        adapters: list[Adapter] = []
        for window in parts:
            adapter = load(self.work / self._name(window))
            first = adapters[0] if adapters else adapter
            # All carry the hypernetwork's bias, half of such a file; it is held once.
            if all(getattr(first, name).tobytes() == getattr(adapter, name).tobytes() for name in ("bias_A", "bias_B")):
                adapter = replace(adapter, bias_A=first.bias_A, bias_B=first.bias_B)
            adapters.append(adapter)
        joined, _ = join(adapters)
        save(joined, self.output)
        return joined

    def keep(self, adapter: Adapter, parts: Sequence[Sampling], folder: Path, moving: bool) -> list[Path]:
        """Moves the segments that were just made to where they stay; else they are cut out of the joined adapter."""
        create_folder(folder)
        kept = []
        for i, window in enumerate(parts):
            name = self._name(window)
            if not (moving and self._moved(name, folder)):
                save(slice_segments(adapter, [i]), folder / name)
            kept.append(folder / name)
        return kept

    def _moved(self, name: str, folder: Path) -> bool:
        try:
            os.replace(self.work / name, folder / name)
        except OSError:
            return False
        return True

    def tidy(self, parts: Sequence[Sampling]) -> None:
        """Removes what waits of the segments that the output holds: it was joined by a run that was killed then. Others
        wait for a run with other settings."""
        for window in parts:
            if self.work.exists() and self._is_made(window):
                with suppress(OSError):
                    (self.work / self._name(window)).unlink()
        if not any(self.work.glob(f"*{self.output.suffix}")):
            self.clear()

    def clear(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def _bytes(frame: Frame | None) -> int:
    return frame.image.nbytes if frame else 0


@contextmanager
def _counted(engine: Engine, progress: Progress | None, what: tuple[str, str], before: int, total: int
             ) -> Iterator[None]:
    """Lets the engine's report of the frames of a segment count on from those before it."""
    if progress is None:
        yield
        return
    usual, (name, segment) = engine.progress, what
    # The engine says `film.mp4` and, later, `film.mp4, layer 3/32`.
    engine.progress = lambda title, done, _: progress(name + segment + title.removeprefix(name), before + done, total)
    try:
        yield
    finally:
        engine.progress = usual
