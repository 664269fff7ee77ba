"""Frames -> tiles and text, exactly as the released processor makes them (v2l/README.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import ceil

import numpy as np
from PIL import Image

from v2l.config import INTERNALIZE

END = "<end_of_utterance>"
"""The token that ends a message."""
MAX_EDGE = 4096
"""No edge of a resized frame is longer, in pixels."""


def resized_size(width: int, height: int, longest_edge: int) -> tuple[int, int]:
    """(width, height) with the longest edge scaled to `longest_edge` and the other even; above MAX_EDGE both shrink."""
    if width >= height:
        w, h = longest_edge, int(longest_edge / (width / height))
        h += h % 2
    else:
        h, w = longest_edge, int(longest_edge * (width / height))
        w += w % 2
    if max(w, h) > MAX_EDGE:
        w, h = (MAX_EDGE, int(MAX_EDGE / (w / h))) if w >= h else (int(MAX_EDGE * (w / h)), MAX_EDGE)
    return max(1, w), max(1, h)


def tiled_size(width: int, height: int, tile: int) -> tuple[int, int]:
    """(width, height) stretched to whole tiles, close to the aspect ratio."""
    aspect = width / height
    if width >= height:
        w = ceil(width / tile) * tile
        return w, ceil(int(w / aspect) / tile) * tile
    h = ceil(height / tile) * tile
    return ceil(int(h * aspect) / tile) * tile, h


def tile_grid(width: int, height: int, longest_edge: int, tile: int) -> tuple[int, int]:
    """(rows, columns) of tiles a frame of this size is cut into; (1, 1) is one whole-frame tile."""
    w, h = tiled_size(*resized_size(width, height, longest_edge), tile)
    return h // tile, w // tile


def tile_count(grid: tuple[int, int]) -> int:
    """Tiles of a frame with this grid: the whole frame is one more where it is cut."""
    rows, columns = grid
    return rows * columns + (rows * columns > 1)


def cut_tiles(frame: np.ndarray, longest_edge: int, tile: int) -> np.ndarray:
    """RGB frame [h, w, 3] uint8 -> tiles [n, tile, tile, 3] uint8, row by row, the whole frame last if it was cut."""
    image = Image.fromarray(frame)
    image = image.resize(resized_size(*image.size, longest_edge), Image.Resampling.LANCZOS)
    image = image.resize(tiled_size(*image.size, tile), Image.Resampling.LANCZOS)
    columns, rows = image.width // tile, image.height // tile
    whole = np.asarray(image)
    tiles = whole.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    if len(tiles) == 1:
        return tiles
    small = np.asarray(image.resize((tile, tile), Image.Resampling.LANCZOS))
    return np.concatenate([tiles, small[None]])


def normalize(tiles: np.ndarray) -> np.ndarray:
    """Tiles [n, tile, tile, 3] uint8 -> pixel values [n, 3, tile, tile] float32 in -1..1."""
    values = tiles.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    return (values / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


# fmt: off
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
# fmt: on
_TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(n: int) -> str:
    """0 <= n < 1,000,000 in British English words: 1024 is "one thousand and twenty-four"."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{_ONES[n // 100]} hundred" + (f" and {in_words(n % 100)}" if n % 100 else "")
    rest = n % 1000
    joint = " and " if 0 < rest < 100 else ", " if rest else ""
    return f"{in_words(n // 1000)} thousand{joint}" + (in_words(rest) if rest else "")


def _tiles_text(rows: int, columns: int, image_seq_len: int) -> str:
    fake, image = "<fake_token_around_image>", "<image>" * image_seq_len
    whole = f"{fake}<global-img>{image}{fake}"
    if rows == columns == 1:
        return whole
    cut = "".join(
        "".join(f"{fake}<row_{r}_col_{c}>{image}" for c in range(1, columns + 1)) + "\n" for r in range(1, rows + 1)
    )
    return f"{cut}\n{whole}"


def _user(message: str, generate: bool) -> str:
    return f"<|im_start|>User: {message}{END}\n" + ("Assistant:" if generate else "")


def context_prompt(
    timestamps: Sequence[float],
    grids: Sequence[tuple[int, int]],
    duration: float,
    image_seq_len: int,
    text: str = INTERNALIZE,
    generate: bool = False,
) -> str:
    """The prompt that shows frames: `timestamps` and `duration` in seconds, `grids` the (rows, columns) of their tiles.

    With the defaults it is what a video is internalized with; with a question and `generate` it is the baseline that
    answers with the video in the prompt.
    """
    message = (
        f"You are provided the following series of {in_words(len(timestamps))} frames "
        f"from a {timedelta(seconds=int(duration))} [H:MM:SS] video.\n"
    )
    for time, (rows, columns) in zip(timestamps, grids, strict=True):
        minutes, seconds = divmod(int(time), 60)
        message += f"\nFrame from {minutes:02d}:{seconds:02d}:{_tiles_text(rows, columns, image_seq_len)}"
    return _user(f"{message}\n\n{text}", generate)


def question_prompt(question: str) -> str:
    """The prompt of a question to an adapter: no tiles, no frames (v2l/README.md section 7)."""
    return _user(question, generate=True)
