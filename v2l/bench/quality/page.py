"""A run as a page (`report.page`) with plots (`report.plots`, `report.forest`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import v2l
from v2l.bench.quality.bench import QualityRun
from v2l.bench.quality.finetuned import FineTuned, TunedArm
from v2l.bench.quality.gallery import MOST_APART, PARTLY, gallery
from v2l.bench.quality.results import ComparedRow, ComparisonTable, Quality
from v2l.bench.quality.sweep import QualityCell, QualitySweep
from v2l.bench.quality.table import arms_grid, comparison_grid, sweep_grids, tuned_grid
from v2l.bench.quality.words import (
    LEGEND,
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
from v2l.report import page
from v2l.report.forest import Interval, forest_plot
from v2l.report.grid import Grid, Heat, Scale, diverging, share
from v2l.report.plots import Axis, Html, Line, Point, line_plot
from v2l.wording import count_of, duration_text, ratio_text

_COLORS = {"equivalent": 0, "better": 2, "non-inferior": 0, "inferior": 1, "worse": 1, "inconclusive": 5}
"""Colours of the verdicts, which are printed too."""


def quality_page(run: QualityRun) -> str:
    """The page, complete and self-contained; frames of some clips are read for it."""
    quality = run.quality
    sections = [_headline(quality), _legend(bool(quality.judge))]
    sections += [_compared(quality, table) for table in quality.parts]
    if quality.kinds.rows:
        sections.append(_compared(quality, quality.kinds))
    sections.append(_arms(quality))
    if run.sweep:
        sections.append(_sweep(run.sweep, "judge" if quality.judge else "token_f1"))
    if run.tuned:
        sections.append(_tuned(run.tuned))
    sections += [
        page.section("Clips, questions, answers", page.paragraph(
            f"Up to {MOST_APART} clips about which the adapter and the video in the prompt disagree most, then others "
            "from first to last; questions they disagree about come first. ✓ exact match, ≈ token F1 of "
            f"{PARTLY:g} at least, ✗ less.", soft=True), gallery(quality)),
        page.section("How to read the verdicts",
                     *map(page.paragraph, rules_texts(quality.margins, bool(quality.judge)))),
    ]
    foot = [f"Made by v2l {v2l.__version__}: v2l bench quality --report. Seed {quality.seed}."
            + (f" {run.earlier:,} answers were taken over from an earlier run." if run.earlier else "")]
    return page.page("How good a video adapter's answers are", [f"{line}." for line in about_texts(quality)], *sections,
                     foot=foot)


# -- the sections ----------------------------------------------------------------------------------------------------


def _headline(quality: Quality) -> Html:
    arms, facts = {arm.name: arm for arm in quality.arms}, []
    for table in quality.tables.values():
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


def _legend(judged: bool) -> Html:
    """A line for each word of the tables."""
    return page.blocks(*(page.paragraph(f"{word.capitalize()}: {meaning}.", soft=True) for word, meaning in LEGEND
                         if judged or word != "judge"))


def _compared(quality: Quality, table: ComparisonTable) -> Html:
    """A table of the paper, and its intervals drawn."""
    title = title_text(quality, table)
    caption = "Squares: adapter minus video in the prompt. Band: ± the margin."
    if any(row.published for row in table.rows):
        caption += " Hollow diamonds: the difference the paper published, not measured here."
    return page.section(
        title, page.paragraph(f"{summary_text(table).capitalize()}."),
        page.pair(page.figure("Differences and their intervals", _forest(title, table), caption),
                  page.figure("Figures", comparison_grid(table).html())))


def _forest(title: str, table: ComparisonTable) -> Html:
    def interval(row: ComparedRow) -> Interval:
        paired = row.paired
        note = f"{row.title}: {signed_text(paired.difference)} {interval_text(paired)}, {row.verdict}"
        return Interval(row.title, paired.difference, paired.low, paired.high, row.verdict, _COLORS[row.verdict], note,
                        row.published.adapter - row.published.base if row.published else None)

    return forest_plot(title, "adapter minus video in the prompt", table.margin, [interval(row) for row in table.rows])


def _arms(quality: Quality) -> Html:
    return page.section(
        "All arms", arms_grid(quality).html(),
        page.paragraph("Means over questions, tokens and times too. Watching: decoding and seeing the clip, then "
                       "making its adapter or its part of the prompt; of fewer frames their share of it. Questions are "
                       "answered in batches, of one clip with it in the prompt, of several from adapters; the time "
                       "is each one's share.", soft=True))


def _sweep(sweep: QualitySweep, metric: str) -> Html:
    name = METRIC_NAMES[metric]

    def of_arm(arm: str, metric: str) -> Callable[[QualityCell], float | None]:
        def value(cell: QualityCell) -> float | None:
            means = cell.adapter if arm == "adapter" else cell.direct
            return means.scores[metric] if means else None
        return value

    def apart(cell: QualityCell) -> float | None:
        paired = cell.difference(metric)
        return paired.difference if paired else None

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
    ran = sum(cell.status == "measured" for cell in sweep.cells)
    return page.section(
        "Frames × resolution", page.paragraph(
            f"{ran} of {len(sweep.cells)} cells measured, each on those of {sweep.clips} clips that have so many "
            "pictures; that many frames are really sampled, from the first picture to the last. Hatched: not measured, "
            "and why.", soft=True),
        page.figures(*shown),
        page.details("All figures", page.blocks(*(grid.html() for grid in sweep_grids(sweep, metric)))))


def _heat(sweep: QualitySweep, value: Callable[[QualityCell], float | None], text: Callable[[float], str],
          scale: Scale) -> Html:
    def heat(cell: QualityCell) -> Heat:
        figure = value(cell)
        if figure is None:
            return Heat(None, f"about {duration_text(cell.about_s)}" if cell.about_s else cell_missing_text(cell))
        return Heat(figure, text(figure))

    return Grid(["frames", *(f"{edge} px" for edge in sweep.resolutions)],
                [[f"{n:,}", *(heat(sweep.cell(n, edge)) for edge in sweep.resolutions)] for n in sweep.frames],
                scale=scale).html()


def _tuned(tuned: FineTuned) -> Html:
    steps = [arm for arm in tuned.arms if arm.steps]
    shown = [figure for figure in (
        _curve("Token F1 against steps", "steps of fine-tuning", tuned, steps, lambda arm: float(arm.steps or 0)),
        _curve("Token F1 against time", "seconds to the adapter", tuned, steps, lambda arm: arm.seconds),
    ) if steps]
    return page.section(
        "Fine-tuning on one clip, against watching it", page.paragraph(
            f"An adapter for each of {count_of(tuned.clips, 'clip')}, made by gradient steps on the references of "
            f"{tuned.taught} of the {tuned.taught + tuned.others} questions about them, without the video; the others "
            "were kept back.",
            soft=True),
        page.figures(*shown), page.figure("Figures", tuned_grid(tuned).html()))


def _curve(title: str, axis: str, tuned: FineTuned, steps: Sequence[TunedArm], x: Callable[[TunedArm], float]) -> Html:
    lines = []
    kinds: tuple[tuple[str, Callable[[TunedArm], float | None]], ...] = (
        ("taught", lambda arm: arm.taught_f1), ("others", lambda arm: arm.others_f1))
    for color, (name, value) in enumerate(kinds):
        lines.append(Line(name, [Point(x(arm), y, note=f"{tuned_arm_text(arm)}: {score_text(y)}")
                                 for arm in steps if (y := value(arm)) is not None], color))
    first, last = x(steps[0]), x(steps[-1])
    for arm in tuned.arms:
        if arm.steps is None and (y := arm.others_f1 if tuned.others else arm.taught_f1) is not None:
            color = 3 if arm.name == "direct" else 2
            lines.append(Line(arm_text(arm.name), [Point(first, y), Point(last, y)], color, floor=True))
    return page.figure(title, line_plot(f"{title}, fine-tuned and watched", Axis(axis), Axis("token F1", log=False),
                                        lines),
                       "Broken lines: the adapter made by watching, and the video in the prompt"
                       + (", on the questions that were kept back." if tuned.others else "."))
