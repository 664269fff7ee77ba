"""A LoRA fine-tuned on one clip's captions and answers, step by step: what internalizing a video is measured against.

It has the place and the rank of the hypernetwork's adapter, and learns from texts alone: questions in the very prompt
that `ask` uses, with no video (v2l/README.md section 7).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from v2l.errors import UsageError
from v2l.manifest import Turn
from v2l.model.base import Base
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter, TextStack
from v2l.train.config import FineTuning
from v2l.train.objective import Rows, cross_entropy, rows, target_ids

if TYPE_CHECKING:
    from v2l.engine import Engine


@dataclass(frozen=True)
class FineTuneState:
    """A LoRA after some steps of fine-tuning."""

    steps: int
    seconds: float
    """Seconds spent on the steps, without loading the base and without what the caller did meanwhile."""
    loss: float
    """Mean cross-entropy of a token of the targets, as the adapter is now."""
    adapter: list[LayerAdapter]
    """The adapter for `Engine.ask`; later steps leave it as it is."""


@lru_cache(maxsize=1)
def _text(folder: Path, device: torch.device, dtype: torch.dtype) -> TextStack:
    """The base's text stack as it can be trained through; one is kept for the clips that follow."""
    return Base(folder, device, dtype, packed=False).text


def finetune(
    engine: Engine, turns: Sequence[Turn], steps: Sequence[int], settings: FineTuning | None = None,
    rank: int | None = None,
) -> Iterator[FineTuneState]:
    """Fine-tunes a fresh LoRA on the targets of one clip's turns, all of them in every step, and yields it after each
    of these numbers of steps, in ascending order; after 0 it does nothing yet.

    A turn with several targets learns them all. `rank` is the hypernetwork's if not given. The same call gives the
    same adapters on a CPU. Raises UsageError where no turn has a target.
    """
    settings = settings or FineTuning()
    dtype = torch.float32 if engine.dtype == torch.float16 else engine.dtype  # gradients overflow, or vanish
    text = _text(engine.files.folder, engine.device, dtype)
    started = time.perf_counter()
    pairs = [(turn.prompt, text) for turn in turns for text in turn.targets]
    if not pairs:
        raise UsageError("None of the clip's turns has a target, so there is nothing to fine-tune on.")
    base = engine.base
    packed = rows([base.encode(question_prompt(prompt)) for prompt, _ in pairs],
                  [target_ids(base, text) for _, text in pairs], engine.device)
    lora = _Lora(engine, rank or engine.hypernetwork_files.config.rank, settings)
    optimizer = torch.optim.AdamW([lora.A, lora.B], lr=settings.lr, weight_decay=settings.weight_decay)
    spent, done = time.perf_counter() - started, 0
    for wanted in sorted(set(steps)):
        started = time.perf_counter()
        for _ in range(done, wanted):
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                _loss(text, packed, lora).backward()
            torch.nn.utils.clip_grad_norm_([lora.A, lora.B], settings.clip)
            optimizer.step()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        spent, done = spent + time.perf_counter() - started, wanted
        with torch.no_grad():
            loss = float(_loss(text, packed, lora))
        yield FineTuneState(done, spent, loss, lora.bound())


class _Lora:
    """One pair of matrices for every layer's `down_proj`: float32 A [L, r, d_in], normal, and B [L, r, d_out], zero.

    A is drawn so that A x is as large as x, whatever its width: the same learning rate then suits bases of any size.
    """

    def __init__(self, engine: Engine, rank: int, settings: FineTuning) -> None:
        text = engine.base.text_config
        draws = torch.Generator().manual_seed(settings.seed)
        A = torch.randn(text.num_layers, rank, text.intermediate_size, generator=draws)
        self.A = (A / math.sqrt(text.intermediate_size)).to(engine.device).requires_grad_()
        self.B = torch.zeros(text.num_layers, rank, text.hidden_size, device=engine.device, requires_grad=True)
        self.scale = settings.scale

    def layers(self) -> list[LayerAdapter]:
        """The adapters as they are, through which gradients pass."""
        return [LayerAdapter(a, b, self.scale) for a, b in zip(self.A, self.B, strict=True)]

    def bound(self) -> list[LayerAdapter]:
        """A copy that later steps leave as it is."""
        A, B = self.A.detach().clone(), self.B.detach().clone()
        return [LayerAdapter(a, b, self.scale) for a, b in zip(A, B, strict=True)]


def _loss(text: TextStack, packed: Rows, lora: _Lora) -> Tensor:
    """Mean cross-entropy of a token of the targets."""
    hidden = text.hidden(text.embed_tokens(packed.ids), adapters=lora.layers())
    logits = text.logits(hidden.flatten(0, 1)[packed.target]).float()
    return cross_entropy(logits, packed.labels) / len(packed.labels)
