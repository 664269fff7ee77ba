"""PEFT, transformers and llama.cpp, given what v2l exports: their answers are v2l's.

Where an engine is not installed its tests are skipped; the extra `dev` brings them all, and `.ci/run` sees to that.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from support.cli import REFERENCE, documents, refused, run

from v2l.adapter import Adapter, load, save
from v2l.adapter.compress import compress
from v2l.adapter.factors import factors
from v2l.adapter.join import join, slice_segments
from v2l.engine import Engine
from v2l.store.foreign import check
from v2l.store.foreign.gguf import write_adapter
from v2l.store.foreign.peft import write_peft
from v2l.store.foreign.text_model import export_text_model
from v2l.tiny.questions import SHORT_KINDS, ask_about
from v2l.tiny.world import held_out_clips

EXAMPLES = Path(__file__).parents[1] / "examples"
ABOUT = {"base": {"id": "v2l/tiny", "revision": None}, "adapter": {"name": "long.v2lora"}}
ODD = ("It's 1984's \"best\"?", "Où est l'étoile?", "  two  spaces ", "tab\there", "视频里有什么?", "a😀b",
       "don't 12 345!", "-", "Is\nthere a line?")


def questions(count: int) -> list[str]:
    """Different questions of the embedded model's world."""
    rng, found = random.Random("other engines"), dict[str, None]()
    for clip, _ in held_out_clips(200):
        if (pair := ask_about(rng, clip, rng.choice(SHORT_KINDS))) is not None:
            found[pair.question] = None
        if len(found) == count:
            break
    return list(found)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def adapters(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapter]:
    """The long example in segments, one of them, and all of them compressed."""
    parts = [engine.ingest(EXAMPLES / "long.mp4", engine.sampling(start=s, end=s + 12.0)) for s in (0.0, 12.0, 24.0)]
    composed, _ = join(parts)
    file = tmp_path_factory.mktemp("adapters") / "long.v2lora"
    save(composed, file)
    composed = load(file)
    return {"composed": composed, "sliced": slice_segments(composed, [1]), "compressed": compress(composed, 24)}


@pytest.fixture(scope="module")
def text_model(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base for llama.cpp, in float32."""
    pytest.importorskip("gguf")
    file = tmp_path_factory.mktemp("text-model") / "tiny.gguf"
    export_text_model(engine.files.folder, file, "f32", "tiny", {})
    return file


CASES = [("composed", 50), ("sliced", 6), ("compressed", 6)]


@pytest.mark.parametrize(("kind", "count"), CASES)
def test_peft_answers_as_v2l(engine: Engine, adapters: dict[str, Adapter], kind: str, count: int,
                             tmp_path: Path) -> None:
    pytest.importorskip("peft")
    write_peft(tmp_path / "out", factors(adapters[kind]), ABOUT, base=engine.files.folder)
    compared = check.agreement(engine.base, engine.bind(adapters[kind]),
                               *check.peft(engine.files.folder, tmp_path / "out", False), questions=questions(count))
    assert (compared.equal, compared.questions) == (count, count) and compared.difference < 1e-3


@pytest.mark.parametrize(("kind", "count"), CASES)
def test_llama_cpp_answers_as_v2l(engine: Engine, adapters: dict[str, Adapter], text_model: Path, kind: str,
                                  count: int, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    write_adapter(tmp_path / "out.gguf", factors(adapters[kind]), ABOUT)
    compared = check.agreement(engine.base, engine.bind(adapters[kind]),
                               *check.llama(text_model, tmp_path / "out.gguf"), questions=questions(count))
    assert (compared.equal, compared.questions) == (count, count) and compared.difference < 5e-3


def test_filling_up_with_zeros_changes_no_answer(engine: Engine, adapters: dict[str, Adapter], text_model: Path,
                                                 tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("xllamacpp")
    padded, bound = factors(adapters["sliced"], pad_rank=128), engine.bind(adapters["sliced"])
    write_peft(tmp_path / "out", padded, ABOUT, text_only=True, base=engine.files.folder)
    write_adapter(tmp_path / "out.gguf", padded, ABOUT)
    for engine_of_another in (check.peft(engine.files.folder, tmp_path / "out", True),
                              check.llama(text_model, tmp_path / "out.gguf")):
        compared = check.agreement(engine.base, bound, *engine_of_another)
        assert compared.good and compared.equal == compared.questions


def test_an_engine_that_lost_the_adapter_is_noticed(engine: Engine, adapters: dict[str, Adapter], text_model: Path,
                                                    tmp_path: Path) -> None:
    """PEFT loads names that it does not know as nothing."""
    pytest.importorskip("peft")
    pytest.importorskip("xllamacpp")
    bound = engine.bind(adapters["composed"])
    write_peft(tmp_path / "out", factors(adapters["composed"]), ABOUT, text_only=True)
    with pytest.warns(UserWarning, match="missing adapter keys"):
        compared = check.agreement(engine.base, bound, *check.peft(engine.files.folder, tmp_path / "out", False))
    assert not compared.good and compared.difference > compared.limit
    assert not check.agreement(engine.base, bound, *check.llama(text_model)).good


@pytest.mark.parametrize("folder", ["tiny", str(REFERENCE / "tiny-vlm")])
def test_llama_cpp_makes_the_same_tokens_of_a_question(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    base = Engine(folder, offline=True, device="cpu", dtype="float32")
    export_text_model(base.files.folder, tmp_path / "base.gguf", "f32", "base", {})
    assert check.tokenizes_alike(tmp_path / "base.gguf", base.base, [*questions(50), *ODD])
    compared = check.agreement(base.base, None, *check.llama(tmp_path / "base.gguf"))
    assert compared.equal == 4 and compared.difference < 1e-3


@pytest.mark.parametrize("format", ["peft", "gguf", "merged"])
def test_the_command_checks_what_it_wrote(adapters: dict[str, Adapter], format: str, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("xllamacpp")
    monkeypatch.chdir(tmp_path)
    save(adapters["composed"], "long.v2lora")
    place = "out.gguf" if format == "gguf" else "out"
    result = run("export", "long.v2lora", "--to", format, place, "--check", "--json")
    (made,) = documents(result)
    assert made["check"]["equal"] == made["check"]["questions"] == 4 and "4 of 4 greedy answers" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["long.v2lora", place])


def test_a_merged_model_goes_to_llama_cpp(engine: Engine, adapters: dict[str, Adapter], tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.chdir(tmp_path)
    save(adapters["composed"], "long.v2lora")
    run("export", "long.v2lora", "--to", "merged", "model", "--quiet")
    result = run("models", "export", "model", "--to", "gguf", "model.gguf", "--check", "--json")
    (made,) = documents(result)
    assert (made["type"], made["rounding_loss"]) == ("f32", 0.0) and made["check"]["equal"] == 4
    compared = check.agreement(engine.base, engine.bind(adapters["composed"]), *check.llama(Path("model.gguf")),
                               questions=questions(10))
    assert compared.equal == 10 and compared.difference < 5e-3


def test_a_check_that_fails_says_so(adapters: dict[str, Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                    ) -> None:
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    save(adapters["sliced"], "part.v2lora")
    lost = check.transformers
    monkeypatch.setattr(check, "peft", lambda base, adapter, text_only: lost(base))
    result = run("export", "part.v2lora", "--to", "peft", "out", "--check", "--quiet", status=1)
    assert result.stdout == "" and "Error: out is written, but transformers" in result.stderr
    assert "does not compute what v2l does" in result.stderr


def test_an_engine_that_is_not_there_is_named(adapters: dict[str, Adapter], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(adapters["sliced"], "part.v2lora")
    for package in ("peft", "gguf"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "pip install peft" in refused("export", "part.v2lora", "--to", "peft", "out", "--check", "--quiet")
    assert "pip install 'v2l[gguf]'" in refused("export", "part.v2lora", "--to", "gguf", "out.gguf", "--quiet")
    assert not Path("out.gguf").exists()
