"""A few drawn clips with questions for the quality bench, and scores worked out once more in the plainest way."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from v2l.bench.quality.answers import AnswerStore, SavedAnswer
from v2l.bench.quality.plan import EvalSetting, Question
from v2l.bench.quality.run import Session
from v2l.bench.quality.score import Scored
from v2l.bench.record import open_record
from v2l.engine import Engine
from v2l.manifest import Item, Turn, write_manifest
from v2l.tiny.clips import write_video
from v2l.tiny.questions import ask_about
from v2l.tiny.world import held_out_clips

CLIPS = 5
KINDS = {"events": "vdc", "background": "next-qa", "last": "next-qa", "motion": "own"}
"""Kinds of questions and the benchmark each is given to; not in the order of the paper."""


def draw(folder: Path) -> Path:
    """Writes the clips and the manifest that asks about them; returns its path."""
    items = []
    for number, (clip, _) in enumerate(held_out_clips(CLIPS, seed=3)):
        write_video(clip, folder / f"{number}.mp4", size=64)
        rng = random.Random(number)
        turns = {kind: turn for kind in ("motion", *KINDS) if (turn := ask_about(rng, clip, kind))}
        items += [Item(f"{number}-{kind}", folder / f"{number}.mp4", (Turn(turn.question, (turn.answer,), kind),),
                       split="test", benchmark=KINDS[kind]) for kind, turn in turns.items()]
    write_manifest(folder / "clips.jsonl", items)
    return folder / "clips.jsonl"


def session(setting: EvalSetting, journal: Path | None = None, engine: Engine | None = None, **options: Any) -> Session:
    """One whose model is `engine`; without one, that a model is asked for fails the test."""
    def load() -> Engine:
        assert engine is not None, "no model should be needed"
        return engine

    file = open_record(journal)
    file.close()  # so that a test's next session is the next run
    return Session(setting, AnswerStore(file, setting), load, **options)


def answers(journal: Path) -> dict[str, dict[str, str]]:
    """Texts by arm, then by question."""
    found: dict[str, dict[str, str]] = {}
    for line in journal.read_text().splitlines():
        document = json.loads(line)
        if document["kind"] == "answers":
            found.setdefault(document["arm"], {}).update({a["question"]: a["text"] for a in document["answers"]})
    return found


def made_up(benchmark: str, number: int, shift: float, noise: float) -> list[Scored]:
    """Two answers to one question and their scores: 0.5 with the video in the prompt, about `shift` more from the
    adapter."""
    question = Question(f"{benchmark}/{number}/1", benchmark, "", "What?", ("this",))
    wobble = noise * (-1) ** number
    given = SavedAnswer(question.id, "What?", "", 1, 0, 1, 0.1)
    return [Scored(question, f"{benchmark} {number}", arm, given, value, 0.0, 0.0, 0.0, value)
            for arm, value in (("direct", 0.5), ("adapter", 0.5 + shift + wobble))]


def words(text: str) -> list[str]:
    return [word for word in re.sub(r"[^\w\s]", "", text.lower()).split() if word not in ("a", "an", "the")]


def f1(answer: str, reference: str) -> float:
    a, b = Counter(words(answer)), Counter(words(reference))
    common = sum((a & b).values())
    precision, recall = (common / max(1, sum(c.values())) for c in (a, b))
    return 2 * precision * recall / (precision + recall) if common else 0.0


def holm(p: list[float]) -> list[float]:
    """Each p-value by its rank: never less than a smaller one's."""
    order = sorted(p)
    return [min(1.0, max((len(p) - rank) * other for rank, other in enumerate(order) if other <= value))
            for value in p]
