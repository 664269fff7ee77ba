"""The bench of quality shown: its text on narrow and wide terminals, its page, its sweep and fine-tuned adapters."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from support.cli import run
from support.quality import draw, made_up, session

from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.bench.quality.bench import QualityRun, SweepOptions, TuningOptions, run_quality
from v2l.bench.quality.page import quality_page
from v2l.bench.quality.plan import EvalSet, EvalSetting, collect
from v2l.bench.quality.results import comparison_table
from v2l.bench.quality.score import Judging
from v2l.bench.quality.table import comparison_grid, quality_text
from v2l.engine import Engine
from v2l.errors import ModelError
from v2l.manifest import read_manifest
from v2l.report import grid
from v2l.report.forest import Interval, forest_plot
from v2l.video.clip import open_clip
from v2l.wording import duration_text

SETTING = EvalSetting(device="cpu", dtype="float32", max_new_tokens=16)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "a <b>bold</b> & \"quoted\" claim, it's \x00 odd"
HALF = Judging("a <judge>", "", lambda cases: [0.5 if "star" in case.answer else 1.0 for case in cases])


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    """Two of the clips; one question and a reference are meant to break a page."""
    whole = collect([("", read_manifest(draw(tmp_path_factory.mktemp("clips"))))])
    first, second = whole.clips[:2]
    odd = replace(first.questions[0], prompt=HOSTILE, references=(HOSTILE,))
    return replace(whole, clips=(replace(first, questions=(odd, *first.questions[1:])), second))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "j.jsonl"


@pytest.fixture(scope="module")
def found(engine: Engine, asked: EvalSet, journal: Path) -> QualityRun:
    sweeping = SweepOptions((2, 5, 500), (32, 64), clips=2, budget_s=600)
    return run_quality(session(SETTING, journal, engine), asked, judging=HALF, sweeping=sweeping,
                       tuning=TuningOptions((1, 2), 1))


# -- the sweep -----------------------------------------------------------------------------------------------------


def test_every_cell_is_about_that_many_frames(found: QualityRun, asked: EvalSet, engine: Engine) -> None:
    assert found.sweep and found.sweep.clips == 2
    assert (found.sweep.frames, found.sweep.resolutions) == ([2, 5, 500], [32, 64])
    for cell in found.sweep.cells:
        if cell.frames == 500:
            assert (cell.status, cell.clips, cell.too_short, cell.adapter) == ("too short", 0, 2, None)
            continue
        assert cell.adapter and cell.direct and (cell.status, cell.clips) == ("measured", 2)
        assert cell.adapter.frames == cell.direct.frames == cell.frames
        assert cell.adapter.questions == len(asked.questions)
        assert {metric for metric, _ in cell.differences} == {"judge", "token_f1", "exact"}
    # What the cell's prompt holds, counted by hand: as many frames, from the first picture to the last.
    watch = asked.clips[0]
    pictures = open_clip(watch.video, engine.sampling()).info.frames
    for frames in (2, 5):
        sampling = engine.sampling(frames=frames, fps=frames / (pictures / 10), skip=0.0)
        indices = open_clip(watch.video, sampling).indices
        assert (len(indices), indices[0], indices[-1]) == (frames, 0, pictures - 1)


def test_a_sweep_goes_on_and_leaves_nothing_out(found: QualityRun, asked: EvalSet, journal: Path,
                                                engine: Engine) -> None:
    same = SweepOptions((2, 5, 500), (32, 64), 2, 600)
    again = run_quality(session(SETTING, journal), asked, judging=HALF, sweeping=same)
    assert again.sweep and found.sweep and again.sweep.cells == found.sweep.cells
    hurried = SweepOptions((2, 3, 4, 6), (64,), 2, 0.0)
    short = run_quality(session(SETTING, journal, engine), asked, sweeping=hurried).sweep
    assert short
    by_frames = {cell.frames: cell for cell in short.cells}
    assert by_frames[2].status == "measured"  # it was known
    assert by_frames[3].status == "measured"  # of the first there is no telling how long it takes
    assert {by_frames[n].status for n in (4, 6)} == {"not run"} and 0 < by_frames[4].about_s < by_frames[6].about_s
    text = quality_text(replace(found, sweep=short))
    assert "4 frames at 64 px: not run (about" in text and "6 frames at 64 px: not run (about" in text
    assert f"about {duration_text(by_frames[6].about_s)}" in quality_page(replace(found, sweep=short))


@pytest.mark.parametrize(("error", "status", "others"), [
    (MemoryError("no room"), "did not fit", "did not fit"), (ModelError("not finite"), "failed", "failed"),
])
def test_a_cell_that_fails_ends_no_other(error: Exception, status: str, others: str, asked: EvalSet, engine: Engine,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    run = session(SETTING, None, engine)
    answers = run.answer(asked)
    tried = []

    def fail(tasks: Any, how: Any = None) -> Any:
        tried.append(tasks[0].sampling.frames)
        raise error

    monkeypatch.setattr(run, "answer", lambda _: answers)
    monkeypatch.setattr(run, "complete", fail)
    sweep = run_quality(run, asked, sweeping=SweepOptions((2, 3), (64,), 1, 600)).sweep
    assert sweep and [cell.status for cell in sweep.cells] == [status, others]
    assert tried == ([2] if status == "did not fit" else [2, 3])  # what is larger is not tried


# -- fine-tuning ---------------------------------------------------------------------------------------------------


def test_a_fine_tuned_adapter_is_asked_what_it_was_taught_and_what_not(found: QualityRun, asked: EvalSet,
                                                                       journal: Path) -> None:
    tuned = found.tuned
    assert tuned and (tuned.clips, tuned.taught + tuned.others) == (1, len(asked.clips[1].questions))
    assert 0 <= tuned.taught - tuned.others <= 1
    assert [(arm.name, arm.steps) for arm in tuned.arms] == [
        ("adapter", None), ("direct", None), ("fine-tuned", 1), ("fine-tuned", 2)]
    assert tuned.arms[2].seconds < tuned.arms[3].seconds
    assert run_quality(session(SETTING, journal), asked, judging=HALF, tuning=TuningOptions((2, 1), 1)).tuned == tuned


# -- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 72, 100, None])
def test_text_fits_the_terminal_and_tells_the_same(found: QualityRun, width: int | None) -> None:
    text = quality_text(found, width)
    if width:
        assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for table in (*found.quality.tables.values(), found.quality.kinds):
        for row in table.rows:
            assert row.title in flat and row.verdict in flat and f"{row.paired.mean_b:.3f}" in flat
    assert "Table 1, captions: judge's score" in flat and "Table 4, questions: token F1" in flat
    assert "fine-tuned, 1 step" in flat
    assert "500 frames at 64 px: too short" in flat


def test_a_table_with_published_figures_fits_100_columns() -> None:
    scored = [entry for name in PUBLIC_BENCHMARKS for n in range(9) for entry in made_up(name, n, 0.0, 0.5)]
    grid = comparison_grid(comparison_table(scored, "token_f1", 0.05, lambda question: question.benchmark, 0, "2.2b"))
    assert grid.fits(100) and "ActivityNet Captions" in grid.text(100)
    assert all(figure in grid.text(100) and figure in grid.html() for figure in ("0.263", "0.256"))


# -- the page ------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_harmless(found: QualityRun, asked: EvalSet, tmp_path: Path) -> None:
    text = quality_page(found)
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", "").replace(f'{SVG[1:-1]}"', '"'))
    everything = " ".join("".join(root.itertext()).split())
    titles = [h2.text for h2 in root.iter("h2")]
    assert [str(title)[:7] for title in titles[:4]] == ["Table 1", "Table 1", "Table 4", "Table 4"]
    assert {"All arms", "Frames × resolution", "Clips, questions, answers"} <= set(titles)
    assert "a <b>bold</b> & \"quoted\" claim, it's \ufffd odd" in everything and "a <judge>" in everything
    assert all(f"{word}: " in everything for word in ("Arm", "Base", "Judge", "Degenerate"))
    assert not list(root.iter("script")) and "http" not in text.replace("https://", "http").split("<body>")[1]
    for table in (*found.quality.tables.values(), found.quality.kinds):
        assert all(row.title in everything and row.verdict in everything for row in table.rows)
    images = list(root.iter("img"))
    assert len(images) == 4 * len(asked.clips) and all(image.get("alt") for image in images)
    for image in images:
        kind, data = image.attrib["src"].split(",")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert kind == "data:image/jpeg;base64" and picture.format == "JPEG" and max(picture.size) <= 180
    marks = [b.text or "" for b in root.iter("b") if (b.text or "")[:1] in "✓≈✗" and b.text]
    scored = found.quality.scored
    assert sum(mark == "✓" for mark in marks) == sum(s.exact == 1 for s in scored)
    assert len(marks) == len(scored)  # right or wrong is told without colour, of every answer


def test_a_page_says_which_videos_are_gone(found: QualityRun, asked: EvalSet) -> None:
    gone = replace(asked, clips=tuple(replace(w, video=Path("/gone") / w.video.name) for w in asked.clips))
    text = quality_page(replace(found, quality=replace(found.quality, eval_set=gone)))
    assert text.count("No frames: ") == len(asked.clips) and "<img" not in text


def test_a_forest_shows_where_an_interval_lies_to_the_margin() -> None:
    rows = [Interval("inside <1>", 0.0, -0.04, 0.04, "equivalent", 0),
            Interval("outside", -0.3, -0.4, -0.2, "worse", 1),
            Interval("across", 0.05, -0.02, 0.12, "inconclusive", 5, published=0.1)]
    root = ElementTree.fromstring(forest_plot("A title", "difference", 0.05, rows))
    band = next(root.iter("rect"))
    left = float(band.attrib["x"])
    right = left + float(band.attrib["width"])
    spans = [[float(x) for x in path.attrib["d"][1:].replace("H", ",").split("M")[0].split(",")]
             for path in root.iter("path") if path.get("class") == "span"]
    ends = [(low, high) for low, _, high in spans]
    assert left < ends[0][0] < ends[0][1] < right and ends[1][1] < left and left < ends[2][0] < right < ends[2][1]
    width = float(root.attrib["viewBox"].split()[2])
    assert all(0 <= low < high <= width for low, high in ends)
    texts = [text.text for text in root.iter("text")]
    assert {"inside <1>", "worse", "inconclusive", "difference"} <= set(texts)
    assert {"-0.05", "+0.05, the margin", "0", "-0.2"} <= set(texts)
    roomy = ElementTree.fromstring(forest_plot("A title", "difference", 0.2, rows[:1]))
    assert {"-0.2", "0", "+0.2, the margin"} <= {text.text for text in roomy.iter("text")}
    assert sum("estimated" in path.get("class", "") for path in root.iter("path")) == 1


def test_colours_of_a_map_follow_the_values() -> None:
    up, down = (grid.diverging([-0.4, 0.2])(value) for value in (0.2, -0.4))
    assert up == ("heat", 0.5) and down == ("cold", 1.0)
    assert grid.diverging([0.01])(0.01) == ("heat", pytest.approx(0.1))  # a small difference does not look large
    assert grid.share([])(0.3) == ("heat", 0.3) and grid.logarithmic([1.0, 100.0])(10.0) == ("heat", 0.5)


def test_help_tells_of_it() -> None:
    text = run("bench", "quality", "--help").stdout
    assert "Table" in text and "--suite" in text and "--f1-margin" in text
    assert "v2l bench quality --suite tiny" in run("bench", "--help").stdout
