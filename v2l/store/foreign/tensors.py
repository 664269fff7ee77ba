"""Tensors on their way from a base into a file, one at a time, and the safetensors file, which depends on them alone.

The safetensors library wants all tensors at once, which of a whole base are gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from v2l.adapter.dtypes import Array, from_float32, to_float32
from v2l.errors import ModelError
from v2l.model.folder import stored_tensors, weight_names
from v2l.model.weights import opened
from v2l.system.safetensors_header import header_bytes

TYPE_OF = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Our name of a dtype -> that of safetensors and GGUF."""
_DTYPE_OF = {name: dtype for dtype, name in TYPE_OF.items()}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written; its values are made when its turn comes."""

    name: str
    shape: tuple[int, ...]
    type: str
    """F32, F16, BF16, or in GGUF also Q8_0."""
    read: Callable[[], Array]
    """Gives its values, in float32 or in its own type."""


class Weights:
    """A base's tensors by name, in float32. Open until the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stored = {folder / file: stored_tensors(folder / file) for file in weight_names(folder)}
        self.shapes = {name: tensor.shape for tensors in stored.values() for name, tensor in tensors.items()}
        self._places = {name: file for file, tensors in stored.items() for name in tensors}
        self._stack = ExitStack()

    def __enter__(self) -> Weights:
        self._files = {file: self._stack.enter_context(opened(file)) for file in set(self._places.values())}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor. ModelError where it holds numbers that are not finite."""
        array: npt.NDArray[np.float32] = self._files[self._places[name]].get_tensor(name).float().numpy()
        if not np.isfinite(array).all():
            raise ModelError(f"{name} of the base in {self.folder} holds numbers that are not finite; "
                             "copy or pull it again.")
        return array


def write_tensors(path: Path, tensors: Sequence[Tensor]) -> None:
    """Writes a safetensors file, in the order given. The same input gives the same bytes. OSError."""
    with path.open("wb") as file:
        file.write(header_bytes({tensor.name: (tensor.type, tensor.shape) for tensor in tensors}, {"format": "pt"}))
        for tensor in tensors:
            file.write(np.ascontiguousarray(stored(tensor.read(), tensor.type)).data)


def stored(values: Array, type: str) -> Array:
    """Values in the type they are stored in: float32 ones are rounded to nearest even."""
    return from_float32(values, _DTYPE_OF[type]) if values.dtype == np.float32 else values


def rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """What is left of values that are stored as float32, float16 or bfloat16."""
    return to_float32(from_float32(values, dtype), dtype)
