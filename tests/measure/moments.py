"""How well moments are found: `python tests/measure/moments.py [--quick] [--cache DIR] [--seed N]`.

Films of the embedded model's world, of 16 and of 64 segments of 12 s, are looked through for things that are there
once, several times or never, for what they do (also for what another thing does, or the same at another time), for
words on slides and for places, in each way below. Each segment gets a score; right are the segments that show it. Films
are watched once, and what was measured of each is kept in DIR, so that a run that was stopped goes on. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))

from long_clips import SECONDS, times_of
from support.watched import watched

from v2l.adapter import load, save
from v2l.adapter.join import join
from v2l.config import SURE, Decoding
from v2l.engine import Engine
from v2l.model.claims import Claim
from v2l.strategies.parts import Parts, score_parts, surer
from v2l.tiny.questions import article, phrase
from v2l.tiny.wordings import WORDINGS
from v2l.tiny.world import (
    MOTIONS,
    OBJECTS,
    PAIR,
    SLIDE,
    SOLO,
    WORDS,
    Event,
    WorldClip,
    held_out_film,
)

FILMS, QUICK = {16: 20, 64: 4}, {16: 2, 64: 1}
FORMS = {"thing": ("{a}", "{n}", "Is there {a}?", "When does the {n} appear?"),
         "does": ("{a} {m}", "the {n} {m}", "the {n} that {m}")}
WAYS = {
    "asked": "yes or no to one question, log p(yes) - log p(no)",
    "asked, less the bias": "the same, less that of the bias alone",
    "asked, z-score": "the same, less the mean of the film's segments, over their standard deviation",
    "four wordings": "mean of four wordings, less that of the bias",
    "generated": "probability of the answer that is generated, with a minus where it is no",
    "caption": "log-probability of a caption that begins with it, less that of the bias",
    "claims": "the least over all claims (is it there, what colour has the shape, what shape has the colour, what does "
              "it do, what does so), each less the bias: `v2l find`",
}


@dataclass(frozen=True)
class Query:
    """What is looked for in a film."""

    group: str
    """thing, does, or other: slides and places."""
    times: str
    """once, several or never."""
    text: str
    thing: str
    """Name of the thing."""
    caption: str
    """Beginning of a caption that tells of it."""
    right: list[int]
    """Segments that show it."""


def film(rng: random.Random, segments: int) -> WorldClip:
    """A film whose scenes are drawn each by itself, so that things come back."""
    scenes = [held_out_film(rng, 1, SECONDS) for _ in range(segments)]
    events = [replace(event, start=event.start + SECONDS * i, end=event.end + SECONDS * i)
              for i, scene in enumerate(scenes) for event in scene.events]
    return WorldClip(tuple(events), float(segments * SECONDS), scenes[0].look)


def queries(rng: random.Random, clip: WorldClip) -> list[Query]:
    """A dozen or more, of every group."""
    out: list[Query] = []

    def add(group: str, text: str, thing: str, caption: str, shows: Callable[[Event], bool]) -> None:
        right = sorted({int(event.start // SECONDS) for event in clip.events if shows(event)})
        times = ("never", "once", "several")[min(len(right), 2)]
        out.append(Query(group, times, text, thing, f"{caption[0].upper()}{caption[1:]}", right))

    def add_thing(name: str) -> None:
        text = rng.choice(FORMS["thing"]).format(a=article(name), n=name)
        add("thing", text, name, article(name), lambda event: any(thing.name == name for thing in event.things))

    def add_motion(name: str, motion: str) -> None:
        text = rng.choice(FORMS["does"]).format(a=article(name), n=name, m=motion)
        add("does", text, name, f"{article(name)} {motion}",
            lambda event: event.kind == SOLO and (event.things[0].name, event.action) == (name, motion))

    def add_phrase(text: str, name: str) -> None:
        add("other", text, name, text, lambda event: phrase(event) == text)

    counts: dict[str, set[int]] = defaultdict(set)
    for event in clip.events:
        for thing in event.things:
            counts[thing.name].add(int(event.start // SECONDS))
    once, several = ([name for name in counts if (len(counts[name]) > 1) == many] for many in (False, True))
    gone = [f"{color} {shape}" for color, shape in OBJECTS if f"{color} {shape}" not in counts]
    for names in (once, several, gone):
        for name in rng.sample(names, min(3, len(names))):
            add_thing(name)
    done = [(event.things[0].name, event.action) for event in clip.events if event.kind == SOLO]
    for name, motion in rng.sample(done, 3):
        add_motion(name, motion)
    for name in rng.sample(sorted(counts), 2):  # there, and doing something else; two side by side stand still
        add_motion(name, rng.choice([m for m in MOTIONS if (name, m) not in done and m != "stays still"]))
    add_motion(rng.choice(gone), rng.choice(MOTIONS))
    said = [event.action for event in clip.events if event.kind == SLIDE]
    for word in [*rng.sample(said, min(1, len(said))), rng.choice([word for word in WORDS if word not in said])]:
        add_phrase(f"a slide says {word}", "slide")
    pairs = [event for event in clip.events if event.kind == PAIR]
    for event in rng.sample(pairs, min(2, len(pairs))):
        for one in (event, replace(event, things=event.things[::-1])):
            add_phrase(phrase(one), one.things[0].name)
    return out


def odds(engine: Engine, parts: Parts, claims: Sequence[Claim]) -> list[list[float]]:
    """How much surer of each claim the bias alone, then each part, is."""
    adapters = [parts.joined(()), *(parts.joined((i,)) for i in range(len(parts)))]
    rows = [(adapter, claim.question, (*claim.yes, *claim.no)) for adapter in adapters for claim in claims]
    surest = [surer(claims[i % len(claims)], found) for i, found in enumerate(engine.answer_logprobs(rows))]
    return [surest[i : i + len(claims)] for i in range(0, len(surest), len(claims))]


def less_bias(values: list[list[float]]) -> list[list[float]]:
    bias, *parts = values
    return [[value - before for value, before in zip(part, bias, strict=True)] for part in parts]


def of_one_question(engine: Engine, parts: Parts, query: Query) -> dict[str, list[float]]:
    values = odds(engine, parts, [Claim(WORDINGS["exists"][0].format(a=article(query.thing)), ("yes",), ("no",))])
    less = [part[0] for part in less_bias(values)]
    mean, spread = statistics.mean(less), statistics.pstdev(less) or 1.0
    return {"asked": [part[0] for part in values[1:]], "asked, less the bias": less,
            "asked, z-score": [(score - mean) / spread for score in less]}


def of_four_wordings(engine: Engine, parts: Parts, query: Query) -> dict[str, list[float]]:
    claims = [Claim(wording.format(a=article(query.thing)), ("yes",), ("no",)) for wording in WORDINGS["exists"]]
    return {"four wordings": [statistics.mean(part) for part in less_bias(odds(engine, parts, claims))]}


def of_answers(engine: Engine, parts: Parts, query: Query) -> dict[str, list[float]]:
    question = WORDINGS["exists"][0].format(a=article(query.thing))
    rows = ((parts.joined((i,)), question) for i in range(len(parts)))
    answers = engine.ask_batch(rows, Decoding(max_new_tokens=4))
    return {"generated": [math.exp(answer.logprob) * (1 if answer.text == "yes" else -1) for answer in answers]}


def of_captions(engine: Engine, parts: Parts, query: Query) -> dict[str, list[float]]:
    adapters = [parts.joined(()), *(parts.joined((i,)) for i in range(len(parts)))]
    rows = [(adapter, WORDINGS["events"][1], (query.caption,)) for adapter in adapters]
    bias, *found = (logprobs[0] for logprobs in engine.answer_logprobs(rows))
    return {"caption": [score - bias for score in found]}


def of_find(engine: Engine, parts: Parts, query: Query) -> dict[str, list[float]]:
    [(_, [scores])] = score_parts(engine, [parts], [query.text])
    return {"claims": scores.by_part}


MEASURED = (of_one_question, of_four_wordings, of_answers, of_captions, of_find)


def measure(engine: Engine, folder: Path, name: str, segments: int) -> list[dict[str, object]]:
    """A line for every query to one film: its group, which segments are right, and for each way scores and seconds of
    the processor."""
    file, kept = folder / f"{name}.v2lora", folder / f"{name}.json"
    if kept.exists():
        lines: list[dict[str, object]] = json.loads(kept.read_text())
        return lines
    rng = random.Random(name)
    clip = film(rng, segments)
    asked = queries(rng, clip)
    if not file.exists():
        save(join([watched(engine, clip, times_of(i), SECONDS * i, SECONDS * (i + 1), f"{name}.mp4", seed=i)
                   for i in range(segments)])[0], file)
    parts = Parts(engine, load(file))
    lines = []
    for query in asked:
        scores: dict[str, list[float]] = {}
        seconds: dict[str, float] = {}
        for measured in MEASURED:
            started = time.process_time()
            found = measured(engine, parts, query)
            seconds |= dict.fromkeys(found, time.process_time() - started)
            scores |= found
        lines.append({"group": query.group, "times": query.times, "text": query.text, "right": query.right,
                      "scores": scores, "seconds": seconds})
    kept.write_text(json.dumps(lines))
    return lines


def average_precision(scores: Sequence[float], right: Sequence[int]) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    hits = [place for place, i in enumerate(order, 1) if i in right]
    return sum(number / place for number, place in enumerate(hits, 1)) / len(right)


def best_threshold(lines: Sequence[dict], way: str) -> float:
    """The threshold at which the F1 of segments is highest."""
    pairs = sorted(((score, i in line["right"]) for line in lines for i, score in enumerate(line["scores"][way])),
                   reverse=True)
    total, hits, best = sum(right for _, right in pairs), 0, (0.0, 0.0)
    for number, (score, right) in enumerate(pairs, 1):
        hits += right
        best = max(best, (2 * hits / (number + total), score))
    return best[1]


def row(lines: Sequence[dict], way: str, threshold: float) -> list[str]:
    there, never = ([line for line in lines if bool(line["right"]) == some] for some in (True, False))
    share = lambda values: f"{100 * statistics.mean(values):.1f}" if values else ""
    segments = sum(len(line["scores"][way]) for line in lines)
    return [share([average_precision(line["scores"][way], line["right"]) for line in there]),
            share([max(range(len(s := line["scores"][way])), key=s.__getitem__) in line["right"] for line in there]),
            share([line["scores"][way][i] >= threshold for line in there for i in line["right"]]),
            share([max(line["scores"][way]) >= threshold for line in never]),
            f"{1000 * sum(line['seconds'][way] for line in lines) / segments:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few films, to see that it runs")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "v2l-moments")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    engine = Engine("tiny", dtype="float32", device="cpu", offline=True)
    found: dict[int, list[dict]] = {}
    for segments, films in (QUICK if options.quick else FILMS).items():
        found[segments] = []
        for number in range(films):
            name = f"moments-{options.seed}-{segments}-{number}"
            found[segments] += measure(engine, options.cache, name, segments)
            print(f"{segments} segments, film {number + 1} of {films}", file=sys.stderr, flush=True)
    every = [line for lines in found.values() for line in lines]
    print("\n".join(f"- {way}: {what}" for way, what in WAYS.items()))
    print("\n| segments | looked for | way | AP | recall at 1 | recall of segments | false alarms | ms a segment |")
    print("|---" * 8 + "|")
    for segments, lines in found.items():
        for group in ("thing", "does", "other"):
            of = [line for line in lines if line["group"] == group]
            times = ", ".join(f"{sum(line['times'] == word for line in of)} {word}" for word in ("once", "several",
                                                                                                "never"))
            print(f"| {segments} | *{group}: {times}* | | | | | | |")
            for way in WAYS:
                threshold = SURE if way == "claims" else best_threshold(every, way)
                print(f"| | | {way}, from {threshold:.2f} | {' | '.join(row(of, way, threshold))} |")


if __name__ == "__main__":
    main()
