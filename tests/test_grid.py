"""A table of cells: as text in columns or sentences, as HTML; and what every drawing names."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from v2l.report.forest import Interval, forest_plot
from v2l.report.grid import Grid, Heat, logarithmic
from v2l.report.plots import WIDTH, Axis, Line, Point, line_plot, text_width

GRID = Grid(["", "first\ntoken", "verdict"], [["a b", "1.25 s", "better"], ["cc", "9 s", "worse"]], left=(0, 2),
            notes=["", "a remark\nanother"])


def test_columns_stand_as_far_apart_as_there_is_room() -> None:
    assert GRID.text() == ("      first\n"
                           "      token  verdict\n"
                           "a b  1.25 s  better\n"
                           "cc      9 s  worse\n"
                           "a remark\n"
                           "another")
    assert GRID.text(18).splitlines()[2] == "a b 1.25 s better" and GRID.fits(18)


def test_rows_that_do_not_fit_are_sentences() -> None:
    assert not GRID.fits(17)
    wide = Grid(["frames", "first\ntoken", "verdict"], [["8", "1.25 s", "better than all others"]])
    assert wide.text(30) == "8 frames: 1.25 s first token,\n  better than all others\n  verdict"


def test_html_holds_any_text() -> None:
    assert GRID.html().count("<td>") == 6 and "<th scope=\"col\">first token</th>" in GRID.html()
    assert "<td>&lt;b&gt;</td>" in Grid((), [["<b>", "x"]], left=(0, 1)).html()
    heat = Grid(["n", "x"], [["1", Heat(3.0, "3×")], ["2", Heat(None, "<none>")]], scale=logarithmic)
    assert heat.html().count("rgba(var(--heat),0.28)") == 1 and '<td class="none">&lt;none&gt;</td>' in heat.html()
    assert heat.text().splitlines()[2] == "2  <none>"


@pytest.mark.parametrize("values", [[0.2], [3.0], [2.1, 8.4], [40, 4e6], [1.01, 1.02], [7e-5]])
@pytest.mark.parametrize("log", [True, False])
def test_every_axis_has_two_marks_at_least_and_says_that_it_is_logarithmic(values: list[float], log: bool) -> None:
    line = Line("a", [Point(value, value) for value in values], 0)
    drawn = ElementTree.fromstring(line_plot("t", Axis("frames", log, ticks=values[:1]), Axis("s", log), [line]))
    marks = [text for text in drawn.iter("text") if text.get("class") == "tick"]
    across = [mark for mark in marks if mark.get("text-anchor") == "middle"]
    assert len(across) >= 2 and len(marks) - len(across) >= 2
    names = {text.text for text in drawn.iter("text") if text.get("class") == "axis"}
    assert names == ({"frames, log scale", "s, log scale"} if log else {"frames", "s"})


@pytest.mark.parametrize("reach", [0.01, 0.14, 1.0])
def test_the_edges_of_a_margin_are_named_within_the_drawing(reach: float) -> None:
    drawn = ElementTree.fromstring(forest_plot("t", "a", 0.15, [Interval("x", 0.0, -reach, reach, "equivalent", 0)]))
    names = {text.text: text for text in drawn.iter("text")}
    for name in ("-0.15", "+0.15, the margin"):
        x, width = float(str(names[name].get("x"))), text_width(name)
        left = x - width if names[name].get("text-anchor") == "end" else x
        assert left >= 0 and left + width <= WIDTH
    marks = [text for text in drawn.iter("text") if text.get("text-anchor") == "middle" and text.get("class") == "tick"]
    assert len(marks) >= 3
