"""`v2l train export`: what it writes is what the released code saves, down to the pickle's opcodes."""

from __future__ import annotations

import json
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.cli import REFERENCE, documents, refused, run

from v2l.config import HypernetConfig
from v2l.model.hypernetwork import Hypernetwork
from v2l.store.released import read_pickle
from v2l.store.resolve import find_hypernetwork

RELEASED = REFERENCE / "hypernetwork.pt"


def records(path: Path) -> dict[str, bytes]:
    """What a torch file holds, without the name of its folder, which is that of the file it was first written to."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def said(pickled: bytes) -> list[tuple[str, Any]]:
    """The opcodes of a pickle, whether or not it notes two equal texts as one."""
    found: list[tuple[str, Any]] = []
    notes: dict[int, tuple[str, Any]] = {}
    numbers: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if "PUT" in opcode.name:
            notes[argument] = found[-1]
            if found[-1][0] != "BINUNICODE":
                numbers[argument] = len(numbers)
        elif "GET" in opcode.name:
            text = notes[argument][0] == "BINUNICODE"
            found.append(notes[argument] if text else ("GET", numbers[argument]))
        else:
            found.append((opcode.name, argument))
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a hypernetwork of ours."""
    monkeypatch.chdir(tmp_path)
    return ours(tmp_path / "mine.safetensors")


def ours(path: Path, dtype: torch.dtype = torch.float32, **sizes: Any) -> Path:
    """Safetensors and JSON as training writes them."""
    torch.manual_seed(0)
    config = HypernetConfig(**{"num_layers": 3, "hidden_size": 8, "d_in": 12, "d_out": 8, "rank": 2, "latent_size": 16,
                               "num_queries": 2, "num_blocks": 2, "base": "org/base", **sizes})
    save_file({name: value.to(dtype) for name, value in Hypernetwork(config).state_dict().items()}, path)
    path.with_suffix(".json").write_text(json.dumps(vars(config)))
    return path


def test_a_released_checkpoint_comes_back_as_it_was(here: Path) -> None:
    assert run("train", "export", RELEASED, "-o", "back.pt").stdout == "back.pt\n"
    before, after = records(RELEASED), records(Path("back.pt"))
    assert list(before) == list(after)
    told = {name for name in before if before[name] != after[name]}
    assert told <= {"data.pkl", ".data/serialization_id"}  # every tensor's bytes are the same
    assert said(before["data.pkl"]) == said(after["data.pkl"])
    found, expected = find_hypernetwork("500m", "back.pt"), find_hypernetwork("500m", str(RELEASED))
    assert (found.config, found.sha256) == (expected.config, expected.sha256)


def test_ours_becomes_a_released_one(here: Path) -> None:
    (summary,) = documents(run("train", "export", here, "-o", "out.pt", "--json"))
    assert summary == {"output": "out.pt", "checkpoint": "mine.safetensors", "base": "org/base",
                       "size": Path("out.pt").stat().st_size}
    content, stored = read_pickle(Path("out.pt")), load_file(here)
    tensors = {name: value for name, value in content.items() if torch.is_tensor(value)}
    assert list(content)[-3:] == ["base_model_name_or_path", "hypernet_config", "ctx_encoder_args"]
    assert tensors.keys() == stored.keys() and all(torch.equal(tensors[name], stored[name]) for name in stored)
    assert vars(vars(content["hypernet_config"])["lora_config"])["lora_alpha"] == 2 * 2**1.5
    found = find_hypernetwork("500m", "out.pt")
    expected = find_hypernetwork("500m", str(here)).config
    assert found.config == HypernetConfig(**{**vars(expected), "scale": 2 * 2**1.5})
    assert run("train", "export", "out.pt", "-o", "again.pt", "--quiet").stderr == ""
    assert Path("again.pt").read_bytes() == Path("out.pt").read_bytes()


def test_tensors_are_written_in_float32(here: Path) -> None:
    ours(here, torch.bfloat16)
    run("train", "export", here, "-o", "out.pt", "--base", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct")
    content, stored = read_pickle(Path("out.pt")), load_file(here)
    assert all(content[name].dtype == torch.float32 and torch.equal(content[name], stored[name].float())
               for name in stored)
    assert content["base_model_name_or_path"] == "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"


def test_what_the_released_code_cannot_hold_is_refused(here: Path) -> None:
    heads = ours(here.with_name("heads.safetensors"), num_heads=8, head_dim=64)
    text = refused("train", "export", heads, "-o", "out.pt")
    assert text.startswith("heads.safetensors has num_heads 8, head_dim 64, and the released code is made for")
    nameless = ours(here.with_name("nameless.safetensors"), base="")
    assert "name it with --base" in refused("train", "export", nameless, "-o", "out.pt")
    assert not Path("out.pt").exists()
    run("train", "export", nameless, "-o", "out.pt", "--base", "org/base")


@pytest.mark.parametrize(("words", "status", "says"), [
    (("mine.safetensors", "-o", "out.safetensors"), 2, "out.safetensors does not end in .pt"),
    (("mine.safetensors", "-o", "no/out.pt"), 1, "the folder no does not exist"),
    (("nope.safetensors", "-o", "out.pt"), 1, "There is no file nope.safetensors"),
    (("mine.json", "-o", "out.pt"), 1, "mine.json"),
])
def test_a_call_that_is_wrong(here: Path, words: tuple[str, ...], status: int, says: str) -> None:
    before = sorted(path.name for path in here.parent.iterdir())
    assert says in refused("train", "export", *words, status=status)
    assert sorted(path.name for path in here.parent.iterdir()) == before
