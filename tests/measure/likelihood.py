"""How often the check of a model is wrong: `python -m tests.measure.likelihood [CLIPS] [DTYPE]`.

Held-out clips of the embedded model's world are watched; each is scored with its own adapter as it is, and with every
fault of `tests.support.broken`. Counted are the groups of 1, 2 and 4 clips, one group beginning with each clip, that
the check finds at fault.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.broken import FAULTS, Fault
from v2l.bench.likelihood import Likelihood, measure_likelihood, pooled, problems
from v2l.engine import Engine
from v2l.tiny.clips import write_video
from v2l.tiny.world import held_out_clips
from v2l.video.clip import open_clip
from v2l.wording import count_of

GROUPS = (1, 2, 4)
APART = 11
"""Clips from one of a group to the next."""


def main(clips: int, dtype: str) -> None:
    engine, watched = Engine("tiny", dtype=dtype, offline=True), []
    with tempfile.TemporaryDirectory() as folder:
        for number, (clip, _) in enumerate(held_out_clips(clips, seed=7)):
            video = Path(folder) / f"{number}.mp4"
            write_video(clip, video, preset="veryfast")
            opened = open_clip(video, engine.sampling())
            seen = engine.see(opened, engine.sampling())
            watched.append((seen, engine.ingest_seen(opened, seen, engine.sampling())))

    def scored(number: int, fault: Fault) -> Likelihood:
        seen, own = watched[number]
        _, other = watched[(number + 1) % clips]
        _, third = watched[(number + 2) % clips]
        return measure_likelihood(engine, seen, fault(own, third), other, f"{number}")

    print(f"| found at fault, of {clips} | {' | '.join(count_of(group, 'clip') for group in GROUPS)} |")
    for name, fault in {"nothing": lambda own, _: own, **FAULTS}.items():
        found = [scored(number, fault) for number in range(clips)]
        counts = [sum(bool(problems(pooled([found[(first + APART * i) % clips] for i in range(group)])))
                      for first in range(clips)) for group in GROUPS]
        print(f"| {name} | {' | '.join(map(str, counts))} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 48, sys.argv[2] if len(sys.argv) > 2 else "float32")
