"""Is what lies on disk whole, and is it of the kind it should be? Headers and sizes are read, never the weights."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any

from v2l.config import HypernetConfig
from v2l.errors import ModelError, OutputError
from v2l.files import replacing

Shapes = dict[str, tuple[int, ...]]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
          "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_SHOWN = 20
"""Tensors named in one message; more are counted."""


def cache_dir() -> Path:
    """Our own cache: what V2L_CACHE says, else the platform's place."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("V2L_CACHE") or user_cache_dir("v2l")).expanduser()


@contextmanager
def caching(path: Path) -> Iterator[IO[bytes]]:
    """`files.replacing` for our cache, whose folders are made as needed. Raises ModelError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            yield file
    except (OSError, OutputError) as error:
        raise ModelError(f"v2l's cache is not usable: {str(error).rstrip('.')}; V2L_CACHE can name another.") from error


def sha256_of(file: Path) -> str:
    """sha256 of a file; remembered in our cache for as long as its size and time of change stay the same."""
    try:
        return _sha256_of(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror or error}).") from None


def _sha256_of(file: Path) -> str:
    real, stat = file.resolve(), file.stat()
    facts = {"path": str(real), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = cache_dir() / "sha256" / f"{hashlib.sha256(str(real).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(note.read_bytes())
        if isinstance(known, dict) and known.items() >= facts.items():
            return str(known["sha256"])
    except (OSError, ValueError, KeyError):
        pass  # nothing remembered, or nothing readable: it is only a shortcut
    digest = hash_of(file)
    try:
        with caching(note) as out:
            out.write(json.dumps({**facts, "sha256": digest}).encode())
    except ModelError:
        pass  # a cache that cannot be written costs time, nothing else
    return digest


def hash_of(file: Path) -> str:
    """sha256 of a file, read through."""
    digest = hashlib.sha256()
    with file.open("rb") as f:
        while block := f.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or ModelError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; the model's folder is not whole.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error}); copy or pull it again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object; copy or pull it again.")
    return content


def read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """name -> (dtype, shape) of every tensor in a safetensors file, whose length must be what its header promises."""
    again = "copy or pull it again"
    try:
        size = file.stat().st_size
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length)) if 0 < length <= min(size - 8, 100_000_000) else None
        if not isinstance(header, dict):
            raise ValueError("no header")
        header.pop("__metadata__", None)
        found, end = {}, 0
        for name, entry in header.items():
            start, stop = entry["data_offsets"]
            shape = tuple(entry["shape"])
            whole = all(type(n) is int and n >= 0 for n in (start, stop, *shape))
            if not whole or stop - start != math.prod(shape) * _BYTES.get(entry["dtype"], -1):
                raise ValueError(f"{name} is not what it says")
            found[name] = (entry["dtype"], shape)
            end = max(end, stop)
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; {again}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file} is not a readable safetensors file ({error}); {again}.") from None
    if size != 8 + length + end:
        raise ModelError(f"{file} is not whole: {size:,} bytes, where its header promises {8 + length + end:,}; "
                         f"{again}.")
    return found


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
        raise ModelError(f"{index} names {', '.join(strange)}, which is no safetensors file beside it.")
    return names


def missing_files(folder: Path) -> list[str]:
    """Names of the files without which a base cannot be used and that are not in its folder."""
    needed = ["config.json", "tokenizer.json", *weight_names(folder)]
    return [name for name in needed if not (folder / name).is_file()]


def check_architecture(folder: Path) -> dict[str, Any]:
    """The folder's config.json, which must be a SmolVLM's."""
    config = read_json(folder / "config.json")
    classes = config.get("architectures") or ()
    if config.get("model_type") != "smolvlm" and "SmolVLMForConditionalGeneration" not in classes:
        kind = f"is a {config['model_type']} model" if config.get("model_type") else "names no kind of model"
        raise ModelError(f"{folder / 'config.json'} {kind}, not a SmolVLM; v2l works with SmolVLM2 bases "
                         "such as 500m and 2.2b.")
    if absent := [part for part in ("text_config", "vision_config") if not isinstance(config.get(part), dict)]:
        raise ModelError(f"{folder / 'config.json'} has no {' and no '.join(absent)}; copy or pull it again.")
    return config


def check_base(folder: Path) -> None:
    """ModelError unless `folder` is a whole SmolVLM: files there, as long as promised, every tensor of its text stack,
    vision tower and connector present and shaped as config.json says."""
    import torch

    from v2l.text import TextConfig, TextStack
    from v2l.vision import Vision, VisionConfig

    config = check_architecture(folder)
    if missing := missing_files(folder):
        raise ModelError(f"The base model in {folder} is not whole: {', '.join(missing)} missing; "
                         "copy or pull it again.")
    try:
        text = TextConfig.from_json(config)
        with torch.device("meta"):
            stack = TextStack(text)
            vision = Vision(VisionConfig.from_json(config), text.hidden_size)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / 'config.json'} describes no model that can be built ({error}).") from None
    stored: Shapes = {}
    for name in weight_names(folder):
        stored |= {key: shape for key, (_, shape) in read_header(folder / name).items()}
    expected = {key if key.startswith("lm_head.") else f"model.text_model.{key}": tuple(tensor.shape)
                for key, tensor in stack.state_dict().items()}
    if text.tied:
        expected.pop("lm_head.weight")
    expected |= {f"model.{key}": tuple(tensor.shape) for key, tensor in vision.state_dict().items()}
    problems = differences({key: shape for key, shape in stored.items() if key in expected}, expected)
    if problems:
        raise ModelError(f"The base model in {folder} does not match its config.json: {'; '.join(problems)}.")


def differences(stored: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Everything that is missing, extra or of another shape, in words; empty where all is well."""
    missing = sorted(expected.keys() - stored.keys())
    extra = sorted(stored.keys() - expected.keys())
    wrong = [f"{name} {list(stored[name])} instead of {list(expected[name])}"
             for name in sorted(stored.keys() & expected.keys()) if stored[name] != expected[name]]
    return [f"{kind}: {', '.join(names[:_SHOWN])}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            for kind, names in (("missing", missing), ("extra", extra), ("misshapen", wrong)) if names]


def hypernetwork_shapes(config: HypernetConfig) -> Shapes:
    """Names and shapes of the tensors of a hypernetwork of this size."""
    import torch

    from v2l.hypernetwork import Hypernetwork

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Hypernetwork(config).state_dict().items()}


def read_hypernet_config(file: Path) -> HypernetConfig:
    """The JSON beside our safetensors. Keys that are not ours are left alone; every bad value is named."""
    content, problems = read_json(file), []
    values: dict[str, Any] = {}
    for field in fields(HypernetConfig):
        value = content.get(field.name)
        if field.name not in content:
            good = field.default is not MISSING
        elif field.name == "scale":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            good = value is None or (number and math.isfinite(value) and value > 0)
        elif field.type == "int":
            good = type(value) is int and 0 < value <= 1 << 24
        else:
            good = isinstance(value, str)
        if not good:
            problems.append(f"{field.name} is {json.dumps(value) if field.name in content else 'missing'}")
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
    header = read_header(weights)
    problems = differences({name: shape for name, (_, shape) in header.items()}, hypernetwork_shapes(config))
    problems += [f"{name} is {dtype}, not a float" for name, (dtype, _) in header.items()
                 if dtype not in ("F32", "F16", "BF16")]
    if problems:
        raise ModelError(f"{weights} does not match its configuration; {'; '.join(problems)}.")
