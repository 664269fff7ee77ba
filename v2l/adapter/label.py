"""What the beginning of a `.v2lora` file says of it, checked; neither numpy nor a tensor is needed for that."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from v2l.adapter.find import holds_adapter, is_adapter_name
from v2l.adapter.record import VERSIONS, Record, check, needed_version
from v2l.errors import AdapterError, UsageError, is_memory
from v2l.system.safetensors_header import Header, StoredTensor, read_header
from v2l.system.strict_json import Invalid, decode
from v2l.wording import command

FORMAT = "v2lora"
MAX_HEADER = 8 << 20
"""Bytes of JSON a file may open with; a thousand segments need about two million."""
TENSOR_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The types that tensors have, and what safetensors calls them."""
_TENSORS = ("A", "B", "bias_A", "bias_B")
_HASH = "sha256."  # begins the name of the metadata key


def hash_key(dtype: str, total_rank: int) -> str:
    """The metadata key of the sha256."""
    return f"{_HASH}{dtype}.{total_rank}"


def is_hash(key: str) -> bool:
    """Whether a metadata key is one of a sha256."""
    return key.startswith(_HASH)


@dataclass(frozen=True)
class AdapterContents:
    """What a file holds, its values not read."""

    dtype: str
    tensors: dict[str, StoredTensor]
    """The places of A, B, bias_A, bias_B."""
    size: int
    """Bytes of the file."""
    record: Record
    sha256: str | None = None
    """What `_digest` must give; older files do not say."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tensor.shape for key, tensor in self.tensors.items()}


@dataclass(frozen=True)
class Label:
    """What a file says about itself."""

    record: Record
    dtype: str
    """float32, float16 or bfloat16."""
    size: int
    """Bytes of the file."""
    sha256: str | None
    """The sha256 of what it holds, as it says itself; None where it is older and does not say."""


def fingerprint_of(path: str | os.PathLike[str], label: Label) -> str:
    """What two files have in common that hold the same, whatever they are called. AdapterError.

    It is what a file says of its content, which `v2l.adapter.load` checks; a file that does not say is read through.
    """
    if label.sha256:
        return label.sha256
    from v2l.system.cache import sha256_of

    with reading(path):
        return f"file:{sha256_of(Path(path))}"


def load_label(path: str | os.PathLike[str]) -> Label:
    """What a file says about itself, its tensors' sizes checked and their values not read. AdapterError."""
    with reading(path) as file:
        contents = read_contents(file)
        return Label(contents.record, contents.dtype, contents.size, contents.sha256)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to read; whatever turns out to be wrong with it becomes one AdapterError that names it."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise UsageError(f"An adapter's file is named by its path, not by {type(path).__name__}.")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block the open
            raise AdapterError(f"{path} is not a file; name an adapter, which ends in .v2lora.")
        with open(path, "rb") as file:
            yield file
    except Invalid as error:
        raise damaged(os.fsdecode(path), error) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if is_memory(error):
            raise MemoryError from error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AdapterError(f"Cannot read the adapter {path}: {reason}.") from error


def damaged(name: str, error: Invalid) -> AdapterError:
    if not is_adapter_name(name) and not holds_adapter(name):
        return AdapterError(f"{name} is no adapter ({error}); if it is a video, watch it first: "
                            f"{command('ingest', name)}")
    return AdapterError(f"{name} is not a usable adapter: {error}; ingest its video again with --force, or get the "
                        "file again.")


def read_contents(file: BinaryIO) -> AdapterContents:
    header = read_header(file, MAX_HEADER)
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise Invalid("it is a safetensors file of another kind")
    _check_version(metadata.get("version", ""), os.fspath(file.name))
    if "record" not in metadata:
        raise Invalid("it has no record")
    record = decode(metadata["record"])
    others = {key: value for key, value in metadata.items()
              if key not in ("format", "version", "record") and not is_hash(key)}
    if not isinstance(record, dict) or "metadata" in record or metadata["version"] != needed_version(record):
        raise Invalid("its record is not what it should be")
    dtype, tensors = _layout(header)
    contents = AdapterContents(dtype, tensors, header.file_size, {**record, "metadata": others} if others else record)
    check_shapes(contents.shapes, contents.record)
    return replace(contents, sha256=metadata.get(hash_key(dtype, contents.shapes["A"][1])))


def _check_version(version: str, name: str) -> None:
    if version in VERSIONS:
        return
    if version.isascii() and version.isdigit() and len(version) < 10 and int(version) > int(VERSIONS[-1]):
        raise AdapterError(f"{name} was made by a newer v2l (format {version}, this one reads {VERSIONS[-1]}); "
                           "update v2l.")
    raise Invalid("its format version is unknown")


def _layout(header: Header) -> tuple[str, dict[str, StoredTensor]]:
    """The type of the four tensors, and where each is; they must fill the file."""
    if header.entries.keys() != {f"down_proj.{key}" for key in _TENSORS}:
        raise Invalid("it does not hold the four tensors of an adapter")
    stored = header.tensors()
    tensors = {key: stored[f"down_proj.{key}"] for key in _TENSORS}
    dtype = next((dtype for dtype, name in TENSOR_TYPES.items() if {name} == {t.dtype for t in tensors.values()}), None)
    if dtype is None:
        raise Invalid("its tensors are not all float32, all float16 or all bfloat16")
    if header.start + sum(tensor.size for tensor in tensors.values()) != header.file_size:
        raise Invalid("its tensors do not fill the file exactly: it is cut short, or tampered with")
    return dtype, tensors


def check_shapes(shapes: Mapping[str, tuple[int, ...]], record: Record) -> None:
    """Raises Invalid unless the four shapes agree with each other and with the record."""
    if any(len(shape) != 3 or min(shape) < 1 for shape in shapes.values()):
        raise Invalid("its tensors have impossible shapes")
    (L, R, d_in), (_, _, d_out), (_, r, _) = shapes["A"], shapes["B"], shapes["bias_A"]
    if shapes != {"A": (L, R, d_in), "B": (L, R, d_out), "bias_A": (L, r, d_in), "bias_B": (L, r, d_out)}:
        raise Invalid("its tensors' shapes do not fit each other")
    check(record, L, R, r)
