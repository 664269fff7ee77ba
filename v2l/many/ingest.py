"""Many videos -> an adapter file each: the next is decoded while one is computed, and a bad one stops no other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.adapter import Label, load_label, save
from v2l.adapter.provenance import Provenance
from v2l.adapter.record import Record, singles
from v2l.config import DECODED_AHEAD, Sampling
from v2l.errors import AdapterError
from v2l.many.failures import forget_failure, note_failure
from v2l.many.jobs import Job
from v2l.segments import QueuedClip, ingest_segments, lock_of
from v2l.system.ahead import ahead
from v2l.system.files import create_folder
from v2l.system.lock import Busy, alone
from v2l.video.clip import Clip, Frame, is_source, open_clip, span

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.video.cuts import SegmentSpec


@dataclass(frozen=True)
class Settings:
    """How videos are watched, and what is done about outputs that are there."""

    sampling: Sampling
    adapter_dtype: str = "auto"
    force: bool = False
    """Make what is up to date again, and replace what was made otherwise."""
    asked: frozenset[str] | None = None
    """What of all this was asked for, and is not only so by default (`Provenance.why_kept`); None: everything."""
    segments: SegmentSpec | None = None
    keep_segments: bool = False


@dataclass(frozen=True)
class Ingested:
    """An adapter file that was written, or was there and stays."""

    job: Job
    record: Record
    size: int
    """Bytes of the file."""
    seconds: float
    """Time it took, or to see that it was up to date."""
    skipped: bool
    """The file was there before, and stays."""
    reason: str = ""
    """Why it stays, where it was made otherwise and nothing asked for that: a clause about the file."""
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
    """Watches the videos one after the other and says what became of each, in order. Why one failed is noted beside
    its output, and forgotten when it succeeds (`failures`).

    `first` is the first video, where it was opened already. `engine.progress` hears of every video when its turn comes.
    A video that another process is at comes last: that process's file is up to date then, or, if it was killed, made.
    What is no fault of one video (KeyboardInterrupt, for example) is raised; close the iterator when leaving it early.
    """
    with closing(_results(engine, jobs, settings, first)) as results:
        yield from map(_noted, results)


def ingest_one(engine: Engine, job: Job, settings: Settings, patient: bool) -> Ingested | Failed | None:
    """What becomes of one video, as of `ingest_all`. Where another process is at it: None, or if `patient`, what that
    made of it."""
    if patient:
        (result,) = ingest_all(engine, [job], replace(settings, force=False))
        return result
    done = _one_pass(settings)(engine, [job], settings, None)
    return next(map(_noted, list(done)), None)


def _noted(result: Ingested | Failed) -> Ingested | Failed:
    """A result, of which a note is left where it is a failure, and none where it is not."""
    if isinstance(result, Failed):
        note_failure(result.job, result.error)
    else:
        forget_failure(result.job.output)
    return result


def _results(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None) -> Results:
    one_pass = _one_pass(settings)
    busy = yield from one_pass(engine, jobs, settings, first)
    # What another process has just made is not made again, not even where everything is.
    settings = replace(settings, force=False)
    while busy:
        with alone(lock_of(busy[0].output), partial(_tell_waiting, engine, busy[0])):
            pass
        busy = yield from one_pass(engine, busy, settings, None)


def _tell_waiting(engine: Engine, job: Job) -> None:
    if engine.progress:
        engine.progress(f"{job.video.name}, waiting for another run", 0, None)


Pass = Generator[Ingested | Failed, None, list[Job]]
"""What becomes of videos; it returns those that another process is at."""


def _one_pass(settings: Settings) -> Callable[[Engine, Iterable[Job], Settings, Clip | None], Pass]:
    return _whole if settings.segments is None else _in_segments


def _in_segments(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None) -> Pass:
    busy = []
    for job in jobs:
        clip, first = first or job.video, None
        try:
            create_folder(job.output.parent)
            assert settings.segments is not None
            done = ingest_segments(engine, clip, settings.sampling, settings.segments, job.output,
                                   progress=engine.progress, adapter_dtype=settings.adapter_dtype,
                                   keep=settings.keep_segments, force=settings.force, asked=settings.asked,
                                   patient=False)
            yield Ingested(job, done.adapter.record, done.adapter.file_size, done.seconds, done.skipped, done.reason,
                           0 if done.skipped else done.segments - done.watched, done.kept, done.warnings)
        except Busy:
            busy.append(job)
        except Exception as error:
            yield _failed(job, error)
    return busy


def _failed(job: Job, error: Exception) -> Failed:
    traceback.clear_frames(error.__traceback__)  # the tensors in them must be gone before the next video
    return Failed(job, error)


# One adapter a video: a thread opens and decodes, this one computes. For each video there passes between them either
# what became of it, where there is nothing to compute, or `_Taken`; or its clip, its frames, and `_End` or what went
# wrong. The thread locks the output before it looks at it, and this one lets go when the file is written.


class _Coming(QueuedClip):
    """The clip of a job: decoded in the thread, by `decoded`, and watched here."""

    def __init__(self, job: Job, clip: Clip, lock: ExitStack) -> None:
        super().__init__(clip, iter(()))
        self.job, self.lock = job, lock
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
        """Takes the frames nobody looked at out of the queue, and lets others at the output."""
        self.lock.close()
        self.unwanted = True
        if self.last is None:
            for _ in super().frames():
                pass


class _End:
    """The last frame of a clip has come."""


@dataclass(frozen=True)
class _Taken:
    """Another process is at this video."""

    job: Job


_Item = Ingested | Failed | _Taken | _Coming | Frame | _End


def _whole(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None) -> Pass:
    busy = []
    with ExitStack() as locks, ahead(
            _decoded(engine, jobs, settings, first, locks), DECODED_AHEAD, _bytes) as queue:
        for item in queue:
            if isinstance(item, _Coming):
                item.queue = queue
                result = _ingest(engine, item, settings)
                item.drop()
                yield result
            elif isinstance(item, _Taken):
                busy.append(item.job)
            elif isinstance(item, (Ingested, Failed)):
                yield item
    return busy


def _bytes(item: _Item) -> int:
    if isinstance(item, Frame):
        return item.image.nbytes
    return 16 * item.track.frames if isinstance(item, _Coming) else 0


def _decoded(engine: Engine, jobs: Iterable[Job], settings: Settings, first: Clip | None, locks: ExitStack
             ) -> Iterator[_Item]:
    """What passes between the threads, job by job; runs in the thread."""
    for job in jobs:
        lock = locks.enter_context(ExitStack())
        try:
            if not job.output.parent.is_dir():  # there is nothing to lock then, and nothing that could be up to date
                first = first or open_clip(job.video, settings.sampling)
                create_folder(job.output.parent)
            lock.enter_context(alone(lock_of(job.output)))
            opened = _opened(engine, job, settings, first, lock)
            yield opened
            if isinstance(opened, _Coming):
                yield from opened.decoded()
                yield _End()
            else:
                lock.close()
        except Busy:
            yield _Taken(job)
        except Exception as error:
            lock.close()
            yield _failed(job, error)
        first = None


def _opened(engine: Engine, job: Job, settings: Settings, clip: Clip | None, lock: ExitStack) -> Ingested | _Coming:
    """The adapter file of a video if it stays, else the video's clip. OutputError where it is not what was asked
    for."""
    started, sampling = time.perf_counter(), settings.sampling
    if not settings.force:
        with suppress(AdapterError):
            label = load_label(job.output)
            made_with = engine.provenance(sampling, settings.adapter_dtype)
            reason: str | None = ""
            if not is_unchanged(label, job.video, sampling, made_with):
                clip = clip or open_clip(job.video, sampling)
                reason = made_with.why_kept(str(job.output), label, [clip.span(sampling)], clip.info.source,
                                            settings.asked)
            if reason is not None:
                seconds = time.perf_counter() - started
                return Ingested(job, label.record, label.size, seconds, skipped=True, reason=reason)
    return _Coming(job, clip or open_clip(job.video, sampling), lock)


def is_unchanged(label: Label, video: Path, sampling: Sampling, made_with: Provenance) -> bool:
    """Whether the adapter is up to date, told without opening the video: of a file that is the same to the byte the
    record says how long it is. False where that does not settle it, as of a record without a decoder: older versions
    read some files otherwise."""
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
        if engine.progress:
            engine.progress(f"{clip.info.path.name}, writing", len(clip.indices), len(clip.indices))
        create_folder(job.output.parent)
        save(adapter, job.output)
    except Exception as error:
        return _failed(job, error)
    return Ingested(job, adapter.record, adapter.file_size, time.perf_counter() - started, skipped=False,
                warnings=clip.warnings)
