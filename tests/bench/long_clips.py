"""Long clips of the embedded model's world in segments of 12 s, and what can be asked about them.

One object of each clip, the needle, has a shape and does something that no other object of the clip does; the others
are drawn from what is left. No two objects of a clip are the same, as long as there are pairs of colour and shape.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from v2l.tiny.questions import MOVERS, WORDINGS, article
from v2l.tiny.world import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    MOTIONS,
    NUMBERS,
    SHAPES,
    Clip,
    Event,
    Look,
    path_of,
    sample_times,
)

SECONDS = 12
FPS = 10.0
GROUPS = {
    "named": "names a shape that only one segment has",
    "pair": "names a colour and a shape that only one segment has together",
    "motion": "names a motion that only one segment has",
    "absent": "names what no segment has",
    "ends": "what is first, what is last",
    "border": "what comes right before or after, in the next segment",
    "whole": "the background; with one or two segments how many objects",
}


@dataclass(frozen=True)
class Asked:
    """A question about a long clip."""

    group: str
    question: str
    answer: str
    segment: int | None
    """The one that holds the answer, if it is one."""


def long_clip(rng: random.Random, segments: int) -> Clip:
    """A clip of `segments` times 12 s, one or two objects in each, one after the other."""
    shape, motion = rng.choice(SHAPES), rng.choice(MOTIONS)
    spans = [span for i in range(segments) for span in _spans(rng, float(SECONDS * i))]
    needle = rng.randrange(len(spans))
    pairs: list[tuple[str, str]] = []
    events: list[Event] = []
    for i, (start, end) in enumerate(spans):
        before = (events[-1].color, events[-1].shape) if events else ("", "")
        if i == needle:
            pair = rng.choice([c for c in COLOR_NAMES if c != before[0]]), shape
        else:
            pairs = pairs or rng.sample(_others(shape), len(_others(shape)))
            pair = next((p for p in pairs if p[0] != before[0] and p[1] != before[1]), pairs[0])
            pairs.remove(pair)
        does = motion if i == needle else rng.choice([m for m in MOTIONS if m != motion])
        events.append(Event(*pair, does, start, end, path_of(rng, does)))
    look = Look(tuple(rng.uniform(-14, 14) for _ in range(6)), rng.uniform(0.7, 1.8), rng.uniform(0, 6))
    return Clip(rng.choice(BACKGROUND_NAMES), tuple(events), float(SECONDS * segments), look)


def _spans(rng: random.Random, start: float) -> list[tuple[float, float]]:
    """One or two events fill a segment."""
    end, cut = start + SECONDS, start + rng.randint(4, 8)
    return [(start, end)] if rng.random() < 0.5 else [(start, cut), (cut, end)]


def _others(shape: str) -> list[tuple[str, str]]:
    return [(c, s) for c in COLOR_NAMES for s in SHAPES if s != shape]


def times_of(segment: int) -> list[float]:
    """When the product looks at a segment: 12 frames."""
    return [SECONDS * segment + time for time in sample_times(SECONDS, FPS, SECONDS)]


def asked(rng: random.Random, clip: Clip) -> list[Asked]:
    """A question or two of every group that the clip allows."""
    events = clip.events
    place = lambda event: int(event.start // SECONDS)
    pick = lambda kind, **names: rng.choice(WORDINGS[kind]).format(**names)
    names, motions = Counter(e.name for e in events), Counter(e.motion for e in events)
    shapes = Counter(e.shape for e in events)
    once = [e for e in events if names[e.name] == 1]
    out: list[Asked] = []
    needle = next(e for e in events if shapes[e.shape] == 1 and motions[e.motion] == 1)
    out.append(Asked("named", pick("color", s=needle.shape), needle.color, place(needle)))
    out.append(Asked("named", pick("motion", x=f"the {needle.shape}"), needle.motion, place(needle)))
    out.append(Asked("motion", rng.choice(MOVERS[needle.motion]), f"the {needle.name}", place(needle)))
    for event in rng.sample(once, min(2, len(once))):
        out.append(Asked("pair", pick("motion", x=f"the {event.name}"), event.motion, place(event)))
    event = rng.choice(events)
    out.append(Asked("pair", pick("exists", a=article(event.name)), "yes", place(event)))
    absent = [f"{c} {s}" for c in COLOR_NAMES for s in SHAPES if f"{c} {s}" not in names]
    if absent:
        out.append(Asked("absent", pick("exists", a=article(rng.choice(absent))), "no", None))
    out.append(Asked("ends", pick("first"), f"the {events[0].name}", 0))
    out.append(Asked("ends", pick("last"), f"the {events[-1].name}", place(events[-1])))
    borders = [(a, b) for a, b in pairwise(events)
               if place(a) != place(b) and names[a.name] == names[b.name] == 1]
    if borders:
        a, b = rng.choice(borders)
        out.append(Asked("border", pick("after", x=f"the {a.name}"), f"the {b.name}", None))
        out.append(Asked("border", pick("before", x=f"the {b.name}"), f"the {a.name}", None))
    out.append(Asked("whole", pick("background"), clip.background, None))
    if len(events) < len(NUMBERS):
        out.append(Asked("whole", pick("count"), NUMBERS[len(events)], None))
    return out
