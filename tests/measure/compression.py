"""What `compose --max-rank` changes: `python tests/measure/compression.py [CLIPS]`.

Held-out clips of the embedded model's world are ingested, in parts of one clip or several clips together, composed,
compressed to several ranks and asked their short questions: how far the layers are from the uncompressed ones, how many
answers stay the same to the last character, and how many are right.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from v2l.adapter import Adapter
from v2l.adapter.compress import compress
from v2l.adapter.join import join
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.tiny.check import questions
from v2l.tiny.clips import write_video
from v2l.tiny.questions import SHORT_KINDS, QAPair
from v2l.video.clip import open_clip

RANKS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160)
Case = tuple[Adapter, list[QAPair]]


def parts(engine: Engine, video: Path, count: int) -> Adapter:
    """A video in so many parts of equal length, joined."""
    whole = open_clip(video, engine.sampling()).info.duration
    cuts = [whole * i / count for i in range(count + 1)]
    return join([engine.ingest(video, engine.sampling(start=a, end=b)) for a, b in pairwise(cuts)])[0]


def compare(engine: Engine, name: str, cases: list[Case]) -> None:
    right = [turn.answer for _, turns in cases for turn in turns]
    full = cases[0][0].total_rank

    def answers(adapters: list[Adapter]) -> list[str]:
        rows = ((adapter, turn.question) for adapter, (_, turns) in zip(adapters, cases, strict=True) for turn in turns)
        return [made.text for made in engine.ask_batch(rows, Decoding(max_new_tokens=16))]

    def share(found: list[str], expected: list[str]) -> float:
        return sum(a == b for a, b in zip(found, expected, strict=True)) / len(expected)

    whole = answers([adapter for adapter, _ in cases])
    print(f"\n{name}: {len(right)} answers, uncompressed {share(whole, right):.1%} right\n"
          f"{'rank':>6}{'error':>9}{'same':>8}{'right':>8}{'bytes':>11}")
    for rank in (*(rank for rank in RANKS if rank < full), full):
        small = [compress(adapter, rank) for adapter, _ in cases]
        found = answers(small)
        errors = [block["error"] for adapter in small for block in adapter.compressed]
        error = f"{sum(errors) / len(errors):.1e}" if errors else "none"
        print(f"{rank:6}{error:>9}{share(found, whole):8.1%}{share(found, right):8.1%}{small[0].file_size:11,}",
              flush=True)


def main(clips: int) -> None:
    engine = Engine("tiny", offline=True)
    with tempfile.TemporaryDirectory() as folder:
        videos: list[tuple[Path, list[QAPair]]] = []
        for i, ((clip, _), turns) in enumerate(questions(clips)):
            videos.append((Path(folder) / f"{i}.mp4", [turn for turn in turns if turn.kind in SHORT_KINDS]))
            write_video(clip, videos[-1][0])
        for count in (2, 3):
            compare(engine, f"{count} parts of a clip",
                    [(parts(engine, video, count), turns) for video, turns in videos])
        alone = [engine.ingest(video) for video, _ in videos]
        for count in (8, 16):
            groups = [range(at, at + count) for at in range(0, len(videos) - count + 1, count)]
            compare(engine, f"{count} clips together", [
                (join([alone[i] for i in group])[0], [turn for i in group for turn in videos[i][1]])
                for group in groups])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 48)
