"""Frames x resolution: how good the answers are where N frames of a clip are really sampled.

Every cell is about the same clips but those with too few pictures for it, which are counted. Cells run from the
cheapest on; what would end after the budget is reported as not run, never left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from v2l.bench.quality.answers import Task
from v2l.bench.quality.plan import Asked, Watch
from v2l.bench.quality.results import Arm, arm_of, difference, pairs_of
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Scored
from v2l.config import Sampling
from v2l.errors import ModelError, VideoError, is_memory
from v2l.model.prompt import tile_grid
from v2l.score.stats import Paired
from v2l.video.clip import Clip, open_clip

ARMS = ("adapter", "direct")
Score = Callable[[Answers], list[Scored]]


@dataclass(frozen=True)
class Cell:
    """What so many frames at such a resolution came to."""

    frames: int
    resolution: int
    clips: int
    """Of which that many frames were sampled."""
    too_short: int
    """Clips with fewer pictures."""
    status: Literal["measured", "not run", "too short", "did not fit", "failed"] = "measured"
    reason: str = ""
    unreadable: int = 0
    """Clips that could not be decoded so."""
    about_s: float = 0.0
    """What it was estimated to take, where it was not run."""
    adapter: Arm | None = None
    direct: Arm | None = None
    differences: tuple[tuple[str, Paired], ...] = ()
    """By metric, the adapter's minus those with the video in the prompt."""

    def difference(self, metric: str) -> Paired | None:
        return dict(self.differences).get(metric)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"differences": {metric: found.to_json() for metric, found in self.differences}}


@dataclass(frozen=True)
class Sweep:
    cells: tuple[Cell, ...]
    clips: int
    """Taken for it."""

    @property
    def frames(self) -> list[int]:
        return sorted({cell.frames for cell in self.cells})

    @property
    def resolutions(self) -> list[int]:
        return sorted({cell.resolution for cell in self.cells})

    def cell(self, frames: int, resolution: int) -> Cell:
        return next(c for c in self.cells if (c.frames, c.resolution) == (frames, resolution))


@dataclass(frozen=True)
class _Opened:
    """A clip and how many pictures there are to sample from."""

    watch: Watch
    clip: Clip
    pictures: int

    def sampling(self, frames: int, resolution: int) -> Sampling | None:
        """Looks at exactly so many frames, from the first picture to the last; None where there are too few."""
        duration = self.pictures / self.clip.info.fps
        made = Sampling(frames, frames / duration, 0.0, resolution, self.watch.start, self.watch.end)
        return made if len(self.clip.window(made).indices) == frames else None


def sweep(session: Session, asked: Asked, frames: Sequence[int], resolutions: Sequence[int], *, clips: int,
          budget_s: float, score: Score, metrics: Sequence[str], margin: Callable[[str], float], seed: int) -> Sweep:
    """Answers and scores what the budget allows, on up to `clips` of the clips, which must be readable."""
    end = time.monotonic() + budget_s
    chosen = spread(asked.watches, clips)
    opened = [_opened(watch) for watch in chosen]
    plans = sorted(((n, edge) for n in frames for edge in resolutions),
                   key=lambda plan: _work(opened, plan[0], plan[1], session.made.tile))
    done: list[tuple[float, float]] = []
    too_large = float("inf")
    cells: list[Cell] = []
    for n, edge in plans:
        tasks = [Task(one.watch, sampling, ARMS) for one in opened if (sampling := one.sampling(n, edge))]
        cell = Cell(n, edge, len(tasks), len(opened) - len(tasks))
        work = _work(opened, n, edge, session.made.tile)
        size = max(_tiles(opened, n, edge, session.made.tile), default=0)
        about_s = _about(done, work) if session.missing(tasks) else 0.0
        session.told(f"Sweep: {n} frames at {edge} px", len(cells), len(plans))
        if not tasks:
            cell = replace(cell, status="too short", reason="no clip has so many pictures")
        elif size >= too_large:
            cell = replace(cell, status="did not fit", reason="a smaller one did not")
        elif about_s and time.monotonic() + about_s > end:
            cell = replace(cell, status="not run", reason="beyond the budget", about_s=about_s)
        else:
            if fresh := bool(session.missing(tasks)):
                _ = session.engine  # one that cannot be loaded ends the run, not the cell
            started = time.monotonic()
            try:
                cell = _measured(cell, session.perform(tasks), score, metrics, margin, seed)
            except Exception as error:
                if not (is_memory(error) or isinstance(error, (ModelError, VideoError))):
                    raise
                status: Literal["did not fit", "failed"] = "did not fit" if is_memory(error) else "failed"
                too_large = size if status == "did not fit" else too_large
                cell = replace(cell, status=status, reason=str(error).split("\n")[0])
            if fresh:
                done.append((work, time.monotonic() - started))
        cells.append(cell)
    return Sweep(tuple(cells), len(opened))


def spread(watches: Sequence[Watch], count: int) -> list[Watch]:
    """So many of the clips, evenly from first to last."""
    count = min(count, len(watches))
    return [watches[(2 * i + 1) * len(watches) // (2 * count)] for i in range(count)]


def _opened(watch: Watch) -> _Opened:
    clip = open_clip(watch.video, Sampling(start=watch.start, end=watch.end))
    every = Sampling(frames=clip.info.frames, fps=clip.info.fps * 2, skip=0.0, start=watch.start, end=watch.end)
    return _Opened(watch, clip, len(clip.window(every).indices))


def _work(opened: Sequence[_Opened], frames: int, edge: int, tile: int) -> float:
    """Tiles to look at, and a little more where they come from one long prompt."""
    return sum(_tiles(opened, frames, edge, tile)) * (1 + frames / 1000) * (1 + edge / 10_000)


def _tiles(opened: Sequence[_Opened], frames: int, edge: int, tile: int) -> list[int]:
    """Of each clip that has so many pictures; the most of them tells what memory is needed."""
    grids = [tile_grid(one.clip.info.width, one.clip.info.height, edge, tile) for one in opened
             if one.pictures >= frames]
    return [frames * (rows * columns + (rows * columns > 1)) for rows, columns in grids]


def _about(done: Sequence[tuple[float, float]], work: float) -> float:
    """Seconds, from the measured cell nearest in work; 0 before there is one."""
    if not done:
        return 0.0
    near, took = min(done, key=lambda one: abs(one[0] - work))
    return took * work / near


def _measured(cell: Cell, answers: Answers, score: Score, metrics: Sequence[str], margin: Callable[[str], float],
              seed: int) -> Cell:
    if not answers.units:
        raise VideoError(answers.unreadable[0].reason)
    scored = score(answers)
    adapter, direct = (arm_of(arm, answers.of(arm).values(), scored) for arm in ARMS)
    compared = ((metric, difference(pairs_of(scored), metric, margin(metric), seed)[0]) for metric in metrics)
    return replace(cell, clips=len(answers.of("adapter")), unreadable=len(answers.unreadable), adapter=adapter,
                   direct=direct, differences=tuple((metric, found) for metric, found in compared if found))
