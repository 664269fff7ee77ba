"""Words of a call become values without pydantic, which newer typers import for that: 70 ms of every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

_MADE_OF_A_WORD = (str, int, float, Path)


class PlainValues:
    """A command, or a group of them, whose parameters make their values themselves: mixed into a class of Typer's."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as Typer does."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if hasattr(param, "get_runtime_param") and "get_runtime_param" not in vars(param):
                plain = _Plain(param.type_descriptor, param.get_runtime_param)
                param.get_runtime_param = lambda plain=plain: plain
        return params


class _Plain:
    """Makes the value of one parameter. What it cannot make, Typer is asked for, and says what is wrong with it."""

    def __init__(self, described: Any, typers: Callable[[], Any]) -> None:
        of = get_args(described.annotation)[0] if get_origin(described.annotation) is list else described.annotation
        self._make = described.parameter_info.parser or (of if of in _MADE_OF_A_WORD else None)
        self._typers = typers

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """What Typer's would give."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        if value is param.default:
            return value
        if self._make:
            try:
                return tuple(map(self._make, value)) if many else self._make(value)
            except ValueError:
                pass
        return self._typers().coerce(value, param=param, ctx=ctx)
