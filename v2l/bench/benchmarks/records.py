"""Annotation files as records: JSON, JSON Lines and CSV; every error names the file and the place in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.errors import UsageError
from v2l.manifest import Turn
from v2l.system.lines import NO_TEXT, text_of


@dataclass(frozen=True)
class Entry:
    """A video and all that one record of the annotations asks about it."""

    key: str
    """Name that tells the entry from the others of the benchmark."""
    videos: tuple[str, ...]
    """Names that the video may have: a name or a path of somebody else's, with its ending or without."""
    turns: tuple[Turn, ...]
    start: float | None = None
    """Seconds; the clip begins here, and ends at `end`."""
    end: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """One object of a JSON file, or one row of a CSV file, and where it stands."""

    values: dict[str, Any]
    where: str

    def fault(self, problem: str) -> UsageError:
        """The error to raise for what is wrong with the record."""
        return UsageError(f"{self.where}: {problem[:300]}; the file is damaged, or it is not this benchmark's.")

    def text(self, key: str) -> str:
        """A text that is not blank, stripped; a whole number stands for its digits. Raises UsageError."""
        if key not in self.values:
            raise self.fault(f"there is no {key}")
        return self._text(key, self.values[key])

    def optional(self, key: str) -> str:
        """A text as of `text`; empty where there is none, or a blank one."""
        return "" if _blank(self.values.get(key)) else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts, blank ones left out; none where there is none. Raises UsageError."""
        value = self.values.get(key)
        values = value if isinstance(value, list) else [value]
        return tuple(self._text(key, each) for each in values if not _blank(each))

    def whole(self, key: str) -> int:
        """A whole number from 0 on. Raises UsageError."""
        text = self.text(key)
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise self.fault(f"{key} is {_shown(text)}, not a whole number from 0 on")
        return int(text)

    def turns(self, styles: Mapping[str, tuple[str, str]]) -> tuple[Turn, ...]:
        """A turn for each kind of description that the record has; `styles`: kind -> (key of the reference, prompt).
        Raises UsageError where there is none."""
        turns = tuple(Turn(prompt, ("; ".join(texts),), kind) for kind, (key, prompt) in styles.items()
                      if (texts := self.texts(key)))
        if not turns:
            raise self.fault(f"there is none of {', '.join(key for key, _ in styles.values())}")
        return turns

    def records(self, key: str) -> list[Annotation]:
        """The objects of a list. Raises UsageError."""
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self.fault(f"{key} is {_shown(value)}, not a list" if key in self.values else f"there is no {key}")
        return [_record(each, f"{self.where}, {key} {number}") for number, each in enumerate(value, 1)]

    def _text(self, key: str, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.fault(f"{key} is {_shown(value)}, not a text")
        if _blank(value):
            raise self.fault(f"{key} is blank")
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which no tokenizer takes
            raise self.fault(f"{key} is no valid Unicode") from None
        return value.strip()


def read_records(path: Path) -> list[Annotation]:
    """The records of a `.jsonl` file (one object a line), a `.csv` file (a header and rows) or a `.json` file (a list
    of objects), in order. Raises UsageError."""
    if path.suffix.lower() == ".csv":
        return list(_rows(path))
    if path.suffix.lower() == ".jsonl":
        lines = enumerate(_read(path).split("\n"), 1)  # not splitlines: a text may hold other ends of lines
        return [_record(_json(line, place), place) for number, line in lines
                if line.strip() and (place := f"{path}, line {number}")]
    document = _json(_read(path), str(path))
    if not isinstance(document, list):
        raise UsageError(f"{path} is no JSON list of objects; the file is not this benchmark's.")
    return [_record(each, f"{path}, entry {number}") for number, each in enumerate(document, 1)]


def read_table(path: Path) -> dict[str, Annotation]:
    """The objects of a `.json` file that is an object of objects, under their keys. Raises UsageError."""
    document = _json(_read(path), str(path))
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no JSON object of objects; the file is not this benchmark's.")
    return {key: _record(value, f"{path}, {_shown(key)}") for key, value in document.items()}


def _shown(value: object) -> str:
    """A value as JSON of at most 60 characters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _record(value: object, where: str) -> Annotation:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {_shown(value)}, not a JSON object; the file is not this benchmark's.")
    return Annotation(value, where)


def _rows(path: Path) -> Iterator[Annotation]:
    reader = csv.DictReader(io.StringIO(_read(path), newline=""), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:  # a quote that never ends, a NUL
            raise UsageError(f"{path}, after line {reader.line_num}: {error}; get the file again.") from None
        if row is None:
            return
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise UsageError(f"{where}: it has {'more' if None in row else 'fewer'} columns than the header; "
                             "get the file again.")
        yield Annotation(row, where)


def _read(path: Path) -> str:
    try:
        return text_of(path.read_bytes())  # as it is: a line end within quotes is part of a text
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or NO_TEXT
        raise UsageError(f"The annotations {path} cannot be read ({reason}).") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: this is not JSON ({error}); get the file again.") from None
