"""What watching a video and training hold in memory, from shapes alone: tensors without values, and the bytes that live
of them."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from dataclasses import replace
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
from v2l.train.config import Recipe
from v2l.train.joined import context_features, joined_adapters
from v2l.train.network import Network
from v2l.train.objective import Objective, cross_entropy, rows


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


def gigabytes_of_training(model: str, clips: int, frames: int, checkpointing: bool, layers: int | None = None) -> float:
    """Peak of a step in float32, AdamW's state included, with one turn of 60 tokens for each clip of 384 pixels; of a
    base with all its layers, or as many as `layers` says."""
    config, eyes = SIZES[model]
    config = replace(config, num_layers=layers or config.num_layers)
    device, tokens = torch.device("meta"), 45 + 77 * frames
    sizes = HypernetConfig(config.num_layers, config.hidden_size, config.intermediate_size, config.hidden_size)
    with device:
        vision, stack, hyper = Vision(eyes, config.hidden_size), TextStack(config), Hypernetwork(sizes)
    objective = Objective.__new__(Objective)
    objective.hyper, objective.recipe = hyper, Recipe(checkpointing=checkpointing)
    objective.network = Network(vision.requires_grad_(False), stack.requires_grad_(False), 1)
    weights = sum(p.nbytes for module in (vision, stack) for p in module.parameters())
    learned = sum(p.nbytes for p in hyper.parameters())
    with pytest.MonkeyPatch.context() as patch, Held() as held:
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which tensors without values have not
        features = context_features(objective.network, [[1] * tokens] * clips,
                                    torch.empty(clips * tokens, config.hidden_size, device=device))
        pairs = joined_adapters(hyper, *features, [1] * clips, checkpointing=checkpointing)
        asked = rows([[1] * 20] * clips, [[1] * 60] * clips, device)
        cross_entropy(objective.logits(asked, pairs, range(clips)), asked.labels).backward()
    return (weights + 3 * learned + held.peak) / 1e9
