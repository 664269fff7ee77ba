"""Frames x resolution: how good the answers are where N frames of a clip are really sampled.

Every cell is about the same clips but those with too few pictures for it, which are counted. Cells run from the
cheapest on; what would end after the budget is reported as not run, never left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from v2l.bench.quality.answers import ClipTask
from v2l.bench.quality.plan import EvalClip, EvalSet, evenly
from v2l.bench.quality.results import ArmMeans, arm_means, difference, pairs_of
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Scored
from v2l.config import Sampling
from v2l.errors import ModelError, VideoError, is_memory
from v2l.model.prompt import tile_count, tile_grid
from v2l.score.stats import Paired
from v2l.video.clip import Clip, open_clip

SWEEP_ARMS = ("adapter", "direct")
Score = Callable[[Answers], list[Scored]]
"""Scores all answers."""


@dataclass(frozen=True)
class QualityCell:
    """Results for so many frames at one resolution."""

    frames: int
    resolution: int
    clips: int
    """Clips of which that many frames were sampled."""
    too_short: int
    """Clips with fewer pictures."""
    status: Literal["measured", "not run", "too short", "did not fit", "failed"] = "measured"
    reason: str = ""
    unreadable: int = 0
    """Clips that could not be decoded so."""
    about_s: float = 0.0
    """Seconds it was estimated to take, where it was not run."""
    adapter: ArmMeans | None = None
    direct: ArmMeans | None = None
    differences: tuple[tuple[str, Paired], ...] = ()
    """(metric, the adapter's scores minus those with the video in the prompt)."""

    def difference(self, metric: str) -> Paired | None:
        """The difference in a metric; None where nothing was compared."""
        return dict(self.differences).get(metric)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"differences": {metric: paired.to_json() for metric, paired in self.differences}}


@dataclass(frozen=True)
class QualitySweep:
    """All cells of a sweep."""

    cells: tuple[QualityCell, ...]
    clips: int
    """Number of clips that were taken for it."""

    @property
    def frames(self) -> list[int]:
        return sorted({cell.frames for cell in self.cells})

    @property
    def resolutions(self) -> list[int]:
        return sorted({cell.resolution for cell in self.cells})

    def cell(self, frames: int, resolution: int) -> QualityCell:
        return next(c for c in self.cells if (c.frames, c.resolution) == (frames, resolution))


@dataclass(frozen=True)
class _Opened:
    """A clip and how many pictures there are to sample from."""

    source: EvalClip
    clip: Clip
    pictures: int

    def sampling(self, frames: int, resolution: int) -> Sampling | None:
        """Looks at exactly so many frames, from the first picture to the last; None where there are too few."""
        duration = self.pictures / self.clip.info.fps
        sampling = Sampling(frames, frames / duration, 0.0, resolution, self.source.start, self.source.end)
        return sampling if len(self.clip.window(sampling).indices) == frames else None


def run_sweep(session: Session, eval_set: EvalSet, frames: Sequence[int], resolutions: Sequence[int], *, clips: int,
              budget_s: float, score: Score, margins: Mapping[str, float], seed: int) -> QualitySweep:
    """Answers and scores what the budget allows, on up to `clips` of the clips, which must be readable; `margins` by
    the metrics that are compared."""
    end = time.monotonic() + budget_s
    opened = [_opened(clip) for clip in evenly(eval_set.clips, clips)]
    tile = session.respondent.tile
    plans = sorted(((n, edge) for n in frames for edge in resolutions),
                   key=lambda plan: _work(opened, plan[0], plan[1], tile))
    done: list[tuple[float, float]] = []
    too_large = float("inf")
    cells: list[QualityCell] = []
    for n, edge in plans:
        tasks = [ClipTask(clip.source, sampling, SWEEP_ARMS) for clip in opened if (sampling := clip.sampling(n, edge))]
        cell = QualityCell(n, edge, len(tasks), len(opened) - len(tasks))
        work, size = _work(opened, n, edge, tile), max(_tiles(opened, n, edge, tile), default=0)
        about_s = _about(done, work) if session.missing(tasks) else 0.0
        session.progress(f"Sweep: {n} frames at {edge} px", len(cells), len(plans))
        if not tasks:
            cell = replace(cell, status="too short", reason="no clip has so many pictures")
        elif size >= too_large:
            cell = replace(cell, status="did not fit", reason="a smaller one did not")
        elif about_s and time.monotonic() + about_s > end:
            cell = replace(cell, status="not run", reason="beyond the budget", about_s=about_s)
        else:
            if new := bool(session.missing(tasks)):
                session.load_engine()  # one that cannot be loaded ends the run, not the cell
            started = time.monotonic()
            try:
                cell = _measured(cell, session.complete(tasks), score, margins, seed)
            except Exception as error:
                if not (is_memory(error) or isinstance(error, (ModelError, VideoError))):
                    raise
                status: Literal["did not fit", "failed"] = "did not fit" if is_memory(error) else "failed"
                too_large = size if status == "did not fit" else too_large
                cell = replace(cell, status=status, reason=str(error).split("\n")[0])
            if new:
                done.append((work, time.monotonic() - started))
        cells.append(cell)
    return QualitySweep(tuple(cells), len(opened))


def _opened(source: EvalClip) -> _Opened:
    clip = open_clip(source.video, Sampling(start=source.start, end=source.end))
    every = Sampling(frames=clip.info.frames, fps=clip.info.fps * 2, skip=0.0, start=source.start, end=source.end)
    return _Opened(source, clip, len(clip.window(every).indices))


def _work(opened: Sequence[_Opened], frames: int, edge: int, tile: int) -> float:
    """Tiles to look at, and a little more where they come from one long prompt."""
    return sum(_tiles(opened, frames, edge, tile)) * (1 + frames / 1000) * (1 + edge / 10_000)


def _tiles(opened: Sequence[_Opened], frames: int, edge: int, tile: int) -> list[int]:
    """Tiles of each clip that has so many pictures; the most of them tells what memory is needed."""
    return [frames * tile_count(tile_grid(clip.clip.info.width, clip.clip.info.height, edge, tile)) for clip in opened
            if clip.pictures >= frames]


def _about(done: Sequence[tuple[float, float]], work: float) -> float:
    """Seconds, from the measured cell nearest in work; 0 before there is one."""
    if not done:
        return 0.0
    near, elapsed = min(done, key=lambda measured: abs(measured[0] - work))
    return elapsed * work / near


def _measured(cell: QualityCell, answers: Answers, score: Score, margins: Mapping[str, float],
              seed: int) -> QualityCell:
    if not answers.by_clip:
        raise VideoError(answers.unreadable[0].reason)
    scored = score(answers)
    adapter, direct = (arm_means(arm, answers, scored) for arm in SWEEP_ARMS)
    compared = ((metric, difference(pairs_of(scored), metric, margin, seed)[0]) for metric, margin in margins.items())
    return replace(cell, clips=len(answers.of("adapter")), unreadable=len(answers.unreadable), adapter=adapter,
                   direct=direct, differences=tuple((metric, paired) for metric, paired in compared if paired))
