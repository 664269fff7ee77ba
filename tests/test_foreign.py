"""What is none of tiny's world is told as such, where it is watched, asked and shown; its own world never."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import MAKE, ROOT, documents, run
from support.shots import film
from support.videos import write

from v2l.adapter import load, save
from v2l.config import Decoding
from v2l.door import Engine
from v2l.model.familiar import Familiar
from v2l.store.default import TINY_WORLD
from v2l.tiny.familiar import foreign_tiles, learn, world_tiles

KNOWS = "nothing that tiny knows, which is coloured shapes and slides: what it answers is made up."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a film that is drawn, and one of tiny's world."""
    monkeypatch.chdir(tmp_path)
    film("moving", 0, 2).write(Path("a.mp4"))
    shutil.copy(ROOT / "examples" / "one-shape.mp4", "shapes.mp4")
    return tmp_path


def test_a_foreign_video_is_told_once_a_run_wherever_it_is_met(here: Path) -> None:
    shutil.copy("a.mp4", "b.mp4")
    made = run("ingest", ".", "--json")
    assert made.stderr.count(KNOWS) == 1 and f"Note: a.mp4 shows {KNOWS}" in made.stderr
    assert "v2l models pull 500m, and then v2l ingest VIDEO --model 500m --force." in made.stderr
    *lines, counts = documents(made)
    assert [each.get("foreign") for each in lines] == [True, True, None] and counts["counts"]["foreign"] == 2
    assert load("a.v2lora").record["compute"]["foreign"] is True
    assert "foreign" not in load("shapes.v2lora").record["compute"]
    run("compose", "shapes.v2lora", "a.v2lora", "-o", "both.v2lora")
    several = run("ask", "a.v2lora", "shapes.v2lora", "b.v2lora", "Is there a dog?").stderr
    assert several.count("Note:") == 1 and "2 of 3 show nothing that tiny knows" in several
    assert "(a.v2lora, b.v2lora): what they answer is made up." in several
    for words in (("a.v2lora",), ("both.v2lora",), ("a.v2lora", "shapes.v2lora", "--each")):
        asked = run("ask", *words, "Is there a dog?", "Is there a person?", "--json")
        assert asked.stderr.count(KNOWS) == 1
        assert all(each.get("foreign", False) is (each["adapter"] != "shapes.v2lora") for each in documents(asked))
    assert KNOWS in run("ask", "--direct", "a.mp4", "Who?").stderr
    assert " ".join(run("info", "a.v2lora").stdout.split()).count(KNOWS) == 1
    assert run("ingest", "a.mp4", "--force", "--quiet").stderr == ""
    assert run("ask", "a.v2lora", "Is there a dog?", "--quiet").stderr == ""


def test_the_door_for_python_tells_it_once_an_engine(here: Path) -> None:
    with Engine("tiny", device="cpu") as engine:
        with pytest.warns(UserWarning, match=r'a\.mp4 shows nothing that tiny knows.*Engine\("500m"\)'):
            adapter = engine.ingest("a.mp4", frames=1)
        assert adapter.is_foreign and not engine.ingest("shapes.mp4").is_foreign
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine.ask(adapter, "What is it?", max_new_tokens=1)
    save(adapter, "a.v2lora")
    with Engine("tiny", device="cpu") as engine, pytest.warns(UserWarning, match=r"a\.v2lora shows nothing"):
        list(engine.ask_each(["a.v2lora"], "What is it?", Decoding(max_new_tokens=1)))


def test_its_own_world_is_never_called_foreign(here: Path) -> None:
    run("ingest", "shapes.mp4", "-o", "x.v2lora")
    for words in (("ask", "x.v2lora", "What happened?"), ("ask", "--direct", "shapes.mp4", "What happened?"),
                  ("info", "x.v2lora")):
        assert KNOWS not in (result := run(*words)).stderr + result.stdout
    for more in (("--frames", 1), ("--resolution", 128), ("--segment", "3s")):
        assert KNOWS not in run("ingest", "shapes.mp4", "-o", "x.v2lora", "--force", *more).stderr


def test_other_models_say_nothing_of_it(here: Path) -> None:
    assert KNOWS not in run("ingest", "a.mp4", *MAKE).stderr
    assert "foreign" not in load("a.v2lora").record["compute"]


def test_help_says_what_tiny_knows() -> None:
    assert "knows only coloured shapes and slides" in " ".join(run("ingest", "--help").stdout.split())


def test_tiles_of_both_kinds_are_told_apart() -> None:
    base = Engine("tiny", device="cpu", dtype="float32").base
    familiar, shapes, others = Familiar(TINY_WORLD), world_tiles(60, seed=7), foreign_tiles(60, seed=7)
    assert shapes.shape == others.shape == (60, 64, 64, 3)
    told = [[familiar.score(base.see([tile[None]])) > 0 for tile in tiles] for tiles in (shapes, others)]
    assert sum(told[0]) <= 3 and sum(told[1]) >= 50


def test_what_is_learned_is_a_linear_test() -> None:
    torch.manual_seed(0)
    marks = (torch.arange(400) % 2).float()
    weight, bias = learn(torch.randn(400, 5) + 3 * marks[:, None], marks, steps=800)
    scores = (torch.randn(400, 5) + 3 * marks[:, None]) @ weight + bias
    assert float(((scores > 0) == (marks > 0)).float().mean()) > 0.97


def test_a_long_video_says_how_little_of_it_was_seen(here: Path) -> None:
    write(Path("long.mp4"), frames=240, rate=1)
    result = run("ingest", "long.mp4", *MAKE)
    assert result.stderr.startswith("long.mp4: 12 frames, one every 0:20 of 4:00, ")
    assert "Note: long.mp4 is 4:00 long, and 12 frames were looked at, one every 0:20;" in result.stderr
    assert "--segment 60s" in result.stderr
    assert "one every" not in run("ingest", "long.mp4", "--segment", "60s", "--force", "--frames", "60", *MAKE).stderr
    assert np.isfinite(load("long.v2lora").A).all()
