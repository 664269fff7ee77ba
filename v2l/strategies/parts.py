"""What of an adapter can be asked by itself: its segments, bound once, and how surely each shows what is looked for.

What is looked for becomes questions whose answers are known (`v2l.model.claims`). One counts as much as a segment is
surer of the answer that speaks for it than of the others, log p - log (1 - p), less the same of the hypernetwork's bias
alone, which is what the model says of no video at all; and of several questions that one counts which speaks for it
least. tests/measure/moments.py measures this and other rules.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Protocol

import torch

from v2l.adapter import Adapter
from v2l.adapter.wall import at_text, stretch_text, wall_start
from v2l.config import SHOWN_FROM, SURE, SURE_OF_GENERAL
from v2l.engine import Engine
from v2l.model.base import Base
from v2l.model.claims import Claim, sought
from v2l.model.likelihood import ScoredRow
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter

GENERAL_VOCABULARY = 10_000
"""Tokens of a base from which it is taken to follow instructions in plain language. The embedded one has 707 and knows
its world's questions only, SmolVLM2 has 49,280."""
LIKELY = 10.0
"""What the score exceeds log-odds by at most, where one of any number of answers speaks for it: the bias takes some for
so unlikely, 1 in 10^6, that an answer of 1 in 1,000 would count. In 32 films 5 segments of 5 were wrong for that."""
ANSWERABLE = 0.5
"""Probability that yes and no have together, from which on a question is taken for one of yes and no."""


@dataclass(frozen=True)
class Part:
    """What of an adapter can be asked by itself: a segment, or segments that were compressed together."""

    rank: slice
    """Rows of A and B."""
    spans: list[tuple[float, float]]
    """Start and end of its segments in seconds."""
    video: int
    """Number of the video its first segment is of, among the adapter's sources."""
    source: str
    """Name of that video."""
    started: datetime | None = None
    """When that video's time 0 was, if it was watched live."""

    @property
    def of(self) -> tuple[str, datetime | None]:
        """What parts of one video have in common: a camera that was watched twice has its times twice."""
        return self.source, self.started

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
            video = segments[0]["source"]
            source = adapter.sources[video]
            self.parts.append(Part(slice(start, end), spans, video, source["name"], wall_start(source)))
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
        of = lambda part: f" of {part.source}" if self.several_videos else ""
        if begin.of == close.of:
            return stretch_text(begin.started, begin.start, close.end) + of(begin)
        return f"{at_text(begin.started, begin.start)}{of(begin)} to {at_text(close.started, close.end)}{of(close)}"

    def stretches(self, chosen: Iterable[int]) -> list[tuple[int, int]]:
        """The first and the last of each run of parts, in a row, of which one begins where the other ends."""
        runs: list[tuple[int, int]] = []
        for i in sorted(chosen):
            last = runs[-1][1] if runs else None
            before = None if last is None or last + 1 != i else self.parts[last]
            if before and before.of == self.parts[i].of and abs(self.parts[i].start - before.end) < 0.5:
                runs[-1] = runs[-1][0], i
            else:
                runs.append((i, i))
        return runs


# When something happens.


class ScoresMany(Protocol):
    """What is needed of an engine here: its base, and how likely many answers are."""

    @property
    def base(self) -> Base: ...

    def answer_logprobs(self, rows: Iterable[ScoredRow]) -> Iterator[list[float]]:
        """`Engine.answer_logprobs`."""


def follows_instructions(engine: ScoresMany) -> bool:
    """Whether the base's text model can be told to do something, such as to combine answers."""
    return engine.base.text_config.vocab_size >= GENERAL_VOCABULARY


def sure_from(engine: ScoresMany) -> float:
    """The score from which on something is taken to be there, where nobody says."""
    return SURE_OF_GENERAL if follows_instructions(engine) else SURE


def shown_by(engine: ScoresMany, scores: Scores) -> list[int]:
    """The parts to ask about something, as they show it: the surest first, none where the base knows no such
    questions."""
    threshold = SURE_OF_GENERAL if follows_instructions(engine) else SHOWN_FROM
    shown = [i for i, score in enumerate(scores.by_part) if score >= threshold] if scores.answerable else []
    return sorted(shown, key=lambda i: -scores.by_part[i])


@dataclass(frozen=True)
class Scores:
    """How surely each part of an adapter shows what is looked for."""

    by_part: list[float]
    """Nats; nan where the model's numbers are none."""
    answerable: bool
    """Whether the base knows such questions: answers those of yes and no so, and without a video says that there is
    none; where not, the scores say nothing."""
    prompt_tokens: int
    """Tokens that were read."""


@dataclass(frozen=True)
class Moment:
    """When something is there: parts of an adapter in a row, which follow each other in the video."""

    first: int
    last: int
    start: float
    end: float
    """Start and end in seconds."""
    source: str
    """Name of the video."""
    started: datetime | None
    """When the video's time 0 was, if it was watched live."""
    score: float
    """The highest of its parts."""


def score_parts(engine: ScoresMany, adapters: Iterable[Parts], queries: Sequence[str]
                ) -> Iterator[tuple[Parts, list[Scores]]]:
    """Each adapter with the scores of each query, in their order: all in batches. Adapters are taken as they are
    needed."""
    wanted = [sought(query, follows_instructions(engine)) for query in queries]
    claims = [claim for one in wanted for claim in one.claims]
    tokens = [len(engine.base.encode(question_prompt(claim.question))) for claim in claims]
    waiting: deque[tuple[Parts, bool]] = deque()
    logprobs = engine.answer_logprobs(_rows(adapters, claims, waiting))
    without: list[list[float]] = []
    for first in logprobs:
        parts, alike = waiting.popleft()
        read = [first, *islice(logprobs, (len(parts) + (not alike)) * len(claims) - 1)]
        by_part = [read[i : i + len(claims)] for i in range(0, len(read), len(claims))]
        if not alike:
            without = by_part.pop(0)
        found, end = [], 0
        for one in wanted:
            at, end = end, end + len(one.claims)
            found.append(_scores(claims[at:end], without[at:end], [part[at:end] for part in by_part],
                                 2 * sure_from(engine) if one.absent else None, sum(tokens[at:end]) * len(parts)))
        yield parts, found


def _rows(adapters: Iterable[Parts], claims: Sequence[Claim], waiting: deque[tuple[Parts, bool]]
          ) -> Iterator[ScoredRow]:
    """Every claim of the bias alone, where it is another than that of the adapter before, and of each part. Each
    adapter is appended to `waiting`, with whether its bias was asked before."""
    before: list[LayerAdapter] = []
    for parts in adapters:
        bias = parts.joined(())
        alike = bool(before) and all(torch.equal(a.A, b.A) and torch.equal(a.B, b.B) and a.scale == b.scale
                                     for a, b in zip(bias, before, strict=True))
        before = bias
        waiting.append((parts, alike))
        for part in range(alike, len(parts) + 1):
            alone = parts.joined((part - 1,)) if part else bias
            yield from ((alone, claim.question, (*claim.yes, *claim.no)) for claim in claims)


def _scores(claims: Sequence[Claim], without: Sequence[list[float]], by_part: Sequence[Sequence[list[float]]],
            mirror: float | None, tokens: int) -> Scores:
    """Scores from the log-probabilities of the claims' answers, of the bias alone and of each part. Where it is looked
    for what is not there, they are those of its being there, taken from `mirror`."""
    scores = []
    for part in by_part:
        gained = [_gain(claim, answers, before)
                  for claim, answers, before in zip(claims, part, without, strict=True)]
        scores.append(math.nan if any(map(math.isnan, gained)) else min(gained))
    of_yes_and_no = [answers for part in by_part for claim, answers in zip(claims, part, strict=True)
                     if claim.yes and claim.no]
    answerable = not of_yes_and_no or max(map(_together, of_yes_and_no)) > math.log(ANSWERABLE)
    # What is there without any video, where only its absence is known by a word, is something it has no word for.
    answerable &= all(claim.yes or surer(claim, before) < 0 for claim, before in zip(claims, without, strict=True))
    return Scores(scores if mirror is None else [mirror - score for score in scores], answerable, tokens)


def _gain(claim: Claim, answers: Sequence[float], before: Sequence[float]) -> float:
    """How much surer of a claim the model is than `before`, by the bias alone; never much surer than it is likely."""
    odds = surer(claim, answers)
    return min(odds - surer(claim, before), odds + (math.inf if claim.no else LIKELY))


def surer(claim: Claim, logprobs: Sequence[float]) -> float:
    """How much surer the model is of the answers for a claim than of those against it, nats."""
    yes, no = _together(logprobs[: len(claim.yes)]), _together(logprobs[len(claim.yes) :])
    if not claim.yes:
        return _of_others(no) - no
    return yes - (no if claim.no else _of_others(yes))


def _together(logprobs: Sequence[float]) -> float:
    """Log-probability of any of some answers."""
    most = max(logprobs, default=-math.inf)
    return most + math.log(sum(math.exp(each - most) for each in logprobs)) if math.isfinite(most) else most


def _of_others(logprob: float) -> float:
    """Log-probability of all answers but one; float32 tells no more than 1e-7 from 1."""
    return math.log(max(-math.expm1(min(logprob, 0.0)), 1e-7))


def moments(parts: Parts, scores: Sequence[float], threshold: float) -> list[Moment]:
    """The parts that score the threshold or more, those in a row as one, in the order of time."""
    found = []
    for first, last in parts.stretches(i for i, score in enumerate(scores) if score >= threshold):
        begin, close = parts.parts[first], parts.parts[last]
        found.append(Moment(first, last, begin.start, close.end, begin.source, begin.started,
                            max(scores[first : last + 1])))
    return found
