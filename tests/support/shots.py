"""Films of drawn shots whose cuts are known: backgrounds that pan, things that move, noise, flashes, drift, fades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

WIDTH, HEIGHT, FPS = 160, 90, 25


@dataclass(frozen=True)
class Shot:
    """What the camera sees for so many frames; `seed` draws it."""

    frames: int
    seed: int
    pan: float = 0.0
    """Pixels a frame."""
    things: int = 0
    """Blobs that move about."""
    noise: float = 2.0
    drift: float = 1.0
    """Brightness at the end, relative to that at the start."""
    flashes: tuple[int, ...] = ()
    """Frames at which a flash begins; it lights two frames."""
    slide: bool = False
    """A white page with lines of text in place of a view."""
    repeat: int = 1
    """Frames each picture is shown for."""

    def pictures(self) -> Iterator[np.ndarray]:
        """RGB float32 [HEIGHT, WIDTH, 3], 0 to 255."""
        rng = np.random.default_rng(self.seed)
        wide = WIDTH + int(abs(self.pan) * self.frames) + 1
        view = _page(rng) if self.slide else _view(rng, wide)
        blobs = [(rng.uniform(0, 1, 2), rng.uniform(-0.02, 0.02, 2), rng.uniform(0, 255, 3), int(rng.integers(6, 18)))
                 for _ in range(self.things)]
        for i in range(self.frames):
            step = i // self.repeat * self.repeat
            left = int(abs(self.pan) * step)
            picture = view[:, left : left + WIDTH].copy()
            for place, speed, color, size in blobs:
                x, y = (place + speed * step) % 1 * (WIDTH, HEIGHT)
                cv2.circle(picture, (int(x), int(y)), size, color.tolist(), -1)
            picture *= 1 + (self.drift - 1) * step / self.frames
            if self.noise and i == step:
                grain = rng.normal(0, self.noise, picture.shape)
            if self.noise:
                picture = picture + grain
            if any(0 <= i - flash < 2 for flash in self.flashes):
                picture = 0.25 * picture + 0.75 * 255
            yield np.clip(picture, 0, 255).astype(np.float32)


def _view(rng: np.random.Generator, width: int) -> np.ndarray:
    """Soft clouds of a few colours with some hard-edged things in it."""
    low, span = rng.uniform(0, 110), rng.uniform(60, 145)
    coarse = rng.uniform(0, 1, (6, 2 + width // 25, 3)) * rng.uniform(0.5, 1, 3) * span + low
    view = cv2.resize(coarse.astype(np.float32), (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(width // 20):
        x, y, w, h = (int(v) for v in rng.uniform(0, 1, 4) * (width, HEIGHT, 30, 40))
        cv2.rectangle(view, (x, y), (x + w, y + h), rng.uniform(0, 255, 3).tolist(), -1)
    return view


def _page(rng: np.random.Generator) -> np.ndarray:
    page = np.full((HEIGHT, WIDTH, 3), 245, np.float32)
    page[:12] = (30, 60, 120)  # the same on every slide
    for y in range(20, 84, 8):
        if rng.random() < 0.75:
            page[y : y + 4, 10 : int(rng.uniform(40, 150))] = 40
    if rng.random() < 0.5:
        x, y = rng.integers(60, 100), rng.integers(25, 45)
        page[y : y + 35, x : x + 50] = rng.uniform(60, 220, 3)
    return page


@dataclass(frozen=True)
class Film:
    shots: Sequence[Shot]
    fades: int = 0
    """Frames over which each shot goes into the next; 0 for hard cuts."""
    black: bool = False
    """Fades go through black."""

    @property
    def cuts(self) -> list[int]:
        """The first frame of each shot but the first; of a fade, its middle."""
        return [int(c) for c in np.cumsum([shot.frames for shot in self.shots])[:-1]]

    def pictures(self) -> Iterator[np.ndarray]:
        half, kept = self.fades // 2, []
        for number, shot in enumerate(self.shots):
            pictures = list(shot.pictures())
            if half and number:
                tail, head = kept, pictures[:half]
                still = [tail[-1]] * half, [head[0]] * half
                for i, (old, new) in enumerate(zip([*tail, *still[0]], [*still[1], *head], strict=True)):
                    share = (i + 0.5) / (2 * half)
                    if self.black:
                        yield old * max(0, 1 - 2 * share) + new * max(0, 2 * share - 1)
                    else:
                        yield old * (1 - share) + new * share
                pictures = pictures[half:]
            if half and number < len(self.shots) - 1:
                pictures, kept = pictures[:-half], pictures[-half:]
            yield from pictures

    def write(self, path: Path, codec: str = "libx264", rate: int = FPS, size: tuple[int, int] = (WIDTH, HEIGHT),
              **options: str) -> Path:
        with av.open(str(path), "w") as output:
            stream: Any = output.add_stream(codec, rate=rate, options={"preset": "ultrafast", **options})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for picture in self.pictures():
                image = picture.astype(np.uint8)
                if size != (WIDTH, HEIGHT):
                    image = cv2.resize(image, size)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))
        return path


def film(kind: str, seed: int, shots: int = 6) -> Film:
    """A film of one kind: still, moving, wild, flashes, drift, slides, jerky, dissolves, black."""
    rng = np.random.default_rng([seed, *kind.encode()])
    made = []
    for i in range(shots):
        frames, one = int(rng.integers(60, 150)), 1000 * seed + i
        made.append({
            "still": Shot(frames, one, noise=rng.uniform(0, 6)),
            "moving": Shot(frames, one, pan=rng.uniform(0.2, 2), things=3, noise=3),
            "wild": Shot(frames, one, pan=rng.uniform(4, 9), things=8, noise=8),
            "flashes": Shot(frames, one, pan=rng.uniform(0, 1.5), things=2, noise=3,
                            flashes=tuple(rng.integers(10, frames - 10, 3))),
            "drift": Shot(frames, one, pan=rng.uniform(0, 1), things=1, drift=rng.uniform(0.4, 1.4)),
            "slides": Shot(frames, one, noise=rng.uniform(0, 2), slide=True),
            "jerky": Shot(frames, one, pan=rng.uniform(0.5, 2), things=4, noise=3, repeat=int(rng.integers(3, 6))),
            "dissolves": Shot(frames, one, pan=rng.uniform(0, 1), things=2),
            "black": Shot(frames, one, pan=rng.uniform(0, 1), things=2),
        }[kind])
    return Film(made, fades=30 if kind in ("dissolves", "black") else 0, black=kind == "black")


KINDS = ("still", "moving", "wild", "flashes", "drift", "slides", "jerky", "dissolves", "black")
