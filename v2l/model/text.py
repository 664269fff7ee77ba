"""The base's text stack: a Llama decoder whose layers can be stepped through one by one and carry an adapter per row.

Ours rather than transformers' because all three of our uses need its inside: context features leave it layer by layer
(v2l/README.md section 4), every row of a batch may have its own adapter (section 6), and asking should not wait the
seconds that importing transformers takes. Module and parameter names are those of the checkpoints. Tests hold it
against transformers.

Shapes: b rows, t tokens, h hidden size, n heads, d head size, L layers, R rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from v2l.config import CHUNK
from v2l.model.attention import attend
from v2l.model.config import TextConfig
from v2l.model.norm import RMSNorm
from v2l.model.packed import Packable, PackedLinear, add_product, joined
from v2l.system.threads import yield_to_others

FEW = 64
"""Tokens, of all rows together, up to which operations, not arithmetic, take the time."""
READ = 20
"""Multiply-adds of a large product in the time in which one number is read from memory, float32 on a CPU."""


@dataclass
class LayerAdapter:
    """The adapter of one layer: A [R, d_in] and B [R, d_out], or with a leading b for one adapter a row. Float32; in
    training, whatever dtype its product is to be computed in.

    Above some rank the product A^T B is smaller than the factors. Making it pays only in the long run, so it is made
    once as much time was lost without it as it takes: never more than twice the best there was to do. The factors stay,
    and must not be changed in place.
    """

    A: Tensor
    B: Tensor
    scale: float
    product: Tensor | None = field(default=None, init=False, repr=False)
    """scale * A^T B [d_in, d_out], from when on it takes the factors' place."""
    _lost: float = field(default=0.0, init=False, repr=False)
    """Multiply-adds spent on the factors beyond what the product would have cost."""

    def delta(self, x: Tensor) -> Tensor:
        """x [b, t, d_in] -> scale * B^T A x [b, t, d_out], in the dtype of A (v2l/README.md section 6)."""
        self._look(x.shape[0] * x.shape[1])
        if self.product is not None:
            return x.to(self.A.dtype) @ self.product
        return (x.to(self.A.dtype) @ self.A.mT) @ self.B * self.scale

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Adds `delta` of x [n, d_in] to y [n, d_out], in place; y is of the dtype of A. Where there is an adapter for
        each of b rows, the first n / b are of the first row."""
        self._look(len(x))
        x = x.to(self.A.dtype)
        if self.product is not None:
            y.addmm_(x, self.product)
        elif self.A.dim() > 2:
            rows = (len(self.A), -1)
            y.unflatten(0, rows).baddbmm_(x.unflatten(0, rows) @ self.A.mT, self.B, alpha=self.scale)
        else:
            y.addmm_(x @ self.A.mT, self.B, alpha=self.scale)

    def _look(self, tokens: int) -> None:
        """Makes the product if that pays, now that so many tokens come."""
        if self.product is None and self._product_pays(tokens):
            self.product = self.A.mT @ (self.B * self.scale)

    def _product_pays(self, tokens: int) -> bool:
        rank, d_in, d_out = self.A.shape[-2], self.A.shape[-1], self.B.shape[-1]
        excess = rank * (d_in + d_out) - d_in * d_out
        if self.A.dim() > 2 or excess <= 0 or torch.is_grad_enabled():
            return False
        self._lost += excess * max(tokens, READ)
        return self._lost > rank * d_in * d_out


class Cache:
    """Keys and values of the tokens seen so far, with room for `size` tokens in each of `rows` rows."""

    def __init__(
        self,
        config: TextConfig,
        rows: int,
        size: int,
        device: torch.device,
        dtype: torch.dtype,
        layers: int | None = None,
    ) -> None:
        """Makes room for all layers of the model, or as many as `layers` says."""
        shape = (config.num_layers if layers is None else layers, 2, rows, config.num_kv_heads, size, config.head_dim)
        self.store = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0
        """Tokens held in every row; lower it to forget the last ones."""

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Puts k, v [b, kv heads, t, d] after what is held; returns all keys and values so far."""
        end = self.length + k.shape[2]
        held = self.store[layer]
        held[0, :, :, self.length : end], held[1, :, :, self.length : end] = k, v
        return held[0, :, :, :end], held[1, :, :, :end]


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: x [b, n, t, d], rope from `TextStack.rope`."""
    cos, sin = rope
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def turning(rope: tuple[Tensor, Tensor]) -> Tensor:
    """`rotate` as a product: rope of [b, t] tokens -> [b * t, d, d], with which the heads [n, d] of each are
    multiplied."""
    cos, sin = (part.flatten(0, 2).diag_embed() for part in rope)
    return cos + sin.roll(sin.shape[-1] // 2, -2)


class Attention(Packable):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        h, self.head_dim, self.heads, self.kv_heads = (
            config.hidden_size,
            config.head_dim,
            config.num_heads,
            config.num_kv_heads,
        )
        self.qkv: nn.Module | None = None
        self.q_proj = nn.Linear(h, config.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(h, config.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(h, config.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_heads * self.head_dim, h, bias=False)

    def pack(self) -> None:
        self._join(PackedLinear)

    def join(self) -> None:
        self._join(joined)

    def _join(self, together: Callable[[Sequence[nn.Linear]], nn.Module]) -> None:
        self.qkv = together([self.q_proj, self.k_proj, self.v_proj])
        del self.q_proj, self.k_proj, self.v_proj

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        qkv = self._project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [b, all heads, t, d]
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], 1)
        q, k = rotate(qk, rope).split([self.heads, self.kv_heads], 1)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        y = attend(q, k, v, mask, causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def few(self, x: Tensor, turns: Tensor, mask: Tensor | None, places: Tensor, held: Tensor) -> Tensor:
        """`forward` for few tokens x [n, h], t of each of b rows, up to the last product: [n, heads * d]. Their keys
        and values go to `places` [2, b, kv heads, t, d] of a cache, and `held` [2, b, kv heads, s, d] are all so far,
        theirs included; `turns` are from `turning`."""
        rows, qk = (held.shape[1], -1), self.heads + self.kv_heads
        qkv = self._project(x).view(len(x), -1, self.head_dim)
        turned = torch.bmm(qkv[:, :qk], turns).unflatten(0, rows)
        q, places[0] = turned[:, :, : self.heads].transpose(1, 2), turned[:, :, self.heads :].transpose(1, 2)
        places[1] = qkv[:, qk:].unflatten(0, rows).transpose(1, 2)
        return attend(q, held[0], held[1], mask, causal=True).transpose(1, 2).reshape(len(x), -1)

    def _project(self, x: Tensor) -> Tensor:
        """x [.., h] -> queries, keys and values side by side [.., all heads * d]."""
        if self.qkv is not None:
            together: Tensor = self.qkv(x)
            return together
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)


class MLP(Packable):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        h, inner = config.hidden_size, config.intermediate_size
        self.gate_proj: nn.Module = nn.Linear(h, inner, bias=False)
        self.up_proj = nn.Linear(h, inner, bias=False)
        self.down_proj = nn.Linear(inner, h, bias=False)
        self.gate_up: nn.Module | None = None

    def pack(self) -> None:
        self.gate_proj = PackedLinear([self.gate_proj], "silu")

    def join(self) -> None:
        self.gate_up = joined([cast("nn.Linear", self.gate_proj), self.up_proj])
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor, adapter: LayerAdapter | None) -> Tensor:
        inner = self._inner(x)
        y: Tensor = self.down_proj(inner)
        return y if adapter is None else (y.float() + adapter.delta(inner)).to(y.dtype)

    def add_few(self, y: Tensor, x: Tensor, adapter: LayerAdapter | None) -> None:
        """Adds `forward` of few tokens x [n, h] to y [n, h], which is in float32."""
        inner = self._inner(x)
        add_product(y, self.down_proj, inner)
        if adapter is not None:
            adapter.add_to(y, inner)

    def _inner(self, x: Tensor) -> Tensor:
        if self.gate_up is not None:  # of these weights no gradient is asked
            gate, up = self.gate_up(x).chunk(2, -1)
            return F.silu(gate, inplace=True).mul_(up)
        gate = self.gate_proj(x) if isinstance(self.gate_proj, PackedLinear) else F.silu(self.gate_proj(x))
        return gate * self.up_proj(x) if torch.is_grad_enabled() else gate.mul_(self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: Cache | None = None,
        layer: int = 0,
        adapter: LayerAdapter | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x), adapter)

    def add_few(self, x: Tensor, turns: Tensor, mask: Tensor | None, places: Tensor, held: Tensor,
                adapter: LayerAdapter | None) -> None:
        """`forward` for few tokens x [n, h], in float32 and in place; the rest is as `Attention.few` has it."""
        attended = self.self_attn.few(self.input_layernorm.of(x), turns, mask, places, held)
        add_product(x, self.self_attn.o_proj, attended)
        self.mlp.add_few(x, self.post_attention_layernorm.of(x), adapter)


def yielding(x: Tensor) -> Tensor:
    """What enters a step of a long computation: before it, and before the step that its gradient enters, it is looked
    whether other work wants the cores."""
    yield_to_others()
    if x.grad_fn is not None:
        x.register_hook(lambda _: yield_to_others())
    return x


class TextStack(nn.Module):
    """Embeddings, decoder layers, final norm and output matrix; with `layers`, embeddings and that many layers only."""

    def __init__(self, config: TextConfig, layers: int | None = None) -> None:
        super().__init__()
        self.config = config
        # Given weights, it does not initialise its own, which on the meta device would import torch's compiler.
        weight = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(weight, freeze=False)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers if layers is None else layers))
        if layers is None:
            self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions [b, t] -> (cos, sin), each [b, 1, t, d], in the stack's dtype; the first half of sin is negated, so
        that x * cos + (x rolled by half) * sin is the rotation."""
        d = self.config.head_dim
        frequencies = 1.0 / self.config.rope_theta ** (torch.arange(0, d, 2, device=positions.device).float() / d)
        angles = (positions[:, None, :, None].float() * frequencies).repeat(1, 1, 1, 2)
        sin = angles.sin()
        sin[..., : d // 2].neg_()
        return angles.cos().to(self.dtype), sin.to(self.dtype)

    def forward(
        self,
        embeddings: Tensor,
        cache: Cache,
        adapters: list[LayerAdapter] | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [b, t, h] of the tokens after those in `cache` -> logits [b, vocabulary] after the last one.

        `padding` [b] counts the meaningless tokens each row begins with, counted from the start of the cache.
        """
        if padding is None and embeddings.shape[1] > CHUNK:
            *before, embeddings = embeddings.split(CHUNK, dim=1)
            for chunk in before:
                self._run(chunk, cache, adapters, None)
        if self._is_few(embeddings, adapters):
            return self._run_few(embeddings, cache, adapters, padding)
        return self.logits(self._run(embeddings, cache, adapters, padding)[:, -1])

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [.., h] that leave the last layer -> [.., vocabulary]."""
        logits: Tensor = self.lm_head(self.norm(hidden))
        return logits

    def hidden(
        self,
        x: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        adapters: Sequence[LayerAdapter] | None = None,
        keep: list[Tensor] | None = None,
        layers: int | None = None,
        checkpointing: bool = False,
    ) -> Tensor:
        """Embeddings [b, t, h] -> hidden states [b, t, h] that leave the last layer, all at once: how training runs the
        stack, with gradients where they are enabled.

        `positions` [b, t] count from 0 if not given; `mask` [b or 1, 1, t, t] is added to the scores, and causal if not
        given. `keep` collects what enters each layer; `layers` stops early; `checkpointing` computes each layer again
        in the backward pass instead of keeping what is inside it.
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        if mask is None and x.device.type in ("cpu", "mps") and torch.is_grad_enabled():  # what `attend` trains with
            mask = torch.full((1, 1, x.shape[1], x.shape[1]), -1e9, dtype=x.dtype).triu(1)
        rope = self.rope(positions)
        for i, layer in enumerate(self.layers[:layers]):
            if keep is not None:
                keep.append(x)
            inputs = yielding(x), rope, mask, None, i, adapters[i] if adapters else None
            x = checkpoint(layer, *inputs, use_reentrant=False) if checkpointing else layer(*inputs)
        return x

    def _run(
        self, embeddings: Tensor, cache: Cache, adapters: list[LayerAdapter] | None, padding: Tensor | None
    ) -> Tensor:
        """`forward` up to the last layer: hidden states [b, t, h]."""
        positions, mask = self._places(embeddings, cache, padding)
        rope, x = self.rope(positions), embeddings
        for i, layer in enumerate(self.layers):
            yield_to_others()
            x = layer(x, rope, mask, cache, i, adapters[i] if adapters else None)
        cache.length += x.shape[1]
        return x

    @staticmethod
    def _places(embeddings: Tensor, cache: Cache, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Positions [b, t] of the tokens after those in `cache`, and where there is padding the mask [b, 1, t, s] that
        is True where they see another."""
        b, t = embeddings.shape[:2]
        end = cache.length + t
        positions = torch.arange(cache.length, end, device=embeddings.device).expand(b, t)
        if padding is None:
            return positions, None
        keys = torch.arange(end, device=embeddings.device)
        queries = keys[cache.length :]
        mask = (keys[None] <= queries[:, None])[None] & (keys >= padding[:, None])[:, None]
        mask = mask | (keys[None] == queries[:, None])[None]  # padding sees itself: no row of the softmax is empty
        return (positions - padding[:, None]).clamp(min=0), mask[:, None]

    @staticmethod
    def _is_few(embeddings: Tensor, adapters: list[LayerAdapter] | None) -> bool:
        """Whether `_run_few` takes these."""
        exact = not adapters or adapters[0].A.dtype == torch.float32
        return embeddings[..., 0].numel() <= FEW and exact and not torch.is_grad_enabled()

    def _run_few(self, embeddings: Tensor, cache: Cache, adapters: list[LayerAdapter] | None, padding: Tensor | None
                 ) -> Tensor:
        """`forward` for few tokens, one of each row above all: in half as many operations, which take more of the time
        than the products do there. What goes from layer to layer stays in float32."""
        start, end = cache.length, cache.length + embeddings.shape[1]
        positions, mask = self._places(embeddings, cache, padding)
        if mask is not None:  # as it is added to the scores, which torch would make of it in every layer
            mask = torch.zeros_like(mask, dtype=self.dtype).masked_fill_(~mask, -torch.inf)
        turns, x = turning(self.rope(positions)), embeddings.flatten(0, 1).to(torch.float32, copy=True)
        places, held = cache.store[..., start:end, :].unbind(), cache.store[..., :end, :].unbind()
        for i, layer in enumerate(cast("list[Layer]", self.layers)):
            yield_to_others()
            layer.add_few(x, turns, mask, places[i], held[i], adapters[i] if adapters else None)
        cache.length = end
        logits: Tensor = self.lm_head(self.norm.of(x.view_as(embeddings)[:, -1]))
        return logits
