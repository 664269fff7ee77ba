"""The embedded model's architecture, its tokenizer and its files.

The base is transformers' `SmolVLMForConditionalGeneration`, so an export is exact. Training runs its parameters through
the product's own modules: one packed sequence a clip, where many questions share one run over the video, and an adapter
for each clip in the batch. Both ways agree (tests/test_tiny_world.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from v2l.config import HypernetConfig
from v2l.model.config import TextConfig, VisionConfig
from v2l.model.hypernetwork import Hypernetwork
from v2l.model.prompt import in_words
from v2l.model.text import TextStack
from v2l.model.vision import Vision
from v2l.model.weights import text_name, vision_name
from v2l.tiny.questions import corpus
from v2l.train.network import Network

TILE, SEQ_LEN = 64, 4
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<global-img>",
           "<end_of_utterance>", *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)))
# Fixed pieces of every prompt, one token each: a frame then costs ten tokens or so.
PIECES = ("User:", "\nAssistant:", "\n\n", *(f"\nFrame from {minute:02}:" for minute in range(20)), "\nFrame from ",
          "You are provided the following series of", " frames from a", " [H:MM:SS] video.\n",
          "Internalize this video for later captioning.")
PAD, START, IMAGE, END_ID = 2, 1, 4, 6


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
            model_type="llama", hidden_size=192, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
            head_dim=32, intermediate_size=576, vocab_size=vocabulary, max_position_embeddings=65536,
            rope_theta=10000.0, rms_norm_eps=1e-5, hidden_act="silu", attention_bias=False, mlp_bias=False,
            bos_token_id=START, eos_token_id=END_ID, pad_token_id=PAD, tie_word_embeddings=False, use_cache=True,
            initializer_range=0.04),
        vision_config=dict(
            hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=384, image_size=TILE,
            patch_size=8, num_channels=3, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
            initializer_range=0.04),
    )


def hypernet_config(config: SmolVLMConfig) -> HypernetConfig:
    text = config.text_config
    return HypernetConfig(
        num_layers=text.num_hidden_layers, hidden_size=text.hidden_size, d_in=text.intermediate_size,
        d_out=text.hidden_size, rank=16, latent_size=192, num_queries=8, num_blocks=3, num_heads=8, num_kv_heads=4,
        head_dim=32, base="v2l/tiny")


def network(model: SmolVLMForConditionalGeneration) -> Network:
    """The product's modules on the very parameters of transformers': gradients and updates of one are the other's."""
    config = model.config.to_dict()
    with torch.device("meta"):
        text = TextStack(TextConfig.from_json(config))
        vision = Vision(VisionConfig.from_json(config), text.config.hidden_size)
    for module, rename in ((vision, vision_name), (text, text_name)):
        weights = {rename(key): weight for key, weight in model.state_dict(keep_vars=True).items() if rename(key)}
        module.load_state_dict(weights, assign=True)
    return Network(vision, text, IMAGE)


# --- files -----------------------------------------------------------------------------------------------------------


def save_base(model: SmolVLMForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """A Hugging Face folder in bfloat16 that transformers loads as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    half = SmolVLMForConditionalGeneration(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    half.generation_config = GenerationConfig(bos_token_id=START, eos_token_id=END_ID, pad_token_id=PAD)
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
        model_max_length=65536, processor_class="SmolVLMProcessor", tokenizer_class="PreTrainedTokenizer"))
    write("preprocessor_config.json", dict(
        do_convert_rgb=True, do_image_splitting=True, do_normalize=True, do_pad=True, do_rescale=True, do_resize=True,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="SmolVLMImageProcessor",
        max_image_size={"longest_edge": TILE}, processor_class="SmolVLMProcessor", resample=1, rescale_factor=1 / 255,
        size={"longest_edge": TILE},
        video_sampling={"fps": 1, "max_frames": 12, "video_size": {"longest_edge": TILE}}))
    write("processor_config.json", dict(image_seq_len=SEQ_LEN, processor_class="SmolVLMProcessor"))


def load_hypernetwork(folder: Path, device: str = "cpu") -> Hypernetwork:
    hyper = Hypernetwork(HypernetConfig(**json.loads((folder / "hypernetwork.json").read_text())))
    hyper.load_state_dict({k: v.float() for k, v in load_file(folder / "hypernetwork.safetensors").items()})
    return hyper.to(device).eval()
