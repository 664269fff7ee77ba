"""A sweep as a page (`page`) with plots (`plots`): what an adapter saves, what it costs, and the floors beneath."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import v2l
from v2l.bench.speed.amortization import pays_after
from v2l.bench.speed.cells import AdapterTimes, CellPlan, Missing, PromptTimes, SpeedCell
from v2l.bench.speed.sweep import SpeedSweep
from v2l.bench.speed.words import edges_text, machine_text, missing_text, speeds_text
from v2l.report import page
from v2l.report.grid import Grid, Heat, Scale, logarithmic
from v2l.report.plots import Axis, Callout, Html, Line, Point, line_plot
from v2l.wording import duration_text, number_text, ratio_text, size_text

_GB = 1e9
_HATCHED = "Hatched: not measured, and about how long that would take."


def speed_page(sweep: SpeedSweep) -> str:
    """The page, complete and self-contained."""
    ran = sum(cell.both is not None for cell in sweep.cells)
    lead = [
        f"{sweep.model} with the hypernetwork {sweep.hypernetwork}, computing in {sweep.dtype}.",
        f"{machine_text(sweep.machine)}. Measured in the same run: {speeds_text(sweep.machine)}.",
        f"{ran} of {len(sweep.cells)} cells measured whole; a cell of N frames is a drawn 16:9 clip from which N "
        f"frames were really sampled, {sweep.setting.fps:g} a second.",
    ]
    foot = [
        f"Made by v2l {v2l.__version__}: v2l bench speed --report. Every cell ran in a process of its own; times are "
        f"medians of up to {sweep.setting.repeats}, with everything loaded and warm. The question: "
        f"{sweep.setting.question}",
        "Floors: the arithmetic of the method as published, at the rate measured for products of matrices, and the "
        "bytes of the weights, at the rate measured for reading memory. Where fewer operations give the same result, a "
        "measurement may come below.",
    ]
    sections = [_headline(sweep), _saves(sweep), _costs(sweep), _asking(sweep), _everything(sweep)]
    return page.page("What a video adapter saves", lead, *sections, foot=foot)


# -- the sections ----------------------------------------------------------------------------------------------------


def _headline(sweep: SpeedSweep) -> Html:
    facts = []
    top = max(sweep.plans, key=sweep.reduction)
    facts.append((f"{number_text(sweep.reduction(top))}×", f"fewer prompt tokens, {_cell_name(top)}"))
    for cell in sweep.amortized()[-1:]:
        facts.append((ratio_text(cell.ttft_ratio), f"sooner to the first token, {_cell_name(cell.plan)}"))
    if sweep.ask_times:
        first_s, read_s = sweep.ask_times[0], sweep.shapes.text_bytes / sweep.machine.bandwidth
        facts.append((duration_text(first_s), f"to the first token from an adapter: {ratio_text(first_s / read_s)} the "
                      "time to read the text model's weights once"))
    for cell in sweep.examples()[:1]:
        facts.append((_watch_text(cell), f"to watch {_cell_name(cell.plan)}: {ratio_text(_over_floor(sweep, cell))} "
                      "the time of the arithmetic alone"))
    return page.tiles(facts)


def _cell_name(plan: CellPlan) -> str:
    return f"{plan.frames:,} frames at {plan.resolution} px"


def _saves(sweep: SpeedSweep) -> Html:
    tokens = _by_resolution(sweep, lambda cell: _point(
        cell, sweep.reduction(cell.plan), f"{cell.plan.direct_tokens:,} tokens"))
    ratio = _by_resolution(sweep, lambda cell: _point(cell, cell.ttft_ratio, ratio_text(cell.ttft_ratio)))
    shown = [page.figure(
        "Fewer prompt tokens", line_plot("Prompt tokens, video in the prompt over adapter, against frames",
                                         _frames_axis(sweep), Axis("times fewer (token reduction)"), tokens),
        f"The adapter's prompt has {sweep.adapter_tokens} tokens, whatever the video. Counted with the model's "
        "tokenizer for every cell, measured or not.",
        _grid(sweep, lambda cell: f"{cell.plan.direct_tokens:,}"))]
    if any(line.points for line in ratio):
        shown.append(page.figure(
            "Sooner to the first token", line_plot("Time to the first token, video in the prompt over adapter, "
                                                   "against frames", _frames_axis(sweep), Axis("times sooner"), ratio),
            "From the question, and for the video in the prompt its file, to the first token of the answer.",
            _grid(sweep, lambda cell: ratio_text(cell.ttft_ratio) if cell.both else _why(cell))))
        shown.append(page.figure("Times sooner: frames × pixels", _heat(sweep, lambda cell: cell.ttft_ratio, _whole),
                                 _HATCHED if any(cell.both is None for cell in sweep.cells) else ""))
    shown += [_amortization(sweep, cell) for cell in sweep.amortized()]
    over = [cell for cell in sweep.cells if cell.plan.direct_tokens > sweep.max_positions]
    words = []
    if over:
        words.append(page.paragraph(
            f"Prompts of more than {sweep.max_positions:,} tokens have more positions than the text model was "
            f"made for; that is so from {min(c.plan.direct_tokens for c in over):,} tokens on, in {len(over)} of "
            f"{len(sweep.cells)} cells. Their cost is true, their answers are not to be trusted.", soft=True))
    return page.section("What an adapter saves", page.figures(*shown), *words)


def _costs(sweep: SpeedSweep) -> Html:
    def watching(cell: SpeedCell) -> Point | None:
        if isinstance(cell.watch, AdapterTimes):
            return _point(cell, cell.watch.watch_s, duration_text(cell.watch.watch_s))
        if cell.watch.status in ("not run", "stopped"):
            return Point(cell.plan.frames, cell.watch.about_s, "estimated", f"{_cell_name(cell.plan)}: {_why(cell)}")
        return None

    def floor(cell: SpeedCell) -> Point:
        return Point(cell.plan.frames, sweep.floors(cell.plan).watch_s)

    floors = [Line("", line.points, line.color, floor=True) for line in _by_resolution(sweep, floor)]
    shown = [page.figure(
        "Watching, once", line_plot("Seconds to watch a video, against frames", _frames_axis(sweep), Axis("seconds"),
                                    floors + _by_resolution(sweep, watching)),
        "From the video file to the adapter. Broken lines: the floor of the arithmetic, in the resolution's colour. "
        + _estimated_note(sweep),
        _grid(sweep, _watch_text))]
    if any(isinstance(cell.watch, AdapterTimes) for cell in sweep.cells):
        shown.append(page.figure(
            "Watching over its floor: frames × pixels",
            _heat(sweep, lambda cell: _over_floor(sweep, cell), lambda cell: [cell.watch]),
            "Time to watch, over the time the arithmetic alone would take at the rate measured. "
            + (_HATCHED if any(isinstance(cell.watch, Missing) for cell in sweep.cells) else "")))
        shown += [_parts(sweep, cell) for cell in sweep.examples() if cell.parts]
        shown += [figure for figure in (
            _memory(sweep, "Memory while watching", lambda cell: cell.watch),
            _memory(sweep, "Memory with the video in the prompt", lambda cell: cell.direct)) if figure]
    return page.section("What it costs", page.figures(*shown))


def _asking(sweep: SpeedSweep) -> Html:
    rows = []
    watched = [cell.watch for cell in sweep.cells if isinstance(cell.watch, AdapterTimes)]
    read_s = sweep.shapes.text_bytes / sweep.machine.bandwidth
    if sweep.ask_times:
        first, token = sweep.ask_times
        rows += [("First token from an adapter, warm", duration_text(first), f"{ratio_text(first / read_s)} the floor"),
                 ("Each token after", f"{duration_text(token)}, {number_text(1 / token)} a second",
                  f"{read_s / token:.0%} of the bandwidth"),
                 ("Adapter file", size_text(max(w.file_size for w in watched)), "")]
    rows.append(("Floor: reading the text model's weights once", duration_text(read_s),
                 f"{size_text(sweep.shapes.text_bytes)} at {size_text(sweep.machine.bandwidth)} a second"))
    if sweep.cold:
        peak = f"at most {size_text(sweep.cold.peak)} of memory" if sweep.cold.peak else ""
        rows.append(("First token of a cold v2l ask process", duration_text(sweep.cold.first_s), peak))
    if sweep.throughput:
        throughput = sweep.throughput
        rows.append((f"{throughput.adapters} adapters asked as one batch", duration_text(throughput.batched_s),
                     f"{ratio_text(throughput.one_by_one_s / throughput.batched_s)} faster than one by one "
                     f"({duration_text(throughput.one_by_one_s)}), {throughput.new_tokens} tokens"))
    return page.section("Asking", Grid((), rows, left=(0, 1, 2)).html())


def _everything(sweep: SpeedSweep) -> Html:
    head = ["cell", "tokens", "reduction", "watching", "over floor", "reading", "first token", "in the prompt",
            "sooner", "cached", "peak", "peak, prompt", "pays from question"]
    rows = []
    for cell in sweep.cells:
        watch = cell.watch if isinstance(cell.watch, AdapterTimes) else None
        direct = cell.direct if isinstance(cell.direct, PromptTimes) else None
        over = _over_floor(sweep, cell)
        rows.append([
            _cell_name(cell.plan), f"{cell.plan.direct_tokens:,}", f"{number_text(sweep.reduction(cell.plan))}×",
            _watch_text(cell), ratio_text(over), duration_text(watch.read_s) if watch else "",
            duration_text(watch.ttft_s) if watch else "", _direct_text(cell), ratio_text(cell.ttft_ratio),
            duration_text(direct.cached_ttft_s) if direct else "", _size(watch.peak if watch else None),
            _size(direct.peak if direct else None), _pays_text(cell),
        ])
    earlier = [page.paragraph(f"{sweep.earlier} halves of cells were taken over from an earlier run on this machine.",
                              soft=True)] if sweep.earlier else []
    return page.section("Every cell", *earlier, page.details("All figures", Grid(head, rows).html()))


# -- drawings --------------------------------------------------------------------------------------------------------


def _frames_axis(sweep: SpeedSweep) -> Axis:
    return Axis("frames", ticks=sweep.frames, text=lambda value: f"{value:.0f}")


def _point(cell: SpeedCell, value: float | None, text: str) -> Point | None:
    return None if value is None else Point(cell.plan.frames, value, note=f"{_cell_name(cell.plan)}: {text}")


def _by_resolution(sweep: SpeedSweep, point: Callable[[SpeedCell], Point | None]) -> list[Line]:
    """A line for each resolution; those that run the same way are one."""
    lines: list[tuple[list[int], list[Point]]] = []
    for edge in sweep.resolutions:
        cells = sorted((c for c in sweep.cells if c.plan.resolution == edge), key=lambda c: c.plan.frames)
        points = [p for p in map(point, cells) if p is not None]
        same = next((edges for edges, others in lines if _places(others) == _places(points)), None)
        if same is not None:
            same.append(edge)
        else:
            lines.append(([edge], points))
    return [Line(edges_text(edges), points, sweep.resolutions.index(edges[0])) for edges, points in lines]


def _places(points: Sequence[Point]) -> list[tuple[float, float]]:
    return [(p.x, round(p.y, 9)) for p in points]


def _amortization(sweep: SpeedSweep, cell: SpeedCell) -> Html:
    assert cell.both is not None and cell.pays is not None
    adapter, direct = cell.both
    ways = (("adapter", adapter.watch_s + adapter.bind_s, adapter.ttft_s), ("in the prompt", 0.0, direct.ttft_s),
            ("cached prompt", direct.setup_s, direct.cached_ttft_s))
    crossings = {name: pays_after(*ways[0][1:], *rest) for name, *rest in ways[1:]}
    last = min(max([100, *(3 * n for n in crossings.values() if n)]), 100_000)
    counts = sorted({round(last ** (i / 60)) for i in range(61)})
    lines = [Line(name, [Point(n, setup + n * each) for n in counts], color, marks=False)
             for color, (name, setup, each) in enumerate(ways)]
    calls = [Callout(n, ways[0][1] + n * ways[0][2], f"question {n:,}")
             for n in dict.fromkeys(crossings.values()) if n and n <= last]
    rows = [[name, duration_text(setup) if setup else "0", duration_text(each),
             "" if name == "adapter" else _first_question(crossings[name])] for name, setup, each in ways]
    return page.figure(
        f"When watching pays: {_cell_name(cell.plan)}",
        line_plot(f"Seconds spent against questions asked, {_cell_name(cell.plan)}", Axis("questions asked"),
                  Axis("seconds spent in all"), lines, calls),
        "Up to the first token of each answer; circles mark the question from which on the adapter is cheaper. A "
        "cached prompt holds the video's keys and values in memory, as long as the process lives.",
        Grid(["way", "once", "each question", "adapter cheaper from"], rows).html())


def _parts(sweep: SpeedSweep, cell: SpeedCell) -> Html:
    """Where the time of watching goes."""
    parts, floors = cell.parts or {}, sweep.floors(cell.plan).parts
    names = {"vision": "frames and vision", "decoder": "decoder", "hypernetwork": "hypernetwork"}
    rows = [[names[part], duration_text(seconds), duration_text(floors[part]), ratio_text(seconds / floors[part])]
            for part, seconds in parts.items()]
    whole, least = sum(parts.values()), sum(floors.values())
    rows.append(["together", duration_text(whole), duration_text(least), ratio_text(whole / least)])
    return page.figure(f"Where it goes: {_cell_name(cell.plan)}", Grid(["", "took", "floor", "over"], rows).html(),
                       "The hypernetwork's floor is that of the method as written; less arithmetic gives the same.")


def _memory(sweep: SpeedSweep, title: str,
            half: Callable[[SpeedCell], AdapterTimes | PromptTimes | Missing]) -> Html | None:
    device = any(getattr(half(cell), "peak_device", None) for cell in sweep.cells)

    def peak(cell: SpeedCell) -> int | None:
        times = half(cell)
        return None if isinstance(times, Missing) else times.peak_device if device else times.peak

    def point(cell: SpeedCell) -> Point | None:
        times, size = half(cell), peak(cell)
        if isinstance(times, Missing) and times.status == "did not fit":
            return Point(cell.plan.frames, sweep.machine.memory / _GB, "missing", f"{_cell_name(cell.plan)}: no room")
        return None if size is None else _point(cell, size / _GB, size_text(size))

    def floor(cell: SpeedCell) -> Point:
        floors = sweep.floors(cell.plan)
        return Point(cell.plan.frames, (floors.watch_bytes if half(cell) is cell.watch else floors.direct_bytes) / _GB)

    lines = _by_resolution(sweep, point)
    if not any(line.points for line in lines):
        return None
    floors = [Line("", line.points, line.color, floor=True) for line in _by_resolution(sweep, floor)]
    missing = any(p.kind == "missing" for line in lines for p in line.points)
    what = "the weights" if "watching" in title else "the weights and the prompt's keys and values"
    return page.figure(
        title, line_plot(f"{title}, peak, against frames", _frames_axis(sweep), Axis("GB, peak", log=False),
                         floors + lines),
        f"Each measured in a process of its own. Broken lines: {what} alone."
        + (f" A cross did not fit into {size_text(sweep.machine.memory)}." if missing else ""),
        _grid(sweep, lambda cell: _size(peak(cell)) or missing_text(half(cell))))


def _whole(cell: SpeedCell) -> Sequence[AdapterTimes | PromptTimes | Missing]:
    return [cell.watch, cell.direct]


def _heat(sweep: SpeedSweep, value: Callable[[SpeedCell], float | None],
          halves: Callable[[SpeedCell], Sequence[AdapterTimes | PromptTimes | Missing]]) -> Html:
    """A map of values; where there is none, why the halves it needs are missing."""
    def shown(cell: SpeedCell) -> Heat:
        number = value(cell)
        return Heat(number, _briefly(halves(cell)) if number is None else ratio_text(number))

    return _grid(sweep, shown, logarithmic)


def _grid(sweep: SpeedSweep, shown: Callable[[SpeedCell], str | Heat], scale: Scale | None = None) -> Html:
    """A row for each number of frames, a column for each resolution."""
    unit = "" if scale else " px"  # a map has less room
    rows = [[f"{n:,}", *(shown(sweep.cell(n, edge)) for edge in sweep.resolutions)] for n in sweep.frames]
    return Grid(["frames", *(f"{edge}{unit}" for edge in sweep.resolutions)], rows, scale=scale).html()


# -- words -----------------------------------------------------------------------------------------------------------


def _over_floor(sweep: SpeedSweep, cell: SpeedCell) -> float | None:
    return cell.watch.watch_s / sweep.floors(cell.plan).watch_s if isinstance(cell.watch, AdapterTimes) else None


def _why(cell: SpeedCell) -> str:
    """Why a cell has no ratio."""
    return _first_failure(_whole(cell)) or next(filter(None, map(missing_text, _whole(cell))), "")


def _briefly(halves: Sequence[AdapterTimes | PromptTimes | Missing]) -> str:
    """Why there is no value, in a few letters: for what was not run, the time it would take."""
    about_s = sum(half.about_s for half in halves if isinstance(half, Missing))
    return _first_failure(halves) or f"about {duration_text(about_s)}"


def _first_failure(halves: Sequence[AdapterTimes | PromptTimes | Missing]) -> str:
    """What the first half that was tried in vain says."""
    failed = (half for half in halves if isinstance(half, Missing) and half.status in ("did not fit", "failed"))
    return next(map(missing_text, failed), "")


def _watch_text(cell: SpeedCell) -> str:
    return duration_text(cell.watch.watch_s) if isinstance(cell.watch, AdapterTimes) else missing_text(cell.watch)


def _direct_text(cell: SpeedCell) -> str:
    return duration_text(cell.direct.ttft_s) if isinstance(cell.direct, PromptTimes) else missing_text(cell.direct)


def _size(value: int | None) -> str:
    return size_text(value) if value else ""


def _pays_text(cell: SpeedCell) -> str:
    return _first_question(cell.pays["direct"]) if cell.pays else ""


def _first_question(number: int | None) -> str:
    return "never" if number is None else f"{number:,}"


def _estimated_note(sweep: SpeedSweep) -> str:
    left = [cell for cell in sweep.cells if isinstance(cell.watch, Missing)]
    return f"Hollow marks on dotted lines were not run: estimates ({len(left)} cells)." if left else ""
