"""Names to files, folders verified, and released pickles converted without running what is in them."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.processes import ROOT, Beside, files_no_larger_than

from v2l.config import HypernetConfig
from v2l.errors import ModelError
from v2l.model.folder import check_base, stored_tensors
from v2l.store import released as convert
from v2l.store.pickles import StandIn
from v2l.store.released import read_pickle
from v2l.store.resolve import check_fit, find_base, find_hypernetwork
from v2l.system.cache import cache_dir, sha256_of

Edit = Callable[[dict[str, Any]], object]


def save_released(content: dict[str, Any], path: Path, **options: Any) -> Path:
    """Writes what `read_pickle` gave as the released code would: records under the names of their classes."""
    fakes: dict[str, types.ModuleType] = {}

    def register(value: object) -> None:
        if isinstance(value, StandIn):
            module = fakes.setdefault(type(value).__module__, types.ModuleType(type(value).__module__))
            setattr(module, type(value).__name__, type(value))
            for inner in vars(value).values():
                register(inner)

    for value in content.values():
        register(value)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in fakes.items():
            for end in [i for i, c in enumerate(name) if c == "."]:
                patch.setitem(sys.modules, name[:end], types.ModuleType(name[:end]))
            patch.setitem(sys.modules, name, module)
        torch.save(content, path, **options)
    return path


@pytest.fixture
def released(reference: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Writes the reference checkpoint with one change."""

    def make(edit: Edit) -> Path:
        content = read_pickle(reference / "hypernetwork.pt")
        edit(content)
        return save_released(content, tmp_path / "edited.pt")

    return make


def convert_file(path: Path) -> Any:
    return find_hypernetwork("500m", str(path))


# --- conversion ---


def test_a_released_checkpoint_is_converted_tensor_by_tensor(reference: Path) -> None:
    found = convert_file(reference / "hypernetwork.pt")
    expected = {k: v for k, v in read_pickle(reference / "hypernetwork.pt").items() if torch.is_tensor(v)}
    stored = load_file(found.weights)
    assert stored.keys() == expected.keys() and all(torch.equal(stored[name], expected[name]) for name in stored)
    listed = json.loads((reference / "state_dict_shapes.json").read_text())
    assert {name: list(t.shape) for name, t in stored.items()} == listed
    assert found.config == HypernetConfig(
        num_layers=5,
        hidden_size=48,
        d_in=128,
        d_out=48,
        rank=4,
        latent_size=32,
        num_queries=3,
        num_blocks=2,
        scale=16.0,
        base="tiny-vlm",
    )
    assert found.name == "hypernetwork.pt" and found.sha256 == sha256_of(found.weights)


def test_conversion_happens_once_and_gives_the_same_bytes(
    reference: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = convert_file(reference / "hypernetwork.pt")
    assert first.weights.is_relative_to(home / "v2l")
    with monkeypatch.context() as patch:
        patch.setattr(convert, "read_released", lambda _: pytest.fail("converted again"))
        patch.setattr("v2l.system.cache.hash_of", lambda _: pytest.fail("hashed again"))
        assert convert_file(reference / "hypernetwork.pt") == first
    monkeypatch.setenv("V2L_CACHE", str(home / "moved"))
    again = convert_file(reference / "hypernetwork.pt")
    assert again.weights.is_relative_to(home / "moved") and again.sha256 == first.sha256
    assert again.weights.read_bytes() == first.weights.read_bytes()
    described = [found.weights.with_suffix(".json").read_bytes() for found in (first, again)]
    assert described[0] == described[1]
    assert {f.name for f in again.weights.parent.iterdir()} == {"hypernetwork.safetensors", "hypernetwork.json"}
    monkeypatch.delenv("V2L_CACHE")
    assert cache_dir().is_relative_to(home)


def test_a_converted_checkpoint_is_a_checkpoint(reference: Path) -> None:
    first = convert_file(reference / "hypernetwork.pt")
    again = convert_file(first.weights)
    assert (again.config, again.sha256, again.weights) == (first.config, first.sha256, first.weights)


@pytest.mark.parametrize("harm", ["truncated", "json", "gone"])
def test_a_damaged_conversion_is_made_anew(reference: Path, harm: str) -> None:
    first = convert_file(reference / "hypernetwork.pt")
    if harm == "truncated":
        os.truncate(first.weights, 1000)
    elif harm == "json":
        first.weights.with_suffix(".json").write_text("{")
    else:
        first.weights.unlink()
    assert convert_file(reference / "hypernetwork.pt") == first and sha256_of(first.weights) == first.sha256


def test_two_processes_convert_at_once(reference: Path) -> None:
    file = reference / "hypernetwork.pt"
    other = Beside(
        "import torch; from v2l.store.resolve import find_hypernetwork",
        f"print(find_hypernetwork('500m', {str(file)!r}).sha256)",
    )
    other.go()
    found = convert_file(file)
    assert other.result() == found.sha256 == sha256_of(found.weights)
    assert convert_file(file) == found and len(list(found.weights.parent.iterdir())) == 2


def test_prefixes_of_compiled_modules_and_cuda_tensors(reference: Path, tmp_path: Path) -> None:
    content = read_pickle(reference / "hypernetwork.pt")
    prefixed = {f"_orig_mod.{k}" if torch.is_tensor(v) else k: v for k, v in content.items()}
    save_released(prefixed, tmp_path / "compiled.pt")
    with zipfile.ZipFile(tmp_path / "compiled.pt") as source, zipfile.ZipFile(tmp_path / "cuda.pt", "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("data.pkl"):
                assert b"X\x03\0\0\0cpu" in data
                data = data.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
            target.writestr(info.filename, data)
    expected = convert_file(reference / "hypernetwork.pt")
    for name in ("compiled.pt", "cuda.pt"):
        found = convert_file(tmp_path / name)
        assert (found.config, found.sha256) == (expected.config, expected.sha256)


def test_everything_wrong_with_the_tensors_is_said_at_once(released: Callable[[Edit], Path]) -> None:
    def edit(content: dict[str, Any]) -> None:
        del content["layers.0.mlp.2.bias"], content["aggregator.perceiver.encoder.layers.1.mlp.up_proj.weight"]
        content["surplus.weight"] = torch.zeros(2)
        content["aggregator.perceiver.decoder.latents_q"] = torch.zeros(4, 33)
        content["bias_A.down_proj"] = torch.zeros(5, 4, 127)

    with pytest.raises(ModelError) as error:
        convert_file(released(edit))
    text = str(error.value)
    assert "missing: aggregator.perceiver.encoder.layers.1.mlp.up_proj.weight, layers.0.mlp.2.bias" in text
    assert "extra: surplus.weight" in text
    assert "bias_A.down_proj [5, 4, 127] instead of [5, 4, 128]" in text
    assert "aggregator.perceiver.decoder.latents_q [4, 33] instead of [4, 32]" in text
    assert "head.weight" not in text and text.count("edited.pt") == 1
    assert not (cache_dir() / "hypernetworks").exists()


def test_heads_are_those_of_the_released_code(released: Callable[[Edit], Path]) -> None:
    name = "aggregator.perceiver.encoder.layers.0.self_attn.q_proj.weight"
    with pytest.raises(ModelError, match=re.escape(f"{name} [1024, 32] instead of [2048, 32]")):
        convert_file(released(lambda content: content.update({name: torch.zeros(1024, 32)})))


def _record(content: dict[str, Any]) -> dict[str, Any]:
    return vars(content["hypernet_config"])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: vars(_record(c)["lora_config"]).update(r=8), "its records say rank 8 where its tensors have 4"),
        (lambda c: _record(c).update(latent_size=64), "its records say latent_size 64 where its tensors have 32"),
        (lambda c: vars(_record(c)["lora_config"]).pop("lora_alpha"), "no lora_alpha"),
        (lambda c: vars(_record(c)["lora_config"]).update(lora_alpha=float("nan")), "no lora_alpha"),
        (lambda c: _record(c).update(layer_indices=torch.tensor([0, 2, 4])), r"only the decoder layers \[0, 2, 4\]"),
        (lambda c: vars(c["ctx_encoder_args"]).update(ctx_encoder_type="early_exit"), "kind 'early_exit'"),
        (lambda c: c.update({"bias_A.up_proj": torch.zeros(5, 4, 48)}), "adapts down_proj, up_proj; v2l"),
        (lambda c: c.update({"head.weight": torch.zeros(5, 2, 32, 176)}), "v2l supports down_proj alone"),
        (lambda c: c.pop("hypernet_config"), "no hypernet_config"),
        (lambda c: c["head.weight"].view(-1)[7:8].fill_(float("inf")), "head.weight has values that are not finite"),
        (lambda c: c.update({"layers.0.mlp.0.bias": torch.zeros(32, dtype=torch.int64)}), "not finite real numbers"),
        (lambda c: c.update({"_orig_mod.head.weight": c["head.weight"].clone()}), "head.weight more than once"),
    ],
)
def test_checkpoints_that_cannot_be_used_say_why(edit: Edit, says: str, released: Callable[[Edit], Path]) -> None:
    with pytest.raises(ModelError, match=says):
        convert_file(released(edit))


def test_tensors_that_claim_more_than_the_file_has(reference: Path, tmp_path: Path) -> None:
    content = read_pickle(reference / "hypernetwork.pt")
    for name, value in content.items():
        if torch.is_tensor(value):
            content[name] = torch.zeros(1).expand(value.shape)
    with pytest.raises(ModelError, match="claim more bytes"):
        convert_file(save_released(content, tmp_path / "bomb.pt"))


# --- hostile and broken files ---


class Evil:
    """Runs a command when it is unpickled by anything that runs code."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch trace", f"{os.system.__module__}.system"),
        (eval, "open('trace', 'w')", "builtins.eval"),
        (subprocess.check_call, ["touch", "trace"], "subprocess.check_call"),
        (pickle.loads, b"cos\nsystem\n(S'touch trace'\ntR.", "pickle.loads"),
        (torch.load, "trace", "torch.serialization.load"),
    ],
)
def test_hostile_pickles_are_refused_by_name(
    function: Callable[..., Any],
    argument: Any,
    named: str,
    protocol: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"head.weight": torch.zeros(2), "x": Evil(function, argument)}
    torch.save(content, "evil.pt", pickle_protocol=protocol)
    with pytest.raises(ModelError, match=rf"nothing in it was run: it asks for .*{re.escape(named)}"):
        convert_file(Path("evil.pt"))
    assert os.listdir() == ["evil.pt"]


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (b"(S'touch TRACE'\nios\nsystem\n.", r"os\.system \(opcode INST\)"),
        (b"cos\nsystem\n(S'touch TRACE'\ntR.", r"os\.system"),
        (b"(cos\nsystem\nS'touch TRACE'\no.", r"os\.system"),
        (b"\x80\x02}X\x01\0\0\0a\x82\x01.", "opcode EXT1"),
        (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x0btouch TRACE\x85R.",
            r"os\.system \(opcode STACK_GLOBAL\)",
        ),
        (b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x06\0\0\0latin1\x86R.", r"_codecs\.encode"),
        (b"\x80\x02cctx_to_lora_evil\nx\n)R.", r"ctx_to_lora_evil\.x"),
        (b"\x80\x02cpeft.utils.peft_types\nOther\n)R.", r"peft\.utils\.peft_types\.Other"),
        (b"\x80\x02cbuiltins\ngetattr\nc__builtin__\nset\nX\x01\0\0\0a\x86R.", r"builtins\.getattr"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\nU\x01a\x85R.", r"torch\.storage\._load_from_bytes"),
    ],
)
def test_hand_made_opcodes_are_refused_by_name(
    code: bytes, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", code)
        archive.writestr("evil/version", "3\n")
    with pytest.raises(ModelError, match=named):
        convert_file(Path("evil.pt"))
    assert os.listdir() == ["evil.pt"]


def test_a_stand_in_runs_nothing(released: Callable[[Edit], Path]) -> None:
    """What is allowed is a name that holds what was stored; the class itself is never looked up."""
    path = released(lambda c: _record(c).update(lora_config=vars(c["hypernet_config"])["lora_config"]))
    classes = lambda: {name for name in sys.modules if name.startswith(("peft", "ctx_to_lora"))}
    before = classes()  # where peft is installed, transformers imports it
    assert {type(v).__base__ for v in read_pickle(path).values() if not isinstance(v, (str, torch.Tensor))} == {StandIn}
    assert classes() == before and "ctx_to_lora" not in before


def test_what_is_no_torch_zip_is_refused_politely(reference: Path, tmp_path: Path) -> None:
    legacy, other, cut, empty = (tmp_path / name for name in ("legacy.pt", "other.pt", "cut.pt", "empty.pt"))
    torch.save({"a": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "")
    cut.write_bytes((reference / "hypernetwork.pt").read_bytes()[:1_000_000])
    empty.touch()
    for path in (legacy, cut, empty):
        with pytest.raises(ModelError, match=rf"{path.name} is not a checkpoint in torch's zip format"):
            convert_file(path)
    with pytest.raises(ModelError, match="not a checkpoint saved by torch"):
        convert_file(other)
    torch.save([1, 2], other)
    with pytest.raises(ModelError, match="holds no named tensors"):
        convert_file(other)
    data = bytearray((reference / "hypernetwork.pt").read_bytes())
    where = data.index(b"_rebuild_tensor_v2")
    data[where - 40 : where - 20] = bytes(range(200, 220))
    other.write_bytes(data)
    with pytest.raises(ModelError, match=r"other\.pt"):
        convert_file(other)


# --- our own format ---


@pytest.fixture
def ours(reference: Path, tmp_path: Path) -> Path:
    """A folder with the reference base and its hypernetwork in our format."""
    folder = Path(shutil.copytree(reference / "tiny-vlm", tmp_path / "model"))
    found = convert_file(reference / "hypernetwork.pt")
    for kind in (".safetensors", ".json"):
        shutil.copy(found.weights.with_suffix(kind), folder / f"hypernetwork{kind}")
    return folder


def test_a_folder_brings_its_hypernetwork(ours: Path, reference: Path, tmp_path: Path) -> None:
    config = convert_file(reference / "hypernetwork.pt").config
    base = find_base(str(ours))
    assert (base.name, base.folder, base.revision, base.resolution) == ("model", ours, None, 384)
    assert find_hypernetwork(str(ours)).config == config
    (ours / "hypernetwork.safetensors").unlink()
    with pytest.raises(ModelError, match=r"No hypernetwork is known.*--checkpoint"):
        find_hypernetwork(str(ours))
    shutil.copy(reference / "hypernetwork.pt", ours)
    assert find_hypernetwork(str(ours)).config == config


def test_the_json_beside_our_weights(ours: Path) -> None:
    file = ours / "hypernetwork.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "somebody": "else's"}))
    assert find_hypernetwork(str(ours)).config.rank == 4
    file.write_text(json.dumps({**content, "rank": -4, "scale": "big", "num_blocks": True} | {"d_in": None}))
    with pytest.raises(ModelError, match=r"d_in is null, rank is -4, num_blocks is true, scale is \"big\""):
        find_hypernetwork(str(ours))
    file.write_text(json.dumps({k: v for k, v in content.items() if k not in ("num_layers", "scale")}))
    with pytest.raises(ModelError, match="num_layers is missing"):
        find_hypernetwork(str(ours))
    file.write_text(json.dumps({**content, "num_kv_heads": 3}))
    with pytest.raises(ModelError, match="16 query heads cannot share 3"):
        find_hypernetwork(str(ours))
    for bad in ("[]", "{", "\xff"):
        file.write_text(bad, encoding="latin1")
        with pytest.raises(ModelError, match=r"hypernetwork\.json"):
            find_hypernetwork(str(ours))
    file.unlink()
    with pytest.raises(ModelError, match=r"hypernetwork\.json is missing"):
        find_hypernetwork(str(ours))


def test_our_weights_are_checked_all_at_once(ours: Path) -> None:
    weights = ours / "hypernetwork.safetensors"
    tensors = load_file(weights)
    del tensors["head.weight"]
    tensors |= {"extra": torch.zeros(1), "layers.0.mlp.0.bias": torch.zeros(31)}
    save_file(tensors | {"layers.0.mlp.0.weight": torch.zeros(32, dtype=torch.int64)}, weights)
    with pytest.raises(
        ModelError,
        match=r"missing: head.weight; extra: extra; misshapen: layers.0.mlp.0.bias \[31\] "
        r"instead of \[32\]; layers.0.mlp.0.weight is I64",
    ):
        find_hypernetwork(str(ours))
    tensors = {name: tensor.half() for name, tensor in load_file(convert_cached()).items()}
    save_file(tensors, weights)
    assert find_hypernetwork(str(ours)).config.rank == 4  # ours may be stored in 16 bits
    os.truncate(weights, 10_000)
    with pytest.raises(ModelError, match="not whole"):
        find_hypernetwork(str(ours))


def convert_cached() -> Path:
    return next((cache_dir() / "hypernetworks").glob("*/*.safetensors"))


# --- bases ---


def damage_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def indexed(content: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps(content)) and None


def without(*names: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file({k: v for k, v in load_file(file).items() if not k.startswith(names)}, file)

    return edit


def configured(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "config.json"
        content = json.loads(file.read_text())
        for key, value in changes.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        file.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (drop("config.json"), r"config\.json is missing"),
        (drop("tokenizer.json"), r"tokenizer\.json missing"),
        (drop("model.safetensors"), r"model\.safetensors missing"),
        (lambda f: os.truncate(f / "model.safetensors", 500_000), r"model\.safetensors is not whole: 500,000 bytes"),
        (damage_header, "not a readable safetensors file"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be read as JSON"),
        (configured(model_type="idefics3", architectures=["Idefics3"]), "is a idefics3 model, not a SmolVLM"),
        (configured(vision_config=None), "has no vision_config"),
        (configured(text_config={"hidden_size": "wide"}), "describes no model"),
        (configured(text_config={"hidden_size": 64, "num_hidden_layers": 6}), r"missing: .*layers\.5.*misshapen"),
        (without("model.text_model.layers.3.mlp", "model.connector"), r"missing: model\.connector\..*3\.mlp\.down"),
        (without("model.vision_model.encoder.layers.1."), r"missing: model\.vision_model\.encoder\.layers\.1\."),
        (indexed({"weight_map": {"a": "../x.safetensors"}}), "no safetensors file beside"),
        (indexed({"weight_map": {"a": "b.safetensors"}}), r"b\.safetensors missing"),
        (indexed({}), "names no files"),
    ],
)
def test_folders_that_are_no_whole_base(
    harm: Callable[[Path], None], says: str, reference: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(reference / "tiny-vlm", tmp_path / "model"))
    folder.chmod(0o755)
    harm(folder)
    with pytest.raises(ModelError, match=says):
        find_base(str(folder))


def test_variants_of_a_folder(reference: Path, tmp_path: Path) -> None:
    """As transformers 5 writes it, without what can be derived, and with the output matrix tied."""
    from transformers import SmolVLMForConditionalGeneration

    model = SmolVLMForConditionalGeneration.from_pretrained(reference / "tiny-vlm")
    model.save_pretrained(tmp_path / "v5", max_shard_size="300kB")
    shutil.copy(reference / "tiny-vlm" / "tokenizer.json", tmp_path / "v5")
    assert len(list((tmp_path / "v5").glob("*.safetensors"))) > 1
    check_base(tmp_path / "v5")
    folder = Path(shutil.copytree(reference / "tiny-vlm", tmp_path / "tied"))
    configured(tie_word_embeddings=True)(folder)
    without("lm_head")(folder)
    check_base(folder)


def test_the_header_of_a_file_that_lies(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    lies = [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]},
        {"dtype": "X", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1]},
        [],
        None,
    ]
    for entry in lies:
        head = json.dumps({"a": entry}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * 4)
        with pytest.raises(ModelError, match="not a readable safetensors file"):
            stored_tensors(path)


def test_a_base_and_a_hypernetwork_that_do_not_fit(reference: Path) -> None:
    config = json.loads((reference / "tiny-vlm" / "config.json").read_text())
    check_fit(config, convert_file(reference / "hypernetwork.pt").config, base="b", checkpoint="h")
    other = HypernetConfig(num_layers=32, hidden_size=960, d_in=2560, d_out=960, base="SmolVLM2-500M")
    with pytest.raises(
        ModelError,
        match=r"tiny and the hypernetwork h\.pt do not fit: the base has 5 layers of width "
        r"48 with down_proj 128 -> 48.*SmolVLM2-500M\) needs 32 layers of width 960",
    ):
        check_fit(config, other, base="tiny", checkpoint="h.pt")


# --- habits ---


def test_nothing_heavy_is_imported_for_listing() -> None:
    run = (
        "import sys; from v2l.store.resolve import available; available()\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    env = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", run], env=env, capture_output=True, text=True, timeout=250)
    assert done.stdout == "[]\n", done.stderr


def test_a_cache_that_cannot_be_written(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("V2L_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"not usable.*V2L_CACHE"):
        convert_file(reference / "hypernetwork.pt")


def test_a_full_disk_leaves_no_half_conversion(reference: Path, home: Path) -> None:
    with (
        files_no_larger_than(1 << 19),
        pytest.raises(ModelError, match=r"not usable: Cannot write .*File too large.*V2L_CACHE"),
    ):
        convert_file(reference / "hypernetwork.pt")
    assert not [f for f in (home / "v2l" / "hypernetworks").rglob("*") if f.is_file()]
