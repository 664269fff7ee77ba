"""Softmax attention: torch's fused kernel, or plain products block by block where those are faster, or the fused one
would need a mask of all queries by all keys.

On CPUs with bfloat16 products but no AMX, torch's kernel computes in float32: 0.16 TFLOP/s where the blocks below reach
0.4 (2 cores, Zen 5, 12 heads of 1,024 tokens). They hold the scores in bfloat16, as transformers' eager attention does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from v2l.model.packed import cpu_has

SCORES_AT_ONCE = 1 << 21
"""Scores held at a time: what stays in the processor's cache."""
_ROWS = 64
"""Queries that are at least taken together, however long the context: fewer would not keep the products busy."""


def blocks_are_faster() -> bool:
    """Whether the blocks below beat torch's kernel in bfloat16 on this CPU."""
    return cpu_has("avx512_bf16") and not cpu_has("amx_bf16")


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q [b, n, t, d], k and v [b, n_kv, s, d] -> [b, n, t, d].

    n is a multiple of n_kv, neighbouring heads share keys. `mask` [b or 1, 1, t, s] is True where a query sees a key,
    or is added to the scores.
    `causal`: the t queries are the last of the s tokens, and each sees what is not after it.
    """
    t, s, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    if t == 1:
        # One new token: the query heads that share keys stand side by side, so nothing is repeated in memory.
        y = F.scaled_dot_product_attention(q.unflatten(1, (-1, group)).squeeze(3), k, v, attn_mask=mask)
        return y.flatten(1, 2).unsqueeze(2)
    faster = q.dtype == torch.bfloat16 and blocks_are_faster()
    training = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if training and q.device.type == "cpu" and (not causal if mask is None else mask.is_floating_point()):
        return _plain(q, k, v, mask)
    in_blocks = t >= _ROWS and (faster or (causal and t < s))
    if in_blocks and mask is None and q.device.type == "cpu" and not training:
        return _in_blocks(q, k, v, causal)
    if causal and mask is None and t < s:
        mask = torch.ones(t, s, dtype=torch.bool, device=q.device).tril(s - t)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=group > 1
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` as plain products, which train faster than the fused kernel on a CPU. `mask` is added to the scores."""
    b, n, t, d = q.shape
    group = n // k.shape[1]  # query heads that share keys are stacked along t
    scores = (q * d**-0.5).reshape(b, -1, group * t, d) @ k.mT
    if mask is not None:
        scores = scores.unflatten(2, (group, t)).add(mask[:, :, None]).flatten(2, 3)
    return (scores.softmax(-1) @ v).reshape(b, n, t, d)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`attend` for long queries: some rows of some key heads at a time."""
    b, n, t, d = q.shape
    s, n_kv = k.shape[2], k.shape[1]
    group = n // n_kv
    q = (q * d**-0.5).reshape(b * n_kv, group, t, d)
    k, v = k.reshape(b * n_kv, s, d), v.reshape(b * n_kv, s, d)
    y = torch.empty_like(q)
    rows = min(t, max(_ROWS, SCORES_AT_ONCE // (group * s)))
    if causal:
        rows = min(rows, max(_ROWS, t // 4))  # half of the scores are not computed at all
    heads = min(b * n_kv, max(1, SCORES_AT_ONCE // (group * rows * s)))
    future = torch.ones(t, t, dtype=torch.bool).triu(1) if causal else None
    # What is not seen is not computed, where it is much. But oneDNN keeps half a megabyte for every shape it has met.
    few = s < 4 * t
    room = torch.empty(2, heads * group * rows * s, dtype=q.dtype)
    for i in range(0, t, rows):
        j = min(i + rows, t)
        seen = s - t + j if causal and few else s
        for h in range(0, b * n_kv, heads):
            block = slice(h, min(h + heads, b * n_kv))
            shape = (block.stop - h, group * (j - i), seen)
            scores, weights = (part[: math.prod(shape)].view(shape) for part in room)
            torch.bmm(q[block, :, i:j].flatten(1, 2), k[block, :seen].mT, out=scores)
            if future is not None:
                last = scores.unflatten(1, (group, j - i))[..., s - t + i :]
                last.masked_fill_(future[i:j, i : seen - (s - t)], -torch.inf)
            torch.softmax(scores, -1, out=weights)
            y[block, :, i:j] = torch.bmm(weights, v[block, :seen]).unflatten(1, (group, j - i))
    return y.view(b, n, t, d)
