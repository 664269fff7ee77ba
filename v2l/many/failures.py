"""Failures, each noted in a small file beside the adapter that could not be made, which the next success removes.

`.talk.v2lora.failed` is hidden, so that no listing of videos or adapters has it, and holds a JSON object: `source`, the
video's name; `error`, the sentence that was printed; `at`, when (UTC, ISO 8601); `v2l`, the version.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import v2l
from v2l.errors import OutputError, sentence
from v2l.system.files import beside, create_folder, replacing
from v2l.system.interrupts import interrupt_behind
from v2l.system.strict_json import Invalid, decode, encode
from v2l.video.folder import looks_like_video

if TYPE_CHECKING:
    from v2l.many.jobs import Job

_LONGEST = 1 << 16
"""Bytes of a note that are read; a sentence has a few hundred."""


@dataclass(frozen=True)
class Failure:
    """Why a video failed when it was last watched."""

    error: str
    at: str


def failure_file(output: Path) -> Path:
    """The file that notes why an adapter could not be made."""
    return beside(output, ".{}.failed")


def note_failure(job: Job, error: Exception) -> None:
    """Notes why a video failed, of one that the folder would be searched for. A note that cannot be written is no
    second failure."""
    if interrupt_behind(error) or not (looks_like_video(job.video) and os.path.isfile(job.video)):
        return
    note = {"source": job.video.name, "error": sentence(error, f"{job.video}: "), "v2l": v2l.__version__,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    with suppress(OutputError):
        create_folder(job.output.parent)
        with replacing(failure_file(job.output)) as file:
            file.write(encode(note).encode() + b"\n")


def forget_failure(output: Path) -> None:
    """Removes the note of a failure, where there is one."""
    with suppress(OSError, ValueError):
        os.unlink(failure_file(output))


def last_failure(output: Path) -> Failure | None:
    """Why the video of an adapter failed when it was last watched; None where it did not, or no note says so."""
    try:
        with open(failure_file(output), "rb") as file:
            note = decode(file.read(_LONGEST), "the note")
        return Failure(str(note["error"]), str(note["at"]))
    except (Invalid, LookupError, TypeError):
        return Failure("The note of its failure cannot be read.", "")
    except (OSError, ValueError):
        return None
