"""What a request is refused with: a status and OpenAI's error object, of one sentence with the way out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from v2l.errors import AdapterError, ModelError, UsageError, V2LError, is_memory

if TYPE_CHECKING:
    from starlette.responses import Response


class Refusal(Exception):
    """A request that gets no answer; `param` is the field of it that is wrong, `code` a word for programs."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's word for what kind of error it is."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class TooBusy(V2LError):
    """So many questions wait for the model that no more are taken."""


def refusal_of(error: Exception) -> Refusal:
    """How an error that came up while a request was answered is told to whoever sent it."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TooBusy):
        return Refusal(429, str(error), code="rate_limit_exceeded", headers={"Retry-After": "1"})
    if isinstance(error, UsageError):
        return Refusal(400, str(error), code="invalid_value")
    if isinstance(error, AdapterError):
        return Refusal(422, str(error), param="model", code="adapter_unusable")
    if isinstance(error, ModelError):
        return Refusal(500, str(error), code="model_error")
    if isinstance(error, V2LError):
        return Refusal(422, str(error))
    if is_memory(error):
        return Refusal(503, "The server's memory did not suffice; ask again, or a smaller adapter.",
                       code="out_of_memory", headers={"Retry-After": "5"})
    return Refusal(500, f"This is a bug in v2l ({type(error).__name__}); the server's log says more with V2L_DEBUG=1.",
                   code="bug")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of one JSON document, in ASCII: names may hold what is no text."""
    from starlette.responses import Response  # none is needed where tools are served

    return Response(json.dumps(value), status, headers, "application/json")


def refused(refusal: Refusal) -> Response:
    """The response that tells of a refusal."""
    return json_response(refusal.document(), refusal.status, refusal.headers)
