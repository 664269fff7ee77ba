"""How much memory this process may take."""

from __future__ import annotations

from v2l.errors import ModelError
from v2l.wording import size_text

_LEAST = 1100 << 20
"""Bytes of addresses below which a model's libraries cannot be loaded, or end the process without a word: so of torch's
build for CPUs, where 900,000 KB ended with a signal and 1,200,000 KB sufficed for `tiny`."""


def check_address_space() -> None:
    """Raises ModelError where this process may have fewer addresses than a model's libraries take."""
    try:
        import resource
    except ImportError:  # Windows, which knows no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= limit < _LEAST:
        raise ModelError(f"This process may take {size_text(limit)} of memory (ulimit -v), and a model needs more than "
                         f"{size_text(_LEAST)} to be loaded; raise that limit, or remove it: ulimit -v unlimited.")
