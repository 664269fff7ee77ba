"""The loop of any training: losses of step after step, one update each, validation, checkpoints, and going on exactly.

It knows nothing of videos or hypernetworks. A task says what a step costs and what is to be kept; whatever it draws
must be a function of the step. Then a run that was killed and started again takes the same steps as an unbroken one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from v2l.errors import ModelError, UsageError, VideoError
from v2l.system.appended import Appended
from v2l.system.files import create_folder, replacing
from v2l.system.interrupts import at_the_end
from v2l.system.progress import Progress, silent
from v2l.train.curves import Curves, StepLosses
from v2l.train.optim import Optimizers, Rate
from v2l.train.processes import Processes

STATE, JOURNAL = "training.pt", "journal.jsonl"
SAVE_AFTER = 600.0
"""Seconds of training that a kill may cost at most, where validations are further apart."""


class Trainable(Protocol):
    """A model and its data, as the loop trains them."""

    def losses(self, step: int) -> Iterable[tuple[Tensor, float]]:
        """The batches of a step, from 0 on: (loss summed over what counts, how much that is); the gradient of a step is
        that of the sum over all batches and processes, divided by all that counts.

        Each loss is propagated back before the next is asked for, and the last before the iterable ends: a generator
        can ready low-precision weights before its first batch and collect their gradients after its last.
        """

    def validate(self) -> Mapping[str, float]:
        """Figures for the journal; `loss` says which weights are best. Empty where there is nothing to validate on."""

    def keep(self, which: Literal["best", "last"]) -> None:
        """Writes what was trained to where it is used from; asked of the main process only."""

    def state(self) -> dict[str, Any]:
        """All weights that change, as torch.save takes them."""

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """Length, learning rate and validations of a training."""

    steps: int
    every: int
    """Steps from one validation to the next."""
    rate: Rate
    clip: float = 1.0
    patience: int = 1
    """Consecutive steps without any clip after which the training gives up."""


@dataclass(frozen=True)
class Fitted:
    """The state of a training after some steps."""

    step: int = 0
    seconds: float = 0.0
    loss: float | None = None
    """Loss of the last step."""
    val_loss: float | None = None
    """Loss of the last validation."""
    best_step: int | None = None
    best_loss: float | None = None


class Fit:
    """A task's training in a folder: `training.pt` to go on from, losses.csv, losses.html, journal.jsonl.

    `identity` names what must be as it was for a run to go on; values are numbers, texts or None.
    Raises UsageError, naming what changed, where it is not; `force` begins anew instead. `progress` counts steps,
    `note` is given a sentence now and then.
    """

    def __init__(self, task: Trainable, optimizers: Optimizers, schedule: Schedule, folder: Path,
                 identity: Mapping[str, Any], *, processes: Processes | None = None, progress: Progress = silent,
                 note: Callable[[str], None] = lambda text: None, force: bool = False) -> None:
        self.task, self.optimizers, self.schedule, self.folder = task, optimizers, schedule, folder
        self.identity, self.processes, self.progress, self.note = (
            dict(identity), processes or Processes(), progress, note)
        self.now = Fitted()
        create_folder(folder)
        if force and self.processes.main:
            (folder / STATE).unlink(missing_ok=True)
        if not force and (folder / STATE).exists():
            self._restore()
        if len(set(self.processes.gather(self.now.step))) > 1:
            raise UsageError(f"Not every process finds the same training in {folder}; name a folder that all machines "
                             "share.")
        self._written = self.now.seconds
        self._empty = 0
        if self.processes.main:
            self.curves = Curves(folder, self.now.step)
            if self.now.step:
                self._keep()
            journal(self.folder, {"event": "start", "step": self.now.step, **self.identity})

    def run(self, stop: Callable[[], bool] = lambda: False) -> Fitted:
        """Trains to the end of the schedule, or until `stop` says so after a step. An interrupt, too, waits for the end
        of a step and for all to be saved."""
        if self.now.step:
            self.note(f"Going on after step {self.now.step:,} of {self.schedule.steps:,}.")
        with at_the_end(self._announce_end) as interrupted:
            self._run(lambda: stop() or interrupted())
        return self.now

    def _run(self, stop: Callable[[], bool]) -> None:
        device, started, before = self.optimizers.parameters[0].device, time.monotonic(), self.now.seconds
        while self.now.step < self.schedule.steps:
            loss, norm, weight = self._step(device)
            self.now = replace(self.now, step=self.now.step + 1, loss=loss, seconds=before + time.monotonic() - started)
            due = self.now.step == self.schedule.steps or self.now.step % self.schedule.every == 0
            val_loss = self._validate() if due else None
            stopped = any(self.processes.gather(stop()))  # together, or some would wait for the others for ever
            if self.processes.main:
                lr = self.optimizers.highest[0][0] * self.schedule.rate(self.now.step - 1)
                self.curves.add(StepLosses(self.now.step, loss, val_loss, lr, norm, int(weight), self.now.seconds))
                if due or stopped or self.now.seconds - self._written > SAVE_AFTER:
                    self._save()
            self._report(due)
            if stopped:
                break

    def _announce_end(self) -> None:
        self.note(f"After step {self.now.step + 1:,} all is saved and the run ends; interrupt it again to end it "
                       "at once and lose what was not saved.")

    # A step.

    def _step(self, device: torch.device) -> tuple[float | None, float | None, float]:
        """One update: (loss, norm of the gradient, what counted)."""
        parameters = self.optimizers.parameters
        totals = torch.zeros(2, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
        for loss, weight in self.task.losses(self.now.step):
            loss.backward()
            totals += torch.stack([loss.detach().to(totals.device).double(), totals.new_tensor(weight)])
        self.processes.sum([totals, *self._gradients()])
        total, weight = totals.tolist()
        if not weight:
            return self._empty_step()
        self._empty = 0
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / weight)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.schedule.clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise ModelError(f"The loss at step {self.now.step + 1} is not finite; begin anew with a smaller --lr, or "
                             "with --dtype float32.")
        self.optimizers.step(self.schedule.rate(self.now.step))
        return total / weight, norm, weight

    def _gradients(self) -> list[Tensor]:
        """Gradients of every parameter, to be summed over processes; a process without a clip has zeros."""
        if self.processes.count == 1:
            return []
        for p in self.optimizers.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return [p.grad for p in self.optimizers.parameters if p.grad is not None]

    def _empty_step(self) -> tuple[None, None, float]:
        self._empty += 1
        if self._empty >= self.schedule.patience:
            raise VideoError("None of the videos could be decoded, so there is nothing to train on.")
        for p in self.optimizers.parameters:
            p.grad = None
        return None, None, 0.0

    # Validation and what is written.

    def _validate(self) -> float | None:
        figures = dict(self.task.validate())
        loss = figures.get("loss")
        if self.processes.main:
            journal(self.folder, {"event": "validation", "step": self.now.step, "training": self.now.loss, **figures})
        self.now = replace(self.now, val_loss=loss)
        best = self.now.best_loss
        if best is None or (loss is not None and loss < best):
            self.now = replace(self.now, best_step=self.now.step, best_loss=loss)
        return loss

    def _save(self) -> None:
        self._written = self.now.seconds
        state = {"identity": self.identity, "now": vars(self.now), "task": self.task.state(),
                 "optimizers": self.optimizers.state(), **random_states(self.optimizers.parameters[0].device)}
        with replacing(self.folder / STATE) as file:
            torch.save(state, file)
        self._keep()
        self.curves.draw()

    def _keep(self) -> None:
        """Writes the weights, after the state: a run killed between the two does it when it resumes."""
        self.task.keep("last")
        if self.now.best_step == self.now.step:
            self.task.keep("best")

    def _restore(self) -> None:
        path = self.folder / STATE
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            identity, now = saved["identity"], Fitted(**saved["now"])
        except Exception as error:  # whatever torch raises for a file that is not what it should be
            reason = str(error).partition("\n")[0]
            raise UsageError(f"{path} cannot be read ({reason}); begin anew with --force.") from None
        changed = [name for name in {**identity, **self.identity} if identity.get(name) != self.identity.get(name)]
        if changed:
            words = [f"{name} ({_short(identity.get(name))} before, {_short(self.identity.get(name))} now)"
                     for name in changed]
            raise UsageError(f"{self.folder} holds a training with other settings: {', '.join(words)}; take these, "
                             "another folder, or begin anew with --force.")
        self.now = now
        self.task.restore(saved["task"])
        self.optimizers.restore(saved["optimizers"])
        restore_random(saved, self.optimizers.parameters[0].device)

    def _report(self, due: bool) -> None:
        now, steps = self.now, self.schedule.steps
        loss = "no clip" if now.loss is None else f"loss {now.loss:.3f}"
        validation = "" if now.val_loss is None else f", validation {now.val_loss:.3f}"
        self.progress(f"{loss}{validation}", now.step, steps)
        if due:
            self.note(f"Step {now.step:,} of {steps:,}: {loss}{validation}, {now.seconds / 60:.1f} min")


def random_states(device: torch.device) -> dict[str, Tensor | None]:
    """Where the random numbers of the CPU and of the device that trains stand, to go on from."""
    return {"random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "random_mps": torch.mps.get_rng_state() if device.type == "mps" else None}


def restore_random(states: Mapping[str, Any], device: torch.device) -> None:
    """Has random numbers go on as `random_states` saved them; those of a kind of device that trained before and does
    not now are left."""
    torch.set_rng_state(states["random"])
    if device.type == "cuda" and states["random_cuda"] is not None:
        torch.cuda.set_rng_state(states["random_cuda"], device)
    if device.type == "mps" and states.get("random_mps") is not None:
        torch.mps.set_rng_state(states["random_mps"])


def journal(folder: Path, entry: Mapping[str, Any]) -> None:
    """Adds a line to the journal in a folder. Raises UsageError where a file of that name is something else, and
    OutputError."""
    with Appended(folder / JOURNAL, "the journal of a training", "name another folder, or take it out") as entries:
        entries.add(dict(entry))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
