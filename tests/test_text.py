"""The text stack against transformers' own model, on shapes the reference does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from v2l.errors import ModelError
from v2l.model.config import TextConfig
from v2l.model.text import Cache, LayerAdapter, TextStack
from v2l.model.weights import fingerprint, load_into, text_name

SHAPES = [
    dict(
        hidden_size=60,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=15,
        num_key_value_heads=5,
        head_dim=8,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    ),
    dict(hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4),
    dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
]


@pytest.fixture(params=range(len(SHAPES)))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LlamaForCausalLM, TextStack]:
    """The same random weights in transformers' model and, through a file, in ours."""
    torch.manual_seed(request.param)
    theirs = LlamaForCausalLM(
        LlamaConfig(vocab_size=100, rms_norm_eps=1e-5, initializer_range=0.3, **SHAPES[request.param])
    ).eval()
    text = json.loads(theirs.config.to_json_string(use_diff=False))
    config = TextConfig.from_json({"text_config": text, "tie_word_embeddings": text["tie_word_embeddings"]})
    state = {k.replace("model.", "model.text_model.", 1): v.contiguous() for k, v in theirs.state_dict().items()}
    if config.tied:
        del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with torch.device("meta"):
        ours = TextStack(config)
    load_into(
        ours,
        tmp_path,
        text_name,
        torch.device("cpu"),
        torch.float32,
        {"lm_head.weight": "embed_tokens.weight"} if config.tied else None,
    )
    return theirs, ours


def cache(stack: TextStack, rows: int = 1) -> Cache:
    return Cache(stack.config, rows, 64, torch.device("cpu"), torch.float32)


@torch.inference_mode()
def test_agrees_with_transformers_at_once_and_token_by_token(pair: tuple[LlamaForCausalLM, TextStack]) -> None:
    theirs, ours = pair
    ids = torch.randint(0, 100, (1, 20))
    expected = theirs(ids).logits[0]
    torch.testing.assert_close(ours(ours.embed_tokens(ids), cache(ours))[0], expected[-1], rtol=1e-4, atol=1e-4)
    stepped = cache(ours)
    for start, end in ((0, 7), (7, 8), (8, 15), (15, 16), (16, 20)):
        logits = ours(ours.embed_tokens(ids[:, start:end]), stepped)[0]
        torch.testing.assert_close(logits, expected[end - 1], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_rows_of_a_batch_do_not_see_each_other(pair: tuple[LlamaForCausalLM, TextStack]) -> None:
    """Left-padded rows, each with an adapter of its own, equal the same rows alone."""
    _, ours = pair
    c, lengths = ours.config, [9, 4, 12]
    rows = [torch.randint(0, 100, (1, n)) for n in lengths]
    A = torch.randn(c.num_layers, 3, 2, c.intermediate_size) * 0.1
    B = torch.randn(c.num_layers, 3, 2, c.hidden_size) * 0.1
    padding = torch.tensor([12 - n for n in lengths])
    batch = torch.cat([torch.nn.functional.pad(r, (12 - r.shape[1], 0)) for r in rows])
    together, more = cache(ours, 3), torch.randint(0, 100, (3, 1))
    layers = [LayerAdapter(A[i], B[i], 2.0) for i in range(c.num_layers)]
    found = [
        ours(ours.embed_tokens(batch), together, layers, padding),
        ours(ours.embed_tokens(more), together, layers, padding),
    ]
    for row, ids in enumerate(rows):
        alone, own = cache(ours), [LayerAdapter(A[i, row], B[i, row], 2.0) for i in range(c.num_layers)]
        for step, tokens in enumerate((ids, more[row : row + 1])):
            torch.testing.assert_close(
                found[step][row], ours(ours.embed_tokens(tokens), alone, own)[0], rtol=1e-4, atol=1e-4
            )


@torch.inference_mode()
def test_an_adapter_is_a_change_of_the_weight(pair: tuple[LlamaForCausalLM, TextStack]) -> None:
    theirs, ours = pair
    c, ids = ours.config, torch.randint(0, 100, (1, 11))
    layers = [
        LayerAdapter(torch.randn(3, c.intermediate_size) * 0.1, torch.randn(3, c.hidden_size) * 0.1, 4.0)
        for _ in range(c.num_layers)
    ]
    found = ours(ours.embed_tokens(ids), cache(ours), layers)[0]
    for layer, adapter in zip(theirs.model.layers, layers, strict=True):
        layer.mlp.down_proj.weight.data += adapter.scale * adapter.B.T @ adapter.A
    torch.testing.assert_close(found, theirs(ids).logits[0, -1], rtol=1e-3, atol=1e-3)


def test_what_is_not_supported_is_refused() -> None:
    for odd in ({"attention_bias": True}, {"hidden_act": "gelu"}, {"rope_scaling": {"rope_type": "llama3"}}):
        with pytest.raises(ModelError, match="does not support"):
            TextConfig.from_json({"text_config": odd})


def test_fingerprint_tells_bases_apart(tmp_path: Path) -> None:
    weights = {"model.text_model.norm.weight": torch.randn(5000), "model.vision_model.x": torch.randn(3)}
    prints = []
    for name, change in (
        ("a", {}),
        ("b", {}),
        ("vision", {"model.vision_model.x": torch.zeros(3)}),
        ("text", {"model.text_model.norm.weight": torch.randn(5000)}),
    ):
        (tmp_path / name).mkdir()
        save_file(weights | change, tmp_path / name / "model.safetensors")
        prints.append(fingerprint(tmp_path / name))
    same, again, vision, text = prints
    assert same == again == vision != text
