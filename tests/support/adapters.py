"""Small adapters for the tests of the adapter file and of composing."""

from __future__ import annotations

from typing import Any

import numpy as np

from v2l.adapter import Adapter
from v2l.adapter.file import single
from v2l.adapter.record import Record

L, r, D_IN, D_OUT = 3, 4, 10, 6


def values(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def source(name: str = "lecture.mp4", **changed: Any) -> Record:
    record = {"name": name, "duration": 60.04, "fps": 25.0, "frames": 1501, "width": 320, "height": 180, "size": 123456,
              "sha256": f"{sum(map(ord, name)):064x}"}
    return {**record, **changed}


def make(seed: int = 0, dtype: str = "float32", start: float = 0.0, end: float = 10.0, **changed: Any) -> Adapter:
    """An adapter of one segment; the bias is the same whatever the seed."""
    fields: dict[str, Any] = dict(
        base={"id": "v2l/tiny", "revision": None, "fingerprint": "f" * 64},
        hypernetwork={"id": "v2l/tiny", "sha256": "a" * 64}, scale=16.0, source=source(), start=start, end=end,
        timestamps=[start, (start + end) / 3, end],
        sampling={"frames": 12, "fps": 1.0, "skip": 1.0, "resolution": 384}, prompt="Internalize this.",
        compute={"dtype": "float32", "device": "cpu"}, version="0.1.0")
    return single(values(seed, L, r, D_IN), values(seed + 1000, L, r, D_OUT), values(77, L, r, D_IN),
                  values(78, L, r, D_OUT), dtype, **{**fields, **changed})
