"""POST /v1/chat/completions: OpenAI's chat, of one question to one adapter."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from v2l.serve.answering import Answering, Finished
from v2l.serve.events import EventStream, Worked, event, unless_hung_up
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.question import ServedQuestion, last_question, question_of, stops_of, turns
from v2l.serve.refusal import Refusal, json_response, refusal_of
from v2l.serve.service import Service

MOST_TOKENS = 2**31 - 1
"""No base has so many positions; answers end where the base's do."""


Items = Worked["str | Finished"]
"""Pieces of an answer, and at last what they make."""


async def chat(service: Service, request: Request) -> Response:
    """The endpoint. Refusal, V2LError, HungUp."""
    fields = Fields.of(await body_of(request))
    stream = fields.flag("stream")
    with_usage = _wants_usage(fields, stream)
    question = _question(fields, service.last_turn_only)
    items = await begun(service, request, question)
    return await replied(request, items, question.model, stream, with_usage)


async def replied(request: Request, items: Items, model: str, stream: bool, with_usage: bool = False) -> Response:
    """The response of an answer whose first item is there. HungUp, and whatever ends the answer."""
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
    if stream:
        return EventStream(_chunks(items, head, with_usage), items.close)
    done = await unless_hung_up(request.receive, finished(items))
    message: dict[str, Any] = {"role": "assistant", "content": done.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish}
    return json_response({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(done),
                          "system_fingerprint": None, "v2l": done.facts})


def _question(fields: Fields, last_turn_only: bool) -> ServedQuestion:
    conversation = turns(fields.any("messages"), "messages")
    text, left_out = last_question(conversation, None, last_turn_only)
    most = [fields.whole(field, 1, MOST_TOKENS) for field in ("max_tokens", "max_completion_tokens")]
    if None not in most and most[0] != most[1]:
        raise fields.wrong("max_tokens", "the same as max_completion_tokens, or be left out")
    question = question_of(fields, text, left_out, most[1] or most[0], stops_of(fields))
    fields.only("n", (1,), "there is one answer to a question; ask again for another")
    fields.only("response_format", ({"type": "text"},), "answers are plain text")
    fields.only("modalities", (["text"],), "answers are plain text")
    for field in ("tools", "functions"):
        fields.only(field, ([],), "adapters know no tools")
    for field in ("tool_choice", "function_call"):
        fields.only(field, ("none", "auto"), "adapters know no tools")
    for field in ("frequency_penalty", "presence_penalty"):
        fields.only(field, (0, 0.0), "tokens are drawn as the model has them")
    fields.only("logit_bias", ({},), "tokens are drawn as the model has them")
    fields.only("logprobs", (False,), "log-probabilities are not given")
    fields.only("top_logprobs", (0,), "log-probabilities are not given")
    fields.only("reasoning_effort", ("none",), "the models do not reason")
    fields.ignore("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier",
                  "prompt_cache_key", "prompt_cache_retention")
    fields.end()
    return question


def _wants_usage(fields: Fields, stream: bool) -> bool:
    """Whether a stream ends with a chunk of its usage."""
    value = fields.any("stream_options")
    if value is not None and not stream:
        raise Refusal(400, "stream_options is for streams; set stream, or leave it out.", param="stream_options",
                      code="invalid_value")
    options = Fields({} if value is None else value, "stream_options")
    wanted = options.flag("include_usage")
    options.ignore("include_obfuscation")
    options.end()
    return wanted


async def begun(service: Service, request: Request, question: ServedQuestion) -> Items:
    """The items of an answer, of which the first is there: what fails before that is told by a status of its own.
    Refusal, V2LError, HungUp."""
    request.scope["v2l_model"] = question.model
    answering = Answering(service, question)
    return await started(request, Worked(answering, answering.cancel))


async def started(request: Request, items: Items) -> Items:
    """The items, of which the first is there. HungUp, and whatever comes up before."""
    try:
        await unless_hung_up(request.receive, items.first())
    except BaseException:
        items.close()
        raise
    return items


async def finished(items: Items) -> Finished:
    """The end of an answer."""
    try:
        async for item in items:
            if isinstance(item, Finished):
                return item
        raise AssertionError("an answer always ends with what it makes")
    finally:
        items.close()


def _usage(done: Finished) -> dict[str, Any]:
    return {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.new_tokens,
            "total_tokens": done.prompt_tokens + done.new_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                          "rejected_prediction_tokens": 0}}


async def _chunks(items: AsyncIterator[str | Finished], head: dict[str, Any], with_usage: bool
                  ) -> AsyncGenerator[bytes, None]:
    """The events of a stream: the role, the pieces, why it ended, the usage where it was asked for, [DONE]. What
    fails in the middle is one event with the error, and the last."""

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "object": "chat.completion.chunk", "choices": [choice], "system_fingerprint": None,
                      **({"usage": None} if with_usage else {}), **more})

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    try:
        async for item in items:
            if isinstance(item, str):
                yield chunk({"content": item})
                continue
            yield chunk({}, item.finish, v2l=item.facts)
            if with_usage:
                yield event({**head, "object": "chat.completion.chunk", "choices": [], "system_fingerprint": None,
                             "usage": _usage(item)})
            yield event("[DONE]")
    except Exception as error:
        yield event(refusal_of(error).document())
