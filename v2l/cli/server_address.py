"""Where a server listens that answers instead of this process, and what it sends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from v2l.cli.post import BrokenResponse, Post
from v2l.errors import UsageError, V2LError

SERVER_VARIABLE, KEY_VARIABLE = "V2L_SERVER", "V2L_API_KEY"
CONNECT_S = 10.0
"""Seconds within which a server must take a connection; answers may take any time, as the first one loads the base."""


def key_of(given: str | None) -> str | None:
    """The API key: what was given, or what the environment says. UsageError for one that no header can hold."""
    key = given or os.environ.get(KEY_VARIABLE) or None
    if key and (not key.isascii() or not key.isprintable() or key.strip() != key):
        raise UsageError("An API key is made of ASCII letters, digits and signs, with no space at its ends.")
    return key


def server_address(given: str | None, key: str | None, here: Mapping[str, Any]) -> ServerAddress | None:
    """The server that --server or the environment names; None where there is none. `here` are the options given that
    only this process can follow: with --server UsageError, and where the environment names one, None."""
    if given is None and here:
        return None
    if given is not None and here:
        name = next(iter(here))
        raise UsageError(f"--{name} is for what is computed here, and --server has a server answer; leave one of them "
                         "out.")
    url = given or os.environ.get(SERVER_VARIABLE)
    return ServerAddress.of(url, key_of(key)) if url else None


@dataclass(frozen=True)
class ServerAddress:
    """Where a server listens."""

    url: str
    """As people wrote it."""
    scheme: str
    host: str
    port: int | None
    path: str
    """What its routes begin with, where it is behind a proxy."""
    key: str | None

    @classmethod
    def of(cls, url: str, key: str | None) -> ServerAddress:
        """The address that a URL names; http where it says nothing else. UsageError."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            if parts.scheme in ("http", "https") and parts.hostname and parts.hostname.isascii():
                return cls(url, parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"), key)
        except ValueError:
            pass
        raise UsageError(f"{url} is no address of a server; write one as v2l serve prints it, such as "
                         "http://127.0.0.1:8484.")

    def lines(self, path: str, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The JSON lines of a response to a POST, as they come. V2LError."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        with self._connected() as post:
            try:
                status = post.send(self.path + path, headers, json.dumps(document).encode())
                if status != 200:
                    raise self._refused(status, b"\n".join(islice(post.lines(), 1000)))
                for line in post.lines():
                    yield json.loads(line)
            except (OSError, BrokenResponse, ValueError) as error:
                raise V2LError(f"The server at {self.url} broke off its answer ({error or type(error).__name__}); see "
                               "what it printed, and ask again.") from None

    def _connected(self) -> closing[Post]:
        """A connection. V2LError where there is no server."""
        try:
            return closing(Post(self.host, self.port, self.scheme == "https", CONNECT_S))
        except OSError as error:
            raise V2LError(f"There is no server at {self.url} ({error.strerror or error}); start one with v2l "
                           f"serve FOLDER, or ask without --server (and without {SERVER_VARIABLE}).") from None

    def _refused(self, status: int, body: bytes) -> V2LError:
        """The sentence of a response that is an error."""
        try:
            message = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return V2LError(f"What answers at {self.url} is no v2l server (status {status}); give the address "
                            "that v2l serve printed.")
        hint = f" With v2l ask, that is --api-key or {KEY_VARIABLE}." if status == 401 else ""
        return V2LError(f"The server at {self.url} refuses: {message}{hint}")
