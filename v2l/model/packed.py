"""Linear layers with their weights laid out once as oneDNN's bfloat16 kernels want them.

A plain weight is rearranged, or read against its grain, at every product. Packed, the same product ran 1.5 times as
fast for one row and 1.05 to 1.15 times for many (2 cores, Zen 5). Packing copies; it costs about as much as one product
with a plain weight, so it pays from the second on.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


@cache
def cpu_has(feature: str) -> bool:
    """Whether this CPU multiplies with these instructions: avx512_bf16, amx_bf16 or (on ARM) bf16."""
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get(feature))
    known = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}  # torch before 2.11
    return bool(getattr(torch.cpu, known.get(feature, ""), bool)())


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packing is possible and pays here."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")  # torch's own, made for its compiler
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (cpu_has("avx512_bf16") or cpu_has("amx_bf16"))  # others would compute it in float32, or not at all
    )


_ACTIVATIONS: dict[str | None, tuple[str, list[float], str]] = {
    None: ("none", [], ""),
    "silu": ("swish", [1.0], ""),
    "gelu_tanh": ("gelu", [], "tanh"),
}
"""What `_linear_pointwise` calls them."""


class PackedLinear(nn.Module):
    """activation(x W^T + b) for x [.., i]. Made of several layers that read the same x, it gives their outputs side by
    side."""

    def __init__(self, layers: Sequence[Any], activation: str | None = None) -> None:
        """`layers` are nn.Linear."""
        super().__init__()
        weight = layers[0].weight if len(layers) == 1 else torch.cat([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.out_features = len(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self._bias = torch.cat(biases).detach() if biases else None
        self._activation = _ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._activation)
        return y


class Packable(nn.Module):
    """A module that packs some of its layers in its own way: together, or with the activation after them."""

    packed = False

    def pack(self) -> None:
        raise NotImplementedError

    def join(self) -> None:
        """Makes one layer of those that read the same, where weights are not packed: on GPUs, which take longer to
        begin a product of few rows than to compute it."""


@torch.inference_mode()
def pack(module: nn.Module) -> None:
    """Replaces the linear layers of a module with loaded weights by their packed form, one at a time, where that pays;
    on GPUs some are joined instead. They cannot be trained or saved after."""
    if all(weight.device.type != "cpu" for weight in module.parameters()):
        for part in module.modules():
            if isinstance(part, Packable) and not part.packed:
                part.join()
                part.packed = True
        return
    if not all(packs(weight.device, weight.dtype) for weight in module.parameters()):
        return
    for part in list(module.modules()):
        if isinstance(part, Packable) and not part.packed:
            part.pack()
            part.packed = True
        for name, layer in list(part.named_children()):
            if type(layer) is nn.Linear:
                setattr(part, name, PackedLinear([layer]))


def joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Linear layers that read the same x as one, which gives their outputs side by side; for weights that stay as they
    are."""
    weight = torch.cat([layer.weight for layer in layers])
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], len(weight), bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def add_product(y: Tensor, layer: nn.Module, x: Tensor) -> None:
    """Adds a linear layer without bias of x [n, i] to y [n, o], in place."""
    if isinstance(layer, nn.Linear) and layer.weight.dtype == y.dtype:
        y.addmm_(x, layer.weight.mT)
    else:
        y.add_(layer(x))
