"""Intervals of differences against a margin, drawn as `plots` draws lines: a row each, named above its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2l.report.plots import WIDTH, Html, escape, even_ticks, text_at, text_width

_ROW, _TOP, _FOOT = 38, 20, 36
_LEFT, _RIGHT = 6, WIDTH - 6


@dataclass(frozen=True)
class Interval:
    """A difference with its interval; `verdict` is printed beside the name, in the colour of that number."""

    name: str
    value: float
    low: float
    high: float
    verdict: str
    color: int
    note: str = ""
    """Text shown where the pointer rests."""
    published: float | None = None
    """A difference that someone else measured, drawn as a hollow diamond."""


def forest_plot(title: str, axis: str, margin: float, rows: Sequence[Interval]) -> Html:
    """Draws the intervals; `title` is for those who hear it, `axis` says what is drawn. At least one row.

    The band is ±`margin` around 0: a difference is equivalent where its interval lies within, non-inferior where it
    lies to the right of the band's left edge.
    """
    ends = [abs(v) for row in rows for v in (row.low, row.high, row.published or 0.0)]
    reach = max(1.15 * margin, 1.06 * max(ends))
    at = lambda value: _LEFT + (value + reach) / (2 * reach) * (_RIGHT - _LEFT)
    foot = _TOP + _ROW * len(rows)
    parts = [f'<rect class="band" x="{at(-margin):.1f}" y="{_TOP}" width="{at(margin) - at(-margin):.1f}" '
             f'height="{foot - _TOP}"/>']
    parts += [f'<line class="{style}" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{_TOP}" y2="{foot + 4}"/>'
              for value, style in ((-margin, "edge"), (0.0, "rule"), (margin, "edge"))]
    parts += [_row(row, at(row.low), at(row.value), at(row.high), _TOP + _ROW * place,
                   None if row.published is None else at(row.published)) for place, row in enumerate(rows)]
    parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_RIGHT}" y1="{foot}" y2="{foot}"/>')
    parts += _margin_names(margin, at(-margin), at(margin))
    parts += [text_at(at(value), foot + 16, f"{value:+.3g}" if value else "0", "tick", "middle")
              for value in even_ticks(-reach, reach) if _LEFT + 14 < at(value) < _RIGHT - 14]
    parts.append(text_at(WIDTH / 2, foot + _FOOT - 4, axis, "axis", "middle"))
    return Html(f'<svg viewBox="0 0 {WIDTH} {foot + _FOOT}" role="img" aria-label="{escape(title)}">'
                f'{"".join(parts)}</svg>')


def _margin_names(margin: float, low: float, high: float) -> list[str]:
    """What the two edges of the band are, above them: beside it, or within where there is no room."""
    names = f"-{margin:g}", f"+{margin:g}, the margin"
    if low - 3 < text_width(names[0]) or WIDTH - high - 3 < text_width(names[1]):
        return [text_at(low + 3, _TOP - 7, names[0], "tick"), text_at(high - 3, _TOP - 7, names[1], "tick", "end")]
    return [text_at(low - 3, _TOP - 7, names[0], "tick", "end"), text_at(high + 3, _TOP - 7, names[1], "tick")]


def _row(row: Interval, low: float, value: float, high: float, top: float, published: float | None) -> str:
    y = top + 27
    note = f"<title>{escape(row.note)}</title>" if row.note else ""
    parts = [text_at(_LEFT, top + 14, row.name), text_at(_RIGHT, top + 14, row.verdict, "verdict", "end")]
    if published is not None:
        parts.append(f'<path class="mark estimated" transform="translate({published:.1f},{y})" '
                     'd="M0,-5L5,0L0,5L-5,0z"/>')
    parts.append(f'<path class="span" d="M{low:.1f},{y}H{high:.1f}M{low:.1f},{y - 4}v8M{high:.1f},{y - 4}v8"/>')
    parts.append(f'<path class="mark" transform="translate({value:.1f},{y})" d="M-4,-4h8v8h-8z">{note}</path>')
    return f'<g class="c{row.color}">{"".join(parts)}</g>'
