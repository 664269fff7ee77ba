"""The answer of a server, as its lines tell it (`v2l.serve.asking`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from v2l import errors
from v2l.errors import V2LError
from v2l.model.answer import Answer

ServedLine = Mapping[str, Any]


def error_of(line: ServedLine) -> V2LError:
    """The error of a line, as it would have come up here."""
    kind = getattr(errors, str(line["kind"]), V2LError)
    return kind(line["message"]) if isinstance(kind, type) and issubclass(kind, V2LError) else V2LError(line["message"])


def next_line(lines: Iterator[ServedLine]) -> ServedLine:
    """The next line. V2LError where it tells one, or there is none."""
    line = next(lines, None)
    if line is None:
        raise V2LError("The server ended its answer in the middle; see what it printed, and ask again.")
    if line["type"] == "error":
        raise error_of(line)
    return line


class ServedReply:
    """The answer of a server as it comes, printed as a `Reply` is."""

    def __init__(self, first: ServedLine, lines: Iterator[ServedLine]) -> None:
        self.answer: Answer | None = None
        self._first, self._lines = first, lines

    def __iter__(self) -> Iterator[str]:
        line = self._first
        while line["type"] == "piece":
            yield line["text"]
            line = next_line(self._lines)
        self.answer = Answer(**line["answer"])

    def finish(self) -> Answer:
        """The whole answer."""
        for _ in self:
            pass
        assert self.answer is not None
        return self.answer
