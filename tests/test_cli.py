"""The command line as a whole: help, what is imported when, compose, info, models, bench, and how things end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.adapters import make
from support.cli import MAKE, MODEL, REFERENCE, documents, environment, process, refused, run

import v2l
from v2l.adapter import load, save
from v2l.cli.commands import Commands
from v2l.cli.console import clean
from v2l.cli.options import parse_time
from v2l.wording import size_text, time_text

HEAVY = {"numpy", "torch", "transformers", "tokenizers", "huggingface_hub", "cv2", "av"}
SLOW = {"pydantic", "rich", "http.client", "email", "ssl", "asyncio"}
"""Modules that take 10 to 70 ms, of some 100 that a command takes to start."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two adapters of one video and one of another."""
    monkeypatch.chdir(tmp_path)
    save(make(0), "a.v2lora")
    save(make(1, start=10.0, end=20.0), "b.v2lora")
    save(make(2, source={**make().sources[0], "name": "other.mp4", "sha256": "e" * 64}), "other.v2lora")
    return tmp_path


def imported(*words: str, cwd: Path) -> tuple[int, set[str]]:
    """Exit status of a command, and the modules it imported."""
    code = ("import sys; from v2l.cli.app import main\ntry: main()\nexcept SystemExit as end: status = end.code\n"
            "print('MODULES', status, *sys.modules, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, env=environment(), capture_output=True,
                          text=True, timeout=240)
    _, status, *modules = done.stderr.splitlines()[-1].split()
    return int(status), set(modules)


@pytest.mark.parametrize(("words", "status"), [
    ((), 0), (("--help",), 0), (("ingest", "--help"), 0), (("info", "a.v2lora"), 0), (("models",), 0),
    (("ls",), 0), (("compose", "a.v2lora", "b.v2lora", "-o", "full.v2lora"), 0), (("slice", "a.v2lora", "--each"), 0),
    (("compose", "a.v2lora", "b.v2lora", "--max-rank", "3", "-o", "full.v2lora"), 0),
    (("ask", "Why?"), 2), (("ask", "nope.v2lora", "Why?"), 1), (("ingest", "folder"), 1),
    (("ask", "nope.v2lora", "--each", "Why?", "--model", "tiny"), 1),
], ids=str)
def test_nothing_heavy_is_imported_before_it_is_needed(here: Path, words: tuple[str, ...], status: int) -> None:
    Path("folder").mkdir()
    status_then, modules = imported(*words, cwd=here)
    assert (status_then, modules & HEAVY - {"numpy"}) == (status, set())


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for name in ("ask", "ls", "models"))], ids=" ".join)
def test_help_needs_no_numpy(here: Path, words: tuple[str, ...]) -> None:
    status, modules = imported(*words, cwd=here)
    assert (status, modules & HEAVY) == (0, set())


@pytest.mark.parametrize(("words", "module", "status"), [
    (("--version",), "", 0), (("help", "ls"), "ls", 0), (("ls",), "ls", 0),
    (("models", "use", "tiny"), "models export", 0),
    (("ask", "a.v2lora", "Why?", "--server", "127.0.0.1:1"), "ask", 1), (("find", "--help"), "find", 0),
], ids=str)
def test_a_command_imports_no_other_and_nothing_slow(
    here: Path, words: tuple[str, ...], module: str, status: int
) -> None:
    status_then, modules = imported(*words, cwd=here)
    assert (status_then, modules & (HEAVY | SLOW)) == (status, set())
    commands = {f"v2l.cli.{name}" for name in ("ingest", "find", "ls", "slice", "export", "serve", "models", "train")}
    assert modules & commands <= {f"v2l.cli.{name}" for name in module.split()}
    assert len(modules) < 250  # of Python itself, of Typer and ours; 335 when each command imported all others


@pytest.mark.parametrize("group", ["models", "bench", "train"])
def test_a_group_has_all_its_commands_by_itself(here: Path, group: str) -> None:
    """Whatever else was imported: of a module that nobody called, its commands would be missing."""
    code = f"from v2l.cli.commands import Commands; print(*Commands()['{group}'].commands)"
    alone = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    every = dict(Commands())
    assert alone.stdout.split() == list(every[group].commands)


def test_a_video_is_opened_before_torch_is_imported(here: Path) -> None:
    Path("notes.mp4").write_text("Buy milk.")
    status, modules = imported("ingest", "notes.mp4", cwd=here)
    assert status == 1 and not modules & {"torch", "transformers"}


def test_help_and_version(here: Path) -> None:
    assert run().stdout == run("--help").stdout
    for words in ((), ("models",)):  # a line for every command, none cut short
        assert "..." not in run(*words, "--help").stdout.split("Commands:")[1]
    for name in ("ingest", "ask", "ls", "compose", "slice", "info", "models", "bench"):
        assert re.search(rf"^  {name} ", run("--help").stdout, re.MULTILINE)
        text = run(name, "-h").stdout
        assert text.startswith(f"Usage: v2l {name}") and f"    v2l {name} " in text
        assert max(map(len, text.splitlines())) <= 80
    for words in ((), ("ask",), ("ingest",)):
        assert "tiny, knows only coloured shapes and slides" in " ".join(run(*words, "--help").stdout.split())
    assert run("--version").stdout == f"v2l {v2l.__version__}\n"
    assert refused("inject", status=2) == "v2l has no command inject (did you mean ingest?); v2l --help lists them."


def test_module_and_narrow_terminals(here: Path) -> None:
    done = process("compose", "--help", cwd=here, COLUMNS="40")
    assert done.returncode == 0
    examples = [line for line in done.stdout.splitlines() if line.startswith("    v2l")]
    assert all(len(line) <= 40 for line in done.stdout.splitlines() if line not in examples)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 90), ("90.5", 90.5), ("1:30", 90), ("01:05.25", 65.25),
                                               ("75:00", 4500), ("1:02:03", 3723), ("1:02:03.456", 3723.456)])
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds
    assert parse_time(time_text(seconds)) == seconds


def test_sizes_and_harmless_text() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 28_160, 999_600, 8_100_000, 2_000_000_000)] == [
        "0 bytes", "999 bytes", "1 kB", "28.2 kB", "1 MB", "8.1 MB", "2 GB"]
    assert clean("a\tb\nc\x1b[2J\r\x9b1m\u202e\x00é🎬") == "a\tb\nc\ufffd[2J\ufffd\ufffd1m\ufffd\ufffdé🎬"


def test_compose_joins_in_time_and_notes_what_is_odd(here: Path) -> None:
    result = run("compose", "b.v2lora", "a.v2lora", "-o", "full.v2lora")
    assert (result.stdout, result.stderr) == ("full.v2lora\n", "")
    assert [s["start"] for s in load("full.v2lora").segments] == [0.0, 10.0]
    assert load("full.v2lora").bias_A.shape[1] == 4
    odd = run("compose", "-", "-o", "odd.v2lora", "--json", stdin="a.v2lora\nother.v2lora\n")
    assert odd.stderr == "Note: Segments of 2 different videos were composed: lecture.mp4, other.mp4.\n"
    assert documents(odd) == [{"output": "odd.v2lora", "segments": 2, "sources": ["lecture.mp4", "other.mp4"],
                               "rank": 12, "size": os.path.getsize("odd.v2lora"), "skipped": False}]
    assert run("compose", "a.v2lora", "other.v2lora", "-o", "odd.v2lora", "--quiet", "--force").stderr == ""


def test_compose_keeps_what_is_up_to_date(here: Path) -> None:
    run("compose", "a.v2lora", "b.v2lora", "-o", "full.v2lora")
    os.utime("full.v2lora", (1, 1))
    kept = run("compose", "b.v2lora", "a.v2lora", "-o", "full.v2lora")
    assert (kept.stdout, kept.stderr) == ("full.v2lora\n", "full.v2lora is up to date.\n")
    assert os.path.getmtime("full.v2lora") == 1
    run("compose", "b.v2lora", "a.v2lora", "-o", "full.v2lora", "--force")
    assert os.path.getmtime("full.v2lora") > 1


def test_compose_refuses(here: Path) -> None:
    base = {"id": "v2l/other", "revision": None, "fingerprint": "e" * 64}
    save(replace(make(5), record={**make(5).record, "base": base}), "strange.v2lora")
    said = refused("compose", "a.v2lora", "strange.v2lora", "-o", "full.v2lora")
    assert all(word in said for word in ("a.v2lora", "strange.v2lora", "v2l/tiny", "v2l/other"))
    Path("bad.v2lora").write_bytes(Path("a.v2lora").read_bytes()[:-1])
    assert "bad.v2lora is not a usable adapter" in refused("compose", "a.v2lora", "bad.v2lora", "-o", "full.v2lora")
    assert "double" in refused("compose", "a.v2lora", "a.v2lora", "-o", "full.v2lora")
    content = Path("a.v2lora").read_bytes()
    assert "one of the adapters to read" in refused("compose", "a.v2lora", "b.v2lora", "-o", "./a.v2lora", status=2)
    assert Path("a.v2lora").read_bytes() == content
    assert "does not exist" in refused("compose", "a.v2lora", "b.v2lora", "-o", "no/full.v2lora")
    assert "nothing to compose" in refused("compose", "-", "-o", "full.v2lora", stdin="", status=2)
    assert not Path("full.v2lora").exists()


def test_info_shows_everything_recorded(here: Path) -> None:
    run("compose", "a.v2lora", "b.v2lora", "other.v2lora", "-o", "full.v2lora", "--quiet")
    text = run("info", "full.v2lora").stdout
    for part in ("v2l/tiny", "f" * 64, "a" * 64, "16: 3 segments and the bias, 4 each", "10 -> 6 of 3 layers, float32",
                 "lecture.mp4", "other.mp4", "1:00.04, 1501 frames at 25 fps, 320 x 180, 123 kB", "e" * 64,
                 "0:10 to 0:20, 3 frames, lecture.mp4", "at most 12 frames, 1 fps", "Internalize this.",
                 "float32 on cpu"):
        assert part in text
    (found,) = documents(run("info", "full.v2lora", "--json"))
    assert found["tensors"]["down_proj.A"] == [3, 12, 10]
    assert found["segments"] == load("full.v2lora").segments and found["file"] == "full.v2lora"


def test_info_of_several_and_a_damaged_one(here: Path) -> None:
    Path("bad.v2lora").write_text("{}")
    result = run("info", "a.v2lora", "bad.v2lora", "b.v2lora", "--json", status=1)
    assert [found["file"] for found in documents(result)] == ["a.v2lora", "b.v2lora"]
    assert result.stderr.startswith("Error: bad.v2lora is not a usable adapter") and result.stderr.count("\n") == 1


def test_models_lists_what_there_is(here: Path) -> None:
    names = [found["name"] for found in documents(run("models", "--json"))]
    assert names == ["tiny", "500m", "2.2b"]
    text = run("models").stdout
    assert "knows only the small synthetic world" in text and "fetch it with: v2l models pull 500m" in text
    assert "There is no model" in refused("models", "pull", "nowhere", status=2)


def test_bench_alone_says_what_there_is_and_explains_its_words() -> None:
    shown = run("bench", "--help").stdout
    assert "compare" in shown and "speed" in shown and run("bench").stdout == shown
    assert all(word in shown for word in ("an arm is", "The base is", "A judge is", "A degenerate answer", "Token F1"))


def test_bench_compares(here: Path) -> None:
    words = (REFERENCE / "videos/short.mp4", "--question", "What?", "--repeat", 1, *MAKE)
    text = run("bench", *words).stdout
    assert re.search(r"^prompt tokens +\d+ +\d+ +\d+$", text, re.MULTILINE)
    assert re.search(r"^pays at question +- +(never|\d+) +(never|\d+)$", text, re.MULTILINE)
    assert "no such file" in refused("bench", "nope.mp4", *MAKE)


def test_bench_draws_a_clip_where_none_is_given(here: Path) -> None:
    (found,) = documents(run("bench", "compare", "--json", "--repeat", 1, *MAKE, "--frames", 2))
    assert found["frames"] == 2 and found["direct"]["visual_tokens"] == 8 and found["adapter"]["visual_tokens"] == 0
    assert sorted(os.listdir()) == ["a.v2lora", "b.v2lora", "other.v2lora"]


def test_a_bug_says_so_and_shows_itself_on_demand(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.cli.describe.adapter_text", lambda *_: 1 / 0)
    result = run("info", "a.v2lora", status=1)
    assert result.stderr == ("Error: This is a bug in v2l (ZeroDivisionError: division by zero); "
                             "set V2L_DEBUG=1 to see where it happened.\n")
    monkeypatch.setenv("V2L_DEBUG", "1")
    assert "Traceback" in run("info", "a.v2lora", status=1).stderr


def test_memory_that_does_not_suffice_is_no_bug(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr("v2l.cli.describe.adapter_text", full)
    assert "The memory did not suffice" in refused("info", "a.v2lora")


def test_other_encodings(here: Path) -> None:
    name = "große 🎬.v2lora"
    shutil.copy("a.v2lora", name)
    for encoding, expected in (("utf-8", name), ("ascii", "gro\\xdfe \\U0001f3ac.v2lora")):
        done = process("info", name, cwd=here, PYTHONIOENCODING=encoding)
        assert done.returncode == 0 and done.stdout.splitlines()[0] == expected
    assert json.loads(process("info", name, "--json", cwd=here).stdout)["file"] == name


def test_commands_that_are_suggested_can_be_typed_as_they_are(here: Path) -> None:
    Path("a b.mp4").touch()
    Path("of talks").mkdir()
    assert refused("info", "a b.v2lora").endswith("make it with `v2l ingest 'a b.mp4'`.")
    assert refused("compose", "of talks", "-o", "c.v2lora").endswith("make some with: v2l ingest 'of talks'.")


def test_wrong_usage_is_told_in_words(here: Path) -> None:
    for words, said in (
        (("ingest",), "v2l ingest needs VIDEO...; v2l ingest --help tells more."),
        (("compose", "a.v2lora"), "v2l compose needs -o FILE; v2l compose --help tells more."),
        (("info", "--jsn", "a.v2lora"), "v2l info has no option --jsn (did you mean --json?); "
                                         "v2l info --help tells more."),
        (("info", "--bogus"), "v2l info has no option --bogus; v2l info --help tells more."),
        (("ingest", "--frames"), "--frames takes a value; v2l ingest --help tells more."),
        (("export", "a.v2lora", "--to", "peft"), "--to takes FORMAT PATH; v2l export --help tells more."),
        (("info", "--json=yes"), "--json takes no value; v2l info --help tells more."),
        (("ingest", "a.mp4", "--start", "x"), "--start: 'x' is not a time; write it as 90, 5s, 1:30, 2m or 1h5m."),
        (("ingest", "a.mp4", "--dtype", "float61"), "--dtype: 'float61' is not auto, float32, bfloat16 or float16 "
                                                    "(did you mean float16?)."),
        (("ask", "a.v2lora", "Why?", "--strategy", "jion"), "--strategy: 'jion' is not auto, join, route, each or "
                                                            "timeline (did you mean join?)."),
        (("models", "pull", "a", "b"), "v2l models pull has no use for b; put quotes around a name with spaces "
                                       "(v2l models pull --help tells more)."),
        (("ask", "a.v2lora", "x", "--device", "gpu"), "--device: 'gpu' is not cpu, cuda, cuda:N or mps (did you mean "
                                                      "cuda?)."),
        (("bench", "quality", "--arms", "none,adaptor"),
         "--arms: 'adaptor' is not adapter, direct, budget or none (did you mean adapter?)."),
        (("export", "a.v2lora", "--to", "pef", "b"), "--to: 'pef' is not peft, gguf or merged (did you mean peft?)."),
        (("models", "export", "tiny", "--to", "gguf", "a.gguf", "--type", "q80"),
         "--type: 'q80' is not auto, f32, f16, bf16 or q8_0 (did you mean q8_0?)."),
        (("ingest", "talk.mp4", "--segment", "scene"), "'scene' is no way to cut a video; write a length, such as 90, "
                                                       "5s, 1:30, 2m or 1h5m, or scenes (did you mean scenes?)."),
        (("models", "pul"), "v2l models has no command pul (did you mean pull?); v2l models --help lists them."),
        (("train",), "v2l train needs a command: run, targets, export; v2l train --help tells more."),
        (("a.v2lora", "Why?"), "a.v2lora is a file, and a command comes first: v2l ask a.v2lora QUESTION."),
        (("models", "use", "50m"), "There is no model 50m (did you mean 500m?): it is none of tiny, 500m, "
                                         "2.2b, no folder, and no Hub id (org/name)."),
    ):
        assert refused(*words, status=2) == said
    for name, kind in (("--frames", "whole number"), ("--fps", "number")):  # the value is named where Typer tells it
        assert re.fullmatch(f"{name}: ('x'|the value) is not a {kind}.", refused("ingest", "a", name, "x", status=2))
    assert run("ask", *MODEL, status=2).stdout == ""
