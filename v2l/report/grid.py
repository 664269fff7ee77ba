"""Tables: one `Grid` of cells, drawn as text that reads well on 40 columns and uses 100, and as HTML."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from v2l.report.plots import Html, escape

Depth = Callable[[float], tuple[str, float]]
"""The colour of a value, `heat` or `cold`, and how deep it is, 0 to 1."""
Scale = Callable[[Sequence[float]], Depth]
"""All values of a map -> the colour of each."""


@dataclass(frozen=True)
class Heat:
    """A cell of a heat map: a value, or None and why there is none."""

    value: float | None
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Grid:
    """Rows of cells under a heading, names in the first column and mostly figures in the others."""

    head: Sequence[str] = ()
    """A name for each column, as text on several lines where it holds line breaks; no heading where there are none."""
    rows: Sequence[Sequence[str | Heat]] = ()
    left: Collection[int] = (0,)
    """Columns whose cells begin together; those of the others end together."""
    scale: Scale | None = None
    """Colours the cells that are `Heat`, as HTML."""
    notes: Sequence[str] = ()
    """For each row, what stands on lines of its own below it, as text; nothing where it is empty."""

    def text(self, width: int | None = None) -> str:
        """Columns two spaces apart, one where only so they fit into `width`; each row as a sentence where they do not
        fit at all."""
        head, rows = self._columns(width) or ([], [wrapped(self._sentence(row), width, "  ") for row in self.rows])
        notes = [*self.notes, *[""] * (len(rows) - len(self.notes))]
        lines = [line for row, note in zip(rows, notes, strict=True)
                 for line in (row, *(wrapped(part, width, "    ") for part in note.splitlines()))]
        return "\n".join([*head, *lines])

    def fits(self, width: int | None) -> bool:
        """Whether `text` stands in columns."""
        return self._columns(width) is not None

    def _columns(self, width: int | None) -> tuple[list[str], list[str]] | None:
        """Lines of the heading and of the rows; None where they are wider than `width`."""
        names = [name.split("\n") for name in self.head]
        height = max(map(len, names), default=0)
        head = [[([""] * (height - len(name)) + name)[line] for name in names] for line in range(height)]
        cells = [*head, *([str(cell) for cell in row] for row in self.rows)]
        sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for gap in ("  ", " "):
            lines = [gap.join(cell.ljust(size) if place in self.left else cell.rjust(size)
                              for place, (cell, size) in enumerate(zip(row, sizes, strict=True))).rstrip()
                     for row in cells]
            if width is None or max(map(len, lines), default=0) <= width:
                return lines[:height], lines[height:]
        return None

    def _sentence(self, row: Sequence[str | Heat]) -> str:
        """`name corner: cell heading, cell heading`."""
        corner, *heads = (" ".join(name.split()) for name in self.head or [""] * len(row))
        name, *cells = map(str, row)
        return f"{name} {corner}".rstrip() + ": " + ", ".join(
            f"{cell} {head}".rstrip() for cell, head in zip(cells, heads, strict=True))

    def html(self) -> Html:
        """A table that scrolls where there is no room; a heat map where there is a `scale`."""
        top = "".join(f'<th scope="col">{escape(" ".join(name.split()))}</th>' for name in self.head)
        lead = f"<thead><tr>{top}</tr></thead>" if self.head else ""
        if self.scale:
            style, body = ' class="heat"', self._heat_rows(self.scale)
        else:
            style = ' class="words"' if self.rows and len(self.left) == len(self.rows[0]) else ""
            body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in self.rows)
        return Html(f'<div class="scroll"><table{style}>{lead}<tbody>{body}</tbody></table></div>')

    def _heat_rows(self, scale: Scale) -> str:
        color_of = scale([cell.value for row in self.rows for cell in row
                          if isinstance(cell, Heat) and cell.value is not None])

        def html(cell: str | Heat) -> str:
            text = escape(str(cell))
            if not isinstance(cell, Heat):
                return f'<th scope="row">{text}</th>'
            if cell.value is None:
                return f'<td class="none">{text}</td>'
            color, depth = color_of(cell.value)
            return f'<td style="background:rgba(var(--{color}),{0.06 + 0.44 * depth:.2f})">{text}</td>'

        return "".join(f"<tr>{''.join(map(html, row))}</tr>" for row in self.rows)


def wrapped(text: str, width: int | None, indent: str = "") -> str:
    """`text` on lines of at most `width` columns, all but the first indented; unchanged without a width."""
    if width is None:
        return text
    return "\n".join(textwrap.wrap(text, max(width, 20), subsequent_indent=indent, break_on_hyphens=False))


def logarithmic(values: Sequence[float]) -> Depth:
    """The deeper the greater, for values above 0."""
    low, high = math.log(min(values, default=1.0)), math.log(max(values, default=1.0))
    return lambda value: ("heat", (math.log(value) - low) / (high - low) if high > low else 0.5)


def share(values: Sequence[float]) -> Depth:
    """The deeper the nearer to 1, for values from 0 to 1."""
    return lambda value: ("heat", value)


def diverging(values: Sequence[float]) -> Depth:
    """One colour above 0 and another below, the deeper the farther from it; steps of less than 0.1 stay pale."""
    most = max([0.1, *map(abs, values)])
    return lambda value: ("heat" if value >= 0 else "cold", abs(value) / most)
