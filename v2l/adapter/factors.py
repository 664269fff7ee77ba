"""An adapter as other engines take one: per layer one pair of matrices and one number, the bias among their ranks.

For x entering layer l's `down_proj`, PEFT, vLLM and llama.cpp compute y = W x + alpha / R * B (A x). That is
v2l/README.md section 6 with A = [A_1; ...; A_k; bias_A], B^T likewise, and alpha = scale * R. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2l.adapter.dtypes import Array, from_float32
from v2l.adapter.file import Adapter
from v2l.errors import AdapterError, UsageError

LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Factors:
    """What every engine's file of an adapter holds."""

    A: Array
    """[L, R, d_in]"""
    B: Array
    """[L, d_out, R]: transposed, as engines keep it."""
    alpha: float
    """scale * R, of the R that these matrices have."""
    dtype: str
    """float32 or float16, of both."""

    @property
    def rank(self) -> int:
        """R: the ranks of all segments, the bias's, and zeros that fill up."""
        return int(self.A.shape[1])

    @property
    def scale(self) -> float:
        """What B (A x) is multiplied with."""
        return self.alpha / self.rank


def factors(adapter: Adapter, dtype: str | None = None, pad_rank: int | None = None) -> Factors:
    """The factors of an adapter: those of its segments in order, and the bias once.

    `dtype` is float32 or float16, by default what holds the stored values exactly: float16 where the file does, else
    float32. `pad_rank` adds ranks of zeros up to that many, which changes nothing that is computed. UsageError where
    there are more ranks already; AdapterError where a value is not finite, or in float16 too large for an engine that
    multiplies B with the scale beforehand.
    """
    dtype = dtype or ("float16" if adapter.dtype == "float16" else "float32")
    parts = adapter.float32()
    A = np.concatenate([parts["A"], parts["bias_A"]], 1)
    B = np.concatenate([parts["B"], parts["bias_B"]], 1)
    rank = A.shape[1]
    check_pad_rank(adapter, pad_rank)
    zeros = ((0, 0), (0, (pad_rank or rank) - rank), (0, 0))
    A, B = np.pad(A, zeros), np.pad(B, zeros)
    largest = LARGEST_FLOAT16 if dtype == "float16" else float(np.finfo(np.float32).max)
    if not np.isfinite(A).all() or not adapter.scale * float(np.abs(B).max()) < largest:
        raise AdapterError(f"{adapter.name} has values that {dtype} cannot hold once they are multiplied with its "
                           f"scale of {adapter.scale:g}; " + ("write it with --dtype float32." if dtype == "float16"
                                                              else "get it again, or ingest the video."))
    return Factors(from_float32(A, dtype), np.ascontiguousarray(from_float32(B, dtype).swapaxes(1, 2)),
                   adapter.scale * A.shape[1], dtype)


def check_pad_rank(adapter: Adapter, pad_rank: int | None) -> None:
    """UsageError where an adapter, with its bias, has more ranks than are to be filled up to."""
    rank = adapter.total_rank + adapter.rank
    if pad_rank is not None and pad_rank < rank:
        raise UsageError(f"{adapter.name} has rank {rank}, and --pad-rank {pad_rank} is less; name {rank} or more.")


def joined_parts(adapter: Adapter) -> int:
    """How many segments, or groups of segments that were compressed together, an adapter sums up."""
    return len({tuple(segment["rank"]) for segment in adapter.segments})


def change(factors: Factors, layer: int) -> Array:
    """What an adapter adds to the weight of a layer's `down_proj`: scale * B A [d_out, d_in] in float64."""
    A, B = factors.A[layer].astype(np.float64), factors.B[layer].astype(np.float64)
    return factors.scale * (B @ A)


