"""POST /v1/responses: OpenAI's newer endpoint, of one question to one adapter."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from v2l.serve.answering import Finished
from v2l.serve.events import EventStream, event, unless_hung_up
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.openai import MOST_TOKENS, begun, finished
from v2l.serve.question import ServedQuestion, ServedTurn, last_question, question_of, turns
from v2l.serve.refusal import json_response, refusal_of
from v2l.serve.service import Service


async def respond(service: Service, request: Request) -> Response:
    """The endpoint. Refusal, V2LError, HungUp."""
    fields = Fields.of(await body_of(request))
    stream = fields.flag("stream")
    _check_stream_options(fields)
    draft = _Draft(fields, service.last_turn_only)
    items = await begun(service, request, draft.question)
    if stream:
        return EventStream(_events(items, draft), items.close)
    done = await unless_hung_up(request.receive, finished(items))
    return json_response(draft.document(done))


def _check_stream_options(fields: Fields) -> None:
    options = Fields(fields.any("stream_options") or {}, "stream_options")
    options.ignore("include_obfuscation")
    options.end()


class _Draft:
    """A response on its way: the question, and what of the request stands in every document about it."""

    def __init__(self, fields: Fields, last_turn_only: bool) -> None:
        self.id, self.message_id = f"resp_{secrets.token_hex(24)}", f"msg_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._instructions = fields.text("instructions")
        self._metadata = fields.any("metadata") or {}
        self._most_tokens = fields.whole("max_output_tokens", 1, MOST_TOKENS)
        self.question = self._read(fields, last_turn_only)

    def _read(self, fields: Fields, last_turn_only: bool) -> ServedQuestion:
        value = fields.any("input")
        conversation = [ServedTurn("user", value, "input")] if isinstance(value, str) else turns(value, "input")
        text, left_out = last_question(conversation, self._instructions, last_turn_only)
        question = question_of(fields, text, left_out, self._most_tokens)
        alone = "nothing is kept between questions; send the question by itself"
        for field in ("previous_response_id", "conversation", "prompt"):
            fields.only(field, (), alone)
        fields.only("background", (False,), "answers are waited for")
        fields.only("tools", ([],), "adapters know no tools")
        fields.only("tool_choice", ("none", "auto"), "adapters know no tools")
        fields.only("text", ({}, {"format": {"type": "text"}}), "answers are plain text")
        fields.only("reasoning", ({}, {"effort": None}, {"effort": "none"}), "the models do not reason")
        fields.only("include", ([],), "there is nothing more to tell")
        fields.only("top_logprobs", (0,), "log-probabilities are not given")
        fields.only("truncation", ("disabled", "auto"), "one question is read whole, or refused where it is too long")
        fields.ignore("user", "store", "service_tier", "parallel_tool_calls", "max_tool_calls", "safety_identifier",
                      "prompt_cache_key", "prompt_cache_retention")
        fields.end()
        return question

    def part(self, text: str) -> dict[str, Any]:
        """The one part of the one message: text."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        """The one item of the output."""
        return {"id": self.message_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def document(self, done: Finished | None = None, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response: in progress, or finished, or failed for an error."""
        status = "failed" if error else "in_progress" if done is None else ended(done)
        document: dict[str, Any] = {
            "id": self.id, "object": "response", "created_at": self._created, "status": status, "background": False,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": self._instructions, "max_output_tokens": self._most_tokens, "max_tool_calls": None,
            "model": self.question.model, "output": [], "parallel_tool_calls": True, "previous_response_id": None,
            "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None,
            "service_tier": "default", "store": False, "temperature": self.question.decoding.temperature,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
            "top_p": self.question.decoding.top_p, "truncation": "disabled", "usage": None, "user": None,
            "metadata": self._metadata}
        if done:
            document |= {"output": [self.message(status, [self.part(done.text)])], "usage": _usage(done),
                         "v2l": done.facts}
        return document


def ended(done: Finished) -> str:
    """The status of a response that has ended."""
    return "incomplete" if done.finish == "length" else "completed"


def _usage(done: Finished) -> dict[str, Any]:
    return {"input_tokens": done.prompt_tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": done.new_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": done.prompt_tokens + done.new_tokens}


async def _events(items: AsyncIterator[str | Finished], draft: _Draft) -> AsyncGenerator[bytes, None]:
    """The events of a stream, in OpenAI's order. What fails in the middle ends it with `response.failed`."""
    number = -1

    def tell(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    at = {"item_id": draft.message_id, "output_index": 0, "content_index": 0}
    yield tell("response.created", response=draft.document())
    yield tell("response.in_progress", response=draft.document())
    yield tell("response.output_item.added", output_index=0, item=draft.message("in_progress", []))
    yield tell("response.content_part.added", **at, part=draft.part(""))
    try:
        async for item in items:
            if isinstance(item, str):
                yield tell("response.output_text.delta", **at, delta=item, logprobs=[])
                continue
            status, part = ended(item), draft.part(item.text)
            yield tell("response.output_text.done", **at, text=item.text, logprobs=[])
            yield tell("response.content_part.done", **at, part=part)
            yield tell("response.output_item.done", output_index=0, item=draft.message(status, [part]))
            yield tell(f"response.{status}", response=draft.document(item))
    except Exception as error:
        refusal = refusal_of(error)
        yield tell("response.failed", response=draft.document(error={"code": "server_error",
                                                                     "message": refusal.message}))
