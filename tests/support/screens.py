"""Videos as screen recorders and lecture halls make them, written by a real encoder; and how tiles are looked at one by
one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from v2l.model.base import TILES_AT_ONCE, Base
from v2l.model.prompt import normalize

SIZE = (640, 360)
"""Width and height of the pictures, pixels."""
SLIDE_S, LINE_S = 45, 9
"""Seconds that a slide stays, and from one line that is typed to the next."""


def screen(second: float) -> np.ndarray:
    """An editor in which a line is typed in 4 of every 9 seconds, and nothing moves in the others."""
    image = Image.new("RGB", SIZE, (30, 32, 40))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 20), fill=(70, 74, 90))
    lines, letters = int(second // LINE_S), int(min(second % LINE_S, 4) * 10)
    for row in range(24):
        number = lines - 23 + row if lines > 23 else row
        if number > lines:
            break
        text = f"{number + 1:4d}  value_{number % 7} = table[{number * 37 % 101}] + {number * 11 % 53}  # {number**2}"
        draw.text((8, 26 + 14 * row), text[:letters] if number == lines else text, fill=(200, 210, 190))
    return np.asarray(image)


def slides(second: float) -> np.ndarray:
    """A slide of a title and five lines, and the next after 45 s."""
    number = int(second // SLIDE_S)
    image = Image.new("RGB", SIZE, (250, 250, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 50), fill=(20 + 40 * (number % 5), 60, 120))
    draw.text((20, 18), f"{number + 1}. The part about {number * 7919 % 997}", fill=(255, 255, 255))
    for row in range(5):
        text = f"- point {row + 1}: {number * 31 + row * 17} of {number + 2}"
        draw.text((40, 80 + 44 * row), text, fill=(20, 20, 20))
    return np.asarray(image)


def lecture(second: float) -> np.ndarray:
    """Slides, with someone who moves in a corner."""
    image = Image.fromarray(slides(second))
    draw = ImageDraw.Draw(image)
    at = 40 * np.sin(second) + 60
    draw.rectangle((480, 240, 639, 359), fill=(90, 80, 70))
    draw.ellipse((480 + at - 25, 265, 480 + at + 25, 330), fill=(220, 180, 150))
    return np.asarray(image)


def grain(second: float) -> np.ndarray:
    """Slides through a camera, with noise of its own in every picture."""
    noise = np.random.default_rng(int(second * 1000)).normal(0, 8, (SIZE[1], SIZE[0], 1))
    return (slides(second) + noise).clip(0, 255).astype(np.uint8)


def film(path: Path, picture: Callable[[float], np.ndarray], seconds: float, rate: int = 4) -> Path:
    """Writes `picture` of every moment as H.264, as x264 does unless told otherwise."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(round(seconds * rate)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i / rate), format="rgb24")))
        container.mux(stream.encode())
    return path


@torch.inference_mode()
def one_by_one(base: Base, tiles: Iterable[np.ndarray]) -> Tensor:
    """What `base.see` gives, of groups as they come, whether their tiles are equal or not."""
    pixels = torch.from_numpy(normalize(np.concatenate(list(tiles)))).split(TILES_AT_ONCE)
    return torch.cat([base.vision(group.to(base.device, base.dtype)).flatten(0, 1) for group in pixels])
