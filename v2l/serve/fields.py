"""The fields of a JSON request, each read once and checked by name: what is not known is refused, never ignored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from v2l.serve.refusal import Refusal
from v2l.system.strict_json import Invalid, decode, is_finite, is_unicode
from v2l.wording import nearest


class Fields:
    """An object of a request. A field that is null counts as one that is absent; `within` is the object's own name."""

    def __init__(self, value: Any, within: str = "") -> None:
        if not isinstance(value, dict):
            raise Refusal(400, f"{within or 'The request'} is a JSON object, not {_kind(value)}.",
                          param=within or None, code="invalid_type")
        self._value, self._within, self._read = value, within, set[str]()

    @classmethod
    def of(cls, body: bytes) -> Fields:
        """The fields of a request's body. Refusal where it is no JSON object."""
        try:
            return cls(decode(body, "The body of the request"))
        except Invalid as error:
            raise Refusal(400, f"{error}; send one JSON object.", code="invalid_json") from None

    def name(self, field: str) -> str:
        """The full name of a field in errors: `v2l.from`."""
        return f"{self._within}.{field}" if self._within else field

    def any(self, field: str) -> Any:
        """The value of a field as it is; None where it is absent."""
        self._read.add(field)
        return self._value.get(field)

    def text(self, field: str, required: bool = False) -> str | None:
        """Text of at least one character."""
        value = self.any(field)
        if value is None and not required:
            return None
        if not is_unicode(value) or not value:
            raise self.wrong(field, "text" if value is not None else "text, and missing")
        return str(value)

    def flag(self, field: str) -> bool:
        value = self.any(field)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return bool(value)

    def number(self, field: str, least: float, most: float) -> float | None:
        value = self.any(field)
        if value is None:
            return None
        if not is_finite(value) or not least <= value <= most:
            raise self.wrong(field, f"a number from {least:g} to {most:g}")
        return float(value)

    def whole(self, field: str, least: int, most: int) -> int | None:
        """A whole number; `most` is only told where it is one that people know."""
        value = self.any(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(field, f"a whole number from {least}" + (f" to {most}" if most < 2**31 else "") + " on")
        return value

    def only(self, field: str, allowed: Iterable[Any], why: str) -> None:
        """Takes the values of a field that change nothing; Refusal, with the reason, of any other."""
        value = self.any(field)
        if value is not None and not any(value == one and type(value) is type(one) for one in allowed):
            raise Refusal(400, f"{self.name(field)} is not supported here: {why}.", param=self.name(field),
                          code="unsupported_value")

    def wrong(self, field: str, what: str) -> Refusal:
        """The refusal of a field that is not `what` it should be."""
        return Refusal(400, f"{self.name(field)} should be {what}.", param=self.name(field), code="invalid_value")

    def ignore(self, *fields: str) -> None:
        """Takes fields that tell the server something about the client, and say nothing of the answer."""
        self._read.update(fields)

    def end(self) -> None:
        """Refusal of a field that nobody has read."""
        for field, value in self._value.items():
            if field not in self._read and value is not None:
                raise Refusal(400, f"{self.name(field)} is not known here{nearest(field, self._read)}; leave it out.",
                              param=self.name(field), code="unknown_parameter")


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
