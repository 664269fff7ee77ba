"""The shape of a public benchmark: what it is called, what its files are, who reads them, what the paper measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from v2l.bench.benchmarks.records import Entry

ONE_SENTENCE = "Answer only the question, in one sentence."
"""The paper's instruction after a question."""


@dataclass(frozen=True)
class Published:
    """Figures of the paper's Table 1 or 4: with the video in the prompt, and from the adapter."""

    base: float
    adapter: float


@dataclass(frozen=True)
class Benchmark:
    """One row of the paper's Table 1 (captions) or 4 (questions), and what its files are called."""

    name: str
    title: str
    """Name as the paper prints it."""
    task: Literal["caption", "qa"]
    files: tuple[str, ...]
    """Names of the annotation file, the likeliest first, `{split}` standing for the split."""
    splits: tuple[str, ...]
    """Splits that have public references, the one loaded first."""
    about: str
    """Files to get, and their source, as the end of a sentence."""
    read: Callable[[Path], Iterator[Entry]]
    """Reader of the annotation file. Raises UsageError."""
    instruction: str = ""
    """Text after every prompt, such as how long an answer may be."""
    published: Mapping[tuple[str, str], Published] = field(default_factory=dict)
    """Figures of the paper by (released preset, metric) (v2l/README.md section 8)."""
