"""The tables of a run, for text and for pages, and a run as plain text that reads well on 40 columns and uses 100."""

from __future__ import annotations

from v2l.bench.quality.bench import QualityRun
from v2l.bench.quality.finetuned import FineTuned
from v2l.bench.quality.results import ComparisonTable, Quality
from v2l.bench.quality.sweep import QualityCell, QualitySweep
from v2l.bench.quality.words import (
    INTERVAL,
    METRIC_NAMES,
    about_texts,
    arm_text,
    cell_missing_text,
    interval_text,
    rules_texts,
    score_text,
    signed_text,
    summary_text,
    title_text,
    tuned_arm_text,
)
from v2l.report.grid import Grid, wrapped
from v2l.wording import count_of, duration_text


def comparison_grid(table: ComparisonTable) -> Grid:
    """The columns of a table of the paper: a row a benchmark or kind of question; published figures where there are
    any."""
    head = ["", "base", "adapter", "diff.", INTERVAL, "verdict", "asked", "videos"]
    rows = [[row.title, score_text(row.paired.mean_b), score_text(row.paired.mean_a),
             signed_text(row.paired.difference), interval_text(row.paired), row.verdict, f"{row.paired.pairs:,}",
             f"{row.paired.clips:,}"] for row in table.rows]
    if any(row.published for row in table.rows):
        head += ["paper,\nbase", "paper,\nadapter"]
        for cells, row in zip(rows, table.rows, strict=True):
            cells += [f"{row.published.base:.3f}", f"{row.published.adapter:.3f}"] if row.published else ["", ""]
    return Grid(head, rows, left=(0, 5))


def arms_grid(quality: Quality) -> Grid:
    """Means, a column for each arm."""
    arms, metrics = quality.arms, [name for name in METRIC_NAMES if name != "judge" or quality.judge]
    return Grid(["", *(arm_text(arm.name) for arm in arms)], [
        *([METRIC_NAMES[name], *(score_text(arm.scores[name]) for arm in arms)] for name in metrics),
        ["prompt tokens", *(f"{arm.prompt_tokens:,.0f}" for arm in arms)],
        ["frames", *(f"{arm.frames:.3g}" for arm in arms)],
        ["watching a clip", *(duration_text(arm.setup_s) if arm.setup_s else "-" for arm in arms)],
        ["a question", *(duration_text(arm.answer_s) for arm in arms)],
    ])


def sweep_grids(sweep: QualitySweep, metric: str) -> tuple[Grid, Grid]:
    """Scores, and costs, a row for each cell that was measured."""
    scores, costs = [], []
    for cell in in_order(sweep):
        paired = cell.difference(metric)
        if cell.adapter is None or cell.direct is None or paired is None:
            continue
        about = [f"{cell.frames:,}", f"{cell.resolution}"]
        scores.append([*about, f"{cell.clips}", f"{cell.too_short}", score_text(paired.mean_b),
                       score_text(paired.mean_a), signed_text(paired.difference), interval_text(paired),
                       score_text(cell.direct.scores["degenerate"]), score_text(cell.adapter.scores["degenerate"])])
        costs.append([*about, f"{cell.direct.prompt_tokens:,.0f}", f"{cell.adapter.prompt_tokens:,.0f}",
                      duration_text(cell.direct.setup_s), duration_text(cell.adapter.setup_s),
                      duration_text(cell.direct.answer_s), duration_text(cell.adapter.answer_s)])
    both = [f"{what}\n{who}" for what in ("tokens,", "watching,", "a question,") for who in ("base", "adapter")]
    return (Grid(["frames", "pixels", "clips", "too\nshort", "base", "adapter", "diff.", INTERVAL,
                  "degenerate,\nbase", "degenerate,\nadapter"], scores, left=()),
            Grid(["frames", "pixels", *both], costs, left=()))


def in_order(sweep: QualitySweep) -> list[QualityCell]:
    """The cells of a sweep by resolution, then by frames."""
    return sorted(sweep.cells, key=lambda cell: (cell.resolution, cell.frames))


def tuned_grid(tuned: FineTuned) -> Grid:
    """A row for each adapter that was compared."""
    return Grid(["", "to the adapter", "F1 taught", "F1 others", "exact taught", "exact others"], [
        [tuned_arm_text(arm), duration_text(arm.seconds), *map(score_text, (
            arm.taught_f1, arm.others_f1, arm.taught_exact, arm.others_exact))] for arm in tuned.arms])


def quality_text(run: QualityRun, width: int | None = None) -> str:
    """Tables 1 and 4, kinds of questions, arms, the sweep and fine-tuning where there are any, and how to read them."""
    quality = run.quality
    parts = [wrapped(line, width, "  ") for line in about_texts(quality)]
    tables = [*quality.parts, *([quality.kinds] if quality.kinds.rows else [])]
    for table in tables:
        parts += ["", wrapped(title_text(quality, table), width), comparison_grid(table).text(width),
                  wrapped(f"{summary_text(table)}.", width)]
    parts += ["", "All arms", arms_grid(quality).text(width)]
    if run.sweep:
        parts += ["", *_sweep(run.sweep, "judge" if quality.judge else "token_f1", width)]
    if run.tuned:
        parts += ["", wrapped(f"Fine-tuned, an adapter for each of {count_of(run.tuned.clips, 'clip')}: taught "
                              f"{run.tuned.taught} of {run.tuned.taught + run.tuned.others} questions", width),
                  tuned_grid(run.tuned).text(width)]
    if tables:
        parts += ["", *(wrapped(line, width, "  ") for line in rules_texts(quality.margins, bool(quality.judge)))]
    return "\n".join(parts)


def _sweep(sweep: QualitySweep, metric: str, width: int | None) -> list[str]:
    parts = [f"Sweep, {METRIC_NAMES[metric]}; base: with the video in the prompt"]
    for grid in sweep_grids(sweep, metric):
        parts += [grid.text(width)] if grid.rows else []
    for cell in in_order(sweep):
        name = f"{cell.frames:,} frames at {cell.resolution} px: "
        if cell.difference(metric) is None:
            parts.append(wrapped(name + cell_missing_text(cell), width, "  "))
        elif cell.unreadable:
            parts.append(wrapped(f"{name}{count_of(cell.unreadable, 'clip')} could not be decoded", width, "  "))
    return [wrapped(parts[0], width), *parts[1:]]
