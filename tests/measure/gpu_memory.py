"""Prints what watching holds on a GPU at its peak, counted from shapes without one: the table in v2l/bench/README.md.

    python -m tests.measure.gpu_memory
"""

from __future__ import annotations

import torch

from tests.support.memory import gigabytes_of_watching

CLIPS = {
    "500m": {"128, 384": 9_906, "1,024, 384": 78_898, "1,024, 1024": 351_282},
    "2.2b": {"1,024, 384": 96_306, "1,024, 1024": 608_306},
}
"""Tokens of the prompts of so many frames of so many pixels."""

for model, clips in CLIPS.items():
    for clip, tokens in clips.items():
        sizes = (f"{gigabytes_of_watching(model, tokens, dtype):.1f} GB"
                 for dtype in (torch.bfloat16, torch.float16, torch.float32))
        print(f"| {model}, {clip} | {tokens:,} | {' | '.join(sizes)} |")
