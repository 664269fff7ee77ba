"""Connection to the Hub as the environment has it, and questions to it that end: in time, and in bytes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from v2l.errors import ModelError

LONGEST = 60.0
"""Seconds for one question to the Hub, its answer read. The client limits only the pauses between two bytes."""
LARGEST = 64 * 2**20
"""Bytes of an answer; the largest repositories' lists of files have some 10 MB."""
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_TIMEOUTS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
_LONGEST_PAUSE = 10**6
"""Seconds that sockets take as a timeout, at least."""
_Result = TypeVar("_Result")


def hub_home() -> str:
    """Where Hugging Face keeps what it caches and the token, as the environment names it."""
    return os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def check_settings() -> None:
    """ModelError that names the variable which huggingface_hub, or its connections, could not read. Before the first
    import of that package, which reads some of them as it is imported."""
    if not _is_url(endpoint(), "http", "https"):
        raise ModelError(f"HF_ENDPOINT ({os.environ.get('HF_ENDPOINT')}) is no address of a Hub; they look like "
                         "https://huggingface.co, which is asked without it.")
    for name in _TIMEOUTS:
        value = os.environ.get(name)
        if value is not None and not (value.strip().isdecimal() and int(value) <= _LONGEST_PAUSE):
            raise ModelError(f"{name} ({value}) is no number of seconds; set it to one such as 30, or remove it.")
    for name in (spelt for proxy in _PROXIES for spelt in (proxy, proxy.lower())):
        value = os.environ.get(name)
        if value and not _is_url(value if "://" in value else f"http://{value}", "http", "https", "socks5", "socks5h"):
            # Its value is not repeated, since it may hold a password.
            raise ModelError(f"{name} is no address of a proxy; they look like http://proxy.example.org:3128. "
                             "Set it anew, or remove it.")
    _check_token()


def _is_url(text: str, *schemes: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # brackets without an end, ports that are no numbers or too large
        return False


def _check_token() -> None:
    if os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return  # no file is read
    named = os.environ.get("HF_TOKEN_PATH")
    path = Path(os.path.expanduser(os.path.expandvars(named or os.path.join(hub_home(), "token"))))
    try:
        path.read_text()
    except FileNotFoundError:
        return  # not logged in
    except (OSError, ValueError) as error:
        if isinstance(error, NotADirectoryError) and not named:
            return  # HF_HOME is told of where something is to be cached there
        reason = (isinstance(error, OSError) and error.strerror) or "no text"
        raise ModelError(f"{f'HF_TOKEN_PATH ({named})' if named else path} is no file with a token ({reason}); name "
                         "another with HF_TOKEN_PATH, or remove it and log in with `hf auth login`.") from None


def connection() -> Any:
    """The client's connections. ModelError where they cannot be made as the environment has it."""
    from huggingface_hub import get_session

    try:
        return get_session()
    except Exception as error:  # httpx's InvalidURL is of no other kind
        reason = (isinstance(error, OSError) and error.strerror) or str(error).rstrip(".")
        raise ModelError(f"No connection can be made with these settings ({reason}); check SSL_CERT_FILE, the "
                         "proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, and NO_PROXY.") from None


def within_limit(work: Callable[[], _Result], what: str) -> _Result:
    """What `work` returns or raises. ModelError where that takes longer than `LONGEST`: the thread that does it then
    ends with the process, as a connection that drips a byte a second cannot be left from outside."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do, name=f"asking for {what}", daemon=True)
    thread.start()
    thread.join(LONGEST)
    if errors:
        raise errors[0]
    if not results:
        raise _too_long(what)
    return results[0]


def ask_json(path: str, what: str) -> Any:
    """What the Hub answers to GET `path`, which is JSON. ModelError where it is not, or is no answer that ends."""
    from huggingface_hub import constants, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    deadline, session = time.monotonic() + LONGEST, connection()

    def ask() -> bytes:
        content = bytearray()
        with session.stream("GET", endpoint() + path, headers=build_hf_headers(), follow_redirects=True,
                            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            if response.is_error:
                hf_raise_for_status(response)
            for block in response.iter_bytes():
                content += block
                if len(content) > LARGEST:
                    raise no_hub(f"more than {LARGEST >> 20} MB about {what}")
                if time.monotonic() > deadline:
                    raise _too_long(what)
        return bytes(content)

    content = within_limit(ask, what)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        kind = "a web page" if content.lstrip()[:1] == b"<" else "no JSON"
        raise no_hub(f"{kind} about {what}") from None


def no_hub(answer: str) -> ModelError:
    """What is to be said of a server that answers otherwise than a Hub."""
    return ModelError(f"{endpoint()} did not answer as a Hub does ({answer}); check HF_ENDPOINT, or whether the "
                      "network wants you to log in first.")


def _too_long(what: str) -> ModelError:
    return ModelError(f"{endpoint()} took longer than {LONGEST:g} s to answer about {what}; check HF_ENDPOINT and the "
                      "network, and try again.")
