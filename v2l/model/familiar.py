"""Whether a video shows what a small model was made for, told from its image tokens: a linear test, kept beside it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from v2l.model.weights import opened


class Familiar:
    """The test that `v2l.tiny.familiar` learned.

    `weight` [image_seq_len, h] and `bias` give a tile a number, the larger the more foreign what it shows.
    """

    def __init__(self, file: Path) -> None:
        with opened(file) as stored:
            self.weight: Tensor = stored.get_tensor("weight")
            self.bias = float(stored.get_tensor("bias"))

    @torch.inference_mode()
    def score(self, image_tokens: Tensor) -> float:
        """The mean over all tiles of a video, [tiles * image_seq_len, h]: no single frame decides."""
        mean = image_tokens.unflatten(0, (-1, len(self.weight))).float().mean(0).cpu()
        return float((mean * self.weight).sum()) + self.bias

    def is_foreign(self, image_tokens: Tensor) -> bool:
        """Whether the score is above 0, and more so where few tiles speak: one alone is right less often."""
        return self.score(image_tokens) > 2 * len(self.weight) / len(image_tokens)
