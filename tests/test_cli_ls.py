"""`v2l ls`: a line an adapter, told from its header, and whether its video is still the one that was watched."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.adapters import make
from support.cli import documents, run

from v2l.adapter import load, save
from v2l.adapter.join import join
from v2l.errors import AdapterError, V2LError


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters of a video that is there, of one that changed, of one that is gone, and of two at once."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("same", "changed", "gone")):
        content = name.encode() * 9
        facts = {"name": f"{name}.mp4", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        Path("talks").mkdir(exist_ok=True)
        Path("talks", f"{name}.mp4").write_bytes(content)
        save(make(seed, source={**make().sources[0], **facts}), Path("talks", f"{name}.v2lora"))
    Path("talks/gone.mp4").unlink()
    Path("talks/changed.mp4").write_bytes(b"CHANGED" * 9)
    two, _ = join([make(3), make(4, source={**make().sources[0], "name": "other.mp4", "sha256": "e" * 64})])
    save(two, "both.v2lora")
    return tmp_path


def states(*words: object) -> dict[str, str]:
    return {document["adapter"]: document["state"] for document in documents(run("ls", *words, "--json"))}


def test_each_adapter_has_a_line_and_a_state(library: Path) -> None:
    later = os.stat("talks/changed.v2lora").st_mtime + 10
    os.utime("talks/changed.mp4", (later, later))
    result = run("ls")
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert [(line[0].strip(), line[-1].strip()) for line in lines] == [
        ("both.v2lora", "video not found"), ("talks/changed.v2lora", "stale"),
        ("talks/gone.v2lora", "video not found"), ("talks/same.v2lora", "up to date")]
    assert "2 videos" in result.stdout and "2 segments" in result.stdout and "0:10" in result.stdout
    assert "4 adapters" in result.stderr and "1 up to date, 1 stale, 2 video not found." in result.stderr
    assert "passed over" not in result.stderr and result.stderr.count("--videos DIR") == 1
    assert run("ls", "--quiet").stderr == ""


def test_a_video_that_was_only_copied_is_still_the_one_that_was_watched(library: Path) -> None:
    later = os.stat("talks/same.v2lora").st_mtime + 10
    os.utime("talks/same.mp4", (later, later))
    assert states("talks")["talks/same.v2lora"] == "up to date"


def test_videos_are_found_below_the_current_folder_and_those_that_are_named(
        library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("adapters/deep").mkdir(parents=True)
    for name in ("same", "changed", "gone"):
        os.rename(f"talks/{name}.v2lora", f"adapters/deep/{name}.v2lora")
    told = {"adapters/deep/changed.v2lora": "stale", "adapters/deep/gone.v2lora": "video not found",
            "adapters/deep/same.v2lora": "up to date"}
    later = os.stat("adapters/deep/same.v2lora").st_mtime + 10
    os.utime("talks/changed.mp4", (later, later))
    assert states("adapters") == told
    (library / "away").mkdir()
    monkeypatch.chdir(library / "away")
    assert set(states("../adapters").values()) == {"video not found"}
    assert list(states("../adapters", "--videos", "../talks").values()) == list(told.values())


def test_another_video_of_the_same_name_elsewhere_is_not_taken_for_it(library: Path) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "gone.mp4").write_bytes(b"another film")
    assert states("talks/gone.v2lora") == {"talks/gone.v2lora": "video not found"}
    Path("b/gone.mp4").write_bytes(b"gone" * 9)
    os.utime("b/gone.mp4", (1, 1))
    assert states("talks/gone.v2lora") == {"talks/gone.v2lora": "up to date"}


def test_an_adapter_of_several_videos_is_up_to_date_where_all_of_them_are(library: Path) -> None:
    Path("talks/gone.mp4").write_bytes(b"gone" * 9)
    os.utime("talks/gone.mp4", (1, 1))
    run("compose", "talks/same.v2lora", "talks/gone.v2lora", "-o", "both.v2lora", "--force")
    assert states("both.v2lora") == {"both.v2lora": "up to date"}
    Path("talks/gone.mp4").unlink()
    assert states("both.v2lora") == {"both.v2lora": "video not found"}


def test_what_the_base_knows_nothing_of_is_marked(tmp_path: Path) -> None:
    made, file = make(), tmp_path / "a.v2lora"
    save(make(1), tmp_path / "b.v2lora")
    save(replace(made, record=made.record | {"compute": made.record["compute"] | {"foreign": True}}), file)
    assert [each["foreign"] for each in documents(run("ls", tmp_path, "--json"))] == [True, False]
    shown = run("ls", tmp_path)
    assert [line.endswith("foreign") for line in shown.stdout.splitlines()] == [True, False]
    assert "1 of 2 show nothing that tiny knows" in shown.stderr


def test_a_damaged_file_is_told_and_stops_nothing(library: Path) -> None:
    Path("talks/bad.v2lora").write_bytes(b"no adapter")
    result = run("ls", "talks", "nowhere", "--json", status=1)
    found = documents(result)
    assert [document.get("adapter") for document in found if "error" not in document] == [
        "talks/changed.v2lora", "talks/gone.v2lora", "talks/same.v2lora"]
    assert [document["source"] for document in found if "error" in document] == ["talks/bad.v2lora", "nowhere"]
    assert "not a usable adapter" in result.stderr


def test_only_headers_are_read(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose tensors are damaged is listed all the same; `info` and `ask` refuse it."""
    content = bytearray(Path("talks/same.v2lora").read_bytes())
    content[-1] ^= 255
    Path("talks/same.v2lora").write_bytes(content)
    assert states("talks/same.v2lora") == {"talks/same.v2lora": "up to date"}
    with pytest.raises(V2LError):
        load("talks/same.v2lora")


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    result = run("ls", tmp_path, status=1)
    assert result.stdout == "" and f"make some with: v2l ingest {tmp_path}" in result.stderr


def test_an_adapter_larger_than_its_video_is_told_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Path(__file__).parents[1] / "examples" / "long.mp4"
    words = ("--segment", "12s", "--frames", 1, "--device", "cpu")
    films = [tmp_path / "a b.mp4", tmp_path / "c.mp4"]
    for copy in films:
        copy.write_bytes(film.read_bytes())
    monkeypatch.setattr("v2l.cli.ingest.LARGE", 1000)
    said = run("ingest", *films, *words).stderr
    assert said.count("and its video 36.2 kB; longer segments take less.") == 1
    assert "its video" not in run("ingest", films[0], *words, "--force", "--quiet").stderr
    monkeypatch.undo()
    assert "its video" not in run("ingest", films[0], *words, "--force").stderr


def test_a_video_is_told_from_a_damaged_adapter_and_a_wrong_name_has_a_way_out(library: Path) -> None:
    said = run("ls", "talks/same.mp4", "talks/nope", status=1).stderr
    assert "talks/same.mp4 is no adapter" in said and "watch it first: v2l ingest talks/same.mp4" in said
    assert "talks/nope: No such file or directory; check the name" in said and "usable" not in said
    assert "nope: No such file or directory; check the name" in run("info", "nope", status=1).stderr
    with pytest.raises(AdapterError, match=r"same\.mp4 is no adapter"):
        load("talks/same.mp4")


def test_asking_an_adapter_whose_video_has_changed_says_so(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes((Path(__file__).parents[1] / "examples" / "one-shape.mp4").read_bytes())
    run("ingest", film, "--frames", 1, "--device", "cpu")
    words = ("ask", film.with_suffix(".v2lora"), "What happened?")
    assert "has changed" not in run(*words).stderr
    film.write_bytes(film.read_bytes() + b"more")
    assert f"film.mp4 has changed since {film.with_suffix('.v2lora')} was made of it" in run(*words).stderr
    film.unlink()
    assert "has changed" not in run(*words).stderr


def test_a_record_that_names_a_path_or_a_device_has_no_video(library: Path) -> None:
    for name in ("/dev/zero", "../talks/same.mp4", ".."):
        save(make(source={**make().sources[0], "name": name, "size": 0}), Path("talks/odd.v2lora"))
        os.utime("talks/odd.v2lora", (1, 1))
        assert states("talks/odd.v2lora") == {"talks/odd.v2lora": "video not found"}
