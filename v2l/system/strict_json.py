"""JSON without its laxities, and what a value in it may be: for documents that strangers write."""

from __future__ import annotations

import json
import math
from typing import Any

_DEEPEST = 32
"""Levels of nested JSON that are read; our own documents need 5."""


class Invalid(ValueError):
    """Input is not of its format; the message is the end of a sentence that begins with the file's name."""


def encode(value: Any) -> str:
    """JSON as we write it, always the same: sorted, compact, ASCII (file names may hold undecodable bytes)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(text: bytes | str, what: str = "its header") -> Any:
    """JSON without its laxities: no duplicate keys, no NaN or infinity, no bottomless nesting. Raises Invalid, which
    calls it `what`."""
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_object, parse_float=_number, parse_constant=_number)
        check_depth(value)
    except Invalid as error:
        raise Invalid(f"{what} {error}") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} is not valid JSON") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Invalid("names a key twice")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Invalid("holds a number that is not finite")
    return value


def check_depth(value: Any) -> None:
    """Raises Invalid where containers are nested too deep to be handled safely; does not recurse itself."""
    level = [value]
    for _ in range(_DEEPEST):
        containers = [x for x in level if isinstance(x, (dict, list))]
        level = [y for x in containers for y in (x.values() if isinstance(x, dict) else x)]
        if not level:
            return
    raise Invalid("is nested too deep")


def is_unicode(x: Any) -> bool:
    """Whether x is a text without half a surrogate pair, which other readers of safetensors refuse."""
    return isinstance(x, str) and x.encode(errors="ignore").decode() == x


def is_finite(x: Any) -> bool:
    """Whether x is a number that fits a float; JSON's integers have no bound of their own."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and -1e300 < x < 1e300


def is_positive(x: Any) -> bool:
    """Whether x is a number above 0 that fits a float."""
    return is_finite(x) and x > 0
