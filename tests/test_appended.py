"""Documents one a line: read again, whole after any interruption, and by one writer at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.processes import Beside, files_no_larger_than

from v2l.errors import OutputError, UsageError
from v2l.system.appended import Appended


def opened(path: Path | None, start: bytes = b'{"kind": "') -> Appended:
    return Appended(path, "the record of a bench", "give --resume another file", start)


def lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_added_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    with opened(file) as journal:
        assert journal.documents == []
        journal.add({"kind": "a", "text": "zwei\nZeilen ü \u2028"})
        journal.add({"kind": "b"})
    with opened(file) as journal:
        assert journal.documents == [{"kind": "a", "text": "zwei\nZeilen ü \u2028"}, {"kind": "b"}] == lines(file)
    assert os.listdir(tmp_path) == ["j.jsonl"]


def test_nothing_is_kept_without_a_path() -> None:
    with opened(None) as journal:
        journal.add({"kind": "a"})


def test_nothing_is_created_before_the_first_document(tmp_path: Path) -> None:
    with opened(tmp_path / "j.jsonl"):
        pass
    assert os.listdir(tmp_path) == []


WHOLE = '{"kind": "a"}\n'


@pytest.mark.parametrize("torn", ['{"kind": "b", "te', '{"ki', "{", '{"kind": "b", "x": [{"y": 1}'])
def test_a_torn_last_line_is_cut_off_when_the_next_is_written(torn: str, tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(WHOLE + torn)
    with opened(file) as journal:
        assert journal.documents == [{"kind": "a"}] and file.read_text() == WHOLE + torn
        journal.add({"kind": "c"})
        journal.add({"kind": "d"})
    assert lines(file) == [{"kind": "a"}, {"kind": "c"}, {"kind": "d"}]


def test_a_whole_last_line_that_an_editor_left_without_an_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(WHOLE.rstrip("\n"))
    with opened(file) as journal:
        assert journal.documents == [{"kind": "a"}]
        journal.add({"kind": "b"})
    assert lines(file) == [{"kind": "a"}, {"kind": "b"}]


@pytest.mark.parametrize(("content", "number"), [
    ("not json\n{}\n", 1), ('["a"]\n', 1), (WHOLE + '{"answer": 42}\n' + WHOLE, 2), (WHOLE + "\n" + WHOLE, 2),
    (WHOLE + '{"kind": "b", "te' + WHOLE, 2), ("a text", 1), (WHOLE + "text", 2), ("[" * 100_000 + "\n", 1)])
def test_other_files_are_left_alone(content: str, number: int, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(UsageError) as error:
        opened(file)
    assert str(error.value) == f"{file} is not the record of a bench (line {number}); give --resume another file."
    assert file.read_text() == content and os.listdir(tmp_path) == ["notes.txt"]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be read"):
        opened(tmp_path)
    with opened(tmp_path / "nowhere" / "j.jsonl") as journal, pytest.raises(OutputError, match="cannot be written"):
        journal.add({"kind": "a"})
    assert os.listdir(tmp_path) == []


def test_a_full_disk_costs_no_line_but_its_own(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    with opened(file) as journal:
        journal.add({"kind": "a"})
        with files_no_larger_than(64), pytest.raises(OutputError, match="cannot be written"):
            journal.add({"kind": "b", "text": "x" * 100})
        assert file.stat().st_size == 64
        journal.add({"kind": "c"})
    assert lines(file) == [{"kind": "a"}, {"kind": "c"}]


def test_a_second_writer_is_refused_until_the_first_is_done_or_dead(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    other = Beside("from pathlib import Path; from v2l.system.appended import Appended; import os",
                   f"with Appended(Path({str(file)!r}), 'x', 'y') as journal:\n"
                   "    journal.add({'kind': 'a'}); print('open', flush=True); input(); os._exit(0)")
    other.go()
    assert other.process.stdout is not None and other.process.stdout.readline() == "open\n"
    (tmp_path / "link").symlink_to(file)
    for name in ("j.jsonl", "link"):
        with pytest.raises(UsageError) as error:
            opened(tmp_path / name)
        assert str(error.value) == (f"Another run is writing {tmp_path / name}; wait for its end, or give --resume "
                                    "another file.")
    other.process.kill()
    other.process.communicate()
    with opened(file) as journal, pytest.raises(UsageError, match="Another run"):
        assert journal.documents == [{"kind": "a"}]
        opened(file)
    with opened(file):
        pass
    assert sorted(os.listdir(tmp_path)) == ["j.jsonl", "link"]


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    file = tmp_path / ("ü" * 124 + ".jsonl")
    with opened(file) as journal:
        journal.add({"kind": "a"})
        side, = (name for name in os.listdir(tmp_path) if name != file.name)
        assert side.startswith(".üüü") and side.endswith(".lock")
    assert os.listdir(tmp_path) == [file.name]
