"""What the record of a bench knows of a sweep: cells that an earlier run measured, and whether new ones say more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from v2l.bench.speed.cells import AdapterTimes, Missing, PromptTimes, SpeedCell
from v2l.system.appended import Appended


class EarlierSweep:
    """The documents of a record that belong to one identity; new ones are added where they say something new, so that
    going on with what is complete adds nothing."""

    def __init__(self, record: Appended, identity: dict[str, Any]) -> None:
        self.cells: dict[tuple[int, int], SpeedCell] = {}
        """Measured cells by frames and resolution; of several, the last."""
        self._record, self._identity = record, identity
        self._kinds: set[str] = set()
        self._continues = False
        """Whether what is added to the record belongs to this identity."""
        for document in record.documents:
            self._read(document)

    def _read(self, document: dict[str, Any]) -> None:
        if document["kind"] == "sweep":
            self._continues = document.get("identity") == self._identity
        if not self._continues:
            return
        self._kinds.add(document["kind"])
        if document["kind"] == "cell":
            try:
                cell = SpeedCell.from_json(document)
            except (KeyError, TypeError):
                return  # of another version
            self.cells[cell.plan.frames, cell.plan.resolution] = cell

    def add_sweep(self, document: dict[str, Any]) -> None:
        """Adds what cells that follow belong to, where the record does not end with the like."""
        if not self._continues:
            self._record.add(document)
            self._continues = True

    def add_once(self, document: dict[str, Any]) -> None:
        """Adds a document where the sweep has none of its kind."""
        if document["kind"] not in self._kinds:
            self._record.add(document)
            self._kinds.add(document["kind"])

    def add_cell(self, cell: SpeedCell, document: dict[str, Any]) -> None:
        """Adds a cell where it is not known, or its halves came out differently."""
        key = cell.plan.frames, cell.plan.resolution
        known = self.cells.get(key)
        if known is None or _outcome(known) != _outcome(cell):
            self._record.add(document)
            self.cells[key] = cell


def _outcome(cell: SpeedCell) -> list[AdapterTimes | PromptTimes | Missing]:
    """The halves of a cell; how long one that is missing would take is estimated anew by each run."""
    return [replace(half, about_s=0.0) if isinstance(half, Missing) else half for half in (cell.watch, cell.direct)]


def settled(half: object) -> bool:
    """Whether a half need not be measured again: it was, or it was found not to fit."""
    return not isinstance(half, Missing) or half.status == "did not fit"
