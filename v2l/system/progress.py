"""Reports of work that takes long."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Callback for (what is under way, how much is done, of how much or None): frames, bytes, steps or cells."""


def silent(what: str, done: int, total: int | None) -> None:
    """Progress that nobody is shown."""
