"""The model that is taken where none is named: who says so comes first, and a bad name is told with its origin."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import MODEL, documents, refused, run

from v2l.engine import Engine
from v2l.errors import UsageError
from v2l.store.default import config_file, default_model, set_default_model

TINY_VLM = MODEL[1]


def test_option_then_environment_then_configuration_then_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (default_model().name, default_model().origin) == ("tiny", "")
    assert run("models", "use", "500m").stdout == f"{config_file()}\n"
    assert (default_model().name, default_model().origin) == ("500m", str(config_file())) == (
        Engine().model, str(config_file()))
    monkeypatch.setenv("V2L_MODEL", "2.2b")
    assert (default_model().name, default_model().origin) == ("2.2b", "V2L_MODEL")
    assert Engine().model == "2.2b" and Engine("tiny").model == "tiny"


def test_the_named_model_is_used_and_one_that_is_typed_comes_first(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V2L_MODEL", TINY_VLM)
    words = ("ingest", reference / "videos" / "short.mp4", "--json", "--checkpoint", reference / "hypernetwork.pt",
             "--resolution", 64, "-o", tmp_path / "a.v2lora")
    run(*words)
    bases = [documents(run("info", tmp_path / "a.v2lora", "--json"))[0]["base"]["id"]]
    run("ingest", reference / "videos" / "short.mp4", "--model", "tiny", "-o", tmp_path / "b.v2lora")
    bases += [documents(run("info", tmp_path / "b.v2lora", "--json"))[0]["base"]["id"]]
    assert bases == ["tiny-vlm", "v2l/tiny"]


def test_models_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("models").stdout.startswith("Without --model: tiny (choose another with: v2l models use NAME)\n")
    result = run("models", "use", "500m")
    assert result.stderr == "Note: 500m is not on this disk yet; fetch it with: v2l models pull 500m.\n"
    assert run("models").stdout.startswith(f"Without --model: 500m (as {config_file()} says)\n")
    assert [(each["name"], each["default"]) for each in documents(run("models", "--json"))] == [
        ("tiny", False), ("500m", True), ("2.2b", False)]
    monkeypatch.setenv("V2L_MODEL", "tiny")
    assert run("models", "use", "2.2b").stderr.startswith(
        "Note: V2L_MODEL is set, so without --model it is still tiny.\n")
    tiny = documents(run("models", "--json"))[0]
    assert (tiny["default"], tiny["default_model"], tiny["default_from"]) == (True, "tiny", "V2L_MODEL")


def test_a_bad_name_is_told_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Path) -> None:
    assert refused("models", "use", "no//model", status=2).startswith("There is no model no//model: ")
    assert not config_file().exists()
    config_file().parent.mkdir()
    video = reference / "videos" / "short.mp4"
    for content, said in ((b"no//model\n", "names the default model, and there is no model no//model"),
                          (b"\xff\xfe\xff", "cannot be read (it is not text)")):
        config_file().write_bytes(content)
        for words in (("ingest", video), ("models",), ("ask", "--direct", video, "Who?")):
            assert said in (error := refused(*words, status=2)) and str(config_file()) in error
    monkeypatch.setenv("V2L_MODEL", "no//model")
    with pytest.raises(UsageError, match="V2L_MODEL names the default model, and there is no model"):
        Engine()
    run("ingest", video, "--model", "tiny", "-o", tmp_path / "a.v2lora")  # what is typed needs no default
    run("models", "use", "tiny")


def test_a_folder_is_named_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(TINY_VLM).parent)
    set_default_model("tiny-vlm")
    monkeypatch.chdir(tmp_path)
    assert default_model().name == TINY_VLM


def test_a_default_that_cannot_be_had_is_told_with_its_origin_and_both_ways_out(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = reference / "videos" / "short.mp4"
    words = ("ingest", video, "-o", tmp_path / "a.v2lora", "--offline")
    typed = refused(*words, "--model", "500m")
    assert "default model" not in typed and "`v2l models pull 500m`" in typed
    run("models", "use", "500m")
    for call in (words, ("ask", "--direct", video, "Who?", "--offline")):
        error = refused(*call)
        assert error.count("`v2l models pull 500m`") == 1
        assert error.endswith(f"; 500m is the default model, as {config_file()} says: take another with "
                              "`v2l models use tiny`.")
    assert "default model" not in refused(*words, "--model", "500m")
    monkeypatch.setenv("V2L_MODEL", str(damaged := tmp_path / "base"))
    damaged.mkdir()
    assert refused(*words).endswith("is the default model, as V2L_MODEL says: take another with --model tiny.")
    monkeypatch.setenv("V2L_MODEL", "some/base")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    assert refused(*words[:-1]).endswith("; some/base is the default model, as V2L_MODEL says: fetch it with "
                                         "`v2l models pull some/base`, or take another with --model tiny.")
    assert "default model" not in refused(*words[:-1], "--model", "some/base")
