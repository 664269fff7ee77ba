"""An adapter as a PEFT folder, which transformers and vLLM load.

PEFT loads a tensor whose name it does not know as nothing at all, with no more than a warning: names are therefore held
against those of the base.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from v2l.adapter.dtypes import Array
from v2l.adapter.factors import Factors
from v2l.adapter.record import Record
from v2l.errors import AdapterError, OutputError, UsageError
from v2l.model.folder import stored_tensors, weight_names
from v2l.model.prompt import END
from v2l.store.foreign.about import ABOUT, write_document
from v2l.store.foreign.tensors import TYPE_OF, Tensor, write_tensors
from v2l.system.files import replacing_folder

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank; it fills an adapter up to that by itself."""
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def vllm_rank(rank: int, name: str, bias_rank: int) -> int:
    """The --max-lora-rank with which vLLM takes an adapter of this rank. UsageError where it takes none so large;
    `bias_rank` of it cannot be compressed."""
    fitting = [allowed for allowed in VLLM_RANKS if allowed >= rank]
    if not fitting:
        most = VLLM_RANKS[-1]
        raise UsageError(f"{name} has rank {rank} and vLLM takes at most {most}; make it smaller with `v2l compose "
                         f"--max-rank {most - bias_rank}`, or write it for PEFT alone with --force.")
    return fitting[0]


def write_peft(folder: str | os.PathLike[str], factors: Factors, about: Record, text_only: bool = False,
               base: Path | None = None) -> None:
    """Writes a PEFT folder whole or not at all, reads it back and compares.

    It goes onto a SmolVLM, or with `text_only` onto its text stack as a Llama. `base` is the folder of the base, if
    that is at hand: its names are compared. The same input gives the same bytes. AdapterError, OutputError.
    """
    named = _named(factors, text_only)
    if base is not None:
        _check_names(named, base, text_only)
    with replacing_folder(folder, ABOUT) as place:
        tensors = [Tensor(name, array.shape, TYPE_OF[factors.dtype], partial(np.asarray, array))
                   for name, array in named.items()]
        write_tensors(place / _WEIGHTS, tensors)
        write_document(place / _CONFIG, _config(factors, about["base"], text_only))
        write_document(place / ABOUT, about)
        (place / "README.md").write_text(_readme(about, text_only), encoding="utf-8")
        _check_written(place, named)


def _named(factors: Factors, text_only: bool) -> dict[str, Array]:
    """Each layer's pair by its names in PEFT."""
    stack = "model" if text_only else "model.text_model"
    return {f"base_model.model.{stack}.layers.{layer}.mlp.down_proj.lora_{part}.weight": array[layer]
            for layer in range(len(factors.A)) for part, array in (("A", factors.A), ("B", factors.B))}


def _check_names(names: Iterable[str], base: Path, text_only: bool) -> None:
    """AdapterError unless these are the names, in PEFT, of all the base's modules that adapters change."""
    prefix, module = "base_model.model.", ".lora_"
    given = {name.removeprefix(prefix).partition(module)[0] for name in names}
    stored = {name for file in weight_names(base) for name in stored_tensors(base / file)}
    there = {name.removesuffix(".weight") for name in stored if name.endswith(".mlp.down_proj.weight")}
    if text_only:
        there = {name.replace(".text_model.", ".") for name in there}
    if given != there:
        raise AdapterError(f"The adapter names {len(given)} modules and the base in {base} has {len(there)}, such as "
                           f"{min(given - there or there - given)}; name the base it was made for with --model.")


def _config(factors: Factors, base: Record, text_only: bool) -> Record:
    """PEFT's description of the adapter."""
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": factors.rank, "lora_alpha": _number(factors.alpha),
        # A pattern, so that no module of the vision tower could be meant.
        "target_modules": ["down_proj"] if text_only else r".*text_model.*mlp\.down_proj",
        "base_model_name_or_path": base["id"], "revision": base["revision"], "bias": "none", "lora_dropout": 0.0,
        "inference_mode": True, "use_rslora": False, "fan_in_fan_out": False,
    }


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _readme(about: Record, text_only: bool) -> str:
    base, name = about["base"]["id"], about["adapter"]["name"]
    onto = "its text stack as a Llama (`LlamaForCausalLM`)" if text_only else "it, as transformers and vLLM load it"
    return (f"# {name} for PEFT\n\nA LoRA adapter that v2l made of a video, for the base `{base}`: onto {onto}.\n\n"
            "Ask it with this prompt and nothing else, no image and no system text, and decode greedily until "
            f"`{END}`:\n\n```\n<|im_start|>User: QUESTION{END}\nAssistant:\n```\n\n"
            f"Where it came from stands in `{ABOUT}`.\n")


def _check_written(folder: Path, named: dict[str, Array]) -> None:
    """OutputError unless the folder reads as what was to be written."""
    from safetensors.numpy import load_file

    stored = load_file(folder / _WEIGHTS)
    if stored.keys() != named.keys() or any(stored[name].tobytes() != array.tobytes() for name, array in named.items()):
        raise OutputError(f"{folder} does not read as what was written; check that disk, and export it again.")
