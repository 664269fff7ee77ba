"""Where a live source is: an address, a camera, a pipe or a file, and how it is called where others read it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from v2l.errors import UsageError

Kind = Literal["rtsp", "http", "camera", "pipe", "file"]
SOURCES = "an address (rtsp://, rtsps://, or http(s):// of HLS), a camera (0 or /dev/video0), a file, or - for a pipe"
"""What `v2l watch` takes, for help and errors."""
_SCHEMES: dict[str, Kind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_CAMERAS = "/dev/video"


@dataclass(frozen=True)
class Address:
    """A live source."""

    kind: Kind
    location: str = field(repr=False)
    """What opens it; it may hold a password."""
    shown: str
    """How it is called in messages: without user, password and parameters."""

    @property
    def name(self) -> str:
        """How it is called in records: as in messages, but a file without its folder."""
        return os.path.basename(self.shown) if self.kind == "file" else self.shown

    @property
    def paced(self) -> bool:
        """Whether its pictures come at the pace of this machine's clock; a pipe and a file come as fast as is read."""
        return self.kind in ("rtsp", "http", "camera")


def parse_address(text: str) -> Address:
    """The live source that a user means. UsageError, which shows no password."""
    if text == "-":
        return Address("pipe", "-", "stdin")
    if text.isascii() and text.isdecimal():
        return Address("camera", str(int(text)), f"camera {int(text)}")
    if text.startswith(_CAMERAS):
        return Address("camera", text, text)
    scheme, colon, _ = text.partition("://")
    if not colon:
        return Address("file", text, text)
    return _network(text, scheme.lower())


def _network(text: str, scheme: str) -> Address:
    if scheme not in _SCHEMES:
        raise UsageError(f"{scheme}:// is no kind of address that v2l watches; give {SOURCES}.")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("The address holds a space or another character that addresses may not hold; write it as %20 "
                         "and the like.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"The {scheme}:// address cannot be read; it is {scheme}://HOST:PORT/PATH.") from None
    if not host:
        raise UsageError(f"The {scheme}:// address names no host; it is {scheme}://HOST:PORT/PATH.")
    name = f"[{host}]" if ":" in host else host
    path = re.sub(r"=[^/]*", "=...", parts.path)  # some recorders want the password there
    return Address(_SCHEMES[scheme], text, f"{scheme}://{name}{'' if port is None else f':{port}'}{path}")
