"""What the paper prints, as facts to stand beside what is measured here (METHOD section 8)."""

from __future__ import annotations

from dataclasses import dataclass

from v2l.bench.benchmarks.registry import BENCHMARKS

_NAMES = tuple(BENCHMARKS)
_FIGURES = {
    ("500m", "judge"): ((0.428, 0.356), (0.308, 0.263), (0.252, 0.242), (0.515, 0.406), (0.334, 0.278), (0.501, 0.547),
                        (0.524, 0.541), (0.390, 0.317), (0.502, 0.451)),
    ("2.2b", "judge"): ((0.576, 0.492), (0.326, 0.316), (0.270, 0.287), (0.539, 0.511), (0.437, 0.369), (0.597, 0.610),
                        (0.627, 0.531), (0.493, 0.295), (0.551, 0.475)),
    ("500m", "token_f1"): ((0.236, 0.243), (0.189, 0.198), (0.177, 0.203), (0.315, 0.288), (0.295, 0.275),
                           (0.129, 0.068), (0.197, 0.023), (0.081, 0.225), (0.216, 0.209)),
    ("2.2b", "token_f1"): ((0.263, 0.256), (0.198, 0.207), (0.199, 0.204), (0.297, 0.304), (0.292, 0.279),
                           (0.140, 0.076), (0.149, 0.013), (0.092, 0.203), (0.196, 0.218)),
}
"""Base -> adapter, by model and metric, in the order of the paper's rows."""


@dataclass(frozen=True)
class Published:
    """A row of the paper's Table 1 or 4: with the video in the prompt, and from the adapter."""

    base: float
    adapter: float


def published(model: str, metric: str, benchmark: str) -> Published | None:
    """What the paper prints for a released preset; None for all else."""
    figures = _FIGURES.get((model, metric))
    if figures is None or benchmark not in _NAMES:
        return None
    return Published(*figures[_NAMES.index(benchmark)])


def task_of(benchmark: str) -> str:
    """caption or qa for the paper's, whose Table 1 has the former and whose Table 4 the latter; nothing for others."""
    return BENCHMARKS[benchmark].kind if benchmark in BENCHMARKS else ""


def title(benchmark: str) -> str:
    """A benchmark's name as the paper prints it, or as it is called."""
    return BENCHMARKS[benchmark].title if benchmark in BENCHMARKS else benchmark


def in_order(benchmarks: list[str]) -> list[str]:
    """The paper's in the order of its rows, then the others as they come."""
    return [name for name in _NAMES if name in benchmarks] + [name for name in benchmarks if name not in _NAMES]
