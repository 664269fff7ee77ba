"""`v2l export` and `v2l models export`: what they write, what they refuse, and that they write it whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.adapters import make
from support.cli import documents, refused, run

from v2l.adapter import Adapter, load, save
from v2l.adapter.dtypes import from_float32
from v2l.adapter.factors import change, factors
from v2l.adapter.file import single
from v2l.adapter.join import join
from v2l.adapter.record import Record
from v2l.engine import Engine
from v2l.errors import AdapterError, ModelError, OutputError, UsageError
from v2l.model.prompt import question_prompt
from v2l.store.foreign.merged import write_merged
from v2l.store.foreign.peft import VLLM_RANKS, vllm_rank, write_peft
from v2l.store.foreign.tensors import Weights
from v2l.store.foreign.text_model import CHAT_TEMPLATE, read_vocabulary
from v2l.system.files import replacing_folder, scratch_folder

LAYERS, WIDTH, INNER = 6, 192, 576


@cache
def fingerprint() -> str:
    return Engine("tiny", offline=True, device="cpu").base.fingerprint


def tiny_adapter(seed: int = 0, rank: int = 16, dtype: str = "float16", strength: float = 0.01, **changed: Any
                 ) -> Adapter:
    """An adapter of random numbers that fits the embedded base; the bias is the same whatever the seed."""
    random = lambda seed, *shape: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    like = make(seed).record
    fields = dict(base={"id": "v2l/tiny", "revision": None, "fingerprint": fingerprint()},
                  hypernetwork=like["hypernetwork"], scale=128.0, source=like["sources"][0], start=10.0 * seed,
                  end=10.0 * seed + 10, timestamps=[10.0 * seed], sampling=like["sampling"], prompt="",
                  compute=like["compute"], version="0.4.0")
    return single(random(seed, LAYERS, rank, INNER) * 0.01, random(seed + 50, LAYERS, rank, WIDTH) * strength,
                  random(77, LAYERS, rank, INNER) * 0.01, random(78, LAYERS, rank, WIDTH) * strength, dtype,
                  **{**fields, **changed})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter of one segment and one of five."""
    folder, adapters = tmp_path_factory.mktemp("made"), [tiny_adapter(seed) for seed in range(5)]
    save(adapters[0], folder / "one.v2lora")
    save(join(adapters)[0], folder / "five.v2lora")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with the adapters of `made`."""
    monkeypatch.chdir(tmp_path)
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


# The factors.


def test_the_bias_is_one_of_the_ranks_and_counts_once(here: Path) -> None:
    adapter = load("five.v2lora")
    made, parts = factors(adapter), adapter.float32()
    assert (made.A.shape, made.B.shape, made.dtype) == ((LAYERS, 96, INNER), (LAYERS, WIDTH, 96), "float16")
    assert made.alpha == 128.0 * 96 and made.scale == 128.0
    wanted = 128.0 * (parts["B"][2].T.astype(np.float64) @ parts["A"][2] + parts["bias_B"][2].T.astype(np.float64)
                      @ parts["bias_A"][2])
    np.testing.assert_allclose(change(made, 2), wanted, rtol=1e-9, atol=1e-9)


def test_zeros_fill_up_and_alpha_follows(here: Path) -> None:
    adapter = load("one.v2lora")
    plain, padded = factors(adapter), factors(adapter, pad_rank=128)
    assert (padded.rank, padded.alpha, padded.scale) == (128, 128.0 * 128, plain.scale)
    assert not padded.A[:, 32:].any() and not padded.B[:, :, 32:].any()
    np.testing.assert_array_equal(change(plain, 0), change(padded, 0))
    with pytest.raises(UsageError, match="has rank 32, and --pad-rank 31 is less"):
        factors(adapter, pad_rank=31)


@pytest.mark.parametrize(("stored", "written"), [("float32", "float32"), ("float16", "float16"),
                                                 ("bfloat16", "float32")])
def test_values_are_written_exactly(stored: str, written: str) -> None:
    adapter = make(3, stored)
    made = factors(adapter)
    assert made.dtype == written and (made.A[:, :4] == adapter.float32()["A"]).all()


def test_what_float16_cannot_hold_once_scaled_is_refused() -> None:
    adapter = make(1)
    large = replace(adapter, B=from_float32(np.full_like(adapter.B, 5000), "float32"))
    assert factors(large).dtype == "float32"
    with pytest.raises(AdapterError, match="multiplied with its scale of 16; write it with --dtype float32"):
        factors(large, "float16")


# PEFT.


def test_a_peft_folder(here: Path) -> None:
    (made,) = documents(run("export", "five.v2lora", "--to", "peft", "out", "--json", "--quiet"))
    assert made | {"size": 0} == {"output": "out", "format": "peft", "rank": 96, "alpha": 12288.0, "segments": 5,
                                  "dtype": "float16", "max_lora_rank": 128, "size": 0}
    assert sorted(os.listdir("out")) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "v2l.json"]
    stored, expected = load_file("out/adapter_model.safetensors"), factors(load("five.v2lora"))
    assert len(stored) == 2 * LAYERS
    name = "base_model.model.model.text_model.layers.3.mlp.down_proj.lora_{}.weight"
    assert stored[name.format("A")].tobytes() == expected.A[3].tobytes()
    assert stored[name.format("B")].shape == (WIDTH, 96) and (stored[name.format("B")] == expected.B[3]).all()
    config = json.loads(Path("out/adapter_config.json").read_text())
    assert config["r"] == 96 and config["lora_alpha"] == 12288 and config["use_rslora"] is False
    assert config["target_modules"] == r".*text_model.*mlp\.down_proj"
    about = json.loads(Path("out/v2l.json").read_text())
    assert about["adapter"]["name"] == "five.v2lora" and len(about["adapter"]["sha256"]) == 64
    assert [segment["start"] for segment in about["segments"]] == [0, 10, 20, 30, 40]
    assert question_prompt("QUESTION") in Path("out/README.md").read_text()


def test_a_peft_folder_for_the_text_model_alone(here: Path) -> None:
    run("export", "one.v2lora", "--to", "peft", "out", "--text-only", "--pad-rank", 64)
    stored = load_file("out/adapter_model.safetensors")
    assert stored["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"].shape == (64, INNER)
    assert json.loads(Path("out/adapter_config.json").read_text())["target_modules"] == ["down_proj"]


@pytest.mark.parametrize("format", ["peft", "gguf", "merged"])
def test_the_same_adapter_gives_the_same_bytes(here: Path, format: str) -> None:
    if format == "gguf":
        pytest.importorskip("gguf")
    places = [Path(f"{i}.gguf" if format == "gguf" else str(i)) for i in range(2)]
    for place in places:
        run("export", "one.v2lora", "--to", format, place, "--quiet")
    files = [[(file.name.replace("1", "0") if file in places else file.name, file.read_bytes())
              for file in (sorted(place.iterdir()) if place.is_dir() else [place])] for place in places]
    assert files[0] == files[1]


@pytest.mark.parametrize(("rank", "taken"), [(1, 1), (32, 32), (33, 64), (129, 256), (257, 320), (321, 512),
                                             (512, 512)])
def test_the_rank_that_vllm_takes(rank: int, taken: int) -> None:
    assert vllm_rank(rank, "it", 16) == taken and taken in VLLM_RANKS


def test_more_ranks_than_vllm_takes(here: Path) -> None:
    save(join([tiny_adapter(seed, rank=128) for seed in range(4)])[0], "large.v2lora")
    said = refused("export", "large.v2lora", "--to", "peft", "out", "--quiet", status=2)
    assert "has rank 640 and vLLM takes at most 512" in said and "v2l compose --max-rank 384" in said
    assert not Path("out").exists()
    result = run("export", "large.v2lora", "--to", "peft", "out", "--force")
    assert "vLLM takes no adapter of that rank" in result.stderr and Path("out").is_dir()


def test_vllm_is_told_how_to_serve_it(here: Path) -> None:
    result = run("export", "one.v2lora", "--to", "peft", "out")
    assert result.stdout == "out\n"
    assert "--enable-lora --max-lora-rank 32 --lora-modules out=out\n" in result.stderr
    assert run("export", "one.v2lora", "--to", "peft", "out", "--quiet").stderr == ""


def test_names_that_the_base_does_not_have_are_refused(here: Path) -> None:
    """PEFT would load them as nothing."""
    engine = Engine("tiny", offline=True, device="cpu", dtype="float32")
    made = factors(load("one.v2lora"))
    with pytest.raises(AdapterError, match=r"names 5 modules and the base in .* has 6"):
        write_peft("out", replace(made, A=made.A[:5], B=made.B[:5]), {"base": {"id": "v2l/tiny"}},
                   base=engine.files.folder)
    assert not Path("out").exists()


# GGUF.


def test_llama_cpp_is_told_of_the_base(here: Path) -> None:
    pytest.importorskip("gguf")
    result = run("export", "one.v2lora", "--to", "gguf", "out.gguf")
    assert "llama-server --model BASE.gguf --lora out.gguf" in result.stderr
    assert "v2l models export tiny --to gguf BASE.gguf" in result.stderr


def test_a_gguf_adapter(here: Path) -> None:
    gguf = pytest.importorskip("gguf")
    (made,) = documents(run("export", "one.v2lora", "--to", "gguf", "out.gguf", "--json"))
    assert made["size"] == os.path.getsize("out.gguf") and made["rank"] == 32
    stored, expected = gguf.GGUFReader("out.gguf"), factors(load("one.v2lora"))
    field = lambda name: stored.fields[name].contents()
    assert [field(f"{key}") for key in ("general.architecture", "general.type", "adapter.type",
                                        "adapter.lora.alpha")] == ["llama", "adapter", "lora", 4096.0]
    assert json.loads(field("v2l.json"))["adapter"]["name"] == "one.v2lora"
    tensors = {tensor.name: tensor for tensor in stored.tensors}
    assert len(tensors) == 2 * LAYERS and tensors["blk.0.ffn_down.weight.lora_a"].tensor_type.name == "F16"
    assert tensors["blk.5.ffn_down.weight.lora_b"].data.tobytes() == expected.B[5].tobytes()


def test_a_text_model(here: Path) -> None:
    gguf = pytest.importorskip("gguf")
    made = {kind: documents(run("models", "export", "tiny", "--to", "gguf", f"{kind}.gguf", "--json", "--quiet",
                                *(() if kind == "auto" else ("--type", kind))))[0]
            for kind in ("auto", "f16", "q8_0", "f32")}
    assert made["auto"]["type"] == "bf16" and made["q8_0"]["size"] < made["auto"]["size"] < made["f32"]["size"]
    stored = gguf.GGUFReader("auto.gguf")
    field = lambda name: stored.fields[name].contents()
    tensors = {tensor.name: tensor for tensor in stored.tensors}
    with Weights(Engine("tiny").files.folder) as weights:
        exact = weights.read("model.text_model.layers.1.mlp.down_proj.weight")
    for name in made:
        tensor = next(t for t in gguf.GGUFReader(f"{name}.gguf").tensors if t.name == "blk.1.ffn_down.weight")
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(values - exact).max() <= (0 if name in ("auto", "f32") else np.abs(exact).max() / 100)
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    assert field("tokenizer.chat_template") == CHAT_TEMPLATE and field("tokenizer.ggml.pre") == "gpt-2"
    assert field("tokenizer.ggml.tokens")[field("tokenizer.ggml.eos_token_id")] == "<end_of_utterance>"


def test_a_tokenizer_that_llama_cpp_cannot_be_told_of(tmp_path: Path) -> None:
    content = json.loads((Engine("tiny").files.folder / "tokenizer.json").read_text())
    for changed in ({"normalizer": {"type": "NFC"}}, {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**content, **changed}))
        with pytest.raises(ModelError, match="GGUF cannot be written of it"):
            read_vocabulary(tmp_path, 707)
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "added_tokens": []}))
    with pytest.raises(ModelError, match="does not describe the tokenizer of a SmolVLM2"):
        read_vocabulary(tmp_path, 707)


# Merged.


def test_a_merged_model_is_a_model_folder(here: Path) -> None:
    (made,) = documents(run("export", "one.v2lora", "--to", "merged", "model", "--json", "--quiet"))
    assert made["dtype"] == "float32" and made["rounding_loss"] < 1e-4
    base, merged = Engine("tiny").files.folder, Engine("model", offline=True, device="cpu", dtype="float32")
    assert merged.fetch_base().name == "model"
    name, other = (f"model.text_model.layers.4.mlp.{part}_proj.weight" for part in ("down", "up"))
    with Weights(base) as before, Weights(Path("model")) as after:
        added = after.read(name).astype(np.float64) - before.read(name)
        np.testing.assert_allclose(added, change(factors(load("one.v2lora")), 4), atol=1e-6)
        assert (after.read(other) == before.read(other)).all() and before.shapes == after.shapes
    config = json.loads(Path("model/config.json").read_text())
    text = config["text_config"]
    assert text["rope_theta"] == text["rope_parameters"]["rope_theta"] == 10000.0 and config["dtype"] == "float32"
    assert json.loads(Path("model/generation_config.json").read_text())["eos_token_id"] == 6
    assert json.loads(Path("model/v2l.json").read_text())["adapter"]["name"] == "one.v2lora"


@pytest.mark.parametrize("rope", [
    {"rope_theta": 5e4}, {"rope_theta": 5e4, "rope_parameters": {"rope_type": "default"}},
    {"rope_parameters": {"rope_theta": 5e4}}, {"rope_scaling": {"type": "default", "rope_theta": 5e4}}])
def test_transformers_4_and_5_find_the_rotary_base_of_a_merged_model(rope: Record, here: Path) -> None:
    base = Path("base")
    shutil.copytree(Engine("tiny").files.folder, base)
    config = json.loads((base / "config.json").read_text())
    text = {key: value for key, value in config["text_config"].items() if not key.startswith("rope_")}
    (base / "config.json").write_text(json.dumps({**config, "text_config": {**text, **rope}}))
    write_merged("model", base, factors(load("one.v2lora")), "float32", {})
    written = json.loads(Path("model/config.json").read_text())["text_config"]
    assert written["rope_theta"] == 5e4 and written["rope_parameters"] == {"rope_type": "default", "rope_theta": 5e4}


def test_a_change_that_rounding_takes_away_is_refused(here: Path) -> None:
    save(tiny_adapter(strength=2e-5), "weak.v2lora")
    said = refused("export", "weak.v2lora", "--to", "merged", "model", "--dtype", "bfloat16", status=2)
    assert said.startswith("--dtype bfloat16 rounds ") and "more than 5% is not written without --force" in said
    assert not Path("model").exists()
    result = run("export", "weak.v2lora", "--to", "merged", "model", "--dtype", "bfloat16", "--force")
    assert "of what the adapter changes away" in result.stderr and Path("model/model.safetensors").exists()
    run("export", "weak.v2lora", "--to", "merged", "model", "--quiet")
    pytest.importorskip("gguf")
    said = refused("models", "export", "model", "--to", "gguf", "m.gguf", "--type", "q8_0", status=2)
    assert said.startswith("--type q8_0 rounds ") and not Path("m.gguf").exists()
    run("models", "export", "model", "--to", "gguf", "m.gguf", "--type", "q8_0", "--force", "--quiet")


# Segments.


def test_many_segments_are_warned_of_and_can_go_one_by_one(here: Path) -> None:
    result = run("export", "five.v2lora", "--to", "peft", "out")
    assert "Note: five.v2lora has 5 segments, which other engines sum up" in result.stderr
    result = run("export", "five.v2lora", "--to", "peft", "out", "--each")
    assert result.stdout == "".join(f"out-{i}\n" for i in range(1, 6)) and "segments, which" not in result.stderr
    assert json.loads(Path("out-3/v2l.json").read_text())["segments"] == [
        {"video": "lecture.mp4", "start": 20.0, "end": 30.0}]
    run("slice", "five.v2lora", "--segment", 3, "-o", "third.v2lora")
    run("export", "third.v2lora", "--to", "peft", "third", "--quiet")
    assert Path("third/adapter_model.safetensors").read_bytes() == Path("out-3/adapter_model.safetensors").read_bytes()
    pytest.importorskip("gguf")
    assert run("export", "five.v2lora", "--to", "gguf", "o.gguf", "--each", "--quiet").stdout.split()[0] == "o-1.gguf"


# The base.


def test_an_adapter_of_another_base_is_refused(here: Path) -> None:
    adapter = load("one.v2lora")
    base = {**adapter.record["base"], "fingerprint": "f" * 64}
    save(replace(adapter, record={**adapter.record, "base": base}), "x.v2lora")
    for format in ("peft", "merged"):
        assert "ingest its video again" in refused("export", "x.v2lora", "--to", format, "out", "--quiet")
    assert not Path("out").exists()


def test_a_base_that_is_not_here_is_only_needed_to_merge(here: Path) -> None:
    save(make(), "x.v2lora")
    record = load("x.v2lora").record
    other = {**record["base"], "id": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "revision": "c0ffee"}
    save(replace(load("x.v2lora"), record={**record, "base": other}), "x.v2lora")
    result = run("export", "x.v2lora", "--to", "peft", "out", "--offline")
    assert "is not on this disk, so only the adapter was checked" in result.stderr
    assert f"vllm serve {other['id']} --revision c0ffee --enable-lora --max-lora-rank 8 " in result.stderr
    config = json.loads(Path("out/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (other["id"], "c0ffee")
    refused("export", "x.v2lora", "--to", "merged", "model", "--offline", "--quiet")
    assert not Path("model").exists()


# Calls, and folders written whole.


@pytest.mark.parametrize(("words", "status", "says"), [
    (("--to", "gguf", "out.bin"), 2, "does not end in .gguf"),
    (("--to", "merged", "out", "--pad-rank", 64), 2, "merged weights have no rank"),
    (("--to", "gguf", "out.gguf", "--text-only"), 2, "--text-only is for peft"),
    (("--to", "peft", "out", "--dtype", "bfloat16"), 2, "name float32 or float16"),
    (("--to", "peft", "no/out"), 1, "the folder no does not exist"),
    (("--to", "gguf", "no/out.gguf"), 1, "the folder no does not exist"),
    (("--to", "peft", "one.v2lora"), 1, "it is a file"),
    (("--to", "peft", "taken"), 1, "it holds no v2l.json, so it was not made by this command"),
    (("--to", "peft", "out", "--pad-rank", 8), 2, "has rank 32, and --pad-rank 8 is less"),
], ids=str)
def test_a_call_that_is_wrong(here: Path, words: tuple[object, ...], status: int, says: str) -> None:
    Path("taken").mkdir()
    Path("taken/mine").touch()
    before = sorted(os.listdir())
    assert says in refused("export", "one.v2lora", *words, "--quiet", status=status)
    assert sorted(os.listdir()) == before and os.listdir("taken") == ["mine"]


def test_formats_that_there_are_not(here: Path) -> None:
    assert "'zip' is not peft, gguf or merged" in run("export", "one.v2lora", "--to", "zip", "x", status=2).stderr
    assert "'peft' is not gguf" in run("models", "export", "tiny", "--to", "peft", "x", status=2).stderr


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with replacing_folder(place, "mark") as folder:
        assert not place.exists() and folder.parent == tmp_path
        (folder / "mark").write_text("1")
    with pytest.raises(ZeroDivisionError), replacing_folder(place, "mark") as folder:
        (folder / "mark").write_text("2")
        raise ZeroDivisionError
    assert (place / "mark").read_text() == "1" and os.listdir(tmp_path) == ["out"]
    with replacing_folder(place, "mark") as folder:
        (folder / "mark").write_text("3")
    assert (place / "mark").read_text() == "3" and os.listdir(tmp_path) == ["out"]
    with pytest.raises(OutputError, match="holds no other"), replacing_folder(place, "other"):
        pass


def test_folders_of_killed_runs_go_and_those_of_others_stay(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as alive:
        other = "00" if not alive.name.endswith("00.tmp") else "11"  # names are random
        dead = alive.with_name(f"{alive.name[:-6]}{other}.tmp")
        dead.mkdir()
        (dead / "half").touch()
        (tmp_path / "sub").mkdir()
        with scratch_folder(tmp_path / "sub" / ".."):  # a folder is swept once in a process, by its name
            assert alive.is_dir() and not dead.exists()
    assert os.listdir(tmp_path) == ["sub"]
