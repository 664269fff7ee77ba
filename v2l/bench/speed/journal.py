"""The file an interrupted bench goes on from: what was found, one JSON document a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from v2l.bench.speed.cells import Cell, Missing
from v2l.errors import OutputError, UsageError

_START = b'{"kind": "'
"""Of every document."""


class Journal:
    """Documents, as `v2l bench speed --json` prints them or `quality.journal` makes them; new ones are added as they
    come. Errors: UsageError for a file that holds something else, OutputError where it cannot be read or written.
    Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.documents: list[dict[str, Any]] = []
        self._torn = 0
        if path is None or not path.exists():
            return
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise OutputError(f"{path} cannot be read ({error.strerror}).") from error
        if lines and not lines[-1].endswith(b"\n") and lines[-1].startswith(_START[: len(lines[-1])]):
            self._torn = len(lines.pop())  # it was being written when the bench was interrupted
        for number, line in enumerate(lines, 1):
            self.documents.append(self._read(line, number))

    def _read(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            document = json.loads(line)
            if line.startswith(_START) and isinstance(document["kind"], str):
                return document
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise UsageError(f"{self.path} is not the record of a bench (line {number}); give --resume another file.")

    def known(self, identity: dict[str, Any]) -> dict[tuple[int, int], Cell]:
        """Cells that were measured under this identity, by frames and resolution; of several, the last."""
        cells: dict[tuple[int, int], Cell] = {}
        same = False
        for document in self.documents:
            if document["kind"] == "sweep":
                same = document.get("identity") == identity
            elif document["kind"] == "cell" and same:
                try:
                    cell = Cell.from_json(document)
                except (KeyError, TypeError):
                    continue  # of another version
                cells[cell.plan.frames, cell.plan.resolution] = cell
        return cells

    def add(self, document: dict[str, Any]) -> None:
        if self.path is None:
            return
        text = json.dumps(document) + "\n"
        try:
            with self.path.open("ab") as file:
                if self._torn:
                    file.truncate(file.tell() - self._torn)
                    self._torn = 0
                file.write(text.encode())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}).") from error


def settled(half: object) -> bool:
    """Whether a half need not be measured again: it was, or it was found not to fit."""
    return not isinstance(half, Missing) or half.status == "did not fit"
