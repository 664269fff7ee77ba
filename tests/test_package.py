"""`import v2l`: what a Python user gets, and that it costs nothing before it is used."""

from __future__ import annotations

import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import v2l
import v2l.adapter
from v2l.adapter import file
from v2l.adapter.join import compose
from v2l.door import Engine
from v2l.errors import V2LError


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parents[1])
    return run.stdout.strip()


def test_importing_v2l_imports_nothing_heavy() -> None:
    code = ("import sys, v2l; assert {'Engine', 'load', 'save'} <= set(dir(v2l)); "
            "print([n for n in sys.modules if n.split('.')[0] in ('numpy', 'torch', 'typer') or n.startswith('v2l.')])")
    assert python(code) == "[]"


def test_reading_a_file_needs_no_torch() -> None:
    assert python("import sys, v2l; v2l.load; print('numpy' in sys.modules, 'torch' in sys.modules)") == "True False"


def test_the_names_are_those_of_the_rooms() -> None:
    assert v2l.Engine is Engine and v2l.V2LError is V2LError and v2l.compose is compose
    assert v2l.load is file.load is v2l.adapter.load
    assert v2l.save is file.save is v2l.adapter.save
    with pytest.raises(AttributeError, match="module 'v2l' has no attribute 'nothing'"):
        getattr(v2l, "nothing")  # noqa: B009


def test_a_star_brings_them_all() -> None:
    names: dict[str, object] = {}
    exec("from v2l import *", names)
    assert {"Engine", "load", "save"} <= names.keys() and names["Engine"] is Engine


def test_help_tells_what_there_is() -> None:
    text = pydoc.plain(pydoc.render_doc(v2l))
    assert "class Engine" in text and "load(" in text and "save(" in text
    assert 'engine.ingest("lecture.mp4", segment="60s")' in text and "class V2LError" in text


def test_the_workflow_runs_the_suite_where_the_readme_says_that_v2l_runs() -> None:
    """It has run nowhere yet; what can be read of it is."""
    root = Path(__file__).parents[1]
    text = (root / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs, matrix = yaml.safe_load(text)["jobs"], yaml.safe_load(text)["jobs"]["suite"]["strategy"]["matrix"]
    oldest, newest = re.findall(r"Python 3\.(\d+) to 3\.(\d+)", (root / "README.md").read_text(encoding="utf-8"))[0]
    assert matrix["python"] == [f"3.{minor}" for minor in range(int(oldest), int(newest) + 1)]
    assert [system.partition("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    known = {"matrix.os", "matrix.python", "github.workflow", "github.ref"}
    assert set(re.findall(r"\${{ (.*?) }}", text)) == known and text.count("${{") == text.count("}}")
    for step in steps:
        subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, check=True)
