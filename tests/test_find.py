"""`v2l find`: when something happens, told by how sure each segment is of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.cli import documents, refused, run
from support.watched import watched

from v2l.adapter import Adapter, save
from v2l.adapter.compress import compress
from v2l.adapter.join import join, slice_segments
from v2l.config import SURE, Decoding, Strategy
from v2l.engine import Engine
from v2l.model.claims import sought
from v2l.model.generate import next_logits
from v2l.model.prompt import question_prompt
from v2l.serve.answering import RunningRows
from v2l.serve.batcher import Batcher
from v2l.serve.find import found_moments
from v2l.serve.library import Library
from v2l.serve.service import Service
from v2l.strategies.parts import Parts, moments, score_parts
from v2l.strategies.strategy import prepare
from v2l.tiny.clips import scene, solo
from v2l.tiny.world import sample_times

ACTS = [("red", "ring", "moves left"), ("green", "star", "grows"), ("red", "ring", "moves right"),
        ("red", "ring", "moves left"), ("blue", "circle", "stays still"), ("purple", "square", "moves up")]
TINY = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


def film(engine: Engine, acts: list[tuple[str, str, str]], name: str) -> Adapter:
    """A segment of 12 s for each act."""
    clip = scene("gray", *(solo(*act, 12.0) for act in acts))
    return join([watched(engine, clip, [12 * i + time for time in sample_times(12, 12)], 12.0 * i, 12.0 * i + 12, name)
                 for i in range(len(acts))])[0]


@pytest.fixture(scope="module")
def adapter(engine: Engine) -> Adapter:
    return film(engine, ACTS, "long.mp4")


@pytest.fixture(scope="module")
def library(engine: Engine, adapter: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long file, a short one, one of both videos, and one of a base that is not there."""
    folder = tmp_path_factory.mktemp("library")
    save(adapter, folder / "long.v2lora")
    short = film(engine, [("red", "ring", "grows")], "short.mp4")
    save(short, folder / "short.v2lora")
    (folder / "more").mkdir()
    save(join([adapter, short])[0], folder / "more" / "both.v2lora")
    return folder


@pytest.fixture
def here(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(library)
    return library


def above(engine: Engine, parts: Parts, query: str) -> list[int]:
    [(_, [scores])] = score_parts(engine, [parts], [query])
    return [i for i, score in enumerate(scores.by_part) if score >= SURE]


# Claims.


@pytest.mark.parametrize(("query", "question"), [
    ("a red ring moves", "Does a red ring move?"), ("red ring", "Is there a red ring?"),
    ("dogs", "Are there any dogs?"),
    ("Is there a dog?", "Is there a dog?"), ("when does the dog bark?", "Does the dog bark?"),
    ("the man is running", "Is the man running?"), ("someone watches TV", "Does someone watch tv?"),
    ("the whiteboard", "Is the whiteboard there?"), ("a gas station", "Is there a gas station?"),
    ("two people shake hands", "Are there two people shake hands?"), ("no people", "Are there any people?")])
def test_a_base_that_follows_instructions_is_asked_one_question(query: str, question: str) -> None:
    assert [claim.question for claim in sought(query, grammar=True).claims] == [question]
    assert sought(query, grammar=True).absent == query.startswith("no ")


@pytest.mark.parametrize(("query", "last", "answers"), [
    ("a red ring moves left", "What does the red ring do?", ("moves left",)),
    ("red ring moving left", "What does the red ring do?", ("moves left",)),
    ("When does the red ring move left?", "What does the red ring do?", ("moves left",)),
    ("growing star", "What does the star do?", ("grows",)),
    ("the ring that grows", "What grows?", ("the ring",)),
    ("a slide says hello", "What does the slide say?", ("hello",)),
    ("a green star is left of a blue ring", "Where is the green star?", ("left of the blue ring",)),
    ("the cross is red", "What shape is the red object?", ("cross",)), ("something grows", "What grows?", ()),
    ("something red", "What shape is the red object?", ()), ("cyan moon", "What color is the moon?", ("cyan",)),
    ("slide", "Is there a slide?", ("yes",))])
def test_the_embedded_base_is_asked_what_it_knows(query: str, last: str, answers: tuple[str, ...]) -> None:
    claims = {claim.question: claim.yes for claim in sought(query, grammar=False).claims}
    assert claims[last] == answers


# Scores.


def test_answers_are_as_likely_as_the_base_says(engine: Engine, adapter: Adapter) -> None:
    """In a batch of prompts and answers of different lengths, each with its own adapter, as one by one."""
    parts = Parts(engine, adapter)
    rows = [(parts.joined([0]), "What does the red ring do?", ("moves", "moves left", "grows", "moves right")),
            (parts.joined([]), "Is there a red ring?", ("yes", "no")), (None, "What happens?", ("A red ring grows",))]
    for (bound, question, answers), found in zip(rows, engine.answer_logprobs(rows), strict=True):
        for answer, logprob in zip(answers, found, strict=True):
            ids, sure = engine.base.encode(question_prompt(question)), 0.0
            for token in engine.base.encode(f" {answer}"):
                sure += float(next_logits(engine.base, bound, ids).log_softmax(-1)[token])
                ids = [*ids, token]
            assert logprob == pytest.approx(sure, abs=1e-3)


@pytest.mark.parametrize(("query", "shown"), [
    ("red ring", [0, 2, 3]), ("a red ring moves left", [0, 3]), ("a red ring moves", [0, 2, 3]), ("the star", [1]),
    ("When does the green star grow?", [1]), ("a red star", []), ("the red ring grows", []), ("a cyan moon", []),
    ("something grows", [1]), ("no red ring", [1, 4, 5])])
def test_the_segments_that_show_it_score_high(engine: Engine, adapter: Adapter, query: str, shown: list[int]) -> None:
    assert above(engine, Parts(engine, adapter), query) == shown


def test_many_adapters_are_scored_as_each_alone(engine: Engine, adapter: Adapter) -> None:
    """One with another bias in between, whose own counts for it."""
    other = replace(slice_segments(adapter, [1, 2]), bias_A=adapter.bias_A * 0.5)
    all_parts = [Parts(engine, one) for one in (adapter, slice_segments(adapter, [3]), other, adapter)]
    queries = ["a red ring moves", "green star"]
    together = [scores for _, scores in score_parts(engine, all_parts, queries)]
    for parts, found in zip(all_parts, together, strict=True):
        [(_, alone)] = score_parts(engine, [parts], queries)
        for one, same in zip(found, alone, strict=True):
            assert one.by_part == pytest.approx(same.by_part, abs=1e-3)


def test_moments_in_a_row_are_one(engine: Engine, adapter: Adapter) -> None:
    parts = Parts(engine, adapter)
    [one, other] = moments(parts, [7.0, 1.0, 8.0, 9.0, 0.0, 1.0], 6.0)
    assert (one.start, one.end, one.score) == (0.0, 12.0, 7.0)
    assert (other.first, other.last, other.start, other.end, other.score) == (2, 3, 24.0, 48.0, 9.0)


def test_ask_and_find_agree(engine: Engine, adapter: Adapter) -> None:
    parts = Parts(engine, adapter)
    questions = ["When does the red ring move left?", "When does the red ring appear?", "When is there no red ring?"]
    prepared = prepare(engine, parts, questions, Strategy(), Decoding())
    assert [one.by for one in prepared] == [above(engine, parts, question) for question in questions]


# The command.


def test_every_moment_is_a_line_best_first(here: Path) -> None:
    result = run("find", "long.v2lora", "a red ring", *TINY)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert sorted(row[:3] for row in rows) == [["long.v2lora", "0:00", "0:12"], ["long.v2lora", "0:24", "0:48"]]
    assert [float(row[3]) for row in rows] == sorted((float(row[3]) for row in rows), reverse=True)
    assert run("find", "long.v2lora", "a red ring", "--top", 1, *TINY).stdout.split() == rows[0]
    assert run("find", "long.v2lora", "a red ring", "--threshold", 1000, *TINY).stdout == ""


def test_a_library_is_searched(here: Path) -> None:
    """Folders, and names that stdin lists; of several videos in a file, the line names the one."""
    rows = [line.split() for line in run("find", ".", "a red ring grows", *TINY).stdout.splitlines()]
    assert sorted(row[::4] for row in rows) == [["more/both.v2lora", "short.mp4"], ["short.v2lora", "short.mp4"]]
    listed = run("find", "--adapters", "-", "a red ring grows", "--json", *TINY, stdin="long.v2lora\nshort.v2lora\n")
    [found] = documents(listed)
    assert {key: found[key] for key in ("query", "adapter", "file", "start", "end")} == {
        "query": "a red ring grows", "adapter": "short.v2lora", "file": "short.mp4", "start": 0.0, "end": 12.0}
    assert found["segments"] == [{"start": 0.0, "end": 12.0, "score": found["score"]}] and found["score"] > SURE


def test_nothing_found_is_no_failure(here: Path) -> None:
    result = run("find", "long.v2lora", "a cyan moon", *TINY)
    assert result.stdout == "" and "Nothing found that scores 6 or more; the likeliest is" in result.stderr
    assert run("find", "long.v2lora", "a cyan moon", "--quiet", *TINY).output == ""
    assert "does not know what 'dog' is" in run("find", "long.v2lora", "dog", *TINY).stderr
    result = run("find", "long.v2lora", "it rains", *TINY)
    assert result.stdout == "" and "does not know what 'it rains' is" in result.stderr


def test_players_show_the_moments(here: Path) -> None:
    assert run("find", "long.v2lora", "a red ring", "--format", "srt", *TINY).stdout == (
        "1\n00:00:00,000 --> 00:00:12,000\na red ring\n\n2\n00:00:24,000 --> 00:00:48,000\na red ring\n")
    assert run("find", "long.v2lora", "a red ring", "--format", "vtt", *TINY).stdout.startswith("WEBVTT\n")
    assert run("find", "long.v2lora", "a cyan moon", "--format", "vtt", *TINY).stdout == ""
    of_two = ("more/both.v2lora", "a red ring", "--format", "vtt", "-q", *TINY)
    assert "several videos" in refused("find", *of_two, status=2)


def test_what_fails_stops_no_other(here: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.v2lora"
    bad.write_bytes(b"no adapter")
    result = run("find", bad, "short.v2lora", "a red ring", "--json", *TINY, status=1)
    failed, found = documents(result)
    assert failed["adapter"] == str(bad) and "error" in failed and found["adapter"] == "short.v2lora"
    assert "Error: " in result.stderr and str(bad) in result.stderr


def test_compressed_segments_are_one(engine: Engine, adapter: Adapter, tmp_path: Path) -> None:
    save(compress(slice_segments(adapter, [2, 3]), 12), tmp_path / "small.v2lora")
    [found] = documents(run("find", tmp_path / "small.v2lora", "red ring", "--threshold", 0, "--json", *TINY))
    assert (found["start"], found["end"], len(found["segments"])) == (24.0, 48.0, 2)


def test_segments_that_are_too_many_to_be_asked_as_one_are_said_to_be_that(
    engine: Engine, adapter: Adapter, here: Path, tmp_path: Path
) -> None:
    for name, count in (("many", 6), ("two", 2)):
        save(compress(slice_segments(adapter, list(range(count))), 12), tmp_path / f"{name}.v2lora")
    many = ": 6 segments are asked as one; of more than 4 that garbles answers; each is asked by itself"
    for words in (("ask", tmp_path / "many.v2lora", "Is there a dog?"), ("find", tmp_path / "many.v2lora", "dog"),
                  ("ask", "long.v2lora", "What happened?", "--join"),
                  ("ask", tmp_path / "many.v2lora", "short.v2lora", "?")):
        noted = run(*words, *TINY).stderr
        assert noted.count(many) == 1 and "does not know" not in noted and "one segment" not in noted
    service = Service(engine, Library([tmp_path]), Batcher(engine))
    [said] = found_moments(service, RunningRows(service), "dog", "many", 10, None)
    assert said["hits"] == [] and many[2:] in said["note"]
    for question in ("What happened?", "Is there a dog?"):
        assert many not in run("ask", "long.v2lora", question, *TINY).stderr
    noted = run("ask", tmp_path / "two.v2lora", "When does a red ring appear?", *TINY).stderr
    assert "The 2 segments are asked as one" in noted and "two.v2lora was made with --max-rank." in noted


@pytest.mark.parametrize(("words", "told"), [
    (("long.v2lora",), "nothing to look for"), (("long.v2lora", "a", "red", "ring"), "3 queries"),
    (("a red ring",), "no adapter to look for 'a red ring' in"), (("long.v2lora", "-"), "nothing to look for"),
    (("long.v2lora", "a", "--threshold", "nan"), "is not a number"), (("long.v2lora", "a", "--top", "0"), "above 0"),
    (("long.v2lora", "a", "--format", "vtt", "--json"), "leave --json out"),
    (("long.v2lora", "short.v2lora", "a", "--format", "vtt"), "writes one file"),
    (("long.v2lora", "a", "--from", "5", "--to", "5"), "--to must come after --from")])
def test_calls_that_make_no_sense_are_refused(here: Path, words: tuple[str, ...], told: str) -> None:
    assert told in refused("find", *words, status=2)


def test_damaged_numbers_are_told(engine: Engine, adapter: Adapter, tmp_path: Path) -> None:
    """Finite in the file, and too large for the model."""
    huge = replace(slice_segments(adapter, [0]), A=slice_segments(adapter, [0]).A * 1e38)
    assert torch.from_numpy(huge.A).isfinite().all()
    save(huge, tmp_path / "huge.v2lora")
    assert "not finite" in refused("find", tmp_path / "huge.v2lora", "a red ring", "-q", *TINY)
