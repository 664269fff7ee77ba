"""The door for Python: what it takes and what it refuses, that it answers as the command line does, threads, memory."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import runpy
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import documents, run

from v2l import Engine, V2LError, compose, load, save
from v2l.config import Sampling
from v2l.errors import OutputError, UsageError
from v2l.video.clip import open_clip

EXAMPLES = Path(__file__).parents[1] / "examples"
FILM, LONG = EXAMPLES / "three-shapes.mp4", EXAMPLES / "long.mp4"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu")


def decoded(path: Path) -> tuple[np.ndarray, list[float]]:
    """All frames of a file, and when each is shown."""
    frames = list(open_clip(path, Sampling(frames=10**6, fps=10**3, skip=0)).frames())
    return np.stack([frame.image for frame in frames]), [frame.time for frame in frames]


@pytest.mark.parametrize("options", [{"frames": 2}, {"segment": 12, "frames": 2, "start": "0:05"}])
def test_it_ingests_as_the_command_line_does(engine: Engine, tmp_path: Path, options: dict[str, Any]) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run("ingest", LONG, "-o", tmp_path / "a.v2lora", "--device", "cpu", *words)
    save(engine.ingest(LONG, **options), tmp_path / "b.v2lora")
    assert (tmp_path / "a.v2lora").read_bytes() == (tmp_path / "b.v2lora").read_bytes()


def test_bytes_and_file_objects_are_watched_as_their_file_is(engine: Engine) -> None:
    wanted, content = engine.ingest(FILM, frames=4), FILM.read_bytes()
    with FILM.open("rb") as file:
        given = [engine.ingest(file, frames=4), engine.ingest(content, frames=4, name=FILM.name),
                 engine.ingest(io.BytesIO(content), frames=4, name=FILM.name)]
    for adapter in given:
        assert adapter.record == wanted.record and np.array_equal(adapter.A, wanted.A)
    assert engine.ingest(content, frames=4).sources[0]["name"] == "video"


def test_frames_in_memory_are_watched_as_a_file_of_them_is(engine: Engine) -> None:
    images, times = decoded(FILM)
    wanted = engine.ingest(FILM, frames=6)
    for adapter in (engine.ingest(images, times=times, frames=6), engine.ingest(list(images), times=times, frames=6)):
        assert np.array_equal(adapter.A, wanted.A) and adapter.segments == wanted.segments
    source = adapter.sources[0]
    assert (source["frames"], source["size"]) == (len(times), images.nbytes) and len(source["sha256"]) == 64
    other = engine.ingest(images, times=[time + 0.001 for time in times], frames=6)
    assert other.sources[0]["sha256"] != source["sha256"]
    parts = engine.ingest(images, times=times, segment=6, name="drawn")
    assert len(parts.segments) == 2 and parts.sources[0]["name"] == "drawn"


def test_frames_at_uneven_times_are_taken_by_their_times(engine: Engine) -> None:
    images, _ = decoded(EXAMPLES / "one-shape.mp4")
    # Its first second and its last are skipped, as of any video that is longer than the frames cover.
    adapter = engine.ingest(images[:5], times=[0, 0.1, 0.2, 10, 20], frames=2)
    assert adapter.segments[0]["timestamps"] == [0.2, 20] and adapter.sources[0]["spacing"] == "time"


@pytest.fixture(scope="module")
def many(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of five segments, more than `auto` joins."""
    file = tmp_path_factory.mktemp("door") / "many.v2lora"
    save(engine.ingest(LONG, segment="7s", frames=4), file)
    return file


@pytest.mark.parametrize("strategy", ["auto", "each"])
def test_it_answers_as_the_command_line_does(engine: Engine, many: Path, strategy: str) -> None:
    """Of many segments, too: the engine once joined where the command line routes, and that gave garbage."""
    question = "How does the red ring move?"
    said = run("ask", many, question, "--strategy", strategy, "--device", "cpu", "--quiet").stdout.strip()
    reply = engine.ask(many, question, strategy=strategy)
    assert "".join(reply) == reply.text == said
    assert [answer.text for answer in engine.ask(load(many), [question, question], strategy=strategy)] == [said] * 2


@pytest.mark.parametrize(("question", "strategy", "options"), [
    ("How does the red ring move?", "auto", ()), ("What happened?", "auto", ()),
    ("When is there a red ring?", "auto", ()), ("What happened?", "join", ("--max-new-tokens", "3")),
])
def test_a_reply_tells_what_answered_as_the_command_line_does(engine: Engine, many: Path, question: str, strategy: str,
                                                              options: tuple[str, ...]) -> None:
    (told,) = documents(run("ask", many, question, "--strategy", strategy, "--json", "--device", "cpu", "--quiet",
                            *options))
    limit = int(options[1]) if options else None
    reply = engine.ask(many, question, strategy=strategy, max_new_tokens=limit)
    before = (reply.strategy, reply.answered_by)  # known before a word is made
    for answer in (reply.finish(), *engine.ask(many, [question], strategy=strategy, max_new_tokens=limit)):
        assert (answer.text, answer.finish, answer.strategy, list(answer.answered_by)) == (
            told["answer"], told["finish"], told["strategy"], told["answered_by"])
        assert before == (answer.strategy, answer.answered_by)


def test_many_adapters_are_each_asked_by_themselves_unless_composed(engine: Engine) -> None:
    one, two = engine.ingest(FILM), engine.ingest(LONG)
    answers = engine.ask([one, two], ["Is there a red ring?", "What appears first?"])
    assert [answer.text for answer in answers] == ["no", "the yellow star", "yes", "the green cross"]
    both = compose([one, two])
    assert engine.ask(both, "What does the blue triangle do?").text == "moves left"
    assert compose([both], max_rank=16).total_rank == 16


def test_a_reply_is_text_and_comes_in_pieces(engine: Engine) -> None:
    adapter = engine.ingest(FILM)
    reply = engine.ask(adapter, "What happened?")
    assert repr(reply) == "<Reply, not finished>" and len(list(reply)) > 5
    assert reply.text == str(reply) == "A yellow star grows, then a blue triangle moves left, then an orange circle " \
                                       "moves right."
    assert len(engine.ask(adapter, "What happened?", max_new_tokens=3).finish().ids) == 3


def test_what_is_shown_of_a_value_is_short(engine: Engine) -> None:
    adapter = engine.ingest(FILM)
    reply = engine.ask(adapter, "What happened?")
    shown = [repr(x) for x in (engine, adapter, reply.finish(), reply, open_clip(FILM, Sampling()))]
    assert all(len(text) < 160 and "\n" not in text for text in shown), shown
    assert shown[0] == f"Engine('tiny', device='cpu', dtype='{str(engine.dtype).removeprefix('torch.')}')"
    assert "three-shapes.mp4" in shown[1] and "v2l/tiny" in shown[1] and "A yellow star" in shown[2]


IMAGES = np.zeros((3, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(("call", "says"), [
    (lambda e: e.ingest(7), "A video is a path, bytes"),
    (lambda e: e.ingest(None), "not NoneType"),
    (lambda e: e.ingest(str(FILM), times=[0.0]), "times are for frames in memory"),
    (lambda e: e.ingest(IMAGES), "Frames need times"),
    (lambda e: e.ingest(IMAGES.astype(float), times=[0, 1, 2]), "hold float64"),
    (lambda e: e.ingest(IMAGES[0], times=[0]), r"shape \[8, 8, 3\]"),
    (lambda e: e.ingest(IMAGES, times=[0, 1]), "3 frames and 2 times"),
    (lambda e: e.ingest(IMAGES, times=[-1, 0, 1]), "negative"),
    (lambda e: e.ingest(IMAGES, times=[0, float("nan"), 1]), "not finite"),
    (lambda e: e.ingest(IMAGES, times=[0, 2, 1]), "do not ascend"),
    (lambda e: e.ingest(IMAGES, times=["a", "b", "c"]), "no numbers"),
    (lambda e: e.ingest(IMAGES, times=[0, 1, 2], segment="scenes"), "looked for in files"),
    (lambda e: e.ingest([[1, 2], [3]], times=[0, 1]), "frames are RGB"),
    (lambda e: e.ingest(b"no video"), "^video is text, not a video"),
    (lambda e: e.ingest(b""), "^video is empty"),
    (lambda e: e.ingest(io.StringIO("text")), "reads text"),
    (lambda e: e.ingest(b"x", name="a/b"), "no name for a file"),
    (lambda e: e.ingest(FILM, frames="6"), "frames is a whole number, not '6'"),
    (lambda e: e.ingest(FILM, frames=True), "frames is a whole number"),
    (lambda e: e.ingest(FILM, frames=0), "At least 1 frame"),
    (lambda e: e.ingest(FILM, start=-1.0), "0 seconds or later"),
    (lambda e: e.ingest(FILM, start="soon"), "1:30, not 'soon'"),
    (lambda e: e.ingest(FILM, segment="often"), "no way to cut"),
    (lambda e: e.ingest(FILM, segment=0.1), "at least 1 second"),
    (lambda e: e.ingest(FILM, Sampling(), frames=3), "A sampling says all"),
    (lambda e: e.ask(3, "What?"), "An adapter is one that"),
    (lambda e: e.ask("missing.v2lora", "What?"), "Cannot read the adapter"),
    (lambda e: e.ask("x.v2lora", ""), "A question is empty"),
    (lambda e: e.ask("x.v2lora", b"What?"), "A question is text, not bytes"),
    (lambda e: e.ask("x.v2lora", 5), "A question is text, not int"),
    (lambda e: e.ask("What?", e.ingest(FILM, frames=1)), "The adapter comes first"),
    (lambda e: Engine("tinny"), "no model tinny"),
    (lambda e: e.ask("x.v2lora", "What?", strategy="guess"), "no strategy 'guess'"),
    (lambda e: e.ask("x.v2lora", "What?", max_new_tokens=0), "must be 1 or more"),
    (lambda e: e.ask("x.v2lora", "What?", temperature=-1), "must be 0 or more"),
    (lambda e: Engine(5), "model is text, not int"),  # type: ignore[arg-type]
    (lambda e: Engine("tiny", dtype="int8"), "no dtype 'int8'"),
    (lambda e: load(3), "named by its path"),  # type: ignore[arg-type]
    (lambda e: save("x", "y"), "What is saved is an adapter"),  # type: ignore[arg-type]
    (lambda e: compose([]), "nothing to compose"),
    (lambda e: compose("a.v2lora"), "takes a list"),
    (lambda e: compose([e], max_rank=2), "An adapter is one that"),
])
def test_what_is_not_taken_is_a_v2l_error(engine: Engine, call: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(V2LError, match=says) as raised:
        call(engine)
    assert "v2l-" not in str(raised.value), "the name of a temporary folder tells nobody anything"


def test_a_sampling_in_a_bad_rank_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="max_rank must be a whole number"):
        compose([engine.ingest(FILM, frames=1)], max_rank=0)


def test_moments_are_found_as_the_command_line_finds_them(engine: Engine, tmp_path: Path) -> None:
    places = [tmp_path / "long.v2lora", tmp_path / "film.v2lora"]
    save(engine.ingest(LONG, segment="12s"), places[0])
    save(engine.ingest(FILM), places[1])
    printed = documents(run("find", *places, "a red ring", "--json", "--device", "cpu"))
    found = engine.find(places, "a red ring")
    assert [{"query": "a red ring", **one.document(), "model": "v2l/tiny"} for one in found] == printed != []
    assert (found[0].file, found[0].start, found[0].end) == ("long.mp4", 12.0, 36.0) and found[0].score > 6
    assert engine.find(load(places[0]), "a red ring", top=1)[0].segments == found[0].segments
    assert engine.find(places, "a red ring", threshold=1000) == []
    with pytest.warns(UserWarning, match="does not know what 'dog' is"):
        assert engine.find(places[0], "dog") == []
    for wrong in ({"top": 0}, {"threshold": "high"}, {"top": True}):
        with pytest.raises(UsageError):
            engine.find(places, "a red ring", **wrong)


def test_progress_is_told_to_who_asked(engine: Engine) -> None:
    seen: list[tuple[str, int, int | None]] = []
    engine.ingest(LONG, segment="12s", frames=3, progress=lambda *what: seen.append(what))
    engine.ingest(FILM, frames=2)
    # After its last frame a segment goes on, layer by layer, under the number of frames that are done.
    assert list(dict.fromkeys(step[1:] for step in seen)) == [(i, 9) for i in range(1, 10)]
    assert seen[-1][0] == "long.mp4, segment 3/3"


def test_what_the_command_line_would_note_is_a_warning(engine: Engine) -> None:
    content = bytearray(FILM.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    with pytest.warns(UserWarning, match=r"^video is damaged"):
        engine.ingest(bytes(content))


def test_two_threads_share_an_engine(engine: Engine) -> None:
    """It is loaded once, and each gets what it would get alone."""
    with Engine("tiny", offline=True, device="cpu") as shared:
        wanted = {film: engine.ingest(film, frames=4).A.tobytes() for film in (FILM, LONG)}
        bases: list[Any] = []
        answers: dict[Path, list[str]] = {FILM: [], LONG: []}
        failed: list[BaseException] = []

        def work(film: Path) -> None:
            try:
                for _ in range(2):
                    adapter = shared.ingest(film, frames=4)
                    assert adapter.A.tobytes() == wanted[film]
                    answers[film] += [shared.ask(adapter, "What happened?").text,
                                      *(answer.text for answer in shared.ask_each([adapter], "What happened?"))]
                    bases.append(shared.base)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(film,)) for film in (FILM, LONG)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed and len(set(map(id, bases))) == 1
        assert all(len(texts) == 4 and len(set(texts)) == 1 for texts in answers.values())
        assert answers[FILM][0] != answers[LONG][0]


def test_a_with_block_frees_the_memory_and_the_engine_may_be_used_again() -> None:
    with Engine("tiny", offline=True, device="cpu") as engine:
        adapter = engine.ingest(FILM, frames=2)
        answer = engine.ask(adapter, "What appears first?").text
        held = [weakref.ref(engine.base), weakref.ref(engine.hypernetwork), weakref.ref(engine.base.text)]
    gc.collect()
    assert [ref() for ref in held] == [None] * 3
    assert engine.ask(adapter, "What appears first?").text == answer


def test_the_notebook_gives_what_is_stored_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("long.mp4", "three-shapes.mp4"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    ran = 0
    for cell in json.loads((EXAMPLES / "python.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec("".join(cell["source"]), names)
            stored = "".join(line for output in cell["outputs"] for line in output["text"])
            assert said.getvalue().replace("float32", "float16") == stored
            ran += 1
    assert ran == 6


def test_the_script_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """That mypy --strict passes it is seen to by the configuration of mypy, which names it."""
    monkeypatch.chdir(EXAMPLES.parent)
    runpy.run_path(str(EXAMPLES / "script.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[:3] == [
        "A yellow star grows, then a blue triangle moves left, then an orange circle moves right.", "moves down",
        "long.mp4 yes 1"]
    assert "examples/script.py" in (EXAMPLES.parent / "pyproject.toml").read_text()


def test_saving_replaces_no_video(engine: Engine, tmp_path: Path) -> None:
    adapter, video = engine.ingest(FILM, frames=1), tmp_path / "film.mp4"
    shutil.copy(FILM, video)
    with pytest.raises(OutputError, match=r"is there and is no adapter; save under another.*film\.v2lora"):
        save(adapter, video)
    assert video.read_bytes() == FILM.read_bytes()
    (empty := tmp_path / "empty").touch()
    for file in (tmp_path / "film.v2lora", empty, empty):  # an adapter of any name may be replaced
        save(adapter, file)
        assert load(file).sources == adapter.sources
