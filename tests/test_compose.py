"""Joining adapters and taking them apart: no arithmetic, the bias once, the same bytes whichever way one goes."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.adapters import D_IN, D_OUT, L, make, r, source, values

from v2l.adapter import Adapter, load, save
from v2l.adapter.dtypes import DTYPES
from v2l.adapter.file import single
from v2l.adapter.join import join, slice_segments, within
from v2l.errors import AdapterError, UsageError


def contents(adapter: Adapter, folder: Path) -> bytes:
    save(adapter, folder / "x.v2lora")
    return (folder / "x.v2lora").read_bytes()


def joined(*adapters: Adapter) -> Adapter:
    return join(adapters)[0]


def parts(dtype: str = "float32") -> list[Adapter]:
    """Segments that differ in everything that may."""
    return [
        make(1, dtype, 0, 10),
        make(2, dtype, 10, 20, version="0.2.0", compute={"dtype": "bfloat16", "device": "cuda"}),
        make(3, dtype, 20, 30, sampling={"frames": 24, "fps": 2, "skip": 1.0, "resolution": 512}),
        make(4, dtype, 0, 5, source=source("other.mkv", fps=30.0),
             base={"id": "local", "revision": "r", "fingerprint": "f" * 64}),
        make(5, dtype, 5, 9, source=source("other.mkv", fps=30.0), prompt="Look."),
    ]


# Joining.


@pytest.mark.parametrize("dtype", DTYPES)
def test_join_is_concatenation_and_the_bias_once(dtype: str) -> None:
    a, b, c = parts(dtype)[:3]
    whole = joined(a, b, c)
    assert whole.A.shape == (L, 3 * r, D_IN) and whole.B.shape == (L, 3 * r, D_OUT) and whole.total_rank == 3 * r
    for i, part in enumerate((a, b, c)):
        assert whole.A[:, i * r:(i + 1) * r].tobytes() == part.A.tobytes()
        assert whole.B[:, i * r:(i + 1) * r].tobytes() == part.B.tobytes()
        assert whole.segments[i]["rank"] == [i * r, (i + 1) * r]
    assert whole.bias_A.tobytes() == a.bias_A.tobytes() and whole.bias_B.tobytes() == a.bias_B.tobytes()
    assert whole.dtype == dtype and whole.span == (0, 30) and len(whole.sources) == 1


def test_the_released_compositions(reference: Path) -> None:
    """Rank order of the released merger: [A_1; ..; A_k; bias]."""
    golden, cases = load_file(reference / "golden.safetensors"), json.loads((reference / "golden.json").read_text())
    adapters = {}
    for case in cases["cases"]:
        tag = case["tag"]
        adapters[tag] = single(
            golden[f"{tag}/A"], golden[f"{tag}/B"], golden["bias/A"], golden["bias/B"], "float32",
            **{key: make().record[key] for key in ("base", "hypernetwork", "sampling", "compute")},
            scale=cases["lora_alpha"], source=source(case["video"]), start=0.0, end=case["duration"],
            timestamps=[i / case["fps"] for i in case["frame_indices"]], prompt=cases["internalization_prompt"],
            version="0.1.0")
    whole, notes = join([adapters["short.f12.e64"], adapters["clip.f12.e64"]])
    assert notes == ["Segments of 2 different videos were composed: short.mp4, clip.mp4."]
    for key in ("A", "B"):
        pair = np.concatenate([whole.float32()[key], whole.float32()[f"bias_{key}"]], axis=1)
        np.testing.assert_array_equal(pair, golden[f"compose/short.f12.e64+clip.f12.e64/{key}"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_joining_what_was_joined_counts_the_bias_once(tmp_path: Path, dtype: str) -> None:
    """Every way to bracket gives the same bytes, through files too."""
    ps = parts(dtype)
    expected = contents(joined(*ps), tmp_path)
    for cut in range(1, len(ps)):
        left, right = joined(*ps[:cut]), joined(*ps[cut:])
        assert contents(joined(left, right), tmp_path) == expected
        save(left, tmp_path / "left.v2lora")
        save(right, tmp_path / "right.v2lora")
        assert contents(joined(load(tmp_path / "left.v2lora"), load(tmp_path / "right.v2lora")), tmp_path) == expected
    assert contents(joined(joined(joined(ps[0], ps[1]), ps[2]), joined(ps[3], ps[4])), tmp_path) == expected
    assert contents(joined(joined(*ps)), tmp_path) == expected


def test_associative_where_parts_interleave(tmp_path: Path) -> None:
    ps = parts()
    for order in itertools.permutations(ps, 4):
        a, b, c, d = order
        expected = contents(joined(a, b, c, d), tmp_path)
        assert contents(joined(joined(a, b), joined(c, d)), tmp_path) == expected
        assert contents(joined(a, joined(b, joined(c, d))), tmp_path) == expected


def test_time_decides_the_order(tmp_path: Path) -> None:
    ps = parts()[:3]
    assert len({contents(joined(*order), tmp_path) for order in itertools.permutations(ps)}) == 1


def test_different_videos_keep_the_order_given() -> None:
    a, _, c, d, e = parts()
    whole = joined(e, c, a, d)
    assert [s["name"] for s in whole.sources] == ["other.mkv", "lecture.mp4"]
    assert [(s["source"], s["start"]) for s in whole.segments] == [(0, 0), (0, 5), (1, 0), (1, 20)]


def test_a_copy_under_another_name_is_the_same_video(tmp_path: Path) -> None:
    """By content, so no note and sorted by time; yet each keeps the name it was seen under."""
    sha = source()["sha256"]
    a, b = make(1, start=10, end=20), make(2, start=0, end=10, source=source("copy.mp4", sha256=sha))
    whole, notes = join([a, b])
    assert notes == [] and [s["name"] for s in whole.sources] == ["copy.mp4", "lecture.mp4"]
    assert contents(slice_segments(whole, [0]), tmp_path) == contents(b, tmp_path)


def test_what_differs_stays_with_its_segment() -> None:
    a, b, c = parts()[:3]
    record = joined(a, b, c).record
    assert record["v2l"] == "0.1.0" and record["compute"] == a.record["compute"]
    assert [set(s.get("own", {})) for s in record["segments"]] == [set(), {"v2l", "compute"}, {"sampling"}]


def test_notes() -> None:
    assert join([make(1)])[1] == []
    assert join([make(1, start=0, end=10), make(2, start=10, end=20)])[1] == []
    (note,) = join([make(1, start=0, end=10), make(2, start=9, end=20), make(3, start=9.5, end=9.8)])[1]
    assert note.startswith("Segments overlap")
    assert "0:00 to 0:10 of lecture.mp4 and 0:09 to 0:20 of lecture.mp4 (and 1 more)" in note
    (note,) = join([make(i, source=source(f"{'x' * (i + 1)}.mp4")) for i in range(5)])[1]
    assert note == "Segments of 5 different videos were composed: x.mp4, xx.mp4, xxx.mp4, 2 more."


def test_unknown_fields_come_through(tmp_path: Path) -> None:
    adapters = []
    for i, extra in enumerate(({"metadata": {"author": "a"}, "caption": 1, "same": [1]}, {"same": [1], "caption": 1.0},
                               {"metadata": {"author": "b"}, "same": [1], "caption": True})):
        adapter = make(i, start=i, end=i + 1)
        segment = {**adapter.segments[0], "scene": i}
        adapters.append(replace(adapter, record={**adapter.record, **extra, "segments": [segment]}))
    whole = joined(*adapters)
    assert whole.record["same"] == [1] and [s["scene"] for s in whole.segments] == [0, 1, 2]
    for i, adapter in enumerate(adapters):
        assert contents(slice_segments(whole, [i]), tmp_path) == contents(adapter, tmp_path)


def test_the_bytes_of_version_1(tmp_path: Path) -> None:
    """What v2l 0.1.0 wrote, to the bit; all that came since is the hash."""
    data = contents(joined(*parts()[:4]), tmp_path)
    end = 8 + int.from_bytes(data[:8], "little")
    document = json.loads(data[8:end])
    assert document["__metadata__"].pop(f"sha256.float32.{4 * r}")
    header = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-(8 + len(header)) % 64)
    first = len(header).to_bytes(8, "little") + header + data[end:]
    assert hashlib.sha256(first).hexdigest() == "24385aa66e623e4c14934859bd074a8e2aa9b9ac13c79a166cb488498a12525c"


# Taking apart.


@pytest.mark.parametrize("dtype", DTYPES)
def test_slices_are_the_files_that_were_joined(tmp_path: Path, dtype: str) -> None:
    ps = parts(dtype)
    whole = joined(*ps)
    save(whole, tmp_path / "whole.v2lora")
    for adapter in (whole, load(tmp_path / "whole.v2lora")):
        for i, part in enumerate(ps):
            assert contents(slice_segments(adapter, [i]), tmp_path) == contents(part, tmp_path)
        for chosen in itertools.chain(itertools.combinations(range(5), 2), itertools.combinations(range(5), 3)):
            expected = contents(joined(*(ps[i] for i in chosen)), tmp_path)
            assert contents(slice_segments(adapter, chosen), tmp_path) == expected
        assert contents(slice_segments(adapter, range(5)), tmp_path) == contents(whole, tmp_path)
    assert contents(joined(*(slice_segments(whole, [i]) for i in reversed(range(3)))), tmp_path) == \
        contents(slice_segments(whole, [0, 1, 2]), tmp_path)


def test_slicing_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    whole = joined(*parts())
    assert contents(slice_segments(whole, [3, 1, 1]), tmp_path) == contents(slice_segments(whole, [1, 3]), tmp_path)


@pytest.mark.parametrize("indices", [[], [-1], [5], [0, 9]])
def test_slices_that_are_not_there(indices: list[int]) -> None:
    with pytest.raises(UsageError, match="segments 0 to 4"):
        slice_segments(joined(*parts()), indices)


@pytest.mark.parametrize("start, end, video, chosen", [
    (None, None, None, [0, 1, 2, 3, 4]), (0, 5, None, [0, 3]), (5, 9, None, [0, 4]), (10, None, None, [1, 2]),
    (9.999, 10, None, [0]), (None, 5, None, [0, 3]), (10, 20, None, [1]), (12, 13.5, "lecture.mp4", [1]),
    (0, 20, "lecture.mp4", [0, 1]), (-5, 1e9, source("other.mkv")["sha256"], [3, 4]), (None, 6, "other.mkv", [3, 4])])
def test_within_takes_what_overlaps(tmp_path: Path, start: float | None, end: float | None, video: str | None,
                                    chosen: list[int]) -> None:
    ps = parts()
    found = within(joined(*ps), start, end, video)
    assert contents(found, tmp_path) == contents(joined(*(ps[i] for i in chosen)), tmp_path)


def test_within_finds_a_single_frame(tmp_path: Path) -> None:
    whole = joined(make(1, start=3.0, end=3.0), make(2, start=4.0, end=4.0))
    assert within(whole, 3, 4).span == (3, 3) and within(whole, 4, 5).span == (4, 4)
    with pytest.raises(UsageError, match="between 0:03 and 0:04"):
        within(whole, 3.5, 4)


@pytest.mark.parametrize("start, end, video, said", [
    (30, None, None, "between 0:00 and 0:30"), (None, 0, None, "between 0:00 and 0:30"),
    (9, 20, "other.mkv", "between 0:00 and 0:09"), (5, 5, None, "5 s to 5 s is empty"), (9, 2, None, "empty"),
    (float("nan"), None, None, "empty"), (0, 9, "lost.mp4", "nothing of lost.mp4; name one of lecture.mp4, other.mkv")])
def test_within_says_what_there_is(start: float | None, end: float | None, video: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        within(joined(*parts()), start, end, video)


# What does not fit.


def named(adapter: Adapter, name: str) -> Adapter:
    return replace(adapter, name=name)


def unlike(what: str) -> Adapter:
    if what == "base":
        return make(2, start=10, end=20, base={"id": "big", "revision": None, "fingerprint": "0" * 64})
    if what == "hypernetwork":
        return make(2, start=10, end=20, hypernetwork={"id": "newer", "sha256": "b" * 64})
    if what == "scale":
        return make(2, start=10, end=20, scale=32.0)
    layers, rank, d_in = {"rank": (L, r + 1, D_IN), "layers": (L + 1, r, D_IN), "layer size": (L, r, D_IN + 1)}[what]
    fields = {key: make().record[key] for key in ("base", "hypernetwork", "scale", "sampling", "prompt", "compute")}
    A, B = values(1, layers, rank, d_in), values(2, layers, rank, D_OUT)
    return single(A, B, A, B, "float32", **fields, source=source(), start=10, end=20, timestamps=[11.0], version="0")


@pytest.mark.parametrize("what, shown", [
    ("base", ("v2l/tiny (fingerprint fff", "big (fingerprint 000")),
    ("hypernetwork", ("v2l/tiny (sha256 aaa", "newer (sha256 bbb")),
    ("scale", ("16.0", "32.0")), ("rank", ("4", "5")), ("layers", ("3", "4")), ("layer size", ("10 x 6", "11 x 6"))])
def test_unlike_adapters_are_refused(what: str, shown: tuple[str, str]) -> None:
    with pytest.raises(AdapterError) as caught:
        joined(named(make(1), "one.v2lora"), named(unlike(what), "two.v2lora"))
    for text in ("one.v2lora", "two.v2lora", what, *shown):
        assert text in str(caught.value)


def test_a_changed_bias_is_refused() -> None:
    other = named(make(2, start=10, end=20), "two.v2lora")
    bias = other.bias_B.copy()
    bias[0, 0, 0] = np.nextafter(bias[0, 0, 0], np.float32(np.inf))
    with pytest.raises(AdapterError, match=r"The adapter and two\.v2lora .* different biases"):
        joined(make(1), replace(other, bias_B=bias))
    with pytest.raises(AdapterError, match="different biases"):
        joined(make(1), replace(make(2, "float16", 10, 20), bias_A=make(2, "float16").A))


def test_the_same_segment_twice_is_refused() -> None:
    a, b = named(make(1), "a.v2lora"), named(make(2, start=10, end=20), "b.v2lora")
    with pytest.raises(AdapterError, match=r"a\.v2lora and full\.v2lora both hold 0:00 to 0:10 of lecture\.mp4"):
        joined(a, named(joined(a, b), "full.v2lora"))
    with pytest.raises(AdapterError, match="count double"):
        joined(a, a)


def test_the_same_span_sampled_otherwise_is_noted() -> None:
    other = make(2, sampling={"frames": 24, "fps": 1.0, "skip": 1.0, "resolution": 384})
    assert len(join([make(1), other])[1]) == 1


def test_different_types_become_float32(tmp_path: Path) -> None:
    wide, half, brain = make(1), make(2, "float16", 10, 20), make(3, "bfloat16", 20, 30)
    whole, notes = join([half, brain, wide])
    assert whole.dtype == "float32" and notes == ["Adapters of different dtypes were composed as float32."]
    np.testing.assert_array_equal(whole.A, np.concatenate([x.float32()["A"] for x in (wide, half, brain)], axis=1))
    assert whole.bias_A.tobytes() == wide.bias_A.tobytes()
    assert contents(joined(joined(half, wide), brain), tmp_path) == contents(whole, tmp_path)
    with pytest.raises(AdapterError, match="float16 and the other bfloat16"):
        joined(half, brain)


def test_nothing_to_join() -> None:
    with pytest.raises(UsageError):
        join([])
