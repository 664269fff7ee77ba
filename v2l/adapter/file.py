"""The `Adapter` value and the `.v2lora` file, versions 1 and 2 (v2l/README.md section 10; `v2l.adapter.record`).

A `.v2lora` file is a safetensors file, written and read here by hand: the safetensors library orders metadata at
random (we want the same bytes for the same input), and checks a file from a stranger less closely. numpy only.

Shapes: L layers; k segments of rank r each, R = k * r, or fewer where segments were compressed.

A file carries the sha256 of its record and tensors in the metadata key `sha256.DTYPE.R`, and `load` checks it. A v2l
that knows nothing of it keeps the key as any other and may so hand it on to files it joins or slices; their R or dtype
is another, which is why both are in the key: what it says of another R or dtype is not of this file, and passed over.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from v2l.adapter.dtypes import DTYPES, Array, all_finite, from_float32, to_float32
from v2l.adapter.find import holds_adapter, is_adapter_name
from v2l.adapter.label import (
    FORMAT,
    MAX_HEADER,
    TENSOR_TYPES,
    AdapterContents,
    check_shapes,
    damaged,
    hash_key,
    is_hash,
    read_contents,
    reading,
)
from v2l.adapter.record import Record, is_foreign, needed_version
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import AdapterError, OutputError, UsageError
from v2l.system.files import replacing
from v2l.system.strict_json import Invalid, encode
from v2l.wording import count_of, shortened, time_text

MAP_FROM = 64 << 20 if os.name != "nt" else sys.maxsize
"""Bytes of tensors from which a file is mapped rather than read: on Windows none is, because what is mapped, by a
server say, can be neither replaced nor removed there."""

_ALIGNMENT = 64  # of the first tensor in the file, so that a mapped file can be computed on in place


@dataclass(frozen=True, eq=False, repr=False)
class Adapter:
    """What was kept of one or more segments of video, for one base model. Checked on construction (AdapterError).

    For x entering layer l's `down_proj`: y = W x + scale * B^T (A x) over the rows of all segments and, once, the bias
    pair (v2l/README.md section 6). Arrays hold stored values of `dtype`; treat them and the record as constant.
    """

    A: Array
    """[L, R, d_in], segments in time order along R."""
    B: Array
    """[L, R, d_out]"""
    bias_A: Array
    """[L, r, d_in], the hypernetwork's video-independent pair."""
    bias_B: Array
    """[L, r, d_out]"""
    dtype: str
    """float32, float16 or bfloat16."""
    record: Record
    """What it says about itself: see `v2l.adapter.record`."""
    name: str = "The adapter"
    """Name in messages: the file it was read from."""

    def __post_init__(self) -> None:
        try:
            if self.dtype not in DTYPES:
                raise Invalid(f"{self.dtype} is not a type it can have")
            if any(array.dtype != DTYPES[self.dtype] for array in self.tensors().values()):
                raise Invalid(f"its tensors do not hold {self.dtype}")
            check_shapes({key: array.shape for key, array in self.tensors().items()}, self.record)
        except Invalid as error:
            raise damaged(self.name, error) from error

    def __repr__(self) -> str:
        names = list(dict.fromkeys(source["name"] for source in self.sources))
        of = names[0] if len(names) == 1 else f"{len(names)} videos"
        start, end = map(time_text, self.span)
        return (f"<Adapter of {shortened(of, 60)}: {count_of(len(self.segments), 'segment')}, {start} to {end}, base "
                f"{shortened(self.record['base']['id'], 60)}, rank {self.total_rank} + {self.rank}, {self.dtype}>")

    def tensors(self) -> dict[str, Array]:
        """The four arrays as stored, by the names A, B, bias_A, bias_B."""
        return {"A": self.A, "B": self.B, "bias_A": self.bias_A, "bias_B": self.bias_B}

    def float32(self) -> dict[str, npt.NDArray[np.float32]]:
        """The four arrays in float32, by the names A, B, bias_A, bias_B."""
        return {key: to_float32(array, self.dtype) for key, array in self.tensors().items()}

    @property
    def num_layers(self) -> int:
        return int(self.A.shape[0])

    @property
    def rank(self) -> int:
        """Rank r of one segment as it was made, and of the bias."""
        return int(self.bias_A.shape[1])

    @property
    def total_rank(self) -> int:
        """Rank R of all segments, the bias not counted."""
        return int(self.A.shape[1])

    @property
    def scale(self) -> float:
        return float(self.record["scale"])

    @property
    def segments(self) -> list[Record]:
        segments: list[Record] = self.record["segments"]
        return segments

    @property
    def sources(self) -> list[Record]:
        sources: list[Record] = self.record["sources"]
        return sources

    @property
    def is_foreign(self) -> bool:
        """Whether the model knows nothing of a video here, so that its answers are made up; only `tiny` tells."""
        return is_foreign(self.record)

    @property
    def compressed(self) -> list[Record]:
        """Entries of the record about segments that were compressed together; none in a file of version 1."""
        blocks: list[Record] = self.record.get("compressed", [])
        return blocks

    @property
    def span(self) -> tuple[float, float]:
        """Seconds from the earliest start to the latest end of its segments."""
        return min(s["start"] for s in self.segments), max(s["end"] for s in self.segments)

    @property
    def file_size(self) -> int:
        """Bytes of the file `save` writes."""
        return len(_header(self, "0" * 64)) + sum(array.nbytes for array in self.tensors().values())


def single(
    A: npt.NDArray[np.float32], B: npt.NDArray[np.float32], bias_A: npt.NDArray[np.float32],
    bias_B: npt.NDArray[np.float32], dtype: str, *, base: Record, hypernetwork: Record, scale: float, source: Record,
    start: float, end: float, timestamps: list[float], sampling: Record, prompt: str, compute: Record, version: str,
) -> Adapter:
    """The adapter of one segment of one video, fresh from the hypernetwork.

    A [L, r, d_in], B [L, r, d_out] and the bias pair of the same shapes, float32; start, end and the timestamps of the
    frames that were seen in seconds; `version` of v2l; the other fields as in `v2l.adapter.record`. AdapterError where
    a value is not finite, or too large for `dtype`.
    """
    rank = int(bias_A.shape[1])
    record = {
        "base": base, "hypernetwork": hypernetwork, "rank": rank, "scale": scale, "target_modules": ["down_proj"],
        "sources": [source],
        "segments": [{"source": 0, "start": start, "end": end, "timestamps": timestamps, "rank": [0, rank]}],
        "sampling": sampling, "prompt": prompt, "compute": compute, "v2l": version,
    }
    return Adapter(from_float32(A, dtype), from_float32(B, dtype), from_float32(bias_A, dtype),
                   from_float32(bias_B, dtype), dtype, record)


# Writing.


def save(adapter: Adapter, path: str | os.PathLike[str]) -> None:
    """Writes the file, whole or not at all; the same adapter gives the same bytes. OutputError, also where a file that
    holds something else has the name, such as the video; AdapterError; UsageError for what is no adapter."""
    if not isinstance(adapter, Adapter):
        raise UsageError(f"What is saved is an adapter, not {type(adapter).__name__}.")
    for key, array in adapter.tensors().items():
        if not all_finite(array, adapter.dtype):
            raise damaged(adapter.name, Invalid(f"{key} holds values that are not finite"))
    if not is_adapter_name(os.fspath(path)) and _holds_else(path):
        raise OutputError(f"{path} is there and is no adapter; save under another name, such as "
                          f"{os.path.splitext(path)[0]}{ADAPTER_SUFFIX}.")
    header = _header(adapter, _digest(adapter))
    with replacing(path) as file:
        file.write(header)
        for array in adapter.tensors().values():
            file.write(np.ascontiguousarray(array).data)


def _holds_else(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there that is neither an adapter nor empty."""
    return os.path.isfile(path) and os.path.getsize(path) > 0 and not holds_adapter(path)


def _digest(adapter: Adapter) -> str:
    """sha256 of what a file holds, however its header is written: the record, the shapes and type, the values."""
    shapes = {key: list(array.shape) for key, array in adapter.tensors().items()}
    digest = hashlib.sha256(encode([*_metadata(adapter), adapter.dtype, shapes]).encode())
    for array in adapter.tensors().values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _metadata(adapter: Adapter) -> tuple[Record, Record]:
    """The record as it is written, and the other metadata of the file, the hash left out."""
    record = {key: value for key, value in adapter.record.items() if key != "metadata"}
    return record, {key: value for key, value in adapter.record.get("metadata", {}).items() if not is_hash(key)}


def _header(adapter: Adapter, digest: str) -> bytes:
    record, metadata = _metadata(adapter)
    document: Record = {"__metadata__": {**metadata, hash_key(adapter.dtype, adapter.total_rank): digest,
                                         "format": FORMAT, "version": needed_version(record),
                                         "record": encode(record)}}
    offset = 0
    for key, array in adapter.tensors().items():
        document[f"down_proj.{key}"] = {"dtype": TENSOR_TYPES[adapter.dtype], "shape": list(array.shape),
                                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = encode(document).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise AdapterError(f"{adapter.name} records more than a file can hold; split it into several files.")
    return len(text).to_bytes(8, "little") + text


# Reading.


def load(path: str | os.PathLike[str]) -> Adapter:
    """Reads and checks a whole file: nothing of it is believed before it was checked. AdapterError."""
    with reading(path) as file:
        contents = read_contents(file)
        arrays: dict[str, Array] = {}
        for (key, shape), array in zip(contents.shapes.items(), _read_tensors(file, contents), strict=True):
            if not all_finite(array, contents.dtype):
                raise Invalid(f"{key} holds values that are not finite")
            arrays[key] = np.require(array, requirements="A").reshape(shape)
        adapter = Adapter(arrays["A"], arrays["B"], arrays["bias_A"], arrays["bias_B"], dtype=contents.dtype,
                          record=contents.record, name=os.fspath(path))
        if contents.sha256 not in (None, _digest(adapter)):
            raise Invalid("its content is not what its sha256 says, so it was damaged or changed")
        return adapter


def as_adapter(adapter: str | os.PathLike[str] | Adapter) -> Adapter:
    """The adapter itself, or the one a file holds. AdapterError; UsageError for what is neither."""
    if isinstance(adapter, Adapter):
        return adapter
    if isinstance(adapter, (str, os.PathLike)):
        return load(adapter)
    raise UsageError(f"An adapter is one that `ingest` or `load` gave, or the path of a file, not "
                     f"{type(adapter).__name__}.")


def _read_tensors(file: BinaryIO, contents: AdapterContents) -> Iterator[Array]:
    """The tensors, flat, as A, B, bias_A, bias_B: read or, where the file is large, mapped.

    Not always mapped, because a mapped file that another program cuts short kills us. Mapped as a private copy, because
    torch warns of arrays that cannot be written to. Each is read into memory of its own: who joins many files needs
    the bias of one.
    """
    dtype = DTYPES[contents.dtype]
    whole = None
    if sum(tensor.size for tensor in contents.tensors.values()) >= MAP_FROM:
        whole = mmap.mmap(file.fileno(), contents.size, access=mmap.ACCESS_COPY)
    for tensor in contents.tensors.values():
        count = tensor.size // dtype.itemsize
        if whole is not None:
            yield np.frombuffer(whole, dtype, count, tensor.start)
            continue
        file.seek(tensor.start)
        array = np.fromfile(file, dtype, count)
        if array.size != count:
            raise Invalid("it was cut short while it was read")
        yield array
