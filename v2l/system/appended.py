"""JSON documents one a line, in a file that is appended to: what an interrupted run wrote is there for the next."""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from v2l.errors import OutputError, UsageError
from v2l.system.files import beside
from v2l.system.lock import Busy, alone


class Appended:
    """The documents of a file, to which this process alone adds until `close`: use it as a context manager.

    A last line that an interrupted writer left unfinished is no document, and cut off when the next is added. `start`
    is what every line begins with: an unfinished line that begins otherwise is not ours and is not touched. `what`
    names such a file ("the record of a bench") and `way_out` what to do about another one ("give --resume another
    file"), as the end of a sentence. Without a path nothing is kept.

    Raises UsageError for a file that holds something else or that another run has open, OutputError where it cannot be
    read or written.
    """

    def __init__(self, path: Path | None, what: str, way_out: str, start: bytes = b"{") -> None:
        self.path, self._what, self._way_out, self._start = path, what, way_out, start
        self.documents: list[dict[str, Any]] = []
        """What the file held when it was opened, from line 1 on."""
        self._torn: int | None = None
        """Where in the file what is no whole line begins."""
        self._end = b""
        """What is to be written before the next line."""
        self._open = ExitStack()
        if path is not None:
            with ExitStack() as stack:
                self._lock(path, stack)
                self._read(path)
                self._open = stack.pop_all()

    def __enter__(self) -> Appended:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes have the file."""
        self._open.close()

    def _lock(self, path: Path, stack: ExitStack) -> None:
        real = Path(os.path.realpath(path))  # the same for every name of the file
        try:
            if real.is_file() or not real.exists():  # a device or a pipe needs none
                stack.enter_context(alone(beside(real, ".{}.lock")))
        except Busy:
            raise UsageError(f"Another run is writing {path}; wait for its end, or {self._way_out}.") from None

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{path} cannot be read ({error.strerror or error}).") from error
        if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise UsageError(f"{path} is UTF-16 text, as some shells write it, and cannot be added to; save it as "
                             f"UTF-8, or {self._way_out}.")
        *lines, last = content.removeprefix(BOM_UTF8).split(b"\n")
        if last.startswith(self._start[: len(last)]) and _parsed(last) is None:
            self._torn = len(content) - len(last) if last else None
        else:  # an editor takes the last end of a line away
            lines.append(last)
            self._end = b"\n"
        for number, line in enumerate(lines, 1):
            self.documents.append(self._document(line, number))

    def _document(self, line: bytes, number: int) -> dict[str, Any]:
        document = _parsed(line)
        if isinstance(document, dict) and line.startswith(self._start):
            return document
        raise UsageError(f"{self.path} is not {self._what} (line {number}); {self._way_out}.")

    def add(self, document: dict[str, Any]) -> None:
        """Keeps a document. Raises OutputError; the next call tries anew from where the file was whole."""
        if self.path is not None:
            try:
                self._append(self.path, self._end + json.dumps(document).encode() + b"\n")
            except OSError as error:
                raise OutputError(f"{self.path} cannot be written ({error.strerror or error}).") from error

    def _append(self, path: Path, line: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if self._torn is not None and self._torn < size:
                file.truncate(self._torn)
            else:
                self._torn = size
            while line:
                line = line[file.write(line):]
        self._torn, self._end = None, b""


def _parsed(line: bytes) -> Any:
    """The JSON value of a line; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
