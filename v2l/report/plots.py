"""Line plots as small SVG drawings: no library, no script, colours from the page's style (`page.css`).

Lines are named at their ends; a name that would cover another moves aside. Text is 12.5 units of a drawing 340 wide,
so that it stays readable on a phone. All text is escaped here.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NewType

from v2l.wording import number_text

Html = NewType("Html", str)
"""Markup, with whatever text it holds escaped."""

WIDTH, HEIGHT, FONT = 340, 250, 12.5
_TOP, _BOTTOM = 26, 38
COLORS = 6
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
                      "\ud800-\udfff\ufffe\uffff]")
"""Characters that no document may hold."""


def escape(text: str) -> Html:
    """Any text as markup."""
    return Html(html.escape(_NO_TEXT.sub("\ufffd", text)))


@dataclass(frozen=True)
class Axis:
    label: str
    """What it shows, with its unit."""
    log: bool = True
    ticks: Sequence[float] = ()
    """Values that are marked; chosen where there are none."""
    text: Callable[[float], str] = number_text


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    kind: Literal["measured", "estimated", "missing"] = "measured"
    note: str = ""
    """Text shown where the pointer rests."""


@dataclass(frozen=True)
class Line:
    """`floor` draws a thin broken line without marks; a line without a name has no label."""

    name: str
    points: Sequence[Point]
    color: int
    floor: bool = False
    marks: bool = True


@dataclass(frozen=True)
class Callout:
    """A point that matters, named at the foot of the drawing."""

    x: float
    y: float
    text: str


class _Scale:
    """Values of an axis -> positions from `start` to `end`."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float, room: float = 0.06) -> None:
        self.axis, self.start, self.end = axis, start, end
        low, high = min(values), max(values)
        if axis.log:
            self.low, self.high = math.log10(low), math.log10(high)
            if self.high - self.low < 0.3:
                middle = (self.low + self.high) / 2
                self.low, self.high = middle - 0.3, middle + 0.3
        else:
            self.low, self.high = min(low, 0.0), high if high > low else low + 1
        spare = (self.high - self.low) * room
        self.low, self.high = (self.low - spare if axis.log else self.low), self.high + spare

    def make_room(self, share: float) -> None:
        """Leaves that much more of the axis free below."""
        self.low -= (self.high - self.low) * share

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.axis.log else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """At least two values to mark, ascending: those of the axis, else round ones."""
        ways = (lambda: self.axis.ticks, self._decades if self.axis.log else lambda: even_ticks(self.low, self.high),
                lambda: [step * 10.0**n for n in range(math.floor(self.low), math.ceil(self.high) + 1)
                         for step in range(1, 10)])
        inside = lambda value: self.low <= (math.log10(value) if self.axis.log else value) <= self.high
        return next((found for way in ways if len(found := [value for value in way() if inside(value)]) > 1), [])

    def _decades(self) -> list[float]:
        first, last = math.floor(self.low), math.ceil(self.high)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**n for n in range(first, last + 1) for step in steps]
            if sum(self.low <= math.log10(value) <= self.high for value in ticks) <= 6:
                return ticks
        each = math.ceil((last - first) / 6)
        return [10.0**n for n in range(first, last + 1, each)]


def even_ticks(low: float, high: float) -> list[float]:
    """Three to six round values from `low` to `high`, at even distances."""
    span = high - low
    size = 10 ** math.floor(math.log10(span / 4))
    step = next(size * n for n in (1, 2, 5, 10) if span / (size * n) <= 5)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def line_plot(title: str, x: Axis, y: Axis, lines: Sequence[Line], callouts: Sequence[Callout] = ()) -> Html:
    """Draws lines; `title` is for those who hear it. Lines without points are left out; at least one must have some.

    Values of a logarithmic axis must be above 0.
    """
    lines = [line for line in lines if line.points]
    points = [point for line in lines for point in line.points]
    right = WIDTH - max([text_width(line.name, bold=True) + 12 for line in lines if line.name], default=8)
    across = _Scale(x, [p.x for p in points], 0, 1, room=0.04)
    upward = _Scale(y, [p.y for p in points], HEIGHT - _BOTTOM, _TOP)
    if callouts:
        upward.make_room(0.09 * len(callouts))
    left = 10 + max(text_width(y.text(value)) for value in upward.ticks() or [0.0])
    across.start, across.end = left, right
    parts = [_axes(across, upward, left, right)]
    parts += [_callout(c, across, upward, row, right) for row, c in enumerate(callouts)]
    parts += [_line(line, across, upward) for line in sorted(lines, key=lambda line: not line.floor)]
    parts.append(_names(lines, across, upward))
    return Html(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>')


def text_width(text: str, bold: bool = False) -> float:
    """About how wide a text is drawn, in the widest of the usual fonts."""
    wide = sum(0.38 if letter in " .,:;'ijlt|()" else 0.6 if letter.isdigit() else 0.66 for letter in text)
    return FONT * wide * (1.1 if bold else 1)


def text_at(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    """Text within a drawing, from its baseline's start, middle or end."""
    classes = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}>{escape(text)}</text>'


def _axes(x: _Scale, y: _Scale, left: float, right: float) -> str:
    foot = HEIGHT - _BOTTOM
    parts = [text_at(0, FONT, _label(y.axis), "axis")]
    for value in y.ticks():
        at = y(value)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(text_at(left - 5, at + 4, y.axis.text(value), "tick", "end"))
    taken = math.inf
    for value in reversed(x.ticks()):  # where there is no room for all, the last one stays
        at, text = x(value), x.axis.text(value)
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{foot}" y2="{foot + 4}"/>')
        if at + text_width(text) / 2 < taken - 2:
            parts.append(text_at(at, foot + 16, text, "tick", "middle"))
            taken = at - text_width(text) / 2
    parts.append(f'<line class="rule" x1="{left:.1f}" x2="{right:.1f}" y1="{foot}" y2="{foot}"/>')
    parts.append(text_at((left + right) / 2, HEIGHT - 4, _label(x.axis), "axis", "middle"))
    return "".join(parts)


def _label(axis: Axis) -> str:
    return f"{axis.label}, log scale" if axis.log else axis.label


def _line(line: Line, x: _Scale, y: _Scale) -> str:
    """Between measured points the line is whole, otherwise dotted; it stops at what is missing."""
    parts = []
    drawn = [point for point in line.points if point.kind != "missing"]
    for kind, style in ((True, "floor" if line.floor else "line"), (False, "line guess")):
        path = ""
        for a, b in pairwise(drawn):
            if (a.kind == b.kind == "measured") == kind:
                joins = path.endswith(f"{x(a.x):.1f},{y(a.y):.1f}")
                path += ("" if joins else f"M{x(a.x):.1f},{y(a.y):.1f}") + f"L{x(b.x):.1f},{y(b.y):.1f}"
        if path:
            parts.append(f'<path class="{style}" d="{path}"/>')
    if line.marks and not line.floor:
        parts += [_mark(point, line.color, x(point.x), y(point.y)) for point in line.points]
    return f'<g class="c{line.color % COLORS}">{"".join(parts)}</g>'


_SHAPES = ("M-3.2,0a3.2,3.2 0 1,0 6.4,0a3.2,3.2 0 1,0 -6.4,0z", "M-2.9,-2.9h5.8v5.8h-5.8z", "M0,-3.8L3.6,2.6H-3.6z",
           "M0,-4L4,0L0,4L-4,0z", "M0,3.8L3.6,-2.6H-3.6z", "M-3.4,-1.2h6.8v2.4h-6.8z")
_CROSS = "M-3.5,-3.5L3.5,3.5M-3.5,3.5L3.5,-3.5"


def _mark(point: Point, color: int, x: float, y: float) -> str:
    shape = _CROSS if point.kind == "missing" else _SHAPES[color % len(_SHAPES)]
    note = f"<title>{escape(point.note)}</title>" if point.note else ""
    return f'<path class="mark {point.kind}" transform="translate({x:.1f},{y:.1f})" d="{shape}">{note}</path>'


def _names(lines: Sequence[Line], x: _Scale, y: _Scale) -> str:
    """Each line's name beside its end; where that place is taken, moved up or down with a hairline to the end."""
    ends = [(line, line.points[-1]) for line in lines if line.name]
    ends.sort(key=lambda end: y(end[1].y))
    places = spread_apart([y(point.y) for _, point in ends], FONT + 2, _TOP, HEIGHT - _BOTTOM)
    parts = []
    for (line, point), place in zip(ends, places, strict=True):
        at, start = (x(point.x), y(point.y)), x.end + 8
        if abs(place - at[1]) > 4 or start - at[0] > 24:
            parts.append(f'<path class="hair" d="M{at[0] + 5:.1f},{at[1]:.1f}L{start - 2:.1f},{place:.1f}"/>')
        parts.append(f'<g class="c{line.color % COLORS}">{text_at(start, place + 4, line.name, "name")}</g>')
    return "".join(parts)


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places, each as near to the wanted one as it can be, `gap` apart and within low..high if they fit."""
    groups: list[tuple[float, int]] = []  # (first place, how many)
    for i, place in enumerate(wanted):
        groups.append((place, 1))
        while len(groups) > 1 and groups[-2][0] + gap * groups[-2][1] > groups[-1][0]:
            count = groups[-2][1] + groups[-1][1]
            groups[-2:] = [(0.0, count)]
            members = wanted[i + 1 - count : i + 1]
            middle = sum(p - gap * k for k, p in enumerate(members)) / count
            groups[-1] = (min(max(middle, low), max(high - gap * (count - 1), low)), count)
    return [first + gap * k for first, count in groups for k in range(count)]


def _callout(callout: Callout, x: _Scale, y: _Scale, row: int, right: float) -> str:
    """A line down from the point to its name."""
    at, top, foot = x(callout.x), y(callout.y), HEIGHT - _BOTTOM
    line = foot - 6 - row * (FONT + 3)
    anchor, start = ("start", at + 5) if at + 5 + text_width(callout.text, bold=True) < right else ("end", at - 5)
    ring = f'<circle class="cross" cx="{at:.1f}" cy="{top:.1f}" r="4"/>'
    name = text_at(start, line, callout.text, "callout", anchor)
    return f'<path class="drop" d="M{at:.1f},{top:.1f}V{foot}"/>{ring}{name}'
