"""Files from strangers: fuzzed ones by the hundred, and one of each trick that once worked or might."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from reliability.mutations import framed, parts
from reliability.released import Checkpoints, Part, zipped
from support.adapters import make
from support.cli import MODEL, REFERENCE, documents, refused, run
from test_judge import CASE, write_model

from v2l.adapter import Adapter, load, save
from v2l.adapter.dtypes import from_float32
from v2l.cli.describe import adapter_text
from v2l.errors import AdapterError, ModelError
from v2l.model.base import Base
from v2l.report.page import paragraph
from v2l.score.judge import Judge
from v2l.store.hub import Repo
from v2l.store.pickles import Archive
from v2l.store.released import read_pickle, read_released
from v2l.store.resolve import find_base, find_hypernetwork

TESTS = Path(__file__).parent


def test_fuzzed_files_are_refused_or_read_as_another_reader_reads_them() -> None:
    """All kinds of files, each input within its time, in a process of its own whose memory is bounded."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "reliability" / "fuzz.py"), "--count", "25", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 7 and all("25 inputs" in line and " 0 findings" in line for line in lines), lines
    assert not [line for line in lines if " 0 accepted" in line or " 0 refused" in line], lines


# Released checkpoints.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("released"))


def altered(checkpoint: Checkpoints, code: bytes) -> list[Part]:
    """The parts with another pickle."""
    return [replace(part, data=code) if part.name.endswith("data.pkl") else part for part in checkpoint.parts]


PICKLES: dict[str, bytes] = {
    "a number at a place of numbers": b"\x80\x02ctorch\nFloatStorage\nK\0K\1s.",
    "a pair of pairs of pairs as a key": b"\x80\x02})\x85" + b"q\1h\1\x86" * 70 + b"K\1s.",
    "the same in a set": b"\x80\x02cbuiltins\nset\n](" + b")\x85" + b"q\1h\1\x86" * 70 + b"e\x85R.",
    "a place in memory beyond all": b"\x80\x02}r\xff\xff\xff\xff" + b"X\xff\xff\xff\x7f.",
    "defaults of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\0\0\0__defaults__)s\x86b.",
    "an object of an object": b"\x80\x02cctx_to_lora.x\nX\n)\x81)\x81.",
    "attributes of a class": b"\x80\x02cctx_to_lora.x\nX\n}X\x08\0\0\0__init__K\1sb.",
    "nothing": b".",
    "marks": b"\x80\x02" + b"(" * 100_000 + b".",
    "a tensor of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\1K\0)))t R.",
}


@pytest.mark.parametrize("trick", PICKLES)
def test_pickles_that_confuse(checkpoint: Checkpoints, tmp_path: Path, trick: str) -> None:
    path, started = tmp_path / "a.pt", time.monotonic()
    path.write_bytes(zipped(altered(checkpoint, PICKLES[trick])))
    with pytest.raises(ModelError, match=r"a\.pt .*\.$"):
        read_released(path)
    assert time.monotonic() - started < 5


def test_what_tensors_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may share a gigabyte."""
    numbers, read, read_part = torch.arange(8.0), list[str](), Archive.bytes
    torch.save({str(i): numbers[i:] for i in range(8)}, tmp_path / "a.pt")
    monkeypatch.setattr(Archive, "bytes", lambda archive, name: read.append(name) or read_part(archive, name))
    content = read_pickle(tmp_path / "a.pt")
    assert [tensor.tolist() for tensor in content.values()] == [list(range(i, 8)) for i in range(8)]
    assert len([name for name in read if "/data/" in name]) == 1


def _first(checkpoint: Checkpoints, **changes: Any) -> list[Part]:
    """The parts with one of the tensors' told differently."""
    at = next(i for i, part in enumerate(checkpoint.parts) if "/data/" in part.name)
    return [replace(part, **changes) if i == at else part for i, part in enumerate(checkpoint.parts)]


ARCHIVES: dict[str, Callable[[Checkpoints], bytes]] = {
    "a pickle before it": lambda c: zipped(c.parts, before=b"\x80\x02cos\nsystem\nX\4\0\0\0true\x85R."),
    "numbers that are a folder": lambda c: zipped(_first(c, attributes=0x10)),
    "a comment": lambda c: zipped(c.parts, comment=b"PK\5\6" + bytes(18)),
    "compressed": lambda c: zipped(_first(c, method=8)),
    "encrypted": lambda c: zipped(_first(c, flags=1)),
    "longer than it is": lambda c: zipped(_first(c, size=10**6)),
    "shorter than it is": lambda c: zipped(_first(c, size=4)),
    "elsewhere": lambda c: zipped(_first(c, start=0)),
    "another name on the spot": lambda c: zipped(_first(c, local_name="../secret")),
    "twice": lambda c: zipped([*c.parts, c.parts[-1]]),
    "beside its folder": lambda c: zipped([*c.parts, Part("code/x.py", b"")]),
    "a second pickle": lambda c: zipped([*c.parts, Part("evil/data.pkl", b"N.")]),
    "of another order of bytes": lambda c: zipped(
        [replace(part, data=b"big") if part.name.endswith("byteorder") else part for part in c.parts]
    ),
    "a flipped bit": lambda c: (
        bytes(c.whole[: len(c.whole) // 2])
        + bytes([c.whole[len(c.whole) // 2] ^ 1])
        + bytes(c.whole[len(c.whole) // 2 + 1 :])
    ),
    "a list of parts beyond all": lambda c: c.whole[:-10] + b"\xff\xff\xff\x7f" + c.whole[-6:],
}


@pytest.mark.parametrize("trick", ARCHIVES)
def test_archives_that_confuse(checkpoint: Checkpoints, tmp_path: Path, trick: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(zipped(checkpoint.parts))
    assert read_released(path)[1].num_layers == 2
    path.write_bytes(ARCHIVES[trick](checkpoint))
    with pytest.raises(ModelError, match=r"a\.pt .*\.$"):
        read_released(path)


# Models.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base's folder that may be changed."""
    copy = Path(shutil.copytree(REFERENCE / "tiny-vlm", tmp_path / "model"))
    copy.chmod(0o755)
    return copy


def edited(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "edit", "says"),
    [
        (
            "config.json",
            lambda c: c["text_config"].update(num_hidden_layers=10**9),
            "num_layers of its text model is 1000000000",
        ),
        ("config.json", lambda c: c["vision_config"].update(num_hidden_layers=10**6), "num_layers of its vision model"),
        ("config.json", lambda c: c["text_config"].update(vocab_size=2**62), "vocab_size of its text model"),
        ("config.json", lambda c: c["text_config"].update(rope_parameters=[1]), "describes no model"),
        ("config.json", lambda c: c["text_config"].update(head_dim=True), "head_dim of its text model is true"),
        ("config.json", lambda c: c["text_config"].update(rms_norm_eps=10**299), "rms_norm_eps of its text model"),
        ("config.json", lambda c: c["vision_config"].update(hidden_act="a" * 10**6), "has activation aaa"),
        ("config.json", lambda c: c["text_config"].update(num_key_value_heads=5), "do not share out"),
        ("config.json", lambda c: c.update(model_type=["x" * 10**6], architectures=1), "names no kind of model"),
        ("preprocessor_config.json", lambda c: c.update(max_image_size={"longest_edge": 10**9}), "no size of tiles"),
        ("preprocessor_config.json", lambda c: c.update(max_image_size=[1]), "no size of tiles"),
        ("processor_config.json", lambda c: c.update(image_seq_len="many"), "image tokens a tile"),
    ],
)
def test_sizes_no_model_has(folder: Path, file: str, edit: Callable[[dict[str, Any]], object], says: str) -> None:
    edited(folder, file, edit)
    started = time.monotonic()
    with pytest.raises(ModelError, match=says) as caught:
        find_base(str(folder))
    assert time.monotonic() - started < 5 and len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "names a key twice"),
        ('{"a": NaN}', "not finite"),
        ('{"a": ' * 50 + "1" + "}" * 50, "too deep"),
        ("[" * 200_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_json_of_a_model_is_read_strictly(folder: Path, text: str, says: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=rf"config\.json cannot be read as JSON \(it .*{says}"):
        find_base(str(folder))


def test_a_pipe_and_an_endless_file_are_not_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ModelError, match="it is no file"):
        find_base(str(folder))
    (folder / "config.json").unlink()
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="it is too long"):
        find_base(str(folder))


def test_tensors_that_overlap(tmp_path: Path) -> None:
    """The safetensors library would have raised an error of its own at the first use."""
    path = tmp_path / "hypernetwork.safetensors"
    Checkpoints(tmp_path)
    find_hypernetwork("tiny", str(path))
    header, data = parts(path.read_bytes())
    one, other = [entry for entry in header.values() if entry.get("shape") == [2]][:2]
    one["data_offsets"] = other["data_offsets"]
    path.write_bytes(framed(json.dumps(header).encode(), data))
    with pytest.raises(ModelError, match="overlap, or leave gaps"):
        find_hypernetwork("tiny", str(path))


_REPEAT = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
_SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [_REPEAT] * 4}}, "works by Replace"),
        ({"decoder": _REPEAT}, "works by Replace"),
        ({"pre_tokenizer": _SPLIT}, "works by Split"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}, "works by WordLevel"),
    ],
)
def test_tokenizers_that_take_forever(folder: Path, change: dict[str, Any], says: str) -> None:
    """They would eat all memory, take forever or end the process with a message in Rust, once there is a question."""
    edited(folder, "tokenizer.json", lambda c: c.update(change))
    base = Base(find_base(str(folder)).folder, torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match=says):
        base.encode("a" * 40 + "!")


def test_a_scale_no_float_holds(tmp_path: Path) -> None:
    Checkpoints(tmp_path)
    edited(tmp_path, "hypernetwork.json", lambda c: c.update(scale=10**400))
    with pytest.raises(ModelError, match="scale is 1000"):
        find_hypernetwork("tiny", str(tmp_path / "hypernetwork.safetensors"))


def test_more_tokens_than_the_model_has(folder: Path) -> None:
    more = {
        "content": "<more>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    edited(
        folder,
        "tokenizer.json",
        lambda c: c["added_tokens"].extend({**more, "id": 10**5 + i, "content": f"<{i}>"} for i in range(5)),
    )
    base = Base(find_base(str(folder)).folder, torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match="has more tokens than the model's"):
        base.encode("<4>")
    with pytest.raises(ModelError, match="has more tokens than the model's"):
        base.token("<4>")


EVIL = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoModelForCausalLM": "evil.Evil",
    "AutoModelForImageTextToText": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
}


def trap(folder: Path) -> Path:
    """Puts code into a model's folder, and all that would have transformers run it or fetch more; returns what appears
    if it does."""
    trace = folder.parent / "trace"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        edited(
            folder,
            name,
            lambda c: c.update(
                auto_map=EVIL, trust_remote_code=True, custom_pipelines={"x": EVIL}, attn_implementation="evil/kernel"
            ),
        )
    return trace


def test_code_in_a_models_folder_is_not_run(folder: Path) -> None:
    trace = trap(folder)
    edited(folder, "config.json", lambda c: c["text_config"].update(attn_implementation="evil/kernel"))
    base = Base(find_base(str(folder)).folder, torch.device("cpu"), torch.float32)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}')
    assert base.encode("Why?") and base.text and base.vision
    assert not trace.exists()


def test_code_in_a_judges_folder_is_not_run(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "judge", {"<|assistant|>": "7"})
    trace = trap(folder)
    try:
        scores = Judge(str(folder), device="cpu").score([CASE])
    except ModelError:
        scores = [0.7]
    assert scores == [0.7] and not trace.exists()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}')
    with pytest.raises(ModelError, match=r"adapter_config\.json, by which another model"):
        Judge(str(folder), device="cpu").score([CASE])
    assert not trace.exists()


def test_a_revision_leads_nowhere_else() -> None:
    assert Repo.parse("a/b@refs/pr/1") and Repo.parse("a/b@v1.0")
    assert not any(map(Repo.parse, ("a/b@../../x", "a/b@/etc", "a/b@x/../y", "../a", "a/..", "a/b/c", "a/b\0", "a/b@")))


# Adapters.


def fitting(scale: float = 1.0, **changes: Any) -> Adapter:
    """An adapter for the reference base, its numbers times `scale`."""
    base = Base(REFERENCE / "tiny-vlm", torch.device("cpu"), torch.float32)
    c = base.text_config
    like = make(1, base={"id": "x", "revision": None, "fingerprint": base.fingerprint}, **changes)
    arrays = [
        np.random.default_rng(i).standard_normal(shape).astype(np.float32) * np.float32(scale)
        for i, shape in enumerate([(c.num_layers, 4, c.intermediate_size), (c.num_layers, 4, c.hidden_size)] * 2)
    ]
    return replace(
        like, **dict(zip(("A", "B", "bias_A", "bias_B"), (from_float32(a, "float32") for a in arrays), strict=True))
    )


def test_numbers_that_are_too_large_are_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone is finite; what the model makes of them is not. The others of a batch are answered."""
    monkeypatch.chdir(tmp_path)
    for name, scale in (("good", 1e-3), ("bad", 3e37), ("last", 2e-3)):
        save(fitting(scale), f"{name}.v2lora")
    short = (*MODEL, "--max-new-tokens", "4")
    for temperature in ("0", "1"):
        said = run("ask", "bad.v2lora", "Why?", "--temperature", temperature, *short, status=1)
        assert said.stdout.strip() == "" and "the model's numbers are not finite" in said.stderr
        each = run(
            "ask",
            "good.v2lora",
            "bad.v2lora",
            "last.v2lora",
            "--each",
            "Why?",
            "--json",
            "--temperature",
            temperature,
            *short,
            status=1,
        )
        assert [found["adapter"] for found in documents(each)] == ["good.v2lora", "last.v2lora"]
        assert each.stderr.startswith("Error: bad.v2lora gives no answer to 'Why?'") and each.stderr.count("\n") == 1
    alone = documents(run("ask", "last.v2lora", "Why?", "--json", *short))[0]["answer"]
    both = documents(run("ask", "last.v2lora", "bad.v2lora", "--each", "Why?", "--json", *short, status=1))
    assert [found["answer"] for found in both] == [alone]


def test_an_adapter_of_another_shape_that_claims_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = fitting().record["base"]
    save(make(1, base=base), "small.v2lora")
    assert "is of 3 layers of 10 -> 6, not 5 layers of 128 -> 48" in refused("ask", "small.v2lora", "Why?", *MODEL)


def test_half_a_surrogate_pair_in_the_metadata(tmp_path: Path) -> None:
    """Which the safetensors library refuses to read."""
    with pytest.raises(AdapterError, match="metadata"):
        save(replace(make(1), record={**make(1).record, "metadata": {"a": "\ud800"}}), tmp_path / "a")
    save(make(1), tmp_path / "a")
    header, data = parts((tmp_path / "a").read_bytes())
    header["__metadata__"]["author"] = "\ud800"
    (tmp_path / "a").write_bytes(framed(json.dumps(header).encode(), data))
    with pytest.raises(AdapterError, match="metadata are not text"):
        load(tmp_path / "a")


def test_a_word_of_millions_is_shown_at_once() -> None:
    started = time.monotonic()
    text = adapter_text(make(1, prompt="x" * 5_000_000), 40)
    assert (
        time.monotonic() - started < 2
        and len(text) < 10_000
        and "(5000000 characters in all)" in " ".join(text.split())
    )
    many = make(1)
    text = adapter_text(replace(many, record={**many.record, **{f"k{i}": i for i in range(1000)}}), 40)
    assert text.count("\n") < 100 and "and 976 more fields" in text


# What is shown.


NASTY = "a\x1b]0;title\x07\x9b31m\x7f\u202e\r\x08b"


def test_names_and_answers_reach_no_terminal_as_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = make(1, prompt=NASTY, source={**make(1).sources[0], "name": f"{NASTY}\nError: no"})
    name = "\x1b[2Ja\nError: b.v2lora"
    save(replace(adapter, record={**adapter.record, NASTY: NASTY, "\nError: a": 1}), name)
    shown = run("info", name).stdout
    assert not any(char in shown for char in "\x1b\x07\x9b\x7f\r\x08") and "\nError" not in shown
    found = documents(run("info", name, "--json"))[0]
    assert found[NASTY] == found["prompt"] == NASTY and found["file"] == name  # exact, and yet only printable
    assert run("info", name, "--json").stdout.rstrip("\n").isprintable()
    assert run("compose", name, "-o", "\x1bout.v2lora").stdout == "\x1bout.v2lora\n"  # a pipe gets a file's true name
    for words, status in (
        (("info", "\x1b[1m\nno.v2lora"), 1),
        (("info", "-\x1b[1m\nx"), 2),
        (("info", f"--{NASTY}"), 2),
        ((f"{NASTY}",), 2),
    ):
        said = run(*words, status=status).stderr
        assert not any(char in said for char in "\x1b\x07\x9b\x7f\u202e\r\x08"), said
    assert "\ufffd" in paragraph(NASTY) and "\u202e" not in paragraph(NASTY) and "&lt;b&gt;" in paragraph("<b>")


def test_the_seeds_of_the_fuzzers_are_their_inputs(checkpoint: Checkpoints) -> None:
    """Or `--only` would not find them again."""
    made = []
    for _ in range(2):
        checkpoint.write(Random("x 3"))
        made.append(checkpoint.file.read_bytes())
    assert made[0] == made[1]
