"""Draws the world: signed distances to each shape, turned into antialiased coverage, many frames at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from v2l.tiny.world import SHAPES


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


DISTANCES = dict(circle=_circle, square=_square, triangle=_triangle, star=_star, cross=_cross, ring=_ring)


def render(states: np.ndarray, size: int = 64, seed: int = 0, device: str = "cpu") -> torch.Tensor:
    """Frames as uint8 [n, 3, size, size] from `frame_states` rows [n, STATE_SIZE]; `seed` draws the noise."""
    rows = torch.from_numpy(states).to(device)
    grid = (torch.arange(size, device=device) + 0.5) / size
    cover = torch.empty(len(rows), size, size, device=device)
    x = ((grid[None] - rows[:, 7:8]) / rows[:, 9:10])[:, None, :]
    y = ((grid[None] - rows[:, 8:9]) / rows[:, 9:10])[:, :, None]
    edge = rows[:, 9] * size / (rows[:, 10] * size / 64)  # distance 1 is one radius; an edge is `softness` pixels wide
    for index, shape in enumerate(SHAPES):
        chosen = (rows[:, 0] == index).nonzero()[:, 0]
        if len(chosen):
            distance = DISTANCES[shape](*torch.broadcast_tensors(x[chosen], y[chosen]))
            cover[chosen] = (0.5 - distance * edge[chosen, None, None]).clamp_(0, 1)
    back, front = rows[:, 4:7, None, None], rows[:, 1:4, None, None]
    image = back + (front - back) * cover[:, None]
    # One noise field, shifted for each frame: drawing fresh noise would cost more than everything above.
    generator = torch.Generator().manual_seed(seed)
    field = (torch.rand(3, 2 * size, 2 * size, generator=generator) * 2 - 1).to(device)
    shifts = torch.randint(0, size, (len(rows), 2), generator=generator).tolist()
    noise = torch.stack([field[:, a : a + size, b : b + size] for a, b in shifts])
    image.addcmul_(noise, rows[:, 11, None, None, None])
    return image.clamp_(0, 255).round_().to(torch.uint8)
