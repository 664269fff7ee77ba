"""Prints what watching and training hold on a GPU at their peaks, counted from shapes without one: the tables in
v2l/bench/README.md and v2l/train/README.md. The second takes minutes.

    python -m tests.measure.gpu_memory
"""

from __future__ import annotations

import torch

from tests.support.memory import gigabytes_of_training, gigabytes_of_watching

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
print()
for model, clips, frames in (("500m", 8, 12), ("500m", 4, 12), ("500m", 2, 12), ("500m", 1, 12), ("2.2b", 8, 12)):
    sizes = (f"{gigabytes_of_training(model, clips, frames, checkpointing):.1f} GB" for checkpointing in (False, True))
    print(f"| {model}, {clips} clips of {frames} frames | {' | '.join(sizes)} |", flush=True)
