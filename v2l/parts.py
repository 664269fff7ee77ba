"""What of an adapter can be asked by itself: its segments, bound to the base once, any of which may be joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from v2l.adapter import Adapter
from v2l.engine import Engine
from v2l.model.text import LayerAdapter
from v2l.wording import time_text


@dataclass(frozen=True)
class Part:
    """What of an adapter can be asked by itself: a segment, or segments that were compressed together."""

    rank: slice
    """Rows of A and B."""
    spans: list[tuple[float, float]]
    """Start and end of its segments in seconds."""
    source: str
    """Name of the video its first segment is of."""

    @property
    def start(self) -> float:
        return self.spans[0][0]

    @property
    def end(self) -> float:
        return self.spans[-1][1]


class Parts:
    """An adapter bound once, of which any segments can be asked."""

    def __init__(self, engine: Engine, adapter: Adapter) -> None:
        self.whole = engine.bind(adapter)
        self.bias = slice(adapter.total_rank, None)
        self.parts = []
        for (start, end), group in groupby(adapter.segments, key=lambda segment: tuple(segment["rank"])):
            segments = list(group)
            spans = [(segment["start"], segment["end"]) for segment in segments]
            source = adapter.sources[segments[0]["source"]]["name"]
            self.parts.append(Part(slice(start, end), spans, source))
        self.several_videos = len({part.source for part in self.parts}) > 1

    def __len__(self) -> int:
        return len(self.parts)

    def joined(self, chosen: Sequence[int], scale: float | None = 1.0) -> list[LayerAdapter]:
        """Adapter of some parts and, once, the bias; A of the parts times `scale`, None being one over their number."""
        scale = 1 / len(chosen) if scale is None else scale
        if len(chosen) == len(self) and scale == 1:
            return self.whole
        rows = [self.parts[i].rank for i in chosen]
        with torch.inference_mode():
            return [LayerAdapter(torch.cat([*(layer.A[r] * scale for r in rows), layer.A[self.bias]]),
                                 torch.cat([layer.B[r] for r in [*rows, self.bias]]), layer.scale)
                    for layer in self.whole]

    def label(self, first: int, last: int | None = None) -> str:
        """Label of a part, or of some parts in a row: when it is, in words for people and for the base."""
        begin, close = self.parts[first], self.parts[first if last is None else last]
        start, end, of = time_text(begin.start), time_text(close.end), f" of {close.source}"
        if not self.several_videos:
            return f"{start} to {end}"
        return f"{start} to {end}{of}" if begin.source == close.source else f"{start} of {begin.source} to {end}{of}"

    def stretches(self, chosen: Iterable[int]) -> list[tuple[int, int]]:
        """The first and the last of each run of parts, in a row, of which one begins where the other ends."""
        runs: list[tuple[int, int]] = []
        for i in sorted(chosen):
            last = runs[-1][1] if runs else None
            before = None if last is None or last + 1 != i else self.parts[last]
            if before and before.source == self.parts[i].source and abs(self.parts[i].start - before.end) < 0.5:
                runs[-1] = runs[-1][0], i
            else:
                runs.append((i, i))
        return runs
