"""Sources of questions: manifests, the user's copies of public benchmarks, the embedded suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

from v2l.bench.benchmarks.load import load_benchmark
from v2l.bench.benchmarks.registry import find_benchmark
from v2l.bench.config import SUITES
from v2l.bench.quality.plan import items_of_split
from v2l.bench.quality.score import Judging
from v2l.errors import UsageError
from v2l.manifest import Item, read_manifest
from v2l.score.judge import INSTRUCTIONS, Judge


@dataclass
class Sources:
    """The items of every source."""

    items: list[tuple[str, Sequence[Item]]] = field(default_factory=list)
    """(name, items) of each."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what was left out."""

    def add_manifest(self, path: Path, split: str | None) -> None:
        """The items of one split: of none given, test, else val, else all. Raises UsageError."""
        items = read_manifest(path)
        chosen = items_of_split(items, split)
        if not chosen:
            raise UsageError(f"{path} has no line of the split {split!r}.")
        if (others := len(items) - len(chosen)) > 0:
            lines = "1 line that is" if others == 1 else f"{others:,} lines that are"
            left = "is" if others == 1 else "are"
            self.notes.append(f"{path}: {lines} not of the split {chosen[0].split} {left} left out.")
        self.items.append((path.stem, chosen))

    def add_benchmark(self, name: str, folder: Path, split: str | None, clips: int | None, seed: int) -> None:
        """A public benchmark from the user's copy. Raises UsageError."""
        loaded = load_benchmark(name, folder, split=split, clips=clips, seed=seed)
        title = find_benchmark(name).title
        if loaded.left_out:
            self.notes.append(f"{title}: {loaded.left_out:,} of {loaded.entries:,} entries are left out, because their "
                              f"videos are not there, such as {loaded.missing[0]}.")
        self.items.append((name, loaded))


def write_suite_clips(name: str, folder: Path, clips: int, seed: int, long: bool = False) -> Path:
    """Writes an embedded suite, with `long` the one whose clips have pictures enough for a sweep; returns its
    manifest."""
    from v2l.tiny import suite

    assert name in SUITES
    return (suite.write_long_suite if long else suite.write_suite)(folder, clips, seed)


def suite_judge(name: str) -> Judging:
    """The judge that comes with an embedded suite: it counts the facts of the reference that an answer has."""
    from v2l.tiny.suite import facts

    assert name in SUITES
    return Judging("share of the reference's facts", "",
                   lambda cases: [max(facts(reference, case.answer) for reference in case.references)
                                  for case in cases])


def model_judge(name: str, load: Callable[[], Judge]) -> Judging:
    """A text model as the judge, loaded when there is something to judge."""
    model = cache(load)
    prompt = sha256(INSTRUCTIONS.encode()).hexdigest()[:12]
    return Judging(name, f"{name}, instructions {prompt}", lambda cases: model().score(cases))
