"""The routes of the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from v2l.adapter.record import is_foreign
from v2l.engine import Engine
from v2l.serve.batcher import Batcher
from v2l.serve.library import Library, ServedAdapter
from v2l.serve.refusal import Refusal, refusal_of

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Service:
    """What the routes share."""

    engine: Engine
    library: Library
    batcher: Batcher
    loading: Lock

    def load(self) -> None:
        """Reads the text stack into memory, once, at the first question. ModelError."""
        with self.loading:
            self.engine.load_text()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of one JSON document, in ASCII: names may hold what is no text."""
    return Response(json.dumps(value), status, headers, "application/json")


def refused(refusal: Refusal) -> Response:
    """The response that tells of a refusal."""
    return json_response(refusal.document(), refusal.status, refusal.headers)


def told(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are told in OpenAI's shape."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except Exception as error:
            return refused(refusal_of(error))

    return answer


async def unrouted(request: Request, error: Exception) -> Response:
    """What is told where no route, or not with this method, takes a request."""
    assert isinstance(error, HTTPException)
    message = f"There is no {request.method} {request.url.path} here; v2l/serve/README.md lists the routes."
    return refused(Refusal(error.status_code, message, code="unknown_url", headers=error.headers))


def model_document(entry: ServedAdapter) -> dict[str, Any]:
    """An adapter as OpenAI's list of models tells of it."""
    assert entry.label is not None
    record = entry.label.record
    seconds = sum(segment["end"] - segment["start"] for segment in record["segments"])
    return {"id": entry.id, "object": "model", "created": entry.version[1] // 10**9, "owned_by": "v2l",
            "parent": record["base"]["id"],
            "v2l": {"sources": [source["name"] for source in record["sources"]], "duration": round(seconds, 3),
                    "segments": len(record["segments"]), "bytes": entry.label.size, "foreign": is_foreign(record)}}


def create_app(service: Service) -> Starlette:
    """The application of a service."""

    async def health(request: Request) -> Response:
        return json_response({"status": "ok"})

    async def models(request: Request) -> Response:
        entries = service.library.entries().values()
        return json_response({"object": "list", "data": [model_document(one) for one in entries if one.label]})

    async def model(request: Request) -> Response:
        entry = service.library.entry(request.path_params["id"])
        if entry.label is None:
            raise Refusal(422, entry.error, param="model", code="adapter_unusable")
        return json_response(model_document(entry))

    routes = [Route("/health", told(health)), Route("/v1/models", told(models)),
              Route("/v1/models/{id:path}", told(model))]
    return Starlette(routes=routes, exception_handlers={HTTPException: unrouted})
