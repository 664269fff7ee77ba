"""A differentiable forward pass of transformers' SmolVLM: its own parameters, run with an adapter for each row.

Training needs what neither transformers' forward nor the product's gives: a batch with another adapter in every row,
what enters each layer of a batch, packed sequences under a mask. The mathematics is that of `v2l.model.text` and
`v2l.model.vision`; tests hold both and transformers against each other. `model` is a
`SmolVLMForConditionalGeneration` of any size, or a copy of one.

Shapes: b rows, s tokens, h hidden size, n tiles, p patches of a tile, e width of the vision tower, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from v2l.model.attention import attend
from v2l.model.folder import plain_loading
from v2l.model.vision import patch_places

LayerPair = tuple[Tensor, Tensor]
"""The adapters of one layer: A [b, R, d_in] and scale * B [b, R, d_out]. The product is computed in their dtype."""


def load_frozen(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The base of a folder, which no optimizer may change."""
    from transformers import SmolVLMForConditionalGeneration
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model: Any = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=dtype, **plain_loading(folder))
    finally:
        if shown:
            logging.enable_progress_bar()
    return model.to(device).requires_grad_(False).eval()


def see(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles [n, 3, tile, tile] in -1..1 -> patches [n, p, e], image tokens [n, p / scale_factor^2, h]."""
    vision, config = model.model.vision_model, model.config.vision_config
    size, patch = config.hidden_size // config.num_attention_heads, config.patch_size
    embeddings = vision.embeddings
    weight, bias = embeddings.patch_embedding.weight, embeddings.patch_embedding.bias
    n, side = len(pixels), pixels.shape[-1] // patch
    # The patch convolution as one matrix product.
    x = pixels.unflatten(3, (side, patch)).unflatten(2, (side, patch)).permute(0, 2, 4, 1, 3, 5)
    places = patch_places(side, config.image_size // patch).to(pixels.device)
    x = F.linear(x.reshape(n, side * side, -1), weight.flatten(1), bias) + embeddings.position_embedding(places)
    for layer in vision.encoder.layers:
        y, attn = layer.layer_norm1(x), layer.self_attn
        q, k, v = (_heads(proj(y), size) for proj in (attn.q_proj, attn.k_proj, attn.v_proj))
        x = x + attn.out_proj(_attend(q, k, v))
        x = x + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(x)), approximate="tanh"))
    patches: Tensor = vision.post_layernorm(x)
    return patches, model.model.connector(patches)


def embed(model: Any, ids: Tensor, image_tokens: Tensor | None = None) -> Tensor:
    """Token ids [b, s] -> embeddings [b, s, h], with the image tokens [.., h] in the places of `<image>`, in order."""
    x = F.embedding(ids, model.model.text_model.embed_tokens.weight)
    if image_tokens is not None:
        x = x.masked_scatter((ids == model.config.image_token_id)[..., None], image_tokens.to(x.dtype))
    return x


def think(
    model: Any,
    x: Tensor,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
    adapters: Sequence[LayerPair] | None = None,
    keep: list[Tensor] | None = None,
    layers: int | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """The decoder over embeddings [b, s, h] -> hidden states [b, s, h] before the final norm.

    `positions` [b, s] count from 0 if not given; `mask` [b or 1, 1, s, s] is additive, and causal if not given.
    `adapters` holds a pair for each layer; `keep` collects what enters each layer; `layers` stops early;
    `checkpointing` computes each layer again in the backward pass instead of keeping what is inside it.
    """
    if positions is None:
        positions = torch.arange(x.shape[1], device=x.device)[None]
    if mask is None and x.device.type == "cpu" and torch.is_grad_enabled():
        mask = causal(x.shape[1], x.dtype, x.device)
    config = model.config.text_config
    turns = rope(config, positions, x.dtype)
    for index, layer in enumerate(model.model.text_model.layers[:layers]):
        if keep is not None:
            keep.append(x)
        pair = adapters[index] if adapters is not None else None
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(_layer, layer, config, x, turns, mask, pair, use_reentrant=False)
        else:
            x = _layer(layer, config, x, turns, mask, pair)
    return x


def logits(model: Any, hidden: Tensor) -> Tensor:
    """Hidden states [.., h] from `think` -> [.., vocabulary]."""
    text = model.model.text_model
    found: Tensor = model.lm_head(norm(hidden, text.norm.weight, model.config.text_config.rms_norm_eps))
    return found


def causal(tokens: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The additive mask [1, 1, s, s] under which a token sees itself and those before it."""
    return torch.full((1, 1, tokens, tokens), -1e9, dtype=dtype, device=device).triu(1)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """x [b, heads, s, d], turned to its positions by `rope`."""
    cos, sin = turns
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def rope(config: Any, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [b, 1, s, d] for positions [b, s]; `config` is the text model's."""
    places = torch.arange(0, config.head_dim, 2, device=positions.device).float()
    frequencies = config.rope_parameters["rope_theta"] ** (-places / config.head_dim)
    angles = (positions[:, None, :, None].float() * frequencies).repeat(1, 1, 1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _layer(
    layer: Any, config: Any, x: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor | None, pair: LayerPair | None
) -> Tensor:
    y, attn = norm(x, layer.input_layernorm.weight, config.rms_norm_eps), layer.self_attn
    q, k, v = (_heads(proj(y), config.head_dim) for proj in (attn.q_proj, attn.k_proj, attn.v_proj))
    x = x + attn.o_proj(_attend(rotate(q, turns), rotate(k, turns), v, mask, causal=True))
    y = norm(x, layer.post_attention_layernorm.weight, config.rms_norm_eps)
    inner = F.silu(layer.mlp.gate_proj(y)) * layer.mlp.up_proj(y)
    out: Tensor = layer.mlp.down_proj(inner)
    if pair is not None:
        A, B = pair
        out = (out.to(A.dtype) + (inner.to(A.dtype) @ A.mT) @ B).to(x.dtype)  # METHOD section 6
    return x + out


def _heads(x: Tensor, size: int) -> Tensor:
    return x.unflatten(-1, (-1, size)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """q [b, heads, s, d], k and v [b, key heads, s, d] -> [b, s, heads * d]. Without a mask all see all, unless
    `causal`."""
    group = q.shape[1] // k.shape[1]
    if mask is None and not torch.is_grad_enabled():  # contexts of any length
        return attend(q, k, v, causal=causal).transpose(1, 2).flatten(2)
    if q.device.type != "cpu":
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None,
                                           enable_gqa=group > 1)
        return y.transpose(1, 2).flatten(2)
    # Plain products train faster than the fused kernel on a CPU. Query heads that share keys are stacked along s.
    b, _, s, d = q.shape
    scores = (q * d**-0.5).reshape(b, -1, group * s, d) @ k.mT
    if mask is not None:
        scores = scores.unflatten(2, (group, s)).add(mask[:, :, None]).flatten(2, 3)
    pooled = (scores.softmax(-1) @ v).reshape(b, -1, s, d)
    return pooled.transpose(1, 2).flatten(2)
