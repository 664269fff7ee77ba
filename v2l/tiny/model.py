"""The embedded model's architecture, its tokenizer, and a batched forward pass for training and evaluation.

The base is transformers' `SmolVLMForConditionalGeneration`, so an export is exact. Training runs its parameters through
the functions below instead of its own forward: one packed sequence a clip, where many questions share one run over the
video, and an adapter for each clip in the batch. Both ways agree (tests/test_tiny_world.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GenerationConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from v2l.config import HypernetConfig
from v2l.hypernetwork import Hypernetwork
from v2l.prompt import in_words
from v2l.tiny.questions import corpus

TILE, SEQ_LEN = 64, 4
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<global-img>",
           "<end_of_utterance>", *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)))
# Fixed pieces of every prompt, one token each: a frame then costs ten tokens or so.
PIECES = ("User:", "\nAssistant:", "\n\n", "\nFrame from 00:", "\nFrame from 01:", "\nFrame from 02:", "\nFrame from ",
          "You are provided the following series of", " frames from a", " [H:MM:SS] video.\n",
          "Internalize this video for later captioning.")
PAD, START, IMAGE, END = 2, 1, 4, 6


def build_tokenizer() -> Tokenizer:
    """Byte-level BPE: any text encodes, and every word of the world is one token."""
    tokenizer = Tokenizer(models.BPE())
    # A word has one token, first in a line or not: the space before it is added where it lacks.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    counts = [in_words(n) for n in range(1, 13)]
    digits = [f" {d}:" for d in "0123456789"]
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, show_progress=False, special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([*corpus(), *(f" {c}" for c in counts), *digits], trainer)
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in PIECES])
    return tokenizer


def base_config(vocabulary: int) -> SmolVLMConfig:
    return SmolVLMConfig(
        image_token_id=IMAGE, scale_factor=4, pad_token_id=PAD, tie_word_embeddings=False, use_cache=True,
        text_config=dict(
            model_type="llama", hidden_size=160, num_hidden_layers=6, num_attention_heads=5, num_key_value_heads=5,
            head_dim=32, intermediate_size=480, vocab_size=vocabulary, max_position_embeddings=8192,
            rope_theta=10000.0, rms_norm_eps=1e-5, hidden_act="silu", attention_bias=False, mlp_bias=False,
            bos_token_id=START, eos_token_id=END, pad_token_id=PAD, tie_word_embeddings=False, use_cache=True,
            initializer_range=0.04),
        vision_config=dict(
            hidden_size=96, num_hidden_layers=3, num_attention_heads=3, intermediate_size=256, image_size=TILE,
            patch_size=8, num_channels=3, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
            initializer_range=0.04),
    )


def hypernet_config(config: SmolVLMConfig) -> HypernetConfig:
    text = config.text_config
    return HypernetConfig(
        num_layers=text.num_hidden_layers, hidden_size=text.hidden_size, d_in=text.intermediate_size,
        d_out=text.hidden_size, rank=16, latent_size=128, num_queries=8, num_blocks=3, num_heads=8, num_kv_heads=4,
        head_dim=32, base="v2l/tiny")


# --- the forward pass ------------------------------------------------------------------------------------------------


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q [b, h, s, d], k, v [b, h, t, d], additive mask [b, 1, s, t] -> [b, s, h*d]; trains faster than fused."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.add_(mask)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _heads(x: Tensor, size: int) -> Tensor:
    return x.unflatten(-1, (-1, size)).transpose(1, 2)


def see(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [n, 3, 64, 64] in -1..1 -> patches [n, 64, vision width], image tokens [n, 4, text width]."""
    vision = model.model.vision_model
    size = vision.config.hidden_size // vision.config.num_attention_heads
    weight, bias = vision.embeddings.patch_embedding.weight, vision.embeddings.patch_embedding.bias
    patch = vision.patch_size
    n, side = len(pixels), pixels.shape[-1] // patch
    # The patch convolution as one matrix product.
    x = pixels.unflatten(3, (side, patch)).unflatten(2, (side, patch)).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(n, side * side, -1)
    x = F.linear(x, weight.flatten(1), bias) + vision.embeddings.position_embedding.weight
    for layer in vision.encoder.layers:
        h, attn = layer.layer_norm1(x), layer.self_attn
        pooled = _attend(_heads(attn.q_proj(h), size), _heads(attn.k_proj(h), size), _heads(attn.v_proj(h), size), None)
        x = x + attn.out_proj(pooled)
        x = x + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(x)), approximate="tanh"))
    patches = vision.post_layernorm(x)
    return patches, model.model.connector(patches)


def rope(config: SmolVLMConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [b, 1, s, head size] for positions [b, s]."""
    text = config.text_config
    theta = text.rope_parameters["rope_theta"]
    inverse = theta ** (-torch.arange(0, text.head_dim, 2, device=positions.device).float() / text.head_dim)
    angles = (positions[:, None, :, None].float() * inverse).repeat(1, 1, 1, 2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def think(
    model: nn.Module, x: Tensor, positions: Tensor, mask: Tensor,
    adapters: list[tuple[Tensor, Tensor]] | None = None, keep: list[Tensor] | None = None, layers: int | None = None,
) -> Tensor:
    """The decoder over embeddings x [b, s, width] -> hidden states [b, s, width] before the final norm.

    mask [b, 1, s, s] is additive. `adapters` holds for each layer (A [b, r, d_in], scale * B [b, r, d_out]);
    `keep` collects what enters each layer; `layers` stops early.
    """
    text = model.model.text_model
    eps, size = text.config.rms_norm_eps, text.config.head_dim
    cos, sin = rope(model.config, positions, x.dtype)
    for index, layer in enumerate(text.layers[:layers]):
        if keep is not None:
            keep.append(x)
        h, attn = norm(x, layer.input_layernorm.weight, eps), layer.self_attn
        q, k = _heads(attn.q_proj(h), size), _heads(attn.k_proj(h), size)
        pooled = _attend(rotate(q, cos, sin), rotate(k, cos, sin), _heads(attn.v_proj(h), size), mask)
        x = x + attn.o_proj(pooled)
        h = norm(x, layer.post_attention_layernorm.weight, eps)
        h = F.silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h)
        x = x + layer.mlp.down_proj(h)
        if adapters is not None:
            A, B = adapters[index]
            x = x + (h @ A.transpose(1, 2)) @ B
    return x


def embed(model: nn.Module, ids: Tensor, image_tokens: Tensor | None = None) -> Tensor:
    """Token embeddings [b, s, width], image tokens [n, 4, width] put in their places in order."""
    x = F.embedding(ids, model.model.text_model.embed_tokens.weight)
    if image_tokens is not None:
        x = x.masked_scatter((ids == IMAGE)[..., None], image_tokens.to(x.dtype))
    return x


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    text = model.model.text_model
    return model.lm_head(norm(hidden, text.norm.weight, text.config.rms_norm_eps))


# --- files -----------------------------------------------------------------------------------------------------------


def save_base(model: SmolVLMForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """A Hugging Face folder in bfloat16 that transformers loads as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    half = SmolVLMForConditionalGeneration(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(bos_token_id=START, eos_token_id=END, pad_token_id=PAD)
    half.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    token = lambda content: dict(content=content, lstrip=False, normalized=False, rstrip=False, single_word=False)
    write = lambda name, value: (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    write("tokenizer_config.json", dict(
        added_tokens_decoder={str(i): token(t) | {"special": True} for i, t in enumerate(SPECIAL)}
        | {str(tokenizer.token_to_id(t)): token(t) | {"special": False} for t in PIECES},
        additional_special_tokens=["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"],
        bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False, extra_special_tokens={}, model_input_names=["input_ids", "attention_mask"],
        model_max_length=8192, processor_class="SmolVLMProcessor", tokenizer_class="PreTrainedTokenizer"))
    write("preprocessor_config.json", dict(
        do_convert_rgb=True, do_image_splitting=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="SmolVLMImageProcessor",
        max_image_size={"longest_edge": TILE}, processor_class="SmolVLMProcessor", resample=1, rescale_factor=1 / 255,
        size={"longest_edge": TILE},
        video_sampling={"fps": 1, "max_frames": 12, "video_size": {"longest_edge": TILE}}))
    write("processor_config.json", dict(image_seq_len=SEQ_LEN, processor_class="SmolVLMProcessor"))


def load_base(
    folder: Path, dtype: torch.dtype, device: str = "cpu"
) -> tuple[SmolVLMForConditionalGeneration, Tokenizer]:
    model = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    return model.to(device).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def save_hypernetwork(hyper: Hypernetwork, folder: Path) -> None:
    """`hypernetwork.safetensors` in bfloat16 and `hypernetwork.json`, its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.to(torch.bfloat16).contiguous() for name, value in hyper.state_dict().items()},
              folder / "hypernetwork.safetensors")
    (folder / "hypernetwork.safetensors").chmod(0o644)
    (folder / "hypernetwork.json").write_text(json.dumps(asdict(hyper.config), indent=2) + "\n")


def load_hypernetwork(folder: Path, device: str = "cpu") -> Hypernetwork:
    hyper = Hypernetwork(HypernetConfig(**json.loads((folder / "hypernetwork.json").read_text())))
    hyper.load_state_dict({k: v.float() for k, v in load_file(folder / "hypernetwork.safetensors").items()})
    return hyper.to(device).eval()
