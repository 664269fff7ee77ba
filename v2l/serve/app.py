"""The routes of the server, and what stands before and around all of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from v2l.adapter.record import is_foreign
from v2l.adapter.wall import whole_keys
from v2l.serve.asking import ask_lines
from v2l.serve.direct import Direct
from v2l.serve.events import HungUp
from v2l.serve.find import find
from v2l.serve.guard import Guard, Rules
from v2l.serve.ingesting import Ingesting
from v2l.serve.library import ServedAdapter
from v2l.serve.media import Endpoint, media_endpoints
from v2l.serve.openai import chat
from v2l.serve.refusal import Refusal, json_response, refusal_of, refused
from v2l.serve.responses import respond
from v2l.serve.service import Service

HUNG_UP = 499
"""Status of what nobody waited for, in the log; nginx calls it so."""


def told(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are told in OpenAI's shape."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except (ClientDisconnect, HungUp):
            return Response(status_code=HUNG_UP)
        except Exception as error:
            return refused(refusal_of(error))

    return answer


async def unrouted(request: Request, error: Exception) -> Response:
    """What is told where no route, or not with this method, takes a request."""
    assert isinstance(error, HTTPException)
    message = (f"There is no {request.method} {request.url.path} here; ask with POST /v1/chat/completions or "
               "/v1/responses, and GET /v1/models lists what there is.")
    return refused(Refusal(error.status_code, message, code="unknown_url", headers=error.headers))


def model_document(served: ServedAdapter) -> dict[str, Any]:
    """An adapter as OpenAI's list of models tells of it."""
    assert served.label is not None
    record = served.label.record
    seconds = sum(segment["end"] - segment["start"] for segment in record["segments"])
    return {"id": served.id, "object": "model", "created": served.version[1] // 10**9, "owned_by": "v2l",
            "parent": record["base"]["id"],
            "v2l": {"sources": [source["name"] for source in record["sources"]], "duration": round(seconds, 3),
                    "segments": len(record["segments"]), "bytes": served.label.size,
                    "fingerprint": served.fingerprint, "foreign": is_foreign(record),
                    **whole_keys(record)}}


def model_routes(service: Service) -> list[Route]:
    """The routes that tell what may be asked."""

    async def models(request: Request) -> Response:
        found = (await run_in_threadpool(service.library.entries)).values()
        return json_response({"object": "list", "data": [model_document(one) for one in found if one.label]})

    async def model(request: Request) -> Response:
        served = await run_in_threadpool(service.library.entry, request.path_params["id"])
        if served.label is None:
            raise Refusal(422, served.error, param="model", code="adapter_unusable")
        return json_response(model_document(served))

    return [Route("/v1/models", told(models)), Route("/v1/models/{id:path}", told(model))]


def question_routes(service: Service) -> list[Route]:
    """The routes that answer questions."""

    async def chat_completions(request: Request) -> Response:
        return await chat(service, request)

    async def responses(request: Request) -> Response:
        return await respond(service, request)

    async def asked(request: Request) -> Response:
        return await ask_lines(service, request)

    return [Route("/v1/chat/completions", told(chat_completions), methods=["POST"]),
            Route("/v1/responses", told(responses), methods=["POST"]),
            Route("/api/ask", told(asked), methods=["POST"])]


def page_routes(service: Service) -> list[Route]:
    """The routes of the page: its files, and what it shows and asks."""
    endpoints = media_endpoints(service.library)

    async def found(request: Request) -> Response:
        return await find(service, request)

    return [*(Route(path, told(endpoint)) for path, endpoint in endpoints.items()),
            Route("/api/find", told(found), methods=["POST"]),
            Route("/api/direct", told(Direct(service).respond), methods=["POST"])]


def create_app(service: Service, rules: Rules) -> Starlette:
    """The application of a service, for those whom the rules let in."""

    async def health(request: Request) -> Response:
        return json_response({"status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.batcher.close(0)  # what was to be answered still is: the server has waited for it

    routes = [Route("/health", told(health)), *model_routes(service), *question_routes(service),
              *page_routes(service),
              Route("/api/ingest", told(Ingesting(service).endpoint), methods=["POST"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: unrouted}, lifespan=lifespan,
                     middleware=[Middleware(RequestLog, service), Middleware(Guard, rules, refused)])


class RequestLog:
    """ASGI middleware that notes a line for each question and each refusal: never what was asked."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = HUNG_UP, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        if scope["method"] == "POST" or status >= 400:
            of = [scope["v2l_model"]] if "v2l_model" in scope else []
            words = [scope["method"], scope["path"], *of, str(status), f"{time.perf_counter() - started:.2f} s"]
            self._service.note(" ".join(words))
