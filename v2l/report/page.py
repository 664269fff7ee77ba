"""A report as one self-contained page: tables, drawings and words, readable on a phone, light or dark.

No script, no network; valid as XML too. Functions take plain text and escape it; what is already markup is `Html`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from v2l.report.plots import Html, escape

# Colours after Okabe and Ito, told apart with any kind of colour vision; each has a mark of its own besides.
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5b6470;--edge:#d8dde3;--card:#f6f8fa;--heat:0,114,178;
--cold:194,78,0;--c0:#0072b2;--c1:#c24e00;--c2:#007f5f;--c3:#a3457f;--c4:#8a6d00;--c5:#4d5661}
@media (prefers-color-scheme:dark){:root{--bg:#11151a;--fg:#e6eaef;--soft:#9aa5b1;--edge:#303842;--card:#191f26;
--heat:86,180,233;--cold:240,129,58;--c0:#56b4e9;--c1:#f0813a;--c2:#2bc79a;--c3:#e08fc0;--c4:#e3c04b;--c5:#b4bec9}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:76rem;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:2.4rem 0 .3rem;line-height:1.25}
h3{font-size:1rem;margin:0 0 .4rem;line-height:1.3}
p{margin:.3rem 0 .8rem;max-width:46rem}
.soft,footer,figcaption{color:var(--soft);font-size:.875rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.3rem),1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.7rem .9rem}
.tile b{display:block;font-size:1.5rem;white-space:nowrap;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.875rem;display:block;line-height:1.35}
.pair{display:grid;gap:1rem;align-items:start}
@media (min-width:60rem){.pair{grid-template-columns:minmax(0,3fr) minmax(0,5fr)}}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1rem;align-items:start}
figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.8rem .9rem;
min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:34rem;margin:0 auto}
figcaption{margin-top:.4rem}
svg text{font-family:inherit;font-size:12.5px;fill:var(--fg)}
svg .tick{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .axis{fill:var(--soft)}
svg .name{fill:var(--c);font-weight:600}
svg .grid{stroke:var(--edge);stroke-width:1}
svg .rule{stroke:var(--soft);stroke-width:1}
svg .line{stroke:var(--c);stroke-width:2;fill:none;stroke-linejoin:round}
svg .guess{stroke-dasharray:1 4;stroke-linecap:round}
svg .floor{stroke:var(--c);stroke-width:1.3;stroke-dasharray:5 3;fill:none;opacity:.85}
svg .mark{fill:var(--c);stroke:var(--card);stroke-width:1}
svg .mark.estimated{fill:var(--card);stroke:var(--c);stroke-width:1.5}
svg .mark.missing{fill:none;stroke:var(--c);stroke-width:2}
svg .hair{stroke:var(--soft);stroke-width:.7;fill:none}
svg .drop{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 2;fill:none}
svg .cross{fill:none;stroke:var(--fg);stroke-width:1.5}
svg .callout{font-weight:600}
svg .band{fill:rgba(var(--heat),.14)}
svg .edge{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
svg .span{stroke:var(--c);stroke-width:2.5;fill:none}
svg .verdict{fill:var(--c);font-weight:600}
.strip{display:grid;grid-template-columns:repeat(4,1fr);gap:.3rem;margin:.2rem 0 .7rem}
.strip img{display:block;width:100%;height:auto;border-radius:.3rem}
.asked{border-top:1px solid var(--edge);padding:.5rem 0 .4rem;font-size:.875rem}
.asked p{margin:0 0 .2rem}
.asked dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .7rem;margin:0}
.asked dt{color:var(--soft)}
.asked dd{margin:0;min-width:0}
.asked dd b{color:var(--c);white-space:nowrap}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}
details{margin-top:.5rem;font-size:.875rem}
summary{cursor:pointer;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.28rem .5rem;text-align:right;border-bottom:1px solid var(--edge);overflow-wrap:normal}
th{font-weight:600;color:var(--soft);vertical-align:bottom}
th:first-child,td:first-child{text-align:left}
td+td{white-space:nowrap}
.words td,.heat td{white-space:normal}
.words td{text-align:left}
.heat{table-layout:fixed}
.heat th:first-child{width:4rem}
.heat td{padding:.28rem 0;text-align:center;border:2px solid var(--card);border-radius:.3rem}
.heat th{text-align:center;vertical-align:middle}
.heat td.none{color:var(--soft);font-size:.75rem;line-height:1.2;
background:repeating-linear-gradient(45deg,transparent 0 5px,var(--edge) 5px 6px)}
@media (max-width:26rem){body{padding:1rem .7rem 2rem}figure{padding:.7rem .6rem}th,td{padding:.28rem .25rem}
.tiles{grid-template-columns:1fr 1fr}.tile{padding:.6rem .7rem}.tile b{font-size:1.35rem}
.heat td{font-size:.75rem}.heat td.none{font-size:.6875rem}.heat th:first-child{width:3.4rem}}
footer{margin-top:2.5rem;border-top:1px solid var(--edge);padding-top:.8rem}
code{font:.875em ui-monospace,Menlo,Consolas,monospace}
"""


@dataclass(frozen=True)
class Heat:
    """A cell of a heat map: a value, or None and why there is none."""

    value: float | None
    text: str


def join(*parts: Html) -> Html:
    return Html("\n".join(parts))


def paragraph(text: str, soft: bool = False) -> Html:
    return Html(f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>")


def tiles(facts: Sequence[tuple[str, str]]) -> Html:
    """Figures that one should see first: (figure, what it is)."""
    shown = "".join(f'<div class="tile"><b>{escape(b)}</b><span>{escape(text)}</span></div>' for b, text in facts)
    return Html(f'<div class="tiles">{shown}</div>')


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: bool = False) -> Html:
    """Columns of figures after a first column of names; `words` keeps every column to the left."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    style = ' class="words"' if words else ""
    lead = f"<thead><tr>{top}</tr></thead>" if head else ""
    return Html(f'<div class="scroll"><table{style}>{lead}<tbody>{body}</tbody></table></div>')


Depth = Callable[[float], tuple[str, float]]
"""The colour of a value, `heat` or `cold`, and how deep it is, 0 to 1."""


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


def heat_table(corner: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[Heat]]],
               scale: Callable[[Sequence[float]], Depth] = logarithmic) -> Html:
    """A table whose cells are coloured by their values."""
    colored = scale([cell.value for _, cells in rows for cell in cells if cell.value is not None])

    def shown(cell: Heat) -> str:
        if cell.value is None:
            return f'<td class="none">{escape(cell.text)}</td>'
        color, depth = colored(cell.value)
        return f'<td style="background:rgba(var(--{color}),{0.06 + 0.44 * depth:.2f})">{escape(cell.text)}</td>'

    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in (corner, *head))
    body = "".join(f'<tr><th scope="row">{escape(name)}</th>{"".join(map(shown, cells))}</tr>' for name, cells in rows)
    lead = f"<thead><tr>{top}</tr></thead>"
    return Html(f'<div class="scroll"><table class="heat">{lead}<tbody>{body}</tbody></table></div>')


def details(summary: str, inside: Html) -> Html:
    return Html(f"<details><summary>{escape(summary)}</summary>{inside}</details>")


def figure(title: str, drawing: Html, caption: str = "", data: Html | None = None) -> Html:
    """A drawing or table under its title, with the figures it shows folded away beneath."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    below += details("Figures", data) if data else ""
    return Html(f"<figure><h3>{escape(title)}</h3>{drawing}{below}</figure>")


def figures(*shown: Html) -> Html:
    """Side by side where there is room."""
    return Html(f'<div class="plots">{"".join(shown)}</div>')


def pair(drawing: Html, wide: Html) -> Html:
    """A drawing and something wider, side by side where there is room for both."""
    return Html(f'<div class="pair">{drawing}{wide}</div>')


def section(title: str, *parts: Html) -> Html:
    return Html(f"<section><h2>{escape(title)}</h2>{join(*parts)}</section>")


def page(title: str, lead: Sequence[str], *sections: Html, foot: Sequence[str] = ()) -> str:
    """The whole document."""
    first = "".join(f'<p class="soft">{escape(line)}</p>' for line in lead)
    last = "".join(f"<p>{escape(line)}</p>" for line in foot)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{first}</header>
<main>
{join(*sections)}
</main>
<footer>{last}</footer>
</body>
</html>
"""
