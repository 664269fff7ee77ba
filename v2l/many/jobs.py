"""Which adapter file each video becomes. Nothing heavy is imported."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from v2l.adapter import load_label
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import V2LError
from v2l.system.files import without_ending
from v2l.video.folder import EXTENSIONS, looks_like_video


@dataclass(frozen=True)
class Job:
    """A video to watch and the adapter file it becomes."""

    video: Path
    output: Path


def adapter_for(video: Path, place: Path | None = None) -> Path:
    """The adapter that a video becomes, beside it or, if it is to be put elsewhere, beside `place`: `talk.mp4` ->
    `talk.v2lora`. Where its folder holds a video `talk.mkv` too, each keeps its ending, whichever are named:
    `talk.mp4.v2lora`; only what `talk.v2lora` was made of already keeps that."""
    place = place or video
    stem = without_ending(place, EXTENSIONS).name
    plain, kept = place.with_name(stem + ADAPTER_SUFFIX), place.with_name(place.name + ADAPTER_SUFFIX)
    beside = videos_by_stem(video.parent).get(stem, ())
    return kept if len({video.name, *beside}) > 1 and not _is_made_of(plain, video) else plain


@lru_cache(maxsize=1 << 12)
def videos_by_stem(folder: Path) -> dict[str, list[str]]:
    """The videos in a folder, by their names without the ending; as it was when first asked."""
    found: dict[str, list[str]] = {}
    with suppress(OSError):
        for name in os.listdir(folder):
            stem = without_ending(Path(name), EXTENSIONS).name
            if stem != name and not name.startswith(".") and looks_like_video(folder / name):
                found.setdefault(stem, []).append(name)
    return found


def _is_made_of(adapter: Path, video: Path) -> bool:
    """Whether an adapter is there and says that it was made of a video of that name."""
    with suppress(V2LError):
        return bool(load_label(adapter).record["sources"][0]["name"] == video.name)
    return False
