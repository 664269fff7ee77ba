"""The whole bench: answers, scores, tables, and where asked for a sweep and fine-tuned adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from v2l.bench.config import RESOLUTIONS, SWEEP_MINUTES, Comparing, edge_for
from v2l.bench.quality.finetuned import Tuned, finetuned
from v2l.bench.quality.plan import Asked
from v2l.bench.quality.results import Margins, Quality
from v2l.bench.quality.run import Answers, Session
from v2l.bench.quality.score import Judging, Scored, score
from v2l.bench.quality.sweep import Sweep, sweep
from v2l.errors import VideoError

MARGINS = Margins(Comparing.margin, Comparing.f1_margin)


@dataclass(frozen=True)
class Sweeping:
    """Which sweep is wanted."""

    frames: tuple[int, ...]
    resolutions: tuple[int, ...] | None = None
    """None: those of the published sweep, or smaller ones in proportion where the base's tiles are smaller."""
    clips: int = Comparing.sweep_clips
    budget_s: float = SWEEP_MINUTES * 60
    asked: Asked | None = None
    """What is asked in it; None: the same as without it."""


@dataclass(frozen=True)
class Tuning:
    """After how many steps fine-tuned adapters are asked, and how many clips get one."""

    steps: tuple[int, ...]
    clips: int = Comparing.tuned_clips


@dataclass
class Bench:
    """Everything a run found."""

    quality: Quality
    sweep: Sweep | None = None
    tuned: Tuned | None = None
    earlier: int = 0
    """Answers taken over from an earlier run."""

    def to_json(self) -> dict[str, object]:
        return self.quality.to_json() | {
            "sweep": self.sweep and [cell.to_json() for cell in self.sweep.cells],
            "finetuned": self.tuned and self.tuned.to_json(),
        }


def bench(session: Session, asked: Asked, *, judging: Judging | None = None,
          margins: Margins = MARGINS, seed: int = Comparing.seed,
          sweeping: Sweeping | None = None, tuning: Tuning | None = None) -> Bench:
    """Runs it. Raises VideoError where no clip can be decoded, V2LError where the model cannot be used."""
    def scored(answers: Answers, of: Asked = asked) -> list[Scored]:
        return score(of, answers.units, judging, session.record, session.told)

    answers = session.answer(asked)
    if not answers.units:
        raise VideoError(f"None of the {len(asked.watches)} clips could be decoded; {answers.unreadable[0].reason}")
    quality = Quality(session.setting, session.made, asked, answers, scored(answers), judging.name if judging else "",
                      margins, seed)
    found = Bench(quality)
    unreadable = {clip.watch for clip in answers.unreadable}
    readable = replace(asked, watches=tuple(watch for watch in asked.watches if watch.id not in unreadable))
    if sweeping:
        edges = sweeping.resolutions or tuple(dict.fromkeys(edge_for(session.made.tile, e) for e in RESOLUTIONS))
        metrics = {"token_f1": margins.token_f1, "exact": margins.token_f1} | (
            {"judge": margins.judge} if judging else {})
        swept = sweeping.asked or readable
        found.sweep = sweep(session, swept, sweeping.frames, edges, clips=sweeping.clips,
                            budget_s=sweeping.budget_s, score=lambda answers: scored(answers, swept),
                            metrics=list(metrics), margin=metrics.__getitem__, seed=seed)
    if tuning:
        found.tuned = finetuned(session, readable, answers, tuning.steps, tuning.clips, scored)
    found.earlier = session.earlier
    return found
