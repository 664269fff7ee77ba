"""Clips -> adapters, batched over clips and layers, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from v2l.hypernetwork import Hypernetwork
from v2l.tiny.data import Encoder, Sampled, drawn, mask_of, pad
from v2l.tiny.model import embed, see, think

Frames = Callable[[Sequence[Sampled], int, torch.dtype, str], Tensor]
"""Where pixels come from: `drawn`, or decoded video files."""


@torch.no_grad()
def context_features(
    base: nn.Module, encoder: Encoder, segments: Sequence[Sampled], seed: int, frames: Frames = drawn,
) -> tuple[Tensor, Tensor]:
    """What enters each decoder layer for n segments: features [layers, n, tokens, width], mask [n, tokens]."""
    weight = base.lm_head.weight
    ids = encoder.videos([times for _, times in segments], [clip.duration for clip, _ in segments], whole=True)
    lengths = torch.tensor([len(line) for line in ids], device=weight.device)
    tokens = torch.from_numpy(pad(ids)).to(weight.device)
    real = torch.arange(tokens.shape[1], device=weight.device) < lengths[:, None]
    pixels = frames(segments, seed, weight.dtype, str(weight.device))
    x = embed(base, tokens, see(base, pixels)[1].flatten(0, 1))
    positions = torch.arange(tokens.shape[1], device=weight.device).expand_as(tokens)
    causal = mask_of(torch.zeros(tokens.shape, dtype=torch.long).numpy(), weight.dtype, weight.device)
    keep: list[Tensor] = []
    # The last layer only matters for what enters it.
    keep.append(think(base, x, positions, causal, keep=keep, layers=len(base.model.text_model.layers) - 1))
    return torch.stack(keep), real


def adapters(
    hyper: Hypernetwork, features: Tensor, mask: Tensor, parts: int, keep: list[Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Adapters of n/parts clips, each of `parts` consecutive segments joined in rank space with the bias once.

    features [layers, n, tokens, width], mask [n, tokens] -> for each layer A [n/parts, (parts+1) r, d_in] and
    scale * B [n/parts, (parts+1) r, d_out], in the dtype of `features`. `Hypernetwork.generate`, all layers at once.
    `keep` receives the latents [layers, n, r, latent].
    """
    layers, n = features.shape[:2]
    config, target = hyper.config, hyper.config.target_module
    with torch.autocast(features.device.type, torch.bfloat16, enabled=features.dtype == torch.bfloat16):
        latents = hyper.perceive(features.flatten(0, 1), mask.repeat(layers, 1))
    if keep is not None:
        keep.append(latents.float().unflatten(0, (layers, n)))
    y = hyper.layers[0](latents.float())
    y = (y / y.norm(dim=-1, keepdim=True)).view(layers, n * config.rank, -1)
    A, B = (y @ hyper.head.weight).view(layers, n, config.rank, -1).split([config.d_in, config.d_out], -1)
    A, B = A * hyper.scaler_A[target][0, :, None], B * hyper.scaler_B[target][0, :, None]
    clips = n // parts
    join = lambda x, bias: torch.cat(
        [x.reshape(layers, clips, parts * config.rank, -1), bias[:, None].expand(-1, clips, -1, -1)], 2)
    A = join(A, hyper.bias_A[target]).to(features.dtype)
    B = (join(B, hyper.bias_B[target]) * config.adapter_scale).to(features.dtype)
    return list(zip(A, B, strict=True))


def split(sampled: Sampled, cuts: Sequence[int]) -> list[Sampled]:
    """One clip's samples as consecutive segments; each keeps absolute times and the whole clip's duration."""
    clip, times = sampled
    edges = [0, *cuts, len(times)]
    return [(clip, times[a:b]) for a, b in pairwise(edges)]
