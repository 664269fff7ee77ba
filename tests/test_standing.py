"""Standing questions: what every segment of a live source is asked, and the command that runs when one becomes yes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import pytest
from support.cli import run
from support.library import EXAMPLES

from v2l import load
from v2l.adapter import Adapter
from v2l.adapter.join import slice_segments
from v2l.cli.adapters import changed_videos
from v2l.door import Engine
from v2l.errors import V2LError
from v2l.live.on_yes import OnYes
from v2l.live.standing import StandingAnswer, StandingQuestions
from v2l.model.claims import is_open

ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="written for a POSIX shell")
RING = "Is there a red ring?"


def streamable(film: Path, to: Path) -> Path:
    """The film in a container that can be read as it is written."""
    with av.open(str(film)) as read, av.open(str(to), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return to


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which a film was watched with standing questions; its last two segments of three show a red ring,
    only the last one moves."""
    folder = tmp_path_factory.mktemp("watched")
    alarm = 'echo "$V2L_QUESTION|$V2L_ANSWER|$V2L_START|$V2L_END|$V2L_FILE|$V2L_SOURCE" >> alarms; echo said; exit 3'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        film = streamable(EXAMPLES / "long.mp4", folder / "long.mkv")
        result = run("watch", film, "-o", "cam.v2lora", "--segment", "12s", "--json", "--ask", RING,
                     "--ask", "Does a red ring move down?", "--on-yes", alarm, status=1)
    (folder / "stdout").write_text(result.stdout)
    (folder / "stderr").write_text(result.stderr)
    yield folder


@ON_POSIX
def test_each_segment_answers_by_itself_and_by_its_score(watched: Path) -> None:
    told = [json.loads(line) for line in (watched / "stdout").read_text().splitlines()]
    asked = [one for one in told if "question" in one]
    assert [(one["question"], one["yes"], one["answer"], one["start"]) for one in asked] == [
        (RING, False, "no", 0.0), ("Does a red ring move down?", False, "no", 0.0),
        (RING, True, "yes", 12.0), ("Does a red ring move down?", False, "no", 12.0),
        (RING, True, "yes", 24.0), ("Does a red ring move down?", True, "yes", 24.0)]
    assert all((one["score"] >= 6) is one["yes"] and one["started_at"] < one["ended_at"] for one in asked)
    assert [one["start"] for one in told if "question" not in one] == [0.0, 12.0, 24.0]


@ON_POSIX
def test_the_command_runs_when_an_answer_becomes_yes_and_learns_which(watched: Path) -> None:
    lines = [line.split("|") for line in (watched / "alarms").read_text().splitlines()]
    assert [line[:4] for line in lines] == [[RING, "yes", "12.000", "24.000"],
                                            ["Does a red ring move down?", "yes", "24.000", "36.000"]]
    assert {tuple(line[4:]) for line in lines} == {(str(watched / "cam.v2lora"), "long.mkv")}
    assert (watched / "stderr").read_text().count("ended with status 3.") == 2, "and it is told, and watching goes on"


@ON_POSIX
def test_a_file_that_was_watched_as_it_grew_is_no_film_that_has_changed(watched: Path) -> None:
    assert not changed_videos(str(watched / "cam.v2lora"), load(watched / "cam.v2lora").sources)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny")


def segment(watched: Path, number: int) -> Adapter:
    return slice_segments(load(watched / "cam.v2lora"), [number])


@ON_POSIX
def test_other_questions_are_answered_in_words_and_unknown_ones_are_no_alarm(watched: Path, engine: Engine) -> None:
    standing = StandingQuestions(engine, ["What happens?", "Does it rain?", "Is someone at the door?", RING, RING])
    what, unknown, nobody, ring = standing.answers(segment(watched, 2))
    assert (what.text, what.yes, what.score) == ("A red ring moves down.", None, None)
    assert (unknown.yes, unknown.known) == (None, False) and nobody.yes is False and ring.yes
    strict = StandingQuestions(engine, [RING], threshold=100)
    assert [(one.text, one.yes) for one in strict.answers(segment(watched, 2))] == [("no", False)]


def test_a_question_that_cannot_be_asked_is_refused_before_anything_is_watched(engine: Engine) -> None:
    with pytest.raises(V2LError, match=r"is 100,0\d\d tokens long"):
        StandingQuestions(engine, [f"Is there a ring{' ring' * 100_000}?"])


@pytest.mark.parametrize("words, said", [
    (("--on-yes", "true"), "--on-yes is for a standing question; name one with --ask"),
    (("--threshold", "3"), "--threshold is for a standing question"), (("--ask", " "), "A question of --ask is empty"),
    (("--ask", RING, "--on-yes", ""), "--on-yes is empty"),
    (("--ask", "What happens?", "--on-yes", "true"), "'What happens?' is not answered with yes or no")])
def test_what_makes_no_sense_is_said_before_a_model_is_loaded(tmp_path: Path, words: tuple[str, ...], said: str
                                                              ) -> None:
    assert said in run("watch", EXAMPLES / "long.mp4", "-o", tmp_path / "x.v2lora", *words, status=2).stderr


@pytest.mark.parametrize("question, is_so", [
    ("Is someone at the door?", False), ("a red ring moves", False), ("Does it rain", False), ("What happens?", True),
    ("Describe the video.", True), ("how many rings are there", True), ("When does a dog bark?", False)])
def test_which_questions_ask_for_more_than_yes_or_no(question: str, is_so: bool) -> None:
    assert is_open(question) is is_so


# -- the command ----------------------------------------------------------------------------------------------------


def yes(is_so: bool | None, question: str = RING) -> StandingAnswer:
    return StandingAnswer(question, "", is_so, None)


@ON_POSIX
def test_a_command_does_not_run_again_while_it_stays_yes(tmp_path: Path) -> None:
    failed: list[V2LError] = []
    with closing(OnYes(f'echo "$N" >> {tmp_path}/ran', failed.append)) as on_yes:
        for number, is_so in enumerate((False, True, True, None, True, False, True)):
            on_yes.take(yes(is_so), {"N": str(number)})
            deadline = time.monotonic() + 10
            while is_so and number in (1, 6) and not (tmp_path / "ran").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
    assert (tmp_path / "ran").read_text().split() == ["1", "6"] and failed == []


@ON_POSIX
def test_commands_run_one_at_a_time_and_only_the_latest_of_a_question_waits(tmp_path: Path) -> None:
    busy = 'echo "begin $N" >> ran; while [ ! -e go ]; do sleep 0.02; done; echo "end $N" >> ran'
    with closing(OnYes(f"cd {tmp_path} && {busy}", lambda error: None)) as on_yes:
        on_yes.take(yes(True), {"N": "1"})
        while not (tmp_path / "ran").exists():
            time.sleep(0.01)
        for number in range(2, 5):
            on_yes.take(yes(False), {})
            on_yes.take(yes(True), {"N": str(number)})
        on_yes.take(yes(True, "another"), {"N": "5"})
        (tmp_path / "go").touch()
    assert (tmp_path / "ran").read_text().splitlines() == [
        f"{what} {number}" for number in (1, 4, 5) for what in ("begin", "end")]


@ON_POSIX
def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    failed: list[str] = []
    slow = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    told: list[str] = []
    with closing(OnYes(slow, lambda error: failed.append(str(error)), longest=0.7, note=told.append)) as on_yes:
        on_yes.take(yes(True), {})
    assert told == [f"Waiting for the command of {RING!r} (at most 0.7 s); Ctrl-C ends it."]
    assert failed == [f"The command for {RING!r} was ended, because it took more than 0.7 s; let it start in the "
                      "background what takes longer."]
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


@ON_POSIX
def test_an_interrupt_while_the_command_is_waited_for_ends_it(tmp_path: Path) -> None:
    on_yes = OnYes(f"touch {tmp_path}/began; sleep 60", lambda error: None)
    on_yes.take(yes(True), {})
    on_yes.take(yes(True, "another"), {})
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    threading.Timer(0.05, lambda: os.kill(os.getpid(), 2)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        on_yes.close()
    assert time.monotonic() - began < 30
