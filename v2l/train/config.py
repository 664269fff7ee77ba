"""Defaults of training alone, in frozen dataclasses; change one with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import dataclass

CAPTION_PROMPTS = (
    "Describe the video in detail.",
    "Describe what happens in this video.",
    "What happens in this video?",
    "Give a short summary of the video.",
    "Write a caption for this video.",
)
"""Prompts for plain videos, one for each: a hypernetwork that met a single wording would learn that wording."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a hypernetwork's training: as published (v2l/README.md section 8), where that says."""

    steps: int = 60_000
    """Updates of the weights."""
    epochs: float | None = None
    """Passes over the clips instead of steps."""
    batch_size: int = 8
    """Clips at once, on each process."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    optimizer: str = "adamw"
    lr: float = 1e-4
    muon_lr: float = 0.02
    """Learning rate of the matrices where the optimizer is muon; `lr` is then that of the rest."""
    weight_decay: float = 0.01
    warmup: float = 0.03
    """Share of the steps over which the rate rises; then it falls as a cosine."""
    clip: float = 1.0
    """Norm that gradients are clipped to."""
    kl: float = 0.0
    """Weight of the divergence from the base with the video in its prompt, beside the cross-entropy."""
    self_distill: bool = False
    """No targets: the base's own answers with the video in its prompt, and its distributions over them."""
    parts: int = 1
    """A clip is cut into up to so many segments whose adapters are joined before the loss."""
    seed: int = 0
    every: int = 500
    """Steps from one validation and checkpoint to the next."""
    workers: int = 4
    """Threads that decode videos ahead."""
    checkpointing: bool = False
    """Compute activations of hypernetwork and decoder again in the backward pass instead of keeping them."""

    @property
    def taught(self) -> bool:
        """True where the loss needs the base with the video in its prompt."""
        return self.self_distill or self.kl > 0


OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class FineTuning:
    """Settings of a LoRA fine-tuned on one clip, with which an adapter of the hypernetwork is compared."""

    lr: float = 1e-2
    """Learning rate. On tiny, 1e-2 and 3e-2 answered all that was taught first, after 40 steps, of 3e-3 to 1e-1."""
    scale: float = 2.0
    """Factor of B^T A x: twice the rank as lora_alpha, as is usual."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Norm that gradients are clipped to."""
    seed: int = 0
    """Seed of the first A."""
