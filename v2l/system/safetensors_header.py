"""The header of a safetensors file, read more strictly than the safetensors library does: strangers write such files.

A file is 8 bytes with the length of the header, the header as a JSON object, and the bytes of the tensors, which fill
the rest without gap or overlap. The header says of each tensor its `dtype`, `shape` and `data_offsets`; its
`__metadata__` are texts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from v2l.system.strict_json import Invalid, decode, is_unicode

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
          "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    dtype: str
    """Type as safetensors calls it: F32, BF16."""
    shape: tuple[int, ...]
    start: int
    """Place of its first byte in the file."""
    size: int
    """Bytes of its values."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says it holds."""

    entries: Mapping[str, Any]
    """What it says of each tensor, not yet checked: see `tensors`."""
    metadata: dict[str, str]
    start: int
    """Place in the file of the first byte of the tensors."""
    file_size: int
    """Bytes of the file."""

    def tensors(self) -> dict[str, StoredTensor]:
        """The tensors by their names, which lie without gap or overlap one behind the other. Raises Invalid."""
        tensors = {name: self._tensor(name, entry) for name, entry in self.entries.items()}
        end = self.start
        for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.size)):
            if tensor.start != end:
                raise Invalid("its tensors overlap, or leave gaps")
            end += tensor.size
        return tensors

    def _tensor(self, name: str, entry: Any) -> StoredTensor:
        try:
            start, stop = entry["data_offsets"]
            shape, dtype = entry["shape"], entry["dtype"]
            numbers = all(type(n) is int and n >= 0 for n in (start, stop, *shape)) and isinstance(shape, list)
            if numbers and len(entry) == 3 and stop - start == math.prod(shape) * _BYTES[dtype]:
                return StoredTensor(dtype, tuple(shape), self.start + start, stop - start)
        except (KeyError, TypeError, ValueError):
            pass
        raise Invalid(f"{name[:200]} is not what it says")


def read_header(file: BinaryIO, most: int) -> Header:
    """The header of an open file, if it has no more than `most` bytes; of the tensors nothing is read. Raises Invalid,
    as a sentence's end about the file, and OSError."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= most:
        raise Invalid("its header has an impossible length, as where it is a file of another kind" if size
                      else "it is empty")
    text = file.read(length) if length <= size - 8 else b""
    if len(text) != length:
        raise Invalid("it is cut short, or a file of another kind")
    if not text.startswith(b"{"):
        raise Invalid("it does not begin with a header")
    entries = decode(text)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(is_unicode(x) for x in (*entries, *metadata, *metadata.values())):
        raise Invalid("its names or metadata are not text")
    return Header(entries, metadata, 8 + length, size)


def header_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """What a safetensors file begins with whose tensors lie in this order: by name, their type and shape.

    The same input gives the same bytes. What follows begins where a float32 may.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, (dtype, shape) in tensors.items():
        end = start + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
