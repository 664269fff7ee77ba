"""What is asked about a clip, in several wordings, and the one answer its pixels determine."""

from __future__ import annotations

import random
from dataclasses import dataclass

from v2l.tiny.world import BACKGROUND_NAMES, COLOR_NAMES, MOTIONS, NUMBERS, SHAPES, Clip, Event


@dataclass(frozen=True)
class Turn:
    kind: str
    question: str
    answer: str
    about: int = -1
    """Index of the one event whose frames hold the answer, -1 if there is none."""


# {c} colour, {s} shape, {x} an object as the asker may name it, {a} an article and an object.
WORDINGS = {
    "background": (
        "What color is the background?",
        "What is the background color?",
        "Which color is the background?",
        "What colour is the background?",
    ),
    "color": (
        "What color is the {s}?",
        "What colour is the {s}?",
        "Which color is the {s}?",
        "What is the color of the {s}?",
    ),
    "shape": (
        "What shape is the {c} object?",
        "What shape is {c}?",
        "Which shape is {c}?",
        "What is the {c} object?",
        "What is the shape of the {c} object?",
    ),
    "exists": (
        "Is there {a}?",
        "Is there {a} in the video?",
        "Does {a} appear?",
        "Do you see {a}?",
    ),
    "motion": (
        "How does {x} move?",
        "What does {x} do?",
        "What happens to {x}?",
        "What is {x} doing?",
    ),
    "first": (
        "What appears first?",
        "Which object appears first?",
        "What is the first object?",
        "What comes first?",
        "Which object is first?",
    ),
    "last": (
        "What appears last?",
        "Which object appears last?",
        "What is the last object?",
        "What comes last?",
        "Which object is last?",
    ),
    "after": (
        "What comes after {x}?",
        "What appears after {x}?",
        "Which object comes after {x}?",
        "Which object appears after {x}?",
    ),
    "before": (
        "What comes before {x}?",
        "What appears before {x}?",
        "Which object comes before {x}?",
        "Which object appears before {x}?",
    ),
    "count": (
        "How many objects are there?",
        "How many objects appear?",
        "How many objects are in the video?",
        "How many shapes appear?",
        "How many things appear?",
    ),
    "caption": (
        "What happened?",
        "What happens?",
        "What happens in the video?",
        "What happened in the video?",
        "Describe the video.",
        "Describe this video.",
    ),
}
MOVERS = {
    "stays still": ("What stays still?", "Which object stays still?", "What does not move?"),
    "grows": ("What grows?", "Which object grows?", "What is growing?", "What gets bigger?"),
    "shrinks": ("What shrinks?", "Which object shrinks?", "What is shrinking?", "What gets smaller?"),
}
for _way in ("left", "right", "up", "down"):
    MOVERS[f"moves {_way}"] = (
        f"What moves {_way}?",
        f"Which object moves {_way}?",
        f"What is moving {_way}?",
        f"What goes {_way}?",
    )

SHORT_KINDS = ("background", "color", "shape", "exists", "motion", "mover", "first", "last", "after", "before", "count")
KINDS = (*SHORT_KINDS, "caption")


def article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def caption(clip: Clip) -> str:
    """`On a black background, a red circle moves left, then a green star grows.`"""
    events = ", then ".join(f"{article(event.name)} {event.motion}" for event in clip.events)
    return f"On a {clip.background} background, {events}."


def _refer(rng: random.Random, event: Event) -> str:
    """A way to name an object that is unambiguous, since a clip's objects differ in colour and in shape."""
    names = (event.name, event.name, event.shape, event.shape, f"{event.color} object", f"{event.color} one")
    return f"the {rng.choice(names)}"


def _absent(rng: random.Random, clip: Clip) -> str:
    """An object that is not in the clip; mostly one that shares its colour or its shape with one that is."""
    present = {event.name for event in clip.events}
    while True:
        color, shape = rng.choice(COLOR_NAMES), rng.choice(SHAPES)
        roll = rng.random()
        if roll < 0.4:
            color = rng.choice(clip.events).color
        elif roll < 0.8:
            shape = rng.choice(clip.events).shape
        if roll < 0.5 and len(clip.events) > 1:  # the hardest: both are there, on different objects
            one, other = rng.sample(clip.events, 2)
            color, shape = one.color, other.shape
        if f"{color} {shape}" not in present:
            return f"{color} {shape}"


def ask(rng: random.Random, clip: Clip, kind: str) -> Turn | None:
    """A random question of this kind, or None where the clip has none (nothing comes after its only object)."""
    events, position = clip.events, rng.randrange(len(clip.events))
    event = events[position]
    if kind == "mover":
        unique = [e for e in events if sum(o.motion == e.motion for o in events) == 1]
        if not unique:
            return None
        event = rng.choice(unique)
        return Turn(kind, rng.choice(MOVERS[event.motion]), f"the {event.name}", events.index(event))
    wording = rng.choice(WORDINGS[kind])
    if kind == "background":
        return Turn(kind, wording, clip.background)
    if kind == "color":
        return Turn(kind, wording.format(s=event.shape), event.color, position)
    if kind == "shape":
        return Turn(kind, wording.format(c=event.color), event.shape, position)
    if kind == "exists":
        yes = rng.random() < 0.5
        name = event.name if yes else _absent(rng, clip)
        return Turn(kind, wording.format(a=article(name)), "yes" if yes else "no", position if yes else -1)
    if kind == "motion":
        return Turn(kind, wording.format(x=_refer(rng, event)), event.motion, position)
    if kind == "first":
        return Turn(kind, wording, f"the {events[0].name}", 0)
    if kind == "last":
        return Turn(kind, wording, f"the {events[-1].name}", len(events) - 1)
    if kind in ("after", "before"):
        if len(events) == 1:
            return None
        position = rng.randrange(len(events) - 1)
        one, other = events[position : position + 2] if kind == "after" else events[position : position + 2][::-1]
        return Turn(kind, wording.format(x=_refer(rng, one)), f"the {other.name}", position + 1)  # its frames tell both
    if kind == "count":
        return Turn(kind, wording, NUMBERS[len(events)])
    return Turn(kind, wording, caption(clip))


def corpus() -> list[str]:
    """Every word the world can say, for the tokenizer: all wordings with all names."""
    lines = [w for kind in WORDINGS for w in WORDINGS[kind] if "{" not in w]
    lines += [w for wordings in MOVERS.values() for w in wordings]
    for c in COLOR_NAMES:
        for s in SHAPES:
            names = dict(c=c, s=s, x=f"the {c} {s}", a=article(f"{c} {s}"))
            lines += [w.format(**names) for kind in WORDINGS for w in WORDINGS[kind] if "{" in w]
            lines += [f" the {c} one. the {c} object.", f"On a {c}, then {article(s)}. {c} {s}"]
    lines += [f"a {b} background, {b}" for b in BACKGROUND_NAMES] + [f"it {m}, then" for m in MOTIONS]
    lines += [f" {n}" for n in NUMBERS] + ["yes no", " yes, no"]
    return lines + [line.lower() for line in lines]
