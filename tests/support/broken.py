"""Adapters with the faults that a mistake in converting, joining or applying them would give each of a model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from v2l.adapter import Adapter


def with_scale(adapter: Adapter, factor: float) -> Adapter:
    return replace(adapter, record={**adapter.record, "scale": adapter.scale * factor})


def with_bias_as_a_segment(adapter: Adapter) -> Adapter:
    """What adding two finished adapters would do: the bias stands among the segments, too."""
    [segment], r = adapter.segments, adapter.rank
    return replace(adapter, A=np.concatenate([adapter.A, adapter.bias_A], 1),
                   B=np.concatenate([adapter.B, adapter.bias_B], 1),
                   record={**adapter.record, "segments": [segment, {**segment, "rank": [r, 2 * r]}]})


Fault = Callable[[Adapter, Adapter], Adapter]
"""An adapter, and one of a third video -> what is there instead."""
FAULTS: dict[str, Fault] = {
    "segments of zeros": lambda own, _: replace(own, A=np.zeros_like(own.A), B=np.zeros_like(own.B)),
    "zeros, the bias too": lambda own, _: replace(own, B=np.zeros_like(own.B), bias_B=np.zeros_like(own.bias_B)),
    "of another clip": lambda _, third: third,
    "scale divided by the rank": lambda own, _: with_scale(own, 1 / own.rank),
    "scale times the rank": lambda own, _: with_scale(own, own.rank),
    "scale halved": lambda own, _: with_scale(own, 0.5),
    "scale doubled": lambda own, _: with_scale(own, 2),
    "rows of A one on from those of B": lambda own, _: replace(own, A=np.roll(own.A, 1, 1)),
    "rows of A in reverse": lambda own, _: replace(own, A=np.ascontiguousarray(own.A[:, ::-1])),
    "two rows of A swapped": lambda own, _: replace(own, A=own.A[:, [1, 0, *range(2, own.total_rank)]]),
    "bias doubled": lambda own, _: replace(own, bias_B=own.bias_B * 2),
    "bias as a segment too": lambda own, _: with_bias_as_a_segment(own),
    "no bias": lambda own, _: replace(own, bias_B=np.zeros_like(own.bias_B)),
}
