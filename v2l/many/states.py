"""What became of videos, told from the files beside them; nothing is loaded, and of a video itself nothing is read
unless it is newer than its adapter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from v2l.adapter import load_label
from v2l.errors import AdapterError
from v2l.many.failures import failure_file, last_failure
from v2l.many.jobs import Job
from v2l.video.folder import has_changed

DONE, FAILED, OUTDATED, MISSING = "done", "failed", "stale", "missing"
STATES = (DONE, FAILED, OUTDATED, MISSING)


@dataclass(frozen=True)
class Standing:
    """What became of a video, and why it is not done: a sentence."""

    job: Job
    state: str
    reason: str = ""


def standings(jobs: Iterable[Job]) -> Iterator[Standing]:
    """What became of each video, in their order. Every folder is listed once, so that of what is not there nothing is
    asked."""

    @cache
    def names(folder: Path) -> frozenset[str]:
        with suppress(OSError):
            return frozenset(os.listdir(folder))
        return frozenset()

    return (_standing(job, names(job.output.parent)) for job in jobs)


def _standing(job: Job, names: frozenset[str]) -> Standing:
    if failure_file(job.output).name in names and (failure := last_failure(job.output)):
        return Standing(job, FAILED, failure.error)
    if job.output.name not in names:
        return Standing(job, MISSING)
    try:
        source = load_label(job.output).record["sources"][0]
    except AdapterError as error:
        return Standing(job, OUTDATED, str(error))
    if source["name"] != job.video.name:
        return Standing(job, OUTDATED, f"{job.output} was made of {source['name']}.")
    if has_changed(job.video, source, job.output) is not False:
        return Standing(job, OUTDATED, f"{job.video} has changed since it was watched.")
    return Standing(job, DONE)
