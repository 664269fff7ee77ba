"""The processes that train together: what `torchrun` (or `accelerate launch`) tells each
of itself, and what they share.

Each holds all weights and takes its own clips; gradients are summed before a step, so that all take the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """A process among `count`; one alone needs none of the rest."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Number of the process on its machine, and of its GPU."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Processes:
        """The process that the launcher describes in RANK, WORLD_SIZE and LOCAL_RANK; a single one without them."""
        number = lambda name, default: int(environment.get(name, default))
        return cls(number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0))

    @property
    def main(self) -> bool:
        """True for the process that writes files and messages."""
        return self.rank == 0

    def device(self, name: str | None) -> str | None:
        """The device of this process where --device names `name`: each has a GPU of its own."""
        import torch

        cuda = torch.cuda.is_available() if name is None else name.startswith("cuda")
        return f"cuda:{self.local_rank}" if cuda and self.count > 1 else name

    def join(self, device: str) -> None:
        """Waits for the others; before anything below."""
        import torch
        import torch.distributed as dist

        if self.count > 1 and not dist.is_initialized():
            if device == "cuda":
                torch.cuda.set_device(self.local_rank)
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    def leave(self) -> None:
        import torch.distributed as dist

        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes, in place, its sum over all processes."""
        if self.count == 1:
            return
        import torch.distributed as dist

        for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
            work.wait()

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, to all of them."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values
