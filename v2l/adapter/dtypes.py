"""Numbers as an adapter stores them: float32, float16 or bfloat16. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from v2l.errors import AdapterError

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}
"""Types an adapter may be stored as, and how numpy holds them. It knows no bfloat16, whose bits are kept as is."""
_EXPONENT = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}


def to_float32(array: Array, dtype: str) -> npt.NDArray[np.float32]:
    """Stored values of `dtype` -> float32; exact."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def from_float32(array: npt.NDArray[np.float32], dtype: str) -> Array:
    """float32 -> stored values of `dtype`, to nearest even. AdapterError where a value does not fit."""
    values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise AdapterError("The adapter came out with values that are not finite; compute it with --dtype float32.")
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        stored: Array = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    else:
        with np.errstate(over="ignore"):
            stored = values.astype(DTYPES[dtype])
    if not all_finite(stored, dtype):
        raise AdapterError(f"The adapter has values too large for {dtype}; store it with --adapter-dtype float32.")
    return stored


def all_finite(array: Array, dtype: str) -> bool:
    """Whether all stored values are finite, told from their bits a piece at a time (the array may be a mapped file)."""
    mask, step = _EXPONENT[dtype], 1 << 20
    bits = np.ascontiguousarray(array).reshape(-1).view("<u4" if dtype == "float32" else "<u2")
    return not any(((bits[i:i + step] & mask) == mask).any() for i in range(0, bits.size, step))
