"""Many videos shared out to workers, each of which takes the next from one queue as soon as it is free; wherever and
however they run (`Crew`)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from v2l.errors import OutputError, V2LError
from v2l.many.failures import note_failure
from v2l.many.ingest import Failed, Ingested, Results
from v2l.many.jobs import Job
from v2l.system.files import create_folder

MOST_ENDS = 3
"""Workers that may end over one video, or in one place before they are ready, until that is given up."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its model."""

    place: str
    """The machine it is on."""
    makes: tuple[str, ...]
    """All that adapters depend on, as clauses: two workers that differ here would make different ones."""


@dataclass(frozen=True)
class Unable:
    """A worker cannot do this work where it is: it has no such model, or does not see the folders."""

    place: str
    error: V2LError


@dataclass(frozen=True)
class Ended:
    """A worker's process is no more."""

    reason: str


@dataclass(frozen=True)
class Taken:
    """Another run is at the video."""


Happening = Ready | Unable | Ended | Taken | Ingested | Failed
"""What is heard of a worker; the last three of the video that it was given."""


class Crew(Protocol):
    """Workers, wherever they run, by numbers that are never used again."""

    def start(self) -> int:
        """A new worker, of which `Ready`, `Unable` or `Ended` is heard next."""

    def give(self, worker: int, job: Job, again: bool) -> None:
        """Has a worker watch a video, unless another run is at it; `again`, wait for that run's end, and make nothing
        that it has made."""

    def dismiss(self, worker: int) -> None:
        """Ends a worker."""

    def wait(self) -> tuple[int, Happening]:
        """What happens next, to which worker."""


def share_out(crew: Crew, jobs: Iterable[Job], workers: int, told: Callable[[str], None],
              under_way: Callable[[list[Job]], None]) -> Results:
    """What became of each video, in the order in which they are done.

    A video whose worker ends goes to the end of the queue, and after `MOST_ENDS` such ends has failed. One that another
    run is at comes last. `told` gets sentences for the user, `under_way` the videos under way whenever these change.
    Raises V2LError where no worker can work. Dismissing those that are left when it ends is up to the caller.
    """
    return _Sharing(crew, jobs, told, under_way).results(workers)


class _Sharing:
    def __init__(self, crew: Crew, jobs: Iterable[Job], told: Callable[[str], None],
                 under_way: Callable[[list[Job]], None]) -> None:
        self.crew, self.told, self.under_way = crew, told, under_way
        self.queue, self.taken = deque(jobs), deque[Job]()
        self.given: dict[int, Job] = {}
        self.idle: list[int] = []
        self.starts: dict[int, int] = {}
        """Workers that are not ready yet, and how many were started in their place until now."""
        self.ends = Counter[Job]()
        """Workers that ended over a video."""
        self.makes: tuple[str, ...] | None = None
        """What the first worker's adapters depend on."""
        self.lost = V2LError("No worker was started.")
        self.folders: set[Path] = set()
        """Folders for outputs that are there."""

    def results(self, workers: int) -> Results:
        for _ in range(min(workers, len(self.queue))):
            self.starts[self.crew.start()] = 1
        while True:
            yield from self.hand_out()
            if not (self.queue or self.taken or self.given):
                return
            if not (self.given or self.starts):
                raise self.lost
            worker, event = self.crew.wait()
            if isinstance(event, Ready):
                self.begin(worker, event)
            elif isinstance(event, Unable):
                yield from self.unable(worker, event)
            elif isinstance(event, Ended):
                yield from self.ended(worker, event)
            else:
                job = self.given.pop(worker)
                self.idle.append(worker)
                if isinstance(event, Taken):
                    self.taken.append(job)
                else:
                    yield event

    def hand_out(self) -> Results:
        """Gives every worker that is free a video; those that other runs were at when there are no others."""
        while self.idle and (self.queue or self.taken):
            again = not self.queue
            job = (self.queue or self.taken).popleft()
            if job.output.parent not in self.folders:
                try:  # here, since a folder that a worker does not see means that it is on another disk
                    create_folder(job.output.parent)
                    self.folders.add(job.output.parent)
                except OutputError as error:
                    yield self.failed(job, error)
                    continue
            worker = self.idle.pop()
            self.given[worker] = job
            self.crew.give(worker, job, again)
        self.under_way(list(self.given.values()))

    def begin(self, worker: int, ready: Ready) -> None:
        del self.starts[worker]
        self.makes = self.makes or ready.makes
        different = [f"{theirs} instead of {ours}" for theirs, ours in zip(ready.makes, self.makes, strict=True)
                     if theirs != ours]
        if different:
            self.lose(worker, ready.place, V2LError(f"It would make other adapters than the first: "
                                                    f"{', '.join(different)}."))
        else:
            self.idle.append(worker)

    def lose(self, worker: int, place: str, error: V2LError) -> None:
        """Goes on without a worker."""
        self.lost = error
        self.told(f"A worker on {place} is left out. {error}")
        self.crew.dismiss(worker)

    def unable(self, worker: int, event: Unable) -> Results:
        self.starts.pop(worker, None)
        job = self.given.pop(worker, None)
        if job and not (job.video.parent.is_dir() and job.output.parent.is_dir()):  # nobody sees it any more
            self.idle.append(worker)
            yield self.failed(job, event.error)
            return
        if job:
            self.queue.appendleft(job)
        self.lose(worker, event.place, event.error)

    def ended(self, worker: int, event: Ended) -> Results:
        starts, job = self.starts.pop(worker, 0), self.given.pop(worker, None)
        if job:
            self.ends[job] += 1
            if self.ends[job] < MOST_ENDS:
                self.told(f"A worker ended while it watched {job.video}, which another will watch: {event.reason}.")
                self.queue.append(job)
            else:
                yield self.failed(job, V2LError(
                    f"{job.video}: {MOST_ENDS} workers ended while they watched it, the last one so: {event.reason}; "
                    f"watch it by itself to see why."))
        elif starts >= MOST_ENDS:
            self.lost = V2LError(f"Workers end before they are ready: {event.reason}.")
            self.told(f"A worker is left out, since it ended {MOST_ENDS} times before it was ready: {event.reason}.")
            return
        self.starts[self.crew.start()] = starts + 1 if not job else 1

    def failed(self, job: Job, error: V2LError) -> Failed:
        note_failure(job, error)
        return Failed(job, error)
