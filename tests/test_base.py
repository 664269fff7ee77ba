"""Bases of other shapes and files than the reference's, against transformers' own model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from v2l.model.base import Base
from v2l.model.folder import check_base
from v2l.model.generate import next_logits
from v2l.model.prompt import context_prompt, normalize

TEXT = dict(model_type="llama", vocab_size=480, rms_norm_eps=1e-5, initializer_range=0.2, pad_token_id=2)
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, initializer_range=0.2)
CASES: dict[str, dict[str, Any]] = {
    "shards, bfloat16, wide heads": dict(
        dtype=torch.bfloat16, shard="60KB", scale_factor=2, tied=False,
        text=dict(hidden_size=60, intermediate_size=96, num_hidden_layers=3, num_attention_heads=15,
                  num_key_value_heads=5, head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 1e5}),
        vision=dict(image_size=64, patch_size=8, num_attention_heads=4)),
    "float16, tied": dict(
        dtype=torch.float16, shard="1GB", scale_factor=4, tied=True,
        text=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4),
        vision=dict(image_size=96, patch_size=12, num_attention_heads=2)),
    "27 patches an edge, as the 2.2B has": dict(
        dtype=torch.float32, shard="1GB", scale_factor=3, tied=False,
        text=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4),
        vision=dict(image_size=110, patch_size=4, num_attention_heads=2)),
}


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_agrees_with_transformers(name: str, reference: Path, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    config = SmolVLMConfig(text_config=TEXT | case["text"] | {"tie_word_embeddings": case["tied"]}, image_token_id=4,
                           vision_config=VISION | case["vision"], scale_factor=case["scale_factor"],
                           tie_word_embeddings=case["tied"])
    theirs = SmolVLMForConditionalGeneration(config).to(case["dtype"]).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=case["shard"])
    shutil.copy(reference / "tiny-vlm" / "tokenizer.json", tmp_path)
    assert ((tmp_path / "model.safetensors.index.json").exists()) == name.startswith("shards")
    theirs = SmolVLMForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()

    check_base(tmp_path)
    base = Base(tmp_path, torch.device("cpu"), torch.float32)
    size = case["vision"]["image_size"]
    per_edge = size // case["vision"]["patch_size"] // case["scale_factor"]
    assert (base.tile, base.image_seq_len) == (size, per_edge**2)
    tiles = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    ids = base.encode(context_prompt([0, 1, 2], [(1, 1)] * 3, 3, base.image_seq_len))
    expected = theirs(input_ids=torch.tensor([ids]), pixel_values=torch.from_numpy(normalize(tiles))[None],
                      output_hidden_states=True)
    features = base.features(base.context(ids, base.see([tiles])))
    for found, right in zip(features, expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4 * float(right.abs().max()))

    words = base.encode("<|im_start|>User: What?<end_of_utterance>\nAssistant:")
    logits = theirs(input_ids=torch.tensor([words])).logits[0, -1]
    torch.testing.assert_close(next_logits(base, None, words), logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] == case["tied"]
