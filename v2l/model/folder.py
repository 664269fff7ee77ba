"""Checks that a model's folder is whole and of the kind it should be. Headers and sizes are read, never the weights."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from v2l.config import HypernetConfig
from v2l.errors import ModelError
from v2l.model.config import TextConfig, VisionConfig
from v2l.system.safetensors_header import StoredTensor, read_header
from v2l.system.strict_json import Invalid, decode, is_positive

Shapes = dict[str, tuple[int, ...]]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHOWN = 20
"""Names in one message; more are counted."""
MAX_JSON = 16 << 20
"""Bytes of a JSON document, and of the header of a safetensors file; those of the largest models have a tenth."""
MAX_SIZE, MAX_LAYERS, MAX_TILE = 1 << 24, 1 << 10, 1 << 12
"""Bounds of a model: largest width or vocabulary, most layers or blocks, longest edge of a tile in pixels."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or ModelError."""
    try:
        content = decode(_whole(file, MAX_JSON), "it")
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; the model's folder is not whole.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error}); copy or pull it again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object; copy or pull it again.")
    return content


def _whole(file: Path, most: int) -> bytes:
    """All of a file. ValueError where that is more than `most` bytes, or no file."""
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):  # a pipe would block the open
        raise ValueError("it is no file")
    if facts.st_size > most:
        raise ValueError("it is too long")
    return file.read_bytes()


def stored_tensors(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by their names; its length is what its header promises. Raises ModelError."""
    again = "copy or pull it again"
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise Invalid("it is no file")
        with file.open("rb") as opened:
            header = read_header(opened, MAX_JSON)
        tensors = header.tensors()
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; {again}.") from None
    except (OSError, Invalid) as error:
        raise ModelError(f"{file} is not a readable safetensors file ({error}); {again}.") from None
    promised = header.start + sum(tensor.size for tensor in tensors.values())
    if header.file_size != promised:
        raise ModelError(f"{file} is not whole: {header.file_size:,} bytes, where its header promises {promised:,}; "
                         f"{again}.")
    return tensors


def weight_names(folder: Path) -> list[str]:
    """The safetensors files a model folder says it consists of: one, or shards with an index."""
    index = folder / INDEX
    if not index.exists():
        return [SINGLE]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{index} names no files; copy or pull it again.")
    names = sorted({str(name) for name in shards.values()})
    if strange := [name for name in names if name != Path(name).name or not name.endswith(".safetensors")]:
        raise ModelError(f"{index} names {strange[0][:200]}, which is no safetensors file beside it.")
    return names


def missing_files(folder: Path) -> list[str]:
    """Names of the files without which a base cannot be used and that are not in its folder."""
    needed = ["config.json", "tokenizer.json", *weight_names(folder)]
    return [name for name in needed if not (folder / name).is_file()]


def check_architecture(folder: Path) -> dict[str, Any]:
    """The folder's config.json, which must be a SmolVLM's."""
    config = read_json(folder / "config.json")
    classes = config.get("architectures")
    named = isinstance(classes, list) and "SmolVLMForConditionalGeneration" in classes
    if config.get("model_type") != "smolvlm" and not named:
        name = config.get("model_type")
        kind = f"is a {name[:80]} model" if name and isinstance(name, str) else "names no kind of model"
        raise ModelError(f"{folder / 'config.json'} {kind}, not a SmolVLM; v2l works with SmolVLM2 bases "
                         "such as 500m and 2.2b.")
    if absent := [part for part in ("text_config", "vision_config") if not isinstance(config.get(part), dict)]:
        raise ModelError(f"{folder / 'config.json'} has no {' and no '.join(absent)}; copy or pull it again.")
    return config


def check_base(folder: Path) -> None:
    """ModelError unless `folder` is a whole SmolVLM: files there, as long as promised, every tensor of its text stack,
    vision tower and connector present and shaped as config.json says."""
    import torch

    from v2l.model.text import TextStack
    from v2l.model.vision import Vision

    config = check_architecture(folder)
    if missing := missing_files(folder):
        raise ModelError(f"The base model in {folder} is not whole: {listed(missing)} missing; "
                         "copy or pull it again.")
    try:
        text, vision_config = TextConfig.from_json(config), VisionConfig.from_json(config)
        _check_sizes(text, vision_config)
        with torch.device("meta"):
            stack = TextStack(text)
            vision = Vision(vision_config, text.hidden_size)
    except (TypeError, ValueError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"{folder / 'config.json'} describes no model that can be built ({reason}).") from None
    tiling(folder, vision_config)
    stored: Shapes = {}
    for name in weight_names(folder):
        stored |= {key: tensor.shape for key, tensor in stored_tensors(folder / name).items()}
    expected = {key if key.startswith("lm_head.") else f"model.text_model.{key}": tuple(tensor.shape)
                for key, tensor in stack.state_dict().items()}
    if text.tied:
        expected.pop("lm_head.weight")
    expected |= {f"model.{key}": tuple(tensor.shape) for key, tensor in vision.state_dict().items()}
    problems = differences({key: shape for key, shape in stored.items() if key in expected}, expected)
    if problems:
        raise ModelError(f"The base model in {folder} does not match its config.json: {'; '.join(problems)}.")


def plain_loading(folder: Path) -> dict[str, Any]:
    """Options of transformers' `from_pretrained` with which it loads what lies in a folder and nothing else. A
    config.json may name code beside it, or a Hub repository with compiled kernels for attention. ModelError where the
    folder has another model loaded in place of its own."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} holds an adapter_config.json, by which another model would be loaded; take it out.")
    return {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True,
            "attn_implementation": "sdpa"}


def _check_sizes(text: TextConfig, vision: VisionConfig) -> None:
    """ValueError unless these are the sizes of a model that can be built and run."""
    problems = []
    for part, config in (("text", text), ("vision", vision)):
        for field in fields(config):
            value: Any = getattr(config, field.name)
            most = MAX_LAYERS if field.name == "num_layers" else MAX_SIZE
            if field.type == "int":
                good = type(value) is int and 0 < value <= most
            else:
                good = field.type == "bool" or (is_positive(value) and value < 1 << 53)
            if not good:
                problems.append(f"{field.name} of its {part} model is {json.dumps(value)[:80]}")
    if problems:
        raise ValueError("; ".join(problems))
    if text.num_heads % text.num_kv_heads or text.head_dim % 2 or vision.hidden_size % vision.num_heads:
        raise ValueError("its attention heads do not share out its width")


def tiling(folder: Path, vision: VisionConfig) -> tuple[int, int]:
    """(edge of a tile in pixels, image tokens it costs) of a base, as the processor's files in its folder say or, where
    they do not, its vision tower. Raises ModelError."""
    preprocessor, processor = (read_json(file) if (file := folder / name).exists() else {}
                               for name in ("preprocessor_config.json", "processor_config.json"))
    sizes = preprocessor.get("max_image_size", {})
    tile = sizes.get("longest_edge", vision.image_size) if isinstance(sizes, dict) else None
    tokens = processor.get("image_seq_len", vision.image_seq_len)
    if type(tile) is not int or not vision.patch_size <= tile <= MAX_TILE:
        raise ModelError(f"{folder / 'preprocessor_config.json'} gives no size of tiles that the vision tower "
                         "can take; copy or pull it again.")
    patches = tile // vision.patch_size
    if patches % vision.scale_factor or type(tokens) is not int or tokens != (patches // vision.scale_factor) ** 2:
        raise ModelError(f"The base in {folder} gives {(patches // vision.scale_factor) ** 2} image tokens a tile "
                         f"where its processor's files promise {json.dumps(tokens)[:80]}; copy or pull it again.")
    return tile, tokens


def listed(names: Sequence[str]) -> str:
    """Names as text for a message: at most SHOWN, the rest counted."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:200] for name in names[:SHOWN]) + more


def differences(stored: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Everything that is missing, extra or of another shape, in words; empty where all is well."""
    missing = sorted(expected.keys() - stored.keys())
    extra = sorted(stored.keys() - expected.keys())
    wrong = [f"{name} {list(stored[name])[:8]} instead of {list(expected[name])}"
             for name in sorted(stored.keys() & expected.keys()) if stored[name] != expected[name]]
    return [f"{kind}: {listed(names)}"
            for kind, names in (("missing", missing), ("extra", extra), ("misshapen", wrong)) if names]


def hypernetwork_shapes(config: HypernetConfig) -> Shapes:
    """Names and shapes of the tensors of a hypernetwork of this size. ValueError where there can be none."""
    import torch

    from v2l.model.hypernetwork import Hypernetwork

    if config.num_blocks > MAX_LAYERS:
        raise ValueError(f"num_blocks is {config.num_blocks}, and more than {MAX_LAYERS} are not read")
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in Hypernetwork(config).state_dict().items()}
    except (RuntimeError, KeyError) as error:  # a tensor larger than any memory; a name no module can have
        raise ValueError(f"no tensors have its sizes ({str(error).splitlines()[0][:200]})") from None


def read_hypernet_config(file: Path) -> HypernetConfig:
    """The JSON beside our safetensors. Keys that are not ours are left alone; every bad value is named."""
    content, problems = read_json(file), []
    values: dict[str, Any] = {}
    for field in fields(HypernetConfig):
        value = content.get(field.name)
        if field.name not in content:
            good = field.default is not MISSING
        elif field.name == "scale":
            good = value is None or is_positive(value)
        elif field.type == "int":
            good = type(value) is int and 0 < value <= MAX_SIZE
        else:
            good = isinstance(value, str)
        if not good:
            problems.append(f"{field.name} is {json.dumps(value)[:80] if field.name in content else 'missing'}")
        elif field.name in content:
            values[field.name] = value
    if problems:
        raise ModelError(f"{file} does not describe a hypernetwork: {', '.join(problems)}.")
    config = HypernetConfig(**values)
    if config.num_heads % config.num_kv_heads:
        raise ModelError(f"{file} does not describe a hypernetwork: {config.num_heads} query heads "
                         f"cannot share {config.num_kv_heads} key/value heads.")
    return config


def check_hypernetwork(weights: Path, config: HypernetConfig) -> None:
    """ModelError, naming every tensor that is missing, extra or misshapen, unless the file is what `config` says."""
    stored = stored_tensors(weights)
    try:
        expected = hypernetwork_shapes(config)
    except ValueError as error:
        raise ModelError(f"{weights.with_suffix('.json')} does not describe a hypernetwork: {error}.") from None
    problems = differences({name: tensor.shape for name, tensor in stored.items()}, expected)
    problems += [f"{name} is {tensor.dtype}, not a float" for name, tensor in stored.items()
                 if tensor.dtype not in ("F32", "F16", "BF16")][:SHOWN]
    if problems:
        raise ModelError(f"{weights} does not match its configuration; {'; '.join(problems)}.")
