"""What 12 pictures of a long video are worth: `python tests/measure/coarse.py [--minutes 1,2,...] [--clips N]`.

Films of the embedded model's world, a scene of one or two events every 12 s, are watched as `v2l ingest` does without
--segment (12 frames of the whole) and with it (12 s each), and asked about one moment, by the strategy that `v2l ask`
takes. An answer counts when the whole string is right. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from long_clips import MOMENT, SECONDS, asked, long_clip, times_of
from support.watched import watched

from v2l.adapter.join import join
from v2l.config import Decoding, Strategy
from v2l.engine import Engine
from v2l.strategies.parts import Parts
from v2l.strategies.strategy import ask_prepared, prepare
from v2l.tiny.world import sample_times
from v2l.wording import time_text

MINUTES = (0.2, 0.4, 0.6, 1, 2, 3, 5)
"""A film has no object twice, and the world has 64: enough for five minutes."""
DECODING = Decoding(max_new_tokens=32)


def right(engine: Engine, parts: Parts, questions: list[str], answers: list[str]) -> int:
    prepared = prepare(engine, parts, questions, Strategy(), DECODING)
    found = [answer.text for _, answer in ask_prepared(engine, prepared, DECODING)]
    return sum(one == other for one, other in zip(found, answers, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=lambda text: [float(x) for x in text.split(",")], default=MINUTES)
    parser.add_argument("--clips", type=int, default=24, help="of a minute or less; fewer of longer ones")
    options = parser.parse_args()
    engine = Engine("tiny", dtype="float32", device="cpu", offline=True)
    print("| minutes | a picture every | questions | whole | in segments | watching, s: whole | in segments |\n"
          "|---|---|---|---|---|---|---|", flush=True)
    for minutes in options.minutes:
        segments = max(1, round(minutes * 60 / SECONDS))
        length, oks, count, spent = segments * SECONDS, [0, 0], 0, [0.0, 0.0]
        clips = max(2, round(options.clips / max(1, minutes)))
        for number in range(clips):
            rng = random.Random(f"coarse {minutes} {number}")
            clip = long_clip(rng, segments)
            moments = [one for one in asked(rng, clip) if one.group in MOMENT]
            ask = [one.question for one in moments], [one.answer for one in moments]
            count += len(moments)
            for way, cuts in enumerate((None, range(segments))):
                started = time.perf_counter()
                if cuts is None:
                    adapter = watched(engine, clip, sample_times(length, 12), 0, length)
                else:
                    adapter = join([watched(engine, clip, times_of(i), SECONDS * i, SECONDS * (i + 1))
                                    for i in cuts])[0]
                spent[way] += time.perf_counter() - started
                oks[way] += right(engine, Parts(engine, adapter), *ask)
        print(f"| {minutes:g} | {time_text(round(length / 12))} | {count} | "
              + " | ".join(f"{100 * ok / count:.0f} %" for ok in oks) + " | "
              + " | ".join(f"{each / clips:.2g}" for each in spent) + " |", flush=True)


if __name__ == "__main__":
    main()
