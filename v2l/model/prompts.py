"""How many tokens a prompt has that shows a video, without making all of them."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.config import INTERNALIZE
from v2l.model.base import Base
from v2l.model.prompt import context_prompt


def prompt_tokens(base: Base, timestamps: Sequence[float], grid: tuple[int, int], duration: float,
                  text: str = INTERNALIZE, generate: bool = False) -> int:
    """Tokens of `prompt.context_prompt` for frames that are all cut into this grid of tiles."""
    rows, columns = grid
    tiles = len(timestamps) * (rows * columns + (rows * columns > 1))
    # <image> is one token wherever it stands, so one for each tile is enough to count with, and ten times faster.
    counted = context_prompt(timestamps, [grid] * len(timestamps), duration, 1, text, generate)
    return len(base.encode(counted)) + tiles * (base.image_seq_len - 1)
