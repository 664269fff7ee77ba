"""Clips -> adapters, batched over clips and layers, with gradients into the hypernetwork: `Engine.internalize` and the
joining of segments, as training needs them.

Shapes: n segments of which some make one clip, t tokens, L layers, h hidden size of the base, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from v2l.model.hypernetwork import Hypernetwork
from v2l.model.text import LayerAdapter
from v2l.train.network import Network


@torch.no_grad()
def context_features(
    network: Network, ids: Sequence[Sequence[int]], image_tokens: Tensor, positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Prompts of n segments and the image tokens [.., h] of all, in order -> what enters each decoder layer, features
    [L, n, t, h], and mask [n, t], True where a token counts. `positions` [n, t] count from 0 if not given."""
    device = image_tokens.device
    tokens = padded(ids).to(device)
    lengths = torch.tensor([len(line) for line in ids], device=device)
    real = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
    keep: list[Tensor] = []
    # The last layer only matters for what enters it. Padding comes last, so no token sees it.
    layers = network.text.config.num_layers - 1
    last = network.text.hidden(network.embed(tokens, image_tokens), positions, keep=keep, layers=layers)
    return torch.stack([*keep, last]), real


def joined_adapters(
    hyper: Hypernetwork, features: Tensor, mask: Tensor, parts: Sequence[int], keep: list[Tensor] | None = None,
    dtype: torch.dtype = torch.float32, checkpointing: bool = False,
) -> list[LayerAdapter]:
    """The adapters of clips, each of so many consecutive segments as `parts` says, joined in rank space with the bias
    once (v2l/README.md section 6).

    features [L, n, t, h], mask [n, t] -> for each layer A [clips, R, d_in] and B [clips, R, d_out] in `dtype`,
    R = (most parts + 1) r; a clip of fewer has zeros there, which add nothing. Where the features are bfloat16, the
    perceiver computes in it and the rest in float32 (v2l/README.md section 5). `keep` receives the latents [L, n, r,
    latent]. `checkpointing` reads the features layer by layer, and again in the backward pass instead of keeping what
    is between: 1 of 28 GB for 8 clips of 12 frames to 500M in float32.
    """
    layers, n = features.shape[:2]
    config, target = hyper.config, hyper.config.target_module
    half = features.dtype == torch.bfloat16
    with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
        if checkpointing:
            read = [checkpoint(hyper.perceive, layer, mask, use_reentrant=False) for layer in features]
            latents = torch.cat(read).float()
        else:
            latents = hyper.perceive(features.flatten(0, 1), mask.repeat(layers, 1)).float()
    if keep is not None:
        keep.append(latents.unflatten(0, (layers, n)))
    y = hyper.layers[0](latents)
    y = (y / y.norm(dim=-1, keepdim=True)).view(layers, n * config.rank, -1)
    # `Hypernetwork.generate`, where each layer's head meets all its rows at once.
    A, B = (y @ hyper.head.weight).view(layers, n, config.rank, -1).split([config.d_in, config.d_out], -1)
    A = _joined(A * hyper.scaler_A[target][0, :, None], hyper.bias_A[target], parts)
    B = _joined(B * hyper.scaler_B[target][0, :, None], hyper.bias_B[target], parts)
    return [LayerAdapter(a, b, config.adapter_scale) for a, b in zip(A.to(dtype), B.to(dtype), strict=True)]


def _joined(rows: Tensor, bias: Tensor, parts: Sequence[int]) -> Tensor:
    """rows [L, n, r, d] of segments, bias [L, r, d] -> [L, clips, (most parts + 1) r, d]."""
    most = max(parts)
    clips = [F.pad(clip.flatten(1, 2), (0, 0, 0, (most - clip.shape[1]) * rows.shape[2]))
             for clip in rows.split(list(parts), dim=1)]
    return torch.cat([torch.stack(clips, 1), bias[:, None].expand(-1, len(clips), -1, -1)], 2)


def padded(lines: Sequence[Sequence[int]], value: int = 0) -> Tensor:
    """Lines of ids, filled up on the right: [n, longest]."""
    return pad_sequence([torch.tensor(line) for line in lines], batch_first=True, padding_value=value)
