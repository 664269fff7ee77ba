"""Compressing: the best approximation by a second path, the dense sum; the bias once; what the format says of it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.adapters import D_IN, D_OUT, L, make, r, source, values

from v2l.adapter import Adapter, load, load_label, save
from v2l.adapter.compress import compress, is_compressed, truncate
from v2l.adapter.dtypes import DTYPES, from_float32
from v2l.adapter.join import each_segment, join, slice_segments, within
from v2l.adapter.record import pieces
from v2l.errors import AdapterError, UsageError

WIDE_IN, WIDE_OUT = 40, 30
"""Sides of a weight that eight segments of rank 4 do not fill."""


def segment(seed: int, dtype: str = "float32", size: float = 1.0, **changed: Any) -> Adapter:
    """A segment with room for several to be added without filling the weight."""
    adapter = make(seed, dtype, seed, seed + 1, **changed)
    arrays = {"A": values(seed, L, r, WIDE_IN) * size, "B": values(seed + 50, L, r, WIDE_OUT) * size,
              "bias_A": values(77, L, r, WIDE_IN), "bias_B": values(78, L, r, WIDE_OUT)}
    return replace(adapter, **{key: from_float32(array, dtype) for key, array in arrays.items()})


def joined(*adapters: Adapter) -> Adapter:
    return join(adapters)[0]


def whole(dtype: str = "float32", count: int = 5) -> Adapter:
    return joined(*(segment(seed, dtype) for seed in range(count)))


def dense(adapter: Adapter) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The sum of B^T A over all segments, [L, d_out, d_in], formed outright."""
    tensors = adapter.float32()
    return np.matmul(np.float64(tensors["B"]).transpose(0, 2, 1), np.float64(tensors["A"]))


def contents(adapter: Adapter, folder: Path) -> bytes:
    save(adapter, folder / "x.v2lora")
    return (folder / "x.v2lora").read_bytes()


def relative(one: Adapter, other: Adapter) -> np.ndarray[Any, Any]:
    return np.linalg.norm(dense(one) - dense(other), axis=(1, 2)) / np.linalg.norm(dense(other), axis=(1, 2))


# The approximation.


@pytest.mark.parametrize("R, d_in, d_out, rank", [(20, 40, 30, 7), (20, 40, 30, 20), (35, 40, 30, 30), (50, 40, 30, 12),
                                                  (8, 5, 9, 5), (1, 4, 4, 1), (60, 8, 8, 8)])
def test_truncate_is_the_singular_value_decomposition_cut_off(R: int, d_in: int, d_out: int, rank: int) -> None:
    A, B = np.float64(values(1, R, d_in)), np.float64(values(2, R, d_out))
    U, S, Vt = np.linalg.svd(B.T @ A)
    (kept_A, kept_B), norm, tail = truncate(A, B, rank)
    assert kept_A.shape == (rank, d_in) and kept_B.shape == (rank, d_out)
    np.testing.assert_allclose(kept_B.T @ kept_A, (U[:, :rank] * S[:rank]) @ Vt[:rank], atol=1e-10 * S[0])
    np.testing.assert_allclose(tail, np.sqrt(np.sum(S[rank:]**2)), atol=1e-10 * S[0])
    np.testing.assert_allclose(norm, np.linalg.norm(S))
    np.testing.assert_allclose(np.linalg.norm(kept_A, axis=1), np.sqrt(S[:rank]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(kept_B, axis=1), np.sqrt(S[:rank]), atol=1e-6)
    for row in kept_A[np.sqrt(S[:rank]) > 1e-6]:
        assert row[np.abs(row).argmax()] > 0


@pytest.mark.parametrize("rank", [1, 3, 8, 19])
def test_the_error_is_the_tail_of_the_singular_values(rank: int) -> None:
    """Eckart and Young: no approximation of the rank is nearer, and ours is as near."""
    full = whole()
    small = compress(full, rank)
    assert small.total_rank == rank and small.A.shape == (L, rank, WIDE_IN) and small.B.shape == (L, rank, WIDE_OUT)
    S = np.linalg.svd(dense(full), compute_uv=False)
    tails = np.sqrt((S[:, rank:]**2).sum(1))
    (block,) = small.compressed
    np.testing.assert_allclose(relative(small, full), tails / np.linalg.norm(S, axis=1), rtol=1e-5)
    np.testing.assert_allclose(block["errors"], tails / np.linalg.norm(S, axis=1), rtol=1e-5)
    np.testing.assert_allclose(block["error"], np.linalg.norm(tails) / np.linalg.norm(S), rtol=1e-5)
    np.testing.assert_allclose(block["norms"], np.linalg.norm(S, axis=1), rtol=1e-5)


def test_more_rank_is_never_worse() -> None:
    errors = [compress(whole(), rank).compressed[0]["error"] for rank in range(1, 20)]
    assert all(a > b for a, b in itertools.pairwise(errors)) and errors[0] < 1


@pytest.mark.parametrize("dtype, rounding", [("float32", 2e-7), ("float16", 6e-4), ("bfloat16", 5e-3)])
def test_the_recorded_error_counts_the_rounding(dtype: str, rounding: float) -> None:
    full = whole(dtype)
    for rank in (6, 18):
        small = compress(full, rank)
        assert small.dtype == dtype
        np.testing.assert_allclose(small.compressed[0]["errors"], relative(small, full), rtol=1e-4)
    filled = joined(*(make(seed, dtype, seed, seed + 1) for seed in range(4)))  # 16 ranks in a weight of 10 x 6
    small = compress(filled, 15)
    assert small.total_rank == 6 == min(D_IN, D_OUT)
    assert max(small.compressed[0]["errors"]) < rounding
    np.testing.assert_allclose(small.compressed[0]["errors"], relative(small, filled), rtol=1e-3, atol=1e-9)


def test_exact_where_the_true_rank_fits() -> None:
    """Segments that say the same: eight ranks, four of them needed."""
    one = segment(0)
    twice = joined(one, replace(segment(1), A=one.A * np.float32(0.5), B=one.B))
    small = compress(twice, r)
    assert small.total_rank == r and small.compressed[0]["error"] < 2e-7
    np.testing.assert_allclose(dense(small), 1.5 * dense(one), atol=1e-4)


def test_nothing_is_lost_where_there_is_room(tmp_path: Path) -> None:
    full = whole()
    for rank in (full.total_rank, full.total_rank + 1, 10_000):
        assert contents(compress(full, rank), tmp_path) == contents(full, tmp_path)
    small = compress(full, 9)
    assert contents(compress(small, 9), tmp_path) == contents(small, tmp_path)
    for rank in (0, -1):
        with pytest.raises(UsageError, match="holds nothing"):
            compress(full, rank)


def test_factors_of_any_size_are_held(tmp_path: Path) -> None:
    """A hypernetwork may make one factor large and the other small; float16 holds what is kept of both."""
    for size_A, size_B in ((60.0, 1e-4), (1e-4, 60.0), (1e-3, 1e-3), (100.0, 100.0)):
        adapters = [replace(a, A=from_float32(a.float32()["A"] * np.float32(size_A), "float16"),
                            B=from_float32(a.float32()["B"] * np.float32(size_B), "float16"))
                    for a in (segment(seed, "float16") for seed in range(5))]
        full = joined(*adapters)
        small = compress(full, 12)
        best = np.linalg.svd(dense(full), compute_uv=False)
        best = np.sqrt((best[:, 12:]**2).sum(1)) / np.linalg.norm(best, axis=1)
        np.testing.assert_allclose(relative(small, full), best, rtol=1e-4)
    large = replace(full, A=np.full_like(full.A, 60000), B=np.full_like(full.B, 60000))
    with pytest.raises(AdapterError, match="too large for float16"):
        compress(large, 12)


def test_a_layer_of_nothing_stays_nothing() -> None:
    full = whole()
    full.A[1] = 0
    (block,) = compress(full, 5).compressed
    assert block["errors"][1] == block["norms"][1] == 0 < block["errors"][0]


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = ("import sys; from test_compress import whole; from v2l.adapter.file import save; "
            "from v2l.adapter.compress import compress; save(compress(whole('float16'), 7), sys.argv[1])")
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(Path(__file__).parent)])
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True,
                   env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"})
    assert contents(compress(whole("float16"), 7), tmp_path) == (tmp_path / "other").read_bytes()


# What becomes of the segments and the bias.


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path: Path, dtype: str) -> None:
    full = joined(segment(0, dtype), segment(1, dtype, version="0.2.0"), segment(2, dtype, source=source("b.mp4")))
    small = compress(full, 5)
    first = contents(small, tmp_path)
    loaded = load(tmp_path / "x.v2lora")
    assert loaded.record == small.record == load_label(tmp_path / "x.v2lora").record and loaded.total_rank == 5
    assert contents(loaded, tmp_path) == first and len(first) == small.file_size
    assert b'"version":"2"' in first and b'"version":"1"' in contents(full, tmp_path)
    assert [{**s, "rank": 0} for s in small.segments] == [{**s, "rank": 0} for s in full.segments]
    assert [s["rank"] for s in small.segments] == [[0, 5]] * 3 and small.sources == full.sources
    assert small.bias_A.tobytes() == full.bias_A.tobytes() and small.bias_B.tobytes() == full.bias_B.tobytes()


def test_joins_like_any_other_and_the_bias_counts_once(tmp_path: Path) -> None:
    a, b = compress(joined(segment(0), segment(3)), 5), compress(joined(segment(4), segment(5)), 3)
    c, d = segment(2), segment(6)
    everything = joined(d, a, c, b)
    assert [s["start"] for s in everything.segments] == [0, 3, 2, 4, 5, 6]
    assert [s["rank"] for s in everything.segments] == [[0, 5], [0, 5], [5, 9], [9, 12], [9, 12], [12, 16]]
    assert [block["rank"] for block in everything.compressed] == [[0, 5], [9, 12]]
    assert everything.bias_A.shape[1] == r and everything.bias_A.tobytes() == c.bias_A.tobytes()
    np.testing.assert_allclose(dense(everything), sum(map(dense, (a, b, c, d))), atol=1e-4)
    expected = contents(everything, tmp_path)
    for other in (joined(joined(d, a), joined(c, b)), joined(d, joined(a, joined(c, b))), joined(everything)):
        assert contents(other, tmp_path) == expected
    save(everything, tmp_path / "all.v2lora")
    assert contents(load(tmp_path / "all.v2lora"), tmp_path) == expected
    with pytest.raises(AdapterError, match="count double"):
        joined(a, segment(3))


def test_no_overlap_is_seen_where_a_compressed_piece_spans_a_gap() -> None:
    a = compress(joined(segment(0), segment(3)), 5)
    assert join([a, segment(2)])[1] == []
    assert "0:00 to 0:01 of" in join([a, replace(segment(7), record=make(7, start=0.5, end=0.9).record)])[1][0]


def test_what_was_compressed_leaves_whole(tmp_path: Path) -> None:
    a, c, d = compress(joined(segment(0), segment(3)), 5), segment(2), segment(6)
    everything = joined(a, c, d)
    assert contents(slice_segments(everything, [0, 1]), tmp_path) == contents(a, tmp_path)
    assert contents(slice_segments(everything, [2]), tmp_path) == contents(c, tmp_path)
    assert contents(within(everything, 2, 3), tmp_path) == contents(c, tmp_path)
    assert contents(slice_segments(everything, [0, 1, 3]), tmp_path) == contents(joined(a, d), tmp_path)
    assert contents(slice_segments(a, [0, 1]), tmp_path) == contents(a, tmp_path)
    for attempt in (lambda: slice_segments(everything, [0]), lambda: slice_segments(a, [1]),
                    lambda: within(everything, 0, 3), lambda: each_segment(everything, range(4)),
                    lambda: each_segment(everything, [1, 2])):
        with pytest.raises(AdapterError, match="compressed with --max-rank, which mixed its segments"):
            attempt()


def test_each_segment_is_a_file_that_was_joined(tmp_path: Path) -> None:
    ps = [segment(seed) for seed in range(3)]
    found = {i: contents(one, tmp_path) for i, one in each_segment(joined(*ps), [2, 0, 2])}
    assert list(found) == [0, 2] and found == {i: contents(ps[i], tmp_path) for i in (0, 2)}
    everything = joined(compress(joined(ps[0], ps[1]), 5), ps[2])
    assert [(i, contents(one, tmp_path)) for i, one in each_segment(everything, [2])] == [(2, found[2])]
    with pytest.raises(UsageError, match="segments 0 to 2"):
        each_segment(everything, [3])


def test_compressing_again_adds_up_what_was_lost() -> None:
    """At most: the recorded error is a bound on the distance from what was never compressed."""
    parts = [joined(*(segment(seed) for seed in seeds)) for seeds in ((0, 1, 2), (3, 4, 5))]
    full = joined(*parts)
    once = joined(*(compress(part, 8) for part in parts))
    twice = compress(once, 6)
    (block,) = twice.compressed
    assert block["rank"] == [0, 6] and len(twice.segments) == 6 and [p.rank for p in pieces(twice.record)] == [6]
    real = np.linalg.norm(dense(twice) - dense(full), axis=(1, 2)) / np.linalg.norm(dense(once), axis=(1, 2))
    assert (real < block["errors"]).all() and (block["errors"] < 3 * real).all()
    assert (relative(twice, once) < block["errors"]).all()


def test_one_segment_can_be_compressed(tmp_path: Path) -> None:
    small = compress(segment(0), 2)
    assert small.total_rank == 2 and small.segments[0]["rank"] == [0, 2]
    assert contents(slice_segments(joined(small, segment(1)), [0]), tmp_path) == contents(small, tmp_path)


def test_what_is_up_to_date_is_known() -> None:
    full = whole()
    small = compress(full, 7)
    assert is_compressed(small, full, 7)
    other = whole()
    other.A[0, 0, 0] += 1
    assert not is_compressed(small, other, 7) and not is_compressed(small, full, 8)
    assert not is_compressed(full, full, 7) and not is_compressed(compress(full, 8), full, 7)
    assert not is_compressed(small, whole("float16"), 7) and not is_compressed(small, whole(count=4), 7)


# The record of version 2.


def edited(adapter: Adapter, **block: Any) -> dict[str, Any]:
    return {**adapter.record, "compressed": [{**adapter.compressed[0], **block}]}


def without(adapter: Adapter, key: str) -> dict[str, Any]:
    return {**adapter.record, "compressed": [{k: v for k, v in adapter.compressed[0].items() if k != key}]}


def with_slices(adapter: Adapter, *slices: Any) -> dict[str, Any]:
    return {**adapter.record, "segments": [{**s, "rank": rank}
                                           for s, rank in zip(adapter.segments, slices, strict=True)]}


@pytest.mark.parametrize("name, change", {
    "none": lambda a: {**a.record, "compressed": []}, "null": lambda a: {**a.record, "compressed": None},
    "object": lambda a: {**a.record, "compressed": {}}, "number": lambda a: {**a.record, "compressed": [1]},
    "gone": lambda a: {k: v for k, v in a.record.items() if k != "compressed"},
    "twice": lambda a: {**a.record, "compressed": a.compressed * 2},
    "another": lambda a: {**a.record, "compressed": [*a.compressed, {**a.compressed[0], "rank": [5, 9]}]},
    "no rank": lambda a: without(a, "rank"), "no error": lambda a: without(a, "error"),
    "no errors": lambda a: without(a, "errors"), "no norms": lambda a: without(a, "norms"),
    "no sha256": lambda a: without(a, "sha256"), "rank short": lambda a: edited(a, rank=[0, 4]),
    "rank long": lambda a: edited(a, rank=[0, 6]), "rank of floats": lambda a: edited(a, rank=[0.0, 5.0]),
    "rank text": lambda a: edited(a, rank="05"), "rank reversed": lambda a: edited(a, rank=[5, 0]),
    "rank true": lambda a: edited(a, rank=[False, 5]), "error text": lambda a: edited(a, error="0"),
    "error negative": lambda a: edited(a, error=-0.1), "error NaN": lambda a: edited(a, error=float("nan")),
    "errors few": lambda a: edited(a, errors=[0.1] * (L - 1)), "errors many": lambda a: edited(a, errors=[0.1] * 9),
    "errors text": lambda a: edited(a, errors=["0"] * L), "errors an object": lambda a: edited(a, errors={}),
    "norms infinite": lambda a: edited(a, norms=[float("inf")] * L), "norms few": lambda a: edited(a, norms=[]),
    "sha256 empty": lambda a: edited(a, sha256=""),
    "slices of version 1": lambda a: with_slices(a, [0, 4], [4, 8]),
    "slices that part": lambda a: with_slices(a, [0, 2], [2, 5]),
    "slice beyond": lambda a: with_slices(a, [0, 5], [5, 9]), "slice of none": lambda a: with_slices(a, [0, 5], [5, 5]),
    "slice short": lambda a: with_slices(a, [0, 5], [0, 4]),
    "own": lambda a: {**a.record, "segments": [{**s, "own": {"compressed": []}} for s in a.segments]},
}.items())
def test_records_that_contradict_themselves(name: str, change: Any) -> None:
    small = compress(joined(segment(0), segment(1)), 5)
    with pytest.raises(AdapterError):
        replace(small, record=change(small))


def test_no_more_rank_than_the_segments_had() -> None:
    """Six ranks for one segment of four: not of our making."""
    small = compress(joined(segment(0), segment(1)), 6)
    with pytest.raises(AdapterError, match="share out the ranks"):
        replace(small, record={**small.record, "segments": small.segments[:1]})


@pytest.mark.parametrize("made, claimed", [(True, "1"), (False, "2"), (True, "3")])
def test_a_version_that_is_not_the_file_s(tmp_path: Path, made: bool, claimed: str) -> None:
    adapter = compress(whole(), 5) if made else whole()
    data = contents(adapter, tmp_path)
    number = b'"version":"2"' if made else b'"version":"1"'
    (tmp_path / "x.v2lora").write_bytes(data.replace(number, b'"version":"%s"' % claimed.encode()))
    with pytest.raises(AdapterError, match="newer v2l" if claimed == "3" else "not a usable adapter"):
        load(tmp_path / "x.v2lora")


def test_unknown_fields_of_a_compression_are_kept(tmp_path: Path) -> None:
    small = compress(joined(segment(0), segment(1)), 5)
    small = replace(small, record=edited(small, note="mine"))
    both = joined(small, segment(4))
    assert both.compressed[0]["note"] == "mine"
    assert contents(slice_segments(both, [0, 1]), tmp_path) == contents(small, tmp_path)
