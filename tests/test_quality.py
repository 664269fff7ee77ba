"""`v2l bench quality`: its answers are those of the engine, its tables follow from its journal, and it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.cli import documents, environment, refused, run
from support.quality import CLIPS, KINDS, answers, draw, f1, holm, made_up, session, words

from v2l.bench.benchmarks import registry
from v2l.bench.config import ARMS
from v2l.bench.quality import arms, results, sources
from v2l.bench.quality.answers import AnswerStore, ClipAnswers, ClipTask, Respondent, SavedAnswer
from v2l.bench.quality.bench import run_quality
from v2l.bench.quality.plan import EvalClip, EvalSet, EvalSetting, Question, collect, items_of_split
from v2l.bench.quality.results import comparison_table
from v2l.bench.quality.run import Answers
from v2l.bench.quality.score import Judging, score_answers
from v2l.bench.quality.words import about_texts
from v2l.bench.record import open_record
from v2l.cli import options
from v2l.config import Decoding, Sampling
from v2l.engine import Engine
from v2l.errors import UsageError
from v2l.manifest import Item, Turn, read_manifest, write_manifest
from v2l.score.judge import Case
from v2l.video.clip import open_clip

SETTING = EvalSetting(device="cpu", dtype="float32", max_new_tokens=24)
WORDS = ("bench", "quality", "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "24")
TABLE_1_OF_2_2B = [(0.576, 0.492), (0.326, 0.316), (0.270, 0.287), (0.539, 0.511), (0.437, 0.369), (0.597, 0.610),
                   (0.627, 0.531), (0.493, 0.295), (0.551, 0.475)]
"""In the order of its rows (v2l/README.md section 8)."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def journal(engine: Engine, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all clips and arms."""
    path = tmp_path_factory.mktemp("journal") / "whole.jsonl"
    session(SETTING, path, engine).answer(collect([("", read_manifest(manifest))]))
    return path


@pytest.fixture
def kept(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; whoever now needs a model fails."""
    def load(*_: object) -> Engine:
        raise AssertionError("no model should be needed")

    monkeypatch.setattr(options, "load_engine", load)
    copy = tmp_path / "kept.jsonl"
    copy.write_bytes(journal.read_bytes())
    return copy


# -- what is asked -------------------------------------------------------------------------------------------------


def turn(prompt: str = "What?", *targets: str) -> Turn:
    return Turn(prompt, targets or ("this",), "kind")


def test_a_clip_is_watched_once_for_all_that_is_asked_about_it() -> None:
    one, other = Path("one.mp4"), Path("other.mp4")
    asked = collect([("first", [Item("a", one, (turn(), turn("Why?"))), Item("b", other, (turn(),)),
                                Item("c", one, (turn(),), start=1.0)]),
                     ("second", [Item("a", one, (turn(),), benchmark="vdc")])])
    assert [(w.video, w.start, [q.id for q in w.questions]) for w in asked.clips] == [
        (one, None, ["first/a/1", "first/a/2", "vdc/a/1"]), (other, None, ["first/b/1"]), (one, 1.0, ["first/c/1"])]
    assert asked.clips[2].name == "one.mp4 0:01–"


def test_questions_without_a_reference_are_counted() -> None:
    items = [Item("a", Path("a.mp4"), (turn(), Turn("Why?", ())))]
    assert (len(collect([("x", items)]).questions), collect([("x", items)]).unanswerable) == (1, 1)
    with pytest.raises(UsageError, match="no question with a reference"):
        collect([("x", [Item("a", Path("a.mp4"), (Turn("Why?", ()),))])])


@pytest.mark.parametrize(("items", "message"), [
    ([Item("a", Path("a.mp4"), (turn(),)), Item("a", Path("b.mp4"), (turn(),))], "have the id of 'x/a/1'"),
    ([Item("a", Path("a.mp4"), (turn("What is <image>?"),))], "contains <image>"),
])
def test_what_cannot_be_asked_is_refused(items: list[Item], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        collect([("x", items)])


def test_clips_are_drawn_from_each_benchmark() -> None:
    items = [Item(f"{n}", Path(f"{n}.mp4"), (turn(),), benchmark="long" if n < 30 else "short") for n in range(34)]
    drawn = collect([("", items)], clips=8, seed=1)
    names = [q.benchmark for q in drawn.questions]
    assert (names.count("long"), names.count("short")) == (8, 4)
    assert [w.id for w in drawn.clips] == sorted((w.id for w in drawn.clips), key=[
        q.id for q in collect([("", items)]).questions].index)
    assert drawn == collect([("", items)], clips=8, seed=1) != collect([("", items)], clips=8, seed=2)


def test_a_model_is_tested_on_what_it_was_not_trained_on() -> None:
    items = [Item(f"{n}", Path("a.mp4"), (turn(),), split=split) for n, split in enumerate(("train", "val", "test"))]
    assert [item.split for item in items_of_split(items, None)] == ["test"]
    assert [item.split for item in items_of_split(items[:2], None)] == ["val"]
    assert [item.split for item in items_of_split(items[:1], None)] == ["train"]
    assert [item.split for item in items_of_split(items, "train")] == ["train"]
    assert items_of_split(items[:1], "test") == []


# -- what is answered ----------------------------------------------------------------------------------------------


def test_every_arm_answers_as_the_engine_does_by_itself(engine: Engine, manifest: Path, journal: Path) -> None:
    asked, found, decoding = collect([("", read_manifest(manifest))]), answers(journal), Decoding(24)
    assert set(found) == set(ARMS) and len(asked.clips) == CLIPS
    for watch in asked.clips[:2]:
        bound = engine.bind(engine.ingest(watch.video))
        seen = engine.see(open_clip(watch.video, engine.sampling()), engine.sampling())
        for question in watch.questions:
            alone = {"adapter": engine.ask(bound, question.prompt, decoding),
                     "direct": engine.direct(seen, question.prompt, decoding=decoding),
                     "none": engine.ask(None, question.prompt, decoding)}
            for arm, reply in alone.items():
                assert found[arm][question.id] == reply.finish().text, (arm, question.id)


def test_fewer_frames_fill_the_budget_and_keep_within_it(engine: Engine, manifest: Path) -> None:
    watch = collect([("", read_manifest(manifest))]).clips[0]
    seen = engine.see(open_clip(watch.video, engine.sampling()), engine.sampling())
    total = len(seen.timestamps)
    ask = lambda frames, question: engine.direct(frames, question, decoding=Decoding(1)).finish()
    for tokens in range(30, 140, 9):
        fewer = arms.fewer_frames(engine.base, seen, ["What?", "What is it that moves?"], tokens)
        count, reply = len(fewer.timestamps), ask(fewer, "What is it that moves?")
        assert set(fewer.timestamps) <= set(seen.timestamps) and reply.visual_tokens == len(fewer.image_tokens)
        assert reply.prompt_tokens <= tokens or count == 1
        if count < total:  # one frame more would not have fitted
            more = replace(seen, image_tokens=seen.image_tokens[: (count + 1) * engine.base.image_seq_len],
                           timestamps=seen.timestamps[: count + 1], times=seen.times[: count + 1])
            assert ask(more, "What is it that moves?").prompt_tokens > tokens
    assert arms.fewer_frames(engine.base, seen, ["What?"], 10_000).timestamps == seen.timestamps
    middle = arms.fewer_frames(engine.base, seen, ["What?"], 1)
    assert middle.timestamps == [seen.timestamps[total // 2]]


# -- tables --------------------------------------------------------------------------------------------------------


def test_one_command_prints_the_tables_that_follow_from_its_answers(kept: Path, manifest: Path) -> None:
    document, = documents(run(*WORDS, manifest, "--resume", kept, "--json"))
    said, items = answers(kept), read_manifest(manifest)
    references = {f"{item.benchmark}/{item.id}/1": item.turns[0].targets[0] for item in items}
    rows = document["tables"]["token_f1"]["rows"]
    assert [(row["name"], row["title"]) for row in rows] == [("vdc", "VDC"), ("next-qa", "NExT-QA"), ("own", "own")]
    for row in rows:
        mine, theirs = ([f1(text, references[q]) for q, text in said[arm].items() if q.startswith(row["name"])]
                        for arm in ("adapter", "direct"))
        assert row["questions"] == len(mine) == len(theirs) and row["clips"] == CLIPS
        assert row["adapter"] == pytest.approx(fmean(mine)) and row["base"] == pytest.approx(fmean(theirs))
        assert row["difference"] == pytest.approx(fmean(mine) - fmean(theirs))
        assert row["low"] <= row["difference"] <= row["high"] and row["published"] is None
    kinds = {row["name"]: row for row in document["kinds"]["rows"]}
    assert kinds.keys() == KINDS.keys()
    for kind, row in kinds.items():
        exact = [words(said["adapter"][f"{item.benchmark}/{item.id}/1"]) == words(item.turns[0].targets[0])
                 for item in items if item.turns[0].kind == kind]
        assert row["adapter"] == pytest.approx(fmean(exact))
    shown = {arm["name"]: arm for arm in document["arms"]}
    assert list(shown) == list(ARMS) and document["questions"] == len(references)
    for arm, texts in said.items():
        assert shown[arm]["scores"]["token_f1"] == pytest.approx(fmean(f1(t, references[q]) for q, t in texts.items()))
    assert shown["none"]["prompt_tokens"] == shown["adapter"]["prompt_tokens"] < shown["budget"]["prompt_tokens"]
    assert shown["budget"]["prompt_tokens"] <= document["budget_tokens"] < shown["direct"]["prompt_tokens"]


def test_verdicts_are_computed_from_corrected_tests() -> None:
    """By the definitions once more, from the p-values that are printed, over made-up scores of every kind."""
    names = {"same": 0.0, "better": 0.4, "worse": -0.4, "near": -0.03, "noisy": 0.0}
    scored = [entry for name, shift in names.items() for n in range(40)
              for entry in made_up(name, n, shift, noise=0.5 if name == "noisy" else 0.02)]
    found = comparison_table(scored, "token_f1", 0.05, lambda question: question.benchmark, seed=0)
    p = {test: holm([getattr(row.paired, f"p_{test}") for row in found.rows])
         for test in ("equivalent", "different", "noninferior", "inferior")}
    for place, row in enumerate(found.rows):
        up = row.paired.difference > 0
        expected = ("equivalent" if p["equivalent"][place] <= 0.025 else
                    "better" if p["different"][place] <= 0.05 and up else
                    "non-inferior" if p["noninferior"][place] <= 0.025 else
                    "inferior" if p["inferior"][place] <= 0.025 else
                    "worse" if p["different"][place] <= 0.05 and not up else "inconclusive")
        assert row.verdict == expected
    assert {row.name: row.verdict for row in found.rows} == {
        "same": "equivalent", "better": "better", "worse": "inferior", "near": "equivalent", "noisy": "inconclusive"}


def test_clips_of_one_video_are_resampled_together() -> None:
    questions = [Question(f"own/{n}/1", "own", "", "What?", ("this",)) for n in range(8)]
    clips = tuple(EvalClip(Path("one.mp4"), float(n), n + 1.0, (question,)) for n, question in enumerate(questions))
    said = Answers(tuple(ClipAnswers(clip.id, arm, 1, 0.1, (SavedAnswer(clip.id, "What?", "this", 1, 0, 1, 0.1),))
                         for clip in clips for arm in ("adapter", "direct")))
    scored = score_answers(EvalSet(clips), said, None, AnswerStore(open_record(None), SETTING))
    row, = comparison_table(scored, "token_f1", 0.05, lambda question: question.benchmark, seed=0).rows
    assert (row.paired.pairs, row.paired.clips, row.verdict) == (8, 1, "inconclusive")


def test_published_figures_stand_beside_released_presets_alone() -> None:
    scored = [entry for name in ("next-qa", "vdc", "own") for n in range(6) for entry in made_up(name, n, 0.0, 0.1)]
    by = lambda question: question.benchmark
    rows = {model: comparison_table(scored, "token_f1", 0.05, by, 0, model).rows
            for model in ("500m", "2.2b", "tiny", "")}
    assert [row.title for row in rows["500m"]] == ["VDC", "NExT-QA", "own"]
    figures = [row.published and (row.published.base, row.published.adapter) for row in rows["500m"]]
    assert figures == [(0.315, 0.288), (0.129, 0.068), None]  # v2l/README.md section 8
    assert rows["2.2b"][1].published and rows["2.2b"][1].published.adapter == 0.076
    assert all(row.published is None for model in ("tiny", "") for row in rows[model])


def test_another_benchmark_moves_no_published_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands among the others; it has none of its own."""
    tenth = replace(registry.VDC, name="tenth", title="Tenth", published={})
    shifted = {"tenth": tenth, **registry.PUBLIC_BENCHMARKS}
    monkeypatch.setattr(results, "PUBLIC_BENCHMARKS", shifted)
    scored = [entry for name in shifted for n in range(3) for entry in made_up(name, n, 0.0, 0.1)]
    rows = comparison_table(scored, "judge", 0.15, lambda question: question.benchmark, 0, "2.2b").rows
    assert [row.title for row in rows][:2] == ["Tenth", "ActivityNet Captions"]
    assert [row.published and (row.published.base, row.published.adapter) for row in rows] == [None, *TABLE_1_OF_2_2B]


def test_the_document_keeps_its_shape(kept: Path, manifest: Path) -> None:
    document, = documents(run(*WORDS, manifest, "--resume", kept, "--json"))
    assert set(document) == {
        "kind", "v2l", "model", "fingerprint", "hypernetwork", "sha256", "dtype", "device", "sampling", "tile",
        "budget_tokens", "arms", "clips", "questions", "unreadable", "without_reference", "over_budget", "judge",
        "ungraded", "seed", "tables", "kinds", "sweep", "finetuned"}
    assert set(document["tables"]["token_f1"]["rows"][0]) == {
        "name", "title", "task", "questions", "clips", "base", "adapter", "difference", "low", "high", "margin",
        "confidence",
        "p_different", "p_noninferior", "p_equivalent", "p_inferior", "verdict", "left_out", "published", "pairs",
        "mean_a", "mean_b"}
    assert set(document["arms"][0]) == {"name", "questions", "scores", "prompt_tokens", "frames", "setup_s", "answer_s"}


# -- judges --------------------------------------------------------------------------------------------------------


def test_a_judge_is_asked_once_and_what_it_cannot_tell_is_counted(kept: Path, manifest: Path) -> None:
    """Table 1 is there only with a judge; an answer without a grade leaves its pair out."""
    asked = collect([("", read_manifest(manifest))])
    heard: list[Case] = []

    def grade(cases: Sequence[Case]) -> list[float | None]:
        heard.extend(cases)
        return [None if case.answer == asked_answer else 0.25 for case in cases]

    asked_answer = next(iter(answers(kept)["adapter"].values()))
    first, second = (run_quality(session(SETTING, kept), asked, judging=Judging("a judge", "judge 1", grade)).quality
                     for _ in range(2))
    assert len(heard) == len(set(heard)) > CLIPS and second.to_json() == first.to_json()
    rows = first.tables["judge"].rows
    assert sum(row.left_out for row in rows) > 0
    assert sum(row.left_out + row.paired.pairs for row in rows) == len(asked.questions)
    assert all(row.paired.mean_a == row.paired.mean_b == 0.25 for row in rows)
    assert first.ungraded == sum(text == asked_answer for arm in answers(kept).values() for text in arm.values())
    nothing = Judging("mute", "", lambda cases: [None] * len(cases))
    mute = run_quality(session(SETTING, kept), asked, judging=nothing).quality
    every = len(ARMS) * len(asked.questions)
    assert not mute.tables["judge"].rows and mute.ungraded == every
    assert any(f"no grade about {every} of {every} answers" in line for line in about_texts(mute))
    assert list(run_quality(session(SETTING, kept), asked).quality.tables) == ["token_f1"]
    count = len(heard)
    run_quality(session(SETTING, kept), asked, judging=Judging("a judge", "judge 2", grade))
    assert len(heard) == 2 * count  # another judge knows nothing of it


def test_a_suite_brings_its_clips_and_its_judge(kept: Path, manifest: Path, engine: Engine,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def write(name: str, folder: Path, clips: int, seed: int) -> Path:
        asked.append((name, clips, seed))
        folder.mkdir()
        items = [replace(item, video=item.video.resolve()) for item in read_manifest(manifest) if item.id[0] in "01"]
        write_manifest(folder / "manifest.jsonl", items)
        return folder / "manifest.jsonl"

    half = lambda cases: [0.5 for _ in cases]
    monkeypatch.setattr(sources, "write_suite_clips", write)
    monkeypatch.setattr(sources, "suite_judge", lambda name: Judging(f"{name}'s facts", "", half))
    monkeypatch.setattr(options, "load_engine", lambda *_: engine)
    document, = documents(run(*WORDS, "--suite", "tiny", "--clips", 2, "--seed", 7, "--resume", kept, "--json"))
    assert asked == [("tiny", 2, 7)] and document["clips"] == 2 and document["judge"] == "tiny's facts"
    assert {row["adapter"] for row in document["tables"]["judge"]["rows"]} == {0.5}


# -- going on ------------------------------------------------------------------------------------------------------


def test_scores_are_worked_out_again_without_the_model(kept: Path, manifest: Path) -> None:
    before = kept.read_bytes()
    first = run(*WORDS, manifest, "--resume", kept).stdout
    assert "Table 4, questions: token F1" in first
    assert run(*WORDS, manifest, "--resume", kept, "--quiet").stdout == first
    wider = documents(run(*WORDS, manifest, "--resume", kept, "--json", "--f1-margin", "0.9"))[0]
    assert wider["tables"]["token_f1"]["margin"] == 0.9 and kept.read_bytes() == before


def test_scoring_again_loads_no_torch(kept: Path, manifest: Path) -> None:
    words = [str(word) for word in ("v2l", *WORDS, manifest, "--resume", kept, "--report", kept.with_name("page.html"))]
    code = (f"import sys; sys.argv = {words!r}\nfrom v2l.__main__ import main\n"
            "try: main()\nexcept SystemExit as end: print(end.code, [n for n in sys.modules if n == 'torch'])")
    done = subprocess.run([sys.executable, "-c", code], text=True, env=environment(), timeout=60, capture_output=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


def test_a_stopped_run_goes_on_where_it_was(engine: Engine, manifest: Path, journal: Path, tmp_path: Path) -> None:
    asked, path = collect([("", read_manifest(manifest))]), tmp_path / "stopped.jsonl"
    done = 0

    def progress(what: str, count: int, of: int | None) -> None:
        nonlocal done
        done = count
        if count == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session(SETTING, path, engine, progress=progress).answer(asked)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 40])  # and its last line was not finished
    again = session(SETTING, path, engine)
    found = again.answer(asked)
    assert done == 7 and 0 < again.earlier < len(ARMS) * len(asked.questions)
    assert len(found.by_clip) == len(ARMS) * CLIPS and answers(path) == answers(journal)
    assert session(SETTING, path).answer(asked) == found


def test_answers_of_two_runs_in_one_file_are_told_apart(tmp_path: Path) -> None:
    """They take turns, as runs of v2l 0.4 that wrote to one file at once did."""
    clip = EvalClip(Path("a.mp4"), None, None, (Question("own/a/1", "own", "", "What?", ("this",)),))
    other = replace(SETTING, max_new_tokens=2)
    model = Respondent("tiny", "f", "h", "s", "float32", "cpu", {"frames": 8}, 64, 10)
    stores = []
    for setting in (SETTING, other):
        with open_record(tmp_path / "j.jsonl") as file:
            stores.append(AnswerStore(file, setting))
        stores[-1].respondent = model
    for arm in ("direct", "none"):
        for store, text in zip(stores, ("long", "short"), strict=True):
            saved = SavedAnswer("own/a/1", "What?", text, 1, 0, 1, 0.1)
            store.add(ClipTask(clip, Sampling(), (arm,)), ClipAnswers(clip.id, arm, 1, 0.1, (saved,)))
    for setting, text in ((SETTING, "long"), (other, "short")):
        with open_record(tmp_path / "j.jsonl") as file:
            store = AnswerStore(file, setting)
        for arm in ("direct", "none"):
            found = store.find(ClipTask(clip, Sampling(), (arm,)), arm)
            assert isinstance(found, ClipAnswers) and found.answers[0].text == text


def test_answers_of_older_versions_are_those_of_the_run_named_before_them(engine: Engine, kept: Path,
                                                                          manifest: Path) -> None:
    asked = collect([("", read_manifest(manifest))])
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert all(line["run"] == lines[0]["run"] for line in lines)
    older = [{key: value for key, value in line.items() if key != "run"} for line in lines]
    kept.write_text("".join(json.dumps(line) + "\n" for line in older[:-1]))
    more = session(SETTING, kept, engine)
    found = more.answer(asked)
    assert 0 < more.earlier < len(ARMS) * len(asked.questions)
    assert session(SETTING, kept).answer(asked) == found  # old answers and the new one


def test_one_run_at_a_time_writes_to_a_file(kept: Path, manifest: Path) -> None:
    before = kept.read_bytes()
    with open_record(kept):
        assert "Another run is writing" in refused(*WORDS, manifest, "--resume", kept, status=2)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("change", [{"max_new_tokens": 3}, {"frames": 4}, {"resolution": 48}, {"budget_tokens": 60},
                                    {"fps": 0.5}])
def test_answers_under_another_setting_are_others(change: dict[str, Any], engine: Engine, manifest: Path,
                                                  kept: Path) -> None:
    one = collect([("", read_manifest(manifest))], clips=1)
    again = session(replace(SETTING, **change), kept, engine)
    again.answer(one)
    assert again.earlier == 0 and session(SETTING, kept).answer(one).by_clip


def test_a_question_or_a_file_that_changed_is_asked_anew(engine: Engine, manifest: Path, kept: Path,
                                                         tmp_path: Path) -> None:
    watch = collect([("", read_manifest(manifest))]).clips[0]
    worded = replace(watch, questions=(replace(watch.questions[0], prompt="What else?"), *watch.questions[1:]))
    copy = tmp_path / watch.video.name
    copy.write_bytes(watch.video.read_bytes())
    run = session(SETTING, kept, engine)
    same, gone = replace(watch, video=copy), replace(watch, video=tmp_path / "gone" / watch.video.name)
    assert not run.missing([run.task(w, ARMS) for w in (watch, same, gone)])
    copy.write_bytes(watch.video.read_bytes() + b"more")
    assert [task.arms for task in run.missing([run.task(w, ARMS) for w in (worded, same)])] == [ARMS, ARMS]


def test_another_model_of_that_name_is_noticed(engine: Engine, manifest: Path, kept: Path) -> None:
    """All of it is asked anew; but what was taken over is never mixed with what a changed model says."""
    lines = [line.replace(engine.hypernetwork_files.sha256, "0" * 64) for line in kept.read_text().splitlines()]
    kept.write_text("\n".join(lines) + "\n")
    asked = collect([("", read_manifest(manifest))], clips=1)
    old = session(SETTING, kept, engine)
    old.answer(asked)
    with pytest.raises(UsageError, match="those of another model"):
        _ = old.engine
    assert session(SETTING, kept).answer(asked).by_clip  # it does not even know
    more = collect([("", [*read_manifest(manifest), Item("new", asked.clips[0].video, (turn(),))])])
    fresh = session(SETTING, kept, engine)
    fresh.answer(more)
    assert fresh.earlier == 0


# -- what fails ----------------------------------------------------------------------------------------------------


def test_a_clip_that_cannot_be_decoded_is_named_and_counted(engine: Engine, manifest: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "load_engine", lambda *_: engine)
    items, broken = read_manifest(manifest)[:4], tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    write_manifest(tmp_path / "some.jsonl", [Item("broken", broken, (turn(), turn("Why?")), split="test"), *items])
    words = (*WORDS, tmp_path / "some.jsonl", "--resume", tmp_path / "j.jsonl", "--json")
    result = run(*words, status=1)
    document, = documents(result)
    assert document["unreadable"][0]["name"] == "broken.mp4" and (document["clips"], document["questions"]) == (1, 4)
    assert result.stderr.count("Error: ") == 1 and "broken.mp4" in result.stderr
    assert all(arm["questions"] == 4 for arm in document["arms"])
    monkeypatch.setattr(options, "load_engine", lambda *_: pytest.fail("it is known to be broken"))
    assert documents(run(*words, status=1)) == [document]
    write_manifest(tmp_path / "none.jsonl", [Item("broken", broken, (turn(),))])
    monkeypatch.setattr(options, "load_engine", lambda *_: engine)
    assert "None of the 1 clips could be decoded" in refused(*WORDS, tmp_path / "none.jsonl")


def test_lines_of_other_splits_are_left_out_and_counted(kept: Path, manifest: Path, tmp_path: Path) -> None:
    items = read_manifest(manifest)
    write_manifest(tmp_path / "more.jsonl", [*items, Item("learned", items[0].video, (turn(),))])
    result = run(*WORDS, tmp_path / "more.jsonl", "--resume", kept, "--json")
    assert documents(result)[0]["questions"] == len(items)
    assert f"Note: {tmp_path}/more.jsonl: 1 line that is not of the split test is left out." in result.stderr


@pytest.mark.parametrize(("given", "message"), [
    ((), "Name a MANIFEST"),
    (("missing.jsonl",), "cannot be read"),
    (("{manifest}", "--split", "train"), "has no line of the split 'train'"),
    (("--benchmark", "vdc"), "takes NAME=FOLDER"),
    (("--benchmark", "nothing=."), "There is no benchmark 'nothing'"),
    (("{manifest}", "--resume", "{manifest}"), "not the record of a bench"),
    (("{manifest}", "{manifest}"), "have the id"),
])
def test_wrong_usage_is_told_before_a_model_is_loaded(given: tuple[str, ...], message: str, manifest: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "load_engine", lambda *_: pytest.fail("a model was loaded"))
    assert message in refused(*WORDS, *(word.format(manifest=manifest) for word in given), status=2)


@pytest.mark.parametrize("given", [("--arms", "adapter,all"), ("--suite", "small"), ("--margin", "0"),
                                   ("--f1-margin", "1.5"), ("--sweep-frames", "4,x"), ("--finetune", "0"),
                                   ("--clips", "0"), ("--seed", "-1")])
def test_a_value_that_means_nothing_is_refused(given: tuple[str, str], manifest: Path) -> None:
    assert given[0] in run(*WORDS, manifest, *given, status=2).stderr


def test_a_report_must_have_a_place(manifest: Path, tmp_path: Path) -> None:
    assert "Cannot write" in refused(*WORDS, manifest, "--report", tmp_path / "no" / "page.html")


def test_the_arms_that_were_named_answer(kept: Path, manifest: Path) -> None:
    document, = documents(run(*WORDS, manifest, "--resume", kept, "--json", "--arms", "none, adapter"))
    assert [arm["name"] for arm in document["arms"]] == ["adapter", "none"]
    assert document["tables"]["token_f1"]["rows"] == document["kinds"]["rows"] == []


def test_a_public_benchmark_is_asked_from_the_users_copy(engine: Engine, manifest: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "load_engine", lambda *_: engine)
    told = [{"video_id": name, "video_name": f"{name}.mp4", "short_caption": "A star.", "camera_caption": "Still."}
            for name in ("0", "1", "missing")]
    (tmp_path / "VDC_1k.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    for name in ("0.mp4", "1.mp4"):
        (tmp_path / name).write_bytes((manifest.parent / name).read_bytes())
    result = run(*WORDS, "--benchmark", f"VDC={tmp_path}", "--arms", "adapter,direct", "--clips", 2, "--json")
    document, = documents(result)
    row, = document["tables"]["token_f1"]["rows"]
    assert (row["title"], row["questions"], row["clips"]) == ("VDC", 4, 2)
    assert [kind["name"] for kind in document["kinds"]["rows"]] == ["short", "camera"]
    assert "Note: VDC: 1 of 3 entries are left out, because their videos are not there, such as" in result.stderr
