"""The embedded benchmark: held-out clips of the world as video files, and what is asked about them.

It mirrors the paper's nine benchmarks, five of captions and four of questions, each with the world's own kind of it.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from v2l.manifest import Item, Turn, write_manifest
from v2l.score.text import common_subsequence
from v2l.tiny.clips import write_video
from v2l.tiny.questions import CAPTION_KINDS, ask_about
from v2l.tiny.wordings import WAYS
from v2l.tiny.world import (
    ACTIONS,
    BACKGROUND_NAMES,
    COLOR_NAMES,
    NUMBERS,
    SHAPES,
    event_count,
    held_out_clip,
)

BENCHMARK_KINDS = {
    "events": ("events",),  # ActivityNet Captions
    "dense": ("dense",),  # PLM-RDCap
    "region": ("region",),  # PLM-RCap
    "detailed": ("detailed",),  # VDC
    "objects": ("objects",),  # CaReBench
    "order": ("first", "last", "after", "before"),  # NExT-QA
    "activity": ("motion", "mover", "count"),  # ActivityNet-QA
    "scene": ("relation", "background", "color", "shape"),  # PLM-SGQA
    "presence": ("exists", "absent", "slide"),  # VidCapBench
}
"""Kinds of questions by benchmark, and which of the paper's each stands for."""
SECONDS = 12
"""Seconds of a clip, and at a frame a second its frames."""
LONG_SECONDS = 103
"""Seconds of a clip with a few more than 1,024 pictures."""
_KIND_OF = {kind: name for name, kinds in BENCHMARK_KINDS.items() for kind in kinds}
_TERMS = (
    *ACTIONS, *(way for ways in WAYS.values() for both in ways for way in both), "there is no", "nothing", "yes", "no",
    "slide", *COLOR_NAMES, *BACKGROUND_NAMES, *SHAPES, *NUMBERS)
_TERM = re.compile("|".join(rf"\b{re.escape(term)}\b" for term in sorted(set(_TERMS), key=len, reverse=True)))
_CLAUSE = re.compile(r", then |; |, (?=an? )| and (?=the )")


def write_suite(folder: Path, clips: int, seed: int = 0) -> Path:
    """Writes `clips` held-out clips of 12 seconds as mp4 files of 192 px, with one question of every kind each allows,
    and `manifest.jsonl`, whose path is returned. Same arguments, same clips and questions, and from one build of the
    encoder the same bytes."""
    return _write(folder, clips, random.Random(f"suite {seed}"), "clip", SECONDS, SECONDS)


def write_long_suite(folder: Path, clips: int, seed: int = 0) -> Path:
    """The same with clips that have the pictures for a sweep up to 1,024 frames; four frames show all that happens."""
    return _write(folder, clips, random.Random(f"long suite {seed}"), "long", LONG_SECONDS, 4)


def _write(folder: Path, clips: int, rng: random.Random, name: str, seconds: int, frames: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(clips):
        clip = held_out_clip(rng, float(seconds), event_count(rng, frames), frames)
        video = folder / f"{name}-{number:03}.mp4"
        write_video(clip, video, preset="veryfast")
        for kind in _KIND_OF:
            if (turn := ask_about(rng, clip, kind)) is not None:
                items.append(Item(f"{video.stem} {kind}", video, (Turn(turn.question, (turn.answer,), kind),),
                                  split="test", benchmark=_KIND_OF[kind],
                                  task="caption" if kind in CAPTION_KINDS else "qa"))
    write_manifest(folder / "manifest.jsonl", items)
    return folder / "manifest.jsonl"


def facts(reference: str, answer: str) -> float:
    """The share, 0 to 1, of a reference's facts that an answer states too; what is invented counts against it.

    Both are read as clauses in order (`a red ring moves down`), a clause as the world's terms in it in order (red,
    ring, moves down). Of two clauses at the same place the longest common sequence of terms counts; the sum is divided
    by the longer text's number of terms.
    """
    wanted, given = _clauses(reference), _clauses(answer)
    if not any(wanted):
        return float(reference.strip().lower() == answer.strip().lower())
    shared = sum(common_subsequence(a, b) for a, b in zip(wanted, given, strict=False))
    return shared / max(sum(map(len, wanted)), sum(map(len, given)))


def _clauses(text: str) -> list[list[str]]:
    return [_TERM.findall(clause) for clause in _CLAUSE.split(text.lower())]
