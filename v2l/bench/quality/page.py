"""A run as a page (`page`) with plots (`plots`, `forest`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import v2l
from v2l.bench.quality.bench import Bench
from v2l.bench.quality.finetuned import Learned, Tuned
from v2l.bench.quality.gallery import gallery
from v2l.bench.quality.results import Quality, Row, Table
from v2l.bench.quality.sweep import Cell, Sweep
from v2l.bench.quality.words import (
    METRIC_NAMES,
    about_texts,
    arm_lines,
    arm_text,
    cell_missing_text,
    interval_text,
    learned_lines,
    learned_text,
    rules_texts,
    score_text,
    signed_text,
    summary_text,
    title_text,
)
from v2l.report import page
from v2l.report.forest import Interval, forest_plot
from v2l.report.grid import Grid, Heat, Scale, diverging, share
from v2l.report.plots import Axis, Html, Line, Point, line_plot
from v2l.score.stats import CONFIDENCE
from v2l.wording import count_of, duration_text, ratio_text

_COLORS = {"equivalent": 0, "better": 2, "non-inferior": 0, "inferior": 1, "worse": 1, "inconclusive": 5}
"""Of a verdict, which is printed too."""


def quality_page(bench: Bench) -> str:
    """The page, complete and self-contained; frames of some clips are read for it."""
    found = bench.quality
    sections = [_headline(found), *(_compared(found, table) for table in found.parts)]
    if found.kinds.rows:
        sections.append(_compared(found, found.kinds))
    sections.append(_arms(found))
    if bench.sweep:
        sections.append(_sweep(bench.sweep, found))
    if bench.tuned:
        sections.append(_tuned(bench.tuned))
    sections += [
        page.section("Clips, questions, answers", page.paragraph(
            "Up to three clips about which the adapter and the video in the prompt disagree most, then others from "
            "first to last; questions they disagree about come first. ✓ exact match, ≈ token F1 of 0.5 at least, ✗ "
            "less.", soft=True), gallery(found)),
        page.section("How to read the verdicts", *map(page.paragraph, rules_texts(found.margins, bool(found.judge)))),
    ]
    foot = [f"Made by v2l {v2l.__version__}: v2l bench quality --report. Seed {found.seed}."
            + (f" {bench.earlier:,} answers were taken over from an earlier run." if bench.earlier else "")]
    return page.page("How good a video adapter's answers are", [f"{line}." for line in about_texts(found)], *sections,
                     foot=foot)


# -- the sections ----------------------------------------------------------------------------------------------------


def _headline(found: Quality) -> Html:
    arms, facts = {arm.name: arm for arm in found.arms}, []
    for table in found.tables.values():
        if table.rows:
            good = table.count("equivalent", "better", "non-inferior")
            facts.append((f"{good} of {len(table.rows)}",
                          f"benchmarks on which the adapter is shown not to be worse by {table.margin:g}, "
                          f"{METRIC_NAMES[table.metric]}: {summary_text(table)}"))
    if "adapter" in arms:
        others = ", ".join(f"{score_text(arms[name].scores['exact'])} {arm_text(name)}"
                           for name in ("direct", "budget", "none") if name in arms)
        facts.append((score_text(arms["adapter"].scores["exact"]), f"exact answers from the adapter ({others})"))
    if {"adapter", "direct"} <= arms.keys():
        ratio = arms["direct"].prompt_tokens / arms["adapter"].prompt_tokens
        facts.append((ratio_text(ratio), "fewer prompt tokens than with the video in the prompt"))
    return page.tiles(facts)


def _compared(found: Quality, table: Table) -> Html:
    """The columns of a table of the paper, and the intervals drawn."""
    title = title_text(found, table)
    published = any(row.published for row in table.rows)
    head = ["", "base", "adapter", "difference", f"{CONFIDENCE:.0%} CI", "verdict", "asked", "videos"]
    lines = [[row.title, score_text(row.found.mean_b), score_text(row.found.mean_a),
              signed_text(row.found.difference), interval_text(row.found), row.verdict, f"{row.found.pairs:,}",
              f"{row.found.clips:,}"] for row in table.rows]
    if published:
        head.append("published, base → adapter")
        for line, row in zip(lines, table.rows, strict=True):
            line.append(f"{row.published.base:.3f} → {row.published.adapter:.3f}" if row.published else "")
    caption = "Squares: adapter minus video in the prompt. Band: ± the margin."
    if published:
        caption += " Hollow diamonds: the difference the paper published, not measured here."
    return page.section(
        title, page.paragraph(f"{summary_text(table).capitalize()}."),
        page.pair(page.figure("Differences and their intervals", _forest(title, table), caption),
                  page.figure("Figures", Grid(head, lines).html())))


def _forest(title: str, table: Table) -> Html:
    def interval(row: Row) -> Interval:
        found = row.found
        note = f"{row.title}: {signed_text(found.difference)} {interval_text(found)}, {row.verdict}"
        return Interval(row.title, found.difference, found.low, found.high, row.verdict, _COLORS[row.verdict], note,
                        row.published.adapter - row.published.base if row.published else None)

    return forest_plot(title, "adapter minus video in the prompt", table.margin, [interval(row) for row in table.rows])


def _arms(found: Quality) -> Html:
    head, *rows = arm_lines(found)
    return page.section(
        "All arms", Grid(head, rows).html(),
        page.paragraph("Means over questions, tokens and times too. Watching: decoding and seeing the clip, then "
                       "making its adapter or its part of the prompt; of fewer frames their share of it. Questions are "
                       "answered in batches, of one clip with it in the prompt, of several from adapters; the time "
                       "is each one's share.", soft=True))


def _sweep(sweep: Sweep, found: Quality) -> Html:
    metric = "judge" if found.judge else "token_f1"
    name = METRIC_NAMES[metric]

    def of_arm(arm: str, metric: str) -> Callable[[Cell], float | None]:
        def value(cell: Cell) -> float | None:
            averages = cell.adapter if arm == "adapter" else cell.direct
            return averages.scores[metric] if averages else None
        return value

    def apart(cell: Cell) -> float | None:
        difference = cell.difference(metric)
        return difference.difference if difference else None

    shown = [
        page.figure(f"Adapter minus video in the prompt, {name}", _heat(sweep, apart, signed_text, diverging),
                    "Blue, +: the adapter is better. Orange, -: the video in the prompt is."),
        page.figure(f"Adapter, {name}", _heat(sweep, of_arm("adapter", metric), score_text, share)),
        page.figure(f"Video in the prompt, {name}", _heat(sweep, of_arm("direct", metric), score_text, share)),
        page.figure("Degenerate answers, video in the prompt",
                    _heat(sweep, of_arm("direct", "degenerate"), score_text, share)),
        page.figure("Degenerate answers, adapter",
                    _heat(sweep, of_arm("adapter", "degenerate"), score_text, share)),
    ]
    head = ["frames", "pixels", "clips", "too short", "base", "adapter", "difference", "CI", "prompt tokens",
            "watching, adapter", "watching, prompt", "a question, adapter", "a question, prompt"]
    rows = [_cell_row(cell, metric) for cell in sorted(sweep.cells, key=lambda c: (c.resolution, c.frames))]
    ran = sum(cell.status == "measured" for cell in sweep.cells)
    return page.section(
        "Frames × resolution", page.paragraph(
            f"{ran} of {len(sweep.cells)} cells measured, each on those of {sweep.clips} clips that have so many "
            "pictures; that many frames are really sampled, from the first picture to the last. Hatched: not measured, "
            "and why.", soft=True),
        page.figures(*shown), page.details("All figures", Grid(head, rows).html()))


def _heat(sweep: Sweep, value: Callable[[Cell], float | None], text: Callable[[float], str],
          scale: Scale) -> Html:
    def shown(cell: Cell) -> Heat:
        found = value(cell)
        if found is None:
            return Heat(None, f"about {duration_text(cell.about_s)}" if cell.about_s else cell_missing_text(cell))
        return Heat(found, text(found))

    return Grid(["frames", *(f"{edge} px" for edge in sweep.resolutions)],
                [[f"{n:,}", *(shown(sweep.cell(n, edge)) for edge in sweep.resolutions)] for n in sweep.frames],
                scale=scale).html()


def _cell_row(cell: Cell, metric: str) -> list[str]:
    row = [f"{cell.frames:,}", f"{cell.resolution}", f"{cell.clips}", f"{cell.too_short}"]
    found = cell.difference(metric)
    if cell.adapter is None or cell.direct is None or found is None:
        return [*row, cell_missing_text(cell), *[""] * 8]
    return [*row, score_text(found.mean_b), score_text(found.mean_a), signed_text(found.difference),
            interval_text(found), f"{cell.direct.prompt_tokens:,.0f}", duration_text(cell.adapter.setup_s),
            duration_text(cell.direct.setup_s), duration_text(cell.adapter.answer_s),
            duration_text(cell.direct.answer_s)]


def _tuned(tuned: Tuned) -> Html:
    steps = [arm for arm in tuned.arms if arm.steps]
    shown = [figure for figure in (
        _curve("Token F1 against steps", "steps of fine-tuning", tuned, steps, lambda arm: float(arm.steps or 0)),
        _curve("Token F1 against time", "seconds to the adapter", tuned, steps, lambda arm: arm.seconds),
    ) if steps]
    head, *rows = learned_lines(tuned)
    return page.section(
        "Fine-tuning on one clip, against watching it", page.paragraph(
            f"An adapter for each of {count_of(tuned.clips, 'clip')}, made by gradient steps on the references of "
            f"{tuned.taught} of the {tuned.taught + tuned.others} questions about them, without the video; the others "
            "were kept back.",
            soft=True),
        page.figures(*shown), page.figure("Figures", Grid(head, rows).html()))


def _curve(title: str, axis: str, tuned: Tuned, steps: Sequence[Learned], x: Callable[[Learned], float]) -> Html:
    lines = []
    kinds: tuple[tuple[str, Callable[[Learned], float | None]], ...] = (
        ("taught", lambda arm: arm.taught_f1), ("others", lambda arm: arm.others_f1))
    for color, (name, value) in enumerate(kinds):
        lines.append(Line(name, [Point(x(arm), y, note=f"{learned_text(arm)}: {score_text(y)}")
                                 for arm in steps if (y := value(arm)) is not None], color))
    first, last = x(steps[0]), x(steps[-1])
    for arm in tuned.arms:
        if arm.steps is None and (y := arm.others_f1 if tuned.others else arm.taught_f1) is not None:
            lines.append(Line(arm_text(arm.name), [Point(first, y), Point(last, y)], 2 + (arm.name == "direct"),
                              floor=True))
    return page.figure(title, line_plot(f"{title}, fine-tuned and watched", Axis(axis), Axis("token F1", log=False),
                                        lines),
                       "Broken lines: the adapter made by watching, and the video in the prompt"
                       + (", on the questions that were kept back." if tuned.others else "."))
