"""Learns to tell tiny's world from other pictures: `python -m v2l.tiny.familiar --out FILE`, two minutes on a core.

A logistic regression on the image tokens of a tile: training clips of the world at several sizes, some as JPEG, against
pictures that are drawn here and are none of it. No photograph, film or test source was learned from:
`tests/measure/foreign.py` shows those, and clips that were held out.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from v2l.model.base import Base
from v2l.model.prompt import cut_tiles
from v2l.tiny import BASE, WEIGHTS
from v2l.tiny.model import TILE
from v2l.tiny.render import render
from v2l.tiny.world import frame_states, training_clip

SIDE = 192
"""Pixels of a picture that is drawn."""
STEPS, BATCH, RATE, DECAY = 3000, 512, 2e-3, 0.05
THRESHOLD = -2.45
"""Mean logit of a video's tiles from which on it is foreign: more than 99 in 100 held-out videos have less,
most that are foreign far more (tests/measure/foreign.py)."""


# Pictures that are none of the world, RGB uint8.


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Noise whose spectrum falls as a power of the frequency, as that of photographs does."""
    n = SIDE // 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    frequency[0, 0] = 1
    waves = rng.normal(size=(3, n, n)) + 1j * rng.normal(size=(3, n, n))
    field = np.fft.ifft2(waves / frequency ** rng.uniform(0.3, 2.6)).real
    field -= field.mean((1, 2), keepdims=True)
    field /= field.std((1, 2), keepdims=True)
    gray = rng.random()
    field = field[:1] * gray + field * (1 - gray)
    picture = rng.uniform(30, 225, (3, 1, 1)) + field / field.std() * rng.uniform(15, 70)
    return cv2.resize(np.clip(picture, 0, 255).transpose(1, 2, 0).astype(np.uint8), (SIDE, SIDE))


def _ramp(rng: np.random.Generator) -> np.ndarray:
    """Four colours in the corners, and all between them."""
    return cv2.resize(rng.integers(0, 256, (2, 2, 3)).astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _clutter(rng: np.random.Generator) -> np.ndarray:
    """Many polygons, ellipses and lines of any colour."""
    picture = _ramp(rng) if rng.random() < 0.5 else np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(3, 40))):
        color, kind = rng.integers(0, 256, 3).tolist(), int(rng.integers(3))
        points = rng.integers(-30, SIDE + 30, (int(rng.integers(3, 6)), 2)).astype(np.int32)
        if kind == 0:
            cv2.fillPoly(picture, [points], color)
        elif kind == 1:
            _ellipse(rng, picture, SIDE // 2)
        else:
            cv2.line(picture, points[0].tolist(), points[1].tolist(), color, int(rng.integers(1, 8)))
    return picture


def _ellipse(rng: np.random.Generator, picture: np.ndarray, largest: int) -> None:
    center, axes = rng.integers(0, SIDE, 2).tolist(), rng.integers(3, largest, 2).tolist()
    cv2.ellipse(picture, center, axes, float(rng.uniform(0, 180)), 0, 360, rng.integers(0, 256, 3).tolist(), -1)


def _page(rng: np.random.Generator) -> np.ndarray:
    """Lines of text with bars and a picture, as screens and slides have them."""
    ground = rng.integers(0, 256, 3) if rng.random() < 0.5 else np.repeat(rng.choice([0, 20, 40, 240, 255]), 3)
    picture = np.full((SIDE, SIDE, 3), ground, np.uint8)
    ink = np.clip((230 if ground.mean() < 128 else 25) + rng.integers(-25, 26, 3), 0, 255).tolist()
    for end in ((SIDE, int(rng.integers(8, 40))), (int(rng.integers(20, 80)), SIDE)):
        if rng.random() < 0.35:
            cv2.rectangle(picture, (0, 0), end, rng.integers(0, 256, 3).tolist(), -1)
    scale, letters = rng.uniform(0.25, 1.2), list("abcdefghijklmnop ()=.")
    for y in range(int(rng.integers(8, 40)), SIDE, int(28 * scale + 4)):
        if rng.random() < 0.85:
            line = "".join(rng.choice(letters, int(rng.integers(4, 60))))
            cv2.putText(picture, line, (int(rng.integers(4, 60)), y), int(rng.integers(4)), scale, ink,
                        1 + int(scale > 0.8), cv2.LINE_AA)
    if rng.random() < 0.3:
        x, y = rng.integers(10, SIDE - 90, 2)
        picture[y : y + 80, x : x + 80] = _clouds(rng)[:80, :80]
    return picture


def _blocks(rng: np.random.Generator) -> np.ndarray:
    """A grid of colours, hard or soft."""
    grid = rng.integers(0, 256, (*rng.integers(2, 16, 2), 3)).astype(np.uint8)
    soft = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_NEAREST
    return cv2.resize(grid, (SIDE, SIDE), interpolation=soft)


def _grain(rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, rng.uniform(18, 80), (TILE, TILE, 1 if rng.random() < 0.3 else 3))
    return np.clip(rng.integers(0, 256, 3) + noise, 0, 255).astype(np.uint8)


def _view(rng: np.random.Generator) -> np.ndarray:
    """A ground, a sky, some things, out of focus and with noise."""
    picture, horizon = _clouds(rng), int(rng.uniform(0.2, 0.8) * SIDE)
    picture[:horizon] = _ramp(rng)[:horizon]
    for _ in range(int(rng.integers(0, 8))):
        _ellipse(rng, picture, 60)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 3))
    return np.clip(picture + rng.normal(0, rng.uniform(0, 12), picture.shape), 0, 255).astype(np.uint8)


PICTURES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    _clouds, _clouds, _clutter, _page, _page, _blocks, _grain, _view, _view, _ramp)


def foreign_picture(rng: np.random.Generator) -> np.ndarray:
    """A picture of any of these kinds, some in gray, some with little contrast."""
    picture = PICTURES[int(rng.integers(len(PICTURES)))](rng)
    if rng.random() < 0.25:
        picture = np.repeat(picture.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    if rng.random() < 0.3:
        picture = np.clip((picture - 128.0) * rng.uniform(0.4, 1) + rng.uniform(60, 190), 0, 255).astype(np.uint8)
    return picture


# Tiles of both, and what tells them apart.


def _compressed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        return picture
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [1, int(rng.integers(40, 98))])[1], 1))


def world_tiles(count: int, seed: int = 0) -> np.ndarray:
    """Tiles [count, TILE, TILE, 3] of training clips, of several sizes, now and then of frames that are cut."""
    drawn, rng = random.Random(f"familiar {seed}"), np.random.default_rng(seed)
    tiles: list[np.ndarray] = []
    while len(tiles) < count:
        clip, times = training_clip(drawn, drawn.choice([2, 4, 8, 12]))
        size = drawn.choice([32, 48, 64, 64, 96, 128, 192, 256, 320])
        states = frame_states(clip, drawn.sample(times, 2))
        for frame in render(states, size, seed=len(tiles)).permute(0, 2, 3, 1).numpy():
            longest = drawn.choice([128, 192]) if drawn.random() < 0.2 else TILE
            tiles += list(cut_tiles(_compressed(rng, np.ascontiguousarray(frame)), longest, TILE))
    return np.stack(tiles[:count])


def foreign_tiles(count: int, seed: int = 0) -> np.ndarray:
    """Tiles [count, TILE, TILE, 3] of pictures that are none of the world."""
    def drawn() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            yield from cut_tiles(np.ascontiguousarray(_compressed(rng, foreign_picture(rng))), TILE, TILE)

    return np.stack(list(drawn()))


def learn(features: Tensor, foreign: Tensor, steps: int = STEPS) -> tuple[Tensor, float]:
    """Features [n, f], and for each 1 where it is foreign, else 0 -> weights [f] and bias of its logit."""
    mean, std = features.mean(0), features.std(0)
    layer = torch.nn.Linear(features.shape[1], 1)
    optimizer = torch.optim.AdamW(layer.parameters(), RATE, weight_decay=DECAY)
    for _ in range(steps):
        some = torch.randint(len(features), (BATCH,))
        loss = F.binary_cross_entropy_with_logits(layer((features[some] - mean) / std)[:, 0], foreign[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weight = layer.weight[0].detach() / std
    return weight, float(layer.bias.detach()) - float(weight @ mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS / "world.safetensors")
    parser.add_argument("--tiles", type=int, default=12_000, help="of either kind")
    options = parser.parse_args()
    torch.manual_seed(0)
    base = Base(BASE, torch.device("cpu"), torch.float32)
    batches = lambda tiles: (tiles[i : i + 256] for i in range(0, len(tiles), 256))
    features = [base.see(batches(make(options.tiles))).unflatten(0, (-1, base.image_seq_len)).flatten(1).clone()
                for make in (world_tiles, foreign_tiles)]
    marks = torch.cat([torch.full((len(one),), float(kind)) for kind, one in enumerate(features)])
    weight, bias = learn(torch.cat(features), marks)
    weight = weight.unflatten(0, (base.image_seq_len, -1))
    save_file({"weight": weight.contiguous(), "bias": torch.tensor([bias - THRESHOLD])}, options.out)


if __name__ == "__main__":
    main()
