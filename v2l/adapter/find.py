"""Which files are adapters: told by their names and, where those say nothing, by how they begin."""

from __future__ import annotations

import os
import re
from pathlib import Path

from v2l.config import ADAPTER_SUFFIX
from v2l.errors import AdapterError
from v2l.system.scan import Scan, scan
from v2l.wording import command

_FORMAT = re.compile(rb'"format"\s*:\s*"v2lora"')
_MOST = 1 << 24
"""Bytes of a header that are read."""


def is_adapter_name(name: str) -> bool:
    """Whether a name ends as those of adapters do."""
    return name.lower().endswith(ADAPTER_SUFFIX)


def holds_adapter(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as adapters do, whatever its name. Of other files only the first bytes are read."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait
            return False
        with open(path, "rb") as file:
            head = file.read(9)
            length = int.from_bytes(head[:8], "little")
            return head[8:] == b"{" and length <= _MOST and bool(_FORMAT.search(file.read(length - 1)))
    except (OSError, ValueError):
        return False


def adapter_file(word: str) -> str | None:
    """The adapter that a word names: a file that holds one or is called so, there or not, or the file of that name with
    the ending. None for anything else."""
    if is_adapter_name(word) or holds_adapter(word):
        return word
    named = word + ADAPTER_SUFFIX
    return named if word and not os.path.exists(word) and os.path.isfile(named) else None


def find_adapters(folder: Path) -> Scan:
    """The adapters below a folder, known by their names: a copy under another name is not asked twice.

    Raises AdapterError for a folder without adapters, or one that may not be entered.
    """
    found = scan(folder, lambda path: is_adapter_name(path.name))
    if not found.files:
        raise AdapterError(f"{folder} may not be entered; check its permissions." if folder in found.closed else
                           f"{folder} is a folder without adapters; make some with: {command('ingest', folder)}.")
    return found
