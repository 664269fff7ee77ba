"""The Frames2LoRA hypernetwork: context features of one decoder layer in, that layer's A and B out (v2l/README.md
section 5).

One perceiver serves every layer; only the head, the scalers and the bias are per layer. Module and parameter names are
those of the released checkpoints, so a released state dict loads as it is.

Shapes: n layers at once, t context tokens, h hidden size of the base, z latent size, r rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.config import CHUNK, HypernetConfig
from v2l.model.norm import RMSNorm, rms_norm
from v2l.model.packed import Packable, PackedLinear
from v2l.model.text import yielding


def perceiver_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the perceiver computes in where the base computes in `dtype`: not float16, whose 65,504 the gated products
    of its first step go beyond in every layer of `tiny`."""
    return torch.float32 if dtype == torch.float16 else dtype


class GatedMLP(Packable):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, size: int, inner: int, out: int) -> None:
        super().__init__()
        self.gate_proj: nn.Module = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x) if isinstance(self.gate_proj, PackedLinear) else F.silu(self.gate_proj(x))
        inner = gate * self.up_proj(x) if torch.is_grad_enabled() else gate.mul_(self.up_proj(x))
        y: Tensor = self.down_proj(inner)
        return y

    def pack(self) -> None:
        self.gate_proj = PackedLinear([self.gate_proj], "silu")


class Factor(nn.Linear):
    """A matrix that meets the queries rather than the context (see `CrossAttention`), so `pack` must leave it plain."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__(size, out, bias=False)


class CrossAttention(nn.Module):
    """Grouped-query attention of x over [context ; x]; no biases, no positions.

    There are few queries and many context tokens, so keys and values are never made: q (W_k c)^T is (q W_k) c^T, and
    p (W_v c) is (p c) W_v. With 128 query vectors that is a quarter of the work. The context comes normalized, and the
    weight of its norm is applied on the queries' side too.
    """

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        z, self.head_dim, self.kv_heads = config.latent_size, config.head_dim, config.num_kv_heads
        self.q_proj = nn.Linear(z, config.num_heads * self.head_dim, bias=False)
        self.k_proj = Factor(z, config.num_kv_heads * self.head_dim)
        self.v_proj = Factor(z, config.num_kv_heads * self.head_dim)
        self.o_proj = nn.Linear(config.num_heads * self.head_dim, z, bias=False)

    def forward(self, x: Tensor, context: Tensor, norm: Tensor, mask: Tensor | None) -> Tensor:
        """x [n, q, z], context [n, t, z] and its norm's weight [z], mask [n, t], True where it counts -> [n, q, z]."""
        n, queries, z = x.shape
        W_k, W_v = (proj.weight.unflatten(0, (self.kv_heads, self.head_dim)) for proj in (self.k_proj, self.v_proj))
        # The query heads that share a key head are stacked along the query axis: g = queries * heads / kv_heads.
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) / math.sqrt(self.head_dim)
        probe = (q.reshape(n, self.kv_heads, -1, self.head_dim) @ W_k).flatten(1, 2)  # [n, kv heads * g, z]
        # Not `@`, which on CPUs copies a single context turned round, in bfloat16: ten times as long as the product.
        over_context = torch.bmm(probe * norm, context.mT)
        scores = torch.cat([over_context, probe @ x.mT], dim=-1)  # [n, kv heads * g, t + q]
        if mask is not None:
            scores = scores.masked_fill(~F.pad(mask, (0, queries), value=True)[:, None], -torch.inf)
        scores = scores.softmax(-1, dtype=torch.float32).to(x.dtype)
        over_context, over_x = scores.split([context.shape[1], queries], dim=-1)
        pooled = (over_context @ context) * norm + over_x @ x
        pooled = pooled.view(n, self.kv_heads, -1, z) @ W_v.mT  # [n, kv heads, g, d]
        pooled = pooled.view(n, -1, queries, self.head_dim)  # [n, heads, q, d]
        return self.o_proj(pooled.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Latents look at [context ; latents], then a gated MLP; a norm before and after each."""

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        z = config.latent_size
        self.input_latents_layernorm = RMSNorm(z)
        self.input_context_layernorm = RMSNorm(z)
        self.self_attn = CrossAttention(config)
        self.post_attention_layernorm = RMSNorm(z)
        self.pre_ff_layernorm = RMSNorm(z)
        self.mlp = GatedMLP(z, 4 * z, z)
        self.post_ff_layernorm = RMSNorm(z)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x [n, q, z], normalized context [n, t, z], mask [n, t] or None -> [n, q, z]."""
        latents, norm = self.input_latents_layernorm(x), self.input_context_layernorm.weight
        x = x + self.post_attention_layernorm(self.self_attn(latents, context, norm, mask))
        return x + self.post_ff_layernorm(self.mlp(self.pre_ff_layernorm(x)))


class Resampler(nn.Module):
    """Learned queries that read a context of any length through a stack of blocks."""

    def __init__(self, config: HypernetConfig, queries: int, blocks: int) -> None:
        super().__init__()
        self.latents_q = nn.Parameter(torch.randn(queries, config.latent_size))
        self.layers = nn.ModuleList(Block(config) for _ in range(blocks))
        self.layernorm = RMSNorm(config.latent_size)

    def forward(self, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalized context [n, t, z] -> [n, queries, z]."""
        x = self.latents_q.expand(context.shape[0], -1, -1)
        for block in self.layers:
            x = block(yielding(x), context, mask)
        return self.layernorm(x)


class Perceiver(nn.Module):
    """Context features -> r latents (steps 1 to 3 of v2l/README.md section 5)."""

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        h, z = config.hidden_size, config.latent_size
        self.modality_projection = GatedMLP(h, 4 * h, z)
        self.encoder = Resampler(config, config.num_queries, config.num_blocks)
        self.decoder = Resampler(config, config.rank, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.decoder(rms_norm(self.encoder(self._context(features), mask)))

    def _context(self, features: Tensor) -> Tensor:
        """Features [n, t, h] -> normalized context [n, t, z] in `perceiver_dtype`."""
        dtype = perceiver_dtype(features.dtype)
        if features.shape[1] <= CHUNK or torch.is_grad_enabled():  # training keeps all that is between anyway
            return rms_norm(self.modality_projection(features.to(dtype)))
        context = features.new_empty(*features.shape[:2], self.encoder.latents_q.shape[-1], dtype=dtype)
        for chunk, place in zip(features.split(CHUNK, dim=1), context.split(CHUNK, dim=1), strict=True):
            place.copy_(rms_norm(self.modality_projection(chunk.to(dtype))))
        return context


class ResidualMLP(nn.Module):
    """x + LayerNorm(W2 silu(W1 LayerNorm(x)))."""

    def __init__(self, z: int) -> None:
        super().__init__()
        # The released Sequential has dropouts at 3 and 4 which do nothing at inference; the indices are its names.
        self.mlp = nn.ModuleDict(
            {"0": nn.LayerNorm(z), "2": nn.Linear(z, 4 * z), "5": nn.Linear(4 * z, z), "6": nn.LayerNorm(z)}
        )

    def forward(self, x: Tensor) -> Tensor:
        m = self.mlp
        return x + m["6"](m["5"](F.silu(m["2"](m["0"](x)))))


class Head(nn.Module):
    """One matrix a layer: a latent of length 1 -> a row of A and a row of B."""

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_layers, config.latent_size, config.d_in + config.d_out))


class Hypernetwork(nn.Module):
    """Turns the features entering a decoder layer into that layer's LoRA pair.

    `perceive` is steps 1-3 (float32, or bfloat16 as trained), `generate` steps 4-6 (always in the head's dtype).
    """

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__()
        self.config = config
        L, r, z, target = config.num_layers, config.rank, config.latent_size, config.target_module
        self.aggregator = nn.ModuleDict({"perceiver": Perceiver(config)})
        self.layers = nn.ModuleList([ResidualMLP(z)])
        self.head = Head(config)
        per_layer = lambda *shape: nn.ParameterDict({target: nn.Parameter(torch.zeros(*shape))})
        self.scaler_A, self.scaler_B = per_layer(1, L, r, 1), per_layer(1, L, r, 1)
        self.bias_A, self.bias_B = per_layer(L, r, config.d_in), per_layer(L, r, config.d_out)
        if not self.head.weight.is_meta:  # else it waits for weights, and initialising would import torch's compiler
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """The published initialisation (v2l/README.md section 8): a fresh hypernetwork's adapter does nothing (B =
        0)."""
        c, target = self.config, self.config.target_module
        nn.init.ones_(self.scaler_A[target])
        nn.init.zeros_(self.scaler_B[target])
        nn.init.normal_(self.bias_A[target], std=0.2 / math.sqrt(c.d_in * c.rank))
        nn.init.zeros_(self.bias_B[target])
        nn.init.normal_(self.head.weight, std=0.5 / math.sqrt(c.latent_size + (c.d_in + c.d_out) * c.rank))

    def perceive(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [n, t, h] (mask [n, t], True where a token counts) -> latents [n, r, z]."""
        return self.aggregator["perceiver"](features, mask)

    def generate(self, latents: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [n, r, z] of decoder layers `layers` [n] -> A [n, r, d_in], B [n, r, d_out], without the bias."""
        target = self.config.target_module
        y = self.layers[0](latents.to(self.head.weight.dtype))
        y = y / y.norm(dim=-1, keepdim=True)
        rows = y @ self.head.weight[layers]
        A, B = rows.split([self.config.d_in, self.config.d_out], dim=-1)
        return A * self.scaler_A[target][0, layers], B * self.scaler_B[target][0, layers]

    def forward(self, features: Tensor, layers: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features [n, t, h] entering decoder layers `layers` [n] -> A [n, r, d_in], B [n, r, d_out]."""
        return self.generate(self.perceive(features, mask), layers)
