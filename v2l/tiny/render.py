"""Draws the world: signed distances to each shape, turned into antialiased coverage, many frames at once."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from v2l.tiny.world import GROUND, SHAPES, THING, WORDS


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.86


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(y - 0.75, (x.abs() * 1.75 - (y + 1) * 0.95) / 1.991)


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Five points: fold the plane into one tenth of the star, then one edge decides.
    angle = torch.atan2(x, -y) / (2 * np.pi / 5)
    angle = (angle - angle.round()).abs() * (2 * np.pi / 5)
    radius = torch.sqrt(x * x + y * y)
    px, py = radius * torch.sin(angle), radius * torch.cos(angle)
    inner, tip = 0.5, 1.15
    ax, ay = inner * np.sin(np.pi / 5), inner * np.cos(np.pi / 5)
    nx, ny = tip - ay, ax
    return ((px - ax) * nx + (py - ay) * ny) / float(np.hypot(nx, ny))


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 0.33, y - 1), torch.maximum(x - 1, y - 0.33))


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.sqrt(x * x + y * y) - 0.74).abs() - 0.26


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # Two lobes and the wedge under them.
    x = x.abs()
    lobe = torch.sqrt((x - 0.46) ** 2 + (y + 0.38) ** 2) - 0.52
    wedge = torch.maximum(0.75 * x + 0.66 * (y - 0.95), -0.1 - y)
    return torch.minimum(lobe, wedge)


def _moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_circle(x, y), 0.82 - torch.sqrt((x - 0.52) ** 2 + y * y))


DISTANCES = dict(circle=_circle, square=_square, triangle=_triangle, star=_star, cross=_cross, ring=_ring,
                 heart=_heart, moon=_moon)


@lru_cache(maxsize=1)
def _words() -> Tensor:
    """Coverage of each word, float32 [words, 1, 128, 128], as wide as the square."""
    pages = []
    for word in WORDS:
        page = np.zeros((128, 128), np.uint8)
        (wide, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)
        scale = 120 / wide
        (wide, high), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, 4)
        corner = ((128 - wide) // 2, 64 + high // 2)
        cv2.putText(page, word, corner, cv2.FONT_HERSHEY_DUPLEX, scale, 255, 5, cv2.LINE_AA)
        pages.append(page)
    return torch.from_numpy(np.stack(pages))[:, None].float() / 255


def _cover(thing: Tensor, softness: Tensor, size: int) -> Tensor:
    """Coverage of each pixel by a thing: rows [n, THING] -> [n, size, size]."""
    grid = (torch.arange(size, device=thing.device) + 0.5) / size
    cover = torch.zeros(len(thing), size, size, device=thing.device)
    x = ((grid[None] - thing[:, 4:5]) / thing[:, 6:7])[:, None, :]
    y = ((grid[None] - thing[:, 5:6]) / thing[:, 6:7])[:, :, None]
    edge = thing[:, 6] * size / (softness * size / 64)  # distance 1 is one radius; an edge is `softness` pixels wide
    for index, shape in enumerate(SHAPES):
        chosen = (thing[:, 0] == index).nonzero()[:, 0]
        if len(chosen):
            distance = DISTANCES[shape](*torch.broadcast_tensors(x[chosen], y[chosen]))
            cover[chosen] = (0.5 - distance * edge[chosen, None, None]).clamp_(0, 1)
    chosen = (thing[:, 0] >= len(SHAPES)).nonzero()[:, 0]
    if len(chosen):
        pages = _words().to(thing.device)[thing[chosen, 0].long() - len(SHAPES)]
        places = torch.stack(torch.broadcast_tensors(x[chosen], y[chosen]), -1)
        cover[chosen] = F.grid_sample(pages, places, align_corners=False)[:, 0]
    return cover


def _ground(rows: Tensor, size: int) -> Tensor:
    """Backgrounds with their patterns: [n, 3, size, size]."""
    grid = (torch.arange(size, device=rows.device) + 0.5) / size
    wave = torch.sin(grid[None] * rows[:, 5:6] * (2 * np.pi)).mul(4).clamp(-1, 1)
    slope, none = (2 * grid - 1).expand(len(rows), -1), torch.zeros_like(wave)
    kind, one = rows[:, 3:4], torch.ones_like(wave)
    waves = lambda way: (kind == way) | (kind == 5)
    across = torch.where(kind == 0, none, torch.where(kind == 1, slope, torch.where(waves(3), wave, one)))
    down = torch.where(kind == 2, slope, torch.where(waves(4), wave, one))
    pattern = across[:, None, :] * down[:, :, None] * rows[:, 4, None, None]
    return rows[:, :3, None, None] + pattern[:, None]


def render(states: np.ndarray, size: int = 64, seed: int = 0, device: str = "cpu") -> torch.Tensor:
    """Frames as uint8 [n, 3, size, size] from `frame_states` rows [n, STATE_SIZE]; `seed` draws the noise."""
    rows = torch.from_numpy(states).to(device)
    image = _ground(rows, size)
    for start in (GROUND, GROUND + THING):
        shown = (rows[:, start] >= 0).nonzero()[:, 0]
        if len(shown):
            thing = rows[shown, start : start + THING]
            cover = _cover(thing, rows[shown, 6], size)[:, None]
            image[shown] += (thing[:, 1:4, None, None] - image[shown]) * cover
    # One noise field, shifted for each frame: drawing fresh noise would cost more than everything above.
    generator = torch.Generator().manual_seed(seed)
    field = (torch.rand(3, 2 * size, 2 * size, generator=generator) * 2 - 1).to(device)
    shifts = torch.randint(0, size, (len(rows), 2), generator=generator).tolist()
    noise = torch.stack([field[:, a : a + size, b : b + size] for a, b in shifts])
    image.addcmul_(noise, rows[:, 7, None, None, None])
    return image.clamp_(0, 255).round_().to(torch.uint8)
