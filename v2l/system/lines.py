"""Lines of text that come from outside: with or without a byte order mark, in UTF-8 or UTF-16, or parted by NULs."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO

from v2l.errors import UsageError

LONGEST_LINE = 8 << 20
"""Bytes of a line; no base reads as much, and no name is as long."""
NO_TEXT = "it is no text in UTF-8 or UTF-16"
"""Why a file cannot be read, as the end of a sentence."""
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF8, ""), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be"))
"""Byte order marks, the one that begins as another does first, and what they announce; UTF-8 needs no decoder."""
_CONTROLS = re.compile(rb"\0\0|[\x01-\x08\x0b\x0c\x0e-\x1f]")
"""What no text holds; nor two NULs in a row."""
_NO_NAME = re.compile(rb"\A\0|" + _CONTROLS.pattern)
"""What a list of names parted by NULs does not hold, and other bytes mostly do."""


def line_batches(stream: BinaryIO, decode: Callable[[bytes], str], file: str = "-", names: bool = True
                 ) -> Iterator[list[str]]:
    """Lines that are not blank, as many at a time as are ready: `find -print0` and PowerShell's `>` write such, too.

    One read takes what is ready and waits only where that is nothing: a file comes in large batches, and what someone
    types line by line. `decode` makes text of a line unless its mark says what it is; of `names`, one that NULs part
    may hold ends of lines. Raises UsageError, naming the file (`-` is stdin), where that holds no text.
    """
    head = _first_bytes(stream)
    encoding, head = _encoding(head)
    decoder = codecs.getincrementaldecoder(encoding)("replace") if encoding else None
    end = b"\n" if decoder or b"\0" not in head else b"\0"
    rest = b""
    for data in chain([head], iter(lambda: _read(stream), b""), [b""]):
        text = decoder.decode(data, final=not data).encode("utf-8", "replace") if decoder else data
        *lines, rest = (rest + text + (b"" if data else end)).split(end)
        if len(rest) > LONGEST_LINE:
            raise UsageError(f"A line of {_called(file)} is longer than {LONGEST_LINE >> 20} MB; give each name or "
                             "question a line of its own.")
        strange = any(b"\0" in line for line in [*lines, rest])
        if not _CONTROLS.search(text) and (strange or (end == b"\0" and _holds_lines(lines, not data, names))):
            raise UsageError(f"{_called(file)} parts lines by NUL characters and by ends of lines; use one of the two.")
        if strange or (end == b"\0" and _NO_NAME.search(data)):
            raise UsageError(f"{'- reads' if file == '-' else file + ' should be'} lines of text"
                             f"{' from stdin' if file == '-' else ''}, and what is there is none, a video perhaps; "
                             "save it to a file and name that.")
        lines = [line.rstrip(b"\r") if end == b"\n" else line for line in lines if line.strip()]
        if lines:
            yield [line.decode() if decoder else decode(line) for line in lines]


def _holds_lines(parts: list[bytes], ended: bool, names: bool) -> bool:
    """Whether what is parted by NULs is parted by ends of lines, too: of questions any part, of names, which may hold
    such, the last one, which has no NUL behind it."""
    return ended and parts[-1].endswith(b"\n") if names else any(b"\n" in part for part in parts)


def text_of(data: bytes) -> str:
    """The text of a whole file. UnicodeDecodeError, a ValueError, where it is none."""
    encoding, rest = _encoding(data)
    return rest.decode(encoding or "utf-8")


def _called(file: str) -> str:
    return "stdin" if file == "-" else file


def _read(stream: BinaryIO) -> bytes:
    """What is ready, or what comes next; nothing at the end."""
    return getattr(stream, "read1", stream.read)(1 << 16) or b""


def _first_bytes(stream: BinaryIO) -> bytes:
    """What is ready at the start, with the whole of a mark."""
    head = _read(stream)
    while 0 < len(head) < 4 and any(mark.startswith(head) for mark, _ in _MARKS):
        more = _read(stream)
        if not more:
            break
        head += more
    return head


def _encoding(head: bytes) -> tuple[str, bytes]:
    """The encoding of text that begins so, where it is UTF-16 or UTF-32, and what follows its mark."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, head[len(mark):]
    for encoding, end, high in (("utf-16-le", b"\n\0", 1), ("utf-16-be", b"\0\n", 0)):
        # Without a mark: mostly Latin letters, each with a NUL, and an end of a line among them.
        letters = head[: len(head) // 2 * 2]
        if end in letters and letters[high::2].count(0) * 2 > len(letters) // 2 and 0 not in letters[1 - high::2]:
            return encoding, head
    return "", head
