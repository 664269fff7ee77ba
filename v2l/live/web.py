"""Streams over HTTP, fetched by Python's own client, so that FFmpeg never opens an address: only http and https, with
certificates checked, and a playlist's end known."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from http.client import responses
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    BaseHandler,
    HTTPBasicAuthHandler,
    HTTPDefaultErrorHandler,
    HTTPDigestAuthHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

import v2l
from v2l.live.playlist import Playlist, SegmentRead

_PLAYLIST = b"#EXTM3U"
_LONGEST_PLAYLIST = 1 << 20
"""Bytes of a playlist; a day's, of segments of two seconds, has 2 MB, but live ones tell of minutes."""
_LEAST = 1024
"""Bytes that must have come to count as something, after the first: an answer that drips is silent."""
_ELSEWHERE = "the server leads to what is no address of the web"
_LOOK = 1.0, 5.0
"""Seconds, at least and at most, after which a playlist that tells of nothing new is looked at again."""


class WebError(OSError):
    """What an address holds is of no use; its text, the end of a sentence, says why."""

    def __init__(self, reason: str, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        """Whether trying again cannot help."""


class Web:
    """What FFmpeg asks for, by address, while one stream is read."""

    def __init__(self, timeout: float, alive: Callable[[], None], seen: Sequence[SegmentRead] = (),
                 tell: Callable[[SegmentRead], None] = lambda one: None) -> None:
        """`alive` is called when something came, `tell` with each segment that is read; those `seen` before are left
        out of the playlists, so that one which stands still, its sender having died, is silent."""
        self._timeout, self.alive, self._seen, self._tell = timeout, alive, seen, tell
        self._lists: dict[str, Playlist] = {}
        self.ended = False
        """Whether the last playlist that names segments says that no more will come."""
        self.longest = 0.0
        """Seconds that a segment may last, as playlists say."""
        self.length: int | None = None
        """Bytes of what was asked for first, where that is told."""
        self.failed: OSError | None = None
        """Why a list of segments could not be had, where another may be: the last such reason."""
        self._first = True
        self._passwords = HTTPPasswordMgrWithDefaultRealm()
        tls = ssl.create_default_context()
        self._opener = _opener(tls)
        self._known = _opener(tls, HTTPBasicAuthHandler(self._passwords), HTTPDigestAuthHandler(self._passwords))
        """For addresses with a user."""

    def open(self, url: str, flags: int, options: dict[str, str]) -> Any:
        """PyAV's `io_open`: what an address holds, a file to be read from its beginning on. Errors: URLError, OSError,
        ValueError."""
        first, self._first = self._first, False
        try:
            answer = self._fetch(url, options)
        except HTTPError as error:
            if first or url in self._lists or error.code in (401, 403):
                raise
            if urlsplit(url).path.endswith((".m3u8", ".m3u")):
                self.failed = error
            return _Nothing()  # a segment that is gone, or one list of several: another may be there
        if first:
            length = answer.headers.get("Content-Length", "")
            self.length = int(length) if length.isdecimal() else None
        return _Answer(answer, self, url, options)

    def _fetch(self, url: str, options: dict[str, str]) -> Any:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError("an address that is not of the web")
        host = parts.netloc.rpartition("@")[2]
        bare = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        request = Request(bare, headers={"User-Agent": f"v2l/{v2l.__version__}"})
        if options.get("offset", "0") != "0" or "end_offset" in options:
            end = int(options["end_offset"]) - 1 if options.get("end_offset", "0") != "0" else ""
            request.add_header("Range", f"bytes={int(options.get('offset', 0))}-{end}")
        if not parts.username:
            return self._opener.open(request, timeout=self._timeout)
        # Told to that host alone, and when it asks: it may want a digest.
        user, password = unquote(parts.username), unquote(parts.password or "")
        self._passwords.add_password(None, f"{parts.scheme}://{host}/", user, password)
        return self._known.open(request, timeout=self._timeout)

    def came(self, url: str = "", offset: int = 0) -> None:
        """Notes that something came which is no playlist: of an address, when it is the first of it."""
        self.alive()
        for playlist in self._lists.values() if url else ():
            if one := playlist.seen(url, offset):
                self._tell(one)
                return

    def playlist(self, content: bytes, url: str, options: dict[str, str]) -> bytes:
        """A playlist as FFmpeg is to see it: without what was seen of its session before. Where that leaves nothing, it
        is looked at again until there is more, and nothing counts as having come. WebError; errors as of `open`."""
        while True:
            if len(content) >= _LONGEST_PLAYLIST:
                raise WebError("its playlist has no end", lasting=True)
            playlist = Playlist(content.decode("utf-8", "replace"), url)
            self.longest = max(self.longest, min(playlist.seconds, 60.0))
            if not playlist.segments:
                return content
            if playlist.encrypted:
                raise WebError(f"it is encrypted ({playlist.encrypted}), which v2l watch does not read", lasting=True)
            self.ended = playlist.ended
            before = self._lists.get(url)
            if before and playlist.segments[-1].sequence < before.segments[0].sequence:
                raise WebError("its sender began anew")
            self._lists[url] = playlist
            last = playlist.last_seen(self._seen)
            if last is None or playlist.ended:
                return content
            if left := playlist.after(last):
                return left.encode()
            time.sleep(min(max(playlist.seconds / 2, _LOOK[0]), _LOOK[1]))
            with self._fetch(url, options) as answer:
                content = answer.read(_LONGEST_PLAYLIST)


def _opener(tls: ssl.SSLContext, *more: BaseHandler) -> OpenerDirector:
    """Python's client without what opens files, FTP and data: addresses, and with certificates checked."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), UnknownHandler(), HTTPHandler(), HTTPSHandler(context=tls),
                    HTTPDefaultErrorHandler(), HTTPRedirectHandler(), HTTPErrorProcessor(), *more):
        opener.add_handler(handler)
    return opener


class _Answer:
    """An answer, as PyAV reads a file; a playlist is read whole before the first byte of it is handed out."""

    def __init__(self, answer: Any, web: Web, url: str, options: dict[str, str]) -> None:
        self._answer, self._web, self._url, self._options = answer, web, url, options
        self._head: bytes | None = None
        self._came = 0

    def read(self, size: int) -> bytes:
        if self._head is None:
            head = self._begun(size)
            if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
                raise WebError("a web page is there, and no video", lasting=True)
            if head.startswith(_PLAYLIST):
                head = self._web.playlist(head + self._answer.read(_LONGEST_PLAYLIST - len(head)), self._url,
                                          self._options)
            elif head:
                self._web.came(self._url, int(self._options.get("offset", 0)))
            self._head = head
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        part = self._answer.read1(size)
        self._came += len(part)
        if self._came >= _LEAST:
            self._came = 0
            self._web.came()
        return part

    def _begun(self, size: int) -> bytes:
        """The beginning, long enough to tell whether it is a playlist."""
        head: bytes = self._answer.read1(size)
        while head and head != _PLAYLIST and _PLAYLIST.startswith(head) and (more := self._answer.read1(size)):
            head += more
        return head

    def close(self) -> None:
        self._answer.close()


class _Nothing:
    def read(self, size: int) -> bytes:
        return b""

    def close(self) -> None: ...


def is_untrusted(error: Exception) -> bool:
    """Whether an address could not be fetched for its certificate."""
    return isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)


def web_reason(error: Exception) -> str:
    """Why an address could not be fetched, in words without the address."""
    if isinstance(error, WebError):
        return str(error)
    if isinstance(error, HTTPError) and error.code in (301, 302, 303, 307, 308):
        return "the server leads in circles" if "infinite loop" in error.msg else _ELSEWHERE
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} ({responses.get(error.code, 'which means nothing')})"
    if is_untrusted(error):
        return ("its certificate is not one that this machine trusts (SSL_CERT_FILE can name the file of one that it "
                "should)")
    cause = error.reason if isinstance(error, URLError) else error
    if "unknown url type" in str(cause):
        return _ELSEWHERE
    if isinstance(cause, socket.gaierror):
        return "its host is not known"
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    return "the connection broke off"
