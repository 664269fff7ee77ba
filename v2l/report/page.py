"""A report as one self-contained page: tables (`grid`), drawings (`plots`) and words, readable on a phone, light or
dark; `page.css` is its style.

No script, no network; valid as XML too. Functions take plain text and escape it; what is already markup is `Html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from v2l.report.plots import Html, escape

_STYLE = Path(__file__).with_name("page.css")


def blocks(*parts: Html) -> Html:
    """Pieces of a page, one below the other."""
    return Html("\n".join(parts))


def paragraph(text: str, soft: bool = False) -> Html:
    """A paragraph; `soft` for remarks, smaller and paler."""
    return Html(f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>")


def tiles(facts: Sequence[tuple[str, str]]) -> Html:
    """Figures that one should see first: (figure, what it is)."""
    shown = "".join(f'<div class="tile"><b>{escape(b)}</b><span>{escape(text)}</span></div>' for b, text in facts)
    return Html(f'<div class="tiles">{shown}</div>')


def details(summary: str, inside: Html) -> Html:
    """Something folded away under its summary."""
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
    """Pieces of a page under a heading."""
    return Html(f"<section><h2>{escape(title)}</h2>{blocks(*parts)}</section>")


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
<style>{_STYLE.read_text("utf-8")}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{first}</header>
<main>
{blocks(*sections)}
</main>
<footer>{last}</footer>
</body>
</html>
"""
