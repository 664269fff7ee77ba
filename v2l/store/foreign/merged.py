"""A base with an adapter added to its weights, for engines without LoRA: a model folder like any other.

W' = W + scale * B A, in float64. What is added may be small beside W, and rounding W' then takes part of it away: of a
change of 3 % of random weights of 500M shapes, float16 loses 0.7 %, bfloat16 6 % and Q8_0 18 %; of one of 0.05 %,
float16 39 %, bfloat16 90 % and Q8_0 more than all of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from v2l.adapter.dtypes import Array
from v2l.adapter.factors import LARGEST_FLOAT16, Factors, change
from v2l.adapter.record import Record
from v2l.errors import ModelError, OutputError
from v2l.model.config import TextConfig
from v2l.model.folder import INDEX, SINGLE, check_base, read_json
from v2l.model.prompt import END
from v2l.store.foreign.about import ABOUT, write_document
from v2l.store.foreign.tensors import TYPE_OF, Tensor, Weights, rounded, write_tensors
from v2l.system.files import replacing_folder

MOST_LOST = 0.05
"""Part of the change that rounding may take away before it is refused."""
ADAPTED = "model.text_model.layers.{}.mlp.down_proj.weight"
_CONFIGS = ("config.json", "generation_config.json", INDEX)
_COPIED = (".json", ".jinja", ".txt")


@dataclass(frozen=True)
class Rounding:
    """What storing merged weights in some type does to the change, by layer."""

    changes: list[float]
    """Frobenius norms of what the adapter adds."""
    lost: list[float]
    """Frobenius norms of what rounding takes away."""

    @property
    def loss(self) -> float:
        """The part of the whole change that is lost."""
        whole = float(np.linalg.norm(self.changes))
        return float(np.linalg.norm(self.lost)) / whole if whole else 0.0


def merged_rounding(base: Path, factors: Factors, dtype: str) -> Rounding:
    """What storing the base with this adapter added, in float32, float16 or bfloat16, will lose. ModelError where a
    value does not fit."""
    changes, lost = [], []
    with Weights(base) as weights:
        for layer in range(len(factors.A)):
            added = change(factors, layer)
            exact = weights.read(ADAPTED.format(layer)) + added
            changes.append(float(np.linalg.norm(added)))
            lost.append(float(np.linalg.norm(_rounded(exact.astype(np.float32), dtype, layer) - exact)))
    return Rounding(changes, lost)


def _rounded(values: npt.NDArray[np.float32], dtype: str, layer: int) -> npt.NDArray[np.float32]:
    if not np.isfinite(values).all() or (dtype == "float16" and float(np.abs(values).max()) >= LARGEST_FLOAT16):
        raise ModelError(f"Layer {layer} with the adapter added has values that {dtype} cannot hold; "
                         "write it with --dtype float32.")
    return rounded(values, dtype)


def write_merged(folder: str | os.PathLike[str], base: Path, factors: Factors, dtype: str, about: Record) -> None:
    """Writes the base with an adapter added as a model folder, whole or not at all, and checks that it is one.

    One tensor is held at a time. ModelError, OutputError.
    """
    places = {ADAPTED.format(layer): layer for layer in range(len(factors.A))}

    def values(weights: Weights, name: str) -> npt.NDArray[np.float32]:
        read = weights.read(name)
        if name in places:
            read = (read + change(factors, places[name])).astype(np.float32)
        if dtype == "float16" and float(np.abs(read).max(initial=0)) >= LARGEST_FLOAT16:
            raise ModelError(f"{name} has values that float16 cannot hold; write it with --dtype float32.")
        return read

    with replacing_folder(folder, ABOUT) as place, Weights(base) as weights:
        tensors = [Tensor(name, shape, TYPE_OF[dtype], partial(values, weights, name))
                   for name, shape in sorted(weights.shapes.items())]
        write_tensors(place / SINGLE, tensors)
        _write_configs(base, place, dtype)
        write_document(place / ABOUT, about)
        check_base(place)
        _check_written(place, weights, values, list(places))


def _write_configs(base: Path, place: Path, dtype: str) -> None:
    """The base's other files, and in its config what old and new versions of transformers look for."""
    for file in sorted(base.iterdir()):
        if file.is_file() and file.suffix in _COPIED and file.name not in (*_CONFIGS, ABOUT, "adapter_config.json"):
            shutil.copyfile(file, place / file.name)
    config = read_json(base / "config.json")
    text = config["text_config"]
    theta = TextConfig.from_json(config).rope_theta
    rope = {"rope_type": "default", **(text.get("rope_parameters") or {}), "rope_theta": theta}
    config["text_config"] = {**text, "rope_parameters": rope, "rope_theta": theta}
    for part in (config, config["text_config"], config["vision_config"]):
        for key in ("dtype", "torch_dtype"):
            part.pop(key, None)
    write_document(place / "config.json", {**config, "dtype": dtype, "torch_dtype": dtype})
    file = base / "generation_config.json"
    generation = read_json(file) if file.exists() else {}
    named = generation.get("eos_token_id")
    end = next(token["id"] for token in read_json(base / "tokenizer.json")["added_tokens"] if token["content"] == END)
    ends = list(dict.fromkeys([end, *(named if isinstance(named, list) else [named] if named is not None else [])]))
    write_document(place / file.name, {**generation, "eos_token_id": ends if len(ends) > 1 else end})


def _check_written(place: Path, weights: Weights, values: Callable[[Weights, str], Array], names: list[str]) -> None:
    """OutputError unless the merged weights read as what was to be written; `check_base` has seen the others."""
    with Weights(place) as written:
        dtype = read_json(place / "config.json")["dtype"]
        for name in names:
            if rounded(values(weights, name), dtype).tobytes() != written.read(name).tobytes():
                raise OutputError(f"{place} does not read as what was written; check that disk, and export it again.")
