"""Optimizers and learning rates: AdamW as published, or Muon for the matrices; warm-up and cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from v2l.errors import UsageError
from v2l.train.config import Recipe

Named = Iterable[tuple[str, nn.Parameter]]
Rate = Callable[[int], float]
"""Step, from 0 on -> share of the highest learning rate."""

SMALL = 0.2
"""Share of AdamW's rate beside Muon for the hypernetwork's heads and biases: they begin at about 0.005, and the rates
that suit a fresh norm or query would throw them about."""


class Optimizers:
    """Several optimizers that step as one. The rate a group of parameters is given with is its highest."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self.highest = [[float(group["lr"]) for group in part.param_groups] for part in parts]
        self.parameters: list[nn.Parameter] = [
            p for part in parts for group in part.param_groups for p in group["params"]]

    def step(self, share: float) -> None:
        """One update at this share of the highest rates; the gradients are gone after it."""
        for part, rates in zip(self.parts, self.highest, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * share
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        for part, saved in zip(self.parts, state, strict=True):
            part.load_state_dict(saved)


def optimizers(named: Named, recipe: Recipe) -> Optimizers:
    """Optimizers of a recipe for the parameters of a hypernetwork. Raises UsageError where this torch has no Muon."""
    if recipe.optimizer == "muon":
        return muon(named, recipe.muon_lr, recipe.lr, recipe.weight_decay)
    return _adamw(list(named), recipe)


def _adamw(named: list[tuple[str, nn.Parameter]], recipe: Recipe) -> Optimizers:
    """Gains, biases and scalers are not pulled to zero."""
    decayed = [p for name, p in named if p.ndim > 1 and not name.startswith(("scaler_", "bias_"))]
    others = [p for name, p in named if p.ndim <= 1 or name.startswith(("scaler_", "bias_"))]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay},
                                    {"params": others, "weight_decay": 0.0}]
    return Optimizers(torch.optim.AdamW(groups, lr=recipe.lr))


def muon(named: Named, lr: float, adam_lr: float, weight_decay: float, apart: Sequence[str] = ()) -> Optimizers:
    """Muon turns the matrices between layers; the rest learns with AdamW, and so does what has one of `apart` in its
    name. Raises UsageError where this torch has no Muon."""
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"This torch ({torch.__version__}) has no Muon; install 2.9 or later, or take adamw.")
    named = list(named)
    matrices = [p for name, p in named if p.ndim == 2 and not any(part in name for part in ("latents_q", *apart))]
    small = [p for name, p in named if name.startswith(("head.", "bias_"))]
    taken = {id(p) for p in (*matrices, *small)}
    others = [p for _, p in named if id(p) not in taken]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": small, "lr": adam_lr * SMALL}]
    return Optimizers(torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, momentum=0.95),
                      torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0))


def cosine(steps: int, warmup: float) -> Rate:
    """A linear rise over that share of the steps, then half a cosine down to 0 (v2l/README.md section 8)."""
    rise = max(1, round(warmup * steps))

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1, steps + 1 - rise)))

    return rate
