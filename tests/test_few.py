"""Few tokens go through the text stack in few operations: against the layers run as for anything else."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from tests.support.pretend import operations, pretended
from v2l.model import text
from v2l.model.config import TextConfig
from v2l.model.packed import pack
from v2l.model.text import Cache, LayerAdapter, TextStack

CPU = torch.device("cpu")
SHAPES = {"500M": TextConfig(960, 2560, 2, 15, 5, 64, 300, 1e-5, 1e5, 8192, False),
          "2.2B": TextConfig(512, 2048, 2, 8, 8, 64, 300, 1e-5, 273768.0, 8192, False)}
"""As the released ones are, with fewer layers and tokens; keys are shared by three heads, or by none."""


def stack_of(config: TextConfig) -> TextStack:
    """Random weights that bfloat16 holds, in float32."""
    torch.manual_seed(0)
    stack = TextStack(config).requires_grad_(False).eval()
    for parameter in stack.parameters():
        parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.05)
        parameter.copy_(parameter.bfloat16())
    return stack


def adapter_of(config: TextConfig, rank: int) -> list[LayerAdapter]:
    torch.manual_seed(rank)
    shape = config.intermediate_size, config.hidden_size
    return [LayerAdapter(*(torch.randn(rank, size) / size for size in shape), 128.0) for _ in range(config.num_layers)]


@torch.inference_mode()
def said(stack: TextStack, adapter: list[LayerAdapter] | None, few: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Logits after 5 tokens, after 3 more, and after each of the next 4."""
    monkeypatch.setattr(text, "FEW", few)
    torch.manual_seed(1)
    tokens = stack.embed_tokens(torch.randint(300, (1, 12)))
    cache, logits = Cache(stack.config, 1, 20, CPU, stack.dtype), []
    for part in tokens.split([5, 3, 1, 1, 1, 1], 1):
        logits.append(stack(part, cache, adapter))
    assert cache.length == 12
    return torch.cat(logits).float()


def distance(found: Tensor, right: Tensor) -> float:
    return float((found - right).norm() / right.norm())


@pytest.mark.parametrize("rank", [0, 32, 1500])
@pytest.mark.parametrize("shapes", SHAPES)
def test_few_operations_compute_the_same(shapes: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SHAPES[shapes]
    adapter = lambda: adapter_of(config, rank) if rank else None
    stack = stack_of(config)
    exact = said(stack, adapter(), 0, monkeypatch)
    assert distance(said(stack, adapter(), 64, monkeypatch), exact) < 1e-5
    if rank > 1000:
        used = adapter_of(config, rank)
        with torch.inference_mode():
            for layer in used:
                layer.add_to(torch.zeros(1500, config.hidden_size), torch.zeros(1500, config.intermediate_size))
        assert all(layer.product is not None for layer in used)
        assert distance(said(stack, used, 64, monkeypatch), exact) < 1e-5
    stack.bfloat16()
    pack(stack)
    as_before, found = (distance(said(stack, adapter(), few, monkeypatch), exact) for few in (0, 64))
    assert found < 1.1 * as_before < 0.1


def test_what_goes_from_layer_to_layer_may_be_larger_than_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(SHAPES["500M"])
    stack.embed_tokens.weight[:, 0] = 40_000.0
    for layer in stack.layers:  # each adds some 30,000, the norm's largest number sqrt(960) in all of 960 values
        layer.self_attn.v_proj.weight[:, 0] = 1.0
        layer.self_attn.o_proj.weight[0] = 1.0
    exact = said(stack, None, 0, monkeypatch)
    stack.half()
    assert not said(stack, None, 0, monkeypatch).isfinite().all()
    assert distance(said(stack, None, 64, monkeypatch), exact) < 0.01


@pytest.mark.parametrize("own", [False, True])
@torch.inference_mode()
def test_few_tokens_of_rows_compute_the_same(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that begin with padding, with an adapter each or one for all: their prompts, and a token of each."""
    config = SHAPES["500M"]
    stack, adapter = stack_of(config), adapter_of(config, 7)
    if own:
        torch.manual_seed(3)
        adapter = [LayerAdapter(torch.randn(3, *layer.A.shape) / 2560, torch.randn(3, *layer.B.shape) / 960, 128.0)
                   for layer in adapter]
    ids, padding, found = torch.randint(300, (3, 7)), torch.tensor([2, 0, 3]), []
    for few in (0, 64):
        monkeypatch.setattr(text, "FEW", few)
        cache = Cache(config, 3, 10, CPU, stack.dtype)
        found.append(torch.cat([stack(stack.embed_tokens(part), cache, adapter, padding)
                                for part in ids.split([5, 1, 1], 1)]))
        assert cache.length == 7
    assert distance(found[1], found[0]) < 1e-5


@torch.inference_mode()
def test_many_tokens_and_gradients_go_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(SHAPES["2.2B"])
    monkeypatch.setattr(text.Layer, "add_few", None)
    many = stack.embed_tokens(torch.ones(5, 13, dtype=torch.long))
    for tokens, padding in ((many, None), (many, torch.arange(5)), (many.flatten(0, 1)[None], None)):
        stack(tokens, Cache(stack.config, len(tokens), 80, CPU, torch.float32), None, padding)
    with torch.inference_mode(False), torch.enable_grad():
        stack(torch.ones(1, 1, 512), Cache(stack.config, 1, 4, CPU, torch.float32))


@pytest.mark.parametrize("device, dtype, most", [
    ("cpu", torch.float32, 29), ("cuda:0", torch.float32, 14), ("cuda:0", torch.bfloat16, 19),
    ("mps:0", torch.float32, 28)])
@pytest.mark.parametrize("rows", [1, 2])
def test_operations_of_a_layer_for_a_token(device: str, dtype: torch.dtype, most: int, rows: int) -> None:
    """With an adapter for each row. Views cost nothing, and what torch does in one operation counts as one."""
    def cost(layers: int) -> int:
        config = TextConfig(48, 64, layers, 6, 2, 8, 50, 1e-5, 1e5, 64, False)
        stack, adapter = stack_of(config).to(dtype), adapter_of(config, 4)
        shape = (rows, 4, -1) if rows > 1 else (4, -1)
        with pretended(device) if device != "cpu" else nullcontext(), torch.no_grad():
            bound = [LayerAdapter(layer.A.expand(shape).to(device), layer.B.expand(shape).to(device), 2.0)
                     for layer in adapter]
            stack.to(device)
            weights = sum(weight.numel() for weight in stack.parameters())
            pack(stack)
            assert sum(weight.numel() for weight in stack.parameters()) == weights
            padding = torch.tensor([0, 1]).to(device) if rows > 1 else None
            token = stack.embed_tokens(torch.ones(rows, 1, dtype=torch.long).to(device))
            with operations() as counted:
                stack(token, Cache(config, rows, 4, torch.device(device), dtype), bound, padding)
        return counted.count

    assert cost(3) - cost(2) <= most
