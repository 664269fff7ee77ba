"""Lines as wide as the terminal, broken at spaces: text that a terminal breaks itself is cut amid words."""

from __future__ import annotations

import re
import unicodedata


class Wrapped:
    """Breaks text that comes in pieces; a word waits until it is known to be whole. Lines that it has stay."""

    def __init__(self, columns: int) -> None:
        self._columns, self._at = columns, 0
        """Cells that are taken on the line."""
        self._space, self._word = "", ""

    def add(self, piece: str) -> str:
        """What can be printed now of the text so far."""
        out = ""
        for run in re.findall(r"\n|[^\S\n]+|\S+", piece):
            if not run.isspace():
                self._word += run
                continue
            out += self.end()
            if run == "\n":
                out, self._at, self._space = out + run, 0, ""
            else:
                self._space += run
        return out

    def end(self) -> str:
        """The word that still waits."""
        word, space = self._word, self._space
        if not word:
            return ""
        self._word = self._space = ""
        needed = cells(word)
        if self._at and self._at + len(space) + needed > self._columns:
            space, self._at = "\n", 0
        else:
            self._at += len(space)
        self._at = (self._at + needed) % self._columns if needed > self._columns else self._at + needed
        return space + word


def wrap_lines(text: str, columns: int | None) -> str:
    """A whole text, broken; None leaves it as it is."""
    if columns is None:
        return text
    lines = Wrapped(columns)
    return lines.add(text) + lines.end()


def cells(text: str) -> int:
    """Columns that a terminal gives a text: two for wide characters, none for marks on others."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
