"""The text stack of a base as a GGUF file of its own: what an adapter for llama.cpp goes onto.

The file carries the prompt of v2l/README.md section 7 as its chat template and ends an answer at `<end_of_utterance>`,
so that a client who sends a question gets what `v2l ask` computes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from v2l.adapter.dtypes import Array
from v2l.adapter.factors import LARGEST_FLOAT16
from v2l.adapter.record import Record
from v2l.errors import ModelError
from v2l.model.config import TextConfig
from v2l.model.folder import read_json, stored_tensors, weight_names
from v2l.model.prompt import END
from v2l.model.weights import text_name
from v2l.store.foreign.about import ABOUT
from v2l.store.foreign.gguf import package, write_gguf
from v2l.store.foreign.merged import ADAPTED
from v2l.store.foreign.tensors import Tensor, Weights
from v2l.system.strict_json import is_finite

WEIGHT_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""What weights can be stored as, and GGUF's name for it."""
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}<|im_start|>{% endif %}{{ message['role'] | capitalize }}: "
    "{{ message['content'] }}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}")
"""SmolVLM2's own, for text: of one question, the prompt of v2l/README.md section 7."""


def stored_type(folder: Path) -> str:
    """The type in which a base's text stack is stored, of `WEIGHT_TYPES`; f32 where there are several."""
    kinds = {tensor.dtype for file in map(folder.joinpath, weight_names(folder))
             for name, tensor in stored_tensors(file).items() if text_name(name)}
    return {"F16": "f16", "BF16": "bf16"}.get(kinds.pop(), "f32") if len(kinds) == 1 else "f32"


def export_text_model(folder: Path, path: str | os.PathLike[str], type: str, name: str, about: Record) -> None:
    """Writes the text stack of the base in `folder` as GGUF, matrices in a `type` of `WEIGHT_TYPES`.

    Vectors stay float32; one tensor is held at a time. ModelError where llama.cpp could not do what the base's
    tokenizer does, or a value does not fit the type; OutputError where `path` cannot be written.
    """
    config = TextConfig.from_json(read_json(folder / "config.json"))
    vocabulary = read_vocabulary(folder, config.vocab_size)
    with Weights(folder) as weights:
        tensors = [Tensor(target, shape, _type_of(shape, type), partial(_values, weights, source, arrange, type))
                   for target, source, shape, arrange in _tensors(config)]
        write_gguf(path, lambda writer: _settle(writer, config, vocabulary, type, name, about), tensors)


def change_lost(folder: Path, type: str) -> float | None:
    """The part of an adapter's change that `type` takes away from a base that `write_merged` added it to;
    None where the folder is not of that kind."""
    file = folder / ABOUT
    changes = read_json(file).get("changes") if file.exists() else None
    config = TextConfig.from_json(read_json(folder / "config.json"))
    if not isinstance(changes, list) or len(changes) != config.num_layers or not all(map(is_finite, changes)):
        return None
    quants, lost = package().quants, []
    with Weights(folder) as weights:
        for layer in range(config.num_layers):
            values = weights.read(ADAPTED.format(layer))
            kind = package().GGMLQuantizationType[_type_of(values.shape, type)]
            lost.append(float(np.linalg.norm(quants.dequantize(quants.quantize(values, kind), kind) - values)))
    whole = float(np.linalg.norm(changes))
    return float(np.linalg.norm(lost)) / whole if whole else 0.0


def _type_of(shape: tuple[int, ...], type: str) -> str:
    """GGUF's name of the type a tensor gets: vectors are never narrowed, nor rows that blocks of 32 do not fill."""
    if len(shape) == 1:
        return "F32"
    return "F16" if type == "q8_0" and shape[-1] % 32 else WEIGHT_TYPES[type]


def _settle(writer: Any, config: TextConfig, vocabulary: Vocabulary, type: str, name: str, about: Record) -> None:
    gguf = package()
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[type]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([gguf.TokenType[kind] for kind in vocabulary.types])
    writer.add_token_merges(vocabulary.merges)
    if vocabulary.start is not None:
        writer.add_bos_token_id(vocabulary.start)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.add_string(ABOUT, json.dumps(about, sort_keys=True))


# Weights.

Arrange = Callable[[Array], Array]
_PARTS = (("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"), ("ffn_gate", "mlp.gate_proj"),
          ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"), ("attn_norm", "input_layernorm"),
          ("ffn_norm", "post_attention_layernorm"))


def _tensors(config: TextConfig) -> Iterator[tuple[str, str, tuple[int, ...], Arrange]]:
    """(name in GGUF, name in the base, shape, what is done to it) of every tensor of the text stack."""
    same: Arrange = lambda values: values
    h, inner, q = config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim
    kv = config.num_kv_heads * config.head_dim
    shapes = {"attn_v": (kv, h), "attn_output": (h, q), "ffn_gate": (inner, h), "ffn_up": (inner, h),
              "ffn_down": (h, inner), "attn_norm": (h,), "ffn_norm": (h,)}
    text = "model.text_model."
    yield "token_embd.weight", f"{text}embed_tokens.weight", (config.vocab_size, h), same
    yield "output_norm.weight", f"{text}norm.weight", (h,), same
    if not config.tied:
        yield "output.weight", "lm_head.weight", (config.vocab_size, h), same
    for layer in range(config.num_layers):
        ours, theirs = f"{text}layers.{layer}.", f"blk.{layer}."
        for name, heads, width in (("q", config.num_heads, q), ("k", config.num_kv_heads, kv)):
            yield (f"{theirs}attn_{name}.weight", f"{ours}self_attn.{name}_proj.weight", (width, h),
                   partial(_interleaved, heads=heads))
        for target, source in _PARTS:
            yield f"{theirs}{target}.weight", f"{ours}{source}.weight", shapes[target], same


def _interleaved(values: Array, heads: int) -> Array:
    """Rows of a head as llama.cpp rotates them: a pair that turns together side by side, not half a head apart."""
    rows = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return rows.swapaxes(1, 2).reshape(values.shape)


def _values(weights: Weights, name: str, arrange: Arrange, type: str) -> Array:
    values = arrange(weights.read(name))
    if type in ("f16", "q8_0") and float(np.abs(values).max()) >= LARGEST_FLOAT16:
        raise ModelError(f"{name} of the base has values that {type} cannot hold; write it with --type bf16.")
    return values


# The tokenizer.


@dataclass(frozen=True)
class Vocabulary:
    """A base's tokenizer in llama.cpp's terms."""

    tokens: list[str]
    types: list[str]
    """NORMAL, CONTROL, USER_DEFINED or UNUSED, by token."""
    merges: list[str]
    pre: str
    """llama.cpp's name of how text is parted into words."""
    start: int | None
    end: int


_DIGITS = {"type": "Digits", "individual_digits": True}


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The tokenizer of a base with `size` tokens. ModelError where llama.cpp has no way to do what it does."""
    file = folder / "tokenizer.json"
    content = read_json(file)
    try:
        model, added = content["model"], content["added_tokens"]
        pre = _pre_tokenizer(content)
        tokens, types = [f"[PAD{i}]" for i in range(size)], ["UNUSED"] * size
        for text, number in model["vocab"].items():
            tokens[number], types[number] = text, "NORMAL"
        for token in added:
            tokens[token["id"]] = token["content"]
            types[token["id"]] = "CONTROL" if token["special"] else "USER_DEFINED"
        ids = {token["content"]: int(token["id"]) for token in added}
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        return Vocabulary(tokens, types, merges, pre, ids.get("<|im_start|>"), ids[END])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} does not describe the tokenizer of a SmolVLM2 ({error!r:.100}); "
                         "copy or pull it again.") from None


def _pre_tokenizer(content: Record) -> str:
    """llama.cpp's name of what a tokenizer.json does to text before BPE. ModelError where it has none.

    A space that ByteLevel adds at the beginning of a text is not among what llama.cpp does. In the prompt of a question
    there is none to add: the question follows `User: `, and its space.
    """
    steps = content["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    split = [{key: value for key, value in step.items() if key in ("type", "individual_digits", "use_regex")}
             for step in steps]
    known: list[tuple[list[Record], str]] = [([], "gpt-2"), ([_DIGITS], "smollm")]
    for first, name in known:
        if split == [*first, {"type": "ByteLevel", "use_regex": True}] and not content.get("normalizer"):
            return name
    raise ModelError("The base's tokenizer parts text into words in a way that v2l knows no name of in llama.cpp; "
                     "GGUF cannot be written of it.")
