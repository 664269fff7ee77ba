"""`v2l ask`: the released code's answers, from one adapter and from several, however the questions come."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import pytest
from support.cli import MAKE, MODEL, REFERENCE, command, documents, environment, heed_interrupts, refused, run
from support.hub import Hub, preset_hub

from v2l.adapter import load, save
from v2l.cli.ask import question_batches
from v2l.cli.console import harmless
from v2l.config import PRESETS
from v2l.engine import Engine
from v2l.store.hub import Repo

GOLDEN = json.loads((REFERENCE / "golden.json").read_text())
CASES = {case["tag"]: case for case in GOLDEN["cases"]}
QUESTION = CASES["short.f12.e64"]["question"]
SHORT = (*MODEL, "--max-new-tokens", "24")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adapters that the released code composed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("V2L_CACHE", str(tmp_path_factory.mktemp("cache")))
        videos = [REFERENCE / "videos" / f"{name}.mp4" for name in ("short", "clip", "wide")]
        run("ingest", *videos, "--output-dir", folder, *MAKE)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a folder to work in."""
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["short", "clip", "wide"])
def test_the_released_codes_answer(here: Path, name: str) -> None:
    case = CASES[f"{name}.f12.e64"]
    result = run("ask", f"{name}.v2lora", QUESTION, "--json", *SHORT)
    (found,) = documents(result)
    assert 0 < found.pop("ttft_s") <= found.pop("total_s")
    (segment,) = load(f"{name}.v2lora").segments
    by = [{"file": f"{name}.mp4", "start": segment["start"], "end": segment["end"]}]
    assert found == {"question": QUESTION, "answer": case["answer_text"], "finish": "length", "prompt_tokens":
                     len(case["prompt_ids"]), "visual_tokens": 0, "new_tokens": 24, "adapter": f"{name}.v2lora",
                     "model": "tiny-vlm", "strategy": "join", "answered_by": by}


@pytest.mark.parametrize("composition", GOLDEN["compositions"], ids=lambda c: "+".join(c["members"]))
def test_the_released_codes_compositions(here: Path, composition: dict) -> None:
    parts = [f"{member.split('.')[0]}.v2lora" for member in composition["members"]]
    written = run("compose", *parts, "-o", "full.v2lora")
    assert written.stdout == "full.v2lora\n"
    assert written.stderr.startswith(f"Note: Segments of {len(parts)} different videos")
    assert load("full.v2lora").total_rank + load("full.v2lora").rank == composition["combined_rank"]
    (whole,) = documents(run("ask", "full.v2lora", QUESTION, "--strategy", "join", "--json", *SHORT))
    joined = run("ask", "--join", *parts, QUESTION, "--strategy", "join", "--json", *SHORT)
    (found,) = documents(joined)
    assert whole["answer"] == found["answer"] == composition["answer_text"]
    assert found["adapter"] == parts and "different videos" in joined.stderr


def test_direct_puts_the_video_in_the_prompt(here: Path) -> None:
    case = CASES["short.f12.e64"]
    words = ("--direct", REFERENCE / "videos/short.mp4", QUESTION, "--resolution", 64, "--json", *MODEL,
             "--max-new-tokens", 12)
    (found,) = documents(run("ask", *words))
    assert found["prompt_tokens"] == case["direct_prompt_tokens"] + 5  # the reference's baseline lacks "Assistant:"
    assert (found["visual_tokens"], found["new_tokens"], found["adapter"]) == (12, 12, None)
    compared = run("ask", "clip.v2lora", *words)
    assert documents(compared)[0]["answer"] == found["answer"]
    assert "the adapter only names the model" in compared.stderr


def test_direct_reads_no_more_of_adapters_than_the_model_they_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --model not even that: the video answers, and adapters that are damaged, or fit no other, are no failure."""
    monkeypatch.setattr("v2l.adapter.file.load", lambda name: pytest.fail(f"{name} was loaded"))
    adapter = (here / "short.v2lora").read_bytes()
    Path("cut.v2lora").write_bytes(adapter[:1000])
    words = ("--direct", REFERENCE / "videos/short.mp4", QUESTION, "--resolution", 64, *SHORT)
    answer = run("ask", *words).stdout
    for names in (("cut.v2lora",), ("short.v2lora", "short.v2lora"), ("short.v2lora", "nope.v2lora")):
        result = run("ask", *names, *words)
        assert result.stdout == answer and "The answer comes from the video" in result.stderr
    without_model = (*words[:5], "--dtype", "float32", "--offline")
    said = refused("ask", "short.v2lora", "cut.v2lora", *without_model, status=2)  # the first names the model
    assert said.startswith("short.v2lora was made with a base in a folder called tiny-vlm")


def test_the_answer_is_all_that_stdout_carries(here: Path) -> None:
    result = run("ask", "short.v2lora", QUESTION, *SHORT)
    assert result.stdout == harmless(CASES["short.f12.e64"]["answer_text"]) + "\n"
    assert result.stderr == ""


def test_several_questions(here: Path) -> None:
    answer = documents(run("ask", "short.v2lora", "Why?", "--json", *SHORT))[0]["answer"]
    result = run("ask", QUESTION, "short.v2lora", "Why?", *SHORT)
    assert result.stdout == harmless(f"{CASES['short.f12.e64']['answer_text']}\n{answer}\n")
    assert result.stderr == f"Q: {QUESTION}\nQ: Why?\n"
    stdin = f"{QUESTION}\r\n\n  \nWhy?".encode() + b"\xff\n"
    piped = run("ask", "short.v2lora", "-", "--json", "--quiet", *SHORT, stdin=stdin)
    assert [found["question"] for found in documents(piped)] == [QUESTION, "Why?\ufffd"]
    assert piped.stderr == ""


def test_one_video_of_a_file_of_several_is_chosen(here: Path) -> None:
    """--from and --to mean the times of each video by itself, and a note says so where there are several."""
    run("compose", "short.v2lora", "clip.v2lora", "-o", "both.v2lora", "--quiet")
    (alone,) = documents(run("ask", "short.v2lora", QUESTION, "--json", *SHORT))
    for words in ((), ("--each",)):
        chosen = run("ask", "both.v2lora", QUESTION, "--video", "short.mp4", "--from", "0", "--json", *words, *SHORT)
        (found,) = documents(chosen)
        assert (found["answer"], found["answered_by"]) == (alone["answer"], alone["answered_by"])
        assert "by itself" not in chosen.stderr
        unsaid = run("ask", "both.v2lora", QUESTION, "--from", "0", "--json", *words, *SHORT)
        assert len(documents(unsaid)[0]["answered_by"]) == 2
        assert ("of the 2 in both.v2lora, --video chooses one, such as --video short.mp4." in unsaid.stderr)
    said = refused("ask", "both.v2lora", QUESTION, "--video", "shrt.mp4", *SHORT, status=2)
    assert said == "both.v2lora holds nothing of shrt.mp4; name one of short.mp4, clip.mp4."


def test_adapters_asked_one_by_one_tell_that_their_videos_have_changed(here: Path) -> None:
    for name in ("short", "clip"):
        Path(f"{name}.mp4").write_bytes(b"changed")
    said = run("ask", "short.v2lora", "wide.v2lora", QUESTION, *SHORT).stderr
    assert said == "Note: short.mp4 has changed since short.v2lora was made of it; ingest it again.\n"
    assert run("ask", "short.v2lora", "clip.v2lora", QUESTION, *SHORT).stderr == (
        "Note: short.mp4 has changed since short.v2lora was made of it, as have the videos of 1 more; ingest them "
        "again.\n")


ADAPTERS = ("wide.v2lora", "short.v2lora", "clip.v2lora")


def one_line(answer: str) -> str:
    """An answer as `--each` prints it."""
    return " ".join(harmless(answer).splitlines())


def alone(name: str, question: str) -> str:
    """The answer of one adapter to one question."""
    return documents(run("ask", name, question, "--json", *SHORT))[0]["answer"]


def test_every_adapter_by_itself(here: Path) -> None:
    expected = {name: CASES[f"{name.split('.')[0]}.f12.e64"]["answer_text"] for name in ADAPTERS}
    lines = "".join(f"{name}: {one_line(expected[name])}\n" for name in ADAPTERS)
    for words in (ADAPTERS, (*ADAPTERS, "--each"), (".",)):
        result = run("ask", *words, QUESTION, *SHORT)
        assert result.stderr == ""
        assert sorted(result.stdout.splitlines()) == sorted(lines.splitlines())
        assert words == (".",) or result.stdout == lines
    Path("one").mkdir()
    shutil.copy("short.v2lora", "one")
    alone = f": {one_line(expected['short.v2lora'])}\n"
    assert run("ask", "short.v2lora", "--each", QUESTION, *SHORT).stdout == "short.v2lora" + alone
    assert run("ask", "one", QUESTION, *SHORT).stdout == "one/short.v2lora" + alone  # a folder, however many it holds
    found = documents(run("ask", *ADAPTERS, "--each", QUESTION, "--json", *SHORT))
    single = [documents(run("ask", name, QUESTION, "--json", *SHORT))[0] for name in ADAPTERS]
    untimed = [{key: value for key, value in one.items() if not key.endswith("_s")} for one in (*found, *single)]
    assert untimed[:3] == untimed[3:] and [one["answer"] for one in found] == [*expected.values()]
    assert [list(one) for one in found] == [list(one) for one in single]


def test_every_adapter_and_every_question(here: Path) -> None:
    pairs = [(name, question) for name in ADAPTERS for question in (QUESTION, "Why?")]
    found = documents(run("ask", *ADAPTERS, QUESTION, "Why?", "--each", "--json", *SHORT))
    assert [(one["adapter"], one["question"]) for one in found] == pairs
    assert [one["answer"] for one in found] == [alone(*pair) for pair in pairs]
    lines = run("ask", *ADAPTERS, "--each", "-", *SHORT, stdin=f"{QUESTION}\nWhy?\n").stdout.splitlines()
    assert lines == [f"{name}: {question} {one_line(alone(name, question))}" for name, question in pairs]


def test_a_bad_file_fails_alone(here: Path) -> None:
    Path("cut.v2lora").write_bytes(Path("short.v2lora").read_bytes()[:1000])
    adapter = load("short.v2lora")
    base = {"id": "someone/else", "revision": None, "fingerprint": "sha256:" + "0" * 64}
    for name in ("other.v2lora", "another.v2lora"):
        save(replace(adapter, record={**adapter.record, "base": base}), name)
    words = ("nope.v2lora", "wide.v2lora", "other.v2lora", "cut.v2lora", "short.v2lora", "another.v2lora")
    result = run("ask", *words, "--each", "Why?", *SHORT, status=1)
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["wide.v2lora", "short.v2lora"]
    errors = result.stderr.splitlines()
    assert len(errors) == 3 and all(line.startswith("Error: ") for line in errors)
    assert "nope.v2lora: No such file" in errors[0] and "cut.v2lora is not a usable adapter" in errors[1]
    assert "other.v2lora, another.v2lora were made for the base someone/else" in errors[2]
    found = documents(run("ask", *words, "--each", "Why?", "--json", *SHORT, status=1))
    assert {one["adapter"]: "error" in one for one in found} == {
        "nope.v2lora": True, "wide.v2lora": False, "other.v2lora": True, "cut.v2lora": True, "short.v2lora": False,
        "another.v2lora": True}
    gone = run("ask", "nope.v2lora", "cut.v2lora", "--each", "Why?", *SHORT, status=1)
    assert gone.stdout == "" and gone.stderr.count("Error: ") == 2


def test_adapters_from_a_list(here: Path) -> None:
    """As many as a library has; their files need no suffix there."""
    Path("library").mkdir()
    names = [f"library/{i:03d}" for i in range(200)]
    for i, name in enumerate(names):
        Path(name).symlink_to(here / ADAPTERS[i % 3])
    Path("names.lst").write_text("\n".join(names) + "\n\n")
    answers = [alone(name, "Why?") for name in ADAPTERS]
    for words, stdin in ((("--adapters", "names.lst"), None), (("--adapters", "-"), "\n".join(names))):
        found = documents(run("ask", "clip.v2lora", "Why?", "--each", "--json", *words, *SHORT, stdin=stdin))
        assert [one["adapter"] for one in found] == ["clip.v2lora", *names]
        assert [one["answer"] for one in found] == [answers[2], *(answers[i % 3] for i in range(200))]


def test_questions_are_answered_as_they_come(here: Path) -> None:
    """A pipe that stays open: each question is answered before the next is asked."""
    with subprocess.Popen(command("ask", "short.v2lora", "-", "--json", *SHORT), env=environment(), text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdin is not None and running.stdout is not None
        for question in (QUESTION, "Why?"):
            print(question, file=running.stdin, flush=True)
            assert json.loads(running.stdout.readline())["question"] == question
        running.stdin.close()
    assert running.returncode == 0


def test_questions_that_are_there_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    written = [b"one?\ntwo?\r\n\nthr", b"ee?\n", b"fo", b"ur?\nfive?"]

    class Pipe(io.BytesIO):
        """Gives what was written at once, a piece a read."""

        def read1(self, size: int | None = -1) -> bytes:
            return written.pop(0) if written else b""

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Pipe()))
    found = [*question_batches(["a?", "b?", "-", "c?"])]
    assert found == [["a?", "b?"], ["one?", "two?"], ["three?"], ["four?"], ["five?"], ["c?"]]


def test_a_video_is_seen_once_for_all_questions(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    see = Engine.see
    monkeypatch.setattr(Engine, "see", lambda self, *what: (seen.append(what), see(self, *what))[1])
    words = ("--direct", REFERENCE / "videos/short.mp4", "--resolution", 64, "--json", *SHORT)
    both = documents(run("ask", *words, QUESTION, "Why?"))
    assert len(seen) == 1 and both[0]["ttft_s"] > 0
    one_by_one = [documents(run("ask", *words, question))[0]["answer"] for question in (QUESTION, "Why?")]
    assert [one["answer"] for one in both] == one_by_one


def test_forgotten_quotes_are_noticed(here: Path) -> None:
    result = run("ask", "short.v2lora", "What", "happened?", *SHORT)
    assert result.stderr.splitlines()[0] == (
        "Note: What and happened? are questions by themselves; put quotes around one of several words.")
    assert "quotes" not in run("ask", "short.v2lora", "What happened?", "Why?", *SHORT).stderr


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long video in three segments, joined; the segments lie beside it."""
    folder, starts = tmp_path_factory.mktemp("long"), (0, 20, 40)
    parts = [folder / f"part{start}.v2lora" for start in starts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("V2L_CACHE", str(tmp_path_factory.mktemp("cache")))
        for start, part in zip(starts, parts, strict=True):
            video = REFERENCE / "videos" / "long.mp4"
            run("ingest", video, "--start", start, "--end", start + 20, "-o", part, "--frames", 4, *MAKE)
    run("compose", *parts, "-o", folder / "long.v2lora")
    return folder / "long.v2lora"


def test_a_range_of_time(long: Path, here: Path) -> None:
    result = run("ask", long, "--from", "0:20", "--to", "39", "Why?", "--json", *SHORT)
    (found,) = documents(result)
    assert result.stderr == "Note: Asking the segment 0:20 to 0:40 of long.mp4.\n"
    assert found["answer"] == alone(str(long.with_name("part20.v2lora")), "Why?") and found["strategy"] == "join"
    two = run("ask", long, "--from", "25", "Why?", *SHORT)
    assert two.stderr == "Note: Asking the segments 0:20 to 0:40 of long.mp4, 0:40 to 1:00 of long.mp4.\n"
    each = run("ask", long, "short.v2lora", "--each", "--from", "25", "Why?", *SHORT, status=1)
    assert each.stdout == f"{long}: {' '.join(two.stdout.splitlines())}\n"
    assert "short.v2lora has no segment there" in each.stderr


@pytest.mark.parametrize("strategy", ["join", "route", "each"])
def test_strategies(long: Path, here: Path, strategy: str) -> None:
    """One question or more, one adapter or each: the same answer; what answered is told."""
    words = ("--strategy", strategy, "--json", *SHORT)
    result = run("ask", long, QUESTION, *words)
    (found,) = documents(result)
    assert found["strategy"] == strategy and found["adapter"] == str(long)
    spans = {"join": 3, "route": 2, "each": 3}[strategy]
    assert len(found.get("segments", [0] * 3)) == len(found["answered_by"]) == spans
    assert {by["file"] for by in found["answered_by"]} == {"long.mp4"}
    assert [by.get("answer", by) == by for by in found["answered_by"]] == [strategy != "each"] * spans
    told = [line for line in result.stderr.splitlines() if line.startswith("Note: Answered from ")]
    assert len(told) == (spans < 3)
    both = documents(run("ask", long, QUESTION, "Why?", *words))
    each = documents(run("ask", "short.v2lora", long, "--each", QUESTION, *words))
    assert both[0]["answer"] == each[1]["answer"] == found["answer"]
    assert (each[1]["strategy"], each[1].get("segments")) == (strategy, found.get("segments"))
    assert run("ask", long, QUESTION, *words[:2], *SHORT).stdout == harmless(found["answer"]) + "\n"


def test_a_timeline(long: Path, here: Path) -> None:
    """What every segment says by itself: a line, an object or a cue each."""
    parts = [long.with_name(f"part{start}.v2lora") for start in (0, 20, 40)]
    said = [one_line(" ".join(alone(str(part), "What happens?").split())) for part in parts]
    times = ["0:00 to 0:20", "0:20 to 0:40", "0:40 to 1:00"]
    lines = [f"{when}: {text}\n" for when, text in zip(times, said, strict=True)]
    words = ("--timeline", "What happens?", *SHORT)
    assert run("ask", long, *words).stdout == run("ask", long, "What happens?", *SHORT).stdout == "".join(lines)
    assert run("ask", parts[1], *words).stdout == lines[1]
    several = run("ask", long, parts[1], *words).stdout
    assert several == "".join([f"{long}: {line}" for line in lines] + [f"{parts[1]}: {lines[1]}"])
    assert run("ask", long, parts[1], "What happens?", *SHORT).stdout == "".join(
        [f"{long}: {line}" for line in lines] + [f"{parts[1]}: {one_line(alone(str(parts[1]), 'What happens?'))}\n"])
    found = documents(run("ask", long, *words, "--json"))
    assert [one_line(" ".join(one["answer"].split())) for one in found] == said
    assert [(one["file"], one["start"], one["end"], one["strategy"], one["finish"]) for one in found] == [
        ("long.mp4", start, start + 20.0, "timeline", "length") for start in (0.0, 20.0, 40.0)]
    srt = run("ask", long, *words, "--format", "srt").stdout
    assert srt.startswith("1\n00:00:00,000 --> 00:00:20,000\n") and srt.count(" --> ") == 3
    assert run("ask", long, *words, "--format", "vtt").stdout.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:20.000\n")
    chapters = run("ask", long, *words, "--format", "chapters").stdout_bytes
    with av.open(io.BytesIO(chapters), format="ffmetadata") as file:
        assert [(one["start"], one["end"]) for one in file.chapters()] == [(0, 20000), (20000, 40000), (40000, 60000)]


def test_what_answered_is_told(long: Path, here: Path) -> None:
    """On stderr where answers do not tell, and for programs."""
    route = ("--strategy", "route", QUESTION, *SHORT)
    told = run("ask", long, *route).stderr
    assert told.startswith("Note: Answered from ") and told.count(" to ") == 2
    each = run("ask", long, "short.v2lora", *route)
    assert each.stderr == told.replace("Answered from", f"{long} answers from") and each.stdout.count("\n") == 2
    found = documents(run("ask", long, *route, "--json"))[0]
    assert [[by["start"], by["end"]] for by in found["answered_by"]] == found["segments"]


def test_scaled_segments(long: Path, here: Path) -> None:
    """Scaled by next to nothing, what is left is the bias, whatever was watched."""
    words = ("--strategy", "join", "--segment-scale")
    texts = [run("ask", *parts, QUESTION, *words, scale, "--quiet", *SHORT).stdout
             for parts, scale in (([long], "1e-9"), (["short.v2lora", "clip.v2lora", "--join"], "1e-9"),
                                  ([long], "1/k"), ([long], "0.3333333333333333"), ([long], "1"))]
    assert texts[0] == texts[1] != texts[4] and texts[2] == texts[3] != texts[4]


def test_join_is_one_answer_whatever_the_question(long: Path, here: Path) -> None:
    for words in ((long, "What happened?"), ("short.v2lora", "clip.v2lora", "When does it rain?")):
        (found,) = documents(run("ask", *words, "--join", "--json", *SHORT))
        assert found["strategy"] == "join"


def test_a_file_of_one_segment_says_what_it_lacks_to_tell_when(here: Path) -> None:
    for question in ("When does a ring appear?", "What happens at 0:00?"):
        noted = run("ask", "short.v2lora", question, *SHORT).stderr
        assert "short.v2lora has one segment, which is asked; v2l ingest --segment gives finer times." in noted
    assert "one segment" not in run("ask", "short.v2lora", QUESTION, *SHORT).stderr


def test_drawn_answers_are_the_same_each_time(here: Path) -> None:
    one, other = (run("ask", "short.v2lora", QUESTION, "--temperature", "1.5", *SHORT).stdout for _ in range(2))
    assert one == other != CASES["short.f12.e64"]["answer_text"] + "\n"


@pytest.mark.parametrize(("words", "status", "said"), [
    (("What is it?",), 2, "a question and no adapter: name a .v2lora file"),
    (("shrt", "Why?"), 2, "a question and no adapter, and nothing called shrt: name a .v2lora file"),
    (("short.v2lora", "shrt.v2lroa", "Why?"), 2, "shrt.v2lroa is not there"),
    (("short.v2lora", "lost.mp4", "Why?"), 2, "lost.mp4 is not there"),
    (("short.v2lora", "tlaks/", "Why?"), 2, "tlaks/ is not there"),
    (("What? " * 1000,), 2, "a question and no adapter: name a .v2lora file"),
    (("short.mp4", "What is it?"), 2, "short.mp4 is a video, and no question; ask its adapter: "
     "v2l ask short.v2lora QUESTION"),
    (("short.v2lora",), 2, "There is no question"),
    (("short.v2lora", " "), 2, "A question is empty"),
    (("short.v2lora", "Why?", "--frames", "3"), 2, "--frames needs --direct"),
    (("short.v2lora", "Why?", "--start", "3"), 2, "--start needs --direct: an adapter holds what was watched already; "
     "--from and --to choose segments"),
    (("--direct", "short.mp4", "Why?", "--from", "3"), 2, "--start and --end choose a part of the video"),
    (("--direct", "short.mp4", "short.v2lora", "Why?", "--each"), 2, "--each is for adapters"),
    (("short.v2lora", "Why?", "--from", "5", "--to", "0:05"), 2, "--to must come after --from"),
    (("short.v2lora", "Why?", "--from", "9:00"), 2, "short.v2lora has no segment there"),
    (("short.v2lora", "Why?", "--segment-scale", "half"), 2, "--segment-scale half is neither"),
    (("short.v2lora", "Why?", "--segment-scale", "nan"), 2, "--segment-scale nan is neither"),
    (("-", "--adapters", "-"), 2, "cannot both come from stdin"),
    (("Why?", "--adapters", "notes.lst"), 2, "Cannot read the list notes.lst: No such file"),
    (("Why?", "--adapters", "empty.lst"), 2, "empty.lst names nothing; write one name a line"),
    (("nope.v2lora", "Why?"), 1, "nope.v2lora: No such file or directory; check the name, or make it with"),
    (("nope.v2lora", "Why?", "--each"), 1, "nope.v2lora: No such file or directory; check the name"),
    (("gone.v2lora", "Why?"), 1, "gone.v2lora: No such file or directory; make it with `v2l ingest gone.mp4`"),
    (("cut.v2lora", "Why?"), 1, "cut.v2lora is not a usable adapter"),
    (("other.v2lora", "Why?"), 1, "made for the base someone/else"),
    (("short.v2lora", "other.v2lora", "Why?", "--join"), 1, "short.v2lora and other.v2lora cannot be composed"),
    (("short.v2lora", "clip.v2lora", "Why?", "--join", "--each"), 2, "--join and --each exclude each other"),
    (("short.v2lora", "Why?", "--format", "srt"), 2, "--format is how --timeline is written"),
    (("short.v2lora", "Why?", "--timeline", "--strategy", "join"), 2, "--timeline is a strategy by itself"),
    (("short.v2lora", "Why?", "--timeline", "--format", "vtt", "--json"), 2, "--format vtt writes one file"),
    (("short.v2lora", "clip.v2lora", "Why?", "--timeline", "--format", "srt"), 2, "--format srt writes one file"),
    (("short.v2lora", "Why so?", "How so?", "--timeline", "--format", "srt"), 2, "of one adapter and one question"),
    (("short.v2lora", "clip.v2lora", "Why?", "--join", "--timeline", "--format", "srt", "-q"), 2, "holds 2 videos"),
    (("--direct", "nope.mp4", "Why?"), 1, "nope.mp4: no such file"),
    (("--direct", "notes.txt", "Why?"), 1, "notes.txt is text, not a video"),
])
def test_what_makes_no_sense_is_one_sentence(here: Path, words: tuple[str, ...], status: int, said: str) -> None:
    Path("notes.txt").write_text("Buy milk.\n" * 100)
    # Beside an adapter another video of that name would be told of first.
    for name in {"short.mp4", "gone.mp4", "empty.lst"} & {*words, "gone.mp4", "empty.lst"}:
        Path(name).touch()
    content = Path("short.v2lora").read_bytes()
    Path("cut.v2lora").write_bytes(content[: len(content) // 2])
    adapter = load("short.v2lora")
    base = {"id": "someone/else", "revision": None, "fingerprint": "sha256:" + "0" * 64}
    save(replace(adapter, record={**adapter.record, "base": base}), "other.v2lora")
    assert said in refused("ask", *words, *MODEL, status=status)


@pytest.mark.parametrize(("base", "said"), [
    ("tiny-vlm", "made with a base in a folder called tiny-vlm; name that folder with --model"),
    ("../secret", "made with a base in a folder called ../secret"),
    ("a/folder", "made with a base in a folder called a/folder"),
    ("/etc", "made with a base in a folder called /etc"),
])
def test_a_name_in_a_file_never_becomes_a_path(here: Path, base: str, said: str) -> None:
    shutil.copytree(REFERENCE / "tiny-vlm", "a/folder")
    shutil.copytree(REFERENCE / "tiny-vlm", "tiny-vlm")
    adapter = load("short.v2lora")
    save(replace(adapter, record={**adapter.record, "base": {**adapter.record["base"], "id": base}}), "named.v2lora")
    assert said in refused("ask", "named.v2lora", "Why?", "--offline", status=2)


def test_the_base_an_adapter_names_is_used(here: Path) -> None:
    """A preset's, or one that is on this disk: a stranger's adapter fetches nothing of its own choice."""
    adapter = load("short.v2lora")
    for name, status, says in (("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 1, "offline"),
                               ("someone/else", 2, "not on this disk; fetch it with --model someone/else"),
                               ("someone/else@../../x", 2, "in a folder called"), ("/etc", 2, "in a folder called")):
        base = {**adapter.record["base"], "id": name}
        save(replace(adapter, record={**adapter.record, "base": base}), "named.v2lora")
        said = refused("ask", "named.v2lora", "Why?", "--offline", status=status)
        assert name in said and says in said


@pytest.mark.parametrize(("held", "status", "says"), [
    (("config.json",), 2, "someone/else, which is not on this disk; fetch it with --model someone/else if you trust"),
    (("config.json", "tokenizer.json", "model.safetensors"), 1, "is not whole"),
])
def test_nothing_that_a_file_names_is_fetched(
    here: Path, monkeypatch: pytest.MonkeyPatch, held: tuple[str, ...], status: int, says: str
) -> None:
    """The cache holds some of the base that a stranger's adapter names; its rest is to be had, and is left there."""
    files = {file.name: file.read_bytes() for file in (REFERENCE / "tiny-vlm").iterdir()}
    adapter = load("short.v2lora")
    base = {**adapter.record["base"], "id": "someone/else"}
    save(replace(adapter, record={**adapter.record, "base": base}), "named.v2lora")
    with Hub({"someone/else": files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        repo = Repo("someone/else")
        snapshot = repo.folder / "snapshots" / hub.commit("someone/else")
        snapshot.mkdir(parents=True)
        (repo.folder / "refs").mkdir()
        (repo.folder / "refs" / "main").write_text(snapshot.name)
        for name in held:
            (snapshot / name).write_bytes(files[name] if name.endswith(".json") else files[name][:-100])
        for words in (("named.v2lora",), ("named.v2lora", "short.v2lora", "--each"),
                      ("named.v2lora", "--direct", str(REFERENCE / "videos/short.mp4"))):
            assert says in run("ask", *words, "Why?", status=status).stderr
        run("info", "named.v2lora")
        run("compose", "named.v2lora", "clip.v2lora", "-o", "both.v2lora")
        assert hub.requests == []


def test_another_model_than_the_adapters_is_told_before_it_is_fetched(here: Path) -> None:
    adapter = load("short.v2lora")
    for name, model in (("v2l/tiny", "500m"), ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "2.2b")):
        base = {**adapter.record["base"], "id": name}
        save(replace(adapter, record={**adapter.record, "base": base}), "named.v2lora")
        said = refused("ask", "named.v2lora", "Why?", "--model", model, status=2)
        assert f"{model} cannot read it; leave --model out" in said


def test_from_the_hub_to_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset is fetched once, and an adapter made with it names it, offline too."""
    monkeypatch.chdir(tmp_path)
    preset = PRESETS["500m"]
    exact = ("--dtype", "float32", "--device", "cpu")
    with preset_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pulled = run("models", "pull", "500m")
        assert all(Path(line).exists() for line in pulled.stdout.splitlines()) and pulled.stdout.count("\n") == 2
        assert [found["ready"] for found in documents(run("models", "--json"))][1] is True
    run("ingest", REFERENCE / "videos/short.mp4", "-o", "a.v2lora", "--model", "500m", "--resolution", 64, *exact)
    (found,) = documents(run("ask", "a.v2lora", QUESTION, "--json", "--offline", "--max-new-tokens", 24, *exact))
    assert (found["answer"], found["model"]) == (CASES["short.f12.e64"]["answer_text"], preset.base)


def test_a_reader_that_goes_away_ends_it_quietly(here: Path) -> None:
    questions = [f"Question {i}?" for i in range(500)]  # their answers do not fit into a pipe, so it cannot end before
    with subprocess.Popen(command("ask", "short.v2lora", *questions, "--json", "--quiet", *SHORT), env=environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


def test_a_full_disk_under_stdout_is_told(here: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("info", "short.v2lora"), env=environment(), stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=240)
    assert (done.returncode, done.stderr) == (1, "Error: Cannot write to stdout: No space left on device.\n")


class Terminal:
    """A command that talks to a terminal."""

    def __init__(self, *words: object) -> None:
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(command(*words), env=environment(TERM="dumb"), stdin=theirs, stdout=theirs,
                                        stderr=theirs, start_new_session=True, preexec_fn=heed_interrupts)
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def read(self, until: str | None = None) -> str:
        """What appears, up to a text or to the end."""
        seen, deadline = b"", time.monotonic() + 120
        while time.monotonic() < deadline and (until is None or not seen.endswith(until.encode())):
            try:
                got = os.read(self.end, 1)
            except OSError:  # the other end was closed
                break
            seen += got
        return seen.decode(errors="replace").replace("\r\n", "\n")

    def close(self) -> int:
        """The exit status."""
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self.end)


@pytest.mark.parametrize(("way_in", "way_out"), [("help", "exit"), ("/help", "/quit")])
def test_a_conversation(here: Path, way_in: str, way_out: str) -> None:
    terminal = Terminal("ask", "short.v2lora", *SHORT)
    begun = terminal.read("\n> ").splitlines()
    assert " ".join(begun[:-1]) == ("Each question is answered by itself, without those before it; an empty line, quit "
                                    "or Ctrl-D ends the conversation.")
    terminal.type(f"{way_in}\n")
    assert terminal.read("\n> ").splitlines()[1:-1] == begun[:-1]
    terminal.type(f"{QUESTION}\n")
    assert terminal.read("\n") == f"{QUESTION}\n"
    expected = CASES["short.f12.e64"]["answer_text"]
    assert "\x0c" in expected  # which a terminal would act on
    assert terminal.read("\n> ") == expected.replace("\x0c", "\ufffd") + " …\n> "  # it was cut
    terminal.type(f"{way_out}\n")
    assert terminal.close() == 0


@pytest.mark.parametrize(("words", "typed", "error"), [
    (("short.v2lora", "nope.v2lora", "--each"), QUESTION, "Cannot read the adapter nope.v2lora"),
    (("short.v2lora",), "too long " * 20_000, "ask a shorter one")], ids=["adapter", "question"])
def test_a_conversation_in_which_something_failed_ends_with_1(
    here: Path, words: tuple[str, ...], typed: str, error: str
) -> None:
    result = run("ask", *words, *SHORT, stdin=f"{typed}\nWhy?\nquit\nnever\n", typed=True, status=1)
    assert error in result.stderr and "Why?" not in result.stdout and result.stdout.strip() != ""
    run("ask", "short.v2lora", *SHORT, stdin="Why?\n", typed=True)


def test_interrupting_a_conversation(here: Path) -> None:
    """The answer first, then a question that was begun, then the conversation."""
    terminal = Terminal("ask", "short.v2lora", *MODEL, "--max-new-tokens", 3000)
    terminal.read("> ")
    terminal.type(f"{QUESTION}\n")
    terminal.read("redram")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read("\n> ").endswith("\n> ")
    terminal.type("What hap")
    terminal.read("What hap")
    time.sleep(0.05)  # readline has shown the last letter, and is about to wait for the next
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read("\n> ") == "\n> "
    for _ in range(10):  # one that comes between the prompt and the wait for a key, Python notices at the next only
        terminal.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            terminal.process.wait(5)
            break
    assert terminal.read().endswith("Interrupted.\n")
    assert terminal.close() == 130
