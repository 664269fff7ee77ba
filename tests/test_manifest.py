"""Manifests: what a line may say, what is refused and how that is told, and that writing loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from v2l.errors import OutputError, UsageError
from v2l.manifest import Item, Turn, read_lines, read_manifest, write_manifest

LINE = {"id": "a", "video_path": "a.mp4", "prompt": "Describe the video.", "target_text": "A dog runs."}


def written(folder: Path, *lines: Any) -> Path:
    """A manifest of these lines: objects, or texts as they are."""
    path = folder / "m.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_manifest(path)
    text = str(error.value)
    assert text.startswith(str(path)) and text.endswith(".") and "\n" not in text
    return text.removeprefix(str(path))


def test_a_line_says_what_it_may(tmp_path: Path) -> None:
    path = written(
        tmp_path, LINE, "", "   ",
        {"id": "b", "video_path": "/else/b.mkv", "prompt": "P", "target_text": ["x", "y"], "kind": "caption",
         "question": "Q?", "answer": "yes", "question_kind": "yes/no", "start": 0, "end": 2.5, "split": "val",
         "benchmark": "VDC", "choices": ["yes", "no"], "my own": {"key": 1}},
        {"id": "c", "video_path": "sub/c.mp4", "prompt": "P", "target_text": None, "question": "Q?", "end": None})
    assert read_manifest(path) == [
        Item("a", tmp_path / "a.mp4", (Turn("Describe the video.", ("A dog runs.",)),)),
        Item("b", Path("/else/b.mkv"), (Turn("P", ("x", "y"), "caption"), Turn("Q?", ("yes",), "yes/no")), 0.0, 2.5,
             "val", "VDC", ("yes", "no")),
        Item("c", tmp_path / "sub/c.mp4", (Turn("P", ()), Turn("Q?", ()))),
    ]
    assert [document.get("my own") for _, document in read_lines(path)] == [None, {"key": 1}, None]


def test_one_split_of_it(tmp_path: Path) -> None:
    path = written(tmp_path, LINE, LINE | {"id": "b", "split": "val"}, LINE | {"id": "c", "split": "test"})
    assert [[item.id for item in read_manifest(path, split)] for split in ("train", "val", "test")] == [
        ["a"], ["b"], ["c"]]
    with pytest.raises(UsageError, match="no split 'dev'; it is train, val or test"):
        read_manifest(path, "dev")


@pytest.mark.parametrize(("change", "says"), [
    ({"id": None}, "there is no id"),
    ({"id": 7}, "id is 7, not a text"),
    ({"id": " "}, "id is blank"),
    ({"video_path": ""}, "video_path is blank"),
    ({"video_path": ["a.mp4"]}, 'video_path is ["a.mp4"], not a text'),
    ({"video_path": "a\0.mp4"}, "video_path holds a NUL character"),
    ({"prompt": None}, "there is no prompt"),
    ({"target_text": 3}, "target_text is 3, not a text or a list of texts"),
    ({"target_text": ["a", None]}, 'target_text is ["a", null], not a text or a list of texts'),
    ({"target_text": ["a", ""]}, "target_text is blank; leave it out where there is none"),
    ({"answer": "yes"}, "there is an answer and no question"),
    ({"question": {}}, "question is {}, not a text"),
    ({"start": -1}, "start is -1, not seconds from 0 on"),
    ({"start": float("nan")}, "start is NaN, not seconds"),
    ({"end": float("inf")}, "end is Infinity, not seconds"),
    ({"end": 10**400}, "not seconds from 0 on"),
    ({"end": True}, "end is true, not seconds"),
    ({"end": "5"}, 'end is "5", not seconds'),
    ({"end": 0}, "end (0) does not come after start (0)"),
    ({"start": 5, "end": 4.5}, "end (4.5) does not come after start (5)"),
    ({"split": "dev"}, 'split is "dev", not train, val or test'),
    ({"kind": 1}, "kind is 1, not a text"),
    ({"choices": [1]}, "choices is [1], not a text or a list of texts"),
    ({"id": 7, "prompt": "", "end": -1}, "id is 7, not a text; prompt is blank; end is -1"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    text = refusal(written(tmp_path, LINE | {"id": "fine"}, "", LINE | change))
    assert text.startswith(", line 3: ") and says in text


def test_ids_are_unique(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, LINE, "", LINE)) == (
        ', line 3: the id "a" is that of line 1 too; give each line its own.')


@pytest.mark.parametrize(("text", "says"), [
    ('{"id": "a"', ", line 1 is not JSON ("),
    ('[{"id": "a"}]', ", line 1 is no JSON object; write one object a line."),
    ("[" * 100_000, ", line 1 is not JSON ("),
    ("", " is empty; a manifest has one JSON object a line."),
])
def test_what_is_no_manifest(tmp_path: Path, text: str, says: str) -> None:
    assert refusal(written(tmp_path, text)).startswith(says)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, says in ((tmp_path / "nope", "No such file"), (tmp_path, "Is a directory"),
                       (tmp_path / "binary", "no text in UTF-8"), (Path("a\0b"), "")):
        with pytest.raises(UsageError, match=rf"cannot be read \(.*{says}"):
            read_manifest(path)


def test_writing_loses_nothing(tmp_path: Path) -> None:
    items = [
        Item("a", tmp_path / "clips/a.mp4", (Turn("P\u2028\x85", ("t",)),)),
        Item("b", Path("/else/große Köpfe.mp4"), (Turn("P", (), "k"), Turn("Q", ("x", "y"), "l")), 1.5, 3.0, "test",
             "NExT-QA", ("x", "y")),
        Item("c", tmp_path.parent / "c\udce9.mp4", (Turn("P", ("t",)), Turn("Q", ())), start=0.0),
    ]
    path = tmp_path / "out.jsonl"
    write_manifest(path, items)
    assert read_manifest(path) == items
    first = path.read_bytes()
    assert b'"video_path": "clips/a.mp4"' in first
    write_manifest(path, items)
    assert path.read_bytes() == first
    moved = tmp_path / "moved"
    moved.mkdir()
    path.rename(moved / "out.jsonl")
    assert read_manifest(moved / "out.jsonl")[0].video == moved / "clips/a.mp4"


def test_videos_are_named_from_the_manifests_folder_wherever_one_works(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write_manifest("sub/m.jsonl", [Item("a", Path("sub/a.mp4"), (Turn("P", ()),)),
                                   Item("b", Path("b.mp4"), (Turn("P", ()),))])
    assert [item.video for item in read_manifest("sub/m.jsonl")] == [Path("sub/a.mp4"), tmp_path / "b.mp4"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_manifest(tmp_path / "nope/m.jsonl", [])
    with pytest.raises(ValueError, match="a has 3 turns"):
        write_manifest(tmp_path / "m.jsonl", [Item("a", Path("a.mp4"), (Turn("P", ()),) * 3)])
    assert not (tmp_path / "m.jsonl").exists()
