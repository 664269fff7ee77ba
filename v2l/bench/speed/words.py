"""Figures of a sweep in words, the same in tables and on pages."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.bench.speed.cells import Missing
from v2l.bench.speed.machine import Machine
from v2l.cli.describe import size_text


def count_text(value: float | None) -> str:
    """26.1k or 1,024 or 33 or 7.3; nothing for None."""
    if value is None:
        return ""
    if value >= 9999.5:
        return f"{value / 1000:.3g}k"
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"


def times_text(value: float | None) -> str:
    """17×; nothing for None."""
    return f"{count_text(value)}×" if value is not None else ""


def lasting_text(seconds: float) -> str:
    """2.1 ms, 0.53 s, 12 s, 4.5 min, 2 h."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.2g} min" if minutes < 9.95 else f"{minutes:.0f} min"
    return f"{minutes / 60:.2g} h" if minutes < 9.95 * 60 else f"{minutes / 60:,.0f} h"


def edges_text(edges: Sequence[int]) -> str:
    """One resolution, or from the first to the last of several."""
    return f"{edges[0]} px" if len(edges) == 1 else f"{min(edges)}–{max(edges)} px"


def missing_text(half: object, because: bool = False) -> str:
    """Why there are no figures; nothing where there are. `because` adds what a failure said."""
    if not isinstance(half, Missing):
        return ""
    if half.status in ("not run", "stopped"):
        return f"{half.status} (about {lasting_text(half.about_s)})"
    return f"failed: {half.reason}" if because and half.status == "failed" else half.status


def machine_text(machine: Machine) -> str:
    cores = f"{machine.cores} core{'s' * (machine.cores != 1)}, {machine.threads} thread{'s' * (machine.threads != 1)}"
    where = "" if machine.device == "cpu" else f", on {machine.device}"
    return f"{machine.name}, {cores}, {size_text(machine.memory)} of memory{where}"


def speeds_text(machine: Machine) -> str:
    return (f"bfloat16 at {machine.bfloat16 / 1e12:.2g} TFLOP/s, float32 at {machine.float32 / 1e12:.2g}, "
            f"memory read at {machine.bandwidth / 1e9:.3g} GB/s")
