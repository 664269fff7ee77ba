"""One question to many adapters, in batches and one by one: `python tests/measure/ask_each.py [ADAPTERS]`.

Both ways read every file, in this process, with the embedded model loaded and warm. Seconds are of the processor, so
that other work on the machine does not count.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from support.watched import watched

from v2l.adapter import load, save
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model.answer import Answer
from v2l.tiny.world import held_out_clips

QUESTIONS = "Is there a red square?", "What happened?"
"""One token answers the first, twenty or so the second."""


def answered(answers: Iterable[Answer]) -> tuple[list[str], float]:
    """The answers, made as they are asked for, and the seconds they took."""
    started = time.process_time()
    texts = [answer.text for answer in answers]
    return texts, time.process_time() - started


def main(count: int) -> None:
    engine, rng = Engine("tiny", offline=True), random.Random(0)
    clips = list(held_out_clips(8))
    made = [watched(engine, clip, times, 0.0, clip.duration, f"{i}.mp4") for i, (clip, times) in enumerate(clips)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.v2lora" for i in range(count)]
        for file in files:
            save(rng.choice(made), file)
        decoding = Decoding(max_new_tokens=64)
        for question in QUESTIONS:
            answered(engine.ask_batch([(made[0], question)], decoding))
            alone, alone_s = answered(engine.ask(load(file), question, decoding).finish() for file in files)
            together, together_s = answered(engine.ask_batch(((load(file), question) for file in files), decoding))
            same = sum(one == other for one, other in zip(alone, together, strict=True))
            print(f"{question} {count} adapters: one by one {alone_s:.2f} s, in batches {together_s:.2f} s, "
                  f"{alone_s / together_s:.1f} times faster, {same} answers equal ({engine.dtype})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
