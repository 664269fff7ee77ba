"""GGUF files, which llama.cpp and what is built on it read: how one is written, and an adapter as one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from v2l.adapter.dtypes import Array
from v2l.adapter.factors import Factors
from v2l.adapter.record import Record
from v2l.errors import ModelError, OutputError
from v2l.store.foreign.about import ABOUT
from v2l.store.foreign.tensors import TYPE_OF, Tensor
from v2l.system.files import replacing

ARCHITECTURE = "llama"
"""What llama.cpp calls the text stack of a SmolVLM2."""


def package() -> Any:
    """The package `gguf`. ModelError where it is not installed."""
    try:
        import gguf
    except ImportError:
        raise ModelError("Writing GGUF needs the package gguf, which is not installed; "
                         "install it with: pip install 'v2l[gguf]'.") from None
    return gguf


def write_gguf(path: str | os.PathLike[str], settle: Callable[[Any], None], tensors: Sequence[Tensor]) -> None:
    """Writes a GGUF file whole or not at all. `settle` gives the package's writer its keys. The same input gives the
    same bytes. OutputError."""
    gguf = package()
    from gguf.gguf_writer import WriterState

    with replacing(path) as file:
        writer = gguf.GGUFWriter(None, ARCHITECTURE)
        settle(writer)
        for tensor in tensors:
            kind = gguf.GGMLQuantizationType[tensor.type]
            block, size = gguf.GGML_QUANT_SIZES[kind]
            count = int(np.prod(tensor.shape))
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), count // block * size, kind)
        writer.fout, writer.state = [file], WriterState.EMPTY  # it would open a file of its own, by its final name
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            values = np.ascontiguousarray(tensor.read())
            writer.write_tensor_data(gguf.quants.quantize(values, gguf.GGMLQuantizationType[tensor.type]))


def write_adapter(path: str | os.PathLike[str], factors: Factors, about: Record) -> None:
    """Writes an adapter for llama.cpp's `--lora`, reads it back and compares. OutputError."""
    tensors = [Tensor(name, array.shape, TYPE_OF[factors.dtype], partial(np.asarray, array))
               for name, array in _named(factors)]

    def settle(writer: Any) -> None:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", factors.alpha)
        writer.add_string(ABOUT, json.dumps(about, sort_keys=True))

    write_gguf(path, settle, tensors)
    _check_written(Path(path), factors)


def _named(factors: Factors) -> list[tuple[str, Array]]:
    """Each layer's pair by its names in llama.cpp."""
    return [pair for layer in range(len(factors.A))
            for pair in ((f"blk.{layer}.ffn_down.weight.lora_a", factors.A[layer]),
                         (f"blk.{layer}.ffn_down.weight.lora_b", factors.B[layer]))]


def _check_written(path: Path, factors: Factors) -> None:
    """OutputError unless the file reads as what was to be written."""
    stored = package().GGUFReader(path)
    tensors = {tensor.name: tensor.data for tensor in stored.tensors}
    named = dict(_named(factors))
    alpha = stored.fields["adapter.lora.alpha"].contents()
    if alpha != np.float32(factors.alpha) or tensors.keys() != named.keys() or any(
            tensors[name].tobytes() != array.tobytes() for name, array in named.items()):
        raise OutputError(f"{path} does not read as what was written; check that disk, and export it again.")
