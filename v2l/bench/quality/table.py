"""A run as plain text that reads well on 40 columns and uses 100."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.bench.quality.bench import Bench
from v2l.bench.quality.finetuned import Tuned
from v2l.bench.quality.results import Row, Table
from v2l.bench.quality.sweep import Sweep
from v2l.bench.quality.words import (
    METRIC_NAMES,
    about_texts,
    arm_lines,
    cell_missing_text,
    interval_text,
    learned_lines,
    rules_texts,
    score_text,
    signed_text,
    summary_text,
    title_text,
)
from v2l.report.grid import Grid, wrapped
from v2l.score.stats import CONFIDENCE
from v2l.wording import count_of

WIDE = 92
"""Columns that the wide tables need; with the published figures beside them more."""


def bench_text(bench: Bench, width: int | None = None) -> str:
    """Tables 1 and 4, kinds of questions, arms, the sweep and fine-tuning where there are any, and how to read them."""
    found = bench.quality
    parts = [wrapped(line, width, "  ") for line in about_texts(found)]
    tables = [*found.parts, *([found.kinds] if found.kinds.rows else [])]
    for table in tables:
        parts += ["", wrapped(title_text(found, table), width), *_rows(table, width)]
        parts.append(wrapped(f"{summary_text(table)}.", width))
    parts += ["", "All arms", _grid(arm_lines(found)).text(width)]
    if bench.sweep:
        parts += ["", *_sweep(bench.sweep, bool(found.judge), width)]
    if bench.tuned:
        parts += ["", *_tuned(bench.tuned, width)]
    if tables:
        parts.append("")
        parts += [wrapped(line, width, "  ") for line in rules_texts(found.margins, bool(found.judge))]
    return "\n".join(parts)


def _rows(table: Table, width: int | None) -> list[str]:
    if width is not None and width < WIDE:
        return [line for row in table.rows for line in _narrow(row, width)]
    head = ["", "questions", "base", "adapter", "difference", f"{CONFIDENCE:.0%} CI", "verdict"]
    cells = [[row.title, f"{row.found.pairs:,}", score_text(row.found.mean_b), score_text(row.found.mean_a),
              signed_text(row.found.difference), interval_text(row.found), row.verdict] for row in table.rows]
    if any(row.published for row in table.rows):
        head.append("published: base -> adapter")
        for line, row in zip(cells, table.rows, strict=True):
            line.append(_published(row))
    return Grid(head, cells, left=(0, 6)).text().splitlines()


def _narrow(row: Row, width: int) -> list[str]:
    published = f"; published {_published(row)}" if row.published else ""
    lines = (f"{row.title}, {row.found.pairs:,} questions: {row.verdict}",
             f"  {score_text(row.found.mean_b)} -> {score_text(row.found.mean_a)}, "
             f"{signed_text(row.found.difference)} {interval_text(row.found)}{published}")
    return [wrapped(line, width, "  ") for line in lines]


def _published(row: Row) -> str:
    return f"{row.published.base:.3f} -> {row.published.adapter:.3f}" if row.published else ""


def _sweep(sweep: Sweep, judged: bool, width: int | None) -> list[str]:
    """A line for each cell; scores are those of the adapter -> of the video in the prompt."""
    metric = "judge" if judged else "token_f1"
    lines = [["frames", "pixels", "clips", "base", "adapter", "difference", f"{CONFIDENCE:.0%} CI", "degenerate",
              "prompt"]]
    other = []
    for cell in sorted(sweep.cells, key=lambda cell: (cell.resolution, cell.frames)):
        found = cell.difference(metric)
        if cell.adapter is None or cell.direct is None or found is None:
            other.append(f"{cell.frames:,} frames at {cell.resolution} px: {cell_missing_text(cell)}")
            continue
        lines.append([f"{cell.frames:,}", f"{cell.resolution}", f"{cell.clips}", score_text(found.mean_b),
                      score_text(found.mean_a), signed_text(found.difference), interval_text(found),
                      score_text(cell.direct.scores["degenerate"]), f"{cell.direct.prompt_tokens:,.0f}"])
        if cell.unreadable:
            other.append(f"{cell.frames:,} frames at {cell.resolution} px: "
                         f"{count_of(cell.unreadable, 'clip')} could not be decoded")
    head = f"Sweep, {METRIC_NAMES[metric]}; degenerate answers and tokens are those of the video in the prompt"
    return [wrapped(head, width), *([_grid(lines, left=()).text(width)] if len(lines) > 1 else ()),
            *(wrapped(line, width, "  ") for line in other)]


def _tuned(tuned: Tuned, width: int | None) -> list[str]:
    asked = tuned.taught + tuned.others
    head = (f"Fine-tuned, an adapter for each of {count_of(tuned.clips, 'clip')}: taught {tuned.taught} of {asked} "
            "questions")
    return [wrapped(head, width), _grid(learned_lines(tuned)).text(width)]


def _grid(lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Grid:
    return Grid(lines[0], lines[1:], left)
