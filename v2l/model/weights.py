"""Tensors out of a base's safetensors files: only the ones asked for, mapped where they can be used as they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2l.errors import ModelError, is_memory
from v2l.model.folder import stored_tensors, weight_names
from v2l.model.packed import pack


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, as the library reads it. Raises ModelError where it cannot."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        if is_memory(error):
            raise MemoryError from error
        raise ModelError(f"{file} cannot be read ({error}); copy or pull it again.") from None


def load_into(
    module: nn.Module,
    folder: Path,
    rename: Callable[[str], str | None],
    device: torch.device,
    dtype: torch.dtype,
    tied: dict[str, str] | None = None,
    packed: bool = True,
) -> None:
    """Fills a module built on the meta device, and unless `packed` is false packs it where that pays
    (`v2l.model.packed`).

    `rename` gives the module's name for a stored tensor, or None for one that is not wanted; `tied` names tensors that
    need not be stored because they are another one. One layer is loaded after the other, so that only one is
    ever held both as it is stored and as it is used. ModelError names every tensor missing or of another shape.
    """
    wanted = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    places: dict[str, tuple[Path, str]] = {}
    wrong = []
    for file in map(folder.joinpath, weight_names(folder)):
        with opened(file) as stored:
            for key in stored.keys():  # noqa: SIM118 (not a dict)
                name = rename(key)
                if name not in wanted:
                    continue
                shape = stored.get_slice(key).get_shape()
                if tuple(shape) != wanted[name]:
                    wrong.append(f"{key} is {shape}, not {list(wanted[name])}")
                places[name] = file, key
    for name, other in (tied or {}).items():
        if name in wanted and other in places:
            places.setdefault(name, places[other])
    wrong += [f"{name} is missing" for name in wanted if name not in places]
    if wrong:
        raise ModelError(f"The base in {folder} does not match its config.json: {'; '.join(wrong)}.")
    parts: dict[str, list[str]] = {}
    for name in wanted:
        layer = _LAYER.match(name)
        parts.setdefault(layer.group() if layer else "", []).append(name)
    for prefix, names in sorted(parts.items(), reverse=True):  # what belongs to no layer comes last
        module.load_state_dict(_read({name: places[name] for name in names}, device, dtype), strict=False, assign=True)
        part = module.get_submodule(prefix.rstrip("."))
        part.requires_grad_(False).eval()
        if packed:
            pack(part)


_SMALL = 1 << 16
_LAYER = re.compile(r".*?\blayers\.\d+\.")


def _read(
    places: dict[str, tuple[Path, str]], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Tensors by name, each from its file and under its key there; one file's are mapped together."""
    tensors: dict[tuple[Path, str], torch.Tensor] = {}
    for file in {file for file, _ in places.values()}:
        with opened(file) as stored:
            for place in places.values():
                if place[0] == file and place not in tensors:
                    tensor = stored.get_tensor(place[1]).to(device=device, dtype=dtype)
                    # A small one must not keep all that was read with it in memory.
                    tensors[place] = tensor.clone() if tensor.numel() < _SMALL else tensor
    return {name: tensors[place] for name, place in places.items()}


def text_name(key: str) -> str | None:
    """The name within the text stack of a stored tensor, or None where it is not part of it."""
    return key.removeprefix("model.text_model.") if key.startswith(("model.text_model.", "lm_head.")) else None


def vision_name(key: str) -> str | None:
    """The name within the vision tower and its connector of a stored tensor, or None."""
    return key.removeprefix("model.") if key.startswith(("model.vision_model.", "model.connector.")) else None


def fingerprint(folder: Path) -> str:
    """Identifies a base's text stack: names, dtypes, shapes and 4 kB from four places of every tensor, in a sha256.

    Reading all of it would take longer than answering; two sets of trained weights differ everywhere.
    """
    digest = hashlib.sha256()
    text = [(name, tensor, file) for file in map(folder.joinpath, weight_names(folder))
            for name, tensor in stored_tensors(file).items() if text_name(name)]
    for name, tensor, file in sorted(text, key=lambda entry: entry[0]):
        digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
        with file.open("rb") as f:
            for quarter in range(4):
                f.seek(tensor.start + quarter * tensor.size // 4)
                digest.update(f.read(min(1024, tensor.size - quarter * tensor.size // 4)))
    return f"sha256:{digest.hexdigest()}"
