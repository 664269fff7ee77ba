"""`v2l ls`: what adapters there are, and whether they still are what their videos would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from v2l.adapter.record import Record
from v2l.cli import options
from v2l.cli.console import Console, Failures, one_line, write, write_json
from v2l.cli.inputs import adapters_of, expand
from v2l.cli.options import argument, option
from v2l.errors import V2LError
from v2l.wording import count_of, shortened, size_text, time_text

if TYPE_CHECKING:
    from v2l.adapter import Label

UP_TO_DATE, STALE, ORPHANED = "up to date", "stale", "orphaned"


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
        """File, video, length, segments, base, size, state."""
        videos = self.videos
        return (one_line(str(self.path)), shortened(one_line(videos[0]), 40) if len(videos) == 1 else
                f"{len(videos)} videos", time_text(round(self.seconds)),
                count_of(len(self.label.record["segments"]), "segment"), _base_name(self.label.record),
                size_text(self.label.size), self.state)

    def document(self) -> dict[str, Any]:
        """The row for JSON; seconds and bytes as numbers."""
        record = self.label.record
        return {"adapter": str(self.path), "videos": self.videos, "seconds": round(self.seconds, 3),
                "segments": len(record["segments"]), "base": record["base"]["id"],
                "hypernetwork": record["hypernetwork"]["id"], "dtype": self.label.dtype, "size": self.label.size,
                "state": self.state}


def ls(
    folders: Annotated[list[str] | None, argument("[FOLDER]...")] = None,
    videos: Annotated[Path | None, option("DIR", "Look for the videos in DIR too.", "next to each adapter")] = None,
    json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """List adapters: video, length, segments, base, size and state.

    FOLDER is searched with all folders below it, by default the current one; adapters can be named too, and - reads
    names from stdin. Only the files' headers are read, so a thousand take seconds.

    The state is "up to date" where the video is the file that was watched, "stale" where it has changed since, and
    "orphaned" where it is not there: it was moved, renamed or deleted. The adapter still answers.

    \b
      v2l ls talks/
      v2l ls adapters/ --videos talks/
      v2l ls --json | jq 'select(.state == "stale").adapter'
    """
    from v2l.adapter import load_label

    console, failures, found = Console(quiet), Failures(), list[Listed]()
    for word in expand(folders or ["."]):
        for path in map(Path, adapters_of([word], console, failures)):
            try:
                label = load_label(path)
                listed = Listed(path, label, _state(path, label, Path(word), videos))
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
    failures.exit()


def _state(path: Path, label: Label, folder: Path, videos: Path | None) -> str:
    """The worst state of its videos, which lie next to it, or in `videos` as it does in the folder that was named."""
    places = [path.parent]
    if videos is not None:
        places += [videos / path.parent.relative_to(folder), videos] if path.is_relative_to(folder) else [videos]
    states = {_state_of(source, path, places) for source in label.record["sources"]}
    return next(state for state in (ORPHANED, STALE, UP_TO_DATE) if state in states)


def _state_of(source: Record, adapter: Path, places: Iterable[Path]) -> str:
    """Whether a video is what was watched. One of the same size that is no newer than the adapter is taken for it; only
    others are read, once, to compare their sha256."""
    from v2l.system.cache import sha256_of

    state = ORPHANED
    for place in places:
        try:
            video = place / source["name"]
            status = video.stat()
            if status.st_size == source["size"] and (status.st_mtime <= adapter.stat().st_mtime
                                                     or sha256_of(video) == source["sha256"]):
                return UP_TO_DATE
            state = STALE
        except (OSError, ValueError):
            continue
    return state


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
    states = ", ".join(f"{counts[state]} {state}" for state in (UP_TO_DATE, STALE, ORPHANED) if counts[state])
    return (f"{count_of(len(found), 'adapter')}, {size_text(sum(listed.label.size for listed in found))}, of "
            f"{time_text(round(sum(listed.seconds for listed in found)))}: {states}.")
