"""After how many questions watching once has paid for itself."""

from __future__ import annotations

import math


def pays_after(setup_s: float, each_s: float, other_setup_s: float, other_each_s: float) -> int | None:
    """The first question by which one way of answering (so many seconds once, so many a question) has cost less than
    the other; None where it never does."""
    saved, extra = other_each_s - each_s, setup_s - other_setup_s
    if extra < saved:
        return 1
    return math.floor(extra / saved) + 1 if saved > 0 else None
