"""The terminal session the README shows is what the commands in it print."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMES = ("ttft_s", "total_s")


def comparable(line: str) -> object:
    """A printed line without what differs from run to run."""
    if line.startswith("{"):
        return {key: value for key, value in json.loads(line).items() if key not in TIMES}
    return re.sub(r"[0-9.]+ s$", "", line)


def test_the_session_is_real(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.v2lora"))
    command = tmp_path / "bin" / "v2l"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m v2l "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    block = (ROOT / "README.md").read_text().split("```console\n")[1].split("```")[0]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert len(steps) == 6
    for line, shown in steps:
        done = subprocess.run(["bash", "-c", f"({line}) 2>&1"], cwd=tmp_path, env=environment, text=True,
                              capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout
        assert [*map(comparable, done.stdout.splitlines())] == [*map(comparable, shown.splitlines())], line
