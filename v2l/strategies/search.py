"""Looking for one thing in adapters: the moments of each, and what there is to say where there are none."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from v2l.adapter.record import many_as_one_text
from v2l.config import Strategy
from v2l.strategies.answered import stretch
from v2l.strategies.parts import Moment, Parts, Scores, ScoresMany, moments, score_parts, sure_from


@dataclass(frozen=True)
class FoundMoment:
    """When something is there, and in what: segments of one adapter that follow each other."""

    adapter: str
    """The adapter, as it was named."""
    file: str
    """Name of its video."""
    start: float
    end: float
    """Start and end in seconds of the video."""
    score: float
    """How much surer the model is that it is there than without the video, nats: the most of its segments."""
    segments: tuple[dict[str, float], ...]
    """Start, end and score of each."""
    video: int
    """Number of the video among the adapter's."""
    started: datetime | None = None
    """When the video's time 0 was, if it was watched live."""

    def document(self) -> dict[str, Any]:
        """JSON keys, as `v2l find --json` prints them."""
        return {"adapter": self.adapter, **stretch(self.file, self.start, self.end, self.started),
                "score": round(self.score, 3), "segments": list(self.segments)}


@dataclass(frozen=True)
class Searched:
    """An adapter that was looked through."""

    name: str
    parts: Parts
    moments: list[FoundMoment] | None
    """In the order of time; None where the model's numbers are not finite with it."""


class Search:
    """A search for one thing, which remembers what is to be told of it. `threshold` is the score from which on it is
    there, None being the base's own."""

    def __init__(self, engine: ScoresMany, query: str, threshold: float | None = None) -> None:
        self.query, self._engine = query, engine
        self.threshold = sure_from(engine) if threshold is None else threshold
        self.unanswered = False
        """Whether the base knows no such questions."""
        self._as_one: tuple[str, int] | None = None
        """An adapter, and how many of its segments are asked as one, of which it tells nothing then."""
        self._best: tuple[float, str] | None = None
        """Score and place of the likeliest segment of all."""

    def among(self, adapters: Iterable[tuple[str, Parts]]) -> Iterator[Searched]:
        """Looks through adapters, each with its name; they are taken as they are needed, and all asked in batches."""
        names: deque[str] = deque()

        def parts() -> Iterator[Parts]:
            for name, one in adapters:
                names.append(name)
                yield one

        for one, [scores] in score_parts(self._engine, parts(), [self.query]):
            name = names.popleft()
            finite = not any(map(math.isnan, scores.by_part))
            yield Searched(name, one, self._moments(name, one, scores) if finite else None)

    def _moments(self, name: str, parts: Parts, scores: Scores) -> list[FoundMoment]:
        if not scores.answerable:
            self.unanswered = True
            if (count := max(len(part.spans) for part in parts.parts)) > Strategy.join_up_to:
                self._as_one = name, count
            return []
        best = max(scores.by_part)
        if self._best is None or best > self._best[0]:
            self._best = best, f"{parts.label(scores.by_part.index(best))} of {name}"
        return [_found(name, parts, scores, moment) for moment in moments(parts, scores.by_part, self.threshold)]

    def nothing(self, model: str) -> str | None:
        """Why nothing was found, in one sentence; `model` is the base's name. None where no adapter was asked."""
        if self.unanswered and self._as_one:
            return many_as_one_text(*self._as_one)
        if self.unanswered:
            return (f"{model} does not know what {self.query!r} is; say it in other words, or read what happens, with "
                    "the strategy timeline.")
        return self._best and (f"Nothing found that scores {self.threshold:g} or more; the likeliest is "
                               f"{self._best[1]}, with {self._best[0]:.1f}.")


def _found(name: str, parts: Parts, scores: Scores, moment: Moment) -> FoundMoment:
    segments = tuple({"start": round(start, 3), "end": round(end, 3), "score": round(scores.by_part[i], 3)}
                     for i in range(moment.first, moment.last + 1) for start, end in parts.parts[i].spans)
    return FoundMoment(name, moment.source, moment.start, moment.end, moment.score, segments,
                       parts.parts[moment.first].video, moment.started)


def best_first(found: Iterable[FoundMoment]) -> list[FoundMoment]:
    """Moments by their scores, the best first; those of the same score as they came."""
    return sorted(found, key=lambda one: -one.score)
