"""`v2l train targets`: the teacher's texts are those of the video in its prompt, and no text is lost or made twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import MODEL, REFERENCE, ROOT, documents, environment, refused, run

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.manifest import Item, Turn, read_lines, read_manifest, write_manifest
from v2l.train.config import CAPTION_PROMPTS

VIDEOS = REFERENCE / "videos"
TEACHER = (*MODEL, "--resolution", "64", "--frames", "2", "--max-new-tokens", "6")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest: three clips, one of them with a target already, one in two lines."""
    monkeypatch.chdir(tmp_path)
    for name in ("short.mp4", "clip.mp4"):
        shutil.copy(VIDEOS / name, name)
    lines = [
        {"id": "a", "video_path": "short.mp4", "prompt": "Describe it.", "my own": [1]},
        {"id": "b", "video_path": "clip.mp4", "prompt": "Describe it.", "question": "Who?", "start": 1, "end": 4},
        {"id": "c", "video_path": "nowhere.mp4", "prompt": "Describe it.", "target_text": ["Mine.", "Or this."]},
        {"id": "d", "video_path": "clip.mp4", "prompt": "What colour is it?", "start": 1, "end": 4, "split": "val"},
    ]
    Path("m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def made(path: str = "out.jsonl") -> dict[str, dict[str, Any]]:
    return {item.id: document for item, document in read_lines(path)}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the clips that are looked at."""
    names: list[str] = []
    see = Engine.see

    def noted(self: Engine, clip: Any, sampling: Any) -> Any:
        names.append(clip.info.path.name)
        return see(self, clip, sampling)

    monkeypatch.setattr(Engine, "see", noted)
    return names


def test_the_teacher_answers_with_the_video_in_its_prompt(here: Path, watched: list[str]) -> None:
    result = run("train", "targets", "m.jsonl", "-o", "out.jsonl", "--json", *TEACHER)
    (summary,) = documents(result)
    assert summary.pop("seconds") > 0
    assert summary == {"output": "out.jsonl", "lines": 4, "left_out": 0, "given": 1, "resumed": 0, "texts": 4, "cut": 4}
    assert "4 of the texts were cut off; a larger --max-new-tokens lets them end." in result.stderr
    assert watched == ["short.mp4", "clip.mp4"]

    engine = Engine(str(REFERENCE / "tiny-vlm"), device="cpu", dtype="float32")
    found, decoding = read_manifest("out.jsonl"), Decoding(max_new_tokens=6)
    assert [item.id for item in found] == ["a", "b", "c", "d"]
    for item in (found[0], found[1], found[3]):
        sampling = engine.sampling(resolution=64, frames=2, start=item.start, end=item.end)
        for turn in item.turns:
            said = engine.direct(item.video, turn.prompt, sampling, decoding).finish().text
            assert said and turn.targets == (said,)
    documents_ = made()
    assert documents_["a"]["my own"] == [1]
    assert documents_["a"]["teacher"] == {
        "base": "tiny-vlm", "revision": None, "frames": 2, "fps": 1.0, "skip": 1.0, "resolution": 64,
        "max_new_tokens": 6, "dtype": "float32", "wrote": ["target_text"]}
    assert documents_["b"]["teacher"]["wrote"] == ["target_text", "answer"]
    assert documents_["c"] == json.loads(Path("m.jsonl").read_text().splitlines()[2])
    assert not Path("out.jsonl.part").exists()


def test_the_embedded_model_says_what_is_there(tmp_path: Path) -> None:
    turn = Turn("Describe the video.", ())
    write_manifest(tmp_path / "m.jsonl", [Item("x", ROOT / "examples/one-shape.mp4", (turn,))])
    assert run("train", "targets", tmp_path / "m.jsonl", "-o", tmp_path / "o.jsonl", "--quiet").stderr == ""
    (item,) = read_manifest(tmp_path / "o.jsonl")
    assert "purple square" in item.turns[0].targets[0] and "left" in item.turns[0].targets[0]


def test_what_is_there_is_not_made_again(here: Path, watched: list[str]) -> None:
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    before = Path("out.jsonl").read_bytes()
    watched.clear()
    assert documents(run("train", "targets", "m.jsonl", "-o", "out.jsonl", "--json", *TEACHER))[0]["resumed"] == 3
    assert Path("out.jsonl").read_bytes() == before and watched == []
    # A line of the user's own that changes is carried over; a prompt, a clip and a setting that do are asked anew.
    lines = Path("m.jsonl").read_text().splitlines()
    lines[:2] = lines[0].replace("[1]", "[2]"), lines[1].replace("Who?", "Why?")
    Path("m.jsonl").write_text("\n".join(lines))
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    assert watched == ["clip.mp4"] and made()["a"]["my own"] == [2] and made()["b"]["question"] == "Why?"
    watched.clear()
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER, "--fps", "2")
    assert watched == ["short.mp4", "clip.mp4"]


def test_force_asks_for_what_has_a_target_too(here: Path, watched: list[str]) -> None:
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    shutil.copy("short.mp4", "nowhere.mp4")
    watched.clear()
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER, "--force")
    assert watched == ["short.mp4", "clip.mp4", "nowhere.mp4"]
    assert made()["c"]["target_text"] == made()["a"]["target_text"]  # the same clip, asked the same


def test_a_run_that_was_ended_goes_on(here: Path, watched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", "targets", "m.jsonl", "-o", "whole.jsonl", *TEACHER)
    watched.clear()
    see = Engine.see

    def ended(self: Engine, clip: Any, sampling: Any) -> Any:
        if clip.info.path.name == "clip.mp4":
            raise KeyboardInterrupt
        return see(self, clip, sampling)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "see", ended)
        run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER, status=130)
    assert not Path("out.jsonl").exists() and watched == ["short.mp4"]
    part = Path("out.jsonl.part")
    line = part.read_bytes()
    part.write_bytes(line + line[:-20])  # killed while it wrote
    result = run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    assert "Going on: 1 of 3 lines are written." in result.stderr
    assert watched == ["short.mp4", "clip.mp4"]
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes() and not part.exists()


HOLDER = """
import sys
from pathlib import Path
from v2l.train.targets import Targets
with Targets(Path("out.jsonl"), [], {}):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_runs_do_not_write_one_manifest(here: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=environment()) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        text = refused("train", "targets", "m.jsonl", "-o", "out.jsonl", "-q", *TEACHER, status=2)
        assert text == "Another run is writing out.jsonl.part; wait for its end, or name another file with -o."
        other.communicate()
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    assert len(made()) == 4 and {path.name for path in here.glob("*out.jsonl*")} == {"out.jsonl"}


def test_clips_that_cannot_be_read_are_named_and_left_out(here: Path, watched: list[str]) -> None:
    Path("clip.mp4").write_bytes((VIDEOS / "clip.mp4").read_bytes()[:40000])
    Path("m.jsonl").write_text(Path("m.jsonl").read_text().replace('"target_text"', '"mine"'))
    result = run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER, status=1)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2 and "clip.mp4" in errors[0] and "nowhere.mp4" in errors[1]
    assert result.stdout == "out.jsonl\n" and "1 of 4 lines, 1 texts written" in result.stderr and list(made()) == ["a"]
    for name in ("clip.mp4", "nowhere.mp4"):
        shutil.copy(VIDEOS / "clip.mp4", name)
    watched.clear()
    run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER)
    assert watched == ["clip.mp4", "nowhere.mp4"] and list(made()) == ["a", "b", "c", "d"]


def test_no_text_is_no_target(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.model.base.Base.ends", range(1 << 20))  # every token ends an answer
    result = run("train", "targets", "m.jsonl", "-o", "out.jsonl", *TEACHER, status=1)
    assert "a: the teacher answers 'Describe it.' with nothing" in result.stderr
    assert "a" not in made()


def test_parts_make_up_the_whole(here: Path) -> None:
    lines = [{"id": f"{n}", "video_path": "short.mp4", "prompt": "P", "start": n // 2 / 10, "target_text": "T"}
             for n in range(20)]
    Path("m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = []
    for index in (1, 2, 3):
        result = run("train", "targets", "m.jsonl", "-o", f"{index}.jsonl", "--shard", f"{index}/3", *TEACHER)
        parts.append([item.id for item in read_manifest(f"{index}.jsonl")])
        assert f"Part {index}/3: {len(parts[-1])} of 20 lines." in result.stderr
    assert sorted((id for part in parts for id in part), key=int) == [str(n) for n in range(20)]
    assert all({str(int(id) ^ 1) for id in part} == set(part) for part in parts)  # both lines of a clip
    text = refused("train", "targets", "m.jsonl", "-o", "1.jsonl", "--shard", "2/3", "-q", *TEACHER,
                   status=2)
    assert "1.jsonl holds lines of another manifest or part" in text


def test_plain_videos_are_described(here: Path) -> None:
    Path("talks/deep").mkdir(parents=True)
    shutil.copy("short.mp4", "talks/deep/x.mp4")
    words = ("-o", "out.jsonl", *TEACHER)
    result = run("train", "targets", "talks", "-", "short.mp4", *words, stdin="./talks/deep/x.mp4\n")
    assert result.stdout == "out.jsonl\n"
    found = made()
    assert list(found) == ["talks/deep/x.mp4", "short.mp4"]
    for name, document in found.items():
        assert document["video_path"] == name and document["kind"] == "caption"
        assert document["prompt"] in CAPTION_PROMPTS and document["target_text"]
    run("train", "targets", "short.mp4", "-o", "asked.jsonl", "--prompt", "Who?", *TEACHER)
    assert made("asked.jsonl")["short.mp4"]["prompt"] == "Who?"


def test_folders_are_scanned_as_by_ingest_and_what_fails_stops_nothing(here: Path) -> None:
    for folder in ("talks/.hidden", "empty"):
        Path(folder).mkdir(parents=True)
    shutil.copy("short.mp4", "talks/a.3g2")
    Path("talks/b.MP4").symlink_to("a.3g2")
    Path("talks/app.ts").write_text("export const answer = 42;\n")
    Path("talks/notes.txt").touch()
    Path("x.v2lora").touch()
    result = run("train", "targets", "talks", "empty", "x.v2lora", "-o", "out.jsonl", *TEACHER, status=1)
    assert result.stdout == "out.jsonl\n" and list(made()) == ["talks/a.3g2"]
    for said in ("talks: 2 files passed over as no videos: 1 .ts, 1 .txt.",
                 "talks: talks/b.MP4 is another name of talks/a.3g2, which is taken once.",
                 "Error: empty is a folder without videos.", "Error: x.v2lora has the name of an adapter"):
        assert said in result.stderr


def test_the_manifest_may_lie_elsewhere(here: Path) -> None:
    Path("out").mkdir()
    run("train", "targets", "m.jsonl", "-o", "out/out.jsonl", *TEACHER)
    assert made("out/out.jsonl")["a"]["video_path"] == str(here / "short.mp4")


@pytest.mark.parametrize(("words", "status", "says"), [
    (("m.jsonl", "-o", "m.jsonl"), 2, "m.jsonl would replace the manifest that is read"),
    (("m.jsonl", "-o", "out.json"), 2, "out.json does not end in .jsonl"),
    (("m.jsonl", "-o", "no/out.jsonl"), 1, "the folder no does not exist"),
    (("nope.jsonl", "-o", "out.jsonl"), 2, "The manifest nope.jsonl cannot be read (No such file or directory)"),
    (("m.jsonl", "short.mp4", "-o", "out.jsonl"), 2, "m.jsonl is a manifest; give it alone"),
    (("m.jsonl", "-o", "out.jsonl", "--prompt", "x"), 2, "--prompt goes with plain videos"),
    (("short.mp4", "-o", "out.jsonl", "--prompt", " "), 2, "The prompt is empty"),
    (("empty", "-o", "out.jsonl"), 1, "empty is a folder without videos"),
    (("m.jsonl", "-o", "other.jsonl"), 2, "other.jsonl holds lines of another manifest or part, such as z"),
    (("m.jsonl", "-o", "notes.jsonl"), 2, "notes.jsonl, line 1 is not JSON"),
    (("image.jsonl", "-o", "out.jsonl"), 2, "contains <image>, which stands for frames"),
    (("m.jsonl", "-o", "out.jsonl", "--shard", "3/2"), 2, "--shard 3/2 is not I/N"),
])
def test_what_is_refused_changes_nothing(here: Path, words: tuple[str, ...], status: int, says: str) -> None:
    Path("empty").mkdir()
    Path("notes.jsonl").write_text("Buy milk.\n")
    line = {"id": "z", "video_path": "short.mp4", "prompt": "P", "target_text": "T"}
    Path("other.jsonl").write_text(json.dumps(line) + "\n")
    Path("image.jsonl").write_text(json.dumps(line | {"prompt": "What is <image>?"}) + "\n")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert says in refused("train", "targets", *words, *TEACHER, status=status)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
