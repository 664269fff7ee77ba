"""One question of a client, read from the fields that OpenAI's two endpoints share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from v2l.adapter.wall import When, check_order
from v2l.config import STRATEGIES, Decoding, Strategy
from v2l.errors import UsageError
from v2l.serve.fields import Fields
from v2l.serve.refusal import Refusal
from v2l.wording import TIME_FORMS, WALL_FORM, clock_seconds, count_of, wall_time

MOST_STOPS, LONGEST_STOP = 4, 1000
"""Texts at which an answer may be ended, as OpenAI limits their number; and characters of each."""
_INGEST = "watch a video with `v2l ingest`, once, and name its adapter as the model"
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of the parts of a message that are text."""


@dataclass(frozen=True)
class ServedQuestion:
    """A question to one adapter, and how it is to be answered."""

    model: str
    text: str
    decoding: Decoding
    strategy: Strategy
    times: tuple[When | None, When | None]
    """Seconds, or moments; only segments that overlap this range are asked."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer, and are not part of it."""
    left_out: tuple[str, ...] = ()
    """What of the conversation the model does not see, in words."""


@dataclass(frozen=True)
class ServedTurn:
    """A message of a conversation: its role, its text, and its field's name for errors."""

    role: str
    text: str
    field: str


def turns(messages: Any, field: str) -> list[ServedTurn]:
    """The messages of a conversation, of text alone. Refusal, by name, of anything else."""
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, f"{field} should be a list of messages, at least one.", param=field, code="invalid_value")
    return [_turn(message, f"{field}[{number}]") for number, message in enumerate(messages)]


def _turn(message: Any, name: str) -> ServedTurn:
    fields = Fields(message, name)
    kind, role = fields.any("type"), fields.any("role")
    if kind not in (None, "message") or role not in ("system", "developer", "user", "assistant"):
        what = kind if kind not in (None, "message") else f"the role {role!r}" if role is not None else "no role"
        raise Refusal(400, f"{name} is {what}, and only messages of the user, the assistant and the system are known "
                      "here: adapters know no tools.", param=name, code="unsupported_value")
    fields.ignore("id", "status", "name", "refusal", "annotations", "phase")
    for field in ("tool_calls", "function_call", "audio"):
        fields.only(field, ([],), "adapters know no tools and no sound")
    content = fields.any("content")
    fields.end()
    return ServedTurn(role, _text(content, f"{name}.content"), name)


def _text(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refusal(400, f"{name} should be text, or a list of parts of text.", param=name, code="invalid_value")
    parts = []
    for number, value in enumerate(content):
        part = Fields(value, f"{name}[{number}]")
        kind = part.any("type")
        if kind not in TEXT_PARTS:
            what = f"a part of type {kind!r}" if isinstance(kind, str) else "a part without a type"
            raise Refusal(400, f"{part.name('type')}: {what} cannot be taken, text only: {_INGEST}.",
                          param=part.name("type"), code="unsupported_value")
        parts.append(part.text("text") or "")
    return "\n".join(parts)


def last_question(
    conversation: Sequence[ServedTurn], system: str | None, last_only: bool
) -> tuple[str, tuple[str, ...]]:
    """The question of a conversation, and in words what else it holds: that is left out where `last_only`, refused
    otherwise. The hypernetworks were trained on single questions, with no turn and no system text before them
    (v2l/README.md section 7), and nothing is ever left out in silence."""
    *before, last = conversation
    if last.role != "user":
        raise Refusal(400, f"{last.field} comes last and is of the {last.role}; let the conversation end with a "
                      "question of the user.", param=last.field, code="invalid_value")
    if not last.text.strip():
        raise Refusal(400, f"{last.field}.content is empty; ask a question.", param=last.field, code="invalid_value")
    told = [turn for turn in before if turn.role in ("system", "developer") and turn.text.strip()]
    earlier = [turn for turn in before if turn.role in ("user", "assistant")]
    left_out = (*(["the system prompt"] if told or (system or "").strip() else []),
                *([count_of(len(earlier), "earlier turn")] if earlier else []))
    if left_out and not last_only:
        fields = [turn.field for turn in [*told, *earlier]] or ["instructions"]
        raise Refusal(400, f"The model sees one question alone, as it was trained to, and {' and '.join(left_out)} "
                      "would be lost: put what matters into the question and send that by itself, or start the server "
                      "with --last-turn-only, which leaves the rest out.", param=fields[0], code="unsupported_value")
    return last.text, left_out


def question_of(fields: Fields, text: str, left_out: tuple[str, ...], most_tokens: int | None,
                stop: tuple[str, ...] = ()) -> ServedQuestion:
    """Reads the fields that both endpoints have; `text` is the question."""
    model = fields.text("model", required=True)
    temperature = fields.number("temperature", 0, 2)
    top_p = fields.number("top_p", 0, 1)
    seed = fields.whole("seed", -(2**63), 2**63 - 1)
    decoding = Decoding(most_tokens or Decoding.max_new_tokens, temperature or 0.0, seed or 0,
                        1.0 if top_p is None else top_p)
    strategy, times = _extension(fields)
    assert model is not None
    return ServedQuestion(model, text, decoding, strategy, times, stop, left_out)


def _extension(fields: Fields) -> tuple[Strategy, tuple[When | None, When | None]]:
    """v2l's own field of a request: how segments are combined, and which ones are asked."""
    value = fields.any("v2l")
    own = Fields({} if value is None else value, fields.name("v2l"))
    strategy = own.text("strategy") or Strategy.name
    if strategy not in STRATEGIES:
        raise own.wrong("strategy", f"one of {', '.join(STRATEGIES)}")
    first, last = when(own, "from"), when(own, "to")
    own.end()
    try:
        check_order(first, last)
    except UsageError as error:
        raise own.wrong("to", "after v2l.from, and a time of the same kind") from error
    return Strategy(strategy), (first, last)


def when(fields: Fields, field: str) -> When | None:
    """Seconds of a time, a number or as people write it, or a moment of the wall clock."""
    value = fields.any(field)
    if not isinstance(value, str):
        return fields.number(field, 0, 1e9)
    if (moment := wall_time(value)) is None and (seconds := clock_seconds(value)) is None:
        raise fields.wrong(field, f"seconds, or a time as {TIME_FORMS}, or with a date, as {WALL_FORM}")
    return seconds if moment is None else moment


def stops_of(fields: Fields) -> tuple[str, ...]:
    """The texts of `stop`: one, or a list of a few."""
    value = fields.any("stop")
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if (not isinstance(stops, list) or len(stops) > MOST_STOPS
            or not all(isinstance(stop, str) and 0 < len(stop) <= LONGEST_STOP for stop in stops)):
        raise fields.wrong("stop", f"text, or a list of up to {MOST_STOPS} texts")
    return tuple(stops)
