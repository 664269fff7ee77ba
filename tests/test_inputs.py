"""The names given to commands: lists with any mark, folders, names without their ending, no questions."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.adapters import make
from support.cli import documents, refused, run

from v2l.adapter import save
from v2l.adapter.find import holds_adapter
from v2l.cli import options
from v2l.cli.app import app
from v2l.errors import UsageError
from v2l.manifest import read_manifest
from v2l.store.names import model_name
from v2l.store.resolve import find_hypernetwork
from v2l.system.appended import Appended
from v2l.system.lines import line_batches
from v2l.wording import clock_seconds, command, nearest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: talks/a.v2lora, talks/deep/b.v2lora and what is no adapter."""
    monkeypatch.chdir(tmp_path)
    Path("talks/deep").mkdir(parents=True)
    save(make(0), "talks/a.v2lora")
    save(make(1, start=10.0, end=20.0), "talks/deep/b.v2lora")
    Path("talks/notes.txt").write_text("Buy milk.")
    Path("talks/.hidden.v2lora").write_text("nothing")
    return tmp_path


NAMES = ["./a b.mp4", "./ü.mp4"]
LISTS = {
    "plain": "./a b.mp4\n\n./ü.mp4".encode(), "Windows": "./a b.mp4\r\n./ü.mp4\r\n".encode(),
    "a mark": "./a b.mp4\n./ü.mp4\n".encode("utf-8-sig"), "PowerShell": "./a b.mp4\r\n./ü.mp4\r\n".encode("utf-16"),
    "UTF-16, big end first": "\ufeff./a b.mp4\r\n./ü.mp4".encode("utf-16-be"),
    "UTF-16 without a mark": "./a b.mp4\n./ü.mp4\n".encode("utf-16-le"),
    "UTF-32": "./a b.mp4\n./ü.mp4".encode("utf-32"), "find -print0": "./a b.mp4\0./ü.mp4\0".encode(),
}


@pytest.mark.parametrize("data", LISTS.values(), ids=LISTS.keys())
def test_a_list_is_read_whatever_wrote_it(data: bytes) -> None:
    assert [name for batch in line_batches(io.BytesIO(data), bytes.decode) for name in batch] == NAMES


def test_a_list_parted_by_nuls_may_hold_names_of_two_lines() -> None:
    assert list(line_batches(io.BytesIO(b"./a\nb.mp4\0./c.mp4\0"), bytes.decode)) == [["./a\nb.mp4", "./c.mp4"]]


@pytest.mark.parametrize("data", [b"\0\0\0\x1cftypisom", b"\x1aE\xdf\xa3\x01\0", b"RIFF\x10\0\0\0AVI ", b"a\nb\0c\0\0"])
def test_what_is_no_list_is_named(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"names\.lst should be lines of text, and what is there is none, a video"):
        list(line_batches(io.BytesIO(data), bytes.decode, "names.lst"))


@pytest.mark.parametrize(("data", "names"), [
    (b"Why?\nWho\0 is it?\n", False), (b"Why?\n\0Who?\n\0", False), (b"Why?\0Who?\n", False),
    (b"Why?\n" * 30_000 + b"Who\0?\n", False), (b"a.mp4\0b.mp4\n", True), (b"a.mp4\n" * 30_000 + b"b\0.mp4\n", True)])
def test_a_list_that_is_parted_in_two_ways_is_named(data: bytes, names: bool) -> None:
    with pytest.raises(UsageError, match="stdin parts lines by NUL characters and by ends of lines; use one of the"):
        list(line_batches(io.BytesIO(data), bytes.decode, names=names))


@pytest.mark.parametrize("data", LISTS.values(), ids=LISTS.keys())
def test_questions_are_read_whatever_wrote_them(data: bytes) -> None:
    found = line_batches(io.BytesIO(data), bytes.decode, names=False)
    assert [question for batch in found for question in batch] == NAMES


@pytest.mark.parametrize("data", ["talks/a.v2lora\r\n".encode("utf-16"),
                                  "talks/a.v2lora\n".encode("utf-8-sig"), b"talks/a.v2lora\0", b'"talks/a.v2lora"\n'])
def test_every_list_of_a_command_is_read_so(here: Path, data: bytes) -> None:
    (found,) = documents(run("info", "-", "--json", stdin=data))
    assert found["file"] == "talks/a.v2lora"
    Path("names.lst").write_bytes(data)
    said = refused("ask", "--adapters", "names.lst", "--model", "500m", "--offline", "Why?", status=2)
    assert said.startswith("talks/a.v2lora was made with tiny")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_manifests_have_marks_too(tmp_path: Path, encoding: str) -> None:
    line = json.dumps({"id": "a", "video_path": "a.mp4", "prompt": "Größe?", "target_text": "x"}, ensure_ascii=False)
    (tmp_path / "m.jsonl").write_bytes((("\ufeff" if encoding == "utf-16-be" else "") + line + "\n").encode(encoding))
    assert read_manifest(tmp_path / "m.jsonl")[0].turns[0].prompt == "Größe?"


def test_a_record_with_a_mark_is_gone_on_with_and_one_in_utf_16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    with Appended(path, "a record", "name another") as record:
        record.add({"b": 2})
    with Appended(path, "a record", "name another") as record:
        assert record.documents == [{"a": 1}, {"b": 2}]
    path.write_bytes('{"a": 1}\n'.encode("utf-16"))
    with pytest.raises(UsageError, match=r"is UTF-16 text.*; save it as UTF-8, or name another\."):
        Appended(path, "a record", "name another")


# Adapters.


def test_a_folder_stands_for_the_adapters_below_it(here: Path) -> None:
    shown = run("info", "talks", "--json")
    assert [found["file"] for found in documents(shown)] == ["talks/a.v2lora", "talks/deep/b.v2lora"]
    assert shown.stderr == "Note: talks: 1 file passed over as no adapters: 1 .txt.\n"
    assert run("info", "talks", "--json", "--quiet").stderr == ""
    run("compose", "talks", "-o", "full.v2lora")
    assert run("slice", "talks", "--each", "--output-dir", "parts").stdout == "parts/a-1.v2lora\nparts/b-1.v2lora\n"
    (there,) = documents(run("info", "full.v2lora", "--json"))
    assert len(there["segments"]) == 2


def test_what_compose_writes_into_the_folder_is_not_read_again(here: Path) -> None:
    run("compose", "talks", "-o", "talks/full.v2lora")
    assert run("compose", "talks", "-o", "talks/full.v2lora").stderr.endswith("talks/full.v2lora is up to date.\n")


def test_links_and_second_names_are_told(here: Path) -> None:
    os.symlink("..", "talks/deep/round")
    os.symlink("a.v2lora", "talks/z.v2lora")
    shown = run("info", "talks", "--json")
    assert len(documents(shown)) == 2
    assert "talks/deep/round is a link to a folder, which is not followed" in shown.stderr
    assert "talks/z.v2lora is another name of talks/a.v2lora, which is taken once." in shown.stderr


def test_a_folder_without_adapters_or_that_is_closed_fails_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    shown = run("info", "empty", "talks", "--json", status=1)
    assert len(documents(shown)) == 2
    assert "empty is a folder without adapters; make some with: v2l ingest empty.\n" in shown.stderr
    listed = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    shown = run("info", "talks", "--json", status=1)
    assert [found["file"] for found in documents(shown)] == ["talks/a.v2lora"]
    assert "Error: talks/deep may not be entered; check its permissions.\n" in shown.stderr
    assert "talks/deep may not be entered" in refused("compose", "talks", "-o", "full.v2lora", "--quiet")


def test_an_adapter_is_found_without_its_ending_and_known_by_its_content(here: Path) -> None:
    os.rename("talks/deep/b.v2lora", "lecture.v2lora.bak")
    files = [found["file"] for found in documents(run("info", "talks/a", "lecture.v2lora.bak", "--json"))]
    assert files == ["talks/a.v2lora", "lecture.v2lora.bak"]
    assert "talks/a.v2lora was made with tiny" in refused("ask", "talks/a", "Why?", "--model", "500m", status=2)
    assert "made with tiny" in refused("ask", "lecture.v2lora.bak", "Why?", "--model", "500m", status=2)
    assert "is an adapter already; ask it with: v2l ask lecture.v2lora.bak QUESTION." in refused(
        "ingest", "lecture.v2lora.bak")
    assert not holds_adapter("talks/notes.txt") and not holds_adapter("talks") and not holds_adapter("nowhere")


@pytest.mark.parametrize(("words", "said"), [
    (("talks/a.v2lora", "talks/notes.txt"), "talks/notes.txt is a file, and no question; to ask what its lines say: "
                                            "v2l ask talks/a.v2lora - < talks/notes.txt."),
    (("talks/a.v2lora", "my film.mp4", "Why?"), "my film.mp4 is a video, and no question; watch it first: "
                                                "v2l ingest 'my film.mp4', or ask it itself: "
                                                "v2l ask --direct 'my film.mp4' QUESTION."),
    (("talks/a.v2lora", "empty", "Why?", "--join"),
     "empty is a folder without adapters; make some with: v2l ingest empty."),
])
def test_what_is_there_is_never_a_question(here: Path, words: tuple[str, ...], said: str) -> None:
    Path("my film.mp4").write_text("")
    Path("empty").mkdir()
    assert refused("ask", *words, status=1 if "empty" in words else 2) == said


# Words.


@pytest.mark.parametrize(("text", "seconds"), [
    ("90", 90), ("5s", 5), ("2m", 120), ("1h5m", 3900), ("1.5h", 5400), ("1h 5m 3.5s", 3903.5), ("2M", 120),
    ("1:30", 90), ("01h02m03s", 3723), ("1:02:03.5", 3723.5), ("", None), ("m", None), ("5x", None),
    ("1m1h", None), ("1h5", None), ("1:75", None), ("-5", None), ("9" * 400, None)])
def test_times_have_one_spelling(text: str, seconds: float | None) -> None:
    assert clock_seconds(text) == seconds


def test_commands_that_are_suggested_can_be_typed() -> None:
    assert command("ingest", "a.mp4") == "v2l ingest a.mp4"
    assert command("ask", "it's.v2lora", "-x.v2lora", "-") == """v2l ask 'it'"'"'s.v2lora' ./-x.v2lora -"""
    assert nearest("50m", ["tiny", "500m"]) == " (did you mean 500m?)" and nearest("x", ["tiny"]) == ""


# The door.


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that takes no further command, with the words that call it."""
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if not getattr(command, "commands", {}):
        yield path, command


COMMANDS = list(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_no_option_and_no_argument_of_any_command_takes_an_empty_text(path: tuple[str, ...], command: Any) -> None:
    for param in command.params:
        if getattr(param, "is_flag", False):
            continue
        if param.param_type_name == "argument":
            assert refused(*path, "", status=2).startswith("An argument (")
            assert refused(*path, "--", "", status=2).startswith("An argument (")
            continue
        for name in param.opts:
            optional = (param.metavar or "").startswith("[")  # then the empty text is an argument
            assert refused(*path, name, "", status=2).startswith(
                "An argument (" if optional else f"The value of {name} is empty, ")
        assert refused(*path, f"{max(param.opts, key=len)}=", status=2).startswith("The value of --")


def test_what_follows_two_dashes_is_no_option(here: Path) -> None:
    assert "no such file" in refused("ingest", "--", "--output-dir=")


# Names of models, number formats, strategies.


def test_presets_and_number_formats_are_known_as_people_call_them() -> None:
    assert model_name("500M") == "500m" and model_name("Org/500M") == "Org/500M"
    for words, kind in ((("half", "FP16"), "float16"), (("bf16", "BFloat16"), "bfloat16"), (("fp32",), "float32")):
        assert {options.parse_dtype(word) for word in words} == {options.Dtype(kind)}
    assert options.one_of(["join", "each"])("JOIN") == "join"
    assert (options.minutes("90"), options.minutes("4h"), options.minutes("90s")) == (90, 240, 1.5)


def test_a_folder_called_as_a_preset_in_capitals_is_that_folder(here: Path) -> None:
    Path("500M").mkdir()
    assert model_name("500M") == "500M"


@pytest.mark.parametrize("name", ["v2l/tiny", "tiny", "TINY"])
def test_tinys_hypernetwork_is_the_embedded_one_and_asks_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.store.hub.resolve", lambda *_: pytest.fail("the Hub was asked"))
    monkeypatch.setattr("v2l.store.hub.download", lambda *_: pytest.fail("the Hub was asked"))
    assert find_hypernetwork("tiny", name) == find_hypernetwork("tiny")
