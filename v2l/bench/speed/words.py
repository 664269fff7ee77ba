"""Figures of a sweep in words, the same in tables and on pages."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.bench.speed.cells import Missing
from v2l.bench.speed.machine import Machine
from v2l.wording import count_of, duration_text, size_text


def edges_text(edges: Sequence[int]) -> str:
    """One resolution, or from the first to the last of several."""
    return f"{edges[0]} px" if len(edges) == 1 else f"{min(edges)}–{max(edges)} px"


def missing_text(half: object, because: bool = False) -> str:
    """Why there are no figures; nothing where there are. `because` adds what a failure said."""
    if not isinstance(half, Missing):
        return ""
    if half.status in ("not run", "stopped"):
        return f"{half.status} (about {duration_text(half.about_s)})"
    return f"failed: {half.reason}" if because and half.status == "failed" else half.status


def machine_text(machine: Machine) -> str:
    cores = f"{count_of(machine.cores, 'core')}, {count_of(machine.threads, 'thread')}"
    where = "" if machine.device == "cpu" else f", on {machine.device}"
    return f"{machine.name}, {cores}, {size_text(machine.memory)} of memory{where}"


def speeds_text(machine: Machine) -> str:
    return (f"bfloat16 at {machine.bfloat16 / 1e12:.2g} TFLOP/s, float32 at {machine.float32 / 1e12:.2g}, "
            f"memory read at {machine.bandwidth / 1e9:.3g} GB/s")
