"""Many videos -> an adapter file each: the next is decoded while one is computed, and a bad one stops no other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.adapter import Label, load_label, save
from v2l.adapter.provenance import Provenance
from v2l.adapter.record import Record, singles
from v2l.config import DECODED_AHEAD, Sampling
from v2l.errors import AdapterError
from v2l.segments import QueuedClip, ingest_segments, is_current, refuse_composed
from v2l.system.ahead import ahead
from v2l.system.files import create_folder
from v2l.video.clip import Clip, Frame, is_source, open_clip, span

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.video.cuts import SegmentSpec


@dataclass(frozen=True)
class Job:
    """A video to watch and the adapter file it becomes."""

    video: Path
    output: Path


@dataclass(frozen=True)
class Settings:
    """How videos are watched, and what is done about outputs that are there."""

    sampling: Sampling
    adapter_dtype: str = "auto"
    force: bool = False
    """Make what is up to date again, and replace what was joined."""
    segments: SegmentSpec | None = None
    keep_segments: bool = False


@dataclass(frozen=True)
class Ingested:
    """An adapter file that was written, or was up to date."""

    job: Job
    record: Record
    size: int
    """Bytes of the file."""
    seconds: float
    """Time it took, or to see that it was up to date."""
    skipped: bool
    """The file was there before, and up to date."""
    resumed: int = 0
    """Segments that a run before had made already."""
    kept: Sequence[Path] = ()
    """The segments' own files."""
    warnings: Sequence[str] = ()

    @property
    def segments(self) -> int:
        return len(self.record["segments"])

    @property
    def frames(self) -> int:
        return sum(len(segment["timestamps"]) for segment in self.record["segments"])

    @property
    def tokens(self) -> int | None:
        """Tokens of the prompts of all segments; None where one is not known."""
        counts = [record["compute"].get("tokens") for record in singles(self.record)]
        return None if None in counts else sum(counts)


@dataclass(frozen=True)
class Failed:
    """A video of which nothing was made; what stood at its output is untouched."""

    job: Job
    error: Exception


Results = Generator[Ingested | Failed, None, None]


def ingest_all(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None = None) -> Results:
    """Watches the videos one after the other and says what became of each, in order.

    `first` is the first video, where it was opened already. `engine.progress` hears of every video when its turn comes.
    What is no fault of one video (KeyboardInterrupt, for example) is raised; close the iterator when leaving it early.
    """
    if settings.segments is not None:
        return _in_segments(engine, jobs, settings, settings.segments, first)
    return _whole(engine, jobs, settings, first)


def _in_segments(
    engine: Engine, jobs: Iterable[Job], settings: Settings, spec: SegmentSpec, first: Clip | None
) -> Results:
    for job in jobs:
        clip, first = first or job.video, None
        try:
            create_folder(job.output.parent)
            done = ingest_segments(engine, clip, settings.sampling, spec, job.output, progress=engine.progress,
                                   adapter_dtype=settings.adapter_dtype, keep=settings.keep_segments,
                                   force=settings.force)
            yield Ingested(job, done.adapter.record, done.adapter.file_size, done.seconds, done.skipped,
                       0 if done.skipped else done.segments - done.watched, done.kept, done.warnings)
        except Exception as error:
            yield _failed(job, error)


def _failed(job: Job, error: Exception) -> Failed:
    traceback.clear_frames(error.__traceback__)  # the tensors in them must be gone before the next video
    return Failed(job, error)


# One adapter a video: a thread opens and decodes, this one computes. For each video there passes between them either
# what became of it, where there is nothing to compute; or its clip, its frames, and `_End` or what went wrong.


class _Coming(QueuedClip):
    """The clip of a job: decoded in the thread, by `decoded`, and watched here."""

    def __init__(self, job: Job, clip: Clip) -> None:
        super().__init__(clip, iter(()))
        self.job = job
        self.unwanted = False

    def decoded(self) -> Iterator[Frame]:
        for frame in Clip.frames(self):
            if self.unwanted:
                return
            yield frame

    def frames(self) -> Iterator[Frame]:
        yield from super().frames()
        if isinstance(self.last, Failed):
            # Without the thread's frames: who handles the error clears them, which would end the generator in there.
            raise self.last.error.with_traceback(None)

    def drop(self) -> None:
        """Takes the frames nobody looked at out of the queue."""
        self.unwanted = True
        if self.last is None:
            for _ in super().frames():
                pass


class _End:
    """The last frame of a clip has come."""


_Item = Ingested | Failed | _Coming | Frame | _End


def _whole(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None) -> Results:
    with ahead(_decoded(engine, jobs, settings, first), DECODED_AHEAD, _bytes) as queue:
        for item in queue:
            if isinstance(item, _Coming):
                item.queue = queue
                yield _ingest(engine, item, settings)
                item.drop()
            elif isinstance(item, (Ingested, Failed)):
                yield item


def _bytes(item: _Item) -> int:
    if isinstance(item, Frame):
        return item.image.nbytes
    return 16 * item.track.frames if isinstance(item, _Coming) else 0


def _decoded(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None) -> Iterator[_Item]:
    """What passes between the threads, job by job; runs in the thread."""
    for job in jobs:
        try:
            opened = _opened(engine, job, settings, first)
            yield opened
            if isinstance(opened, _Coming):
                yield from opened.decoded()
                yield _End()
        except Exception as error:
            yield _failed(job, error)
        first = None


def _opened(engine: Engine, job: Job, settings: Settings, clip: Clip | None) -> Ingested | _Coming:
    """The adapter file of a video if it is up to date, else the video's clip."""
    started, sampling = time.perf_counter(), settings.sampling
    if not settings.force:
        with suppress(AdapterError):
            label = load_label(job.output)
            made_with = engine.provenance(sampling, settings.adapter_dtype)
            current = is_unchanged(label, job.video, sampling, made_with)
            if not current:
                clip = clip or open_clip(job.video, sampling)
                current = is_current(label, clip, [sampling], made_with)
            if current:
                return Ingested(job, label.record, label.size, time.perf_counter() - started, skipped=True)
            refuse_composed(job.output, label.record)
    return _Coming(job, clip or open_clip(job.video, sampling))


def is_unchanged(label: Label, video: Path, sampling: Sampling, made_with: Provenance) -> bool:
    """`is_current`, told without opening the video: of a file that is the same to the byte the record says how long it
    is. False where that does not settle it, as of a record without a decoder: older versions read some files otherwise.
    """
    record = singles(label.record)[0]
    if "decoder" not in record["compute"]:
        return False
    source = record["sources"][0]
    begin = source.get("start", 0.0)
    spans = [span(begin, begin + source["duration"], sampling)]
    return not made_with.differences(label, spans) and is_source(video, source)


def _ingest(engine: Engine, clip: _Coming, settings: Settings) -> Ingested | Failed:
    started, job = time.perf_counter(), clip.job
    try:
        if engine.progress:
            engine.progress(clip.info.path.name, 0, len(clip.indices))
        adapter = engine.ingest(clip, settings.sampling, settings.adapter_dtype)
        create_folder(job.output.parent)
        save(adapter, job.output)
    except Exception as error:
        return _failed(job, error)
    return Ingested(job, adapter.record, adapter.file_size, time.perf_counter() - started, skipped=False,
                warnings=clip.warnings)
