"""Manifests and a base -> a trained hypernetwork in a folder: `v2l train run` (v2l/README.md section 8)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from v2l.config import DEFAULT_MODEL, HypernetConfig, Sampling
from v2l.errors import ModelError, OutputError, UsageError, VideoError, is_memory
from v2l.manifest import Item
from v2l.model.base import Base, choose_device, choose_dtype
from v2l.model.config import TextConfig
from v2l.model.folder import read_json
from v2l.model.hypernetwork import Hypernetwork
from v2l.store.default import chosen_model
from v2l.store.names import TRAINED
from v2l.store.resolve import ModelFiles, check_fit, find_base, find_hypernetwork
from v2l.system.files import create_folder, replacing
from v2l.system.lock import Busy, alone
from v2l.system.progress import Progress, silent
from v2l.system.threads import limit_threads
from v2l.train.batches import Clips, Watcher
from v2l.train.config import Recipe
from v2l.train.items import digest, sort_out
from v2l.train.loop import STATE, Fit, Fitted, Schedule, journal
from v2l.train.objective import Objective
from v2l.train.optim import cosine, optimizers
from v2l.train.processes import Processes

LOCK = ".v2l.lock"
"""The lock file of a run in its folder."""


@dataclass(frozen=True)
class Skipped:
    """A video that could not be decoded."""

    id: str
    video: Path
    error: str

    def to_json(self) -> dict[str, str]:
        return {"id": self.id, "video": str(self.video), "error": self.error}


@dataclass(frozen=True)
class Trained:
    """The outcome of a run."""

    folder: Path
    clips: int
    validation_clips: int
    state: Fitted
    """State at the end; its best step is that of the weights in `weights`."""
    skipped: Sequence[Skipped]
    """Videos that this run could not decode."""

    @property
    def weights(self) -> Path:
        return self.folder / TRAINED

    def to_json(self) -> dict[str, Any]:
        now = self.state
        return {"output": str(self.folder), "weights": str(self.weights), "steps": now.step, "loss": now.loss,
                "val_loss": now.val_loss, "best_step": now.best_step, "best_loss": now.best_loss,
                "seconds": round(now.seconds, 3), "clips": self.clips, "validation_clips": self.validation_clips,
                "skipped": [skipped.to_json() for skipped in self.skipped]}


class HypernetTask:
    """The hypernetwork as what `loop.Fit` trains."""

    def __init__(self, base: Base, hyper: Hypernetwork, clips: Clips, recipe: Recipe, folder: Path) -> None:
        self.base, self.hyper, self.clips, self.recipe, self.folder = base, hyper, clips, recipe, folder

    @cached_property
    def objective(self) -> Objective:
        """The loss with the frozen base, which is not loaded before a step needs it."""
        return Objective(self.base, self.hyper, self.recipe)

    def losses(self, step: int) -> Iterator[tuple[Tensor, float]]:
        for batch in self.clips.batches(step):
            if batch:
                yield self.objective(batch)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        if not self.clips.held:
            return {}
        totals = torch.zeros(2, dtype=torch.float64)
        for batch in self.clips.validation():
            if batch:
                loss, tokens = self.objective(batch)
                totals += torch.tensor([float(loss), tokens], dtype=torch.float64)
        totals = totals.to(self.base.device) if self.clips.processes.count > 1 else totals
        self.clips.processes.sum([totals])
        total, tokens = totals.tolist()
        return {"loss": total / tokens} if tokens else {}

    def keep(self, which: Literal["best", "last"]) -> None:
        save_hypernetwork(self.hyper, self.folder if which == "best" else self.folder / "last")

    def state(self) -> dict[str, Any]:
        return self.hyper.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.hyper.load_state_dict(state)


def save_hypernetwork(hyper: Hypernetwork, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes `hypernetwork.safetensors` in this dtype and its configuration beside it, as `--checkpoint FOLDER` reads
    them. Raises OutputError."""
    from safetensors.torch import save

    create_folder(folder)
    with replacing(folder / "hypernetwork.json") as file:
        file.write((json.dumps(asdict(hyper.config), indent=2) + "\n").encode())
    with replacing(folder / TRAINED) as file:
        file.write(save({name: tensor.detach().to("cpu", dtype).contiguous()
                         for name, tensor in hyper.state_dict().items()}))


def train(
    items: Sequence[Item],
    output: Path,
    recipe: Recipe | None = None,
    *,
    model: str | None = DEFAULT_MODEL,
    init: str | None = None,
    sizes: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    device: str | None = None,
    dtype: str = "auto",
    offline: bool = False,
    force: bool = False,
    processes: Processes | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
    skipped: Callable[[Item, VideoError], None] = lambda item, error: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains on the items of split train, or goes on with the training that `output` holds; `force` begins anew.

    `model` is a preset, a folder or a Hub id; None is the default one (`v2l.store.default`).
    `init` is a hypernetwork to begin with; `sizes` changes fields of a new one's HypernetConfig, `sampling` those of
    the model's Sampling. `progress` counts what is fetched and the steps, `note` is given a sentence now and then,
    `skipped` each video that cannot be decoded; `stop` ends the run after a step.
    Raises UsageError for items or settings that cannot be, VideoError if no video can be decoded, ModelError.
    """
    recipe, processes = recipe or Recipe(), processes or Processes()
    if dtype == "float16":
        raise UsageError("Training computes in float32 or bfloat16, not float16.")
    items, held = sort_out(items, recipe)
    _check_output(output, force)
    limit_threads()
    where = choose_device(processes.device(device))
    kind = choose_dtype(dtype, where)
    named = chosen_model(model)
    with named.told():
        files = find_base(named.name, offline=offline, progress=progress)
    base = Base(files.folder, where, kind, packed=False)
    looked = replace(Sampling(resolution=files.resolution), **(sampling or {}))
    hyper, first = _hypernetwork(files, base.text_config, init, sizes or {}, recipe.seed, offline, progress)
    hyper.to(where)
    processes.join(where.type)

    def skip(item: Item, error: VideoError) -> None:
        skipped(item, error)
        if processes.main:
            journal(output, {"event": "skipped", **Skipped(item.id, item.video, str(error)).to_json()})

    clips = Clips(items, held, Watcher(looked, base.tile, recipe), processes, skip)
    try:
        with _only_run(output, processes):
            if recipe.epochs is not None:
                recipe = replace(recipe, steps=_steps(recipe.epochs, recipe, len(items), processes))
            identity = {"weights of the base": base.fingerprint, "first weights": first, "clips": digest(items),
                        "clips to validate on": digest(held), "processes": processes.count,
                        "dtype": str(kind).removeprefix("torch."), **_settings(recipe, looked, hyper.config)}
            schedule = Schedule(recipe.steps, recipe.every, cosine(recipe.steps, recipe.warmup), recipe.clip,
                                patience=_steps(1, recipe, len(items), processes) + 1)
            fit = Fit(HypernetTask(base, hyper, clips, recipe, output), optimizers(hyper.named_parameters(), recipe),
                      schedule, output, identity, processes=processes, progress=progress, note=note,
                      force=force)
            now = fit.run(stop)
            bad = _everywhere(clips, processes, output)
    except Exception as error:
        if is_memory(error):
            raise ModelError("The memory did not suffice; take a smaller --batch-size with a larger --accumulate, "
                             "--checkpointing, or fewer --frames.") from error
        raise
    finally:
        clips.close()
        processes.leave()
    return Trained(output, len(items), len(held), now, bad)


@contextmanager
def _only_run(output: Path, processes: Processes) -> Iterator[None]:
    """Two runs would write over each other's weights. Raises OutputError while another is in that folder."""
    create_folder(output)
    try:
        with alone(output / LOCK) if processes.main else nullcontext():
            yield
    except Busy:
        raise OutputError(f"Another run is training in {output}; wait for its end, or name another folder.") from None


def _check_output(output: Path, force: bool) -> None:
    """A hypernetwork that was not trained here must not be written over."""
    if not force and (output / TRAINED).exists() and not (output / STATE).exists():
        raise UsageError(f"{output} holds a hypernetwork and no training to go on with; name another folder, or "
                         "replace it with --force.")


def _hypernetwork(files: ModelFiles, text: TextConfig, init: str | None, sizes: Mapping[str, Any], seed: int,
                  offline: bool, progress: Progress) -> tuple[Hypernetwork, str | None]:
    """The hypernetwork to begin with, and the sha256 of its weights; None for a new one."""
    if init is None:
        torch.manual_seed(seed)
        config = HypernetConfig(text.num_layers, text.hidden_size, text.intermediate_size, text.hidden_size,
                                base=files.name)
        return Hypernetwork(replace(config, **sizes)), None
    from safetensors.torch import load_file

    source = find_hypernetwork(files.name, init, offline=offline, progress=progress)
    check_fit(read_json(files.folder / "config.json"), source.config, base=files.name, checkpoint=source.name)
    hyper = Hypernetwork(replace(source.config, base=files.name))
    hyper.load_state_dict({name: tensor.float() for name, tensor in load_file(source.weights).items()})
    return hyper, source.sha256


def _steps(epochs: float, recipe: Recipe, clips: int, processes: Processes) -> int:
    """Steps in which every clip is seen so often."""
    return ceil(epochs * clips / (recipe.batch_size * recipe.accumulate * processes.count))


def _settings(recipe: Recipe, sampling: Sampling, config: HypernetConfig) -> dict[str, Any]:
    """The settings that may not change from one run to the next, each under its own name."""
    free = {"epochs", "every", "workers", "checkpointing"}
    settings = merged(asdict(recipe), sampling.recorded(), asdict(config))
    return {name: value for name, value in settings.items() if name not in free}


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several kinds, each under its own name. ValueError where two have the same name: a change of the
    first would pass unnoticed."""
    if twice := [name for name, count in Counter(name for each in settings for name in each).items() if count > 1]:
        raise ValueError(f"Two settings are named {twice[0]}; rename one.")
    return {name: value for each in settings for name, value in each.items()}


def _everywhere(clips: Clips, processes: Processes, output: Path) -> list[Skipped]:
    """The videos that any process skipped; those of the others are added to the journal."""
    mine = [Skipped(item.id, item.video, str(error)) for item, error in clips.bad.items()]
    everything = {skipped: None for several in processes.gather(mine) for skipped in several}
    for skipped in everything:
        if processes.main and skipped not in mine:
            journal(output, {"event": "skipped", **skipped.to_json()})
    return list(everything)
