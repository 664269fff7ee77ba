"""One request to a server over HTTP/1.1, and the lines of its response as they come.

http.client would do it too, and import email and ssl for that: a sixth of what `v2l ask --server` takes to start.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import BinaryIO

_MOST = 1 << 16
"""Bytes of a line of the head, and lines of it, at most."""


class BrokenResponse(Exception):
    """What came is no HTTP, or ended in the middle."""


class Post:
    """A connection for one POST. `timeout` are the seconds within which the server must take it. OSError where it does
    not."""

    def __init__(self, host: str, port: int | None, secure: bool, timeout: float) -> None:
        self._host = f"[{host}]" if ":" in host else host
        self._host += f":{port}" if port else ""
        self._socket = socket.create_connection((host, port or (443 if secure else 80)), timeout)
        if secure:
            import ssl

            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=host)
        self._socket.settimeout(None)
        self._stream: BinaryIO = self._socket.makefile("rb")
        self._head: dict[str, str] = {}

    def close(self) -> None:
        """Hangs up."""
        self._stream.close()
        self._socket.close()

    def send(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Sends the request; the status of the response. OSError, BrokenResponse."""
        head = {"Host": self._host, "Content-Length": len(body), "Connection": "close", **headers}
        lines = [f"POST {path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + body)
        status = 100
        while 100 <= status < 200:  # said before the response
            version, _, rest = self._line().partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
                raise BrokenResponse("it is no HTTP")
            status = int(rest[:3])
            self._head.clear()
            while line := self._line():
                name, _, value = line.partition(":")
                self._head[name.lower()] = value.strip().lower()
        return status

    def lines(self) -> Iterator[bytes]:
        """The lines of the response, each as soon as it is there. OSError, BrokenResponse."""
        begun = b""
        for piece in self._pieces():
            *whole, begun = (begun + piece).split(b"\n")
            yield from whole
        if begun:
            yield begun

    def _pieces(self) -> Iterator[bytes]:
        if "chunked" in self._head.get("transfer-encoding", ""):
            while size := self._number(self._line().partition(";")[0], 16):
                yield self._exactly(size)
                self._line()
        elif "content-length" in self._head:
            yield self._exactly(self._number(self._head["content-length"], 10))
        else:
            while piece := self._stream.read(1):
                yield piece

    def _line(self) -> str:
        line = self._stream.readline(_MOST)
        if not line.endswith(b"\n"):
            raise BrokenResponse("it ended in the middle")
        return line.decode("latin-1").rstrip("\r\n")

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise BrokenResponse("it ended in the middle")
        return data

    @staticmethod
    def _number(text: str, base: int) -> int:
        try:
            return int(text, base)
        except ValueError:
            raise BrokenResponse("it is no HTTP") from None
