"""How long work takes on a device that goes on by itself after a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


def timed(device: torch.device, work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `work` and the seconds it took until the device had done all of it."""
    started = time.perf_counter()
    result = work()
    if device.type != "cpu":
        import torch

        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
    return result, time.perf_counter() - started
