"""The sweep: its clips, its floors, what it does where time or memory do not suffice, its table and its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from support.cli import MAKE, REFERENCE, documents, environment, refused, run
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import SmolVLMForConditionalGeneration

from v2l.adapter import save
from v2l.bench.config import RESOLUTIONS, SPEED_FRAMES, edge_for
from v2l.bench.record import open_record
from v2l.bench.speed import machine, worker
from v2l.bench.speed import sweep as speed
from v2l.bench.speed.cells import AdapterTimes, CellPlan, Cold, Missing, PromptTimes, SpeedCell, Throughput
from v2l.bench.speed.compare import Comparison, Way
from v2l.bench.speed.drawn import draw_video, length
from v2l.bench.speed.earlier import EarlierSweep
from v2l.bench.speed.floors import ModelSizes
from v2l.bench.speed.jobs import NoFigures, cold_start, run_job
from v2l.bench.speed.machine import Machine
from v2l.bench.speed.report import speed_page
from v2l.bench.speed.sweep import SpeedSetting, SpeedSweep, measure_sweep
from v2l.bench.speed.tables import comparison_text, sweep_text
from v2l.cli import bench as command
from v2l.cli.console import Console
from v2l.config import HypernetConfig, Sampling
from v2l.engine import Engine
from v2l.errors import UsageError
from v2l.model.config import TextConfig, VisionConfig
from v2l.model.prompt import tile_grid
from v2l.report import plots
from v2l.video.clip import frame_indices, open_clip

MACHINE = Machine("A <fast> CPU", "cpu", 2, 2, 24 * 10**9, 0.85e12, 0.3e12, 20e9)
SHAPES_500M = ModelSizes(TextConfig(960, 2560, 32, 15, 5, 64, 49280, 1e-5, 1e5, 8192, False),
                         VisionConfig(768, 3072, 12, 12, 512, 16, 1e-6, 4), HypernetConfig(32, 960, 2560, 960),
                         tile=512, image_seq_len=64, itemsize=2)
SETTING = SpeedSetting(str(REFERENCE / "tiny-vlm"), str(REFERENCE / "hypernetwork.pt"), "cpu", "float32", frames=(2, 3),
                  resolutions=(64, 128), repeats=1, adapters=2, new_tokens=4)
PAGE = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs run in this process on a machine that never changes; what ran, in order."""
    ran: list[str] = []

    def perform(job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        name = job["job"]
        ran.append(name if name in ("describe", "throughput") else f"{name} {job['frames']} {job['resolution']}")
        return json.loads(json.dumps(worker.perform_job(job)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "measure_machine", lambda *_: MACHINE)
    monkeypatch.setattr(speed, "run_job", perform)
    monkeypatch.setattr(speed, "cold_start", lambda words, repeats: Cold(2.6, 2.9, 1_100_000_000, repeats))
    return ran


# -- clips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 8, 130])
def test_a_drawn_clip_has_the_frames_its_cell_is_named_for(frames: int, tmp_path: Path) -> None:
    sampling = Sampling(frames=frames)
    clip = open_clip(draw_video(tmp_path / "clip.mp4", sampling), sampling)
    assert len(list(clip.frames())) == len(clip.indices) == frames
    assert (clip.info.frames, clip.info.fps) == length(sampling)
    assert clip.indices == frame_indices(*length(sampling), sampling)
    for edge in (224, 336, 384, 512, 1024):  # the same tiles as any 16:9 video
        assert tile_grid(clip.info.width, clip.info.height, edge, 512) == tile_grid(1920, 1080, edge, 512)


@pytest.mark.parametrize("frames", SPEED_FRAMES)
@pytest.mark.parametrize("fps", [0.5, 1.0, 4.0])
def test_every_cell_samples_its_number_of_frames(frames: int, fps: float) -> None:
    sampling = Sampling(frames=frames, fps=fps)
    assert len(frame_indices(*length(sampling), sampling)) == frames


# -- floors --------------------------------------------------------------------------------------------------------


def test_floors_are_those_that_were_counted_before() -> None:
    """v2l/README.md section 9: 12 frames, 969 tokens."""
    found = {name: flop / 1e12 for name, flop in SHAPES_500M.watching(12, 969).items()}
    assert found["vision"] == pytest.approx(2.55, rel=0.02)
    assert found["decoder"] == pytest.approx(0.59, rel=0.01)  # its matrices; attention is counted by itself
    assert found["hypernetwork"] == pytest.approx(0.87, rel=0.07)  # the published count leaves out the latents' side
    assert sum(found.values()) == pytest.approx(4.0, rel=0.04)
    assert SHAPES_500M.text_bytes == pytest.approx(0.72e9, rel=0.01)
    assert SHAPES_500M.text_bytes / 20e9 == pytest.approx(0.036, rel=0.01)


@torch.inference_mode()
def test_floors_agree_with_a_counter_of_operations() -> None:
    theirs = SmolVLMForConditionalGeneration.from_pretrained(REFERENCE / "tiny-vlm", attn_implementation="eager").model
    shapes, tiles, tokens = reference_shapes(), 3, 200
    assert counted(lambda: theirs.connector(theirs.vision_model(torch.zeros(tiles, 3, 64, 64)).last_hidden_state)
                   ) == pytest.approx(shapes.seeing(tiles), rel=0.02)
    layers = shapes.text.num_layers
    # Eager attention computes the future too.
    full = 4 * layers * shapes.text.num_heads * shapes.text.head_dim * tokens**2
    embeddings = torch.zeros(1, tokens, shapes.text.hidden_size)
    assert counted(lambda: theirs.text_model(inputs_embeds=embeddings)) == pytest.approx(
        shapes.decoder(tokens, layers) + full, rel=0.02)
    assert shapes.attention(tokens, layers) == pytest.approx(full / 2, rel=0.01)
    for config in (shapes.hypernetwork, SHAPES_500M.hypernetwork):
        sized = replace(shapes, hypernetwork=config)
        assert counted(lambda c=config: published(c, tokens)) == pytest.approx(sized.generate(tokens), rel=0.02)


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def published(c: HypernetConfig, tokens: int) -> Tensor:
    """v2l/README.md section 5 with keys and values of the whole context, in shapes alone."""
    empty = lambda *shape: torch.empty(*shape, device="meta")
    linear = lambda x, size: F.linear(x, empty(size, x.shape[-1]))
    mlp = lambda x, inner, out: linear(linear(x, inner) * linear(x, inner), out)

    def block(x: Tensor, context: Tensor) -> Tensor:
        both = torch.cat([context, x], 1)
        heads = lambda y: y.unflatten(-1, (-1, c.head_dim)).transpose(1, 2)
        q = heads(linear(x, c.num_heads * c.head_dim))
        k, v = (heads(linear(both, c.num_kv_heads * c.head_dim)).repeat_interleave(c.num_heads // c.num_kv_heads, 1)
                for _ in range(2))
        pooled = (q @ k.mT) @ v
        return mlp(linear(pooled.transpose(1, 2).flatten(2), c.latent_size), 4 * c.latent_size, c.latent_size)

    z, n = c.latent_size, c.num_layers
    context, x = mlp(empty(n, tokens, c.hidden_size), 4 * c.hidden_size, z), empty(n, c.num_queries, z)
    for _ in range(c.num_blocks):
        x = block(x, context)
    y = linear(linear(block(empty(n, c.rank, z), x), 4 * z), z)
    return y @ empty(n, z, c.d_in + c.d_out)


def reference_shapes() -> ModelSizes:
    base, hypernetwork = (engine := reference_engine()).base, engine.hypernetwork_files
    return ModelSizes(base.text_config, base.vision_config, hypernetwork.config, base.tile, base.image_seq_len,
                      itemsize=4)


def reference_engine() -> Engine:
    return Engine(SETTING.model, SETTING.checkpoint, device="cpu", dtype="float32")


def test_bytes_are_those_of_the_weights() -> None:
    """All matrices, that is: norms and biases are left out."""
    engine, shapes = reference_engine(), reference_shapes()
    size = lambda module: sum(4 * p.numel() for p in module.parameters() if p.ndim > 1)
    text, table = size(engine.base.text), 4 * shapes.text.vocab_size * shapes.text.hidden_size
    vision, hypernetwork = size(engine.base.vision), size(engine.hypernetwork)
    assert shapes.text_bytes == text - table  # a row of it is read, not all
    assert shapes.direct_bytes == text + vision
    last = 4 * shapes.layer_parameters
    assert shapes.watching_bytes == pytest.approx(text - table - last + vision + hypernetwork, rel=0.005)
    assert ModelSizes.from_json(json.loads(json.dumps(asdict(shapes)))) == shapes


def test_a_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PRODUCT_SHAPES", ((64, 64, 64),))
    monkeypatch.setattr(machine, "memory", lambda: 1 << 26)
    found = machine.measure_machine(torch.device("cpu"), seconds=0.01)
    assert found.name and found.device == "cpu" and found.cores >= 1 and found.threads == torch.get_num_threads()
    assert min(found.bfloat16, found.float32, found.bandwidth) > 1e6
    assert found.rate("bfloat16") == found.rate("float16") == found.bfloat16 and found.rate("float32") == found.float32


# -- the sweep -----------------------------------------------------------------------------------------------------


def test_every_cell_is_measured(here: list[str]) -> None:
    printed: list[dict[str, Any]] = []
    made = measure_sweep(SETTING, 600, emit=printed.append)
    assert here[:2] == ["describe", "throughput"]
    assert here[2:] == [f"{name} {n} {edge}" for edge in (64, 128) for n in (2, 3) for name in ("watch", "direct")]
    assert [d["kind"] for d in printed] == ["sweep", "throughput", "cold", *["cell"] * 4]
    for cell, document in zip(made.cells, printed[3:], strict=True):
        watch, direct = cell.both or pytest.fail("a half is missing")
        assert watch.frames == direct.frames == cell.plan.frames
        # The plan was made without a video, and tells the truth of it.
        assert (watch.prompt_tokens, direct.prompt_tokens) == (made.adapter_tokens, cell.plan.direct_tokens)
        assert direct.visual_tokens == cell.plan.tiles * made.shapes.image_seq_len
        assert cell.plan.tiles == cell.plan.frames * (1 if cell.plan.resolution == 64 else 5)
        assert cell.parts and min(cell.parts.values()) > 0 and min(direct.cached_ttft_s, watch.token_s) > 0
        floors = made.floors(cell.plan)
        assert sum(cell.parts.values()) == pytest.approx(watch.watch_s) and cell.parts.keys() == floors.parts.keys()
        assert sum(floors.parts.values()) == pytest.approx(floors.watch_s)
        assert watch.peak and direct.peak and watch.file_size > 1000
        assert SpeedCell.from_json(json.loads(json.dumps(document))) == cell
        assert document["token_reduction"] == cell.plan.direct_tokens / made.adapter_tokens
        assert document["ttft_ratio"] == direct.ttft_s / watch.ttft_s and not document["over_positions"]
        assert set(document["pays_after"]) == {"direct", "cached"}
    assert made.throughput and made.throughput.adapters == 2 and made.throughput.new_tokens > 0


def test_what_the_budget_leaves_out_is_listed(here: list[str]) -> None:
    made = measure_sweep(SETTING, 0.5)
    assert here == ["describe", "throughput"]  # every process is taken to need longer than that
    assert len(made.cells) == 4
    for cell in made.cells:
        for half in (cell.watch, cell.direct):
            assert isinstance(half, Missing) and half.status == "not run" and half.about_s > 0.5
    assert sweep_text(made).count("not run (about ") == 8
    assert speed_page(made).count("<td>not run (about ") == 4 + 8  # watching, and both halves of every cell


def test_estimates_follow_what_was_measured() -> None:
    made = example()
    estimates = speed.Estimates(made)
    small, large = (next(p for p in made.plans if (p.frames, p.resolution) == key) for key in ((8, 224), (1024, 224)))
    assert estimates.seconds("watch", small) == pytest.approx(10 + 4 * made.floors(small).watch_s)
    estimates.add("watch", small, replace(watched(8), watch_s=3.0, read_s=1.0), wall_s=9.0)
    assert estimates.seconds("watch", small) == pytest.approx(9)
    ratio = made.floors(large).watch_s / made.floors(small).watch_s
    assert estimates.seconds("watch", large) == pytest.approx(5 + 4 * ratio)


def test_what_does_not_fit_is_an_outcome(here: list[str]) -> None:
    measure = speed.run_job

    def small(job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        if job["job"] == "direct" and job["resolution"] == 128:
            here.append("full")
            raise NoFigures("did not fit", "the memory did not suffice")
        return measure(job, limit_s)

    made = measure_sweep(replace(SETTING, frames=(2, 3, 4)), 600, run=small)
    for cell in made.cells:
        assert isinstance(cell.watch, AdapterTimes)
        if cell.plan.resolution == 128:
            assert isinstance(cell.direct, Missing) and cell.direct.status == "did not fit"
    assert here.count("full") == 1  # what is larger than it was not tried
    assert sweep_text(made).count("in the prompt: did not fit") == 3
    page = ElementTree.fromstring(speed_page(made))
    crosses = [mark for mark in page.iter("path") if mark.get("class") == "mark missing"]
    assert len(crosses) == 3 and "did not fit" in speed_page(made)


def test_a_cell_that_samples_other_frames_is_no_measurement(here: list[str]) -> None:
    measure = speed.run_job
    wrong = lambda job, limit_s: measure(job, limit_s) | ({"frames": 1} if job["job"] == "watch" else {})
    made = measure_sweep(replace(SETTING, frames=(2,), resolutions=(64,)), 600, run=wrong)
    assert made.cells[0].watch == Missing("failed", "1 frames were sampled instead of 2", pytest.approx(10, abs=1))


def test_an_interrupted_sweep_goes_on(here: list[str], tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    measure, left = speed.run_job, iter(range(5))

    def interrupted(job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measure(job, limit_s)

    def resumed(setting: SpeedSetting, budget_s: float = 600, **options: Any) -> SpeedSweep:
        with open_record(file) as record:
            return measure_sweep(setting, budget_s, record=record, **options)

    with pytest.raises(KeyboardInterrupt):
        resumed(SETTING, run=interrupted)
    assert here == ["describe", "throughput", "watch 2 64", "direct 2 64", "watch 3 64"]
    with file.open("a") as torn:
        torn.write('{"kind": "cell", "fra')
    here.clear()
    made = resumed(SETTING)
    assert here[2:] == ["direct 3 64", "watch 2 128", "direct 2 128", "watch 3 128", "direct 3 128"]
    assert made.earlier == 3 and all(cell.both for cell in made.cells)
    here.clear()
    again = resumed(SETTING)
    assert here == ["describe", "throughput"] and again.cells == made.cells
    assert "8 halves of cells were taken over" in speed_page(again)
    here.clear()
    resumed(replace(SETTING, question="Another?"), 0.5)
    with open_record(file) as record:
        known = EarlierSweep(record, again.identity).cells
        assert len(known) == 4 and all(cell.both for cell in known.values())
        assert not EarlierSweep(record, again.identity | {"machine": "another"}).cells


def test_going_on_with_a_complete_sweep_adds_nothing_to_its_record(here: list[str], tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    for budget_s in (0.5, 0.5, 600, 600, 0.5):
        before = file.read_bytes() if file.exists() else b""
        with open_record(file) as record:
            measure_sweep(SETTING, budget_s, record=record)
        kinds = [json.loads(line)["kind"] for line in file.read_text().splitlines()]
        assert file.read_bytes().startswith(before)
        assert kinds[:7] == ["sweep", "throughput", "cold", *["cell"] * 4]  # none was measured
        assert kinds[7:] == (["cell"] * 8 if "watch 2 64" in here else [])  # half of each, then the whole
    assert here.count("watch 2 64") == 1


@pytest.mark.parametrize("content", ["not json\n{}\n", '["a"]\n', '{"kind": "sweep"}\n{"answer": 42}\n{"kind": "x"}\n'])
def test_a_journal_leaves_other_files_alone(content: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(UsageError, match="not the record of a bench"):
        open_record(file)
    assert file.read_text() == content


# -- processes -----------------------------------------------------------------------------------------------------


def test_a_cell_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    video = draw_video(tmp_path / "clip.mp4", Sampling(frames=3))
    job = SETTING.job("watch", frames=3, resolution=64, video=str(video), result=str(tmp_path / "cell.json"))
    found = AdapterTimes(**run_job(job, 200))
    assert found.frames == 3 and found.peak and 10e6 < found.peak < 4e9 and found.repeats == 1
    with pytest.raises(NoFigures, match="longer than the budget") as stopped:
        run_job(job, 0.01)
    assert stopped.value.status == "stopped"


def test_memory_that_does_not_suffice_ends_only_the_worker(tmp_path: Path) -> None:
    code = ("import torch; from v2l.bench.speed import worker; worker.free_memory = lambda: 3 << 30\n"
            "worker.perform_job = lambda job: {'size': torch.ones(1 << 30).nbytes}\n"
            "worker.main()")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "found.json")], input='{"device": "cpu"}',
                          text=True, env=environment(), timeout=120, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == {"did not fit": "the memory did not suffice"}


def test_a_cold_start_is_a_whole_process(tmp_path: Path) -> None:
    adapter = tmp_path / "a.v2lora"
    save(reference_engine().ingest(REFERENCE / "videos" / "short.mp4", Sampling(frames=2, resolution=64)), adapter)
    found = cold_start(speed.ask_words(SETTING, adapter), 1)
    assert 0 < found.first_s <= found.total_s and found.peak and found.peak > 10e6
    with pytest.raises(NoFigures, match=r"(?i)no such file"):
        cold_start(["ask", tmp_path / "none.v2lora", "What?"], 1)


def test_a_sweep_imports_nothing_heavy() -> None:
    """It would count to the memory of what it starts."""
    code = ("import sys, v2l.bench.speed.sweep, v2l.bench.speed.report, v2l.bench.speed.tables, v2l.cli.bench\n"
            "print(sorted({'torch', 'transformers', 'cv2', 'av', 'numpy'} & sys.modules.keys()))")
    done = subprocess.run([sys.executable, "-c", code], text=True, env=environment(), timeout=60, capture_output=True)
    assert done.stdout == "[]\n", done.stderr


# -- what is shown -------------------------------------------------------------------------------------------------


def watched(frames: int, seconds: float = 3.0) -> AdapterTimes:
    return AdapterTimes(frames, seconds, 0.1, seconds / 2, seconds / 4, 0.02, 0.053, 0.044, 14,
                   1_800_000_000 + 10**6 * frames, None, 7_200_000, 3)


def example(limit_s: float = 400.0) -> SpeedSweep:
    """A sweep of the released shapes, as if cells whose floor is above `limit_s` had been beyond the budget."""
    made = SpeedSweep(SETTING, "org/<b>model</b> & 'co'", "hyper.pt", {}, "bfloat16", 14, SHAPES_500M, MACHINE, [])
    for edge in RESOLUTIONS:
        rows, columns = tile_grid(16, 9, edge, 512)
        for frames in SPEED_FRAMES:
            tiles = frames * (rows * columns + (rows * columns > 1))
            made.plans.append(CellPlan(frames, edge, tiles, 69 * tiles + 12 * frames, 69 * tiles + 12 * frames + 2))
    for plan in made.plans:
        floors = made.floors(plan)
        watch: AdapterTimes | Missing = watched(plan.frames, 2.3 * floors.watch_s)
        direct: PromptTimes | Missing = PromptTimes(plan.frames, 2 * floors.direct_s, 0.05, 2 * floors.direct_s, 0.069,
                                              plan.direct_tokens, plan.direct_tokens - 20, 3 * 10**9, None, 3)
        if floors.watch_s > limit_s:
            watch = Missing("not run", "beyond the budget", 2.3 * floors.watch_s)
        if floors.direct_s > limit_s:
            direct = Missing("did not fit" if plan.direct_tokens > 150_000 else "not run", "", 3 * floors.direct_s)
        made.cells.append(SpeedCell(plan, watch, direct))
    made.cold, made.throughput = Cold(2.6, 2.9, 1_100_000_000, 3), Throughput(8, 128, 7.1, 1.9)
    return made


@pytest.mark.parametrize("width", [40, 60, 100, 140])
def test_tables_fit_their_terminal(width: int) -> None:
    text = sweep_text(example(), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("not run (about ") + text.count("did not fit") == sum(
        isinstance(half, Missing) for cell in example().cells for half in (cell.watch, cell.direct))
    assert len(re.findall(r"^ 1,024 ", text, re.MULTILINE)) == 4
    way = Way("adapter", 1234.5, 365_600, 327_680, 0.00123, 12345.6, 128, "word " * 30)
    ways = way, replace(way, name="direct"), replace(way, name="cached", ttft_s=0.0012)
    compared = Comparison("org/" + "long-name" * 3, "a film.mp4", "cpu", "bfloat16", 2, 1024, 1024, "What? " * 9, 3,
                          *ways)
    assert max(map(len, comparison_text(compared, width).splitlines())) <= width


def test_the_page_holds_itself_and_everything_in_it() -> None:
    text = speed_page(example())
    page = ElementTree.fromstring(text)  # well formed, so everything in it is escaped
    assert "org/&lt;b&gt;model&lt;/b&gt; &amp; &#x27;co&#x27;" in text and "A &lt;fast&gt; CPU" in text
    for outside in ("http:", "https:", "<script", "@import", "url(", "<link", "src="):
        assert outside not in text
    drawings = list(page.iter("svg"))
    assert len(drawings) == 7 and all(d.get("role") == "img" and d.get("aria-label") for d in drawings)
    assert len(list(page.iter("figure"))) == len(list(page.iter("figcaption"))) == 11
    assert len(list(page.iter("details"))) >= 8
    words = " ".join(page.itertext())
    for part in ("5,9", "not run (about", "did not fit", "2.3×", "0.85 TFLOP/s", "question 2", "3.7× faster"):
        assert part in words
    assert 'name="viewport"' in text and "prefers-color-scheme:dark" in text


def test_the_page_needs_no_measurement() -> None:
    empty = example()
    empty.cells = [SpeedCell(c.plan, Missing("failed", "x", 1.0), Missing("failed", "x", 1.0)) for c in empty.cells]
    empty.cold = empty.throughput = None
    assert ElementTree.fromstring(speed_page(empty)) is not None
    assert sweep_text(empty).count("failed: x") == 64


def texts(drawing: str, style: str) -> list[tuple[float, float, str]]:
    found = [t for t in ElementTree.fromstring(drawing).iter("text") if t.get("class") == style]
    return sorted(((float(t.get("x", 0)), float(t.get("y", 0)), t.text or "") for t in found), key=lambda t: t[1])


def test_a_plot_shows_its_lines_and_names_them_apart() -> None:
    lines = [plots.Line(f"line {i}", [plots.Point(x, 100 + i + x) for x in (8, 64, 1024)], i) for i in range(5)]
    odd = [plots.Point(8, 3.0, "estimated"), plots.Point(64, 30.0, "missing", "a <note>")]
    lines[4] = replace(lines[4], points=odd)
    drawing = plots.line_plot("a & b", plots.Axis("frames", ticks=(8, 64, 512, 1024)), plots.Axis("seconds"),
                              [*lines, plots.Line("", [plots.Point(8, 2), plots.Point(1024, 5)], 0, floor=True)],
                              [plots.Callout(64, 100, "here"), plots.Callout(1000, 90, "there")])
    names = texts(drawing, "name")
    assert sorted(name for _, _, name in names) == [f"line {i}" for i in range(5)]
    assert all(b[1] - a[1] >= plots.FONT for a, b in pairwise(names))
    assert all(0 < x < plots.WIDTH and 0 < y < plots.HEIGHT for x, y, _ in [*names, *texts(drawing, "callout")])
    page = ElementTree.fromstring(drawing)
    kinds = [mark.get("class", "").split()[1] for mark in page.iter("path") if mark.get("class", "").startswith("mark")]
    assert sorted(kinds) == ["estimated", *["measured"] * 12, "missing"]
    assert [title.text for title in page.iter("title")] == ["a <note>"] and page.get("aria-label") == "a & b"
    places = {text: x for x, _, text in texts(drawing, "tick") if text in ("8", "64", "512", "1,024")}
    assert places["64"] - places["8"] == pytest.approx(places["512"] - places["64"], abs=0.2)  # logarithmic


@pytest.mark.parametrize("wanted", [[10.0, 11, 12, 200], [50.0], [5.0] * 6, [0.0, 100, 101, 102, 300], [299.0, 300]])
def test_names_keep_their_distance_and_their_order(wanted: list[float]) -> None:
    found = plots.spread_apart(wanted, 13, 20, 290)
    assert all(b - a >= 13 - 1e-6 for a, b in pairwise(found))
    alone = [w for w in wanted if all(abs(w - other) > 40 for other in wanted if other is not w) and 20 <= w <= 290]
    assert all(w in found for w in alone)


# -- the command ---------------------------------------------------------------------------------------------------

WORDS = ("bench", "speed", *MAKE[:6], "--checkpoint", SETTING.checkpoint, "--repeat", 1)


def test_the_command_prints_a_table_and_writes_a_page(here: list[str], tmp_path: Path) -> None:
    words = (*WORDS, "--frames", "2,3", "--resolutions", "64", "--resume", "found.jsonl")
    text = run(*words, "--report", "page.html").stdout
    assert re.search(r"^ +2 +\d+ +\S+x ", text, re.MULTILINE) and "64 pixels" in text
    assert ElementTree.parse(tmp_path / "page.html").getroot().tag == "html"
    here.clear()
    printed = documents(run(*words, "--json"))
    assert [d["kind"] for d in printed] == ["sweep", "throughput", "cold", "cell", "cell"]
    assert here == ["describe", "throughput"]  # the rest was in the file


@pytest.mark.parametrize("words", [("--json",), ()])
def test_the_page_is_written_though_nobody_reads_the_rest(words: tuple[str, ...], here: list[str], tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def closes_after_one(value: Any) -> None:  # `| head -1`
        if read or not words:
            raise BrokenPipeError
        read.append(value)

    monkeypatch.setattr(command, "write_json" if words else "write", closes_after_one)
    run(*WORDS, "--budget", 0.001, *words, "--report", "page.html", status=141)
    assert ElementTree.parse(tmp_path / "page.html").getroot().tag == "html"
    if words:  # without a page there is nothing left to do
        here.clear()
        run(*WORDS, "--budget", 0.001, *words, status=141)
        assert here == ["describe"]


def test_the_bar_makes_way_for_every_document(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(Console, "aside", lambda self: order.append("aside"))
    monkeypatch.setattr(command, "write_json", lambda value: order.append(value["kind"]))
    run(*WORDS, "--budget", 0.001, "--json", "--quick")
    assert order == [step for kind in ("sweep", "throughput", "cold", "cell", "cell", "cell")
                     for step in ("aside", kind)]


def test_the_command_chooses_cells_that_suit_the_model(here: list[str]) -> None:
    printed = documents(run(*WORDS, "--budget", 0.001, "--json"))
    plans = {(plan["frames"], plan["resolution"]) for plan in printed[0]["plans"]}
    assert plans == {(n, edge) for n in SPEED_FRAMES for edge in (28, 42, 64, 128)}
    assert {(c["frames"], c["resolution"]) for c in printed if c["kind"] == "cell"} == plans
    quick = documents(run(*WORDS, "--budget", 0.001, "--json", "--quick"))
    assert {plan["frames"] for plan in quick[0]["plans"]} == {8, 12, 24} and len(quick[0]["plans"]) == 3
    for tile in (512, 384):
        assert [edge_for(tile, edge) for edge in RESOLUTIONS] == [224, 336, 512, 1024]


def test_the_command_refuses_before_it_measures(here: list[str], tmp_path: Path) -> None:
    assert "is not a list of numbers" in run(*WORDS, "--frames", "8,x", status=2).stderr
    assert "is not a list of numbers" in run(*WORDS, "--resolutions", "0", status=2).stderr
    assert "create it first" in refused(*WORDS, "--report", "no/page.html")
    refused(*WORDS, "--report", "/proc/page.html")  # a folder nobody can write to
    (tmp_path / "notes.txt").write_text("mine\nand mine\n")
    assert "not the record of a bench" in refused(*WORDS, "--resume", "notes.txt", status=2)
    assert here == []
