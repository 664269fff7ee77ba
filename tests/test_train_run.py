"""`v2l train run` from manifests to an adapter that answers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.cli import MODEL, REFERENCE, documents, environment, refused, run
from test_cli import HEAVY, imported

from v2l.config import HypernetConfig, Sampling
from v2l.manifest import Item, Turn, write_manifest
from v2l.tiny.clips import scene, solo, write_video
from v2l.train.config import Recipe
from v2l.train.run import merged

VIDEOS = REFERENCE / "videos"
SIZES = ("--rank", 2, "--latent", 16, "--queries", 2, "--blocks", 1)
TRAIN = (*MODEL, *SIZES, "--resolution", 64, "--frames", 3, "--batch-size", 2, "--lr", 0.01)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of two videos and a torn one, and one to validate on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.mp4").write_bytes((VIDEOS / "clip.mp4").read_bytes()[:5000])
    turns = (Turn("Describe the video.", ("A red ball.", "Balls.")), Turn("How many?", ("two",)))
    write_manifest("clips.jsonl", [
        Item("short", VIDEOS / "short.mp4", turns), Item("torn", tmp_path / "torn.mp4", turns[:1]),
        Item("clip", VIDEOS / "clip.mp4", turns[:1], start=1.0, end=6.0),
        Item("held", VIDEOS / "clip.mp4", turns, split="val"),
        Item("other", Path("missing.mp4"), turns, split="test")])
    return tmp_path


KILLED = """
import os, signal
from v2l.cli.app import main
from v2l.train.curves import Curves
add = Curves.add
def killing(curves, row):
    add(curves, row)
    if row.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Curves.add = killing
main()
"""
"""Is killed after its third step: the state that is written is that of the second."""


def losses(folder: str) -> list[list[str]]:
    """losses.csv without the clock."""
    return [line.split(",")[:-1] for line in Path(folder, "losses.csv").read_text().splitlines()]


def test_a_killed_run_goes_on_to_the_same_numbers(here: Path) -> None:
    """Segments, the teacher, accumulation and a torn video on the way."""
    words = ("train", "run", "clips.jsonl", *TRAIN, "--parts", 3, "--kl", 0.5, "--accumulate", 2, "--steps", 5,
             "--every", 2)
    result = run(*words, "-o", "whole", "--json")
    [told] = documents(result)
    assert told.pop("seconds") > 0 and told["skipped"][0].pop("error").startswith("torn.mp4")
    rows = losses("whole")
    best = min((float(row[2]), int(row[0])) for row in rows[1:] if row[2])
    assert told == {
        "output": "whole", "weights": "whole/hypernetwork.safetensors", "steps": 5, "loss": float(rows[-1][1]),
        "val_loss": float(rows[-1][2]), "best_step": best[1], "best_loss": best[0], "clips": 3, "validation_clips": 1,
        "skipped": [{"id": "torn", "video": "torn.mp4"}]}
    messages = result.stderr.splitlines()
    assert sum("torn.mp4" in line and line.startswith("Error: ") for line in messages) == 1
    assert messages[-1] == "1 of 4 videos could not be decoded and was skipped; whole/journal.jsonl names it."
    assert any(line.startswith("Step 4 of 5: loss ") and ", validation " in line for line in messages)
    journal = [json.loads(line) for line in Path("whole/journal.jsonl").read_text().splitlines()]
    assert [line["id"] for line in journal if line["event"] == "skipped"] == ["torn"]
    names = sorted(path.name for path in Path("whole").iterdir())
    assert names == ["hypernetwork.json", "hypernetwork.safetensors", "journal.jsonl", "last", "losses.csv",
                     "losses.html", "training.pt"]

    started = subprocess.run([sys.executable, "-c", KILLED, *map(str, words), "-o", "killed", "-q"], env=environment(),
                             capture_output=True, text=True, timeout=600)
    assert started.returncode == -signal.SIGKILL, started.stderr
    assert losses("killed") == rows[:4]
    again = run(*words, "-o", "killed")
    assert "Going on after step 2 of 5." in again.stderr and again.stdout == "killed/hypernetwork.safetensors\n"
    assert losses("killed") == rows
    for name in ("hypernetwork.safetensors", "last/hypernetwork.safetensors"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()

    # What was trained is taken by `ingest`; other settings and other clips are not gone on with.
    for checkpoint in ("whole", "whole/last", "whole/hypernetwork.safetensors"):
        run("ingest", VIDEOS / "short.mp4", *MODEL, "--checkpoint", checkpoint, "--resolution", 64, "-o", "a.v2lora",
            "--force")
    assert "holds a training with other settings: kl (0.5 before, 0.0 now)" in refused(
        *words[:words.index("--kl")], *words[words.index("--kl") + 2:], "-o", "whole", "-q", status=2)
    lines = Path("clips.jsonl").read_text().splitlines(keepends=True)
    Path("clips.jsonl").write_text("".join([lines[0].replace("two", "three"), *lines[1:]]))
    assert "other settings: clips (" in refused(*words, "-o", "whole", "-q", status=2)
    Path("whole/training.pt").unlink()
    assert "holds a hypernetwork and no training" in refused(*words, "-o", "whole", "-q", status=2)


def test_an_adapter_answers_what_the_base_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded base, a fresh hypernetwork, two clips, learned by heart: through the files, as a user would."""
    monkeypatch.chdir(tmp_path)
    question, answers = "What color is the object?", {"a": "purple", "b": "yellow"}
    write_video(scene("white", solo("purple", "square", "moves left", 3)), Path("a.mp4"))
    write_video(scene("black", solo("red", "ring", "moves down", 3)), Path("b.mp4"))
    write_manifest("clips.jsonl", [Item(name, tmp_path / f"{name}.mp4", (Turn(question, (told,)),))
                                   for name, told in answers.items()])
    [told] = documents(run("train", "run", "clips.jsonl", "-o", "mine", "--steps", 60, "--batch-size", 2, "--lr", 0.01,
                           "--rank", 4, "--latent", 32, "--queries", 4, "--blocks", 1, "--frames", 2,
                           "--dtype", "float32", "--device", "cpu", "--json", "-q"))
    first = float(losses("mine")[1][1])
    assert told["loss"] < 0.2 < 0.6 < first
    run("ingest", "a.mp4", "b.mp4", "--checkpoint", "mine", "--frames", 2, "--dtype", "float32", "--device", "cpu")
    for name, answer in answers.items():
        assert run("ask", f"{name}.v2lora", question, "--dtype", "float32").stdout == f"{answer}\n"
    # Going on from these weights begins where they are.
    [more] = documents(run("train", "run", "clips.jsonl", "-o", "more", "--init", "mine", "--steps", 1, "--lr", 1e-6,
                           "--batch-size", 2, "--frames", 2, "--dtype", "float32", "--device", "cpu", "--json", "-q"))
    assert more["loss"] < 0.2 and more["best_loss"] is None


def test_the_base_teaches_itself(here: Path) -> None:
    """No targets; what is learned is what the base says with the video in its prompt."""
    lines = [json.loads(line) for line in Path("clips.jsonl").read_text().splitlines()]
    untold: list[dict[str, Any]] = [
        {key: value for key, value in line.items() if key not in ("target_text", "answer")}
        for line in lines if line["id"] == "short"]
    Path("untold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in untold))
    words = ("train", "run", "untold.jsonl", *TRAIN, "--steps", 4, "-o", "out")
    assert "have `v2l train targets` write them, or train with --self-distill" in refused(*words, status=2)
    run(*words[:-4], "--epochs", 4, "--batch-size", 1, "-o", "out", "--self-distill")
    rows = losses("out")
    assert len(rows) == 5 and 0 < float(rows[-1][1]) < float(rows[1][1])


def test_nothing_to_train_on(here: Path) -> None:
    write_manifest("torn.jsonl", [Item(name, here / "torn.mp4", (Turn("What?", ("a",)),)) for name in "abc"])
    result = run("train", "run", "torn.jsonl", *TRAIN, "-o", "out", "-q", status=1)
    lines = result.stderr.splitlines()
    assert len(lines) == 4 and lines[-1] == (
        "Error: None of the videos could be decoded, so there is nothing to train on.")
    assert not Path("out/hypernetwork.safetensors").exists()


@pytest.mark.parametrize(("words", "sentence"), [
    (("--steps", "5", "--epochs", "2"), "--steps and --epochs exclude each other."),
    (("--kl", "1", "--self-distill"), "--kl and --self-distill exclude each other"),
    (("--init", "x.pt", "--rank", "4"), "--init brings its own sizes"),
    (("--dtype", "float16"), "float32 or bfloat16, not float16"),
    (("--muon-lr", "0.1"), "--muon-lr needs --optimizer muon."),
    (("--optimizer", "sgd"), "'sgd' is not adamw or muon."),
    (("--kl", "-1"), "-1.0 is not 0 or a number above it."),
    (("--parts", "0"), "0 is not a number above 0."),
])
def test_wrong_usage_is_told_in_words(here: Path, words: tuple[str, ...], sentence: str) -> None:
    result = run("train", "run", "clips.jsonl", "-o", "out", *words, status=2)
    assert sentence in " ".join(result.stderr.split()).replace("│ ", "") and not Path("out").exists()


def test_no_setting_hides_behind_anothers_name() -> None:
    """Else a run with another value of it would go on as if nothing had changed."""
    with pytest.raises(ValueError, match=r"Two settings are named seed; rename one\."):
        merged({"lr": 1, "seed": 1}, {"seed": 2})
    settings = merged(asdict(Recipe()), Sampling().recorded(), asdict(HypernetConfig(2, 8, 12, 8)))
    assert settings["lr"] == Recipe.lr and settings["frames"] == Sampling.frames and settings["rank"] == 16


def test_help_and_what_is_refused_import_nothing_heavy(here: Path) -> None:
    for words, status in ((("train", "run", "--help"), 0), (("train", "--help"), 0),
                          (("train", "run", "none.jsonl", "-o", "out"), 2)):
        status_then, modules = imported(*words, cwd=here)
        assert (status_then, modules & HEAVY) == (status, set())


def test_a_folder_that_holds_none_is_no_checkpoint(here: Path) -> None:
    shutil.copytree(REFERENCE / "tiny-vlm", "base")
    message = refused("ingest", VIDEOS / "short.mp4", *MODEL, "--checkpoint", "base", "--resolution", 64)
    assert message.startswith("The folder base holds no hypernetwork.safetensors; --checkpoint takes a folder ")
