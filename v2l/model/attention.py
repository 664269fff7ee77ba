"""Softmax attention: torch's fused kernel, or plain products block by block where those are faster, or the fused one
would need a mask of all queries by all keys.

On CPUs with bfloat16 products but no AMX, torch's kernel computes in float32: 0.16 TFLOP/s where the blocks below reach
0.4 (2 cores, Zen 5, 12 heads of 1,024 tokens). They hold the scores in bfloat16, as transformers' eager attention does.

On GPUs torch picks a kernel by itself, and where flash attention (half precision, no mask, compute capability 8) cannot
run and heads share keys, what is left holds all scores in float32: 777 GB for 79,000 tokens of the 500M base. On Macs
its kernels were wrong in several versions that v2l allows (pytorch #163597, #181133, #195910), and one array of more
than 4 GB ends the process (#149261): nothing of it is called there. What torch has is read from its source; no GPU or
Mac ever ran this module.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from v2l.model.packed import cpu_has

SCORES_AT_ONCE = 1 << 21
"""Scores held at a time: what stays in the processor's cache."""
SCORES_ON_GPU = 1 << 25
"""Scores held at a time on a GPU, some three times over: 0.4 GB in float32, and enough work for a launch."""
MASK_AT_ONCE = 1 << 23
"""Places of a mask made at a time where torch's kernel computes: 16 MB."""
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
    if q.device.type != "cpu":
        return _on_gpu(q, k, v, mask, causal)
    t, s = q.shape[2], k.shape[2]
    if t == 1:
        return _one_token(q, k, v, mask)
    faster = q.dtype == torch.bfloat16 and blocks_are_faster()
    training = _training(q, k, v)
    if training and (not causal if mask is None else mask.is_floating_point()):
        return _plain(q, k, v, mask)
    in_blocks = t >= _ROWS and (faster or (causal and t < s))
    if in_blocks and mask is None and not training:
        if t < s and q.dtype == torch.bfloat16 and cpu_has("amx_bf16"):
            return _in_rows(q, k, v)
        return _in_blocks(q, k, v, causal)
    if causal and mask is None and t < s:
        mask = _until(t, s, q.device)
    return _fused(q, k, v, mask, causal)


def _one_token(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` for one query: the heads that share keys stand side by side, so nothing is repeated in memory."""
    group = q.shape[1] // k.shape[1]
    y = F.scaled_dot_product_attention(q.unflatten(1, (-1, group)).squeeze(3), k, v, attn_mask=mask)
    return y.flatten(1, 2).unsqueeze(2)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """`attend` by torch's kernel. `causal` without a mask needs as many queries as keys."""
    shared = q.shape[1] > k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=shared
    )


def _in_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`attend` for the last queries of more keys, causally, by torch's kernel: some rows at a time, because it needs a
    mask. With AMX 1.45 times as fast as `_in_blocks`, and half as far from float32 (500M, 2,048 of 6,144 tokens)."""
    t, s = q.shape[2], k.shape[2]
    rows = max(_ROWS, MASK_AT_ONCE // s)
    y = torch.empty_like(q)
    for i in range(0, t, rows):
        j = min(i + rows, t)
        seen = s - t + j
        y[:, :, i:j] = _fused(q[:, :, i:j], k[:, :, :seen], v[:, :, :seen], _until(j - i, seen, q.device), False)
    return y


def _until(t: int, s: int, device: torch.device) -> Tensor:
    """The mask [t, s] of the last t of s tokens that see what is not after them."""
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)


def _on_gpu(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """`attend` wherever it is not a CPU: by a kernel of torch's that holds few scores, else by plain products."""
    t, s, shared = q.shape[2], k.shape[2], q.shape[1] > k.shape[1]
    training = _training(q, k, v)
    if q.device.type == "cuda":
        if t == 1:
            return _one_token(q, k, v, mask)
        if training:
            return _fused(q, k, v, _until(t, s, q.device) if causal and mask is None and t < s else mask, causal)
        flash = mask is None and has_flash(q.device, q.dtype)
        if flash and causal and t < s:  # is_causal would let the first query see the first key only
            from torch.nn.attention.bias import causal_lower_right

            return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(t, s), enable_gqa=shared)
        # Without flash, memory-efficient attention: any precision and a mask, but no shared keys.
        if flash or (not shared and (mask is not None or not causal or t == s)):
            return _fused(q, k, v, mask, causal)
    if training:
        return _plain(q, k, v, _until(t, s, q.device)[None, None] if causal and mask is None else mask)
    return _some_at_a_time(q, k, v, mask, causal)


def _training(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has flash attention for this GPU."""
    return (dtype in (torch.bfloat16, torch.float16) and torch.backends.cuda.is_flash_attention_available()
            and torch.cuda.get_device_capability(device)[0] >= 8)


def _some_at_a_time(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """`attend` by `_plain` for some rows of some key heads at a time, with no more than SCORES_ON_GPU scores."""
    b, n, t = q.shape[:3]
    s, n_kv = k.shape[2], k.shape[1]
    group = n // n_kv
    rows = min(t, max(_ROWS, SCORES_ON_GPU // (b * group * s)))
    heads = min(n_kv, max(1, SCORES_ON_GPU // (b * group * rows * s)))
    if t == 1 and heads == n_kv:
        return _plain(q, k, v, mask)
    y = torch.empty_like(q)
    for i in range(0, t, rows):
        j = min(i + rows, t)
        seen = s
        part = None if mask is None else mask[:, :, i:j]
        if causal and mask is None and t > 1:
            seen = s - t + j
            part = _until(j - i, seen, q.device)[None, None]
        for h in range(0, n_kv, heads):
            own = slice(h * group, (h + heads) * group)
            y[:, own, i:j] = _plain(q[:, own, i:j], k[:, h : h + heads, :seen], v[:, h : h + heads, :seen], part)
    return y


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` as plain products, which train faster than the fused kernel on a CPU."""
    b, n, t, d = q.shape
    group = n // k.shape[1]  # query heads that share keys are stacked along t
    scores = (q * d**-0.5).reshape(b, -1, group * t, d) @ k.mT
    if mask is not None:
        scores, mask = scores.unflatten(2, (group, t)), mask[:, :, None]
        scores = scores.add(mask) if mask.is_floating_point() else scores.masked_fill(~mask, -torch.inf)
        scores = scores.flatten(2, 3)
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
