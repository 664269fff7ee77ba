"""The embedded model's world: short clips of coloured shapes, their questions and their answers.

A clip has one plain background and one to four events in sequence. An event shows one object (a colour and a shape)
doing one motion, so at any time one object is on screen; the objects of a clip differ in colour and in shape, which
keeps every question unambiguous. Everything is drawn from a seeded `random.Random`: same seed, same clip, same pixels.

Lengths are fractions of the frame's side, times are seconds, y grows downwards.

Held out: for every (colour, shape) pair exactly one motion is never shown in training (36 of the 252 triples).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

COLORS = {
    "red": (222, 40, 42),
    "green": (38, 168, 62),
    "blue": (44, 86, 230),
    "yellow": (242, 218, 44),
    "purple": (150, 56, 192),
    "orange": (246, 136, 28),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
MOTIONS = ("stays still", "moves left", "moves right", "moves up", "moves down", "grows", "shrinks")
BACKGROUNDS = {
    "black": (16, 16, 16),
    "white": (238, 238, 238),
    "gray": (128, 128, 128),
    "brown": (92, 58, 34),
    "pink": (246, 174, 200),
}
NUMBERS = ("zero", "one", "two", "three", "four")
COLOR_NAMES, BACKGROUND_NAMES = tuple(COLORS), tuple(BACKGROUNDS)
STEPS = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}


@dataclass(frozen=True)
class Event:
    """One object doing one thing from `start` to `end`; `path` is (x, y, radius) at both ends."""

    color: str
    shape: str
    motion: str
    start: float
    end: float
    path: tuple[tuple[float, float, float], tuple[float, float, float]]

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    def at(self, time: float) -> tuple[float, float, float]:
        """(x, y, radius) at a time, clamped to the event."""
        share = min(max((time - self.start) / (self.end - self.start), 0.0), 1.0)
        x, y, radius = (a + (b - a) * share for a, b in zip(*self.path, strict=True))
        return x, y, radius


@dataclass(frozen=True)
class Look:
    """What a codec or a camera would add: colour offsets (0-255), edge softness (pixels at 64 px), noise (0-255)."""

    tint: tuple[float, ...] = (0.0,) * 6
    softness: float = 1.0
    noise: float = 0.0


@dataclass(frozen=True)
class Clip:
    background: str
    events: tuple[Event, ...]
    duration: float
    look: Look = Look()

    def event_at(self, time: float) -> int:
        """Index of the event on screen."""
        return next((i for i, event in enumerate(self.events) if time < event.end), len(self.events) - 1)


def is_held_out(color: str, shape: str, motion: str) -> bool:
    """True for the triples that training never shows: one motion for every (colour, shape)."""
    c, s, m = COLOR_NAMES.index(color), SHAPES.index(shape), MOTIONS.index(motion)
    return (c + 2 * s + m) % len(MOTIONS) == 0


def path_of(rng: random.Random, motion: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
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
    dx, dy = STEPS[motion]
    near, far = (a, a + length) if dx + dy > 0 else (a + length, a)
    if dx:
        return ((near, across, radius), (far, across, radius))
    return ((across, near, radius), (across, far, radius))


def _look(rng: random.Random) -> Look:
    return Look(tuple(rng.uniform(-14, 14) for _ in range(6)), rng.uniform(0.7, 1.8), rng.uniform(0, 6))


def _events(rng: random.Random, bounds: Sequence[float], held_out: bool) -> tuple[Event, ...]:
    """Objects and motions between consecutive `bounds`; with `held_out` at least one triple is a held-out one."""
    count = len(bounds) - 1
    while True:
        objects = list(zip(rng.sample(COLOR_NAMES, count), rng.sample(SHAPES, count), strict=True))
        motions = [rng.choice(MOTIONS) for _ in objects]
        if held_out:
            chosen = rng.randrange(count)
            motions[chosen] = next(m for m in MOTIONS if is_held_out(*objects[chosen], m))
        unseen = [is_held_out(*o, m) for o, m in zip(objects, motions, strict=True)]
        if held_out == any(unseen):
            break
    spans = zip(objects, motions, bounds[:-1], bounds[1:], strict=True)
    return tuple(Event(*o, m, start, end, path_of(rng, m)) for o, m, start, end in spans)


def _parts(rng: random.Random, frames: int, events: int) -> list[int]:
    """Splits `frames` samples among `events`, at least two each."""
    cuts = sorted(rng.sample(range(frames - events - 1), events - 1)) if events > 1 else []
    edges = [-1, *cuts, frames - events - 1]
    return [b - a + 1 for a, b in pairwise(edges)]


def event_count(rng: random.Random, frames: int, most: int = 4) -> int:
    """How many events a clip of `frames` samples shows: two samples each at least, four events from 8 samples on."""
    most = min(most, frames // 2, 3 if frames < 8 else 4)
    return rng.choices((1, 2, 3, 4)[:most], (0.15, 0.35, 0.4, 0.1)[:most])[0]


def training_clip(rng: random.Random, frames: tuple[int, int] = (4, 12), most: int = 4) -> tuple[Clip, list[float]]:
    """A training clip and its sample times.

    Samples are about `stride` seconds apart from any phase and, often, far into a longer video, so that segments of
    long videos look familiar. Event boundaries fall anywhere between two samples.
    """
    n = rng.randint(*frames)
    stride = 1.0 if rng.random() < 0.75 else rng.uniform(1.0, 5.0)
    step = stride * (1 + rng.random() / n)  # uniform sampling of n seconds steps by a little more than one
    offset = 0.0 if rng.random() < 0.6 else float(rng.randint(1, 90))
    phase = 0.0 if rng.random() < 0.5 else rng.random() * stride
    times = [offset + phase + i * step for i in range(n)]
    bounds = [times[0] - rng.random() * stride * 0.5]
    index = 0
    for part in _parts(rng, n, event_count(rng, n, most))[:-1]:
        index += part
        bounds.append(times[index] - rng.uniform(0.02, 0.98) * step)
    bounds.append(times[-1] + rng.uniform(0.05, 1.0) * step)
    duration = times[-1] + rng.random() * stride
    if offset or rng.random() < 0.1:
        duration += rng.choice((0.0, rng.uniform(0, 60)))
    clip = Clip(rng.choice(BACKGROUND_NAMES), _events(rng, bounds, held_out=False), duration, _look(rng))
    return clip, times


def sample_times(duration: float, fps: float, frames: int) -> list[float]:
    """Times of `frames` uniformly spread frames of a whole video, as the product samples it (seconds)."""
    return [int(i) / fps for i in np.linspace(0, round(duration * fps) - 1, frames)]


def held_out_clips(count: int, seed: int = 0, fps: float = 10.0) -> Iterator[tuple[Clip, list[float]]]:
    """Test clips of 4 to 12 seconds sampled at 1 fps; each shows a triple that training never did."""
    rng = random.Random(f"held-out {seed}")
    for _ in range(count):
        n = rng.randint(4, 12)
        bounds = [0.0]
        for part in _parts(rng, n, event_count(rng, n)):
            bounds.append(bounds[-1] + part)
        clip = Clip(rng.choice(BACKGROUND_NAMES), _events(rng, bounds, held_out=True), float(n), _look(rng))
        yield clip, sample_times(n, fps, n)


# --- pixels ----------------------------------------------------------------------------------------------------------

# One row a frame: shape index, object rgb, background rgb, x, y, radius, softness, noise.
STATE_SIZE = 12


def frame_states(clip: Clip, times: Sequence[float]) -> np.ndarray:
    """What `v2l.tiny.render.render` needs to draw the clip at `times`: float32 [len(times), STATE_SIZE]."""
    rows = np.empty((len(times), STATE_SIZE), np.float32)
    background = np.add(BACKGROUNDS[clip.background], clip.look.tint[3:])
    for row, time in zip(rows, times, strict=True):
        event = clip.events[clip.event_at(time)]
        row[0] = SHAPES.index(event.shape)
        row[1:4] = np.add(COLORS[event.color], clip.look.tint[:3])
        row[4:7] = background
        row[7:10] = event.at(time)
        row[10:] = clip.look.softness, clip.look.noise
    return rows
