"""A benchmark's annotation file and a folder of videos -> items of a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import chain, count
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark
from v2l.bench.benchmarks.files import FolderFiles
from v2l.bench.benchmarks.records import Entry
from v2l.bench.benchmarks.registry import find_benchmark
from v2l.errors import UsageError
from v2l.manifest import SPLITS, Item


class Loaded(list[Item]):
    """A benchmark's items, in the order of its file, and what was left out."""

    def __init__(self, items: Iterable[Item], file: Path, entries: int, left_out: int,
                 missing: tuple[str, ...]) -> None:
        super().__init__(items)
        self.file = file
        """The annotation file."""
        self.entries = entries
        """Entries of that file, each with one item or with all about one video (VDC, CaReBench, VidCapBench)."""
        self.left_out = left_out
        """Entries without their video; those that `clips` leaves out do not count."""
        self.missing = missing
        """Videos that are not there, as the annotations call them, each once."""


def load_benchmark(name: str, folder: str | Path, *, split: str | None = None, clips: int | None = None,
                   seed: int = 0) -> Loaded:
    """The items of a benchmark whose annotation file lies somewhere below `folder`, or is `folder` itself.

    Videos are looked for below the same folder, whatever their endings and subfolders. Without a `split` it is the
    first of the benchmark's splits that is there. `clips` takes so many by a seeded draw from those that are there,
    with all that is asked about them.
    Raises UsageError: no such benchmark, no annotation file, none of its videos, a record that is not as it should be.
    """
    benchmark = find_benchmark(name)
    annotations, split, files = _annotations(benchmark, Path(folder), split)
    entries = [entry for entry in benchmark.read(annotations) if entry.turns]
    if not entries:
        raise UsageError(f"{annotations} holds nothing to ask; get the file again.")
    present = [(entry, video) for entry in entries
               if (video := next(filter(None, map(files.video, entry.videos)), None))]
    if not present:
        raise UsageError(f"None of the videos that {annotations} names, such as {entries[0].videos[0]}, is among the "
                         f"{files.videos} below {files.folder}; put them there.")
    kept = {id(entry) for entry, _ in present}
    missing = tuple(dict.fromkeys(entry.videos[0] for entry in entries if id(entry) not in kept))
    return Loaded(_items(benchmark, _drawn(present, clips, seed), split), annotations, len(entries),
                  len(entries) - len(present), missing)


def _annotations(benchmark: Benchmark, folder: Path, split: str | None) -> tuple[Path, str, FolderFiles]:
    """The annotation file, its split, and what lies where it was looked for."""
    if split is not None and split not in benchmark.splits:
        raise UsageError(f"{benchmark.title} has no split {split!r} with references; it has "
                         f"{', '.join(benchmark.splits)}.")
    if folder.is_file():
        _check_readable(folder)
        return folder, split or _split_in_name(folder) or benchmark.splits[0], FolderFiles(folder.parent)
    files, splits = FolderFiles(folder), benchmark.splits if split is None else (split,)
    for each in splits:
        names = [name.format(split=each) for name in benchmark.files]
        annotations = next(filter(None, map(files.file, names)), None)
        if annotations:
            return annotations, each, files
    for each in splits:  # what the Hub has in place of them
        for name in benchmark.files:
            parquet = files.file(Path(name.format(split=each)).stem + ".parquet")
            if parquet:
                _check_readable(parquet)
    expected = benchmark.files[0].format(split=splits[0])
    raise UsageError(f"There is no {expected} below {folder}; {benchmark.title} needs {benchmark.about}.")


def _split_in_name(path: Path) -> str | None:
    """The split that a file's name contains."""
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


def _drawn(present: list[tuple[Entry, Path]], clips: int | None, seed: int) -> list[tuple[Entry, Path]]:
    """The entries about so many clips, in their order: clips whose first entry's key and seed hash lowest, so that a
    video more or less changes no more than one of them."""
    first: dict[tuple[Path, float | None, float | None], str] = {}
    for entry, video in present:
        first.setdefault((video, entry.start, entry.end), entry.key)

    def hashed(clip: tuple[Path, float | None, float | None]) -> bytes:
        return sha256(f"{seed} {first[clip]}".encode(errors="backslashreplace")).digest()

    taken = set(sorted(first, key=hashed)[:clips])
    return [(entry, video) for entry, video in present if (video, entry.start, entry.end) in taken]


def _items(benchmark: Benchmark, entries: list[tuple[Entry, Path]], split: str) -> Iterator[Item]:
    taken: set[str] = set()
    for entry, video in entries:
        for number, turn in enumerate(entry.turns, 1):
            key = f"{benchmark.name}-{_harmless(entry.key)}" + (f"-{number}" if len(entry.turns) > 1 else "")
            key = next(each for each in chain((key,), (f"{key}.{n}" for n in count(2))) if each not in taken)
            taken.add(key)
            turn = replace(turn, prompt=f"{turn.prompt} {benchmark.instruction}".rstrip())
            yield Item(key, video, (turn,), entry.start, entry.end, split, benchmark.name, entry.choices)


def _harmless(key: str) -> str:
    """A key in characters that may stand in a file's name anywhere, and lead to no other folder."""
    return re.sub(r"[^\w.-]+|\.{2,}", "_", key)
