"""A table of cells: as text in columns or sentences, as HTML."""

from __future__ import annotations

from v2l.report.grid import Grid, Heat, logarithmic

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
