"""What it saves to look at equal tiles once: `tiles.py MODEL [FRAMES,...] [RESOLUTION] [--count]`.

A recorded screen, slides, slides with someone who moves, and slides with grain are written by x264 and watched, at 12,
128 and 1,024 frames: how many tiles there are, how many are looked at, and the seconds of seeing them with that and
without, one after the other. With --count the tiles are counted and nothing is computed, for what would take hours.
MODEL is `tiny`, or a folder of true sizes (make_model.py).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.screens import film, grain, lecture, one_by_one, screen, slides
from v2l.engine import Engine
from v2l.model.prompt import cut_tiles
from v2l.video.clip import open_clip

PICTURES: dict[str, Callable[[float], np.ndarray]] = {
    "screen": screen, "slides": slides, "slides, someone": lecture, "slides, grain": grain}


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def main(model: str, frames: list[int], resolution: int | None, count: bool) -> None:
    folder = Path(model) / "hypernetwork.pt"
    engine = Engine(model, str(folder) if folder.exists() else None, offline=True)
    base = engine.base
    sampling = engine.sampling(resolution=resolution)
    looked = [0]
    if not count:
        base.see([np.zeros((4, base.tile, base.tile, 3), np.uint8)])
        base.vision.register_forward_pre_hook(lambda _, given: looked.__setitem__(0, looked[0] + len(given[0])))
    print(f"{model}, {sampling.resolution} px, {engine.dtype}, {engine.threads} threads", flush=True)
    for number in frames:
        for name, picture in PICTURES.items():
            asked = engine.sampling(frames=number, resolution=resolution)
            with tempfile.TemporaryDirectory() as place:
                clip = open_clip(film(Path(place) / "film.mp4", picture, number + 3), asked)
                tiles = [cut_tiles(frame.image, asked.resolution, base.tile) for frame in clip.frames()]
            total, distinct = sum(map(len, tiles)), len({tile.tobytes() for each in tiles for tile in each})
            row = f"{number:>5} frames, {name:<16} {total:>5} tiles, {distinct:>5} distinct"
            if not count:
                looked[0] = 0
                found, once = timed(partial(base.see, iter(tiles)))
                seen, (right, each) = looked[0], timed(partial(one_by_one, base, tiles))
                assert torch.equal(found, right)
                row += f", {seen:>5} looked at, {once:7.2f} s instead of {each:7.2f} s"
            print(row, flush=True)


def arguments(given: list[str]) -> Iterator[object]:
    plain = [word for word in given if word != "--count"]
    yield plain[0]
    yield [int(n) for n in plain[1].split(",")] if len(plain) > 1 else [12, 128, 1024]
    yield int(plain[2]) if len(plain) > 2 else None
    yield "--count" in given


if __name__ == "__main__":
    main(*arguments(sys.argv[1:]))  # type: ignore[arg-type]
