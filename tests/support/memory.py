"""What watching a video holds in memory, from shapes alone: tensors without values, and the bytes that live of them."""

from __future__ import annotations

import weakref
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from v2l.config import HypernetConfig
from v2l.model import text
from v2l.model.attention import attend
from v2l.model.base import Base
from v2l.model.config import TextConfig, VisionConfig
from v2l.model.hypernetwork import Hypernetwork, Perceiver, perceiver_dtype
from v2l.model.text import TextStack
from v2l.model.vision import Vision


class Held(TorchDispatchMode):
    """The most bytes that tensors made in here held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, Tensor):
                self.add(made.untyped_storage())
        return out

    def add(self, storage: Any) -> None:
        if (key := id(storage)) not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, key)

    def drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


SIZES = {
    "500m": (TextConfig(960, 2560, 32, 15, 5, 64, 49280, 1e-5, 1e5, 8192, False),
             VisionConfig(768, 3072, 12, 12, 512, 16, 1e-6, 4)),
    "2.2b": (TextConfig(2048, 8192, 24, 32, 32, 64, 49280, 1e-5, 273768.0, 16384, False),
             VisionConfig(1152, 4304, 27, 16, 384, 14, 1e-6, 3)),
}


def gigabytes_of_watching(model: str, tokens: int, dtype: torch.dtype) -> float:
    """Peak of features and hypernetwork on a GPU for which torch has no kernel that would hold fewer scores. Each block
    of attention is as large as that of the last chunk."""
    config, eyes = SIZES[model]
    device = torch.device("meta")
    with device:
        body, vision = TextStack(config, config.num_layers - 1).to(dtype), Vision(eyes, config.hidden_size).to(dtype)
        sizes = HypernetConfig(config.num_layers, config.hidden_size, config.intermediate_size, config.hidden_size)
        hypernetwork = Hypernetwork(sizes)
        hypernetwork.aggregator["perceiver"] = Perceiver(sizes).to(perceiver_dtype(dtype))
    weights = sum(p.nbytes for module in (body, vision, hypernetwork) for p in module.parameters())
    base = Base.__new__(Base)
    base.__dict__.update(device=device, dtype=dtype, text_config=config, body=body)
    with torch.no_grad(), Held() as scores:
        q, k = (torch.empty(1, heads, length, config.head_dim, device=device, dtype=dtype)
                for heads, length in ((config.num_heads, 100), (config.num_kv_heads, tokens)))
        before = scores.now
        attend(q, k, k, causal=True)
    with pytest.MonkeyPatch.context() as patch, Held() as rest:
        patch.setattr(text, "attend", lambda q, k, v, mask, causal: torch.empty_like(q))
        context = torch.empty(1, tokens, config.hidden_size, device=device, dtype=dtype)
        with torch.no_grad():
            for layer, features in enumerate(islice(base.features(context), 3)):
                hypernetwork(features, torch.tensor([layer], device=device))
    return (weights + rest.peak + scores.peak - before) / 1e9
