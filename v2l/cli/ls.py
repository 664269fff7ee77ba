"""`v2l ls`: what adapters there are, and whether they still are what their videos would give."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from v2l.adapter.record import Record, is_foreign
from v2l.adapter.wall import wall_moments, whole_keys
from v2l.cli import options
from v2l.cli.adapters import check_exists
from v2l.cli.console import Console, Failures, one_line, write, write_json
from v2l.cli.inputs import adapters_of, expand
from v2l.cli.options import argument, option
from v2l.config import DEFAULT_MODEL
from v2l.errors import V2LError
from v2l.video.folder import has_changed
from v2l.wording import count_of, shortened, size_text, time_text, wall_text

if TYPE_CHECKING:
    from v2l.adapter import Label

UP_TO_DATE, STALE, NOT_FOUND, LIVE = "up to date", "stale", "video not found", "live"
MOST_FILES = 100_000
"""Files that are looked through for videos, in 2 s; a whole disk has millions."""


@dataclass(frozen=True)
class Listed:
    """An adapter's file, as a line tells of it."""

    path: Path
    label: Label
    state: str

    @property
    def videos(self) -> list[str]:
        return [source["name"] for source in self.label.record["sources"]]

    @property
    def seconds(self) -> float:
        """How much was watched, of all its segments."""
        return float(sum(segment["end"] - segment["start"] for segment in self.label.record["segments"]))

    def row(self) -> tuple[str, ...]:
        """File, video, length, segments, base, size, state, and a mark where the base knows nothing of the video."""
        videos, record, state = self.videos, self.label.record, self.state
        if state == LIVE:
            state += f" until {wall_text(max(wall_moments(record['sources'], record['segments'])))}"
            videos = list(dict.fromkeys(videos))  # a camera that was watched again is no other
        return (one_line(str(self.path)), shortened(one_line(videos[0]), 40) if len(videos) == 1 else
                f"{len(videos)} videos", time_text(round(self.seconds)),
                count_of(len(record["segments"]), "segment"), _base_name(record), size_text(self.label.size), state,
                "foreign" if is_foreign(record) else "")

    def document(self) -> dict[str, Any]:
        """The row for JSON; seconds and bytes as numbers."""
        record = self.label.record
        return {"adapter": str(self.path), "videos": self.videos, "seconds": round(self.seconds, 3),
                "segments": len(record["segments"]), "base": record["base"]["id"],
                "hypernetwork": record["hypernetwork"]["id"], "dtype": self.label.dtype, "size": self.label.size,
                "state": self.state, "foreign": is_foreign(record),
                **whole_keys(record)}


def ls(
    folders: Annotated[list[str] | None, argument("[FOLDER]...")] = None,
    videos: Annotated[Path | None, option("DIR", "Look for the videos below DIR first.",
                                                 "next to each adapter, FOLDER, this folder")] = None,
    json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """List adapters: video, length, segments, base, size and state.

    FOLDER is searched with all folders below it, by default the current one; adapters can be named too, and - reads
    names from stdin. Only the files' headers are read, so a thousand take seconds.

    The state is "up to date" where the video is the file that was watched, "stale" where it has changed since, and
    "video not found" where none of its name and size is next to the adapter, below FOLDER or below the current folder:
    say with --videos where it is. Adapters answer without their videos. One of several videos is as its worst one.
    "live until" a time is what `v2l watch` saw, of which no video was kept.
    "foreign" marks what shows nothing that the base knows: its answers are made up.

    \b
      v2l ls talks/
      v2l ls adapters/ --videos talks/
      v2l ls --json | jq 'select(.state == "stale").adapter'
    """
    from v2l.adapter import load_label

    console, failures, found = Console(quiet), Failures(), list[Listed]()
    elsewhere = _Elsewhere([*([videos] if videos else []), *map(Path, folders or []), Path()])
    for word in expand(folders or ["."]):
        for path in map(Path, adapters_of([word], console, failures, others=False)):
            try:
                check_exists(str(path))
                label = load_label(path)
                listed = Listed(path, label, _state(path, label, Path(word), videos, elsewhere))
            except V2LError as error:
                failures.add(error, path)
                if json:
                    write_json({"source": str(path), "error": str(error)})
                continue
            found.append(listed)
            if json:
                write_json(listed.document())
    if not json:
        for line in _aligned([listed.row() for listed in found]):
            write(line)
    if len(found) > 1:
        console.note(_summed_up(found))
    if any(listed.state == NOT_FOUND for listed in found):
        console.warn("Adapters answer without their videos; where these were not found, name their folder with "
                     "--videos DIR.")
    if foreign := sum(is_foreign(listed.label.record) for listed in found):
        console.warn(f"{foreign} of {len(found)} show nothing that {DEFAULT_MODEL} knows (foreign): what they answer "
                     "is made up.")
    failures.exit()


class _Elsewhere:
    """The files below some folders, by their names; looked through once, when first needed."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Files by name; hidden ones are left out, and what lies behind links to folders."""
        from v2l.system.scan import files_below

        found: dict[str, list[Path]] = {}
        for path in islice((path for folder in self._folders for path in files_below(folder)), MOST_FILES):
            found.setdefault(path.name, []).append(path)
        return found

    def named(self, name: str) -> list[Path]:
        """Files of that name, each once."""
        return list({os.path.realpath(path): path for path in self._files.get(name, [])}.values())


def _state(path: Path, label: Label, folder: Path, videos: Path | None, elsewhere: _Elsewhere) -> str:
    """The worst state of its videos, which lie next to it, or in `videos` as it does in the folder that was named, or
    are among the files `elsewhere`."""
    places = [path.parent]
    if videos is not None:
        places += [videos / path.parent.relative_to(folder), videos] if path.is_relative_to(folder) else [videos]
    states = {LIVE if "started" in source else _state_of(source, path, places, elsewhere)
              for source in label.record["sources"]}
    return next(state for state in (NOT_FOUND, STALE, UP_TO_DATE, LIVE) if state in states)


def _state_of(source: Record, adapter: Path, places: Iterable[Path], elsewhere: _Elsewhere) -> str:
    """Whether a video is what was watched. Elsewhere, another of its name is taken for a changed one only where it is
    the only one of that name: `video.mp4` may lie in every folder."""
    states = {_compared(place / source["name"], source, adapter) for place in places}
    if UP_TO_DATE in states or STALE in states:
        return UP_TO_DATE if UP_TO_DATE in states else STALE
    files = elsewhere.named(source["name"])
    states = {_compared(file, source, adapter) for file in files}
    if UP_TO_DATE in states:
        return UP_TO_DATE
    return STALE if STALE in states and len(files) == 1 else NOT_FOUND


def _compared(video: Path, source: Record, adapter: Path) -> str:
    changed = has_changed(video, source, adapter)
    return NOT_FOUND if changed is None else STALE if changed else UP_TO_DATE


def _base_name(record: Record) -> str:
    from v2l.config import PRESETS

    base = str(record["base"]["id"])
    return next((preset.name for preset in PRESETS.values() if base in (preset.base, f"v2l/{preset.name}")),
                shortened(one_line(base), 40))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines, in columns; numbers end where their column does."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) if place in (2, 3, 5) else cell.ljust(width)
                 for place, (cell, width) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()


def _summed_up(found: list[Listed]) -> str:
    counts = Counter(listed.state for listed in found)
    states = ", ".join(f"{counts[state]} {state}" for state in (UP_TO_DATE, STALE, NOT_FOUND, LIVE) if counts[state])
    return (f"{count_of(len(found), 'adapter')}, {size_text(sum(listed.label.size for listed in found))}, of "
            f"{time_text(round(sum(listed.seconds for listed in found)))}: {states}.")
