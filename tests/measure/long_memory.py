"""The memory that watching a very long video takes: `long_memory.py FOLDER [FRAMES] [ROWS] [COLUMNS]`.

FOLDER holds a base and `hypernetwork.pt`, of true sizes (make_model.py). Watching 1,024 frames of 2 x 2 tiles is hours
of arithmetic on a few cores, so most of it is left out: image tokens are random, two decoder layers stand for all, and
of a long context's attention only the last 64 queries of every chunk are computed. Weights, buffers and shapes are the
real ones. Prints the peak memory up to the end of every stage (Linux).
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from torch import Tensor

from v2l.engine import Engine, Seen
from v2l.model import text
from v2l.model.attention import attend
from v2l.model.base import TILES_AT_ONCE


def last_queries(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    if q.shape[2] * k.shape[2] < 10_000_000:
        return attend(q, k, v, mask, causal)
    return attend(q[:, :, -64:], k, v, mask, causal).repeat(1, 1, -(-q.shape[2] // 64), 1)[:, :, : q.shape[2]]


def told(stage: str) -> None:
    print(f"{stage:<22} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB", flush=True)


@torch.inference_mode()
def main(folder: Path, frames: int, rows: int, columns: int) -> None:
    text.attend = last_queries
    engine = Engine(str(folder), str(folder / "hypernetwork.pt"))
    base, h = engine.base, engine.base.text_config.hidden_size
    base.vision(torch.zeros(TILES_AT_ONCE, 3, base.tile, base.tile, dtype=engine.dtype))
    told("vision tower")
    tiles = frames * (rows * columns + (rows * columns > 1))
    batches = [torch.randn(TILES_AT_ONCE * base.image_seq_len, h).to(engine.dtype)
               for _ in range(tiles // TILES_AT_ONCE)]
    times = [float(i) for i in range(frames)]
    seen = Seen(torch.cat(batches), times, times, (rows, columns), float(frames))
    told("image tokens")
    del batches
    ids = base.encode(seen.prompt(base.image_seq_len))
    told(f"{len(ids):,} tokens")
    hypernetwork, context = engine.hypernetwork, base.context(ids, seen.image_tokens)
    del seen
    told("context")
    for layer, features in zip(range(3), base.features(context), strict=False):
        hypernetwork(features, torch.tensor([layer]))
        told(f"decoder layer {layer}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(n) for n in (*sys.argv[2:], *("1024", "2", "2")[len(sys.argv) - 2 :])))
