"""The whole bench: answers, scores, tables, and where asked for a sweep and fine-tuned adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from v2l.bench.config import RESOLUTIONS, SWEEP_MINUTES, Comparing, edge_for
from v2l.bench.quality.finetuned import FineTuned, finetuned
from v2l.bench.quality.plan import EvalSet
from v2l.bench.quality.results import Margins, Quality
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Judging, Scored, score_answers
from v2l.bench.quality.sweep import QualitySweep, run_sweep
from v2l.errors import VideoError

MARGINS = Margins(Comparing.margin, Comparing.f1_margin)


@dataclass(frozen=True)
class SweepOptions:
    """Extent of a sweep."""

    frames: tuple[int, ...]
    resolutions: tuple[int, ...] | None = None
    """Longest edges in pixels; None: those of the published sweep, smaller in proportion to the base's tiles."""
    clips: int = Comparing.sweep_clips
    budget_s: float = SWEEP_MINUTES * 60
    eval_set: EvalSet | None = None
    """Clips and questions of the sweep; None: those of the run."""


@dataclass(frozen=True)
class TuningOptions:
    """Numbers of steps after which fine-tuned adapters are asked, and how many clips get one."""

    steps: tuple[int, ...]
    clips: int = Comparing.tuned_clips


@dataclass
class QualityRun:
    """All results of a run."""

    quality: Quality
    sweep: QualitySweep | None = None
    tuned: FineTuned | None = None
    earlier: int = 0
    """Number of answers taken over from an earlier run."""

    def to_json(self) -> dict[str, object]:
        return self.quality.to_json() | {
            "sweep": self.sweep and [cell.to_json() for cell in self.sweep.cells],
            "finetuned": self.tuned and self.tuned.to_json(),
        }


def run_quality(session: Session, eval_set: EvalSet, *, judging: Judging | None = None, margins: Margins = MARGINS,
                seed: int = Comparing.seed, sweeping: SweepOptions | None = None,
                tuning: TuningOptions | None = None) -> QualityRun:
    """Asks, scores and compares. Raises VideoError where no clip can be decoded, V2LError where the model cannot be
    used."""
    def scored(answers: Answers, of: EvalSet = eval_set) -> list[Scored]:
        return score_answers(of, answers, judging, session.store, session.progress)

    answers = session.answer(eval_set)
    if not answers.by_clip:
        raise VideoError(f"None of the {len(eval_set.clips)} clips could be decoded; {answers.unreadable[0].reason}")
    quality = Quality(session.setting, session.respondent, eval_set, answers, scored(answers),
                      judging.name if judging else "", margins, seed)
    run = QualityRun(quality)
    unreadable = {clip.clip for clip in answers.unreadable}
    readable = replace(eval_set, clips=tuple(clip for clip in eval_set.clips if clip.id not in unreadable))
    if sweeping:
        edges = sweeping.resolutions or tuple(dict.fromkeys(edge_for(session.respondent.tile, e) for e in RESOLUTIONS))
        in_sweep = sweeping.eval_set or readable
        metrics = {"token_f1": margins.token_f1, "exact": margins.token_f1} | (
            {"judge": margins.judge} if judging else {})
        run.sweep = run_sweep(session, in_sweep, sweeping.frames, edges, clips=sweeping.clips,
                              budget_s=sweeping.budget_s, score=lambda answers: scored(answers, in_sweep),
                              margins=metrics, seed=seed)
    if tuning:
        run.tuned = finetuned(session, readable, answers, tuning.steps, tuning.clips, scored)
    run.earlier = session.earlier
    return run
