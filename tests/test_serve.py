"""`v2l serve` over HTTP: real clients on a real server, with the answers that `ask` gives."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, NotFoundError, OpenAI, RateLimitError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from support.cli import ROOT, command, environment, heed_interrupts, refused
from support.serving import Row, Scripted, Server, listening, serving
from support.watched import watched

import v2l
from v2l.adapter import save
from v2l.adapter.join import join
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.errors import ModelError
from v2l.serve import server as server_module
from v2l.serve.batcher import Batcher
from v2l.serve.guard import KEY_COOKIE, MOST_BODY, Rules
from v2l.serve.library import Library
from v2l.serve.refusal import TooBusy
from v2l.serve.server import ServerProtocol
from v2l.serve.service import Service
from v2l.tiny.world import held_out_clips

NAMES = ["one", "two", "talks/three", "talks/four", "many"]
"""Four adapters of one segment, and one of six."""
QUESTIONS = ["What happened?", "What appears first?", "Is there a red ring?"]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def folder(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "talks").mkdir()
    clips = list(held_out_clips(6, seed=5))
    made = [watched(engine, clip, times, 12.0 * i, 12.0 * i + 12, f"{i}.mp4") for i, (clip, times) in enumerate(clips)]
    for name, adapter in zip(NAMES, [*made[:4], join(made)[0]], strict=True):
        save(adapter, folder / f"{name}.v2lora")
    (folder / "cut.v2lora").write_bytes((folder / "one.v2lora").read_bytes()[:-100])
    return folder


@pytest.fixture(scope="module")
def service(engine: Engine, folder: Path) -> Service:
    return Service(engine, Library([folder]), Batcher(engine))


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Server]:
    with serving(service) as server:
        yield server


@pytest.fixture(scope="module")
def openai(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[tuple[str, str], str]:
    """What `ask` answers."""
    with v2l.Engine("tiny", offline=True, device="cpu", dtype="float32") as engine:
        return {(name, question): engine.ask(folder / f"{name}.v2lora", question).text
                for name in NAMES for question in QUESTIONS}


def user(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


# What there is.


def test_each_adapter_is_a_model_with_its_base_as_parent(openai: OpenAI) -> None:
    models = list(openai.models.list())
    assert [model.id for model in models] == sorted(NAMES)  # what cannot be used is none
    many = openai.models.retrieve("many").to_dict()
    assert (many["parent"], many["object"], many["owned_by"]) == ("v2l/tiny", "model", "v2l")
    assert many["v2l"]["segments"] == 6 and many["v2l"]["duration"] == 72.0  # type: ignore[index]
    assert openai.models.retrieve("talks/three").id == "talks/three"


def test_an_unknown_model_is_told_with_the_nearest_names_and_never_the_bare_base(openai: OpenAI) -> None:
    for call in (lambda: openai.models.retrieve("talks/thre"),
                 lambda: openai.chat.completions.create(model="talks/thre", messages=user("What happened?")),
                 lambda: openai.responses.create(model="talks/thre", input="What happened?")):
        with pytest.raises(NotFoundError, match="did you mean talks/three") as caught:
            call()
        assert (caught.value.code, caught.value.type, caught.value.param) == ("model_not_found",
                                                                               "invalid_request_error", "model")
    with pytest.raises(NotFoundError):
        openai.chat.completions.create(model="v2l/tiny", messages=user("What happened?"))


# Answers.


def test_chat_answers_as_ask(openai: OpenAI, answers: dict[tuple[str, str], str]) -> None:
    for (name, question), expected in answers.items():
        reply = openai.chat.completions.create(model=name, messages=user(question))
        [choice] = reply.choices
        assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", expected, "stop")
        assert reply.usage and reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        assert reply.usage.prompt_tokens > 0 and reply.model == name and reply.object == "chat.completion"


def test_a_streamed_chat_is_the_role_then_pieces_then_why_it_ended(
        openai: OpenAI, answers: dict[tuple[str, str], str]) -> None:
    with openai.chat.completions.create(model="one", messages=user("What happened?"), stream=True,
                                        stream_options={"include_usage": True}) as stream:
        first, *pieces, last, usage = list(stream)
    assert first.choices[0].delta.role == "assistant" and not first.choices[0].delta.content
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == answers["one", "What happened?"]
    assert [chunk.choices[0].finish_reason for chunk in (first, *pieces, last)] == [None] * (len(pieces) + 1) + ["stop"]
    assert usage.choices == [] and usage.usage and usage.usage.completion_tokens > 5
    assert all(chunk.usage is None for chunk in (first, *pieces, last))
    assert len({chunk.id for chunk in (first, *pieces, last, usage)}) == 1
    assert last.to_dict()["v2l"]["strategy"] == "join"  # type: ignore[index]


def test_a_stream_has_no_usage_unless_asked(openai: OpenAI) -> None:
    chunks = list(openai.chat.completions.create(model="one", messages=user("What happened?"), stream=True))
    assert all(chunk.choices and "usage" not in chunk.to_dict() for chunk in chunks)


def test_responses_answer_as_ask(openai: OpenAI, answers: dict[tuple[str, str], str]) -> None:
    for name in NAMES:
        reply = openai.responses.create(model=name, input="What happened?")
        assert (reply.output_text, reply.status) == (answers[name, "What happened?"], "completed")
        assert reply.usage and reply.usage.output_tokens > 0
    cut = openai.responses.create(model="one", input=user("What happened?"), max_output_tokens=2)
    assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == ("incomplete",
                                                                                      "max_output_tokens")


EVENTS = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
          "response.output_text.delta", "response.output_text.done", "response.content_part.done",
          "response.output_item.done", "response.completed"]


def test_a_streamed_response_has_the_events_in_order(openai: OpenAI, answers: dict[tuple[str, str], str]) -> None:
    expected = answers["two", "What happened?"]
    with openai.responses.stream(model="two", input="What happened?") as stream:  # it checks each by itself
        events = list(stream)
        assert stream.get_final_response().output_text == expected
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == expected


def test_sixteen_clients_of_five_adapters_get_the_answers_of_ask(
        server: Server, answers: dict[tuple[str, str], str]) -> None:
    """Streamed and not, chat and responses, all at once: no answer is another adapter's."""
    async def ask(client: AsyncOpenAI, number: int, name: str, question: str) -> str | None:
        if number % 4 == 0:
            chunks = await client.chat.completions.create(model=name, messages=user(question), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        if number % 4 == 1:
            reply = await client.chat.completions.create(model=name, messages=user(question))
            return reply.choices[0].message.content
        if number % 4 == 2:
            return (await client.responses.create(model=name, input=question)).output_text
        async with client.responses.stream(model=name, input=question) as stream:
            return (await stream.get_final_response()).output_text

    async def one_client(client: AsyncOpenAI, number: int) -> list[str | None]:
        turns = list(answers)
        turns = turns[number:] + turns[:number]
        return [await ask(client, number + at, *turn) for at, turn in enumerate(turns[:4])]

    async def all_clients() -> list[list[str | None]]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(*(one_client(client, number) for number in range(16)))

    expected = list(answers.values())
    for number, given in enumerate(asyncio.run(all_clients())):
        assert given == (expected[number:] + expected[:number])[:4]


def test_a_changed_file_is_another_adapter(server: Server, folder: Path, answers: dict[tuple[str, str], str]) -> None:
    def ask() -> str:
        status, _, reply = server.ask("POST", "/v1/chat/completions", {"model": "new", "messages": user(QUESTIONS[0])})
        return str(reply["choices"][0]["message"]["content"]) if status == 200 else str(status)

    try:
        said = [ask()]
        for name in ("one", "two"):
            shutil.copy(folder / f"{name}.v2lora", folder / ".new")
            os.replace(folder / ".new", folder / "new.v2lora")
            said.append(ask())
    finally:
        (folder / "new.v2lora").unlink()
    assert said == ["404", answers["one", QUESTIONS[0]], answers["two", QUESTIONS[0]]]


def test_segments_are_combined_as_the_request_says(server: Server, folder: Path) -> None:
    def ask(**own: Any) -> tuple[str, dict[str, Any]]:
        body = {"model": "many", "messages": user("What happened?"), "v2l": own}
        status, _, reply = server.ask("POST", "/v1/chat/completions", body)
        assert status == 200, reply
        return reply["choices"][0]["message"]["content"], reply["v2l"]

    whole, facts = ask()
    assert facts["strategy"] == "timeline" and len(facts["answered_by"]) == len(whole.splitlines()) == 6
    routed, facts = ask(strategy="route")
    assert facts["strategy"] == "route" and len(facts["answered_by"]) == 2
    part, facts = ask(**{"from": "0:24", "to": 36})
    assert [(by["start"], by["end"]) for by in facts["answered_by"]] == [(24.0, 36.0)]
    with v2l.Engine("tiny", offline=True, device="cpu", dtype="float32") as engine:
        assert routed == engine.ask(folder / "many.v2lora", "What happened?", strategy="route").text
        assert part == engine.ask(folder / "talks/three.v2lora", "What happened?").text


def test_an_answer_ends_where_it_is_told_to(openai: OpenAI, answers: dict[tuple[str, str], str]) -> None:
    whole = answers["one", "What happened?"]
    words = whole.split()
    for stop in (words[3], [f" {words[2]} {words[3]}", "never"], whole[-1], "never"):
        for stream in (False, True):
            text, finish = said(openai, stop=stop, stream=stream)
            stops = [stop] if isinstance(stop, str) else stop
            assert (text, finish) == (min((whole.split(one)[0] for one in stops), key=len), "stop")
    text, finish = said(openai, max_completion_tokens=3)
    assert whole.startswith(text) and 0 < len(text) < len(whole) and finish == "length"


def said(openai: OpenAI, model: str = "one", stream: bool = False, **options: Any) -> tuple[str, str | None]:
    """The text of an answer, and why it ended."""
    if not stream:
        [choice] = openai.chat.completions.create(model=model, messages=user("What happened?"), **options).choices
        return choice.message.content or "", choice.finish_reason
    chunks = list(openai.chat.completions.create(model=model, messages=user("What happened?"), stream=True, **options))
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks[-1].choices[0].finish_reason


def test_draws_are_those_of_the_seed(openai: OpenAI, engine: Engine, folder: Path) -> None:
    drawn = [said(openai, temperature=1.8, seed=seed)[0] for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1
    alone = engine.ask(v2l.load(folder / "one.v2lora"), "What happened?", Decoding(temperature=1.8, seed=1)).text
    assert drawn[0] == alone
    sure = said(openai, temperature=1.8, seed=1, top_p=0.0001)[0]
    assert sure == said(openai)[0] == said(openai, temperature=0)[0]


# What is refused.

CHAT: dict[str, Any] = {"model": "one", "messages": user("What happened?")}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 2}, "n", "one answer"),
    ({"logprobs": True}, "logprobs", "log-probabilities"),
    ({"tools": [{"type": "function"}]}, "tools", "no tools"),
    ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
    ({"presence_penalty": 0.5}, "presence_penalty", "drawn as the model has them"),
    ({"temprature": 1}, "temprature", "did you mean temperature"),
    ({"temperature": 3}, "temperature", "from 0 to 2"),
    ({"temperature": True}, "temperature", "from 0 to 2"),
    ({"top_p": -1}, "top_p", "from 0 to 1"),
    ({"max_tokens": 0}, "max_tokens", "a whole number from 1"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "the same as"),
    ({"seed": 1.5}, "seed", "whole number"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "up to 4"),
    ({"stop": ""}, "stop", "text"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "set stream"),
    ({"model": 5}, "model", "text"),
    ({"model": None}, "model", "missing"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": user("  ")}, "messages[0]", "ask a question"),
    ({"messages": user("What happened?" * 5000)}, None, "tokens long"),  # type: ignore[list-item]
    ({"messages": [{"role": "system", "content": "Be brief."}, *user("What happened?")]}, "messages[0]",
     "the system prompt would be lost"),
    ({"messages": [*user("What?"), {"role": "assistant", "content": "x"}, *user("And?")]}, "messages[0]",
     "2 earlier turns"),
    ({"messages": [*user("What?"), {"role": "assistant", "content": "x"}]}, "messages[1]", "comes last"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0]", "no tools"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content[0].type", "v2l ingest"),
    ({"messages": [{"role": "user", "content": [{"type": "video_url"}, {"type": "text", "text": "What?"}]}]},
     "messages[0].content[0].type", "v2l ingest"),
    ({"v2l": {"strategy": "best"}}, "v2l.strategy", "auto, join, route"),
    ({"v2l": {"from": "9:99:99"}}, "v2l.from", "1:30"),
    ({"v2l": {"from": 5, "to": 3}}, "v2l.to", "after"),
    ({"v2l": {"form": 5}}, "v2l.form", "did you mean from"),
    ({"v2l": {"from": 5000}}, None, "no segment there"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("change", "param", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_done_is_refused_by_name(server: Server, change: dict[str, Any], param: str | None, words: str
                                                ) -> None:
    status, _, reply = server.ask("POST", "/v1/chat/completions", CHAT | change)
    assert status == 400 and words in reply["error"]["message"], reply
    assert (reply["error"]["param"], reply["error"]["type"]) == (param, "invalid_request_error")
    assert reply["error"]["message"].endswith(".") and reply["error"]["code"]


@pytest.mark.parametrize(("change", "param"), [
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"background": True}, "background"),
    ({"instructions": "Be brief."}, "instructions"), ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"text": {"format": {"type": "json_object"}}}, "text"), ({"reasoning": {"effort": "high"}}, "reasoning"),
    ({"include": ["message.output_text.logprobs"]}, "include"), ({"input": None}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0]"), ({"messages": []}, "messages"),
], ids=str)
def test_responses_refuse_by_name_too(server: Server, change: dict[str, Any], param: str) -> None:
    status, _, reply = server.ask("POST", "/v1/responses", {"model": "one", "input": "What happened?"} | change)
    assert (status, reply["error"]["param"]) == (400, param), reply


def test_what_changes_nothing_is_taken(server: Server, answers: dict[tuple[str, str], str]) -> None:
    neutral = {"n": 1, "logprobs": False, "tools": [], "response_format": {"type": "text"}, "frequency_penalty": 0,
               "presence_penalty": 0.0, "logit_bias": {}, "user": "me", "metadata": {"a": "b"}, "store": False,
               "stop": None, "seed": None, "max_tokens": None, "temperature": 0, "top_p": 1, "stream": False,
               "messages": [{"role": "user", "name": "me", "content": [{"type": "text", "text": "What happened?"}]}]}
    status, _, reply = server.ask("POST", "/v1/chat/completions", CHAT | neutral)
    assert (status, reply["choices"][0]["message"]["content"]) == (200, answers["one", "What happened?"])


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'{"model": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000,
                                  b"\xff\xfe"])
def test_what_is_no_request_is_told_so(server: Server, body: bytes) -> None:
    status, _, reply = server.ask("POST", "/v1/chat/completions", body)
    assert status == 400 and "JSON" in reply["error"]["message"]


def test_a_damaged_adapter_is_told_in_its_sentence(server: Server, folder: Path) -> None:
    for path, body in (("chat/completions", CHAT), ("responses", {"input": "What happened?"})):
        status, _, reply = server.ask("POST", f"/v1/{path}", body | {"model": "cut"})
        assert status == 422 and "cut.v2lora is not a usable adapter" in reply["error"]["message"]
        assert str(folder) not in reply["error"]["message"]  # where the library lies is nobody's business


def test_what_is_not_there_is_told_in_openais_shape(server: Server) -> None:
    assert [server.ask(*call)[0] for call in (("GET", "/v1/nothing"), ("POST", "/v1/models"), ("GET", "/health"))] == [
        404, 405, 200]
    assert "no GET /v1/nothing" in server.ask("GET", "/v1/nothing")[2]["error"]["message"]


def test_earlier_turns_are_left_out_where_the_server_was_told_so(service: Service,
                                                                 answers: dict[tuple[str, str], str]) -> None:
    with serving(replace(service, last_turn_only=True, batcher=Batcher(service.engine))) as server:
        openai = OpenAI(base_url=f"{server.url}/v1", api_key="none")
        turns: Any = [{"role": "system", "content": "Be brief."}, *user("Hello?"),
                      {"role": "assistant", "content": "Hi."}, *user("What happened?")]
        reply = openai.chat.completions.create(model="one", messages=turns)
        assert reply.choices[0].message.content == answers["one", "What happened?"]
        assert reply.to_dict()["v2l"]["left_out"] == ["the system prompt", "2 earlier turns"]  # type: ignore[index]
        other = openai.responses.create(model="one", input="What happened?", instructions="Be brief.")
        assert other.to_dict()["v2l"]["left_out"] == ["the system prompt"]  # type: ignore[index]


# When things go wrong.


@contextmanager
def scripted(service: Service, *rows: Row | Exception, **settings: Any) -> Iterator[tuple[Server, OpenAI]]:
    with serving(replace(service, batcher=Scripted(*rows)), **settings) as server:  # type: ignore[arg-type]
        yield server, OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def rows() -> list[Row | Exception]:
    """What the questions to `played` become."""
    return []


@pytest.fixture(scope="module")
def played(service: Service, rows: list[Row | Exception]) -> Iterator[Server]:
    batcher = Scripted()
    batcher.rows = rows
    with serving(replace(service, batcher=batcher)) as server:  # type: ignore[arg-type]
        yield server


def test_a_busy_server_says_when_to_come_again(played: Server, rows: list[Row | Exception]) -> None:
    rows += [TooBusy("Too many wait."), TooBusy("Too many wait.")]
    for stream in (False, True):
        with pytest.raises(RateLimitError, match="Too many wait") as caught:
            said(client_of(played), stream=stream)
        assert caught.value.response.headers["retry-after"] == "1"


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_an_error_after_the_first_byte_is_one_clean_event(played: Server, rows: list[Row | Exception]) -> None:
    rows += [Row(["A ring", ModelError("The memory of the GPU was lost.")]) for _ in range(3)]
    openai, pieces = client_of(played), []
    with pytest.raises(APIError, match="The memory of the GPU was lost"):
        for chunk in openai.chat.completions.create(model="one", messages=user("What happened?"), stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert pieces == ["", "A ring"]
    events = list(openai.responses.create(model="one", input="What happened?", stream=True))
    assert events[-1].type == "response.failed" and events[-1].response.error
    assert events[-1].response.error.message == "The memory of the GPU was lost."
    status, _, reply = played.ask("POST", "/v1/responses", {"model": "one", "input": "What happened?"})
    assert (status, reply["error"]["type"]) == (500, "server_error")


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize(("stream", "pieces"), [(True, 1), (True, 0), (False, 1)])
def test_a_client_that_hangs_up_frees_its_row(
        played: Server, rows: list[Row | Exception], path: str, stream: bool, pieces: int) -> None:
    row = Row([*["A ring"] * pieces, Event()])
    rows.append(row)
    body = (CHAT if path.startswith("chat") else {"model": "one", "input": "What?"}) | {"stream": stream}
    client = post(played.port, f"/v1/{path}", body)
    assert row.begun.wait(10)
    if stream and pieces:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    client.close()
    assert row.cancelled.wait(10)


def post(port: int, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which a question was asked, and nothing read."""
    data = json.dumps(body).encode()
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                   f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return client


# Who may ask.


@pytest.mark.parametrize(("headers", "status"), [
    ({"Host": "localhost"}, 200), ({"Host": "127.0.0.1:99"}, 200), ({"Host": "[::1]:99"}, 200),
    ({"Host": "evil.example"}, 403), ({"Host": "localhost.evil.example"}, 403), ({"Host": ""}, 403),
    ({"Host": "localhost:99", "Origin": "http://localhost:99"}, 200),
    ({"Host": "localhost:99", "Origin": "http://localhost:98"}, 403), ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403), ({"Sec_Fetch_Site": "cross-site"}, 403), ({"Sec_Fetch_Site": "same-site"}, 403),
    ({"Sec_Fetch_Site": "same-origin"}, 200), ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
], ids=str)
def test_pages_of_other_sites_may_not_ask(server: Server, headers: dict[str, str], status: int) -> None:
    assert server.ask("GET", "/v1/models", **headers)[0] == status


def test_a_key_is_demanded_where_there_is_one(service: Service) -> None:
    with scripted(service, rules=Rules("secret")) as (server, _):
        def status(path: str, **headers: str) -> int:
            return server.ask("GET", path, **headers)[0]

        assert status("/v1/models") == status("/v1/models", Authorization="Bearer wrong") == 401
        assert status("/v1/models", Authorization="Basic secret") == 401
        assert status("/v1/models", Authorization="Bearer secr\u00e9t") == 401
        assert status("/v1/models", Authorization="Bearer secret") == status("/health") == 200
        assert status("/v1/models", Cookie=f"{KEY_COOKIE}=secret") == 401  # for what pages show alone
        assert status("/api/nothing", Cookie=f"{KEY_COOKIE}=secret") == 404
        assert status("/api/nothing") == 401
        assert status("/v1/models", Authorization="Bearer secret", Host="v2l.example") == 200
        assert [model.id for model in OpenAI(base_url=f"{server.url}/v1", api_key="secret").models.list()]


def test_a_request_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    assert client.recv(20).startswith(b"HTTP/1.1 413")
    client.close()
    chunk = b"%x\r\n%s\r\n" % (MOST_BODY, b" " * MOST_BODY)
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2)
    assert client.recv(20).startswith(b"HTTP/1.1 413")
    client.close()


class Hasty(ServerProtocol):
    """Waits for slow clients a quarter of a second."""

    request_s = response_s = 0.25


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that says OK, and one that never ends at /flood, if they are waited for."""
    gone = Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b" " * (1 << 20)
                await asyncio.sleep(0)  # as whatever reads a file does: sending to what was cut does not wait
        finally:
            gone.set()

    async def flood(request: Request) -> Response:
        return StreamingResponse(endless())

    async def health(request: Request) -> Response:
        return Response((await request.body()) and "OK")

    routes = [Route("/flood", flood), Route("/{path:path}", health, methods=["GET", "POST"])]
    app = Starlette(routes=routes)
    app.state.gone = gone
    with listening(app, protocol=Hasty) as server:
        yield server


@pytest.mark.parametrize("sent", [
    b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 100\r\n\r\n{", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HT",
], ids=["nothing", "headers", "body", "second"])
def test_a_client_that_sends_a_byte_now_and_then_is_cut(hasty: Server, sent: bytes) -> None:
    client = socket.create_connection(("127.0.0.1", hasty.port), timeout=20)
    client.sendall(sent)
    with pytest.raises(OSError):  # reset, or a pipe that nobody reads
        while True:
            client.sendall(b"x")
            time.sleep(0.02)


def test_a_client_that_reads_nothing_is_cut(hasty: Server) -> None:
    client = socket.create_connection(("127.0.0.1", hasty.port), timeout=20)
    client.sendall(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert hasty.listening.config.app.state.gone.wait(20)
    client.close()


# Videos to watch.


def test_a_video_below_the_folder_is_watched_where_that_is_allowed(
        server: Server, service: Service, tmp_path: Path) -> None:
    (tmp_path / "in" / "talks").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "one-shape.mp4", tmp_path / "in" / "talks" / "clip.mp4")
    shutil.copy(ROOT / "examples" / "one-shape.mp4", tmp_path / "out.mp4")
    (tmp_path / "in" / "link.mp4").symlink_to(tmp_path / "out.mp4")
    video = {"path": "talks/clip.mp4"}
    assert server.ask("POST", "/api/ingest", video)[0] == 403
    allowed = replace(service, library=Library([tmp_path / "in"]), batcher=Batcher(service.engine), may_ingest=True)
    with serving(allowed) as server:
        for name in ("../out.mp4", str(tmp_path / "out.mp4"), "link.mp4", "talks", "talks/clip"):
            assert server.ask("POST", "/api/ingest", {"path": name})[0] == 404, name
        client = post(server.port, "/api/ingest", video | {"segment": "3s", "stream": True})
        told = b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()
        steps = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: ")]
        assert {step["type"] for step in steps[:-1]} == {"progress"}
        assert (steps[-1]["type"], steps[-1]["id"], steps[-1]["segments"]) == ("done", "talks/clip", 2)
        status, _, again = server.ask("POST", "/api/ingest", video | {"segment": "3s"})
        assert (status, again["id"], again["skipped"]) == (200, "talks/clip", True)
        status, _, wrong = server.ask("POST", "/api/ingest", video | {"segment": "soon"})
        assert status == 400 and "no way to cut a video" in wrong["error"]["message"]
        status, _, reply = server.ask("POST", "/v1/chat/completions", CHAT | {"model": "talks/clip"})
        assert status == 200 and "square" in reply["choices"][0]["message"]["content"]


# How it ends.


@pytest.mark.parametrize("cut", [False, True])
def test_a_signal_has_answers_finished_and_a_second_one_does_not(
        service: Service, monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    monkeypatch.setattr(server_module, "BOUNCE_S", 0.0)
    go, row = Event(), Row(["A ring"])
    row.script += [go, " moves."]
    with scripted(service, row) as (server, openai):
        stream = openai.chat.completions.create(model="one", messages=user("What happened?"), stream=True)
        pieces = [next(iter(stream)).choices[0].delta.content for _ in range(2)]
        server.listening.handle_exit(signal.SIGTERM, None)
        if cut:
            time.sleep(0.001)
            server.listening.handle_exit(signal.SIGINT, None)
            with pytest.raises(APIError):
                list(stream)
            assert row.cancelled.wait(10)
        else:
            while server.listening.servers[0].is_serving():
                time.sleep(0.01)
            with pytest.raises(OSError):  # nobody else is let in
                socket.create_connection(("127.0.0.1", server.port), timeout=5)
            go.set()
            assert pieces + [chunk.choices[0].delta.content for chunk in stream] == ["", "A ring", " moves.", None]
        server.thread.join(20)
        assert server.listening.cut == (signal.SIGINT if cut else None)


def test_the_command_serves_until_it_is_told_to_end(folder: Path, answers: dict[tuple[str, str], str]) -> None:
    process = subprocess.Popen(command("serve", folder, "--port", "0", "--device", "cpu", "--dtype", "float32"),
                               env=environment(V2L_API_KEY="secret"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=heed_interrupts)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"Serving 6 adapters at (http://127\.0\.0\.1:\d+) with tiny; Ctrl-C stops\.\n", line)
        assert found, line
        url = found[1]
        call = [url + "/v1/chat/completions", "-d", json.dumps(CHAT | {"stream": True})]
        if curl := shutil.which("curl"):
            done = subprocess.run([curl, "-sN", "-H", "Authorization: Bearer secret", *call], capture_output=True,
                                  text=True, timeout=60)
            events = [event.removeprefix("data: ") for event in done.stdout.split("\n\n") if event]
            chunks = [json.loads(event) for event in events[:-1]]
            text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
            assert (text, events[-1]) == (answers["one", "What happened?"], "[DONE]")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout and process.stdout.read() == ""
        assert "POST /v1/chat/completions one 200" in process.stderr.read()
    finally:
        process.kill()


def test_what_makes_no_server_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "needs an API key" in refused("serve", folder, "--host", "0.0.0.0", status=2).replace("an API key is needed",
                                                                                               "needs an API key")
    assert "There is no" in refused("serve", tmp_path / "nothing", status=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refused("serve", folder, "--port", port, status=2)
    assert "99999 is not a port" in refused("serve", folder, "--port", "99999", status=2)
    assert "no address of this machine" in refused("serve", folder, "--host", "no.such.host.invalid", status=2)


def test_llm_asks_it(server: Server, answers: dict[tuple[str, str], str], tmp_path: Path,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `llm`, with its file for servers such as this one."""
    from click.testing import CliRunner

    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: lecture\n  model_name: one\n  api_base: {server.url}/v1\n")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    from llm.cli import cli

    def llm(*words: str) -> Any:
        return CliRunner().invoke(cli, ["-m", "lecture", "What happened?", *words])

    for words in ((), ("--no-stream",), ("-o", "max_tokens", "50", "-o", "temperature", "0", "-o", "seed", "3")):
        assert llm(*words).output.strip() == answers["one", "What happened?"]
    assert "put what matters into the question" in llm("-s", "Be brief.").output
    assert "2 earlier turns" in llm("-c").output
