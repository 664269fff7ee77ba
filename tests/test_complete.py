"""`v2l help`, `v2l completion` and what TAB offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import environment, process, refused, run
from typer._completion_classes import completion_init

from v2l.cli.complete_paths import adapter_paths, video_paths


def test_help_is_the_help_of_a_command() -> None:
    assert run("help").stdout == run("--help").stdout
    assert run("help", "models", "pull").stdout == run("models", "pull", "--help").stdout
    assert refused("help", "models", "pul", status=2) == (
        "v2l models has no command pul (did you mean pull?); v2l models --help lists them.")


def test_tab_offers_folders_and_files_of_the_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talks").mkdir()
    for name in ("talk.mp4", "talk.v2lora", "talk.txt", ".talk.mp4", "talks/a.v2lora"):
        Path(name).touch()
    assert adapter_paths("ta") == ["talk.v2lora", "talks/"] and adapter_paths("talks/") == ["talks/a.v2lora"]
    assert video_paths("") == ["talk.mp4", "talks/"] and video_paths("nowhere/") == []


def asking(typed: str) -> dict[str, str]:
    """The environment in which a shell asks what TAB offers."""
    return {"_V2L_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}


def test_a_shell_is_told_what_tab_offers(tmp_path: Path) -> None:
    (tmp_path / "talk.v2lora").touch()
    assert process(cwd=tmp_path, **asking("v2l ask ta")).stdout == "talk.v2lora\n"


@pytest.mark.parametrize(("typed", "offered"), [
    ("mo", ["models"]), ("ask --strategy r", ["route"]), ("ask --format s", ["srt"]),
    ("ask --device c", ["cpu", "cuda"]),
    *((f"{command} ", ["tiny", "500m", "2.2b"]) for command in (
        "ingest --model", "ask --model", "serve --model", "export --model", "models pull", "models use", "models check",
        "models export")),
    *((f"{command} float", ["float32", "float16"]) for command in (
        "ask --dtype", "ingest --adapter-dtype", "export --dtype", "train run --dtype")),
    ("models export tiny --type q", ["q8_0"]), ("bench quality --suite ", ["tiny"]),
    ("train run --optimizer m", ["muon"]),
    ("bench quality --arms none,d", ["none,direct"]), ("bench quality c", ["clips.jsonl"]),
    ("train run ", ["clips.jsonl"]), ("train targets c", ["clips.jsonl", "cut.mp4"]), ("ingest ", ["cut.mp4"]),
])
def test_tab_offers_names_of_closed_sets_and_files_of_the_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clips.jsonl", "cut.mp4", "notes.txt"):
        Path(name).touch()
    for name, value in asking(f"v2l {typed}").items():
        monkeypatch.setenv(name, value)
    completion_init()
    assert run().stdout.split() == offered


def test_the_script_works_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "a b.v2lora").touch()
    (tmp_path / "v2l").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m v2l "$@"\n')
    (tmp_path / "v2l").chmod(0o755)
    script = run("completion", "bash").stdout + """
COMP_WORDS=(v2l ask a); COMP_CWORD=2; _v2l_completion ./v2l; printf '<%s>' "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout == "<a b.v2lora>", done.stderr
    assert "did you mean fish" in refused("completion", "fsh", status=2)
