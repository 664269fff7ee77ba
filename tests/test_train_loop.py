"""The loop by itself: going on exactly, what is written, what is refused; and what decides the order of clips."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cli import environment
from torch import Tensor, nn

from v2l.config import SHORTEST_SEGMENT
from v2l.errors import ModelError, UsageError, VideoError
from v2l.manifest import Item, Turn
from v2l.train.batches import in_threads, random_cuts, step_draws, validation_draws
from v2l.train.config import Recipe
from v2l.train.items import digest, sort_out
from v2l.train.loop import Fit, Fitted, Schedule
from v2l.train.optim import cosine, optimizers
from v2l.train.processes import Processes


class Line:
    """A line fitted to points: `parts` batches a step, the points a function of the step."""

    def __init__(self, parts: int = 1, size: int = 4, ends: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        self.parts, self.size, self.ends = parts, size, ends
        self.kept: list[tuple[str, float]] = []
        self.step = 0

    def losses(self, step: int) -> Iterator[tuple[Tensor, float]]:
        self.step = step
        if step == self.ends:
            raise KeyboardInterrupt
        x = torch.randn(self.parts * self.size, 3, generator=torch.Generator().manual_seed(step))
        for part in x.split(self.size):
            yield (self.model(part) - part.sum(-1, keepdim=True)).square().sum(), len(part)

    def validate(self) -> dict[str, float]:
        x = torch.linspace(-1, 1, 30).view(10, 3)
        with torch.no_grad():
            return {"loss": float((self.model(x) - x.sum(-1, keepdim=True)).square().mean())}

    def keep(self, which: str) -> None:
        self.kept.append((which, self.validate()["loss"]))

    def state(self) -> dict[str, Any]:
        return self.model.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)


def fit(task: Line, folder: Path, recipe: Recipe | None = None, steps: int = 12, **settings: Any) -> Fit:
    recipe = recipe or Recipe(lr=0.05, muon_lr=0.05)
    schedule = Schedule(steps, 4, cosine(steps, 0.2), recipe.clip)
    identity = {"lr": recipe.lr, "clips": "0123456789abcdef0123456789abcdef"}
    return Fit(task, optimizers(task.model.named_parameters(), recipe), schedule, folder,
               settings.pop("identity", identity), **settings)


def losses(folder: Path) -> list[list[str]]:
    """losses.csv without the clock."""
    return [line.split(",")[:-1] for line in (folder / "losses.csv").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_ended_goes_on_to_the_very_same_numbers(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe(lr=0.05, muon_lr=0.05, optimizer=optimizer)
    whole = Line()
    done = fit(whole, tmp_path / "whole", recipe).run()
    assert done.step == 12 and done.val_loss is not None
    rows = losses(tmp_path / "whole")
    assert rows[0] == ["step", "loss", "val_loss", "lr", "grad_norm", "tokens"] and len(rows) == 13
    assert float(rows[12][2]) < float(rows[4][2]) and [row[0] for row in rows[1:]] == [str(i) for i in range(1, 13)]
    # Ended twice: once between two saves, which leaves lines to drop, one of them torn.
    for ends in (6, 11):
        with pytest.raises(KeyboardInterrupt):
            fit(Line(ends=ends), tmp_path / "again", recipe).run()
    with (tmp_path / "again" / "losses.csv").open("a") as file:
        file.write("12,0.1")
    notes: list[str] = []
    again = Line()
    last = fit(again, tmp_path / "again", recipe, note=notes.append).run()
    assert notes[0] == "Going on after step 8 of 12."
    assert losses(tmp_path / "again") == rows
    assert replace(last, seconds=0) == replace(done, seconds=0)
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_stopped_is_saved_and_a_whole_run_is_not_run_again(tmp_path: Path) -> None:
    task = Line()
    stopped = fit(task, tmp_path).run(stop=lambda: task.step == 4)
    assert stopped.step == 5
    assert fit(task, tmp_path).run().step == 12
    again = Line(ends=12)
    assert fit(again, tmp_path).run().step == 12 and again.step == 0
    page = (tmp_path / "losses.html").read_text()
    assert page.count("<svg") == 2 and "validation" in page
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(line["event"], line["step"]) for line in journal] == [
        ("start", 0), ("validation", 4), ("start", 5), ("validation", 8), ("validation", 12), ("start", 12)]


def test_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    task = Line()
    figures = iter([3.0, 1.0, 2.0])
    task.keep = lambda which: kept.append((which, task.step))  # type: ignore[method-assign]
    task.validate = lambda: {"loss": next(figures), "other": 5.0}  # type: ignore[method-assign]
    kept: list[tuple[str, int]] = []
    done = fit(task, tmp_path).run()
    assert kept == [("last", 3), ("best", 3), ("last", 7), ("best", 7), ("last", 11)]
    assert (done.best_step, done.best_loss, done.val_loss) == (8, 1.0, 2.0)
    # Killed after the state was written and before the weights were, it writes these when it goes on.
    again = Line()
    fit(again, tmp_path / "again").run(stop=lambda: again.step == 3)
    killed = Line()
    going_on = fit(killed, tmp_path / "again")
    assert going_on.now.best_step == 4 and killed.kept == again.kept != []
    assert '"other": 5.0' in (tmp_path / "journal.jsonl").read_text()


def test_without_validation_the_newest_is_the_best(tmp_path: Path) -> None:
    task = Line()
    task.validate = dict  # type: ignore[method-assign]
    task.keep = lambda which: kept.append((which, task.step))  # type: ignore[method-assign]
    kept: list[tuple[str, int]] = []
    assert fit(task, tmp_path).run().best_step == 12
    assert [step for which, step in kept if which == "best"] == [3, 7, 11]
    figures: Iterator[dict[str, float]] = iter([{"loss": 1.0}, {}, {"loss": 2.0}])
    task.validate = lambda: next(figures)  # type: ignore[method-assign]
    assert fit(task, tmp_path / "once").run().best_step == 4  # whose clips could once not be decoded


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Also where they count for different amounts."""
    small, large = Line(parts=2, size=3), Line(parts=1, size=6)
    fit(small, tmp_path / "small").run()
    fit(large, tmp_path / "large").run()
    for p, q in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    uneven, x = Line(), torch.randn(4, 3)
    uneven.losses = lambda step: (  # type: ignore[method-assign]
        (uneven.model(part).square().sum(), len(part)) for part in x.split([1, 3]))
    expected = float(uneven.model(x).detach().square().mean())
    assert fit(uneven, tmp_path / "uneven").run(stop=lambda: True).loss == pytest.approx(expected)


def test_other_settings_are_refused_in_words(tmp_path: Path) -> None:
    fit(Line(), tmp_path).run()
    with pytest.raises(UsageError) as refused:
        fit(Line(), tmp_path, identity={"lr": 0.1, "clips": "x" * 64, "rank": 4})
    assert str(refused.value) == (
        f"{tmp_path} holds a training with other settings: lr (0.05 before, 0.1 now), clips (0123456789ab... before, "
        "xxxxxxxxxxxx... now), rank (None before, 4 now); take these, another folder, or begin anew with --force.")
    assert fit(Line(), tmp_path, identity={"lr": 0.1}, force=True).now == Fitted()
    (tmp_path / "training.pt").write_bytes(b"torn")
    with pytest.raises(UsageError, match=r"training\.pt cannot be read \(.*\); begin anew with --force\."):
        fit(Line(), tmp_path)


def test_what_is_not_finite_ends_it_and_keeps_what_was(tmp_path: Path) -> None:
    task = Line()
    fit(task, tmp_path).run(stop=lambda: task.step == 3)
    plain = task.losses
    task.losses = lambda step: ((loss * math.nan, n) for loss, n in plain(step))  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="step 5 is not finite"):
        fit(task, tmp_path).run()
    assert fit(Line(), tmp_path).now.step == 4


def test_steps_without_anything_change_nothing_and_too_many_end_it(tmp_path: Path) -> None:
    task = Line()
    plain = task.losses
    task.losses = lambda step: iter(()) if step in (2, 6, 7) else plain(step)  # type: ignore[method-assign]
    run = fit(task, tmp_path)
    run.schedule = replace(run.schedule, patience=2)
    with pytest.raises(VideoError, match="None of the videos"):
        run.run()
    rows = losses(tmp_path)
    assert rows[3] == ["3", "", "", rows[3][3], "", "0"] and rows[7][0] == "7" and len(rows) == 8


def test_low_precision_weights_fit_around_the_batches(tmp_path: Path) -> None:
    """A task may compute with a copy of its weights: before the first batch and after the last it has its turn."""
    task, other = Line(), Line()
    copy = Line().model

    def through_copy(step: int) -> Iterator[tuple[Tensor, float]]:
        copy.load_state_dict(task.model.state_dict())
        task_model, task.model = task.model, copy
        yield from Line.losses(task, step)
        task.model = task_model
        for p, q in zip(task.model.parameters(), copy.parameters(), strict=True):
            p.grad, q.grad = q.grad, None

    task.losses = through_copy  # type: ignore[method-assign]
    fit(task, tmp_path / "copy").run()
    fit(other, tmp_path / "plain").run()
    assert losses(tmp_path / "copy") == losses(tmp_path / "plain")


WORKER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import torch
from v2l.train.processes import Processes
from test_train_loop import Line, fit
torch.set_num_threads(1)
processes = Processes.from_environment()
assert processes.count == 2
processes.join("cpu")
task = Line(parts=2, size=3)
whole = task.losses
def mine(step):
    for i, (loss, weight) in enumerate(whole(step)):
        if i == processes.rank and step != 3:
            yield loss, weight
        elif step == 3 and processes.rank == 1:  # the first has no clip in this step
            yield loss, weight
task.losses = mine
done = fit(task, Path({folder!r}), processes=processes).run()
assert processes.gather(processes.rank) == [0, 1]
sums = [str(float(p.detach().double().sum())) for p in task.model.parameters()]
sys.stdout.write(" ".join(sums) + "\\n")  # in one piece: both processes write to one pipe
processes.leave()
"""


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    folder, script = tmp_path / "two", tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent), folder=str(folder)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, script], text=True, stdout=subprocess.PIPE, env=environment(OMP_NUM_THREADS="1"),
                          check=True, timeout=280)
    first, second = done.stdout.splitlines()
    assert first == second
    alone = Line(parts=2, size=3)
    fit(alone, tmp_path / "one").run()
    mine, theirs = losses(tmp_path / "one"), losses(folder)
    assert len(mine) == len(theirs)
    for a, b in zip(mine[1:], theirs[1:], strict=True):
        assert [float(x or 0) for x in a] == pytest.approx([float(x or 0) for x in b], rel=1e-4)


def test_launchers_tell_a_process_its_place() -> None:
    assert Processes.from_environment({}) == Processes(0, 1, 0)
    third = Processes.from_environment({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"})
    assert third == Processes(2, 4, 0) and not third.main and third.device("cpu") == "cpu"
    assert third.device("cuda") == "cuda:0" and Processes().device("cuda") == "cuda"
    assert replace(third, local_rank=1).device("cuda") == "cuda:1"


def test_the_rate_rises_and_falls() -> None:
    rate = cosine(100, 0.03)
    assert [rate(i) for i in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rate(51) == pytest.approx(0.5, abs=0.02) and 0 < rate(99) < 0.001
    assert all(a >= b for a, b in pairwise([rate(i) for i in range(2, 100)]))
    assert cosine(1, 0.03)(0) == 1


def test_every_parameter_is_trained_once_at_its_rate() -> None:
    from v2l.config import HypernetConfig
    from v2l.model.hypernetwork import Hypernetwork

    named = dict(Hypernetwork(HypernetConfig(2, 8, 12, 8, rank=2, latent_size=4, num_queries=2, num_blocks=1,
                                             num_heads=2, num_kv_heads=1, head_dim=2)).named_parameters())
    name_of = {id(p): name for name, p in named.items()}
    for optimizer in ("adamw", "muon"):
        made = optimizers(named.items(), Recipe(optimizer=optimizer))
        assert Counter(map(id, made.parameters)) == Counter(map(id, named.values()))
    decayed, others = made_groups = optimizers(named.items(), Recipe()).parts[0].param_groups
    assert [group["weight_decay"] for group in made_groups] == [0.01, 0.0] and decayed["lr"] == others["lr"] == 1e-4
    assert {name_of[id(p)].partition(".")[0] for p in others["params"]} >= {"scaler_A", "scaler_B", "bias_A", "bias_B"}
    assert "head.weight" in {name_of[id(p)] for p in decayed["params"]}
    muon, adam = optimizers(named.items(), Recipe(optimizer="muon", lr=1e-3)).parts
    assert {name_of[id(p)].rpartition(".")[2] for p in muon.param_groups[0]["params"]} == {"weight"}
    assert [group["lr"] for group in adam.param_groups] == [1e-3, 2e-4] and muon.param_groups[0]["lr"] == 0.02


# Which clips, and where they are cut.


def items(count: int, split: str = "train", target: str = "yes") -> list[Item]:
    turns = (Turn("Is it?", (target,) if target else ()),)
    return [Item(f"{split}-{i}", Path(f"{i}.mp4"), turns, split=split) for i in range(count)]


def test_the_order_is_a_function_of_seed_and_step() -> None:
    clips, recipe = items(10), Recipe(batch_size=3, accumulate=2, seed=5)
    steps = [step_draws(clips, recipe, Processes(), step) for step in range(10)]
    assert step_draws(clips, recipe, Processes(), 7) == steps[7]
    flat = [draw for step in steps for draw in step]
    epochs = [[draw.item.id for draw in flat[i : i + 10]] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == sorted(item.id for item in clips) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6 and len({draw.seed for draw in flat}) == 60
    assert [d.item for d in step_draws(clips, replace(recipe, seed=6), Processes(), 0)] != [d.item for d in steps[0]]
    # Two processes with half the batch see what one sees.
    wide = replace(recipe, batch_size=6)
    alone = step_draws(clips, wide, Processes(), 2)
    left, right = (step_draws(clips, recipe, Processes(rank, 2), 2) for rank in range(2))
    assert alone == [*left[:3], *right[:3], *left[3:], *right[3:]]
    shares = [validation_draws(clips, recipe, Processes(rank, 2)) for rank in range(2)]
    assert sorted(d.item.id for share in shares for d in share) == sorted(item.id for item in clips)


def test_cuts_leave_no_segment_too_short() -> None:
    rng, counts = random.Random(0), Counter[int]()
    for _ in range(400):
        cuts = random_cuts(rng, 3.0, 15.0, 8)
        edges = [3.0, *cuts, 15.0]
        assert all(b - a >= SHORTEST_SEGMENT - 1e-9 for a, b in pairwise(edges))
        counts[len(edges) - 1] += 1
    assert sorted(counts) == list(range(1, 9)) and min(counts.values()) > 25
    assert random_cuts(rng, 0.0, 0.5, 8) == [] == random_cuts(rng, 0.0, 60.0, 1)
    assert len(random_cuts(random.Random(1), 0.0, 2.5, 8)) <= 1


def test_threads_keep_the_order_and_end() -> None:
    at_once: list[int] = []

    def slow(n: int) -> int:
        at_once.append(n)
        time.sleep(0.002 * (n % 3))
        return n

    assert list(in_threads(slow, range(40), 4, 8)) == list(range(40))
    at_once.clear()
    endless = in_threads(slow, iter(int, 1), 2, 4)
    next(endless)
    endless.close()
    count = len(at_once)
    assert count <= 6
    time.sleep(0.02)
    assert len(at_once) == count


def test_lines_that_cannot_be_trained_on_are_refused() -> None:
    clips = [*items(2), *items(1, "val"), *items(3, "test", target="")]
    train, held = sort_out(clips, Recipe())
    assert [len(train), len(held)] == [2, 1]
    with pytest.raises(UsageError, match="no line of split train"):
        sort_out(items(1, "val"), Recipe())
    untold = [*items(1), *items(1, "val", target="")]
    with pytest.raises(UsageError, match="1 of 2 lines lack a target, such as val-0"):
        sort_out(untold, Recipe())
    assert sort_out(untold, Recipe(self_distill=True))
    strange = [replace(items(1)[0], turns=(Turn("<image>?", ("no",)),))]
    assert sort_out(strange, Recipe())
    with pytest.raises(UsageError, match="train-0 contains <image>"):
        sort_out(strange, Recipe(kl=1.0))
    moved = [replace(item, video=Path("elsewhere") / item.video) for item in clips]
    assert digest(moved) == digest(clips) != digest(items(2, target="no"))
