"""Defaults of the benches: what is measured where nothing else is asked for. The command line reads them: they are
light."""

from __future__ import annotations

from dataclasses import dataclass

QUESTION = "What happens in this video?"
"""What is asked where times are measured."""

RESOLUTIONS = (224, 336, 512, 1024)
"""Longest edges of a frame in pixels, of the published sweep (v2l/README.md section 8), on bases with tiles of 512 or
384."""
SPEED_FRAMES = (8, 12, 24, 48, 128, 256, 512, 1024)
"""Frames of the published sweep (v2l/README.md section 8)."""
QUICK_FRAMES = (8, 12, 24)
"""Frames of a quick one."""
SWEEP_FRAMES = (4, *SPEED_FRAMES)
"""Frames of a sweep of answers: the published ones, and fewer."""
SWEEP_MINUTES = 10.0
"""Nothing of a sweep, of times or of answers, is started that would end later."""
REPEATS = 3
"""Measurements of which the median is taken."""


def edge_for(tile: int, edge: int) -> int:
    """A published resolution; smaller in proportion on a base whose tiles are smaller than any of them."""
    return edge if tile >= min(RESOLUTIONS) else round(edge * tile / 512)


@dataclass(frozen=True)
class Comparing:
    """How the answers of an adapter are held against those with the video in the prompt (v2l/README.md section 8)."""

    margin: float = 0.15
    """Difference up to which a judge's scores, 0 to 1, count as equivalent."""
    f1_margin: float = 0.05
    """Difference up to which token F1 and exact match do."""
    budget_share: float = 1 / 3
    """Share of the tokens of the prompt that holds the video which a prompt with fewer frames may have, where no other
    number is given."""
    suite_clips: int = 160
    """Clips of the embedded suite."""
    sweep_clips: int = 12
    """Clips that every cell of a sweep of frames and resolutions is about, where that many are long enough."""
    tuned_clips: int = 3
    """Clips for each of which an adapter is fine-tuned, where that is asked for."""
    seed: int = 0
    """Seed of the bootstrap, of the suite's clips, and of which clips are taken where there are too many."""


ARMS = ("adapter", "direct", "budget", "none")
"""Who answers in `v2l bench quality`: the adapter; the video in the prompt; the same with fewer frames, so that the
prompt is at most so many tokens; no video at all."""
SUITES = ("tiny",)
"""Suites of embedded clips and questions."""
