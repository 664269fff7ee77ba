"""The embedded model's world: short clips of coloured shapes and slides, their questions and their answers.

A clip is a sequence of events on plain or patterned backgrounds. An event shows one object (a colour and a shape) doing
one motion, or two still objects side by side or one above the other, or a slide with one word. Where a camera cuts, the
background changes with the event. Objects of a clip differ in colour or in shape, mostly in both. Everything is drawn
from a seeded `random.Random`: same seed, same clip, same pixels.

Lengths are fractions of the frame's side, times are seconds, y grows downwards.

Held out: for every (colour, shape) pair exactly one motion is never shown in training (64 of the 448 triples).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

THING_COLORS = {
    "red": (222, 40, 42),
    "green": (38, 168, 62),
    "blue": (44, 86, 230),
    "yellow": (242, 218, 44),
    "purple": (132, 52, 190),
    "orange": (246, 136, 28),
    "cyan": (52, 214, 224),
    "magenta": (236, 48, 164),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
MOTIONS = ("stays still", "moves left", "moves right", "moves up", "moves down", "grows", "shrinks")
RELATIONS = ("is left of", "is above")
WORDS = ("hello", "stop", "sale", "open", "news", "exit", "menu", "taxi",
         "cafe", "quiz", "math", "gold", "wind", "fish", "book", "jazz")
BACKGROUNDS = {
    "black": (16, 16, 16),
    "white": (238, 238, 238),
    "gray": (128, 128, 128),
    "brown": (92, 58, 34),
    "pink": (246, 174, 200),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
COLOR_NAMES, BACKGROUND_NAMES = tuple(THING_COLORS), tuple(BACKGROUNDS)
OBJECTS = tuple(product(COLOR_NAMES, SHAPES))
ACTIONS = (*MOTIONS, *RELATIONS, *WORDS)
DIRECTIONS = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
SOLO, PAIR, SLIDE = "solo", "pair", "slide"

FPS = 10
"""Pictures a second of every clip."""

Place = tuple[float, float, float]
Path = tuple[Place, Place]


@dataclass(frozen=True)
class Thing:
    """An object; `path` is (x, y, radius) when its event starts and when it ends."""

    color: str
    shape: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Event:
    """Things on screen from `start` to `end`."""

    things: tuple[Thing, ...]
    """One that moves, or the left and the right, or the upper and the lower of two; none on a slide."""
    action: str
    """A motion, a relation, or the word of a slide."""
    background: str
    start: float
    end: float

    @property
    def kind(self) -> str:
        return (SLIDE, SOLO, PAIR)[len(self.things)]

    def at(self, time: float) -> list[Place]:
        """(x, y, radius) of each thing at a time, clamped to the event."""
        share = min(max((time - self.start) / (self.end - self.start), 0.0), 1.0)
        places = []
        for thing in self.things:
            x, y, radius = (a + (b - a) * share for a, b in zip(*thing.path, strict=True))
            places.append((x, y, radius))
        return places


@dataclass(frozen=True)
class Look:
    """Variation that a set, a codec or a camera would add."""

    tint: tuple[float, ...] = (0.0,) * 6
    """Added to the objects' and to the background's colour (0-255)."""
    pattern: int = 0
    """Pattern of the background: plain, slopes across and down, stripes across and down, checks."""
    contrast: float = 0.0
    """Contrast of the pattern (0-255)."""
    waves: float = 2.0
    """Repetitions of the pattern."""
    softness: float = 1.0
    """Width of edges, in pixels at 64 px."""
    noise: float = 0.0
    """Strength of the noise (0-255)."""


@dataclass(frozen=True)
class WorldClip:
    """A clip of the world as its events and its look."""

    events: tuple[Event, ...]
    duration: float
    look: Look = Look()

    @property
    def things(self) -> list[Thing]:
        """All objects in order of appearance."""
        return [thing for event in self.events for thing in event.things]

    def event_at(self, time: float) -> int:
        """Index of the event on screen."""
        return next((i for i, event in enumerate(self.events) if time < event.end), len(self.events) - 1)


def is_held_out(color: str, shape: str, motion: str) -> bool:
    """True for the triples that training never shows: one motion for every (colour, shape)."""
    c, s, m = COLOR_NAMES.index(color), SHAPES.index(shape), MOTIONS.index(motion)
    return (c + 2 * s + m) % len(MOTIONS) == 0


# --- drawing a clip --------------------------------------------------------------------------------------------------


def path_of(rng: random.Random, motion: str) -> Path:
    """A random (x, y, radius) at the start and at the end of an event; the object never leaves the frame."""
    if motion == "grows" or motion == "shrinks":
        small, large = rng.uniform(0.11, 0.14), rng.uniform(0.24, 0.29)
        x, y = rng.uniform(large, 1 - large), rng.uniform(large, 1 - large)
        ends = ((x, y, small), (x, y, large))
        return ends if motion == "grows" else ends[::-1]
    radius = rng.uniform(0.14, 0.22)
    low, high = radius, 1 - radius
    if motion == "stays still":
        point = (rng.uniform(low, high), rng.uniform(low, high), radius)
        return (point, point)
    length = rng.uniform(0.38, high - low)  # far enough that two samples of an event show it
    a, across = rng.uniform(low, high - length), rng.uniform(low, high)
    dx, dy = DIRECTIONS[motion]
    near, far = (a, a + length) if dx + dy > 0 else (a + length, a)
    if dx:
        return ((near, across, radius), (far, across, radius))
    return ((across, near, radius), (across, far, radius))


def pair_paths(rng: random.Random, relation: str) -> tuple[Path, Path]:
    """Places of two still objects, the left or upper one first; they never touch."""
    a, b = rng.uniform(0.14, 0.2), rng.uniform(0.14, 0.2)
    first, second = rng.uniform(a, 0.5 - a - 0.02), rng.uniform(0.5 + b + 0.02, 1 - b)
    middle = rng.uniform(0.25, 0.75)
    across = lambda radius: min(max(middle + rng.uniform(-0.08, 0.08), radius), 1 - radius)
    places = [(first, across(a), a), (second, across(b), b)]
    if relation == "is above":
        places = [(y, x, radius) for x, y, radius in places]
    return (places[0], places[0]), (places[1], places[1])


def draw_look(rng: random.Random) -> Look:
    pattern = rng.choices(range(6), (0.5, 0.12, 0.12, 0.09, 0.09, 0.08))[0]
    return Look(tuple(rng.uniform(-14, 14) for _ in range(6)), pattern, rng.uniform(4, 20) if pattern else 0.0,
                rng.uniform(1.5, 5), rng.uniform(0.7, 2.2), rng.uniform(0, 7))


def _things_of(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """(colour, shape) pairs, all different; mostly no colour and no shape twice, where there are enough."""
    if count <= 6 and rng.random() < 0.7:
        return list(zip(rng.sample(COLOR_NAMES, count), rng.sample(SHAPES, count), strict=True))
    return rng.sample(OBJECTS, count)


def draw_events(rng: random.Random, bounds: Sequence[float], held_out: bool = False,
                scenes: Sequence[int] = ()) -> tuple[Event, ...]:
    """Events between consecutive `bounds` (seconds); with `held_out` at least one triple is a held-out one, else none.

    `scenes` numbers the scene each event belongs to: slides are one a scene at most, and scenes may look different.
    """
    count = len(bounds) - 1
    scenes = list(scenes) or [0] * count
    kinds: list[str] = []
    for scene in scenes:
        kind = rng.choices((SOLO, PAIR, SLIDE), (0.66, 0.2, 0.14))[0]
        here = [k for k, s in zip(kinds, scenes, strict=False) if s == scene]
        kinds.append(SOLO if kind == SLIDE and (SLIDE in here or scenes.count(scene) == 1) else kind)
    if held_out and SOLO not in kinds:
        kinds[rng.randrange(count)] = SOLO
    if all(kind == SLIDE for kind in kinds):
        kinds[0] = SOLO
    objects = iter(_things_of(rng, sum((SLIDE, SOLO, PAIR).index(kind) for kind in kinds)))
    cuts = rng.random() < 0.3
    plain = rng.choice(BACKGROUND_NAMES)
    several = len(set(scenes)) > 1
    grounds = {scene: rng.choice(BACKGROUND_NAMES) if several else plain for scene in dict.fromkeys(scenes)}
    marked = rng.choice([i for i, kind in enumerate(kinds) if kind == SOLO]) if held_out else -1
    events = []
    for index, (kind, start, end) in enumerate(zip(kinds, bounds[:-1], bounds[1:], strict=True)):
        things: tuple[Thing, ...] = ()
        if kind == SOLO:
            color, shape = next(objects)
            unseen = next(m for m in MOTIONS if is_held_out(color, shape, m))
            action = rng.choice([m for m in MOTIONS if held_out or m != unseen])
            if index == marked:
                action = unseen
            things = (Thing(color, shape, path_of(rng, action)),)
        elif kind == PAIR:
            action = rng.choice(RELATIONS)
            paths = pair_paths(rng, action)
            things = (Thing(*next(objects), paths[0]), Thing(*next(objects), paths[1]))
        else:
            action = rng.choice(WORDS)
        ground = rng.choice(BACKGROUND_NAMES) if cuts else grounds[scenes[index]]
        events.append(Event(things, action, ground, start, end))
    return tuple(events)


def split_frames(rng: random.Random, frames: int, events: int) -> list[int]:
    """Splits `frames` samples among `events`, at least two each."""
    cuts = sorted(rng.sample(range(frames - events - 1), events - 1)) if events > 1 else []
    edges = [-1, *cuts, frames - events - 1]
    return [b - a + 1 for a, b in pairwise(edges)]


def event_count(rng: random.Random, frames: int, most: int = 4) -> int:
    """Number of events in a clip of `frames` samples: two samples each at least, four events from 8 samples on."""
    most = min(most, frames // 2, 3 if frames < 8 else 4)
    return rng.choices((1, 2, 3, 4)[:most], (0.15, 0.35, 0.38, 0.12)[:most])[0]


def training_clip(rng: random.Random, frames: int | Sequence[int]) -> tuple[WorldClip, list[float]]:
    """A training clip and its sample times; several numbers of frames make as many scenes one after the other.

    Samples are `stride` seconds apart from any phase and, often, far into a longer video, so that segments of long
    videos look familiar. Event boundaries fall anywhere between two samples.
    """
    scenes = [frames] if isinstance(frames, int) else list(frames)
    n = sum(scenes)
    most = 4 if len(scenes) <= 4 else 2
    parts, scene_of = [], []
    for number, size in enumerate(scenes):
        shown = split_frames(rng, size, event_count(rng, size, most))
        parts += shown
        scene_of += [number] * len(shown)
    stride = 1.0 if rng.random() < 0.65 else 10 ** rng.uniform(-1, 1.6 if n <= 16 else 0.5)
    step = stride * (1 + rng.random() / n)  # uniform sampling of n seconds steps by a little more than one
    offset = 0.0 if rng.random() < 0.6 else float(rng.randint(1, 600))
    phase = 0.0 if rng.random() < 0.5 else rng.random() * stride
    times = [offset + phase + i * step for i in range(n)]
    bounds, index = [times[0] - rng.random() * stride * 0.5], 0
    for part in parts[:-1]:
        index += part
        bounds.append(times[index] - rng.uniform(0.02, 0.98) * step)
    bounds.append(times[-1] + rng.uniform(0.05, 1.0) * step)
    duration = times[-1] + rng.random() * stride
    if offset or rng.random() < 0.1:
        duration += rng.choice((0.0, rng.uniform(0, 60)))
    return WorldClip(draw_events(rng, bounds, scenes=scene_of), duration, draw_look(rng)), times


def sample_times(duration: float, frames: int) -> list[float]:
    """Times of `frames` uniformly spread frames of a whole video, as the product samples it (seconds)."""
    return [int(i) / FPS for i in np.linspace(0, round(duration * FPS) - 1, frames)]


def held_out_clip(rng: random.Random, seconds: float, events: int, frames: int) -> WorldClip:
    """A test clip of so many seconds and events, each seen in two of `frames` samples at least; it shows a triple that
    training never did."""
    bounds, done = [0.0], 0
    for part in split_frames(rng, frames, events):
        done += part
        bounds.append(seconds * done / frames)
    return WorldClip(draw_events(rng, bounds, held_out=True), seconds, draw_look(rng))


def held_out_clips(count: int, seed: int = 0) -> Iterator[tuple[WorldClip, list[float]]]:
    """Test clips of 4 to 12 seconds sampled at 1 fps; each shows a triple that training never did."""
    rng = random.Random(f"held-out {seed}")
    for _ in range(count):
        n = rng.randint(4, 12)
        yield held_out_clip(rng, float(n), event_count(rng, n), n), sample_times(n, n)


def held_out_film(rng: random.Random, scenes: int, seconds: int = 12) -> WorldClip:
    """A long test clip: so many scenes of `seconds`, each of one or two events."""
    bounds, scene_of = [0.0], []
    for scene in range(scenes):
        for part in split_frames(rng, seconds, rng.choice((1, 2))):
            bounds.append(bounds[-1] + part)
            scene_of.append(scene)
    return WorldClip(draw_events(rng, bounds, True, scene_of), float(scenes * seconds), draw_look(rng))


# --- pixels ----------------------------------------------------------------------------------------------------------

# One row a frame: background rgb, pattern, contrast, waves, softness, noise, then for each of two things what it is
# (an index into SHAPES, after those into WORDS, -1 for none), rgb, x, y, radius.
GROUND, THING, STATE_SIZE = 8, 7, 22


def frame_states(clip: WorldClip, times: Sequence[float]) -> np.ndarray:
    """Rows from which `v2l.tiny.render.render` draws the clip at `times`: float32 [len(times), STATE_SIZE]."""
    rows = np.zeros((len(times), STATE_SIZE), np.float32)
    rows[:, [GROUND, GROUND + THING]] = -1
    look = clip.look
    for row, time in zip(rows, times, strict=True):
        event = clip.events[clip.event_at(time)]
        ground = BACKGROUNDS[event.background]
        row[:3] = np.add(ground, look.tint[3:])
        row[3:GROUND] = look.pattern, look.contrast, look.waves, look.softness, look.noise
        for slot, (thing, place) in enumerate(zip(event.things, event.at(time), strict=True)):
            at = GROUND + slot * THING
            row[at] = SHAPES.index(thing.shape)
            row[at + 1 : at + 4] = np.add(THING_COLORS[thing.color], look.tint[:3])
            row[at + 4 : at + THING] = place
        if event.kind == SLIDE:
            row[GROUND] = len(SHAPES) + WORDS.index(event.action)
            row[GROUND + 1 : GROUND + 4] = (20, 20, 24) if sum(ground) > 360 else (236, 236, 230)
            row[GROUND + 4 : GROUND + THING] = 0.5, 0.5, 0.46
    return rows
