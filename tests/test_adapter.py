"""The `.v2lora` file: what it holds, how it is written, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file as load_torch
from support.adapters import D_IN, D_OUT, L, make, r, source, values

import v2l.adapter.file
from v2l.adapter import Adapter, load, load_label, save
from v2l.adapter.compress import compress
from v2l.adapter.dtypes import DTYPES, from_float32, to_float32
from v2l.adapter.join import join
from v2l.adapter.label import MAX_HEADER
from v2l.errors import AdapterError, OutputError
from v2l.system.files import replacing

TESTS = Path(__file__).parent


def contents(adapter: Adapter, path: Path) -> bytes:
    save(adapter, path)
    return path.read_bytes()


def run(code: str, *arguments: str, **environment: str) -> str:
    """Python in a fresh process that sees the test's own modules."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, **environment}).stdout


# What it holds.


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path: Path, dtype: str) -> None:
    adapter = make(1, dtype)
    first = contents(adapter, tmp_path / "a.v2lora")
    loaded = load(tmp_path / "a.v2lora")
    assert loaded.dtype == dtype and loaded.record == adapter.record and loaded.name == str(tmp_path / "a.v2lora")
    for key, array in adapter.tensors().items():
        assert loaded.tensors()[key].dtype == array.dtype
        np.testing.assert_array_equal(loaded.tensors()[key], array)
    assert contents(loaded, tmp_path / "b.v2lora") == first
    assert load_label(tmp_path / "a.v2lora").record == adapter.record
    assert (loaded.num_layers, loaded.rank, loaded.total_rank, loaded.scale) == (L, r, r, 16.0)
    assert loaded.span == (0.0, 10.0) and loaded.file_size == len(first) and loaded.sources == [source()]
    assert [s["rank"] for s in loaded.segments] == [[0, r]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_tool_can_open_it(tmp_path: Path, dtype: str) -> None:
    adapter, path = join([make(1, dtype), make(2, dtype, 10, 20)])[0], tmp_path / "a.v2lora"
    save(adapter, path)
    tensors = load_torch(path)
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {
        "down_proj.A": (L, 2 * r, D_IN), "down_proj.B": (L, 2 * r, D_OUT),
        "down_proj.bias_A": (L, r, D_IN), "down_proj.bias_B": (L, r, D_OUT)}
    for key, array in adapter.float32().items():
        assert str(tensors[f"down_proj.{key}"].dtype) == f"torch.{dtype}"
        np.testing.assert_array_equal(tensors[f"down_proj.{key}"].float().numpy(), array)
    if dtype != "bfloat16":
        np.testing.assert_array_equal(load_numpy(path)["down_proj.B"], adapter.B)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"]) == ("v2lora", "1")
    assert json.loads(metadata["record"]) == adapter.record


def test_a_file_rewritten_by_safetensors_is_read(tmp_path: Path) -> None:
    """Its writer pads and orders as it likes; the tensors may then begin anywhere."""
    from safetensors.numpy import save_file
    adapter, path = make(3), tmp_path / "a.v2lora"
    save(adapter, path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(load_numpy(path), path, metadata)
    np.testing.assert_array_equal(load(path).A, adapter.A)
    assert load(path).record == adapter.record


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = ("import sys; from support.adapters import make; from v2l.adapter import save\n"
            "save(make(5, 'bfloat16'), sys.argv[1])")
    for seed in "01":
        run(code, str(tmp_path / seed), PYTHONHASHSEED=seed)
    expected = contents(make(5, "bfloat16"), tmp_path / "2")
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == expected


def test_order_of_the_record_does_not_matter(tmp_path: Path) -> None:
    adapter = make(5)
    turned = replace(adapter, record=dict(reversed(adapter.record.items())))
    assert contents(adapter, tmp_path / "a") == contents(turned, tmp_path / "b")


def test_tensors_are_aligned(tmp_path: Path) -> None:
    for name in ("a.mp4", "ab.mp4", "abc.mp4"):
        data = contents(make(source=source(name)), tmp_path / "a")
        assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0


def test_names_are_data(tmp_path: Path) -> None:
    """Whatever a file system allows comes back as it was, and the header stays plain ASCII."""
    name = "été \U0001f3ac \udcff \x1b[31m\n.mp4"
    data = contents(make(source=source(name)), tmp_path / "a")
    assert load(tmp_path / "a").sources[0]["name"] == name
    assert data[8:8 + int.from_bytes(data[:8], "little")].isascii()
    with safe_open(tmp_path / "a", "np") as file:
        assert json.loads(file.metadata()["record"])["sources"][0]["name"] == name


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    adapter = make(1)
    record = {**adapter.record, "caption": {"text": ["a", 1, None]}, "metadata": {"author": "me"}}
    record["segments"] = [{**record["segments"][0], "scene": 7}]
    first = contents(replace(adapter, record=record), tmp_path / "a")
    loaded = load(tmp_path / "a")
    assert loaded.record == record and contents(loaded, tmp_path / "b") == first
    with safe_open(tmp_path / "a", "np") as file:
        assert file.metadata()["author"] == "me" and "metadata" not in json.loads(file.metadata()["record"])


@pytest.mark.parametrize("shift", [0, 1])
def test_large_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    monkeypatch.setattr(v2l.adapter.file, "MAP_FROM", 1)
    data = contents(make(1), tmp_path / "a")
    if shift:  # tensors at an odd offset: allowed, and copied to be usable
        length = int.from_bytes(data[:8], "little")
        data = (length + 1).to_bytes(8, "little") + data[8:8 + length] + b" " + data[8 + length:]
        (tmp_path / "a").write_bytes(data)
    loaded = load(tmp_path / "a")
    for key, array in make(1).tensors().items():
        assert loaded.tensors()[key].flags.aligned and loaded.tensors()[key].flags.writeable
        np.testing.assert_array_equal(loaded.tensors()[key], array)
    loaded.A[:] = 0  # a private copy: the file is not touched
    assert (tmp_path / "a").read_bytes() == data


def test_no_heavy_imports() -> None:
    loaded = run("import sys, v2l.adapter.join, v2l.adapter.compress, v2l.cli.describe; print(*sys.modules)").split()
    assert not {"torch", "transformers", "safetensors", "cv2", "typer", "rich"} & set(loaded)


# Types.


def test_bfloat16_rounds_as_torch_does() -> None:
    wide = np.concatenate([values(0, 19000) * 10.0 ** np.arange(-40, 36).repeat(250), [0.0, -0.0, 1e-45, 3.38e38]])
    ties = np.arange(0x3F800000, 0x3F800000 + 0x30000, 0x800, np.uint32).view(np.float32)
    x = np.concatenate([wide.astype(np.float32), ties])
    bits = from_float32(x, "bfloat16")
    expected = torch.from_numpy(x).bfloat16()
    np.testing.assert_array_equal(bits.view(np.int16), expected.view(torch.int16).numpy())
    np.testing.assert_array_equal(to_float32(bits, "bfloat16"), expected.float().numpy())


@pytest.mark.parametrize("dtype, value",
                         [("float16", 65520), ("bfloat16", 3.4e38), ("float32", np.inf), ("float16", np.nan)])
def test_what_does_not_fit_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(AdapterError, match="float32"):
        from_float32(np.array([1, value], np.float32), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_and_wide_again_is_exact(dtype: str) -> None:
    stored = from_float32(values(1, 5000), dtype)
    np.testing.assert_array_equal(from_float32(to_float32(stored, dtype), dtype), stored)


# Damaged files.


def flipped(data: bytes, bit: int) -> bytes:
    return data[:bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1:]


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, dtype: str) -> None:
    """In the numbers, which look like any others, and in the record. In the blanks after the header and in the name
    of the hash itself it changes nothing."""
    data = contents(make(1, dtype), tmp_path / "a")
    start, name = 8 + int.from_bytes(data[:8], "little"), f"sha256.{dtype}.{r}".encode()
    blank, key = 8 + len(data[8:start].rstrip()), data.index(name)
    harmless = {*range(blank, start), *range(key, key + len(name))}
    for bit in random.Random(0).sample([bit for bit in range(8 * len(data)) if bit // 8 not in harmless], 400):
        refused(tmp_path / "a", flipped(data, bit))
    assert "not what its sha256 says" in refused(tmp_path / "a", flipped(data, 8 * len(data) - 24))


def test_a_file_without_a_hash_is_read(tmp_path: Path) -> None:
    """What v2l wrote before it knew of one."""
    data = contents(make(1), tmp_path / "a")
    document, record, tensors = parts(data)
    del document["__metadata__"][f"sha256.float32.{r}"]
    (tmp_path / "a").write_bytes(assemble(document, record, tensors))
    assert load(tmp_path / "a").record == make(1).record
    assert contents(load(tmp_path / "a"), tmp_path / "b") == data


def test_the_hash_of_a_part_says_nothing_of_what_was_joined(tmp_path: Path) -> None:
    """A v2l that does not know of the hash takes it for the user's, and keeps that of the first file it joins."""
    apart, joined = make(1), join([make(1), make(2, start=10, end=20)])[0]
    first = parts(contents(apart, tmp_path / "a"))[0]["__metadata__"]
    data = contents(joined, tmp_path / "b")
    document, record, tensors = parts(data)
    del document["__metadata__"][f"sha256.float32.{2 * r}"]
    document["__metadata__"][f"sha256.float32.{r}"] = first[f"sha256.float32.{r}"]
    (tmp_path / "b").write_bytes(assemble(document, record, tensors))
    assert contents(load(tmp_path / "b"), tmp_path / "c") == data


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    document = json.loads(data[8:end])
    return document, json.loads(document["__metadata__"]["record"]), data[end:]


def assemble(document: dict[str, Any], record: Any, data: bytes) -> bytes:
    document["__metadata__"]["record"] = record if isinstance(record, str) else json.dumps(record)
    return framed(json.dumps(document).encode(), data)


def framed(text: bytes, data: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


Edit = Callable[[dict[str, Any], dict[str, Any]], Any]
A, BIAS = "down_proj.A", "down_proj.bias_A"


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


EDITS: dict[str, Edit] = {
    "dtype int": lambda d, m: d[A].update(dtype="I32"),
    "dtype not text": lambda d, m: d[A].update(dtype=["F32"]),
    "dtype of one tensor": lambda d, m: d[A].update(dtype="F16"),
    "dtype of one tensor, size kept": lambda d, m: d[A].update(dtype="BF16", shape=[L, r, 2 * D_IN]),
    "shape transposed": lambda d, m: d[A].update(shape=[r, L, D_IN]),
    "shape flat": lambda d, m: d[A].update(shape=[L * r * D_IN]),
    "shape of nothing": lambda d, m: d[A].update(shape=[0, r, D_IN]),
    "shape negative": lambda d, m: d[A].update(shape=[-L, -r, D_IN]),
    "shape huge": lambda d, m: d[A].update(shape=[2**62, 2**62, 2**62]),
    "shape true": lambda d, m: d[A].update(shape=[True, L * r, D_IN]),
    "shape of floats": lambda d, m: d[A].update(shape=[3.0, 4, 10]),
    "shape of bias": lambda d, m: d[BIAS].update(shape=[L, D_IN, r]),
    "offsets overlap": lambda d, m: d[BIAS].update(data_offsets=d[A]["data_offsets"]),
    "offsets moved": lambda d, m: [t.update(data_offsets=[x + 4 for x in t["data_offsets"]])
                                   for k, t in d.items() if k != "__metadata__"],
    "offsets reversed": lambda d, m: d[A]["data_offsets"].reverse(),
    "offsets negative": lambda d, m: d[A].update(data_offsets=[-480, 0]),
    "offsets missing": lambda d, m: d[A].pop("data_offsets"),
    "entry unknown": lambda d, m: d[A].update(stride=1),
    "entry not an object": lambda d, m: d.update({A: None}),
    "tensor missing": lambda d, m: d.pop("down_proj.bias_B"),
    "tensor added": lambda d, m: d.update({"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    "tensor renamed": lambda d, m: d.update({"up_proj.A": d.pop(A)}),
    "metadata missing format": lambda d, m: d["__metadata__"].pop("format"),
    "metadata of another format": lambda d, m: d["__metadata__"].update(format="pt"),
    "metadata not text": lambda d, m: d["__metadata__"].update(more=1),
    "version 0": lambda d, m: d["__metadata__"].update(version="0"),
    "version odd": lambda d, m: d["__metadata__"].update(version="1.0"),
    "version missing": lambda d, m: d["__metadata__"].pop("version"),
    "record reserved key": lambda d, m: m.update(metadata={"a": "b"}),
    "base missing": lambda d, m: m.pop("base"),
    "fingerprint empty": lambda d, m: m["base"].update(fingerprint=""),
    "revision a number": lambda d, m: m["base"].update(revision=1),
    "hypernetwork text": lambda d, m: m.update(hypernetwork="x"),
    "rank wrong": lambda d, m: m.update(rank=r + 1),
    "rank true": lambda d, m: m.update(rank=True),
    "rank float": lambda d, m: m.update(rank=4.0),
    "rank half, twice": lambda d, m: m.update(rank=r // 2, segments=[
        {**m["segments"][0], "rank": [i * r // 2, (i + 1) * r // 2]} for i in range(2)]),
    "scale zero": lambda d, m: m.update(scale=0),
    "scale negative": lambda d, m: m.update(scale=-1.0),
    "scale NaN": lambda d, m: m.update(scale=float("nan")),
    "scale infinite": lambda d, m: m.update(scale=float("inf")),
    "scale huge": lambda d, m: m.update(scale=10**400),
    "scale text": lambda d, m: m.update(scale="16"),
    "other modules": lambda d, m: m.update(target_modules=["up_proj"]),
    "prompt null": lambda d, m: m.update(prompt=None),
    "sampling short": lambda d, m: m["sampling"].pop("fps"),
    "compute a list": lambda d, m: m.update(compute=[]),
    "no segments": lambda d, m: m.update(segments=[]),
    "segments an object": lambda d, m: m.update(segments={}),
    "segments numbers": lambda d, m: m.update(segments=[0]),
    "segment twice": lambda d, m: m.update(segments=m["segments"] * 2),
    "slice wrong": lambda d, m: m["segments"][0].update(rank=[0, r + 1]),
    "slice late": lambda d, m: m["segments"][0].update(rank=[1, r + 1]),
    "slice backwards": lambda d, m: m["segments"][0].update(rank=[r, 0]),
    "source beyond": lambda d, m: m["segments"][0].update(source=1),
    "source negative": lambda d, m: m["segments"][0].update(source=-1),
    "end before start": lambda d, m: m["segments"][0].update(start=11),
    "start text": lambda d, m: m["segments"][0].update(start="0"),
    "no timestamps": lambda d, m: m["segments"][0].update(timestamps=[]),
    "timestamps null": lambda d, m: m["segments"][0].update(timestamps=[None]),
    "own a list": lambda d, m: m["segments"][0].update(own=[]),
    "own rank": lambda d, m: m["segments"][0].update(own={"rank": 8}),
    "own base": lambda d, m: m["segments"][0].update(own={"base": {**m["base"], "fingerprint": "0"}}),
    "own segments": lambda d, m: m["segments"][0].update(own={"segments": []}),
    "own compute": lambda d, m: m["segments"][0].update(own={"compute": 1}),
    "sources missing": lambda d, m: m.pop("sources"),
    "source sha a number": lambda d, m: m["sources"][0].update(sha256=1),
    "source size negative": lambda d, m: m["sources"][0].update(size=-1),
    "deep record": lambda d, m: m.update(deep=_nested(60)),
}


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return contents(make(1), tmp_path / "whole.v2lora")


def refused(path: Path, data: bytes) -> str:
    """The message; both ways to read agree unless only values are wrong."""
    path.write_bytes(data)
    with pytest.raises(AdapterError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", EDITS)
def test_edited_header(tmp_path: Path, whole: bytes, name: str) -> None:
    document, record, data = parts(whole)
    EDITS[name](document, record)
    refused(tmp_path / "a.v2lora", assemble(document, record, data))
    with pytest.raises(AdapterError, match=r"a\.v2lora"):
        load_label(tmp_path / "a.v2lora")


@pytest.mark.parametrize("name, text", {
    "not JSON": b"{nothing", "not UTF-8": b'{"\xff": 1}', "a list": b"[]", "a number": b"{}1", "empty": b"{}",
    "spaces first": b" {}", "UTF-16": "{}".encode("utf-16"), "deep": b'{"a":' * 100000, "deep and closed":
    b'{"a":' * 50000 + b"1" + b"}" * 50000, "long number": b'{"a":' + b"9" * 10000 + b"}", "infinite": b'{"a": 1e999}',
    "twice": b'{"__metadata__": {"format": "v2lora"}, "__metadata__": {"format": "v2lora"}}',
}.items())
def test_header_is_not_one(tmp_path: Path, whole: bytes, name: str, text: bytes) -> None:
    refused(tmp_path / "a", framed(text, parts(whole)[2]))


@pytest.mark.parametrize(
    "record", ["", "{", "[]", "null", '{"a":1,"a":1}', "[" * 100000, "NaN", '"\\ud800', "9" * 9999])
def test_record_is_not_one(tmp_path: Path, whole: bytes, record: str) -> None:
    document, _, data = parts(whole)
    refused(tmp_path / "a", assemble(document, record, data))


def test_newer_version_is_refused_politely(tmp_path: Path, whole: bytes) -> None:
    document, record, data = parts(whole)
    document["__metadata__"]["version"] = "3"
    del document[A]
    assert "newer v2l (format 3" in refused(tmp_path / "a", assemble(document, record, data))


def test_other_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file
    save_file({"weight": np.zeros(3)}, tmp_path / "a")
    assert "another kind" in refused(tmp_path / "a", (tmp_path / "a").read_bytes())


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER + 1, 2**63, 2**64 - 1])
def test_header_length(tmp_path: Path, whole: bytes, length: int) -> None:
    refused(tmp_path / "a", length.to_bytes(8, "little") + whole[8:])


def test_huge_header_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate((1 << 40) + 8)  # sparse: takes no room
    with pytest.raises(AdapterError, match="length"):
        load(tmp_path / "a")


def test_truncated_or_longer(tmp_path: Path, whole: bytes) -> None:
    for end in [*range(0, 64), *range(64, len(whole), 37), len(whole) - 1]:
        refused(tmp_path / "a", whole[:end])
    refused(tmp_path / "a", whole + b"\0")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, dtype: str, value: float) -> None:
    for key in ("A", "B", "bias_A", "bias_B"):
        adapter = make(1, dtype)
        data = bytearray(contents(adapter, tmp_path / "a"))
        tensors = adapter.tensors()
        bits = torch.tensor([value], dtype=getattr(torch, dtype)).view(torch.uint8).numpy().tobytes()
        at = len(data) - sum(a.nbytes for a in tensors.values())
        for name, array in tensors.items():
            at += array.nbytes
            if name == key:
                break
        data[at - len(bits):at] = bits  # the last value
        assert f"{key} holds values that are not finite" in refused(tmp_path / "a", bytes(data))


@pytest.mark.parametrize("at", [0, 2**20 - 1, 2**20, 3 * 2**20 - 1])
def test_every_piece_of_a_large_tensor_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    monkeypatch.setattr(v2l.adapter.file, "MAP_FROM", 1)
    few = make(1)
    large = replace(few, A=np.ones((L, r, 2**18), np.float32), bias_A=np.ones((L, r, 2**18), np.float32))
    data = bytearray(contents(large, tmp_path / "a"))
    load(tmp_path / "a")
    begin = 8 + int.from_bytes(data[:8], "little") + 4 * at
    data[begin:begin + 4] = np.float32(np.nan).tobytes()
    assert "A holds values that are not finite" in refused(tmp_path / "a", bytes(data))


def test_not_finite_is_not_written(tmp_path: Path) -> None:
    adapter = make(1)
    adapter.B[1, 2, 3] = np.nan
    with pytest.raises(AdapterError, match="not finite"):
        save(adapter, tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_inconsistent_values_cannot_be_built() -> None:
    adapter = make(1)
    for changes in ({"A": adapter.B}, {"bias_B": adapter.bias_B[:, :2]}, {"dtype": "float16"}, {"dtype": "int8"},
                    {"record": {}}, {"record": {**adapter.record, "deep": _nested(5000)}}, {"A": adapter.A[0]}):
        with pytest.raises(AdapterError):
            replace(adapter, **changes)  # type: ignore[arg-type]


def test_too_much_to_record(tmp_path: Path) -> None:
    adapter = make(1)
    with pytest.raises(AdapterError, match="more than a file can hold"):
        save(replace(adapter, record={**adapter.record, "note": "x" * MAX_HEADER}), tmp_path / "a")


@pytest.mark.parametrize("compressed", [False, True])
def test_mutations_give_an_adapter_or_one_error(tmp_path: Path, compressed: bool) -> None:
    """Flipped, deleted, repeated and spliced bytes, mostly in the header."""
    random_ = random.Random(0)
    adapter = join([make(1, "bfloat16"), make(2, "bfloat16", 10, 20, version="0.2")])[0]
    if compressed:
        adapter = join([compress(adapter, 5), make(3, "bfloat16", 20, 30)])[0]
    whole = contents(adapter, tmp_path / "whole")
    header = 8 + int.from_bytes(whole[:8], "little")
    fragments = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"9e9", b"null", b"true", b'\\"', b"\\u0000",
                 b"\xff", b"NaN", b" ", b"F64", b'"rank":[0,4]', b'"rank":[0,5]', b'"own":{', b"99999999999999999999"]
    path, errors = tmp_path / "a", 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(random_.choice([1, 1, 2, 5])):
            at, end = random_.randrange(header if random_.random() < 0.9 else len(data)), random_.randrange(1, 9)
            action = random_.randrange(4)
            if action == 0:
                data[at] ^= 1 << random_.randrange(8)
            elif action == 1:
                data[at:at + end] = random_.choice(fragments)
            elif action == 2:
                del data[at:at + end]
            else:
                data[at:at] = data[at:at + end]
        if random_.random() < 0.5:  # so that more than the length is looked at
            data[:8] = (header - 8 + len(data) - len(whole)).to_bytes(8, "little")
        path.write_bytes(data)
        try:
            adapter = load(path)
            save(adapter, path)
            assert load(path).record == adapter.record
        except AdapterError:
            errors += 1
    assert 750 < errors < 1500


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "nul", "below a file"])
def test_what_is_not_a_file(tmp_path: Path, kind: str) -> None:
    path = {"missing": tmp_path / "no", "folder": tmp_path, "pipe": tmp_path / "pipe", "nul": Path("a\0b"),
            "below a file": tmp_path / "file" / "x"}[kind]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for read in (load, load_label):
        with pytest.raises(AdapterError):
            read(path)


# Writing.


def test_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.v2lora"
    save(make(1), path)
    save(make(2), path)
    np.testing.assert_array_equal(load(path).A, make(2).A)
    save(load(path), path)
    assert os.listdir(tmp_path) == ["a.v2lora"]


def test_a_long_name(tmp_path: Path) -> None:
    save(make(1), tmp_path / ("x" * 248 + ".v2lora"))
    with pytest.raises(OutputError, match="too long"):
        save(make(1), tmp_path / ("x" * 300))


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(make(1), tmp_path / "a")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    save(make(1), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and os.listdir(tmp_path / "real") == ["a"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path, "folder"), (tmp_path / "no" / "a", "does not exist"), (Path("a\0b"), "null"),
                         (tmp_path / "file" / "a", "not a folder"), (tmp_path / "pipe", "permission"),
                         (Path("/proc/a.v2lora"), "Cannot")):
        with pytest.raises(OutputError, match=reason) as caught:
            save(make(1), path)
        assert str(caught.value).startswith(f"Cannot write {path}") and str(caught.value).endswith(".")
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_protected_places(tmp_path: Path) -> None:
    save(make(1), tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    for path, mode in ((tmp_path / "a", 0o444), (tmp_path, 0o555)):
        path.chmod(mode)
        with pytest.raises(OutputError, match="permission denied"):
            save(make(2), tmp_path / "a")
        path.chmod(0o755)
    assert (tmp_path / "a").read_bytes() == before and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    "code, reason", [(errno.ENOSPC, "no space"), (errno.EROFS, "read-only"), (errno.EIO, "I/O|Input")])
def test_a_failing_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int,
                                           reason: str) -> None:
    save(make(1), tmp_path / "a")
    before = (tmp_path / "a").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutputError, match=reason):
            save(make(2), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before and os.listdir(tmp_path) == ["a"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A real short write: the process may not write more than 1000 bytes to a file."""
    save(make(1), tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    code = f"""if True:
        import resource, sys
        from support.adapters import make
        from v2l.adapter import save
        from v2l.errors import OutputError
        adapter = make(2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
        try:
            save(adapter, sys.argv[1])
        except OutputError as error:
            print(error)"""
    assert "Cannot write" in run(code, str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == before and os.listdir(tmp_path) == ["a"]


def test_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_killed_while_writing(tmp_path: Path) -> None:
    """Whatever the moment, the name stands for one of the two whole files."""
    code = """if True:
        import sys
        import numpy as np
        from support.adapters import make
        from v2l.adapter import save
        from v2l.adapter.join import join
        a, b = (join([make(seed * 200 + i, start=i, end=i + 1) for i in range(200)])[0] for seed in range(2))
        save(a, sys.argv[1])
        print("ready", flush=True)
        while True:
            save(b, sys.argv[1])
            save(a, sys.argv[1])"""
    path, moment = tmp_path / "a.v2lora", random.Random(0)
    whole: set[bytes] = set()
    command = [sys.executable, "-c", code, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    for _ in range(6):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout and child.stdout.readline() == b"ready\n"
            time.sleep(moment.random() * 0.05)
            child.send_signal(signal.SIGKILL)
        load(path)
        whole.add(path.read_bytes())
        assert all(name == path.name or name.startswith(".v2l-") for name in os.listdir(tmp_path))
    assert len(whole) <= 2
