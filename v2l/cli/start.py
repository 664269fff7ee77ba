"""What commands that run a model begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from v2l.cli.console import Console
from v2l.cli.options import Dtype
from v2l.errors import UsageError

if TYPE_CHECKING:
    from v2l.engine import Engine


def load_engine(console: Console, model: str, checkpoint: str | None, device: str | None, dtype: Dtype,
          offline: bool) -> Engine:
    """An engine whose base is on the disk."""
    with console.working("Loading"):
        from v2l.engine import Engine

        engine = Engine(model, checkpoint, device=device, dtype=dtype.value, offline=offline, progress=console.progress)
        _ = engine.files
        return engine


def changes(**options: Any) -> dict[str, Any]:
    """The options that were given. UsageError where start and end leave nothing."""
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("end") is not None and given["end"] <= given.get("start", 0.0):
        raise UsageError("--end must come after --start.")
    return given
