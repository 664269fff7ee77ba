"""Questions about a clip, in several wordings, and the one answer that its pixels determine."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from v2l.tiny.wordings import MOVERS, ORDINALS, WAYS, WORDINGS
from v2l.tiny.world import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    MOTIONS,
    NUMBERS,
    OBJECTS,
    PAIR,
    RELATIONS,
    SHAPES,
    SLIDE,
    SOLO,
    WORDS,
    Event,
    Thing,
    WorldClip,
)


@dataclass(frozen=True)
class QAPair:
    """A question about a clip and its answer."""

    kind: str
    question: str
    answer: str
    about: int = -1
    """Index of the one event whose frames hold the answer, -1 if there is none."""


SHORT_KINDS = ("background", "color", "shape", "exists", "motion", "mover", "relation", "slide", "first", "last",
               "after", "before", "count", "absent")
CAPTION_KINDS = ("events", "detailed", "dense", "objects", "region")
KINDS = (*SHORT_KINDS, *CAPTION_KINDS)
ONE_PART = ("background", "color", "shape", "exists", "motion", "mover", "relation", "slide", "absent", "region")
"""Kinds that one part of a long video answers."""
NOTHING = "nothing"


def article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def phrase(event: Event) -> str:
    """The event in words: `a red circle moves left`, `a green star is above a blue ring`, `a slide says hello`."""
    if event.kind == SLIDE:
        return f"a slide says {event.action}"
    names = [article(thing.name) for thing in event.things]
    return f"{names[0]} {event.action}" + (f" {names[1]}" if event.kind == PAIR else "")


def shown(event: Event) -> str:
    """The things on screen: `the red circle`, `the green star and the blue ring`, `the slide`."""
    return " and ".join(f"the {thing.name}" for thing in event.things) or "the slide"


def events_caption(clip: WorldClip) -> str:
    """`A red circle moves left, then a slide says hello.`"""
    text = ", then ".join(phrase(event) for event in clip.events)
    return f"{text[0].upper()}{text[1:]}."


def detailed_caption(clip: WorldClip) -> str:
    """`On a black background, a red circle moves left, then on a pink background, a green star grows.`"""
    parts, ground = [], ""
    for event in clip.events:
        on = "" if event.background == ground else f"on a {event.background} background, "
        parts.append(on + phrase(event))
        ground = event.background
    text = ", then ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def dense_caption(clip: WorldClip) -> str:
    """`First, a red circle moves left; second, a slide says hello.`"""
    return "; ".join(f"{n}, {phrase(event)}" for n, event in zip(ORDINALS, clip.events, strict=False)) + "."


def objects_caption(clip: WorldClip) -> str:
    """`A red circle, a green star.`"""
    text = ", ".join(article(thing.name) for thing in clip.things)
    return f"{text[0].upper()}{text[1:]}."


def region_caption(event: Event, thing: Thing) -> str:
    """`A red circle that moves left on a black background.`"""
    does = event.action
    if event.kind == PAIR:
        other = event.things[thing is event.things[0]]
        does = f"is {WAYS[event.action][thing is event.things[1]][0]} {article(other.name)}"
    text = f"{article(thing.name)} that {does} on a {event.background} background."
    return f"{text[0].upper()}{text[1:]}"


def _names(clip: WorldClip, thing: Thing) -> list[str]:
    """Every way to name a thing that is true of no other of the clip; its full name comes up as often as the rest."""
    others = [t for t in clip.things if t is not thing]
    short = []
    if all(t.shape != thing.shape for t in others):
        short.append(thing.shape)
    if all(t.color != thing.color for t in others):
        short += [f"{thing.color} object", f"{thing.color} one"]
    return [thing.name] * max(2, len(short)) + short


def _refer(rng: random.Random, clip: WorldClip, event: Event) -> str:
    """A way to name what an event shows."""
    if event.kind == SLIDE:
        return "the slide"
    return f"the {rng.choice(_names(clip, rng.choice(event.things)))}"


def _stranger(rng: random.Random, clip: WorldClip) -> str:
    """An object that is not in the clip; mostly one that shares its colour or its shape with one that is."""
    things = clip.things
    present = {thing.name for thing in things}
    while True:
        color, shape = rng.choice(OBJECTS)
        roll = rng.random()
        if roll < 0.4:
            color = rng.choice(things).color
        elif roll < 0.8:
            shape = rng.choice(things).shape
        if roll < 0.5 and len(things) > 1:  # the hardest: both are there, on different objects
            first, second = rng.sample(things, 2)
            color, shape = first.color, second.shape
        if f"{color} {shape}" not in present:
            return f"{color} {shape}"


def _word(rng: random.Random, kind: str, **names: str) -> str:
    return rng.choice(WORDINGS[kind]).format(**names)


# --- one function a kind: a random question, or None where the clip has none -----------------------------------------


def _event(rng: random.Random, clip: WorldClip, *kinds: str) -> int | None:
    places = [i for i, event in enumerate(clip.events) if event.kind in kinds]
    return rng.choice(places) if places else None


def _background(rng: random.Random, clip: WorldClip) -> QAPair | None:
    if len({event.background for event in clip.events}) == 1 and rng.random() < 0.7:
        return QAPair("background", _word(rng, "background"), clip.events[0].background)
    at = _event(rng, clip, SOLO, PAIR)
    assert at is not None
    event = clip.events[at]
    return QAPair("background", _word(rng, "behind", x=_refer(rng, clip, event)), event.background, at)


def _unique(rng: random.Random, clip: WorldClip, trait: Callable[[Thing], str]) -> tuple[int, Thing] | None:
    """A thing that no other of the clip shares a trait with, and its event."""
    traits = [trait(thing) for thing in clip.things]
    unique = [(i, t) for i, event in enumerate(clip.events) for t in event.things if traits.count(trait(t)) == 1]
    return rng.choice(unique) if unique else None


def _color(rng: random.Random, clip: WorldClip) -> QAPair | None:
    if (unique := _unique(rng, clip, lambda t: t.shape)) is None:
        return None
    at, thing = unique
    return QAPair("color", _word(rng, "color", s=thing.shape), thing.color, at)


def _shape(rng: random.Random, clip: WorldClip) -> QAPair | None:
    if (unique := _unique(rng, clip, lambda t: t.color)) is None:
        return None
    at, thing = unique
    return QAPair("shape", _word(rng, "shape", c=thing.color), thing.shape, at)


def _exists(rng: random.Random, clip: WorldClip) -> QAPair | None:
    if rng.random() < 0.08:
        at = _event(rng, clip, SLIDE)
        question = _word(rng, "exists", a="a slide")
        return QAPair("exists", question, "no") if at is None else QAPair("exists", question, "yes", at)
    if rng.random() < 0.5:
        return QAPair("exists", _word(rng, "exists", a=article(_stranger(rng, clip))), "no")
    at = _event(rng, clip, SOLO, PAIR)
    assert at is not None
    thing = rng.choice(clip.events[at].things)
    return QAPair("exists", _word(rng, "exists", a=article(thing.name)), "yes", at)


def _action(event: Event) -> str:
    return event.action if event.kind == SOLO else MOTIONS[0]


def _motion(rng: random.Random, clip: WorldClip) -> QAPair | None:
    at = _event(rng, clip, SOLO, PAIR) if rng.random() < 0.2 else _event(rng, clip, SOLO)
    if at is None:
        return None
    event = clip.events[at]
    return QAPair("motion", _word(rng, "motion", x=_refer(rng, clip, event)), _action(event), at)


def _mover(rng: random.Random, clip: WorldClip) -> QAPair | None:
    does = [(_action(e), i, t) for i, e in enumerate(clip.events) for t in e.things]
    unique = [(m, i, t) for m, i, t in does if sum(m == other for other, _, _ in does) == 1]
    if not unique:
        return None
    motion, at, thing = rng.choice(unique)
    return QAPair("mover", rng.choice(MOVERS[motion]), f"the {thing.name}", at)


def _relation(rng: random.Random, clip: WorldClip) -> QAPair | None:
    at = _event(rng, clip, PAIR)
    if at is None:
        return None
    event = clip.events[at]
    ways, turned = WAYS[event.action], rng.random() < 0.5
    mine, other = event.things if turned else event.things[::-1]  # asked about `mine`: where it is, or what is where
    if rng.random() < 0.3:
        return QAPair("relation", _word(rng, "where", x=f"the {rng.choice(_names(clip, mine))}"),
                    f"{ways[not turned][0]} the {other.name}", at)
    way = rng.choice(ways[turned])
    return QAPair("relation", _word(rng, "relation", w=way, x=f"the {rng.choice(_names(clip, mine))}"),
                f"the {other.name}", at)


def _slide(rng: random.Random, clip: WorldClip) -> QAPair | None:
    slides = [i for i, event in enumerate(clip.events) if event.kind == SLIDE]
    if len(slides) != 1:
        return None
    return QAPair("slide", _word(rng, "slide"), clip.events[slides[0]].action, slides[0])


def _ends(kind: str, at: int) -> Callable[[random.Random, WorldClip], QAPair | None]:
    return lambda rng, clip: QAPair(kind, _word(rng, kind), shown(clip.events[at]), at % len(clip.events))


def _beside(kind: str) -> Callable[[random.Random, WorldClip], QAPair | None]:
    def turn(rng: random.Random, clip: WorldClip) -> QAPair | None:
        if len(clip.events) == 1:
            return None
        at = rng.randrange(len(clip.events) - 1)
        event, other = clip.events[at : at + 2] if kind == "after" else clip.events[at : at + 2][::-1]
        if event.kind == SLIDE and sum(each.kind == SLIDE for each in clip.events) > 1:
            return None
        # The later event's frames tell both.
        return QAPair(kind, _word(rng, kind, x=_refer(rng, clip, event)), shown(other), at + 1)

    return turn


def _count(rng: random.Random, clip: WorldClip) -> QAPair | None:
    count = len(clip.things)
    return QAPair("count", _word(rng, "count"), NUMBERS[count]) if count < len(NUMBERS) else None


def _absent(rng: random.Random, clip: WorldClip) -> QAPair | None:
    """A question about what is not there."""
    roll = rng.random()
    things = clip.things
    if roll < 0.15 and (colors := [c for c in COLOR_NAMES if all(t.color != c for t in things)]):
        color = rng.choice(colors)
        return QAPair("absent", _word(rng, "shape", c=color), f"there is no {color} object")
    if roll < 0.3 and (shapes := [s for s in SHAPES if all(t.shape != s for t in things)]):
        shape = rng.choice(shapes)
        return QAPair("absent", _word(rng, "color", s=shape), f"there is no {shape}")
    if roll < 0.4:
        done = {_action(event) for event in clip.events if event.things}
        if left := [motion for motion in MOTIONS if motion not in done]:
            return QAPair("absent", rng.choice(MOVERS[rng.choice(left)]), NOTHING)
    if roll < 0.5 and all(event.kind != SLIDE for event in clip.events):
        return QAPair("absent", _word(rng, "slide"), "there is no slide")
    if roll < 0.6:
        at = _event(rng, clip, SOLO)
        if at is not None:
            way = rng.choice(WAYS[rng.choice(RELATIONS)][rng.random() < 0.5])
            name = f"the {clip.events[at].things[0].name}"
            return QAPair("absent", _word(rng, "relation", w=way, x=name), NOTHING, at)
    name = _stranger(rng, clip)
    kind = rng.choice(("motion", "motion", "behind", "after", "before", "region", "where", "relation"))
    way = rng.choice(WAYS[rng.choice(RELATIONS)][rng.random() < 0.5])
    return QAPair("absent", _word(rng, kind, x=f"the {name}", w=way), f"there is no {name}")


def _whole(kind: str, text: Callable[[WorldClip], str]) -> Callable[[random.Random, WorldClip], QAPair | None]:
    return lambda rng, clip: QAPair(kind, _word(rng, kind), text(clip)) if len(clip.events) <= len(ORDINALS) else None


def _region(rng: random.Random, clip: WorldClip) -> QAPair | None:
    at = _event(rng, clip, SOLO, PAIR)
    assert at is not None
    thing = rng.choice(clip.events[at].things)
    return QAPair("region", _word(rng, "region", x=f"the {rng.choice(_names(clip, thing))}"),
                region_caption(clip.events[at], thing), at)


_ASKERS: dict[str, Callable[[random.Random, WorldClip], QAPair | None]] = {
    "background": _background, "color": _color, "shape": _shape, "exists": _exists, "motion": _motion,
    "mover": _mover, "relation": _relation, "slide": _slide, "first": _ends("first", 0), "last": _ends("last", -1),
    "after": _beside("after"), "before": _beside("before"), "count": _count, "absent": _absent,
    "events": _whole("events", events_caption), "detailed": _whole("detailed", detailed_caption),
    "dense": _whole("dense", dense_caption), "objects": _whole("objects", objects_caption), "region": _region,
}


def ask_about(rng: random.Random, clip: WorldClip, kind: str) -> QAPair | None:
    """A random question of this kind, or None where the clip has none (nothing comes after its only object)."""
    return _ASKERS[kind](rng, clip)


def corpus() -> list[str]:
    """Every word the world can say, for the tokenizer: all wordings with all names."""
    lines = [w for kind in WORDINGS for w in WORDINGS[kind] if "{" not in w]
    lines += [w for wordings in MOVERS.values() for w in wordings]
    ways = [way for pair in WAYS.values() for both in pair for way in both]
    for number, (c, s) in enumerate(OBJECTS):
        for way in (ways[number % len(ways)], ways[(number + 3) % len(ways)]):
            names = dict(c=c, s=s, x=f"the {c} {s}", a=article(f"{c} {s}"), w=way)
            lines += [w.format(**names) for kind in WORDINGS for w in WORDINGS[kind] if "{" in w]
        lines += [f" the {c} one. the {c} object.", f"then {article(s)}. {c} {s}, {s}; {s}."]
        lines += [f"A {c} {s}", f"An {c} {s}"]
    lines += [f"On a {b} background, {b}. then on a {b} background." for b in BACKGROUND_NAMES]
    lines += [f"it {m}, then; that {m} on." for m in MOTIONS] + [f"{o}, a; {o}, an" for o in ORDINALS]
    lines += [f" {n}" for n in NUMBERS] + [f"a slide says {w}, {w}. {w}; {w}" for w in WORDS]
    lines += ["yes no", " yes, no", " nothing", "there is no slide", "A slide says", "is left of a", "is above a"]
    return lines + [line.lower() for line in lines]
