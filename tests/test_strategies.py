"""Asking an adapter of many segments: which of them answer, and what comes of it."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.watched import watched

from v2l.adapter import Adapter
from v2l.adapter.compress import compress
from v2l.adapter.join import join, slice_segments
from v2l.config import Decoding, Strategy
from v2l.engine import Engine
from v2l.model.answer import Answer
from v2l.model.questions import (
    BEGINS,
    ENDS,
    FIRST_PART,
    LAST_PART,
    MOMENT,
    WHEN,
    WHEN_LAST,
    WHEN_NOT,
    WHOLE,
    kind_of,
    time_in,
    yes_or_no,
)
from v2l.model.text import LayerAdapter
from v2l.strategies.parts import Parts
from v2l.strategies.strategy import ask_prepared, chosen_strategy, combining_prompt, prepare, ranked
from v2l.tiny.clips import scene, solo
from v2l.tiny.world import MOTIONS, sample_times

DECODING = Decoding(max_new_tokens=24)
ACTS = [("red", "ring"), ("green", "star"), ("blue", "circle"), ("yellow", "cross"), ("purple", "square"),
        ("orange", "triangle")]
SEGMENTS = len(ACTS)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def adapter(engine: Engine) -> Adapter:
    """Six segments of 12 s, an object of its own colour, shape and motion in each."""
    rng = random.Random(3)
    clip = scene("gray", *(solo(*act, motion, 12.0) for act, motion in zip(ACTS, rng.sample(MOTIONS, 6), strict=True)))
    times = [[12 * i + time for time in sample_times(12, 12)] for i in range(SEGMENTS)]
    return join([watched(engine, clip, when, 12.0 * i, 12.0 * i + 12) for i, when in enumerate(times)])[0]


@pytest.fixture(scope="module")
def parts(engine: Engine, adapter: Adapter) -> Parts:
    return Parts(engine, adapter)


def asked(engine: Engine, parts: Parts, questions: list[str], strategy: Strategy) -> list[tuple[list[int], str]]:
    prepared = prepare(engine, parts, questions, strategy, DECODING)
    return [(one.by, answer.text) for one, answer in ask_prepared(engine, prepared, DECODING)]


def same(one: list[LayerAdapter], other: list[LayerAdapter]) -> bool:
    return all(torch.equal(a.A, b.A) and torch.equal(a.B, b.B) and a.scale == b.scale
               for a, b in zip(one, other, strict=True))


def test_parts_are_what_slicing_gives(engine: Engine, adapter: Adapter, parts: Parts) -> None:
    assert len(parts) == SEGMENTS and parts.joined(range(SEGMENTS)) is parts.whole
    assert same(parts.joined([2]), engine.bind(slice_segments(adapter, [2])))
    assert same(parts.joined([1, 4]), engine.bind(slice_segments(adapter, [1, 4])))
    assert parts.label(1) == "0:12 to 0:24"


def test_the_scale_is_of_the_segments_and_not_of_the_bias(adapter: Adapter, parts: Parts) -> None:
    r = adapter.rank
    for scale, factor in ((0.5, 0.5), (None, 1 / 3)):
        scaled, plain = parts.joined([0, 1, 5], scale), parts.joined([0, 1, 5])
        for a, b in zip(scaled, plain, strict=True):
            torch.testing.assert_close(a.A[:-r], b.A[:-r] * factor)
            assert torch.equal(a.A[-r:], b.A[-r:]) and torch.equal(a.B, b.B)
    assert not same(parts.joined(range(SEGMENTS), 0.5), parts.whole)


def test_route_finds_the_segment(engine: Engine, parts: Parts) -> None:
    """One that names what only that segment shows, for each of them, all in one batch."""
    questions = [f"What color is the {shape}?" for _, shape in ACTS]
    for i, (by, answer) in enumerate(asked(engine, parts, questions, Strategy("route"))):
        assert i in by and len(by) == 2 and answer == ACTS[i][0]
    alone = asked(engine, parts, questions, Strategy("route", best=1))
    assert [len(by) for by, _ in alone] == [1] * SEGMENTS
    assert sum(by == [i] for i, (by, _) in enumerate(alone)) >= SEGMENTS - 1  # two are better than one


def test_route_hears_the_one_that_says_otherwise(engine: Engine, parts: Parts) -> None:
    """All segments but one are sure that there is none."""
    questions = [f"Is there a {color} {shape}?" for color, shape in ACTS] + ["Is there a red star?"]
    found = asked(engine, parts, questions, Strategy("route"))
    assert [answer for _, answer in found] == ["yes"] * SEGMENTS + ["no"]
    assert all(i in by for i, (by, _) in enumerate(found[:-1]))


def test_join_is_the_whole_adapter(engine: Engine, adapter: Adapter, parts: Parts) -> None:
    questions = ["What appears first?", "What color is the star?"]
    expected = [engine.ask(adapter, question, DECODING).finish().text for question in questions]
    assert asked(engine, parts, questions, Strategy("join")) == [([*range(SEGMENTS)], text) for text in expected]


def test_what_auto_chooses() -> None:
    few, moment = Strategy().join_up_to, "What color is the star?"
    chosen = lambda name, question: [chosen_strategy(Strategy(name), k, question) for k in (1, 2, few, few + 1, 100)]
    assert chosen("auto", moment) == ["join", "join", "join", "route", "route"]
    assert chosen("auto", "What happened?") == ["join", *["timeline"] * 4]
    assert chosen("auto", "When does a star appear?") == ["when"] * 5
    assert chosen("auto", "What appears last?") == ["join", *["last"] * 4]
    for name in ("join", "route", "each", "timeline"):
        first = "timeline" if name == "timeline" else "join"
        assert chosen(name, moment) == chosen(name, "What happened?") == [first, *[name] * 4]


@pytest.mark.parametrize(("kind", "questions"), [
    (WHOLE, ["What happened?", "what happens in this film", "Describe the video in detail.", "Summarize the lecture.",
             "Can you summarize it, please?", "What\u2019s the clip about?", "List the events.", "What is going on?",
             "Give me a short summary of the video.", "Which objects appear?", "Tell me what happens in the video.",
             "What is it about?", "What's happening?", "Tell me about the clip", "What is in the video?",
             "Describe this", "What do they show?", "whats this about", "What can you see in it?", "Summary, please",
             "When does the circle not move?", "When does nothing move?", "When does the dog stop barking?",
             "When can't I see it move?", "When does the last guest arrive?"]),
    (WHEN, ["When does the red ring appear?", "At what time did the man fall?", "When is there a dog?",
            "At which second does the ring appear?", "Which minute does he fall?", "At what point is there a star?",
            "When does the blue ring move left?", "When in the video does it rain?"]),
    (WHEN_NOT, ["When is there no red ring?", "When isn\u2019t there a ring?", "When is the man not visible?",
                "When doesn't the ring appear?", "When are there no people?", "When is the dog out of view?"]),
    (WHEN_LAST, ["When does the red ring disappear?", "When is the green cross gone?", "When is the dog last seen?",
                 "When has the man left the screen?", "At what time does the ring vanish in the video?"]),
    (BEGINS, ["When does it start?", "When did the video begin?"]),
    (ENDS, ["When does it end?", "When will the video end?", "When is it over?", "At which second does it finish?"]),
    (FIRST_PART, ["What appears first?", "How does the film begin?", "What happened first in the video?"]),
    (LAST_PART, ["What is shown last?", "How does it end?"]),
    (MOMENT, ["What happens to the red ring?", "Describe the man in the hat.", "When the man falls, what does he do?",
              "What does he say first?", "What happened after the goal?", "How many objects are there?",
              "What time is it?", "Was geschieht?", "What is on the slide?", "Who speaks last about money?", ""])])
def test_the_kind_of_a_question(kind: str, questions: list[str]) -> None:
    assert {question: kind_of(question) for question in questions} == dict.fromkeys(questions, kind)


@pytest.mark.parametrize(("question", "found"), [
    ("What happens at 0:15?", ("What happens?", 15.0)), ("What is seen at 1:02:03", ("What is seen?", 3723.0)),
    ("Who speaks at second 7?", ("Who speaks?", 7.0)), ("Who speaks around 2.5 s?", ("Who speaks?", 2.5)),
    ("What happens at 0:15 in the video?", ("What happens?", 15.0)),
    ("What happens at noon?", None), ("Who is at 3:00 pm there?", None), ("At 0:15?", None)])
def test_the_time_in_a_question(question: str, found: tuple[str, float] | None) -> None:
    assert time_in(question) == found


def test_what_is_not_there_is_never_answered_with_the_times_when_it_is(engine: Engine, parts: Parts) -> None:
    (color, shape), labels = ACTS[2], [parts.label(0, 1), parts.label(3, SEGMENTS - 1)]
    questions = [f"When is there no {color} {shape}?", f"When does the {color} {shape} disappear?",
                 "When is the cyan moon gone?", "When does it end?", "When does the video start?"]
    assert [text for _, text in asked(engine, parts, questions, Strategy())] == [
        ", ".join(labels), f"last in {parts.label(2)}", f"in none of {SEGMENTS} segments", "1:12", "0:00"]


def test_a_question_with_a_time_goes_to_the_segment_that_holds_it(engine: Engine, parts: Parts) -> None:
    alone = [engine.ask(parts.joined([3]), "What happens?", DECODING).finish().text]
    assert asked(engine, parts, ["What happens at 0:36?"], Strategy()) == [([3], *alone)]
    assert asked(engine, parts, ["What happens at 9:00?"], Strategy())[0][0] != [3]


def test_when_of_one_segment_is_its_times_or_none(engine: Engine, adapter: Adapter) -> None:
    one = Parts(engine, slice_segments(adapter, [1]))
    questions = ["When does the green star appear?", "When does the red ring appear?"]
    assert [text for _, text in asked(engine, one, questions, Strategy())] == ["0:12 to 0:24", "in none of 1 segment"]


def test_a_question_of_when_becomes_one_of_yes_or_no() -> None:
    told = {"When does the red ring appear?": "Is there a red ring?", "When can we see an orange star?":
            "Is there an orange star?", "When do people appear in the video?": "Are there any people?",
            "At what time is the whiteboard shown?": "Is there a whiteboard?", "When did the man fall?":
            "Did the man fall?", "when does the blue ring move left": "Does the blue ring move left?"}
    assert {question: yes_or_no(question, grammar=True) for question in told} == told
    assert yes_or_no("When does the blue ring move left?", grammar=False) == "Is there a blue ring?"


def test_the_whole_is_what_every_segment_says(engine: Engine, parts: Parts) -> None:
    """By hand, by the question's words, and with `each` on a base that cannot make one answer of many."""
    question = "What happened?"
    alone = [engine.ask(parts.joined([i]), question, DECODING).finish() for i in range(SEGMENTS)]
    assert all(" ".join(act) in answer.text.lower() for act, answer in zip(ACTS, alone, strict=True))
    for strategy in (Strategy(), Strategy("each"), Strategy("timeline")):
        (one,) = prepare(engine, parts, [question], strategy, DECODING)
        assert one.by == [*range(SEGMENTS)] and [each.text for each in one.said] == [each.text for each in alone]
        assert one.answer and one.answer.text.splitlines() == [
            f"{parts.label(i)}: {answer.text}" for i, answer in enumerate(alone)]
        assert one.answer.ids == [token for answer in alone for token in answer.ids] and one.answer.finish == "stop"
    (cut,) = prepare(engine, parts, [question], Strategy(), Decoding(max_new_tokens=3))
    assert cut.answer and cut.answer.finish == "length"


def test_when_is_answered_from_the_times_of_the_segments(engine: Engine, parts: Parts) -> None:
    """Joined, or routed, the model says that there is none of what six segments asked alone have seen."""
    questions = [f"When does the {color} {shape} appear?" for color, shape in ACTS]
    found = list(prepare(engine, parts, questions, Strategy(), DECODING))
    assert [one.answer and one.answer.text for one in found] == [parts.label(i) for i in range(SEGMENTS)]
    assert [one.by for one in found] == [[i] for i in range(SEGMENTS)] and {one.strategy for one in found} == {"when"}
    (none,) = prepare(engine, parts, ["When does the cyan moon appear?"], Strategy(), DECODING)
    assert none.answer and none.answer.text == f"in none of {SEGMENTS} segments" and len(none.by) == SEGMENTS
    (unsure,) = prepare(engine, parts, ["When does it rain?"], Strategy(), DECODING)
    assert unsure.strategy == "when" and unsure.answer and len(unsure.answer.text.splitlines()) == SEGMENTS


def test_segments_in_a_row_are_one_stretch(parts: Parts) -> None:
    assert parts.stretches([4, 0, 1, 2]) == [(0, 2), (4, 4)] and parts.stretches([]) == []


def test_what_is_first_and_last_is_asked_of_the_first_and_the_last(engine: Engine, parts: Parts) -> None:
    found = asked(engine, parts, ["What appears first?", "What appears last?"], Strategy())
    assert found == [([0], "the red ring"), ([SEGMENTS - 1], "the orange triangle")]


def test_questions_of_all_kinds_keep_their_order(engine: Engine, parts: Parts) -> None:
    questions = ["What happened?", "What color is the star?", "When does the red ring appear?", "What appears last?",
                 "What happens?", "What color is the ring?", "When is there a green star?"]
    together = list(prepare(engine, parts, questions, Strategy(), DECODING))
    one_by_one = [next(prepare(engine, parts, [question], Strategy(), DECODING)) for question in questions]
    facts = lambda one: (one.question, one.strategy, one.by, one.answer and one.answer.text)
    assert [*map(facts, together)] == [*map(facts, one_by_one)]
    assert [one.strategy for one in together] == ["timeline", "route", "when", "route", "timeline", "route", "when"]


@pytest.mark.parametrize("at_once", [4, 100])
def test_each_of_a_base_with_language_reads_all_answers(
    engine: Engine, parts: Parts, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Its own answers, in the order of time, in the prompt of the bare base; in rounds where they are many."""
    monkeypatch.setattr("v2l.strategies.parts.GENERAL_VOCABULARY", 100)
    monkeypatch.setattr("v2l.strategies.strategy.COMBINED_AT_ONCE", at_once)
    question = "What color is the star?"
    (one,) = prepare(engine, parts, [question], Strategy("each"), DECODING)
    answers = [engine.ask(parts.joined([i]), question, DECODING).finish().text for i in range(SEGMENTS)]
    assert one.answer is None and one.adapter is None and one.by == [*range(SEGMENTS)]
    told = [(parts.label(i), answers[i]) for i in range(SEGMENTS)]
    if at_once > SEGMENTS:
        assert one.prompt == combining_prompt(question, told)
        assert one.prompt.count(question) == 2 and one.prompt.count("\nFrom 0:12 to 0:24: green\n") == 1
        ((_, answer),) = ask_prepared(engine, [one], DECODING)
        assert answer.text == engine.ask(None, one.prompt, DECODING).finish().text
    else:
        halves = [engine.ask(None, combining_prompt(question, group), DECODING).finish().text
                  for group in (told[:4], told[4:])]
        spans = ["0:00 to 0:48", "0:48 to 1:12"]
        assert one.prompt == combining_prompt(question, [*zip(spans, halves, strict=True)])


def test_ranking() -> None:
    def answer(text: str, logprob: float) -> Answer:
        return Answer(text, [1], 5, 0, 0.1, 0.2, logprob)

    assert ranked([answer("red", -1.0), answer("blue", -0.01), answer("green", -0.5)]) == [1, 2, 0]
    no = [answer("no", -0.001) for _ in range(9)]
    assert ranked([*no[:4], answer("yes", -0.02), *no[4:]])[0] == 4
    assert ranked([answer("no", -0.1)] * 3) == [0, 1, 2]


def test_questions_and_given_answers_keep_their_order(engine: Engine, parts: Parts) -> None:
    questions = ["What color is the star?", "What color is the ring?"]
    routed = list(prepare(engine, parts, questions, Strategy("route"), DECODING))
    given = list(prepare(engine, parts, ["When is there a star?", "When is there a ring?"], Strategy(), DECODING))
    mixed = [given[0], routed[1], given[1], routed[0], given[0], given[1]]
    told = list(ask_prepared(engine, iter(mixed), DECODING))
    assert [one.question for one, _ in told] == [one.question for one in mixed]
    star, ring = (one.answer and one.answer.text for one in given)
    assert [answer.text for _, answer in told] == [star, "red", ring, "green", star, ring]


def test_compressed_segments_are_one_part(engine: Engine, adapter: Adapter) -> None:
    squeezed = compress(slice_segments(adapter, [0, 1]), 8)
    both = Parts(engine, squeezed)
    assert len(both) == 1 and both.parts[0].spans == [(0.0, 12.0), (12.0, 24.0)]
    assert both.joined([0]) is both.whole and both.label(0) == "0:00 to 0:24"


def test_videos_are_told_apart(engine: Engine, adapter: Adapter) -> None:
    other = slice_segments(adapter, [0])
    source = {**other.sources[0], "name": "other.mp4", "sha256": "f" * 64}
    other = replace(other, record={**other.record, "sources": [source]})
    two = Parts(engine, join([slice_segments(adapter, [1]), other])[0])
    assert [two.label(i) for i in (0, 1)] == ["0:12 to 0:24 of clip.mp4", "0:00 to 0:12 of other.mp4"]
    assert two.label(0, 1) == "0:12 of clip.mp4 to 0:12 of other.mp4"


def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long clip in segments allows every group of questions, each with the segment that holds its answer."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent / "measure")])
    from long_clips import GROUPS, asked, long_clip

    rng = random.Random(1)
    clip = long_clip(rng, 4)
    questions = asked(rng, clip)
    assert {q.group for q in questions} == set(GROUPS) and clip.duration == 48
    assert all(q.segment is None or 0 <= q.segment < 4 for q in questions)
    for q in questions:
        if q.group == "named":
            assert q.segment is not None and 12 * q.segment <= clip.events[-1].start
