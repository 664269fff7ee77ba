"""GPUs that nobody here has: what a pretended one computes, what watching holds in memory, and which one is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import bias

from tests.support.cli import run
from tests.support.memory import gigabytes_of_training, gigabytes_of_watching
from tests.support.pretend import Pretended, pretended
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.errors import DeviceWarning, ModelError, UsageError, is_memory
from v2l.model import attention, generate, text
from v2l.model import base as base_module
from v2l.model.attention import attend
from v2l.model.base import choose_device, choose_dtype
from v2l.model.batch import ask_batch
from v2l.model.generate import bind
from v2l.train.loop import random_states, restore_random
from v2l.train.run import train
from v2l.video.clip import open_clip

# -- what is computed ------------------------------------------------------------------------------------------------


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Devices on which torch's own attention was called."""
    called: list[str] = []
    real = F.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        called.append(q.device.type)
        return real(q, k, v, attn_mask=None if attn_mask is None else attn_mask.to(q.device), **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    # torch cannot make its own within a dispatch mode; this is what it documents to be the same.
    monkeypatch.setattr(bias, "causal_lower_right",
                        lambda t, s: torch.ones(t, s, dtype=torch.bool, device="cpu").tril(s - t))
    monkeypatch.setattr(attention, "has_flash", lambda device, dtype: dtype != torch.float32)
    return called


def everything(engine: Engine, video: Path) -> tuple[list[Tensor], list[str]]:
    """A and B of a clip, and the answers of every way of asking."""
    decoding, sampling = Decoding(5), engine.sampling(frames=4, resolution=64)
    clip = open_clip(video, sampling)
    seen = engine.see(clip, sampling)
    adapter = engine.ingest_seen(clip, seen, sampling)
    texts = [engine.ask(adapter, "What?", decoding).text]
    texts += [a.text for a in engine.ask_batch([(adapter, "What?"), (None, "Who is it?"), (adapter, "Why?")], decoding)]
    prefix = engine.prefix(seen, 60)
    texts.append(engine.direct_cached(seen, prefix, "What comes after the ball?", decoding).text)
    texts += [a.text for a in engine.direct_batch(seen, prefix, ["What?", "Why is that so?"], decoding)]
    return [torch.from_numpy(adapter.float32()[name]) for name in "AB"], texts


@pytest.mark.parametrize("device, forbidden", [("cuda:0", ()), ("mps:0", (torch.float64, torch.bfloat16))])
def test_a_gpu_computes_what_a_cpu_does(device: str, forbidden: tuple[torch.dtype, ...], reference: Path,
                                        kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for room, name, size in ((base_module, "CHUNK", 60), (text, "CHUNK", 60), (attention, "SCORES_ON_GPU", 9000)):
        monkeypatch.setattr(room, name, size)
    make = lambda where: Engine(str(reference / "tiny-vlm"), str(reference / "hypernetwork.pt"), device=where,
                                dtype="float32")
    clip = reference / "videos" / "clip.mp4"
    right, answers = everything(make("cpu"), clip)
    with pretended(device, forbidden) as gpu:
        engine = make(device)
        found, said = everything(engine, clip)
        assert all(isinstance(weight.data, Pretended) for weight in engine.base.text.parameters())
    assert said == answers
    for one, other in zip(found, right, strict=True):
        assert float((one - other).norm()) < 1e-5 * float(other.norm())
    assert gpu.called["aten::bmm"] and not gpu.called["aten::convolution"]  # cuDNN's is not float32
    assert "mps" not in kernels  # where torch's attention is wrong in several versions


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_token_waits_for_a_gpu_once(temperature: float, reference: Path, kernels: list[str]) -> None:
    """And one copy is sent for it: what the rows said last, with their paddings."""
    def cost(tokens: int) -> list[tuple[int, int]]:
        decoding, before = Decoding(tokens, temperature=temperature), (gpu.waits, gpu.sent)
        adapter, questions = bind(right, engine.base.device), ["What?", "Who is it?"]
        assert len(generate.ask(engine.base, adapter, questions[0], decoding).finish().ids) == tokens
        between = gpu.waits, gpu.sent
        rows = [(adapter, question) for question in questions]
        assert [len(answer.ids) for answer in ask_batch(engine.base, rows, decoding)] == [tokens] * 2
        after = gpu.waits, gpu.sent
        return [(b[0] - a[0], b[1] - a[1]) for a, b in ((before, between), (between, after))]

    make = lambda where: Engine(str(reference / "tiny-vlm"), str(reference / "hypernetwork.pt"), device=where,
                                dtype="float32")
    right = make("cpu").ingest(reference / "videos" / "clip.mp4")
    with pretended("cuda:0") as gpu:
        engine = make("cuda:0")
        cost(1)  # loads the weights
        some, more = cost(2), cost(5)
    assert [(b[0] - a[0], b[1] - a[1]) for a, b in zip(some, more, strict=True)] == [(3, 3), (3, 3)]


@pytest.mark.parametrize("device", ["cuda:0", "mps:0"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float16, 2e-3)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads, kv_heads, t, s, causal", [
    (6, 2, 70, 70, True), (6, 2, 70, 150, True), (4, 4, 70, 70, False), (3, 1, 1, 77, True), (4, 4, 5, 9, True)])
def test_attention_on_a_gpu(device: str, dtype: torch.dtype, tolerance: float, masked: bool, heads: int, kv_heads: int,
                            t: int, s: int, causal: bool, kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_ON_GPU", 7000)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, tokens, 16) for n, tokens in ((heads, t), (kv_heads, s), (kv_heads, s)))
    mask = torch.ones(2, 1, t, s, dtype=torch.bool).tril(s - t) if masked else None
    if mask is not None:
        mask[1, :, :, : s - t] = False
    right = attend(q, k, v, mask, causal)
    for training in (False, True):
        if training and dtype != torch.float32:
            continue
        with pretended(device), torch.set_grad_enabled(training):
            there = [x.to(device, dtype).requires_grad_(training) for x in (q, k, v)]
            found = attend(*there, None if mask is None else mask.to(device), causal).detach().cpu().float()
        assert float((found - right).norm()) < tolerance * float(right.norm())
    assert "mps" not in kernels


@torch.inference_mode()
def test_torchs_lower_right_mask_is_the_causal_one() -> None:
    q, k, v = (torch.randn(1, heads, length, 16) for heads, length in ((6, 7), (2, 11), (2, 11)))
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.causal_lower_right(7, 11), enable_gqa=True)
    torch.testing.assert_close(masked, attend(q, k, v, causal=True))


# -- what is held in memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model, tokens, dtype, limit", [
    ("500m", 78_898, torch.float32, 8), ("500m", 78_898, torch.float16, 8), ("500m", 78_898, torch.bfloat16, 8),
    ("500m", 351_282, torch.bfloat16, 8), ("2.2b", 608_306, torch.bfloat16, 16)])
def test_watching_a_thousand_frames_fits(model: str, tokens: int, dtype: torch.dtype, limit: float) -> None:
    """1,024 frames at 384 and at 1024 pixels. A GPU's own context and what its allocator cannot use come to it."""
    assert gigabytes_of_watching(model, tokens, dtype) < limit - 1


def test_checkpointing_keeps_nothing_of_the_hypernetwork_but_what_it_reads() -> None:
    kept, again = (gigabytes_of_training("500m", 8, 12, checkpointing, layers=2) for checkpointing in (False, True))
    assert kept - again > 0.8  # what reading one layer holds, which before was held of both


# -- float16 ---------------------------------------------------------------------------------------------------------


def test_float16_watches_and_answers_as_float32_does() -> None:
    exact, half = (Engine("tiny", device="cpu", dtype=dtype, offline=True) for dtype in ("float32", "float16"))
    video = Path(__file__).parent.parent / "examples" / "three-shapes.mp4"
    right, rough = exact.ingest(video), half.ingest(video)
    for name in "AB":
        one, other = (torch.from_numpy(adapter.float32()[name]) for adapter in (rough, right))
        assert float((one - other).norm()) < 0.01 * float(other.norm())
    questions = ["What comes after the yellow star?", "What comes before the yellow star?", "Is there a red square?"]
    assert [half.ask(rough, q).text for q in questions] == [exact.ask(right, q).text for q in questions]


@pytest.mark.parametrize("capability, asking, training", [
    ((6, 1), torch.float32, torch.float32), ((7, 0), torch.float16, torch.float32),
    ((7, 5), torch.float16, torch.float32), ((9, 0), torch.bfloat16, torch.bfloat16)])
def test_auto_is_what_a_gpu_multiplies_fast(capability: tuple[int, int], asking: torch.dtype, training: torch.dtype,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda = torch.device("cuda")
    assert (choose_dtype("auto", cuda, float16=True), choose_dtype("auto", cuda)) == (asking, training)


@pytest.mark.parametrize("onednn, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_an_arm_cpu_without_onednn_as_under_macos_is_slow_in_bfloat16(onednn: bool, dtype: torch.dtype,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "cpu_has", lambda feature: feature == "bf16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert choose_dtype("auto", torch.device("cpu")) == dtype


@pytest.mark.parametrize("device", ["cuda:1", "mps:0", "cpu"])
def test_a_training_keeps_the_random_numbers_of_its_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {name: torch.tensor([i], dtype=torch.uint8) for i, name in enumerate(["cuda:0", "cuda:1", "mps"])}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda:0": states[str(device)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda:0": states.update({str(device): state}))
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: states.update(mps=state))
    where, first = torch.device(device), dict(states)
    torch.manual_seed(5)
    saved = random_states(where)
    drawn = torch.rand(3)
    states.update({name: state + 100 for name, state in states.items()})
    restore_random(saved, where)
    assert torch.equal(torch.rand(3), drawn)
    assert [name for name in states if states[name] is first[name]] == [n for n in states if device.startswith(n)]
    restore_random({"random": saved["random"], "random_cuda": None}, where)  # as 0.4.0 wrote it where no GPU was


def test_training_refuses_float16(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^Training computes in float32 or bfloat16, not float16\.$"):
        train([], tmp_path / "out", dtype="float16")


# -- which device, and when its memory is full -----------------------------------------------------------------------


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that torch sees, and has no kernels for."""
    real = torch.ones

    def ones(*size: int, device: Any = None, **options: Any) -> Tensor:
        if device is not None and torch.device(device).type == "cuda":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore of it")
        return real(*size, device=device, **options)

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch, "empty", lambda *size, real=torch.empty, device=None, **options: real(
        *size, device="cpu" if str(device).startswith("cuda") else device, **options))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_gpu_without_kernels_is_told_and_the_cpu_computes(old_gpu: None) -> None:
    with pytest.warns(DeviceWarning, match=r"GPU cannot be used \(CUDA error: no kernel image .* the device\).*cu126$"):
        assert choose_device(None) == torch.device("cpu")
    with pytest.raises(ModelError, match=r"'cuda' cannot be used here \(CUDA error: no kernel image .* --device cpu"):
        choose_device("cuda")


def test_the_command_line_tells_of_it_too(old_gpu: None, tmp_path: Path) -> None:
    video = Path(__file__).parent.parent / "examples" / "one-shape.mp4"
    told = run("ingest", video, "--frames", "2", "-o", tmp_path / "a.v2lora").stderr
    assert "Note: The GPU cannot be used (CUDA error: no kernel image" in told and (tmp_path / "a.v2lora").exists()


@pytest.mark.parametrize("words", [
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)",
    "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "Invalid buffer size: 14.65 GiB", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"])
def test_every_wording_of_memory_that_does_not_suffice(words: str) -> None:
    assert is_memory(RuntimeError(words)) and not is_memory(RuntimeError("no kernel image")) and not is_memory(
        ValueError(words))
