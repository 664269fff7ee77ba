"""Asking an adapter of many segments: which of them answer, and what comes of it."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.watched import watched

from v2l.adapter import Adapter
from v2l.adapter.compress import compress
from v2l.adapter.join import join, slice_segments
from v2l.config import Decoding, Strategy
from v2l.engine import Engine
from v2l.model.answer import Answer
from v2l.model.claims import presupposed
from v2l.model.questions import (
    AFTER,
    BEFORE,
    BEGINS,
    EARLIER,
    ENDS,
    FIRST_PART,
    HOW_OFTEN,
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
from v2l.strategies.combined import combining_prompt
from v2l.strategies.parts import Parts, Scores
from v2l.strategies.strategy import ask_prepared, chosen_strategy, prepare, ranked
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


@pytest.fixture(scope="module")
def two_in_one(engine: Engine) -> Parts:
    """Two segments, the first with two objects, one after the other."""
    acts = zip(ACTS, ("moves left", "stays still", "grows"), (6.0, 6.0, 12.0), strict=False)
    clip = scene("gray", *(solo(*act, motion, seconds) for act, motion, seconds in acts))
    times = [[12 * i + time for time in sample_times(12, 12)] for i in range(2)]
    return Parts(engine, join([watched(engine, clip, when, 12.0 * i, 12.0 * i + 12)
                               for i, when in enumerate(times)])[0])


def shown_at(adapter: Adapter, order: list[int]) -> Adapter:
    """Segments of an adapter, some more than once, one after the other as one video."""
    A, B, r = adapter.A, adapter.B, adapter.rank
    rows = [slice(r * i, r * i + r) for i in order]
    segments = [{**adapter.segments[i], "start": 12.0 * at, "end": 12.0 * at + 12, "rank": [r * at, r * at + r]}
                for at, i in enumerate(order)]
    return replace(adapter, A=np.concatenate([A[:, row] for row in rows], 1),
                   B=np.concatenate([B[:, row] for row in rows], 1), record={**adapter.record, "segments": segments})


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
        assert by == [i] and answer == ACTS[i][0]
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
    chosen = lambda name, question, finds=False: [
        chosen_strategy(Strategy(name), k, question, finds) for k in (1, 2, few, few + 1, 100)]
    assert chosen("auto", moment) == chosen("auto", "How many are there?", True) == [*["join"] * 3, *["route"] * 2]
    assert chosen("auto", moment, True) == ["join", *["route"] * 4]
    assert chosen("auto", "What happened?") == ["join", *["timeline"] * 4]
    assert chosen("auto", "When does a star appear?") == ["when"] * 5
    assert chosen("auto", "Which comes first, a or b?", True) == ["earlier"] * 5
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
    (AFTER, ["What comes after the red ring?", "What happened after the goal?", "What follows the slide?",
             "After the man falls, what comes next?", "What does the man do right after he falls?"]),
    (BEFORE, ["What is shown before the red ring in the video?", "What precedes the slide?", "Who came before Anna?"]),
    (EARLIER, ["Which comes first, the ring or the star?", "Did the man fall before the car arrived?",
               "Was there a dog before the cat?", "What appears last: a star or a ring?"]),
    (HOW_OFTEN, ["How many times does the ring appear?", "How often did he fall?"]),
    (MOMENT, ["What happens to the red ring?", "Describe the man in the hat.", "When the man falls, what does he do?",
              "What does he say first?", "What happened after that?", "How many objects are there?",
              "What happens 5 seconds after the goal?", "What did he say before the end?", "What comes before it?",
              "How often does it not rain?", "Is the ring red?", "What is the score after the first half?",
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


def test_what_comes_before_and_after_is_asked_of_the_segments_around_it(engine: Engine, parts: Parts) -> None:
    """Whatever it is called."""
    names = [f"the {color} {shape}" for color, shape in ACTS]
    called = ["the ring", "the star", "the blue one", names[3], "the purple object", names[5]]
    questions = [*(f"What comes after {name}?" for name in called[:-1]),
                 *(f"What is shown before {name}?" for name in called[1:])]
    assert asked(engine, parts, questions, Strategy()) == [
        ([i], names[i]) for i in (*range(1, SEGMENTS), *range(SEGMENTS - 1))]
    ends = [f"What comes after {names[-1]}?", f"What comes before {names[0]}?", "What comes after the cyan moon?"]
    assert [text for _, text in asked(engine, parts, ends, Strategy())] == ["nothing"] * 2 + ["there is no cyan moon"]


def test_what_comes_after_in_the_same_segment_is_asked_of_that(engine: Engine, two_in_one: Parts) -> None:
    questions = ["What comes after the red ring?", "What comes after the green star?", "What comes before the star?",
                 "What comes before the blue circle?", "Does the red ring appear after the green star?",
                 "Which comes first, the green star or the red ring?"]
    assert asked(engine, two_in_one, questions, Strategy()) == [
        ([0], "the green star"), ([1], "the blue circle"), ([0], "the red ring"), ([0], "the green star"),
        ([0], "no: the red ring 0:00 to 0:12, the green star 0:00 to 0:12"),
        ([0], "the red ring: the green star 0:00 to 0:12, the red ring 0:00 to 0:12")]


def test_which_of_two_comes_first_is_told_from_their_times(engine: Engine, parts: Parts) -> None:
    at = f"the blue circle {parts.label(2)}, the star {parts.label(1)}"
    answers = {"Does the blue circle appear before the star?": f"no: {at}",
               "Is the blue circle shown after the star?": f"yes: {at}",
               "Which comes first, the blue circle or the star?": f"the star: {at}",
               "What appears last, the blue circle or the star?": f"the blue circle: {at}",
               "Does the star appear before the cyan moon?": f"the cyan moon in none of {SEGMENTS} segments"}
    found = [text for _, text in asked(engine, parts, [*answers], Strategy())]
    assert dict(zip(answers, found, strict=True)) == answers


def test_how_often_counts_the_moments(engine: Engine, adapter: Adapter) -> None:
    """Segments in a row are one."""
    again = Parts(engine, shown_at(adapter, [0, 0, 1, 0]))
    questions = [f"How many times does the {thing} appear?" for thing in ("red ring", "green star", "cyan moon")]
    assert [text for _, text in asked(engine, again, questions, Strategy())] == [
        "2 times: 0:00 to 0:24, 0:36 to 0:48", "1 time: 0:24 to 0:36", "0 times: in none of 4 segments"]


def test_a_base_with_language_makes_one_answer_of_those_around_it(
    engine: Engine, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both segments' own answers, with their times, in the prompt of the bare base."""
    question = "What comes before the green star?"
    answers = [engine.ask(parts.joined([i]), prompt, DECODING).finish().text
               for i, prompt in ((0, "What comes last?"), (1, question))]
    expected = combining_prompt(question, [(parts.label(i), answer) for i, answer in enumerate(answers)])
    monkeypatch.setattr("v2l.strategies.parts.GENERAL_VOCABULARY", 100)
    scores = Scores([0.0, 9.0, *[0.0] * (SEGMENTS - 2)], True, 1)
    monkeypatch.setattr("v2l.strategies.strategy.score_parts", lambda *_: iter([(parts, [scores])]))
    (one,) = prepare(engine, parts, [question], Strategy(), DECODING)
    assert (one.strategy, one.by, one.adapter, one.prompt) == ("each", [0, 1], None, expected)


def test_what_a_question_takes_to_be_there() -> None:
    told = {"What color is the ring?": "ring", "What is the color of the ring?": "ring", "Which shape is red?":
            "red object", "Is there a red ring in the video?": "red ring", "What is the red ring doing?": "red ring",
            "What is to the left of the red one?": "red one", "What moves left?": "something moves left",
            "What color is the background behind the red ring?": "red ring", "What does the slide say?": "slide",
            "What color is the background?": "", "How many objects are there?": "", "What happens?": ""}
    assert {question: presupposed(question) for question in told} == told


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
    monkeypatch.setattr("v2l.strategies.combined.COMBINED_AT_ONCE", at_once)
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
