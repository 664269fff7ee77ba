"""The command line: composed files taken apart again, and compressed ones that cannot be."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from support.adapters import make, source
from support.cli import documents, refused, run

from v2l.adapter import load, save

NAMES = [f"{i}.v2lora" for i in range(4)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: three segments of one video, one of another, and all of them composed."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        save(make(i, "float16", 720.0 + 10 * i, 730.0 + 10 * i), NAMES[i])
    save(make(3, "float16", 0.0, 5.0, source=source("other.mp4")), NAMES[3])
    run("compose", *NAMES, "-o", "full.v2lora", "--quiet")
    return tmp_path


def composed(*numbers: int) -> bytes:
    run("compose", *(NAMES[i] for i in numbers), "-o", "expected.v2lora", "--quiet", "--force")
    return Path("expected.v2lora").read_bytes()


@pytest.mark.parametrize(("words", "numbers"), [
    (("--from", "12:00", "--to", "12:10"), [0]), (("--from", "12:05", "--to", "12:10.5"), [0, 1]),
    (("--from", "0:12:20"), [2]), (("--to", 10), [3]), (("--video", "lecture.mp4"), [0, 1, 2]),
    (("--video", "other.mp4", "--from", 4), [3]), (("--segment", 2), [1]), (("--segment", "3-4", "--segment", 1),
    [0, 2, 3]), (("--segment", "1-4"), [0, 1, 2, 3])], ids=str)
def test_a_slice_is_what_was_composed(here: Path, words: tuple[object, ...], numbers: list[int]) -> None:
    result = run("slice", "full.v2lora", *words, "-o", "part.v2lora")
    assert (result.stdout, result.stderr) == ("part.v2lora\n", "")
    assert Path("part.v2lora").read_bytes() == composed(*numbers)


def test_each_segment_becomes_the_file_it_was(here: Path) -> None:
    result = run("slice", "full.v2lora", "--each", "--output-dir", "new/parts", "--json")
    made = documents(result)
    assert [one["output"] for one in made] == [f"new/parts/full-{i}.v2lora" for i in range(1, 5)]
    assert made[1] == {"output": "new/parts/full-2.v2lora", "segments": 1, "sources": ["lecture.mp4"], "rank": 8,
                       "start": 730.0, "end": 740.0, "size": os.path.getsize("1.v2lora"), "skipped": False}
    for name, one in zip(NAMES, made, strict=True):
        assert Path(one["output"]).read_bytes() == Path(name).read_bytes()


def test_each_is_named_after_the_whole_name(here: Path) -> None:
    for name in ("talk 1.5", "talk 1.6"):
        save(load("1.v2lora"), name)
    assert run("slice", "talk 1.5", "talk 1.6", "--each").stdout == "talk 1.5-1.v2lora\ntalk 1.6-1.v2lora\n"


def test_each_of_a_range_and_of_several(here: Path) -> None:
    save(load("1.v2lora"), "lone.v2lora")
    result = run("slice", "-", "--each", "--from", "12:15", stdin="full.v2lora\nlone.v2lora\n")
    assert result.stdout.split() == ["full-2.v2lora", "full-3.v2lora", "lone-1.v2lora"]
    assert Path("full-3.v2lora").read_bytes() == Path("2.v2lora").read_bytes()
    assert Path("lone-1.v2lora").read_bytes() == Path("1.v2lora").read_bytes()
    Path("bad.v2lora").write_text("")
    result = run("slice", "bad.v2lora", "full.v2lora", "--each", "--segment", 1, "--output-dir", "new", status=1)
    assert result.stdout == "new/full-1.v2lora\n" and result.stderr.startswith("Error: bad.v2lora is not")


def test_names_of_many_segments_sort(here: Path) -> None:
    for i in range(10):
        save(make(i, start=i, end=i + 1), f"s{i}.v2lora")
    run("compose", *(f"s{i}.v2lora" for i in range(10)), "-o", "ten.v2lora")
    assert run("slice", "ten.v2lora", "--each", "--segment", "9-10").stdout == "ten-09.v2lora\nten-10.v2lora\n"


def test_what_is_up_to_date_is_kept(here: Path) -> None:
    words = ("slice", "full.v2lora", "--segment", 2, "-o", "part.v2lora")
    run(*words)
    os.utime("part.v2lora", (1, 1))
    kept = run(*words)
    assert (kept.stdout, kept.stderr) == ("part.v2lora\n", "part.v2lora is up to date.\n")
    assert run(*words, "--quiet").stderr == "" and os.path.getmtime("part.v2lora") == 1
    assert documents(run(*words, "--json"))[0]["skipped"]
    run(*words, "--force")
    assert os.path.getmtime("part.v2lora") > 1


def test_no_adapter_is_lost_to_another(here: Path) -> None:
    before = Path("0.v2lora").read_bytes()
    for words in (("compose", "1.v2lora", "3.v2lora"), ("slice", "full.v2lora", "--segment", 2)):
        lost = refused(*words, "-o", "0.v2lora", "--quiet")
        assert lost == ("0.v2lora is there and holds 12:00 to 12:10 of lecture.mp4, which would be lost; name another "
                        "file with -o, or replace it with --force.")
        assert Path("0.v2lora").read_bytes() == before
    run("compose", "0.v2lora", "3.v2lora", "-o", "all.v2lora")
    run("compose", "0.v2lora", "1.v2lora", "3.v2lora", "-o", "all.v2lora")  # more than it was
    save(make(0, "float16", 720.0, 730.0, base={"id": "b", "revision": "r", "fingerprint": "0" * 64}), "else.v2lora")
    assert "made for another base, b;" in refused("slice", "full.v2lora", "--segment", 1, "-o", "else.v2lora")
    run("slice", "full.v2lora", "--segment", 1, "-o", "else.v2lora", "--force")
    assert Path("else.v2lora").read_bytes() == before


@pytest.mark.parametrize(("words", "said"), [
    ((), "Name one file with -o"), (("-o", "x.v2lora"), "Nothing is chosen"),
    (("-o", "x.v2lora", "--each"), "Name one file with -o"),
    (("-o", "x.v2lora", "--to", "9", "--output-dir", "d"), "Name one file with -o"),
    (("-o", "x.v2lora", "--segment", "1", "--to", "9"), "exclude each other"),
    (("-o", "x.v2lora", "--segment", "2-5"), "segments 1 to 4"), (("-o", "x.v2lora", "--segment", "5"), "1 to 4"),
    (("-o", "x.v2lora", "--from", "1:00:00"), "lies between 0:00 and 12:30"),
    (("-o", "x.v2lora", "--from", "9", "--to", "9"), "must come after"),
    (("--each", "--video", "lost.mp4"), "nothing of lost"),
    (("0.v2lora", "-o", "x.v2lora", "--to", "9"), "2 adapters"), (("-o", "full.v2lora", "--to", "9"), "to read"),
    (("-o", "x.txt", "--to", "9"), "does not end in .v2lora")], ids=str)
def test_calls_that_make_no_sense(here: Path, words: tuple[str, ...], said: str) -> None:
    before = Path("full.v2lora").read_bytes()
    assert said in refused("slice", "full.v2lora", *words, status=2)
    assert sorted(os.listdir()) == [*NAMES, "full.v2lora"] and Path("full.v2lora").read_bytes() == before


def test_those_that_would_become_the_same_files_fail_alone_with_a_way_out(here: Path) -> None:
    for number, folder in enumerate(("a b", "c")):
        os.mkdir(folder)
        save(load(NAMES[number]), f"{folder}/talk.v2lora")
    words = ("c/talk.v2lora", "full.v2lora", "--each", "--output-dir", "out")
    shown = run("slice", "a b/talk.v2lora", *words, status=1)
    assert shown.stdout.split() == [f"out/full-{i}.v2lora" for i in range(1, 5)]
    told = ("Error: a b/talk.v2lora and c/talk.v2lora would become the same files; slice it by itself: "
            "v2l slice --each 'a b/talk.v2lora' --output-dir out/talk-2.")
    assert told in shown.stderr.splitlines() and shown.stderr.count("would become the same files") == 2
    assert run(*shlex.split(told.removesuffix("."))[-5:]).stdout == "out/talk-2/talk-1.v2lora\n"
    assert Path("out/talk-2/talk-1.v2lora").read_bytes() == Path("0.v2lora").read_bytes()


def test_one_that_is_named_twice_is_sliced_once(here: Path) -> None:
    assert run("slice", "full.v2lora", "./full.v2lora", "full", "--each", "--segment", 2).stdout == "full-2.v2lora\n"


def test_an_output_that_cannot_be_written_fails_alone(here: Path) -> None:
    os.mkdir("0-1.v2lora")
    shown = run("slice", "0.v2lora", "1.v2lora", "--each", status=1)
    assert shown.stdout == "1-1.v2lora\n" and "Error: Cannot write 0-1.v2lora: it is a folder" in shown.stderr


def test_segments_of_a_name_as_long_as_a_name_can_be(here: Path) -> None:
    name = "n" * 248 + ".v2lora"
    os.rename("full.v2lora", name)
    made = run("slice", name, "--each").stdout.split()
    assert [path[:200] for path in made] == ["n" * 200] * 4 and [path[-9:] for path in made] == [
        f"-{i}.v2lora" for i in range(1, 5)]
    assert Path(made[2]).read_bytes() == Path("2.v2lora").read_bytes()


def test_an_input_is_not_replaced(here: Path) -> None:
    os.rename("3.v2lora", "full-1.v2lora")
    before = Path("full-1.v2lora").read_bytes()
    result = run("slice", "full.v2lora", "full-1.v2lora", "--each", status=1)
    assert "full-1.v2lora is one of the adapters to read" in result.stderr and result.stdout == "full-1-1.v2lora\n"
    assert Path("full-1.v2lora").read_bytes() == before


@pytest.mark.parametrize("text", ["0", "x", "-1", "3-2", "1-", "1,2"])
def test_segments_that_are_none(here: Path, text: str) -> None:
    assert "names no segments" in run("slice", "full.v2lora", "--segment", text, "-o", "x.v2lora", status=2).stderr


# Compressed.


def test_compressed_files(here: Path) -> None:
    result = run("compose", *NAMES, "--max-rank", 5, "-o", "small.v2lora")
    assert result.stdout == "small.v2lora\n"
    found = load("small.v2lora")
    errors = found.compressed[0]["errors"]
    compressed, note = result.stderr.splitlines()[-2:]
    assert note == ('Note: The 4 segments are asked as one, for "What happened?" too: one answer, and no times; leave '
                    "--max-rank out to have each asked by itself.")
    assert compressed == (
        f"Compressed from rank 16 to 5, relative error {found.compressed[0]['error']:.2g}; by layer "
        + " ".join(f"{error:.2g}" for error in errors) + ".")
    assert found.total_rank == 5 and len(found.segments) == 4
    for words in (("--segment", 1, "-o", "x.v2lora"), ("--from", 720, "--to", 725, "-o", "x.v2lora"), ("--each",)):
        assert "cannot be taken apart" in refused("slice", "small.v2lora", *words)
    assert not Path("x.v2lora").exists() and not Path("small-1.v2lora").exists()


def test_compressing_is_not_done_twice(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("compose", "full.v2lora", "--max-rank", 5, "-o", "small.v2lora", "--json")
    (first,) = documents(run(*words))
    assert first["rank"] == 9 and first["error"] == load("small.v2lora").compressed[0]["error"] > 0
    with monkeypatch.context() as patch:
        patch.setattr("v2l.adapter.compress.compress", lambda *_: 1 / 0)
        again = run(*words)
        assert documents(again) == [{**first, "skipped": True}]
        assert again.stderr.endswith("small.v2lora is up to date.\n") and "relative error" in again.stderr
        run(*words, "--force", status=1)
    run("compose", "0.v2lora", "1.v2lora", "--max-rank", 5, "-o", "small.v2lora", "--quiet", "--force")
    assert len(load("small.v2lora").segments) == 2


def test_compressed_files_compose(here: Path) -> None:
    run("compose", "0.v2lora", "1.v2lora", "--max-rank", 5, "-o", "small.v2lora")
    run("compose", "2.v2lora", "small.v2lora", "-o", "both.v2lora")
    both = load("both.v2lora")
    assert [s["rank"] for s in both.segments] == [[0, 5], [0, 5], [5, 9]] and both.bias_A.shape[1] == 4
    run("slice", "both.v2lora", "--to", "12:20", "-o", "back.v2lora")
    assert Path("back.v2lora").read_bytes() == Path("small.v2lora").read_bytes()
    run("slice", "both.v2lora", "--each", "--segment", 3)
    assert Path("both-3.v2lora").read_bytes() == Path("2.v2lora").read_bytes()
    again = run("compose", "both.v2lora", "--max-rank", 4, "-o", "smaller.v2lora")
    assert "from rank 9 to 4, relative error at most 0." in again.stderr
    assert "count double" in refused("compose", "small.v2lora", "0.v2lora", "-o", "x.v2lora")


def test_a_rank_that_holds_everything_changes_nothing(here: Path) -> None:
    result = run("compose", *NAMES, "--max-rank", 16, "-o", "same.v2lora")
    assert "Rank 16 needs no compressing to 16." in result.stderr
    assert Path("same.v2lora").read_bytes() == Path("full.v2lora").read_bytes()
    assert "above 0" in run("compose", *NAMES, "--max-rank", 0, "-o", "x.v2lora", status=2).stderr
