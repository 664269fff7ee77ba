"""Text on a terminal: lines break at spaces; in a pipe they stay as they are, and nothing is drawn over its reader."""

from __future__ import annotations

import io
import os
import random
import shutil
from pathlib import Path

import pytest
from support.cli import MAKE, REFERENCE, run

from v2l.cli.console import Console, report
from v2l.cli.wrap import Wrapped, cells, wrap_lines
from v2l.errors import UsageError

TEXTS = ["A red ring moves left, then a blue moon grows.", "one\n\n  two three\tfour ", "", "x" * 50 + " y",
         "白い犬が 走る。 そして 止まる。", "e\u0301" * 9 + " done"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [8, 20, 80])
def test_lines_break_at_spaces(text: str, width: int) -> None:
    """No line is too wide unless its first word is; words and lines stay what they were."""
    lines = wrap_lines(text, width).split("\n")
    assert all(cells(line.rstrip()) <= width or cells(line.split()[0]) > width for line in lines)
    assert wrap_lines(text, width).split() == text.split() and len(lines) >= text.count("\n") + 1
    if width == 80:
        assert wrap_lines(text, width) == text.rstrip()
    assert wrap_lines(text, None) == text


def test_pieces_give_what_the_whole_gives() -> None:
    rng = random.Random(1)
    for text in TEXTS:
        cut = sorted(rng.choices(range(len(text) + 1), k=5))
        lines = Wrapped(12)
        pieces = [lines.add(text[a:b]) for a, b in zip([0, *cut], [*cut, len(text)], strict=True)]
        assert "".join(pieces) + lines.end() == wrap_lines(text, 12)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_errors_wrap_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    monkeypatch.setenv("COLUMNS", "40")
    report(UsageError("There is a question and no adapter: name a .v2lora file, or a folder of them."))
    assert screen.getvalue() == ("Error: There is a question and no\nadapter: name a .v2lora file, or a\n"
                                 "folder of them.\n")


def test_no_bar_is_drawn_over_a_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads the results from a pipe draws on the same terminal; a file does not."""
    monkeypatch.setenv("TERM", "xterm")
    reading, writing = os.pipe()
    drawn = {}
    for name, out in (("pipe", writing), ("file", os.open(os.devnull, os.O_WRONLY))):
        monkeypatch.setattr("sys.stderr", screen := Screen())
        with os.fdopen(out, "w") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            with Console(quiet=False).working("Thinking"):
                drawn[name] = "Thinking" in screen.getvalue()
    os.close(reading)
    assert drawn == {"pipe": False, "file": True}


def test_a_rerun_says_one_line_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note that it is up to date names the adapter; where results go elsewhere they are complete."""
    monkeypatch.setenv("TERM", "dumb")
    video = shutil.copy(REFERENCE / "videos" / "short.mp4", tmp_path)
    made = f"{run('ingest', video, *MAKE).stdout}"
    assert run("ingest", video, *MAKE).stdout == made == f"{tmp_path / 'short.v2lora'}\n"
    monkeypatch.setattr("v2l.cli.console.is_terminal", lambda stream: True)
    again = run("ingest", video, *MAKE)
    assert (again.stdout, " ".join(again.stderr.split())) == ("", f"{tmp_path / 'short.v2lora'} is up to date.")
    assert run("ingest", video, "--quiet", *MAKE).stdout == made
