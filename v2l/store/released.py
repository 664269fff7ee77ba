"""A released hypernetwork pickle -> safetensors and JSON in our cache, without ever running code from the file.

Two guards, one after the other: the pickle's opcodes are listed (which executes nothing) and every global that is not
on the list below is refused by name; what is left is read by an unpickler that can only build values
(`v2l.store.pickles`), with the classes of the released training code as stand-ins that only hold what was stored
(v2l/README.md section 1).
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.config import HypernetConfig
from v2l.errors import ModelError
from v2l.model.folder import (
    SHOWN,
    Shapes,
    check_hypernetwork,
    differences,
    hypernetwork_shapes,
    listed,
    read_hypernet_config,
    read_json,
)
from v2l.store.pickles import MAX_PICKLE, Archive, StandIn, Unpickler, opcodes_of, stand_in
from v2l.store.pins import Verified
from v2l.system.cache import cache_dir, caching, hash_of, remember, sha256_of
from v2l.system.safetensors_header import header_bytes
from v2l.system.strict_json import is_positive

if TYPE_CHECKING:
    from torch import Tensor

_FORMAT = 1
"""Raised when conversion changes, so that what an older v2l converted is not used."""

_PEFT = {"peft.tuners.lora.config.LoraConfig", "peft.tuners.lora.config.LoraRuntimeConfig",
         "peft.utils.peft_types.PeftType", "peft.utils.peft_types.TaskType"}
_PLAIN = {"collections.OrderedDict", "builtins.set",
          "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
_STORAGE = re.compile(r"torch\.(cuda\.)?[A-Z]\w*Storage")
_RESEARCH = re.compile(r"ctx_to_lora(\.\w+)+")
_OPCODES_TORCH_LACKS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_MOST_LAYERS = 1 << 12
_PERCEIVER = "aggregator.perceiver."
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError,
               AttributeError, AssertionError, OverflowError, OSError, zipfile.BadZipFile, NotImplementedError,
               struct.error)
"""What reading a damaged or hostile file may raise."""


def _get(record: object, name: str) -> Any:
    """A field of a pickled record, None where it is absent; an enum's member gives its value."""
    value = vars(record).get(name) if isinstance(record, StandIn) else None
    return value.args[0] if isinstance(value, StandIn) and vars(value).get("args") else value


def _dotted(module: str, name: str = "") -> str:
    """A global's name as Python 3 knows it: protocol 2 writes `__builtin__.eval`, and `commands` for `subprocess`."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _pickle_in(archive: Archive, file: Path) -> tuple[str, bytes]:
    """The name of an archive's folder, and its pickle. ModelError where it is no checkpoint of torch's."""
    pickles = [name for name in archive.names() if name.endswith(".pkl")]
    folder = pickles[0].removesuffix("/data.pkl") if len(pickles) == 1 else ""
    if not folder or not all(name.startswith(f"{folder}/") for name in archive.names()):
        raise ModelError(f"{file} is a zip file, but not a checkpoint saved by torch.")
    if archive.size(pickles[0]) > MAX_PICKLE:
        raise ModelError(f"{file} is no hypernetwork: the list of its tensors alone is over {MAX_PICKLE >> 20} MB.")
    order = f"{folder}/byteorder"
    if order in archive and archive.bytes(order).tobytes() != b"little":
        raise ModelError(f"{file} was saved on a machine with another order of bytes; save it again on one as this.")
    return folder, archive.bytes(pickles[0]).tobytes()


def globals_in(code: bytes, file: Path) -> dict[str, str]:
    """The globals that a pickle refers to, as it writes them, with their dotted names; ModelError if one is not
    allowed."""
    names, refused, text = dict[str, str](), set[str](), ["?", "?"]
    for opcode, argument in opcodes_of(code):
        if opcode == "GLOBAL":
            names[argument] = _dotted(*argument.split(" ", 1))
        elif opcode in _OPCODES_TORCH_LACKS:
            parts = {"STACK_GLOBAL": text, "INST": str(argument).split(" ", 1)}.get(opcode)
            refused.add((_dotted(*parts) + " " if parts else "") + f"(opcode {opcode})")
        elif isinstance(argument, str):
            text = [text[1], argument]
    allowed = _PEFT | _PLAIN
    refused |= {name for name in names.values()
                if name not in allowed and not _STORAGE.fullmatch(name) and not _RESEARCH.fullmatch(name)}
    if refused:
        raise ModelError(f"{file} was refused, and nothing in it was run: it asks for {listed(sorted(refused))}, "
                         "which no Frames2LoRA checkpoint needs; get the file from its publisher.")
    return names


def read_pickle(file: Path) -> dict[str, Any]:
    """What a released `.pt` holds: tensors mapped from the file, on the CPU, and records as `StandIn`."""
    if not zipfile.is_zipfile(file) and file.exists():
        raise ModelError(f"{file} is not a checkpoint in torch's zip format (older pickles are not read, because they "
                         "cannot be checked before they run); save it again with torch 1.6 or newer.")
    try:
        archive = Archive(file)
        folder, code = _pickle_in(archive, file)
        kinds: dict[str, Any] = {written: stand_in(name) if name in _PEFT or _RESEARCH.fullmatch(name) else name
                                 for written, name in globals_in(code, file).items()}
        content = Unpickler(archive, folder, kinds).run(opcodes_of(code))
    except FileNotFoundError:
        raise ModelError(f"There is no file {file}.") from None
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{file} cannot be read as a checkpoint ({reason[0][:200]}); download it again.") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ModelError(f"{file} holds no named tensors; it is not a Frames2LoRA hypernetwork.")
    return content


def _sizes_in_tensors(shapes: Mapping[str, tuple[int, ...]], target: str) -> dict[str, int]:
    """The sizes of v2l/README.md section 5 that the shapes of the tensors give."""
    sources = {
        "num_layers": ("head.weight", 0, 3), "latent_size": ("head.weight", 1, 3),
        "hidden_size": (f"{_PERCEIVER}modality_projection.gate_proj.weight", 1, 2),
        "rank": (f"bias_A.{target}", 1, 3), "d_in": (f"bias_A.{target}", 2, 3), "d_out": (f"bias_B.{target}", 2, 3),
        "num_queries": (f"{_PERCEIVER}encoder.latents_q", 0, 2),
    }
    sizes = {size: shapes[name][axis] for size, (name, axis, axes) in sources.items()
             if len(shapes.get(name, ())) == axes}
    block = re.compile(rf"{re.escape(_PERCEIVER)}encoder\.layers\.(\d{{1,4}})\.")
    blocks = [int(match[1]) for name in shapes if (match := block.match(name))]
    return sizes | ({"num_blocks": max(blocks) + 1} if blocks else {})


def _sizes_in_records(hypernet: object, target: str) -> dict[str, int]:
    """The sizes of v2l/README.md section 5 as the pickled records give them; what is absent there is absent here."""
    import torch

    aggregator, lora = _get(hypernet, "aggregator_config"), _get(hypernet, "lora_config")
    features, layers = _get(hypernet, "feature_sizes"), _get(hypernet, "layer_indices")
    if isinstance(layers, torch.Tensor):
        layers = layers.tolist() if layers.dim() == 1 and len(layers) <= _MOST_LAYERS else None
    sizes = {
        "num_layers": len(layers) if isinstance(layers, list) else _get(aggregator, "num_layers"),
        "latent_size": _get(hypernet, "latent_size"), "hidden_size": _get(hypernet, "base_hidden_size"),
        "rank": _get(lora, "r"), "num_queries": _get(aggregator, "n_latent_queries"),
        "num_blocks": _get(aggregator, "num_blocks"),
    }
    if isinstance(features, (tuple, list)) and len(features) == 2 and all(isinstance(side, dict) for side in features):
        sizes |= {"d_in": features[0].get(target), "d_out": features[1].get(target)}
    if isinstance(layers, list) and [x for x in layers if type(x) is int] != list(range(len(layers))):
        named = ", ".join(str(x) for x in layers[:SHOWN] if type(x) is int)
        raise ModelError(f"it adapts only the decoder layers [{named}], and v2l needs every one of them")
    return {name: size for name, size in sizes.items() if type(size) is int and 0 < size <= 1 << 24}


def _scale(hypernet: object) -> float:
    """lora_alpha, which is the factor itself (v2l/README.md section 6)."""
    alpha = _get(_get(hypernet, "lora_config"), "lora_alpha")
    if not is_positive(alpha):
        raise ModelError("its records give no lora_alpha, without which the adapter's scale is unknown")
    return float(alpha)


def _target(shapes: Shapes) -> str:
    """The kind of module that the tensors adapt, which must be down_proj alone. ModelError (a clause)."""
    per_kind = ("bias_A.", "bias_B.", "scaler_A.", "scaler_B.")
    kinds = sorted({name.split(".", 1)[1] for name in shapes if name.startswith(per_kind)})
    if kinds not in ([], ["down_proj"]) or len(shapes.get("head.weight", ())) == 4:
        raise ModelError(f"it adapts {listed(kinds) or 'several kinds of modules'}; v2l supports down_proj alone")
    return "down_proj"


def _config_of(content: Mapping[str, Any], shapes: Shapes) -> HypernetConfig:
    """The configuration of a released checkpoint, from its tensors and its records.

    Raises ModelError (a clause, which the caller completes) with all that disagrees.
    """
    hypernet, encoder = content.get("hypernet_config"), content.get("ctx_encoder_args")
    if not isinstance(hypernet, StandIn):
        raise ModelError("it has no hypernet_config, so it is not a Frames2LoRA hypernetwork")
    kind = _get(encoder, "ctx_encoder_type")
    if kind is not None and kind != "per_layer_activations":
        named = f"the kind {kind[:80]!r}" if isinstance(kind, str) else "no known kind"
        raise ModelError(f"it was trained on context features of {named}; v2l computes per_layer_activations")
    target, base = _target(shapes), content.get("base_model_name_or_path")
    recorded, seen = _sizes_in_records(hypernet, target), _sizes_in_tensors(shapes, target)
    common: dict[str, Any] = dict.fromkeys(("num_layers", "hidden_size", "d_in", "d_out"), 1)
    common |= {"scale": _scale(hypernet), "target_module": target, "base": base if isinstance(base, str) else ""}
    by_tensors = HypernetConfig(**{**common, **recorded, **seen})
    by_records = HypernetConfig(**{**common, **seen, **recorded})
    # Where the tensors agree among themselves, it is the records that are wrong.
    problems = differences(shapes, hypernetwork_shapes(by_tensors))
    if not problems:
        problems = [f"its records say {name} {recorded[name]} where its tensors have {size}"
                    for name, size in seen.items() if recorded.get(name, size) != size]
    elif by_records != by_tensors:
        problems = differences(shapes, hypernetwork_shapes(by_records)) or problems
    if problems:
        raise ModelError("; ".join(problems))
    return by_tensors


def read_released(file: Path) -> tuple[dict[str, Tensor], HypernetConfig]:
    """Tensors (mapped, released names) and configuration of a released `.pt`. One ModelError names every fault."""
    import torch

    content, doubled = read_pickle(file), []
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            name = key.replace("_orig_mod.", "")  # left there by torch.compile
            doubled += [name] if name in tensors else []
            tensors[name] = value
    if doubled:
        raise ModelError(f"{file} cannot be used: it holds {listed(doubled)} more than once.")
    try:
        config = _config_of(content, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except (ModelError, ValueError) as error:
        raise ModelError(f"{file} cannot be used; {error}.") from None
    if sum(t.numel() * t.element_size() for t in tensors.values()) > file.stat().st_size:
        raise ModelError(f"{file} cannot be used: its tensors claim more bytes than the file has.")
    if bad := [name for name, t in tensors.items()
               if not (t.is_floating_point() and t.layout == torch.strided and bool(torch.isfinite(t).all()))]:
        raise ModelError(f"{file} cannot be used: {listed(bad)} has values that are not finite real numbers.")
    return tensors, config


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Writes float32 tensors, one at a time; the same tensors give the same bytes. Returns their sha256."""
    names = sorted(tensors)
    head = header_bytes({name: ("F32", tuple(tensors[name].shape)) for name in names}, {"format": "pt"})
    digest = hashlib.sha256()
    with caching(path) as f:
        blocks: Iterator[Any] = (tensors[name].detach().float().contiguous().numpy().astype("<f4", copy=False)
                                 for name in names)
        for block in chain((head,), blocks):
            f.write(block)
            digest.update(block)
    remember(path, digest.hexdigest())
    return digest.hexdigest()


def converted(file: Path) -> tuple[Path, HypernetConfig, str]:
    """A released `.pt` as (safetensors file in our cache, configuration, sha256 of the safetensors); converted once.

    Processes that convert the same file at the same time write the same bytes, and each file takes its place whole; the
    JSON, written last, marks a finished conversion.
    """
    source = sha256_of(file)
    weights = cache_dir() / "hypernetworks" / source / "hypernetwork.safetensors"
    described = weights.with_suffix(".json")
    if described.exists():
        try:
            record = read_json(described)
            same = record.get("format") == _FORMAT and record.get("size") == weights.stat().st_size
            if same and record["sha256"] == sha256_of(weights):
                config = read_hypernet_config(described)
                check_hypernetwork(weights, config)
                return weights, config, str(record["sha256"])
        except (ModelError, OSError, KeyError):
            pass  # a damaged cache is made anew
    tensors, config = read_released(file)
    digest = write_safetensors(tensors, weights)
    with caching(described) as f:
        record = {"format": _FORMAT, **asdict(config), "source_sha256": source,
                  "sha256": digest, "size": weights.stat().st_size}
        f.write(json.dumps(record, indent=1).encode())
    return weights, config, digest


def verify_converted() -> Iterator[Verified]:
    """Reads through all checkpoints that were converted and are still in our cache."""
    for described in sorted((cache_dir() / "hypernetworks").glob("*/hypernetwork.json")):
        weights = described.with_suffix(".safetensors")
        with suppress(ModelError, OSError):
            record = read_json(described)
            same = hash_of(weights) == record.get("sha256")
            yield Verified(f"converted checkpoint in {described.parent}", 1, weights.stat().st_size,
                           [] if same else [weights])
