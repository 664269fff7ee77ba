"""A benchmark's annotation file and a folder of videos -> items of a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import chain, count
from pathlib import Path

from v2l.bench.benchmarks.records import Entry
from v2l.bench.benchmarks.registry import Benchmark, find_benchmark
from v2l.bench.benchmarks.shelf import Shelf
from v2l.errors import UsageError
from v2l.manifest import SPLITS, Item

ANSWER = "Answer only the question, in one sentence."
"""What the paper puts after a question."""


class Loaded(list[Item]):
    """A benchmark's items, in the order of its file, and what is to be told of them."""

    def __init__(self, items: Iterable[Item], file: Path, entries: int, left_out: int,
                 missing: tuple[str, ...]) -> None:
        super().__init__(items)
        self.file = file
        """The annotation file."""
        self.entries = entries
        """In that file; an entry has one item, or all that are about one video (VDC, CaReBench, VidCapBench)."""
        self.left_out = left_out
        """Entries without their video; those that `limit` leaves out do not count."""
        self.missing = missing
        """What the annotations call the videos that are not there, each once."""


def load_benchmark(name: str, folder: str | Path, *, split: str | None = None, limit: int | None = None, seed: int = 0,
                   videos: str | Path | None = None, plain: bool = False, regions: bool = False) -> Loaded:
    """The items of a benchmark whose annotation file lies somewhere below `folder`, or is `folder` itself.

    Videos are looked for below `videos`, or else below the same folder, whatever their endings and subfolders. Without
    a `split` it is the first of the benchmark's splits that is there. `limit` takes so many entries by a seeded draw
    from those whose video is there. `plain` asks questions without the paper's instruction after them. `regions` tells
    in words which region is meant, where the benchmark has any (see `plm`).
    Raises UsageError: no such benchmark, no annotation file, none of its videos, a record that is not as it should be.
    """
    benchmark = find_benchmark(name)
    if limit is not None and limit < 1:
        raise UsageError(f"At least 1 entry of {benchmark.title} must be taken, not {limit}.")
    read = benchmark.read_regions if regions else benchmark.read
    if read is None:
        raise UsageError(f"{benchmark.title} has no regions; leave them out.")
    annotations, split, shelf = _opened(benchmark, Path(folder), split)
    shelf = shelf if videos is None else Shelf(Path(videos))
    entries = [entry for entry in read(annotations) if entry.turns]
    if not entries:
        raise UsageError(f"{annotations} holds nothing to ask; get the file again.")
    there = [(entry, video) for entry in entries
             if (video := next(filter(None, map(shelf.video, entry.videos)), None))]
    if not there:
        raise UsageError(f"None of the videos that {annotations} names, such as {entries[0].videos[0]}, is among the "
                         f"{shelf.videos} below {shelf.folder}; put them there.")
    found = {id(entry) for entry, _ in there}
    missing = tuple(dict.fromkeys(entry.videos[0] for entry in entries if id(entry) not in found))
    return Loaded(_items(benchmark, _drawn(there, limit, seed), split, plain), annotations, len(entries),
                  len(entries) - len(there), missing)


def _opened(benchmark: Benchmark, folder: Path, split: str | None) -> tuple[Path, str, Shelf]:
    """The annotation file, its split, and what lies where it was looked for."""
    if split is not None and split not in benchmark.splits:
        raise UsageError(f"{benchmark.title} has no split {split!r} with references; it has "
                         f"{', '.join(benchmark.splits)}.")
    if folder.is_file():
        _check_readable(folder)
        return folder, split or _told(folder) or benchmark.splits[0], Shelf(folder.parent)
    shelf, splits = Shelf(folder), benchmark.splits if split is None else (split,)
    for each in splits:
        names = [name.format(split=each) for name in benchmark.files]
        found = next(filter(None, map(shelf.file, names)), None)
        if found:
            return found, each, shelf
    for each in splits:  # what the Hub has in place of them
        for name in benchmark.files:
            parquet = shelf.file(Path(name.format(split=each)).stem + ".parquet")
            if parquet:
                _check_readable(parquet)
    expected = benchmark.files[0].format(split=splits[0])
    raise UsageError(f"There is no {expected} below {folder}; {benchmark.title} needs {benchmark.about}.")


def _told(path: Path) -> str | None:
    """The split that a file's name speaks of."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((split for split in SPLITS if split in words), None)


def _check_readable(path: Path) -> None:
    if path.suffix.lower() == ".parquet":
        raise UsageError(
            f"{path} is parquet, which v2l does not read; make {path.stem}.jsonl of it where pandas and pyarrow are "
            f"installed: pandas.read_parquet({path.name!r}).to_json({path.stem + '.jsonl'!r}, orient='records', "
            "lines=True).")
    if path.suffix.lower() not in (".json", ".jsonl", ".csv"):
        raise UsageError(f"{path} is no annotation file; give a .json, .jsonl or .csv file, or its folder.")


def _drawn(there: list[tuple[Entry, Path]], limit: int | None, seed: int) -> list[tuple[Entry, Path]]:
    """So many entries, in their order: those whose key and seed hash lowest, so that a video more or less changes
    no more than one of them."""
    if limit is None or limit >= len(there):
        return there

    def drawn(index: int) -> bytes:
        return sha256(f"{seed} {there[index][0].key}".encode(errors="backslashreplace")).digest()

    return [there[index] for index in sorted(sorted(range(len(there)), key=drawn)[:limit])]


def _items(benchmark: Benchmark, entries: list[tuple[Entry, Path]], split: str, plain: bool) -> Iterator[Item]:
    taken: set[str] = set()
    for entry, video in entries:
        for number, turn in enumerate(entry.turns, 1):
            key = f"{benchmark.name}-{_harmless(entry.key)}" + (f"-{number}" if len(entry.turns) > 1 else "")
            key = next(each for each in chain((key,), (f"{key}.{n}" for n in count(2))) if each not in taken)
            taken.add(key)
            if benchmark.kind == "qa" and not plain:
                turn = replace(turn, prompt=f"{turn.prompt} {ANSWER}")
            yield Item(key, video, (turn,), entry.start, entry.end, split, benchmark.name, entry.choices)


def _harmless(key: str) -> str:
    """A key in characters that may stand in a file's name anywhere, and lead to no other folder."""
    return re.sub(r"[^\w.-]+|\.{2,}", "_", key)
