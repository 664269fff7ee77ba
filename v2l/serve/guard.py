"""What stands before all routes: who may ask, from which page, and how much a request may hold."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from v2l.serve.refusal import Refusal
from v2l.wording import size_text

MOST_BODY = 1 << 20
"""Bytes of a request's body: the longest question that a base reads takes 50 kB."""
KEY_COOKIE = "v2l_key"
"""Cookie that stands for the key where a page cannot send a header: pictures and videos."""
OPEN_PATHS = ("/", "/health")
"""Paths that need no key, beside the page's files: nothing of the library is in them."""


@dataclass(frozen=True)
class Rules:
    """Who is let in."""

    key: str | None = None
    """What must be sent as `Authorization: Bearer KEY`; None where no key is demanded."""
    hosts: frozenset[str] | None = None
    """Names by which the server may be called; None for any, which only a key makes safe: a page of another site may
    have its own name lead here (DNS rebinding), and then the browser lets it read all."""


class Guard:
    """ASGI middleware that refuses what the rules do not let in. A refusal is made a response by `refused`."""

    def __init__(self, app: ASGIApp, rules: Rules, refused: Callable[[Refusal], Response]) -> None:
        self._app, self._rules, self._refused = app, rules, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(Request(scope))
        except Refusal as refusal:
            await self._refused(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        headers, path = request.headers, request.url.path
        host = headers.get("host", "")
        if self._rules.hosts is not None and name_of(host) not in self._rules.hosts:
            raise Refusal(403, f"This server is not called {host or 'nothing'}: a page of another site may have led "
                          "you here. Use the address that v2l serve printed, or start it with --api-key.",
                          code="host_not_allowed")
        _check_site(headers, host, request.method, path)
        if self._rules.key is not None and not (path in OPEN_PATHS or path.startswith("/page/")):
            self._check_key(request, path)

    def _check_key(self, request: Request, path: str) -> None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" and request.method in ("GET", "HEAD") and path.startswith("/api/"):
            kind, given = "bearer", _cookie(request.headers)
        # Compared as bytes, in a time that tells nothing; text beyond ASCII would raise.
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), str(self._rules.key).encode()):
            raise Refusal(401, "This needs the server's API key: send it as `Authorization: Bearer KEY`." if not given
                          else "This is not the server's API key.", code="invalid_api_key",
                          headers={"WWW-Authenticate": "Bearer"})


def _check_site(headers: Headers, host: str, method: str, path: str) -> None:
    """Refusal of what a page of another site asks for: browsers tell of themselves where they come from."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    followed = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"  # a link to the page
    own = origin is None or origin.partition("://")[2] == host
    if not own or (site not in ("same-origin", "none") and not followed):
        raise Refusal(403, f"Pages of other sites ({origin or site}) may not ask this server; use its own page.",
                      code="origin_not_allowed")


def name_of(host: str) -> str:
    """The name or the address in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return unquote(cookies[KEY_COOKIE].value) if KEY_COOKIE in cookies else ""  # a cookie cannot hold all signs


async def body_of(request: Request, most: int = MOST_BODY) -> bytes:
    """The whole body of a request. Refusal of one that is too large, as soon as that is known."""
    refusal = Refusal(413, f"The request is larger than {size_text(most)}; pictures and videos cannot be sent, only "
                      "questions to what was watched.", code="request_too_large", headers={"Connection": "close"})
    if request.headers.get("content-length", "0").isdecimal() and int(request.headers.get("content-length", 0)) > most:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise refusal
    return bytes(body)




def allowed_hosts(host: str) -> frozenset[str]:
    """The names by which a server on the loopback may be called; `host` is what it was told to listen on."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})
