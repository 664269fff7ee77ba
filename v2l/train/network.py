"""The base's vision tower and text stack, the product's own, as training runs them: batched, and not packed."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from v2l.model.base import Base
from v2l.model.text import TextStack
from v2l.model.vision import Vision


@dataclass(frozen=True)
class Network:
    vision: Vision
    text: TextStack
    image_id: int
    """Token in whose places image tokens go."""

    @classmethod
    def of(cls, base: Base) -> Network:
        """The network of a base, which must not be packed where gradients are to pass through it."""
        return cls(base.vision, base.text, base.token("<image>"))

    def embed(self, ids: Tensor, image_tokens: Tensor | None = None) -> Tensor:
        """Token ids [b, t] -> embeddings [b, t, h], with the image tokens [.., h] in the places of `<image>`, in
        order."""
        x = F.embedding(ids, self.text.embed_tokens.weight)
        if image_tokens is not None:
            x = x.masked_scatter((ids == self.image_id)[..., None], image_tokens.to(x.dtype))
        return x
