"""A timeline in text: where in a video its segments lie, in characters that every terminal has.

    [1====][2====]......[3====]
                           [4==]
    0:00       1:00        2:00
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from v2l.adapter.wall import at_text

_MOST_ROWS = 4
"""Rows drawn of segments that overlap; the last one takes all that do not fit the others."""


def draw_timeline(spans: Sequence[tuple[int, float, float]], duration: float, width: int, began: datetime | None = None
                  ) -> list[str]:
    """The rows of a timeline of `width` columns that begins at 0 s, and below them the times.

    `spans` are the segments of one video: number, start and end in seconds; `duration` is the video's, in seconds.
    A segment that overlaps another is drawn a row lower; a dot is a gap. What was watched live, and `began` then, is
    drawn from its first segment to its last, since what was before it may have been let go.
    """
    edges = [at for _, start, end in spans for at in (start, end)]
    origin, whole = min([0.0, *edges]), max([duration, *edges])
    if began is not None:
        origin, whole = min(edges), max(edges)
    if whole - origin < 0.001:
        whole = origin + 1
    scale = width / (whole - origin)
    rows = []
    for row in _apart(spans):
        cells = [(number, *_cells((start - origin) * scale, (end - origin) * scale, width))
                 for number, start, end in row]
        rows.append(_row(cells, width))
    return [*rows, _axis([at_text(began, round(at, 1)) for at in (origin, (origin + whole) / 2, whole)], width)]


def _apart(spans: Sequence[tuple[int, float, float]]) -> list[list[tuple[int, float, float]]]:
    """Rows in which no two segments overlap, as few as possible; only in the last one they may."""
    rows: list[list[tuple[int, float, float]]] = []
    for span in sorted(spans, key=lambda span: span[1:]):
        free = next((row for row in rows if row[-1][2] <= span[1]), None)
        if free is None and len(rows) < _MOST_ROWS:
            rows.append([span])
        else:
            (free or rows[-1]).append(span)
    return rows


def _cells(start: float, end: float, width: int) -> tuple[int, int]:
    """First column and the one after the last: at least one, within the row."""
    first = min(round(start), width - 1)
    return first, min(max(round(end), first + 1), width)


def _row(cells: Sequence[tuple[int, int, int]], width: int) -> str:
    """Segments with edges and, where it fits, their number; `#` for all they cover where most are too short."""
    row, taken = ["."] * width, 0
    crowded = 2 * sum(last - first < 3 for _, first, last in cells) > len(cells)
    for number, first, last in cells:
        first = first if crowded else min(max(first, taken), last)  # beside what took a column it has no time for
        inner, taken = last - first - 2, last
        text = str(number) if len(str(number)) <= inner else ""
        edged = f"[{text:=<{inner}}]" if inner >= 0 else "|" * (inner + 2)
        row[first:last] = "#" * (last - first) if crowded else edged
    return "".join(row)


def _axis(times: Sequence[str], width: int) -> str:
    """Times at both ends, and in the middle where there is room."""
    left, middle, right = times
    if width < len(left + middle + right) + 12:
        middle = ""
    row = [" "] * width
    for text, at in ((left, 0), (middle, (width - len(middle)) // 2), (right, max(0, width - len(right)))):
        row[at:at + len(text)] = text
    return "".join(row)
