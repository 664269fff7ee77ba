"""An adapter of many segments -> one of a smaller rank, layer by layer as near as that rank allows.

What its segments add to a layer, the sum of their B^T A, is one matrix; its best approximation of rank R in the
Frobenius norm is its singular value decomposition cut off after R values (Eckart and Young 1936). It is found on the
small factors, with numpy alone. The hypernetwork's bias stays apart as it was, so that a compressed file joins like any
other and the bias counts once; the segments cannot be told apart any more.

The same adapter gives the same bytes: the signs of singular vectors, which are free, are fixed, and all is computed in
float64, whose last digits, in which processors and numbers of threads may differ, are rounded away.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from v2l.adapter.dtypes import Array, from_float32, to_float32
from v2l.adapter.file import Adapter
from v2l.adapter.record import Piece, Record, combine, singles
from v2l.errors import UsageError

if TYPE_CHECKING:
    from v2l.system.progress import Progress

Matrix = npt.NDArray[np.float64]


def compress(adapter: Adapter, max_rank: int, progress: Progress | None = None) -> Adapter:
    """The adapter with its segments in at most `max_rank` ranks, the bias not counted; itself where it has no more.

    Never more ranks than the smaller side of the weight, min(d_in, d_out), are kept: so many hold any sum, and only
    rounding is lost. The result keeps the dtype; its record says how far it is from what it was made of, the rounding
    of the stored factors included. UsageError where `max_rank` is below 1; AdapterError where a value does not fit the
    dtype.
    """
    if max_rank < 1:
        raise UsageError(f"A rank of {max_rank} holds nothing; give a rank of 1 or more.")
    if max_rank >= adapter.total_rank:
        return adapter
    rank, layers = _kept(adapter, max_rank), adapter.num_layers
    A, B = (np.empty((layers, rank, array.shape[2]), array.dtype) for array in (adapter.A, adapter.B))
    norms, lost = np.zeros(layers), np.zeros(layers)
    for layer in range(layers):
        whole_A, whole_B = _wide(adapter.A[layer], adapter.dtype), _wide(adapter.B[layer], adapter.dtype)
        factors, norms[layer], tail = truncate(whole_A, whole_B, rank)
        A[layer], B[layer] = (from_float32(factor.astype(np.float32), adapter.dtype) for factor in factors)
        stored = _wide(A[layer], adapter.dtype), _wide(B[layer], adapter.dtype)
        # What is cut off lies across what is kept, and so, but for products of two roundings, across its rounding.
        lost[layer] = math.hypot(tail, _distance(factors, stored))
        if progress:
            progress("Compressing", layer + 1, layers)
    lost += _lost_before(adapter)
    block = {"norms": [_short(norm) for norm in norms], "error": _ratio(_norm(lost), _norm(norms)),
             "errors": list(map(_ratio, lost, norms)), "sha256": _digest(adapter)}
    return replace(adapter, A=A, B=B, record=_record(adapter, block, rank), name="The compressed adapter")


def is_compressed(adapter: Adapter, whole: Adapter, max_rank: int) -> bool:
    """Whether `adapter` is what `compress(whole, max_rank)` gives, told without computing it."""
    rank = _kept(whole, max_rank)
    return (
        max_rank < whole.total_rank
        and len(adapter.compressed) == 1
        and adapter.dtype == whole.dtype
        and adapter.record == _record(whole, adapter.compressed[0], rank)
        and adapter.bias_A.tobytes() == whole.bias_A.tobytes()
        and adapter.bias_B.tobytes() == whole.bias_B.tobytes()
        and adapter.compressed[0]["sha256"] == _digest(whole)
    )


def _kept(adapter: Adapter, max_rank: int) -> int:
    return min(max_rank, adapter.A.shape[2], adapter.B.shape[2])


def truncate(A: Matrix, B: Matrix, rank: int) -> tuple[tuple[Matrix, Matrix], float, float]:
    """The best approximation of B^T A, for A [R, d_in] and B [R, d_out], of rank <= min(R, d_in, d_out).

    Returns its factors [rank, d_in] and [rank, d_out], the Frobenius norm of B^T A, and that of what is cut off. Either
    factor takes the roots of the singular values, so that both have the same norms, which a narrow type holds best.
    """
    (Q_in, R_in), (Q_out, R_out) = _orthogonal(A), _orthogonal(B)
    U, values, Vt = np.linalg.svd(R_out @ R_in.T, full_matrices=False)
    kept_A, kept_B, roots = Vt[:rank] @ Q_in.T, U[:, :rank].T @ Q_out.T, np.sqrt(values[:rank])[:, None]
    largest = np.take_along_axis(kept_A, np.abs(kept_A).argmax(axis=1)[:, None], axis=1)
    roots = np.copysign(roots, largest)  # of the two signs a pair of vectors may have, the one that makes this positive
    return (roots * kept_A, roots * kept_B), _norm(values), _norm(values[rank:])


def _orthogonal(X: Matrix) -> tuple[Matrix, Matrix]:
    """X [R, d] -> Q [d, m] of orthonormal columns and T [m, R] with X^T = Q T; m = min(R, d)."""
    if X.shape[0] >= X.shape[1]:
        return np.eye(X.shape[1]), X.T
    Q, T = np.linalg.qr(X.T)
    return Q, T


def _distance(factors: tuple[Matrix, Matrix], stored: tuple[Matrix, Matrix]) -> float:
    """The Frobenius norm of B'^T A' - B^T A = B^T (A' - A) + (B' - B)^T A', where the two are close."""
    (A, B), (A_, B_) = factors, stored
    left, right = np.concatenate([B, B_ - B]), np.concatenate([A_ - A, A_])
    return math.sqrt(max(0.0, float(np.sum((left @ left.T) * (right @ right.T)))))


def _lost_before(adapter: Adapter) -> Matrix:
    """Norm of the most that compressing before took away, by layer: errors add up at worst."""
    taken = [np.multiply(block["errors"], block["norms"], dtype=np.float64) for block in adapter.compressed]
    return np.sum([np.zeros(adapter.num_layers), *taken], axis=0)


def _record(whole: Adapter, block: Record, rank: int) -> Record:
    return combine([Piece(singles(whole.record), {**block, "rank": [0, rank]})])


def _digest(adapter: Adapter) -> str:
    digest = hashlib.sha256()
    for array in (adapter.A, adapter.B):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _wide(array: Array, dtype: str) -> Matrix:
    return to_float32(array, dtype).astype(np.float64)


def _norm(values: Matrix) -> float:
    return float(np.linalg.norm(values))


def _ratio(part: float, whole: float) -> float:
    """Part of a whole, to six digits; 0 of nothing."""
    return _short(part / whole) if whole else 0.0


def _short(value: float) -> float:
    """A number with six digits: more would be noise."""
    return float(f"{value:.6g}")
