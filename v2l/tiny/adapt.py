"""Clips of the world -> adapters, batched over clips, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from v2l.model.hypernetwork import Hypernetwork
from v2l.model.text import LayerAdapter
from v2l.tiny.data import Encoder, Sampled, drawn
from v2l.train import joined as adapt
from v2l.train.network import Network

Frames = Callable[[Sequence[Sampled], int, torch.dtype, str, int], Tensor]
"""Where pixels come from: `drawn`, or decoded video files."""
Places = Callable[[Sequence[list[int]]], Sequence[list[int]]]
"""Prompts -> other positions for their tokens than 0, 1, 2 and so on."""


def adapters(
    network: Network, hyper: Hypernetwork, encoder: Encoder, segments: Sequence[Sampled], parts: int, seed: int,
    frames: Frames = drawn, grid: int = 1, places: Places | None = None, keep: list[Tensor] | None = None,
) -> list[LayerAdapter]:
    """Adapters of clips, each of `parts` consecutive segments joined with the bias once: for each layer
    A [clips, (parts+1) r, d_in] and B [clips, (parts+1) r, d_out], in the base's dtype.

    A frame is `grid` by `grid` tiles. `keep` receives the latents [layers, segments, r, latent].
    """
    dtype, device = network.text.dtype, network.text.device
    ids = encoder.videos([times for _, times in segments], [clip.duration for clip, _ in segments], True, grid)
    positions = adapt.padded(places(ids)).to(device) if places else None
    with torch.no_grad():
        pixels = frames(segments, seed, dtype, str(device), grid)
        seen = torch.cat([network.vision(some) for some in pixels.split(512)])
    features, mask = adapt.context_features(network, ids, seen.flatten(0, 1), positions)
    return adapt.adapters(hyper, features, mask, [parts] * (len(segments) // parts), keep, dtype)
