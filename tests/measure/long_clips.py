"""Long clips of the embedded model's world in segments of 12 s, and what can be asked about them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from v2l.tiny.questions import NOTHING, ask_about
from v2l.tiny.world import WorldClip, held_out_film, sample_times

SECONDS = 12
GROUPS = {
    "named": "names a colour, a shape, a motion or a slide that only one segment has",
    "object": "names an object that only one segment has",
    "absent": "names what no segment has",
    "ends": "what is first, what is last",
    "border": "what comes right before or after",
    "whole": "how many objects",
}
MOMENT = ("named", "object", "absent")
"""Groups about one moment, or about what none shows."""
KINDS = {
    "named": ("color", "shape", "mover", "slide"),
    "object": ("motion", "relation", "exists"),
    "absent": ("absent", "exists"),
    "ends": ("first", "last"),
    "border": ("after", "before"),
    "whole": ("count",),
}


@dataclass(frozen=True)
class Asked:
    """A question about a long clip."""

    group: str
    question: str
    answer: str
    segment: int | None
    """The one that holds the answer, if it is one."""


def long_clip(rng: random.Random, segments: int) -> WorldClip:
    """A clip of `segments` times 12 s, one or two events in each, one after the other."""
    return held_out_film(rng, segments, SECONDS)


def times_of(segment: int) -> list[float]:
    """When the product looks at a segment: 12 frames."""
    return [SECONDS * segment + time for time in sample_times(SECONDS, SECONDS)]


def asked(rng: random.Random, clip: WorldClip) -> list[Asked]:
    """A question of every kind of every group that the clip allows."""
    out = []
    for group, kinds in KINDS.items():
        for kind in kinds:
            turn = ask_about(rng, clip, kind)
            while turn is not None and kind == "exists" and (turn.answer == "no") != (group == "absent"):
                turn = ask_about(rng, clip, kind)
            if turn is None or (group == "absent" and turn.answer == NOTHING and turn.about >= 0):
                continue
            one = turn.about >= 0 and group != "border"
            place = int(clip.events[turn.about].start // SECONDS) if one else None
            out.append(Asked(group, turn.question, turn.answer, place))
    return out
