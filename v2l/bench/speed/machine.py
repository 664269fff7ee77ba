"""What the machine does a second, measured: the arithmetic and the memory that floors are drawn from.

torch is imported where it measures, so that figures of another process can be shown without it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.bench.speed.timing import timed
from v2l.system.threads import usable_cores

if TYPE_CHECKING:
    import torch

PRODUCT_SHAPES = ((1024, 768, 3072), (1024, 960, 2560), (2048, 2048, 8192))
"""Rows, columns and columns of products as the released models have them."""


@dataclass(frozen=True)
class Machine:
    """Where a sweep ran, and how fast that is: the best of several attempts, on all threads."""

    name: str
    """Name of the CPU or GPU."""
    device: str
    cores: int
    """Cores that this process may use."""
    threads: int
    memory: int
    """Bytes, as far as this process may use them."""
    bfloat16: float
    """FLOP/s of products of matrices."""
    float32: float
    bandwidth: float
    """Bytes/s of memory that are read."""

    def rate(self, dtype: str) -> float:
        """FLOP/s in a compute dtype. float16 is taken to be as fast as bfloat16."""
        return self.float32 if dtype == "float32" else self.bfloat16


def measure_machine(device: torch.device, seconds: float = 1.0) -> Machine:
    """Measures for about `seconds` each: products in bfloat16 and in float32, and reading memory."""
    import torch

    large = 2 << 30 if device.type == "cuda" else 1 << 30
    return Machine(
        name=_name(device),
        device=device.type,
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory=memory(),
        bfloat16=_products(device, torch.bfloat16, seconds),
        float32=_products(device, torch.float32, seconds),
        bandwidth=_reading(device, min(large, memory() // 8), seconds),
    )


def memory() -> int:
    """Bytes of memory that this process may come to use: the machine's, or its control group's."""
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(file).strip()
        sizes += [int(text)] if text.isdigit() else []
    return min(sizes, default=8 << 30)


def free_memory() -> int | None:
    """Bytes that a process may still take without others being ended for it; None where the system does not tell."""
    free = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        cached = [int(line.split()[1]) for line in _read("/sys/fs/cgroup/memory.stat").splitlines()
                  if line.startswith(("inactive_file ", "active_file "))]
        free.append(int(limit) - int(used) + sum(cached))
    return min(free, default=None)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return ""


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or platform.machine()


def _products(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the fastest product."""
    import torch

    rates = []
    for rows, inner, columns in PRODUCT_SHAPES:
        a, b = (torch.randn(n, inner, device=device, dtype=dtype) for n in (rows, columns))
        elapsed = _fastest(lambda a=a, b=b: a @ b.T, device, seconds / len(PRODUCT_SHAPES))  # type: ignore[misc]
        rates.append(2 * rows * inner * columns / elapsed)
    return max(rates)


def _reading(device: torch.device, size: int, seconds: float) -> float:
    """Bytes/s of a sum over more memory than caches hold."""
    import torch

    data = torch.zeros(size // 4, device=device)
    data.add_(1)  # pages nobody wrote to are one and the same page
    return size / _fastest(data.sum, device, seconds)


def _fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of the fastest of at least three calls, after one to warm up."""
    timed(device, work)
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 3 or time.perf_counter() < end:
        durations.append(timed(device, work)[1])
    return min(durations)
