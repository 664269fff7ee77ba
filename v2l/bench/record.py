"""The record of a bench: the file that an interrupted one goes on from, a JSON document with its kind on each line."""

from __future__ import annotations

from pathlib import Path

from v2l.system.appended import Appended


def open_record(path: Path | None) -> Appended:
    """Documents of benches, as `v2l bench speed --json` prints them or `quality.answers` makes them; without a path
    nothing is kept. Errors as of `Appended`."""
    return Appended(path, "the record of a bench", "give --resume another file", b'{"kind": "')
