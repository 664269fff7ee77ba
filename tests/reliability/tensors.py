"""Fuzzed safetensors: adapters, and hypernetworks with the JSON beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors import deserialize
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file
from support.adapters import make

from reliability import mutations
from v2l.adapter import load, load_label, save
from v2l.adapter.compress import compress
from v2l.adapter.join import each_segment, join, slice_segments
from v2l.cli.describe import adapter_text
from v2l.config import HypernetConfig
from v2l.engine import Engine
from v2l.model.hypernetwork import Hypernetwork
from v2l.store.resolve import find_hypernetwork


def second_opinion(data: bytes) -> dict[str, dict[str, Any]]:
    """The tensors as the safetensors library reads them: dtype, shape and bytes."""
    return dict(deserialize(data))


def hypernetwork(folder: Path, **sizes: int) -> tuple[Path, HypernetConfig]:
    """A small one, in a file with its JSON beside it."""
    torch.manual_seed(0)
    small = {"num_layers": 2, "hidden_size": 4, "d_in": 6, "d_out": 4, "rank": 2, "num_queries": 2, "num_blocks": 1}
    config = HypernetConfig(base="org/base", **small, **sizes)
    file = folder / "hypernetwork.safetensors"
    save_file(Hypernetwork(config).state_dict(), file)
    file.with_suffix(".json").write_text(json.dumps(vars(config)))
    return file, config


class Adapters:
    """`.v2lora` files: of one and of several segments, compressed, with fields nobody knows, of every type."""

    name = "adapter"

    def __init__(self, folder: Path) -> None:
        self.file, self.other = folder / "a.v2lora", folder / "b.v2lora"
        one, two = make(1), join([make(1, "bfloat16"), make(2, "bfloat16", 10, 20, version="0.2")])[0]
        compressed = join([compress(two, 5), make(3, "bfloat16", 20, 30)])[0]
        noted = replace(one, record={**one.record, "caption": {"text": ["a", 1, None]}, "metadata": {"author": "me"}})
        self.seeds = []
        for adapter in (one, make(1, "float16"), two, compressed, noted):
            save(adapter, self.file)
            self.seeds.append(self.file.read_bytes())

    def write(self, random: Random) -> bool:
        data, kind = random.choice(self.seeds), random.random()
        if kind < 0.03:
            self.file.write_bytes(data)
            return True
        header, tensors = mutations.parts(data)
        if kind < 0.06 and header["down_proj.A"]["dtype"] != "BF16":  # the library orders and pads as it likes
            self.file.write_bytes(data)
            metadata = header["__metadata__"]
            save_numpy(
                {
                    name: np.frombuffer(told["data"], {"F32": "<f4", "F16": "<f2"}[told["dtype"]]).reshape(
                        told["shape"]
                    )
                    for name, told in second_opinion(data).items()
                },
                self.file,
                metadata,
            )
            return True
        if kind < 0.25:
            self.file.write_bytes(mutations.of_bytes(random, data, len(data) - len(tensors)))
            return False
        metadata = header["__metadata__"]
        if random.random() < 0.9:  # else the hash alone would refuse them all
            for key in [key for key in metadata if key.startswith("sha256.")]:
                del metadata[key]
        if kind < 0.7:
            record = mutations.of_json(random, json.loads(metadata["record"]))
            metadata["record"] = mutations.dumped(random, record).decode("utf-8", "replace")
        elif kind < 0.8:
            metadata = mutations.of_json(random, header["__metadata__"])
            header["__metadata__"] = metadata
        else:
            header, tensors = mutations.of_safetensors(random, header, tensors)
        text = mutations.dumped(random, header)
        self.file.write_bytes(mutations.framed(text, tensors))
        if random.random() < 0.03:
            self.file.write_bytes(
                random.choice([0, 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little") + self.file.read_bytes()[8:]
            )
        return False

    def read(self) -> None:
        adapter = load(self.file)
        data = self.file.read_bytes()
        theirs = second_opinion(data)
        assert theirs.keys() == {f"down_proj.{key}" for key in adapter.tensors()}
        for key, array in adapter.tensors().items():
            told = theirs[f"down_proj.{key}"]
            assert list(array.shape) == told["shape"] and array.tobytes() == bytes(told["data"]), key
        assert all(np.isfinite(array).all() for array in adapter.float32().values())
        said = json.loads(mutations.parts(data)[0]["__metadata__"]["record"])
        assert {key: value for key, value in adapter.record.items() if key != "metadata"} == said
        assert load_label(self.file).record == adapter.record
        for width in (None, 20, 80):
            text = adapter_text(adapter, width)
            assert len(text) < 200_000
        save(adapter, self.other)
        again = load(self.other)
        assert again.record == adapter.record
        whole, _ = join([again])
        if not whole.compressed:  # else its segments cannot be parted
            assert [index for index, _ in each_segment(whole, range(len(whole.segments)))] == [
                *range(len(whole.segments))
            ]
            slice_segments(whole, [0])


class Hypernetworks:
    """`hypernetwork.safetensors` and `hypernetwork.json`, as training writes them."""

    name = "hypernetwork"

    def __init__(self, folder: Path) -> None:
        self.file, self.config = hypernetwork(folder, latent_size=8, num_heads=2, num_kv_heads=1, head_dim=4)
        self.json = self.file.with_suffix(".json")
        self.whole, self.said = self.file.read_bytes(), vars(self.config)

    def write(self, random: Random) -> bool:
        data, kind = self.whole, random.random()
        said = json.dumps(self.said).encode()
        if kind < 0.1:
            header, tensors = mutations.parts(data)
            data = mutations.of_bytes(random, data, len(data) - len(tensors))
        elif kind < 0.55:
            header, tensors = mutations.of_safetensors(random, *mutations.parts(data))
            data = mutations.framed(mutations.dumped(random, header), tensors)
        elif kind < 0.7:
            header, tensors = mutations.parts(data)
            data = mutations.framed(mutations.dumped(random, mutations.of_json(random, header)), tensors)
        elif kind < 0.95:
            said = mutations.dumped(random, mutations.of_json(random, dict(self.said), tuple(self.said)))
        self.file.write_bytes(data)
        self.json.write_bytes(said)
        return kind >= 0.95

    def read(self) -> None:
        files = find_hypernetwork("tiny", str(self.file))
        engine = Engine("tiny", str(self.file), device="cpu", dtype="float32")
        engine.__dict__["hypernetwork_files"] = files
        stored = {name: tensor.clone() for name, tensor in load_file(self.file).items()}
        made = engine.hypernetwork.state_dict()
        assert made.keys() == stored.keys()
        assert all(made[name].float().equal(stored[name].float()) or stored[name].isnan().any() for name in stored)
        theirs = second_opinion(self.file.read_bytes())
        assert all(list(made[name].shape) == told["shape"] for name, told in theirs.items())
