"""Measurements as plain text that reads well on 40 columns and uses 100."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from v2l.bench.speed.cells import AdapterTimes, Missing, PromptTimes, SpeedCell
from v2l.bench.speed.words import machine_text, missing_text, speeds_text
from v2l.report.grid import Grid, wrapped
from v2l.wording import duration_text, number_text, size_text

if TYPE_CHECKING:
    from v2l.bench.speed.compare import Comparison, Way
    from v2l.bench.speed.sweep import SpeedSweep


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Three ways of answering side by side; the table takes 40 columns."""
    def seconds(value: float) -> str:
        return f"{value:.3g}" if value else "-"

    def pays(way: Way) -> str:
        if way is comparison.adapter:
            return "-"
        after = comparison.pays_after(way)
        return "never" if after is None else f"{after}"

    names = "adapter", "direct", "cached"
    table = Grid(["", *names], [
        ["prompt tokens", *(str(way.prompt_tokens) for way in comparison.ways)],
        ["  of the video", *(str(way.visual_tokens) for way in comparison.ways)],
        ["watching, s", *(seconds(way.setup_s) for way in comparison.ways)],
        ["first token, s", *(seconds(way.ttft_s) for way in comparison.ways)],
        ["answer, s", *(seconds(way.total_s) for way in comparison.ways)],
        ["answer, tokens", *(str(way.new_tokens) for way in comparison.ways)],
        ["pays at question", *(pays(way) for way in comparison.ways)],
    ]).text(width)
    about = [f"{comparison.model}: {comparison.video}, {comparison.frames} frames at {comparison.resolution} pixels",
             f"{comparison.device}, {comparison.dtype}, {comparison.threads} threads; median of {comparison.repeats}"]
    lines = [f"Q: {comparison.question}"]
    lines += [f"{name}: {way.answer}" for name, way in zip(("adapter", "direct"), comparison.ways, strict=False)]
    return "\n".join([*(wrapped(line, width) for line in about), "", table, "",
                      *(wrapped(line, width, "  ") for line in lines)])


# --- the sweep ---

_Columns = Sequence[tuple[str, Callable[["SpeedSweep", SpeedCell], str]]]
"""Headings, and what each column shows of a cell."""


def sweep_text(sweep: SpeedSweep, width: int | None = None) -> str:
    """A table for each resolution: narrow where the wide one does not fit."""
    wide = all(_grid(sweep, edge, _WIDE).fits(width) for edge in sweep.resolutions)
    parts = [wrapped(line, width) for line in _about(sweep)]
    for edge in sweep.resolutions:
        parts += ["", f"{edge} pixels", _grid(sweep, edge, _WIDE if wide else _NARROW).text(width)]
    parts += ["", *(wrapped(line, width, "  ") for line in _asking(sweep))]
    return "\n".join(parts)


def _grid(sweep: SpeedSweep, edge: int, columns: _Columns) -> Grid:
    cells = sorted((c for c in sweep.cells if c.plan.resolution == edge), key=lambda c: c.plan.frames)
    return Grid([heading for heading, _ in columns], [[text(sweep, cell) for _, text in columns] for cell in cells],
                left=(), notes=["\n".join(_missing(cell)) for cell in cells])


def _about(sweep: SpeedSweep) -> list[str]:
    return [f"{sweep.model}, {sweep.dtype}", machine_text(sweep.machine), speeds_text(sweep.machine),
            f"adapter's prompt: {sweep.adapter_tokens} tokens"]


def _missing(cell: SpeedCell) -> list[str]:
    names = (("watching", cell.watch), ("in the prompt", cell.direct))
    return [f"  {name}: {missing_text(half, because=True)}" for name, half in names if isinstance(half, Missing)]


def _asking(sweep: SpeedSweep) -> list[str]:
    """Lines about what does not depend on the cell."""
    lines = []
    read_s = sweep.shapes.text_bytes / sweep.machine.bandwidth
    for cell in sweep.examples():
        if cell.parts:
            floors = sweep.floors(cell.plan).parts
            shares = ", ".join(f"{part} {duration_text(seconds)} ({number_text(seconds / floors[part])}x its floor)"
                               for part, seconds in cell.parts.items())
            lines.append(f"watching {cell.plan.frames:,} frames at {cell.plan.resolution} px: {shares}")
    watched = [cell.watch for cell in sweep.cells if isinstance(cell.watch, AdapterTimes)]
    if sweep.ask_times:
        first, token = sweep.ask_times
        lines += [
            f"first token, warm: {duration_text(first)}, {number_text(first / read_s)}x reading the weights once "
            f"({duration_text(read_s)})",
            f"each token after: {duration_text(token)}, {number_text(1 / token)} a second, {read_s / token:.0%} of the "
            "bandwidth",
            f"adapter file: {size_text(max(w.file_size for w in watched))}",
        ]
    if sweep.cold:
        peak = f", {size_text(sweep.cold.peak)} of memory" if sweep.cold.peak else ""
        lines.append(f"first token, cold v2l ask: {duration_text(sweep.cold.first_s)}{peak}")
    if sweep.throughput:
        t = sweep.throughput
        lines.append(f"{t.adapters} adapters at once: {duration_text(t.batched_s)}, "
                     f"{number_text(t.one_by_one_s / t.batched_s)}x faster than one by one")
    over = [cell.plan.direct_tokens for cell in sweep.cells if cell.plan.direct_tokens > sweep.max_positions]
    if over:
        lines.append(f"prompts of {min(over):,} tokens and more have positions beyond the "
                     f"{sweep.max_positions:,} that the text model was made for")
    return lines


def _watched(show: Callable[[SpeedSweep, SpeedCell, AdapterTimes], str]) -> Callable[[SpeedSweep, SpeedCell], str]:
    return lambda sweep, cell: show(sweep, cell, cell.watch) if isinstance(cell.watch, AdapterTimes) else "-"


def _direct(show: Callable[[PromptTimes], str]) -> Callable[[SpeedSweep, SpeedCell], str]:
    return lambda sweep, cell: show(cell.direct) if isinstance(cell.direct, PromptTimes) else "-"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{number_text(value)}x"


def _pays(name: str) -> Callable[[SpeedSweep, SpeedCell], str]:
    def text(_: SpeedSweep, cell: SpeedCell) -> str:
        if cell.pays is None:
            return "-"
        return f"{cell.pays[name] or 'never'}"

    return text


def _peak(half: AdapterTimes | PromptTimes) -> str:
    size = half.peak_device or half.peak
    return size_text(size) if size else "-"


_FRAMES = ("frames", lambda _, cell: f"{cell.plan.frames:,}")
_FEWER = ("fewer\ntokens", lambda sweep, cell: _times(sweep.reduction(cell.plan)))
_WATCHING = _watched(lambda _, __, watch: duration_text(watch.watch_s))
_PEAK = _watched(lambda _, __, watch: _peak(watch))

_NARROW: _Columns = (
    _FRAMES, _FEWER, ("first\ntoken", lambda _, cell: _times(cell.ttft_ratio)), ("watch-\ning", _WATCHING),
    ("peak\nmemory", _PEAK),
)
_WIDE: _Columns = (
    _FRAMES, ("prompt\ntokens", lambda _, cell: f"{cell.plan.direct_tokens:,}"), _FEWER,
    ("first token\nadapter", _watched(lambda _, __, watch: duration_text(watch.ttft_s))),
    ("direct", _direct(lambda direct: duration_text(direct.ttft_s))),
    ("cached", _direct(lambda direct: duration_text(direct.cached_ttft_s))),
    ("ratio", lambda _, cell: _times(cell.ttft_ratio)), ("watching", _WATCHING),
    ("over\nfloor", _watched(lambda sweep, cell, watch: _times(watch.watch_s / sweep.floors(cell.plan).watch_s))),
    ("peak,\nwatching", _PEAK), ("peak,\ndirect", _direct(_peak)), ("pays\nat", _pays("direct")),
)
