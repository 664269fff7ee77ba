"""A run as plain text that reads well on 40 columns and uses 100."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.bench.quality.results import Quality, Row, Table
from v2l.bench.quality.words import (
    METRIC_NAMES,
    about_texts,
    arm_text,
    interval_text,
    rules_texts,
    score_text,
    signed_text,
    summary_text,
    title_text,
)
from v2l.bench.tables import wrapped
from v2l.bench.words import lasting_text

WIDE = 92
"""Columns that the wide tables need; with the published figures beside them more."""


def quality_text(found: Quality, width: int | None = None) -> str:
    """Tables 1 and 4, kinds of questions, arms, and how to read them."""
    parts = [wrapped(line, width, "  ") for line in about_texts(found)]
    tables = [table for table in (*found.tables.values(), found.kinds) if table.rows]
    for table in tables:
        parts += ["", wrapped(title_text(found, table), width), *_rows(table, width)]
        parts.append(wrapped(f"{summary_text(table)}.", width))
    parts += ["", "All arms", *_arms(found, width), ""]
    if tables:
        parts += [wrapped(line, width, "  ") for line in rules_texts(found.margins, bool(found.judge))]
    return "\n".join(parts)


def _rows(table: Table, width: int | None) -> list[str]:
    if width is not None and width < WIDE:
        return [line for row in table.rows for line in _narrow(row, width)]
    head = ["", "questions", "base", "adapter", "difference", "95% CI", "verdict"]
    cells = [[row.title, f"{row.found.pairs:,}", score_text(row.found.mean_b), score_text(row.found.mean_a),
              signed_text(row.found.difference), interval_text(row), row.verdict] for row in table.rows]
    if any(row.published for row in table.rows):
        head.append("published: base -> adapter")
        for line, row in zip(cells, table.rows, strict=True):
            line.append(_published(row))
    return aligned([head, *cells], left=(0, 6))


def _narrow(row: Row, width: int) -> list[str]:
    published = f"; published {_published(row)}" if row.published else ""
    lines = (f"{row.title}, {row.found.pairs:,} questions: {row.verdict}",
             f"  {score_text(row.found.mean_b)} -> {score_text(row.found.mean_a)}, "
             f"{signed_text(row.found.difference)} {interval_text(row)}{published}")
    return [wrapped(line, width, "  ") for line in lines]


def _published(row: Row) -> str:
    return f"{row.published.base:.3f} -> {row.published.adapter:.3f}" if row.published else ""


def _arms(found: Quality, width: int | None) -> list[str]:
    """A column for each arm, so that it fits a narrow terminal."""
    metrics = [name for name in METRIC_NAMES if name != "judge" or found.judge]
    lines = [["", *(arm_text(arm.name) for arm in found.arms)]]
    lines += [[METRIC_NAMES[name], *(score_text(arm.scores[name]) for arm in found.arms)] for name in metrics]
    lines += [
        ["prompt tokens", *(f"{arm.prompt_tokens:,.0f}" for arm in found.arms)],
        ["frames", *(f"{arm.frames:.3g}" for arm in found.arms)],
        ["watching a clip", *(lasting_text(arm.setup_s) if arm.setup_s else "-" for arm in found.arms)],
        ["a question", *(lasting_text(arm.answer_s) for arm in found.arms)],
    ]
    if width is not None and sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True)) > width:
        return [wrapped(f"{name}: {', '.join(f'{cell} {arm}' for cell, arm in zip(cells, lines[0][1:], strict=True))}",
                        width, "  ") for name, *cells in lines[1:]]
    return aligned(lines, left=(0,))


def aligned(lines: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Cells in columns, two spaces apart; the columns `left` begin together, the others end together."""
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(size) if place in left else cell.rjust(size)
                      for place, (cell, size) in enumerate(zip(line, sizes, strict=True))).rstrip() for line in lines]
