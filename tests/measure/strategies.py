"""Which strategy answers from many segments best: `python tests/measure/strategies.py [--quick] [--seed N]`.

Long clips of the embedded model's world are watched in segments of 12 s and asked about one moment and about the whole,
in each way that `v2l ask --strategy` knows, `auto` choosing by the question's words. An answer counts when the whole
string is right; of what happens, by the F1 of the events it names; of when, where it names just the right segments.
`right segment` is asked of the one segment that holds the answer, which no strategy can beat by much; `timeline` gives
no single answer. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from long_clips import GROUPS, MOMENT, SECONDS, Asked, asked, long_clip, times_of
from support.watched import watched

from v2l.adapter import Adapter
from v2l.adapter.join import join
from v2l.config import STRATEGIES, Decoding, Strategy
from v2l.engine import Engine
from v2l.strategies.parts import Parts
from v2l.strategies.prepared import Prepared
from v2l.strategies.strategy import ask_prepared, prepare

CLIPS = {1: 12, 2: 24, 3: 24, 4: 24, 6: 16, 8: 16, 16: 8, 32: 6}
QUICK = {1: 2, 4: 3, 8: 2}
WAYS = [name for name in STRATEGIES if name != "each"]
"""`each` is `timeline` for a base that cannot combine answers, as the embedded one."""
DECODING = Decoding(max_new_tokens=64)
Scores = dict[tuple[int, str, str], list[float]]
"""By number of segments, group of questions and way."""


def made(engine: Engine, seed: str, segments: int) -> tuple[Adapter, list[Asked]]:
    rng = random.Random(seed)
    clip = long_clip(rng, segments)
    parts = [watched(engine, clip, times_of(i), SECONDS * i, SECONDS * (i + 1), f"{seed}.mp4") for i in range(segments)]
    return join(parts)[0], asked(rng, clip)


def answers(engine: Engine, parts: Parts, questions: list[str], way: str) -> list[tuple[Prepared, str]]:
    prepared = prepare(engine, parts, questions, Strategy(name=way), DECODING)
    return [(one, answer.text) for one, answer in ask_prepared(engine, prepared, DECODING)]


def right(q: Asked, one: Prepared, text: str) -> float:
    """How much of an answer is right, from 0 to 1."""
    if q.group == "told":
        lines = [re.sub(r"^[\d:. ]+ to [\d:.]+: ", "", line) for line in text.splitlines()]
        said = {re.sub(r"^(then|first|second|third|fourth),? ", "", name.strip().lower())
                for line in lines for name in re.split(r"[,;.]", line) if name.strip()}
        named = set(q.answer.splitlines())
        return 2 * len(said & named) / (len(said) + len(named))
    if q.group == "when":
        shown = one.by if one.strategy == "when" and not text.startswith("in none") else []
        told = one.strategy == "when" or text.startswith("there is no")
        return float(told and shown == [int(number) for number in q.answer.split()])
    if q.group == "earlier":
        return float(re.split("[:,;.]", text)[0].lower() == q.answer)
    return float(text == q.answer)


def score(engine: Engine, parts: Parts, questions: list[Asked], segments: int, scores: Scores,
          spent: dict[tuple[int, str], float]) -> None:
    words = [q.question for q in questions]
    for way in WAYS:
        started = time.perf_counter()
        given = answers(engine, parts, words, way)
        spent[segments, way] += time.perf_counter() - started
        for q, (one, text) in zip(questions, given, strict=True):
            scores[segments, q.group, way].append(right(q, one, text))
    held = [q for q in questions if q.segment is not None]
    rows = ((parts.joined([q.segment]), q.question) for q in held if q.segment is not None)
    for q, answer in zip(held, engine.ask_batch(rows, DECODING), strict=True):
        scores[segments, q.group, "right segment"].append(float(answer.text == q.answer))


def cell(values: list[float]) -> str:
    return f"{100 * sum(values) / len(values):.0f}" if values else ""


def columns(scores: Scores, segments: int, way: str) -> list[list[float]]:
    """Of each group, of those about one moment, of all."""
    of = lambda *groups: [ok for group in groups for ok in scores.get((segments, group, way), [])]
    return [*map(of, GROUPS), of(*MOMENT), of(*GROUPS)]


def table(scores: Scores, spent: dict[tuple[int, str], float]) -> str:
    heads = ["segments", "strategy", *GROUPS, "one moment", "all", "ms a question"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for k in dict.fromkeys(k for k, _, _ in scores):
        asked = columns(scores, k, WAYS[0])
        lines.append(f"| {k} | *questions* | " + " | ".join(f"*{len(oks)}*" for oks in asked) + " | |")
        for way in (*WAYS, "right segment"):
            *oks, everything = columns(scores, k, way)
            if way not in WAYS:
                everything = []  # it was not asked about the whole
            took = f"{1000 * spent[k, way] / len(everything):.0f}" if everything else ""
            lines.append(f"| {k} | {way} | " + " | ".join(map(cell, [*oks, everything])) + f" | {took} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few clips, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    engine = Engine("tiny", dtype="float32", device="cpu", offline=True)
    scores: Scores = defaultdict(list)
    spent: dict[tuple[int, str], float] = defaultdict(float)
    for segments, clips in (QUICK if options.quick else CLIPS).items():
        for clip in range(clips):
            adapter, questions = made(engine, f"long {options.seed} {segments} {clip}", segments)
            score(engine, Parts(engine, adapter), questions, segments, scores, spent)
        print(f"{segments} segments, {clips} clips", file=sys.stderr, flush=True)
    print("\n".join(f"- {group}: {what}" for group, what in GROUPS.items()) + "\n")
    print(table(scores, spent))


if __name__ == "__main__":
    main()
