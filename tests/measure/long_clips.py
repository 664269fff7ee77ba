"""Long clips of the embedded model's world in segments of 12 s, and what can be asked about them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil

from v2l.tiny.questions import NOTHING, article, ask_about, phrase
from v2l.tiny.wordings import WORDINGS
from v2l.tiny.world import OBJECTS, WorldClip, held_out_film, sample_times

SECONDS = 12
MOST_THINGS = len(OBJECTS) - 8
"""A clip of 32 segments can have them all; something must be left that is not there."""
GROUPS = {
    "named": "names a colour, a shape, a motion or a slide that only one segment has",
    "object": "names an object that only one segment has",
    "absent": "names what no segment has",
    "ends": "what is first, what is last",
    "border": "what comes right before or after",
    "whole": "how many objects",
    "told": "what happens, which objects there are: mean F1 of the events, or objects, that are named",
    "when": "when an object appears that one segment or some have, or none",
    "earlier": "which of two comes first or last, or whether one comes before or after the other",
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
    """A clip of `segments` times 12 s, one or two events in each, one after the other; no object comes back."""
    while True:
        try:
            clip = held_out_film(rng, segments, SECONDS)
        except ValueError:
            continue  # more things than the world has
        if len(clip.things) <= MOST_THINGS:
            return clip


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
    return out + told(rng, clip) + when(rng, clip) + earlier(rng, clip)


def told(rng: random.Random, clip: WorldClip) -> list[Asked]:
    """What happens and what there is; the answers are all that should be named, one a line."""
    events, objects = map(phrase, clip.events), (article(thing.name) for thing in clip.things)
    return [Asked("told", rng.choice(WORDINGS[kind]), "\n".join(dict.fromkeys(names)), None)
            for kind, names in (("events", events), ("objects", objects))]


def when(rng: random.Random, clip: WorldClip) -> list[Asked]:
    """When an object appears that is there, and one that is not; the answers are the numbers of the segments."""
    there = rng.choice(clip.things).name
    gone = rng.choice([f"{color} {shape}" for color, shape in OBJECTS
                       if all(thing.name != f"{color} {shape}" for thing in clip.things)])
    shows = lambda name: sorted({second for event in clip.events if any(thing.name == name for thing in event.things)
                                 for second in range(int(event.start // SECONDS), ceil(event.end / SECONDS))})
    return [Asked("when", f"When does the {name} appear?", " ".join(map(str, shows(name))), None)
            for name in (there, gone)]


def earlier(rng: random.Random, clip: WorldClip) -> list[Asked]:
    """Which of two objects that are not there together is first or last, and whether one is before or after the other;
    the answers are what has to be said first."""
    found = []
    for yes_or_no in (True, False) if len(clip.events) > 1 else ():
        one, other = sorted(rng.sample(range(len(clip.events)), 2))
        names = [rng.choice(clip.events[i].things).name if clip.events[i].things else "slide" for i in (one, other)]
        turned, side = rng.random() < 0.5, rng.random() < 0.5
        a, b = names[::-1] if turned else names
        if len(set(names)) < 2 or (names.count("slide") and sum(not event.things for event in clip.events) > 1):
            continue
        if yes_or_no:
            question = f"Does the {a} appear {('before', 'after')[side]} the {b}?"
            found.append(Asked("earlier", question, ("yes", "no")[turned != side], None))
        else:
            question = f"Which comes {('first', 'last')[side]}, the {a} or the {b}?"
            found.append(Asked("earlier", question, f"the {names[side]}", None))
    return found
