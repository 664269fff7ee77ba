"""`v2l bench speed`: frames x resolution, each cell watched into an adapter and put into the prompt.

This process only plans: every measurement runs in one of its own (`worker`), so that the memory of one is not hidden
by that of another, and one that fails takes nothing with it. Cells run from the cheapest to the dearest; one whose
estimate goes beyond the budget is reported as not run, never left out.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import v2l
from v2l.bench.config import QUESTION, REPEATS, SPEED_FRAMES
from v2l.bench.record import open_record
from v2l.bench.speed.cells import AdapterTimes, CellPlan, Cold, Floors, Missing, PromptTimes, SpeedCell, Throughput
from v2l.bench.speed.earlier import EarlierSweep, settled
from v2l.bench.speed.floors import ModelSizes
from v2l.bench.speed.jobs import NoFigures, Run, cold_start, run_job
from v2l.bench.speed.machine import Machine
from v2l.config import DEFAULT_MODEL, Sampling
from v2l.system.appended import Appended
from v2l.system.progress import Progress, silent

_GUESS = {"watch": 4.0, "direct": 6.0}
"""Times the floor that a half is taken to need before any was measured."""
_START_S = 10.0
"""Seconds a process is taken to need besides its work, before any was measured."""

Emit = Callable[[dict[str, Any]], None]
"""Takes a document of a sweep, ready for JSON."""


@dataclass(frozen=True)
class SpeedSetting:
    """What a sweep measures; what is None is the model's own."""

    model: str = DEFAULT_MODEL
    checkpoint: str | None = None
    device: str | None = None
    dtype: str = "auto"
    offline: bool = False
    question: str = QUESTION
    frames: tuple[int, ...] = SPEED_FRAMES
    resolutions: tuple[int, ...] | None = None
    fps: float = Sampling.fps
    repeats: int = REPEATS
    adapters: int = 8
    """Adapters that are asked one by one and as a batch."""
    new_tokens: int = 16
    """Tokens of each of their answers, at most."""
    seconds: float = 1.0
    """Spent on each of the machine's speeds."""
    quick: bool = False
    """Restricts a sweep without resolutions to the model's own."""

    def job(self, name: str, **more: Any) -> dict[str, Any]:
        return {"job": name, **asdict(self), **more}


@dataclass
class SpeedSweep:
    """A sweep and what it has measured so far."""

    setting: SpeedSetting
    model: str
    hypernetwork: str
    identity: dict[str, Any]
    """What must be the same for figures to belong together."""
    dtype: str
    adapter_tokens: int
    """Tokens of the prompt with the question alone."""
    shapes: ModelSizes
    machine: Machine
    plans: list[CellPlan]
    cells: list[SpeedCell] = field(default_factory=list)
    cold: Cold | None = None
    throughput: Throughput | None = None
    earlier: int = 0
    """Halves of cells taken over from an earlier run."""

    @classmethod
    def from_description(cls, setting: SpeedSetting, description: dict[str, Any]) -> SpeedSweep:
        """A sweep of what `worker.describe_model` returned."""
        machine = Machine(**description["machine"])
        identity = {
            "v2l": v2l.__version__, "model": description["model"], "base": description["fingerprint"],
            "hypernetwork": description["hypernetwork_sha256"], "dtype": description["dtype"], "machine": machine.name,
            "device": machine.device, "cores": machine.cores, "threads": machine.threads,
            "question": setting.question, "fps": setting.fps,
        }
        return cls(setting, description["model"], description["hypernetwork"], identity, description["dtype"],
                   description["adapter_tokens"], ModelSizes.from_json(description["shapes"]), machine,
                   [CellPlan(**plan) for plan in description["plans"]])

    @property
    def max_positions(self) -> int:
        """Tokens of the longest prompt that the text model was made for."""
        return self.shapes.text.max_positions

    @property
    def frames(self) -> list[int]:
        return sorted({plan.frames for plan in self.plans})

    @property
    def resolutions(self) -> list[int]:
        return sorted({plan.resolution for plan in self.plans})

    def cell(self, frames: int, resolution: int) -> SpeedCell:
        return next(c for c in self.cells if (c.plan.frames, c.plan.resolution) == (frames, resolution))

    @property
    def ask_times(self) -> tuple[float, float] | None:
        """Seconds from a question to the first token from an adapter, and of each token after: medians of the cells,
        since no video makes them longer. None before one was measured."""
        watched = [cell.watch for cell in self.cells if isinstance(cell.watch, AdapterTimes)]
        if not watched:
            return None
        return statistics.median(w.ttft_s for w in watched), statistics.median(w.token_s for w in watched)

    def examples(self) -> list[SpeedCell]:
        """Cells to look at closely: of those watched, the cheapest with the usual number of frames, and the dearest."""
        watched = sorted((c for c in self.cells if isinstance(c.watch, AdapterTimes)), key=lambda c: self._cost(c.plan))
        return _first_and_last(watched)

    def amortized(self) -> list[SpeedCell]:
        """Cells to look at closely of those of which both halves were measured, chosen as `examples` are."""
        return _first_and_last(sorted((c for c in self.cells if c.both), key=lambda c: self._cost(c.plan)))

    def _cost(self, plan: CellPlan) -> tuple[float, int]:
        return self.floors(plan).watch_s, plan.resolution

    def floors(self, plan: CellPlan) -> Floors:
        return Floors.of(self.shapes, plan, self.machine.rate(self.dtype), self.machine.bandwidth)

    def reduction(self, plan: CellPlan) -> float:
        """How many times fewer tokens the adapter's prompt has."""
        return plan.direct_tokens / self.adapter_tokens

    def to_json(self) -> dict[str, Any]:
        """The document a sweep begins with: all but its cells and what is asked beside them."""
        return {
            "kind": "sweep", "identity": self.identity, "model": self.model, "hypernetwork": self.hypernetwork,
            "adapter_tokens": self.adapter_tokens, "max_positions": self.max_positions,
            "repeats": self.setting.repeats, "machine": asdict(self.machine),
            "text_bytes": self.shapes.text_bytes, "plans": [asdict(plan) for plan in self.plans],
        }

    def cell_json(self, cell: SpeedCell) -> dict[str, Any]:
        """A cell with all that is derived from it."""
        return cell.to_json() | {
            "token_reduction": self.reduction(cell.plan),
            "over_positions": cell.plan.direct_tokens > self.max_positions,
            "ttft_ratio": cell.ttft_ratio, "ttft_ratio_cached": cell.cached_ratio, "pays_after": cell.pays,
            "floors": asdict(self.floors(cell.plan)),
        }


def _first_and_last(cells: list[SpeedCell]) -> list[SpeedCell]:
    usual = [cell for cell in cells if cell.plan.frames == Sampling.frames] or cells
    chosen = usual[:1] + cells[-1:]
    return chosen[:1] if chosen and chosen[0] is chosen[-1] else chosen


class Estimates:
    """How long a half of a cell will take, from the one nearest in arithmetic that was measured."""

    def __init__(self, sweep: SpeedSweep) -> None:
        self._sweep = sweep
        self._measured: dict[str, list[tuple[float, float]]] = {"watch": [], "direct": []}
        self._start_s = _START_S

    def floor_s(self, name: str, plan: CellPlan) -> float:
        """The least seconds a half can need, watch or direct."""
        floors = self._sweep.floors(plan)
        return floors.watch_s if name == "watch" else floors.direct_s

    def add(self, name: str, plan: CellPlan, times: AdapterTimes | PromptTimes, wall_s: float | None = None) -> None:
        """Notes what a half needed; its process `wall_s` in all."""
        once = _once_s(times)
        self._measured[name].append((self.floor_s(name, plan), once))
        if wall_s is not None:
            self._start_s = max(wall_s - once, 0.0)

    def seconds(self, name: str, plan: CellPlan) -> float:
        """Seconds a process for this half is taken to need."""
        floor = self.floor_s(name, plan)
        guess = (floor, floor * _GUESS[name])
        near_floor, near_s = min(self._measured[name], key=lambda m: abs(math.log(m[0] / floor)), default=guess)
        return self._start_s + near_s * floor / near_floor


def _once_s(times: AdapterTimes | PromptTimes) -> float:
    """Seconds of a half's work, done once."""
    return times.watch_s + times.read_s if isinstance(times, AdapterTimes) else times.ttft_s + times.setup_s


def measure_sweep(setting: SpeedSetting, budget_s: float, *, emit: Emit = lambda _: None,
                  progress: Progress = silent, record: Appended | None = None, run: Run | None = None) -> SpeedSweep:
    """Measures what the budget allows. `emit` is given every document as it comes: the sweep, the throughput, the cold
    start, then each cell. Cells that `record` knows are not measured again. `run` performs a job, by default in a
    process of its own. Progress counts cells.

    Errors: V2LError where the model cannot be used at all; a cell that fails becomes `cells.Missing`.
    """
    end, run = time.monotonic() + budget_s, run or run_job
    with TemporaryDirectory() as folder:
        progress("Measuring the machine", 0, None)
        description = run(setting.job("describe", result=f"{folder}/describe.json"), max(budget_s, 600.0))
        sweep = SpeedSweep.from_description(setting, description)
        emit(sweep.to_json())
        earlier = EarlierSweep(record or open_record(None), sweep.identity)
        _Measuring(sweep, Path(folder), end, budget_s, emit, progress, earlier, run).all()
    return sweep


class _Measuring:
    """A sweep that is under way."""

    def __init__(self, sweep: SpeedSweep, folder: Path, end: float, budget_s: float, emit: Emit, progress: Progress,
                 earlier: EarlierSweep, run: Run) -> None:
        self.sweep, self.folder, self.end, self.budget_s = sweep, folder, end, budget_s
        self.emit, self.progress, self.earlier, self.run = emit, progress, earlier, run
        self.estimates = Estimates(sweep)
        self.too_large: dict[str, CellPlan] = {}

    def all(self) -> None:
        sweep, known = self.sweep, dict(self.earlier.cells)
        self.earlier.add_sweep(sweep.to_json())
        for cell in known.values():
            for name, half in (("watch", cell.watch), ("direct", cell.direct)):
                if not isinstance(half, Missing):
                    self.estimates.add(name, cell.plan, half)
        plans = sorted(sweep.plans, key=lambda plan: self.estimates.floor_s("direct", plan))
        self._asking(plans[0])
        for done, plan in enumerate(plans):
            self.progress(f"{plan.frames} frames at {plan.resolution} px", done, len(plans))
            before = known.get((plan.frames, plan.resolution))
            watch = self._half("watch", plan, before and before.watch)
            waiting = before.direct if before else Missing("not run", "the sweep was interrupted", 0.0)
            first = SpeedCell(plan, watch, waiting)
            if not isinstance(watch, Missing):  # a half of what takes hours is not lost either
                self.earlier.add_cell(first, first.to_json())
            cell = SpeedCell(plan, watch, self._half("direct", plan, before and before.direct))
            sweep.cells.append(cell)
            self.earlier.add_cell(cell, sweep.cell_json(cell))
            self.emit(sweep.cell_json(cell))

    def _asking(self, plan: CellPlan) -> None:
        """Many adapters at once, and `v2l ask` from a cold process."""
        sweep, setting, adapter = self.sweep, self.sweep.setting, self.folder / "cold.v2lora"
        self.progress("Asking many adapters", 0, None)
        job = setting.job("throughput", frames=plan.frames, resolution=plan.resolution, keep=str(adapter),
                          video=self._video(plan), result=str(self.folder / "throughput.json"))
        try:
            sweep.throughput = Throughput(**self.run(job, self._limit_s()))
            self._report("throughput", asdict(sweep.throughput))
            self.progress("Asking from a cold start", 0, None)
            sweep.cold = cold_start(ask_words(setting, adapter), setting.repeats)
            self._report("cold", asdict(sweep.cold))
        except NoFigures as error:
            self._report("asking", {"status": error.status, "reason": str(error)})

    def _report(self, kind: str, values: dict[str, Any]) -> None:
        document = {"kind": kind, **values}
        self.earlier.add_once(document)
        self.emit(document)

    def _half(self, name: str, plan: CellPlan, before: Any) -> Any:
        """Measures one half of a cell, unless it was before or there is a reason not to."""
        if before is not None and settled(before):
            self.sweep.earlier += 1
            return before
        about_s = self.estimates.seconds(name, plan)
        smaller = self.too_large.get(name)
        if smaller and smaller.direct_tokens <= plan.direct_tokens and smaller.tiles <= plan.tiles:
            return Missing("did not fit", f"{smaller.frames} frames at {smaller.resolution} px did not", about_s)
        if time.monotonic() + about_s > self.end:
            return Missing("not run", "beyond the budget", about_s)
        started = time.monotonic()
        job = self.sweep.setting.job(name, frames=plan.frames, resolution=plan.resolution, video=self._video(plan),
                                    result=str(self.folder / "cell.json"))
        try:
            measured = self.run(job, self._limit_s())
            if measured["frames"] != plan.frames:
                raise NoFigures("failed", f"{measured['frames']} frames were sampled instead of {plan.frames}")
        except NoFigures as error:
            if error.status == "did not fit":
                self.too_large[name] = plan
            return Missing(error.status, str(error), about_s)
        half = AdapterTimes(**measured) if name == "watch" else PromptTimes(**measured)
        self.estimates.add(name, plan, half, time.monotonic() - started)
        return half

    def _limit_s(self) -> float:
        """A measurement that was estimated to fit may overrun the budget by half of it, and by a minute."""
        return max(self.end - time.monotonic(), 0.0) + self.budget_s / 2 + 60

    def _video(self, plan: CellPlan) -> str:
        """A clip of which exactly as many frames are sampled, drawn once."""
        from v2l.bench.speed.drawn import draw_video

        path = self.folder / f"{plan.frames}.mp4"
        if not path.exists():
            draw_video(path, Sampling(frames=plan.frames, fps=self.sweep.setting.fps))
        return str(path)


def ask_words(setting: SpeedSetting, adapter: Path) -> list[object]:
    """The command whose first token is waited for; its answer ends there."""
    words: list[object] = ["ask", adapter, setting.question, "--model", setting.model, "--dtype", setting.dtype,
                           "--max-new-tokens", 1, "--quiet", "--offline"]
    return words + (["--device", setting.device] if setting.device else [])
