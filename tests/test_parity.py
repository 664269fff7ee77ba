"""Faithful means: what the released code computed on a small model, recomputed here (tests/reference/README.md).

Indices, tokens, tiles and answers are equal; every float32 quantity agrees within 1e-4 of its norm.
"""

from __future__ import annotations

import hashlib
import json
import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from v2l.adapter import Adapter
from v2l.adapter.join import join
from v2l.config import INTERNALIZE, Decoding
from v2l.engine import Engine
from v2l.model.generate import next_logits
from v2l.model.prompt import cut_tiles, in_words, normalize, question_prompt
from v2l.video.clip import open_clip

REFERENCE = Path(__file__).parent / "reference"
GOLDEN: dict[str, Any] = json.loads((REFERENCE / "golden.json").read_text())
CASES = {case["tag"]: case for case in GOLDEN["cases"]}


def distance(found: torch.Tensor | np.ndarray, expected: torch.Tensor) -> float:
    found = torch.as_tensor(found).float().cpu()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "golden.safetensors")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("V2L_CACHE", str(tmp_path_factory.mktemp("cache")))
        engine = Engine(str(REFERENCE / "tiny-vlm"), str(REFERENCE / "hypernetwork.pt"), dtype="float32",
                        device=os.environ.get("V2L_TEST_DEVICE", "cpu"))  # tests/measure/on_gpu.py
        engine.load()
    return engine


@pytest.fixture(scope="module")
def adapters(engine: Engine) -> dict[str, Adapter]:
    """Every case, ingested."""
    return {
        tag: engine.ingest(
            REFERENCE / "videos" / case["video"],
            engine.sampling(frames=case["max_frames"], resolution=case["longest_edge"]),
        )
        for tag, case in CASES.items()
    }


@pytest.mark.parametrize("tag", CASES)
def test_frames_tiles_and_tokens_are_equal(engine: Engine, tag: str, golden: dict[str, torch.Tensor]) -> None:
    case = CASES[tag]
    sampling = engine.sampling(frames=case["max_frames"], resolution=case["longest_edge"])
    clip = open_clip(REFERENCE / "videos" / case["video"], sampling)
    assert (clip.info.frames, clip.info.fps) == (case["total_num_frames"], pytest.approx(case["fps"], rel=1e-9))
    assert clip.indices == case["frame_indices"]

    tiles = np.concatenate([cut_tiles(f.image, case["longest_edge"], engine.base.tile) for f in clip.frames()])
    values = normalize(tiles)
    assert [1, *values.shape] == case["pixel_values_shape"]
    assert hashlib.sha256(values.tobytes()).hexdigest() == case["pixel_values_sha256"]

    seen = engine.see(clip, sampling)
    assert engine.base.encode(seen.prompt(engine.base.image_seq_len)) == case["context_input_ids"]
    assert engine.base.encode(question_prompt(case["question"])) == case["prompt_ids"]


@pytest.mark.parametrize("tag", [tag for tag in CASES if tag in ("short.f12.e64", "clip.f12.e64")])
def test_features_and_perceiver(engine: Engine, tag: str, golden: dict[str, torch.Tensor]) -> None:
    case, base = CASES[tag], engine.base
    sampling = engine.sampling(frames=case["max_frames"], resolution=case["longest_edge"])
    seen = engine.see(open_clip(REFERENCE / "videos" / case["video"], sampling), sampling)
    ids = base.encode(seen.prompt(base.image_seq_len))
    features = [entering.clone() for entering in base.features(base.context(ids, seen.image_tokens))]
    assert distance(torch.cat(features), golden[f"{tag}/context_features"]) < 1e-4
    with torch.inference_mode():
        latents = torch.stack([engine.hypernetwork.perceive(x) for x in features])
    assert distance(latents, golden[f"{tag}/perceiver_out"]) < 1e-4


@pytest.mark.parametrize("tag", CASES)
def test_adapter_logits_and_answer(
    engine: Engine, adapters: dict[str, Adapter], tag: str, golden: dict[str, torch.Tensor]
) -> None:
    case, adapter = CASES[tag], adapters[tag]
    assert adapter.dtype == "float32"
    for name, key in (("A", f"{tag}/A"), ("B", f"{tag}/B"), ("bias_A", "bias/A"), ("bias_B", "bias/B")):
        assert distance(getattr(adapter, name), golden[key]) < 1e-4, name
    bound = engine.bind(adapter)
    assert distance(next_logits(engine.base, bound, case["prompt_ids"]), golden[f"{tag}/logits"]) < 1e-4
    answer = engine.ask(bound, case["question"], Decoding(max_new_tokens=24)).finish()
    assert (answer.ids, answer.text) == (case["answer_ids"], case["answer_text"])
    assert (answer.visual_tokens, answer.prompt_tokens) == (0, len(case["prompt_ids"]))


@pytest.mark.parametrize("composition", GOLDEN["compositions"], ids=lambda c: "+".join(c["members"]))
def test_compositions_in_any_order(
    engine: Engine, adapters: dict[str, Adapter], composition: dict[str, Any], golden: dict[str, torch.Tensor]
) -> None:
    tag = f"compose/{'+'.join(composition['members'])}"
    question = CASES[composition["members"][0]]
    for members in permutations(composition["members"]):
        adapter, _ = join([adapters[m] for m in members])
        bound = engine.bind(adapter)
        assert bound[0].A.shape[0] == composition["combined_rank"]
        assert distance(next_logits(engine.base, bound, question["prompt_ids"]), golden[f"{tag}/logits"]) < 1e-4
        answer = engine.ask(bound, question["question"], Decoding(max_new_tokens=24)).finish()
        assert answer.ids == composition["answer_ids"]


def test_without_an_adapter(engine: Engine, golden: dict[str, torch.Tensor]) -> None:
    found = next_logits(engine.base, None, GOLDEN["cases"][0]["prompt_ids"])
    assert distance(found, golden["no_adapter/logits"]) < 1e-4


@pytest.mark.parametrize("tag", CASES)
def test_direct_baseline(engine: Engine, tag: str) -> None:
    """The reference's baseline left out `Assistant:`; ours has it (v2l/README.md section 7), all else being equal."""
    case = CASES[tag]
    sampling = engine.sampling(frames=case["max_frames"], resolution=case["longest_edge"])
    seen = engine.see(open_clip(REFERENCE / "videos" / case["video"], sampling), sampling)
    base, decoding = engine.base, Decoding(max_new_tokens=12)
    bare = engine.direct(seen, case["question"], decoding=decoding, generate=False).finish()
    assert (bare.prompt_tokens, bare.ids) == (case["direct_prompt_tokens"], case["direct_answer_ids"])
    full = engine.direct(seen, case["question"], decoding=decoding).finish()
    assert full.prompt_tokens == bare.prompt_tokens + len(base.encode("Assistant:"))
    cached = engine.direct_cached(seen, engine.prefix(seen, room=64), case["question"], decoding).finish()
    assert (cached.ids, cached.prompt_tokens) == (full.ids, full.prompt_tokens)


def test_numbers_in_words() -> None:
    num2words = pytest.importorskip("num2words").num2words
    assert [in_words(n) for n in range(5000)] == [num2words(n) for n in range(5000)]
    assert GOLDEN["internalization_prompt"] == INTERNALIZE
