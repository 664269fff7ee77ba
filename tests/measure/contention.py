"""A token and a clip on idle and on busy cores: `python tests/measure/contention.py [ROUNDS]`, on a quiet machine.

A token is of a text stack with the sizes of the 500M base and random weights in bfloat16, a clip is watched by the
embedded model. Beside no, one and as many busy loops as there are cores, each is timed in a process of its own as v2l
does it, with threads that always spin, and with one thread: in turns, and the median of each is printed in ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAYS = {"v2l": "", "always spinning": "", "one thread": "1"}
"""Ways to compute, and OMP_NUM_THREADS of each."""


def measured(way: str) -> tuple[float, float]:
    """Seconds of a token and of a clip, medians."""
    import torch

    from v2l.config import Sampling
    from v2l.engine import Engine
    from v2l.model.config import TextConfig
    from v2l.model.packed import pack
    from v2l.model.text import Cache, TextStack
    from v2l.system.threads import contention

    if way == "always spinning":
        contention.set_spinning = lambda spinning: None
    engine = Engine("tiny", offline=True)
    with torch.device("meta"):
        stack = TextStack(TextConfig(960, 2560, 32, 15, 5, 64, 49280, 1e-5, 1e5, 8192, False)).to(torch.bfloat16)
    stack = stack.to_empty(device="cpu").requires_grad_(False).eval()
    for parameter in stack.parameters():
        parameter.normal_(0, 0.02)
    pack(stack)
    with torch.inference_mode():
        cache = Cache(stack.config, 1, 64, torch.device("cpu"), torch.bfloat16)
        token = torch.randn(1, 1, 960, dtype=torch.bfloat16)
        stack(token, cache)
        tokens = [_timed(lambda: stack(token, cache)) for _ in range(24)]
    clip = ROOT / "examples" / "two-shapes.mp4"
    clips = [_timed(lambda: engine.ingest(clip, Sampling(resolution=engine.files.resolution))) for _ in range(4)]
    return statistics.median(tokens), statistics.median(clips[1:])


def _timed(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


def main(rounds: int) -> None:
    cores = os.cpu_count() or 1
    for loops in sorted({0, 1, cores}):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
        try:
            figures: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way, threads in WAYS.items():
                    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
                    env |= {"PYTHONPATH": str(ROOT)} | ({"OMP_NUM_THREADS": threads} if threads else {})
                    done = subprocess.run([sys.executable, __file__, "--way", way], env=env, check=True, text=True,
                                          stdout=subprocess.PIPE)
                    token, clip = map(float, done.stdout.split())
                    figures[way].append((token, clip))
        finally:
            for process in busy:
                process.kill()
        for way, pairs in figures.items():
            token, clip = (1000 * statistics.median(values) for values in zip(*pairs, strict=True))
            print(f"{loops} busy loops, {way:16} token {token:7.1f} ms, clip {clip:8.1f} ms", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        print(*measured(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
