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
from v2l.bench.speed.cells import Cell, Cold, Floors, InPrompt, Missing, Plan, Throughput, Watched
from v2l.bench.speed.floors import Shapes
from v2l.bench.speed.jobs import NoFigures, Run, cold_start, run_job
from v2l.bench.speed.journal import Journal, settled
from v2l.bench.speed.machine import Machine
from v2l.config import DEFAULT_MODEL, Sampling

_GUESS = {"watch": 4.0, "direct": 6.0}
"""Times the floor that a half is taken to need before any was measured."""
_START_S = 10.0
"""Seconds a process is taken to need besides its work, before any was measured."""

Found = Callable[[dict[str, Any]], None]
Told = Callable[[str, int, int | None], None]
"""What is being measured, how many cells are done, and of how many."""


@dataclass(frozen=True)
class Setting:
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
    """Only at the model's own resolution, where none is given."""

    def job(self, name: str, **more: Any) -> dict[str, Any]:
        return {"job": name, **asdict(self), **more}


@dataclass
class Sweep:
    """A sweep and what it has found so far."""

    setting: Setting
    model: str
    hypernetwork: str
    identity: dict[str, Any]
    """What must be the same for figures to belong together."""
    dtype: str
    adapter_tokens: int
    """Of the prompt with the question alone."""
    shapes: Shapes
    machine: Machine
    plans: list[Plan]
    cells: list[Cell] = field(default_factory=list)
    cold: Cold | None = None
    throughput: Throughput | None = None
    earlier: int = 0
    """Halves of cells taken over from an earlier run."""

    @classmethod
    def described(cls, setting: Setting, found: dict[str, Any]) -> Sweep:
        """From what `worker.describe` found."""
        machine = Machine(**found["machine"])
        identity = {
            "v2l": v2l.__version__, "model": found["model"], "base": found["fingerprint"],
            "hypernetwork": found["hypernetwork_sha256"], "dtype": found["dtype"], "machine": machine.name,
            "device": machine.device, "cores": machine.cores, "threads": machine.threads,
            "question": setting.question, "fps": setting.fps,
        }
        return cls(setting, found["model"], found["hypernetwork"], identity, found["dtype"], found["adapter_tokens"],
                   Shapes.from_json(found["shapes"]), machine, [Plan(**plan) for plan in found["plans"]])

    @property
    def frames(self) -> list[int]:
        return sorted({plan.frames for plan in self.plans})

    @property
    def resolutions(self) -> list[int]:
        return sorted({plan.resolution for plan in self.plans})

    def cell(self, frames: int, resolution: int) -> Cell:
        return next(c for c in self.cells if (c.plan.frames, c.plan.resolution) == (frames, resolution))

    @property
    def asking(self) -> tuple[float, float] | None:
        """Seconds from a question to the first token from an adapter, and of each token after: medians of the cells,
        since no video makes them longer. None before one was measured."""
        watched = [cell.watch for cell in self.cells if isinstance(cell.watch, Watched)]
        if not watched:
            return None
        return statistics.median(w.ttft_s for w in watched), statistics.median(w.token_s for w in watched)

    def shown(self) -> list[Cell]:
        """The cells to look at closely: of those watched, the cheapest with the usual number of frames, and the
        dearest."""
        watched = sorted((c for c in self.cells if isinstance(c.watch, Watched)), key=lambda c: self._cost(c.plan))
        return _first_and_last(watched)

    def amortized(self) -> list[Cell]:
        """The same of those measured whole."""
        return _first_and_last(sorted((c for c in self.cells if c.both), key=lambda c: self._cost(c.plan)))

    def _cost(self, plan: Plan) -> tuple[float, int]:
        return self.floors(plan).watch_s, plan.resolution

    def floors(self, plan: Plan) -> Floors:
        return Floors.of(self.shapes, plan, self.machine.rate(self.dtype), self.machine.bandwidth)

    def reduction(self, plan: Plan) -> float:
        """How many times fewer tokens the adapter's prompt has."""
        return plan.direct_tokens / self.adapter_tokens

    def to_json(self) -> dict[str, Any]:
        """All but the cells and what comes after them."""
        return {
            "kind": "sweep", "identity": self.identity, "model": self.model, "hypernetwork": self.hypernetwork,
            "adapter_tokens": self.adapter_tokens, "max_positions": self.shapes.max_positions,
            "repeats": self.setting.repeats, "machine": asdict(self.machine),
            "text_bytes": self.shapes.text_bytes, "plans": [asdict(plan) for plan in self.plans],
        }

    def cell_json(self, cell: Cell) -> dict[str, Any]:
        """A cell with all that is derived from it."""
        return cell.to_json() | {
            "token_reduction": self.reduction(cell.plan),
            "over_positions": cell.plan.direct_tokens > self.shapes.max_positions,
            "ttft_ratio": cell.ttft_ratio, "ttft_ratio_cached": cell.cached_ratio, "pays_after": cell.pays,
            "floors": asdict(self.floors(cell.plan)),
        }


def _first_and_last(cells: list[Cell]) -> list[Cell]:
    usual = [cell for cell in cells if cell.plan.frames == Sampling.frames] or cells
    chosen = usual[:1] + cells[-1:]
    return chosen[:1] if chosen and chosen[0] is chosen[-1] else chosen


class _Estimates:
    """How long a half will take, from the one nearest in arithmetic that was measured."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._measured: dict[str, list[tuple[float, float]]] = {"watch": [], "direct": []}
        self._start_s = _START_S

    def floor_s(self, name: str, plan: Plan) -> float:
        floors = self._sweep.floors(plan)
        return floors.watch_s if name == "watch" else floors.direct_s

    def add(self, name: str, plan: Plan, found: Watched | InPrompt, wall_s: float | None = None) -> None:
        once = _once_s(found)
        self._measured[name].append((self.floor_s(name, plan), once))
        if wall_s is not None:
            self._start_s = max(wall_s - once, 0.0)

    def seconds(self, name: str, plan: Plan) -> float:
        floor = self.floor_s(name, plan)
        guess = (floor, floor * _GUESS[name])
        near_floor, near_s = min(self._measured[name], key=lambda m: abs(math.log(m[0] / floor)), default=guess)
        return self._start_s + near_s * floor / near_floor


def _once_s(found: Watched | InPrompt) -> float:
    """Seconds of a half's work, done once."""
    if isinstance(found, Watched):
        return found.watch_s + found.read_s
    return found.ttft_s + found.setup_s


def sweep(setting: Setting, budget_s: float, *, found: Found = lambda _: None, told: Told = lambda *_: None,
          journal: Journal | None = None, run: Run | None = None) -> Sweep:
    """Measures what the budget allows. `found` is given every document as it comes: the sweep, the cold start, the
    throughput, then each cell. Cells that `journal` knows are not measured again. `run` performs a job, by default in a
    process of its own.

    Errors: V2LError where the model cannot be used at all; a cell that fails becomes `cells.Missing`.
    """
    end, run = time.monotonic() + budget_s, run or run_job
    with TemporaryDirectory() as folder:
        told("Measuring the machine", 0, None)
        described = run(setting.job("describe", result=f"{folder}/describe.json"), max(budget_s, 600.0))
        made = Sweep.described(setting, described)
        found(made.to_json())
        _Sweeping(made, Path(folder), end, budget_s, found, told, journal or Journal(None), run).all()
    return made


class _Sweeping:
    def __init__(self, made: Sweep, folder: Path, end: float, budget_s: float, found: Found, told: Told,
                 journal: Journal, run: Run) -> None:
        self.made, self.folder, self.end, self.budget_s = made, folder, end, budget_s
        self.found, self.told, self.journal, self.run = found, told, journal, run
        self.estimates = _Estimates(made)
        self.too_large: dict[str, Plan] = {}

    def all(self) -> None:
        made, known = self.made, self.journal.known(self.made.identity)
        self.journal.add(made.to_json())
        for cell in known.values():
            for name, half in (("watch", cell.watch), ("direct", cell.direct)):
                if not isinstance(half, Missing):
                    self.estimates.add(name, cell.plan, half)
        plans = sorted(made.plans, key=lambda plan: self.estimates.floor_s("direct", plan))
        self._asking(plans[0])
        for done, plan in enumerate(plans):
            self.told(f"{plan.frames} frames at {plan.resolution} px", done, len(plans))
            before = known.get((plan.frames, plan.resolution))
            watch = self._half("watch", plan, before.watch if before else None)
            if before is None:  # a half of what takes hours is not lost either
                self.journal.add(Cell(plan, watch, Missing("not run", "the sweep was interrupted", 0.0)).to_json())
            direct = self._half("direct", plan, before.direct if before else None)
            cell = Cell(plan, watch, direct)
            made.cells.append(cell)
            self.journal.add(made.cell_json(cell))
            self.found(made.cell_json(cell))

    def _asking(self, plan: Plan) -> None:
        """Many adapters at once, and `v2l ask` from a cold process."""
        made, setting, adapter = self.made, self.made.setting, self.folder / "cold.v2lora"
        self.told("Asking many adapters", 0, None)
        job = setting.job("throughput", frames=plan.frames, resolution=plan.resolution, keep=str(adapter),
                          video=self._video(plan), result=str(self.folder / "throughput.json"))
        try:
            made.throughput = Throughput(**self.run(job, self._limit_s()))
            self._report("throughput", asdict(made.throughput))
            self.told("Asking from a cold start", 0, None)
            made.cold = cold_start(_ask_words(setting, adapter), setting.repeats)
            self._report("cold", asdict(made.cold))
        except NoFigures as error:
            self._report("asking", {"status": error.status, "reason": str(error)})

    def _report(self, kind: str, values: dict[str, Any]) -> None:
        document = {"kind": kind, **values}
        self.journal.add(document)
        self.found(document)

    def _half(self, name: str, plan: Plan, before: Any) -> Any:
        """Measures one half of a cell, unless it was before or there is a reason not to."""
        if before is not None and settled(before):
            self.made.earlier += 1
            return before
        about_s = self.estimates.seconds(name, plan)
        smaller = self.too_large.get(name)
        if smaller and smaller.direct_tokens <= plan.direct_tokens and smaller.tiles <= plan.tiles:
            return Missing("did not fit", f"{smaller.frames} frames at {smaller.resolution} px did not", about_s)
        if time.monotonic() + about_s > self.end:
            return Missing("not run", "beyond the budget", about_s)
        started = time.monotonic()
        job = self.made.setting.job(name, frames=plan.frames, resolution=plan.resolution, video=self._video(plan),
                                    result=str(self.folder / "cell.json"))
        try:
            measured = self.run(job, self._limit_s())
            if measured["frames"] != plan.frames:
                raise NoFigures("failed", f"{measured['frames']} frames were sampled instead of {plan.frames}")
        except NoFigures as error:
            if error.status == "did not fit":
                self.too_large[name] = plan
            return Missing(error.status, str(error), about_s)
        half = Watched(**measured) if name == "watch" else InPrompt(**measured)
        self.estimates.add(name, plan, half, time.monotonic() - started)
        return half

    def _limit_s(self) -> float:
        """A measurement that was estimated to fit may overrun the budget by half of it, and by a minute."""
        return max(self.end - time.monotonic(), 0.0) + self.budget_s / 2 + 60

    def _video(self, plan: Plan) -> str:
        """A clip of which exactly as many frames are sampled, drawn once."""
        from v2l.bench.speed.drawn import draw

        path = self.folder / f"{plan.frames}.mp4"
        if not path.exists():
            draw(path, Sampling(frames=plan.frames, fps=self.made.setting.fps))
        return str(path)


def _ask_words(setting: Setting, adapter: Path) -> list[object]:
    """The command whose first token is waited for; its answer ends there."""
    words: list[object] = ["ask", adapter, setting.question, "--model", setting.model, "--dtype", setting.dtype,
                           "--max-new-tokens", 1, "--quiet", "--offline"]
    return words + (["--device", setting.device] if setting.device else [])
