"""The fast ways of computing against the plain ones: packed layers, attention in blocks, contexts in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.config import HypernetConfig
from v2l.engine import Engine
from v2l.model import attention, base, hypernetwork, packed, text
from v2l.model.config import VisionConfig
from v2l.model.packed import Packable, PackedLinear, pack, packs
from v2l.model.text import LayerAdapter
from v2l.model.vision import Embeddings
from v2l.video.clip import open_clip

CPU = torch.device("cpu")
needs_packing = pytest.mark.skipif(not packs(CPU, torch.bfloat16), reason="nothing is packed on this kind of machine")


def close(found: Tensor, right: Tensor, tolerance: float) -> None:
    assert found.shape == right.shape
    assert float((found.float() - right.float()).norm()) <= tolerance * float(right.float().norm())


@needs_packing
@pytest.mark.parametrize("activation, function", [
    (None, lambda y: y), ("silu", F.silu), ("gelu_tanh", lambda y: F.gelu(y, approximate="tanh"))])
@pytest.mark.parametrize("rows", [1, 14, 300])
@torch.inference_mode()
def test_packed_layers(activation: str | None, function, rows: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(64, out, bias=True, dtype=torch.bfloat16) for out in (96, 32)]
    x = torch.randn(2, rows, 64, dtype=torch.bfloat16)
    right = torch.cat([function(layer.float()(x.float())) for layer in layers], -1)
    close(PackedLinear([layer.bfloat16() for layer in layers], activation)(x), right, 4e-3)


class Doubled(Packable):
    """Packs its layer in a way of its own, which must not happen twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner: nn.Module = nn.Linear(8, 8, dtype=torch.bfloat16)
        self.times = 0

    def pack(self) -> None:
        self.inner, self.times = PackedLinear([self.inner], "silu"), self.times + 1


@needs_packing
def test_all_of_a_module_is_packed_once_and_nothing_of_another_dtype() -> None:
    module = nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16), Doubled())
    pack(module)
    pack(module)
    assert isinstance(module[0], PackedLinear) and isinstance(module[1].inner, PackedLinear) and module[1].times == 1
    plain = nn.Sequential(nn.Linear(8, 8))
    pack(plain)
    assert type(plain[0]) is nn.Linear


def by_hand(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    group, t, s = q.shape[1] // k.shape[1], q.shape[2], k.shape[2]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.arange(s)[None] > torch.arange(s - t, s)[:, None], -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("has", [(), ("avx512_bf16",), ("avx512_bf16", "amx_bf16")])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("batch, heads, kv_heads, t, s, causal", [
    (1, 6, 2, 200, 200, True), (1, 6, 2, 130, 333, True), (2, 4, 4, 257, 257, False), (1, 3, 1, 1, 77, True),
    (1, 4, 2, 5, 5, True), (1, 4, 2, 5, 9, True), (1, 2, 1, 64, 500, True)])
def test_attention(has: tuple[str, ...], dtype: torch.dtype, tolerance: float, batch: int, heads: int, kv_heads: int,
                   t: int, s: int, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "cpu_has", lambda feature: feature in has)
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, n, tokens, 16, dtype=dtype) for n, tokens in ((heads, t), (kv_heads, s),
                                                                             (kv_heads, s)))
    for at_once in (1 << 21, 20_000):  # the second one splits heads and rows, with remainders
        monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
        monkeypatch.setattr(attention, "MASK_AT_ONCE", at_once)
        close(attention.attend(q, k, v, causal=causal), by_hand(q, k, v, causal), tolerance)


@torch.inference_mode()
def test_a_context_is_not_copied_for_each_block_that_reads_it() -> None:
    block = hypernetwork.Block(HypernetConfig(2, 64, 64, 64)).bfloat16()
    x, context = torch.randn(1, 8, 512).bfloat16(), torch.randn(1, 300, 512).bfloat16()
    with torch.autograd.profiler.profile(record_shapes=True) as seen:  # what products copy within shows nowhere else
        block(x, context, None)
    copied = [event.input_shapes[0] for event in seen.function_events if event.name == "aten::copy_"]
    assert [1, 128, 308] in copied and [1, 512, 300] not in copied and [1, 300, 512] not in copied


@torch.no_grad()
def test_patches_lie_in_memory_as_the_norms_of_the_layers_want_them() -> None:
    embeddings = Embeddings(VisionConfig(32, 64, 1, 2, 64, 16, 1e-6, 2))
    assert embeddings(torch.rand(3, 3, 64, 64)).is_contiguous()


def test_chunks_change_nothing_beyond_rounding(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(dtype: str) -> list[Tensor]:
        engine = Engine(str(reference / "tiny-vlm"), str(reference / "hypernetwork.pt"), device="cpu", dtype=dtype)
        sampling = engine.sampling(resolution=128)
        seen = engine.see(open_clip(reference / "videos" / "clip.mp4", sampling), sampling)
        ids, prompt = (engine.base.encode(seen.prompt(engine.base.image_seq_len, *words))
                       for words in ((), ("What?", True)))
        assert len(ids) > 200
        cache = text.Cache(engine.base.text_config, 1, len(prompt), engine.device, engine.dtype)
        with torch.inference_mode():
            logits = engine.base.text(engine.base.embed(prompt, seen.image_tokens), cache)
        return [*engine.internalize(engine.base.context(ids, seen.image_tokens)), logits]

    exact, rounded = everything("float32"), everything("bfloat16")
    for room, size in ((base, 100), (text, 100), (hypernetwork, 77)):
        monkeypatch.setattr(room, "CHUNK", size)
    for found, right in zip(everything("float32"), exact, strict=True):
        close(found, right, 1e-5)
    for found, whole, right in zip(everything("bfloat16"), rounded, exact, strict=True):
        assert float((found - right).norm()) < 1.5 * float((whole - right).norm())


@torch.inference_mode()
def test_the_product_of_an_adapters_factors_takes_their_place_when_it_pays() -> None:
    torch.manual_seed(0)
    low = LayerAdapter(torch.randn(4, 24), torch.randn(4, 16), 2.0)
    high = LayerAdapter(torch.randn(40, 24), torch.randn(40, 16), 2.0)
    rows = LayerAdapter(torch.randn(3, 40, 24), torch.randn(3, 40, 16), 2.0)
    x = torch.randn(3, 5, 24)
    for adapter in (low, high, rows):
        right = 2.0 * (x.double() @ adapter.A.double().mT) @ adapter.B.double()
        for _ in range(20):
            close(adapter.delta(x), right, 1e-6)
    assert (low.product, rows.product) == (None, None) and high.product is not None


def test_the_packed_module_is_the_one_that_runs() -> None:
    engine = Engine("tiny", device="cpu", dtype="bfloat16")
    assert packed.packs(CPU, torch.bfloat16) == any(isinstance(m, PackedLinear) for m in engine.base.text.modules())
    assert packed.packs(CPU, torch.bfloat16) == any(isinstance(m, PackedLinear) for m in engine.base.vision.modules())
    assert not any(isinstance(m, PackedLinear) for m in Engine("tiny", dtype="float32").base.text.modules())
