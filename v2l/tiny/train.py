"""Trains the embedded model from nothing: `python -m v2l.tiny.train --out DIR [--minutes M] [--device cuda]`.

Three stages, each with checkpoints; run again with the same --out to go on where it stopped. Data is a function of the
stage and the step, so a resumed run sees what an unbroken one would have.

  vision    the image encoder learns from single frames to tell shapes, colours and places (dense labels)
  base      the whole model answers questions about clips, most of 2 to 12 frames, with a training aid on every frame
  hypernet  with the base frozen, the hypernetwork learns adapters that answer without the video, whole or in segments
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SmolVLMForConditionalGeneration

from v2l.model.hypernetwork import Hypernetwork
from v2l.model.text import TextStack, rotate
from v2l.tiny.check import film_questions, mark_answers, percentage, questions
from v2l.tiny.data import (
    BLIND_SHARE,
    PREFIX,
    SLOTS,
    TURNS,
    Packed,
    PromptEncoder,
    Sampled,
    clip_adapters,
    draw_segments,
    draw_turns,
    frame_labels,
    pack_turns,
    render_clips,
    segment_labels,
    spread_positions,
)
from v2l.tiny.model import base_config, build_tokenizer, hypernet_config, network, save_base
from v2l.tiny.questions import KINDS, ONE_PART, SHORT_KINDS
from v2l.tiny.world import (
    ACTIONS,
    BACKGROUND_NAMES,
    COLOR_NAMES,
    GROUND,
    SHAPES,
    THING,
    WORDS,
    frame_states,
    training_clip,
)
from v2l.train.loop import STATE, Fit, Schedule
from v2l.train.optim import muon
from v2l.train.run import save_hypernetwork

DTYPE = torch.bfloat16
TOKENS = 6144  # of a step, where the base trains
LOOK_LAYER, LOOK_HEADS, LOOK_WEIGHT = 4, 2, 0.3
AID_LAYERS, AID_WEIGHT = (3, 4), 0.2  # the training aid reads what enters these decoder layers
APART = ("embed", "lm_head", "aid.")  # what begins or ends is no matrix between layers
OTHERS = ("aid.slot", "aid.scene")  # readers of the hypernetwork's latents
SLOT_LAYER, SLOT_WEIGHT = 2, 0.1
THINGS = (len(COLOR_NAMES) + 1, len(SHAPES) + 1) * 2  # none is one more
AIDS = (*THINGS, len(ACTIONS), len(BACKGROUND_NAMES), 4, *THINGS[:2])
PATCH_LABELS = THINGS[:2]
SLOT_LABELS = (*THINGS, len(ACTIONS) + 1)
FRAME_LABELS = (*THINGS, len(WORDS) + 1, len(BACKGROUND_NAMES))
PLACES = 6  # x, y, radius of two things
CAPTION_WEIGHT = 0.3  # of each token of a long caption, which has many
WHOLE_CAPTIONS = 0.75  # share of the hypernetwork's steps from which they weigh 1
CHECK_EVERY, CHECKED = 250, 96  # steps from one check to the next, clips of each


@dataclass(frozen=True)
class Stage:
    steps: int
    muon: float
    adam: float
    warmup: int = 100
    cooldown: float = 0.5  # last share of the steps, over which the rate falls linearly to (almost) zero

    def rate(self, step: int) -> float:
        left = (self.steps - step) / self.steps
        return min(1.0, (step + 1) / self.warmup, left / self.cooldown + 0.01)


STAGES = {
    "vision": Stage(1500, 0.02, 3e-3),
    "base": Stage(5000, 0.02, 3e-3, cooldown=0.4),
    "hypernet": Stage(4000, 0.02, 3e-3, cooldown=0.5),
}


class LowPrecision:
    """A bfloat16 copy of a module to compute with, refreshed from the float32 one; gradients travel back."""

    def __init__(self, master: nn.Module) -> None:
        self.copy = copy.deepcopy(master).to(DTYPE)
        self.pairs = list(zip(master.parameters(), self.copy.parameters(), strict=True))

    @torch.no_grad()
    def refresh(self) -> None:
        torch._foreach_copy_([q for _, q in self.pairs], [p for p, _ in self.pairs])

    def collect(self) -> None:
        for p, q in self.pairs:
            p.grad, q.grad = None if q.grad is None else q.grad.float(), None


class Trainer:
    def __init__(self, out: Path, device: str) -> None:
        self.out, self.device = out, device
        torch.manual_seed(0)
        self.tokenizer = build_tokenizer()
        self.encoder = PromptEncoder(self.tokenizer)
        self.base = SmolVLMForConditionalGeneration(base_config(self.tokenizer.get_vocab_size())).to(device)
        self.hyper = Hypernetwork(hypernet_config(self.base.config)).to(device)
        vision, text = self.base.config.vision_config.hidden_size, self.base.config.text_config.hidden_size
        # Linear readers that only training needs; they are not exported.
        self.aids = nn.ModuleDict({
            "patch": nn.Linear(vision, sum(PATCH_LABELS)), "frame": nn.Linear(text, sum(FRAME_LABELS) + PLACES),
            "event": nn.Linear(text, sum(AIDS)), "slot": nn.Linear(self.hyper.config.latent_size, sum(SLOT_LABELS)),
            "scene": nn.Linear(self.hyper.config.latent_size, len(BACKGROUND_NAMES))}).to(device)
        self.low = LowPrecision(nn.ModuleDict({"base": self.base, "aid": self.aids}))
        self.network, self.aid = network(self.low.copy["base"]), self.low.copy["aid"]

    # --- the stages' losses ---

    def vision_loss(self, step: int) -> Tensor:
        rng = random.Random(f"vision {step}")
        clips: list[Sampled] = []
        for _ in range(192):
            clip, times = training_clip(rng, rng.randint(4, 12))
            clips.append((clip, [rng.uniform(times[0], times[-1])]))
        patches = self.network.vision.vision_model(render_clips(clips, step, DTYPE, self.device))
        tokens = self.network.vision.connector(patches)
        state = torch.from_numpy(np.concatenate([frame_states(*sampled) for sampled in clips])).to(self.device)
        labels = torch.from_numpy(frame_labels(clips)).to(self.device)
        # A patch belongs to a thing if its centre is within the thing's radius.
        grid = (torch.arange(8, device=self.device) + 0.5) / 8
        owner = torch.full((len(clips), 64), 2, device=self.device)  # neither thing's
        for slot in (0, 1):
            thing = state[:, GROUND + slot * THING : GROUND + (slot + 1) * THING]
            x, y = thing[:, 4, None, None], thing[:, 5, None, None]
            far = torch.hypot(grid[None, None, :] - x, grid[None, :, None] - y)
            visible = (thing[:, 0] >= 0) & (thing[:, 0] < len(SHAPES))
            owner[((far < thing[:, 6, None, None]) & visible[:, None, None]).flatten(1)] = slot
        readings = self.aid["patch"](patches).float().split(PATCH_LABELS, -1)
        loss = torch.zeros((), device=self.device)
        for trait, reading in enumerate(readings):
            truth = torch.cat([labels[:, [trait, trait + 2]], torch.full_like(labels[:, :1], reading.shape[-1] - 1)], 1)
            loss = loss + F.cross_entropy(reading.flatten(0, 1), truth.gather(1, owner).flatten())
        # Each of a frame's four tokens must tell everything about it.
        word = (state[:, GROUND].long() - len(SHAPES)).clamp(min=-1) % (len(WORDS) + 1)
        *names, place = self.aid["frame"](norm_free(tokens)).float().split((*FRAME_LABELS, PLACES), -1)
        for reading, truth in zip(names, (*labels[:, :4].T, word, labels[:, 5]), strict=True):
            loss = loss + F.cross_entropy(reading.flatten(0, 1), truth[:, None].expand(-1, tokens.shape[1]).flatten())
        for slot in (0, 1):
            at = GROUND + slot * THING
            shown = (state[:, at] >= 0).float()[:, None, None]
            truth = (state[:, None, at + 4 : at + THING] * 10).expand(-1, tokens.shape[1], -1)
            loss = loss + F.smooth_l1_loss(place[..., 3 * slot : 3 * slot + 3] * 10 * shown, truth * shown)
        return loss

    def base_loss(self, step: int) -> Tensor:
        rng = random.Random(f"base {step}")
        share, roll = step / STAGES["base"].steps, rng.random()
        low, high = (2, 4) if share < 0.06 else (4, 8) if share < 0.35 else (4, 12)
        n, grid = rng.randint(low, high), 1
        if share > 0.25 and roll < 0.1:  # frames of several tiles
            grid = rng.choice((2, 2, 3))
            n = rng.randint(2, 12 if grid == 2 else 4)
        elif share > 0.45 and roll < 0.22:
            n = int(10 ** rng.uniform(1.1, 2.1))
        a_frame = 11 if grid == 1 else 6 * grid * grid + 15
        clips = [training_clip(rng, n) for _ in range(TOKENS // (160 + a_frame * n))]
        turns = [draw_turns(rng, clip) for clip, _ in clips]
        blind = [rng.random() < BLIND_SHARE for _ in clips]
        ids = self.encoder.videos([t for _, t in clips], [c.duration for c, _ in clips], False, grid)
        far = share > 0.2 and rng.random() < 0.2
        places = spread_positions(rng, ids, self.encoder.opens) if far else None
        packed = pack_turns(self.encoder, ids, turns, blind, DTYPE, self.device, places)
        text, pixels = self.network.text, render_clips(clips, step, DTYPE, self.device, grid)
        keep: list[Tensor] = []
        x = self.network.embed(packed.ids, self.network.vision(pixels).flatten(0, 1))
        hidden = text.hidden(x, packed.positions, packed.mask, keep=keep)
        loss = answer_loss(text, hidden, packed, CAPTION_WEIGHT)
        # The aid reads each frame's closing token.
        each = 2 if grid == 1 else grid**2 + 2
        closing = (packed.ids == self.encoder.close).nonzero()[each - 1 :: each]
        labels = torch.from_numpy(frame_labels(clips)).to(self.device)
        # Where each question should look: at the frames of the event its answer is about.
        event = torch.tensor([[c.event_at(t) for t in times] for c, times in clips], device=self.device)
        right = event[packed.pointers[:, 0]] == packed.pointers[:, 2:]
        scores = looks(text, keep[LOOK_LAYER], packed, closing.view(len(clips), n, 2))
        loss = loss - LOOK_WEIGHT * scores.log_softmax(-1).masked_fill(~right[:, None], -1e9).logsumexp(-1).mean()
        for layer in AID_LAYERS:
            state = keep[layer][closing[:, 0], closing[:, 1]]
            readings = self.aid["event"](norm_free(state)).float().split(AIDS, -1)
            for index, reading in enumerate(readings):
                aid = F.cross_entropy(reading, labels[:, index], ignore_index=-1, reduction="sum")
                loss = loss + AID_WEIGHT * aid / len(labels)
        return loss

    def hypernet_loss(self, step: int) -> Tensor:
        rng = random.Random(f"hypernet {step}")
        share = step / STAGES["hypernet"].steps
        clips, segments, parts, grid = draw_segments(rng, share)
        turns = [draw_turns(rng, clip, TURNS + 2 * parts if len(clips) > 2 else 48) for clip in clips]
        prefix = self.encoder.videos([[0.0]], [1.0])[0][:PREFIX]
        packed = pack_turns(self.encoder, [prefix] * len(clips), turns, [False] * len(clips), DTYPE, self.device)
        text = self.network.text
        far = (lambda ids: spread_positions(rng, ids, self.encoder.opens)) if rng.random() < 0.15 else None
        keep: list[Tensor] = []
        layers = clip_adapters(self.network, self.hyper, self.encoder, segments, parts, step, grid=grid, places=far,
                          keep=keep)
        hidden = text.hidden(self.network.embed(packed.ids), packed.positions, packed.mask, layers)
        loss = answer_loss(text, hidden, packed, CAPTION_WEIGHT if share < WHOLE_CAPTIONS else 1.0)
        # The aid: from layer SLOT_LAYER on, a segment's first latents each tell one of its events, one the background.
        latents = norm_free(keep[0][SLOT_LAYER:])
        events, scenes = (torch.from_numpy(x).to(self.device) for x in segment_labels(segments))
        readings = self.aids["slot"](latents[:, :, :SLOTS]).split(SLOT_LABELS, -1)
        for index, reading in enumerate(readings):
            truth = events[..., index].expand(reading.shape[:-1])
            loss = loss + SLOT_WEIGHT * F.cross_entropy(reading.flatten(0, -2), truth.flatten(), ignore_index=-1)
        scene = self.aids["scene"](latents[:, :, SLOTS])
        truth = scenes.expand(scene.shape[:-1]).flatten()
        aid = F.cross_entropy(scene.flatten(0, 1), truth, ignore_index=-1, reduction="sum") / len(truth)
        return loss + SLOT_WEIGHT * aid

    # --- the loop ---

    def trained(self, stage: str) -> list[tuple[str, nn.Parameter]]:
        aids = [(f"aid.{name}", p) for name, p in self.aids.named_parameters()]
        if stage == "hypernet":
            return [*self.hyper.named_parameters(), *(pair for pair in aids if pair[0].startswith(OTHERS))]
        idle = ("text_model", "lm_head", "event") if stage == "vision" else ("aid.patch", "aid.frame")
        named = [*self.base.named_parameters(), *aids]
        return [(name, p) for name, p in named if not any(part in name for part in (*idle, *OTHERS))]

    def check(self, stage: str, clips: int) -> dict[str, float]:
        """Percentages right by kind on held-out clips (another draw than the evaluation's)."""
        if stage == "vision":
            return {}
        hyper, mode = (self.hyper, "adapter") if stage == "hypernet" else (None, "direct")
        self.low.refresh()
        right = mark_answers(self.network, hyper, self.encoder, questions(clips, seed=1), mode)
        out = {"short": percentage(ok for kind in SHORT_KINDS for ok in right[kind])}
        out |= {kind: percentage(right[kind]) for kind in KINDS}
        if stage == "hypernet":
            for scenes in (2, 8):
                films, pieces = film_questions(scenes, clips // (2 * scenes), seed=1)
                for name, items, how in (("joined", films, f"joined-{scenes}"), ("alone", pieces, "adapter")):
                    right = mark_answers(self.network, hyper, self.encoder, items, how, batch=8)
                    out[f"{name}-{scenes}"] = percentage(ok for kind in ONE_PART for ok in right[kind])
        return out

    def state(self) -> dict[str, Any]:
        return dict(base=self.base.state_dict(), aids=self.aids.state_dict(), hyper=self.hyper.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state["base"])
        self.aids.load_state_dict(state["aids"])
        self.hyper.load_state_dict(state["hyper"])

    def run(self, name: str, stop: Callable[[], bool], note: Callable[[str], None]) -> bool:
        """Trains one stage to its end (True) or until it is stopped (False)."""
        stage = STAGES[name]
        schedule = Schedule(steps=stage.steps, every=CHECK_EVERY, rate=stage.rate)
        optimizers = muon(self.trained(name), stage.muon, stage.adam, 0.01, APART)
        identity = {"stage": name, **asdict(stage)}
        fit = Fit(StageTask(self, name), optimizers, schedule, self.out / name, identity, note=note)
        return fit.run(stop).step >= stage.steps

    def export(self, folder: Path) -> None:
        save_base(self.base, self.tokenizer, folder / "base")
        save_hypernetwork(self.hyper, folder, DTYPE)


class StageTask:
    """A stage as the training loop sees it."""

    def __init__(self, trainer: Trainer, stage: str) -> None:
        self.trainer, self.stage = trainer, stage
        self.loss = {"vision": trainer.vision_loss, "base": trainer.base_loss, "hypernet": trainer.hypernet_loss}[stage]

    def losses(self, step: int) -> Iterator[tuple[Tensor, float]]:
        self.trainer.low.refresh()
        yield self.loss(step), 1.0
        if self.stage != "hypernet":
            self.trainer.low.collect()

    def validate(self) -> dict[str, float]:
        return self.trainer.check(self.stage, CHECKED)

    def keep(self, which: Literal["best", "last"]) -> None:
        """The last weights are the ones that count: the rate has fallen to nothing by then."""
        if which == "last":
            self.trainer.export(self.trainer.out / "weights")

    def state(self) -> dict[str, Any]:
        return self.trainer.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.trainer.restore(state)


def norm_free(x: Tensor) -> Tensor:
    """Unit-rms vectors, so that a linear reader sees what a decoder layer sees after its norm."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


def looks(text: TextStack, entering: Tensor, packed: Packed, closing: Tensor) -> Tensor:
    """Attention scores [p, LOOK_HEADS, frames] of the questions' last tokens over their clips' frames in `LOOK_LAYER`.

    entering [b, s, width] is what enters that layer, closing [b, frames, 2] where each frame's closing token is.
    """
    layer, head_dim = text.layers[LOOK_LAYER], text.config.head_dim
    h = layer.input_layernorm(entering)
    rows, places = packed.pointers[:, 0], packed.pointers[:, 1]
    cut = lambda x: x.unflatten(-1, (-1, head_dim))[..., :LOOK_HEADS, :].transpose(-2, -3)
    q = cut(layer.self_attn.q_proj(h[rows, places])[:, None])  # [p, heads, 1, d]
    k = cut(layer.self_attn.k_proj(h[closing[..., 0], closing[..., 1]]))  # [b, heads, frames, d]
    q = rotate(q, text.rope(packed.positions[rows, places][:, None]))
    k = rotate(k, text.rope(packed.positions[closing[..., 0], closing[..., 1]]))
    return (q @ k[rows].transpose(-1, -2))[:, :, 0].float() * head_dim**-0.5


def answer_loss(text: TextStack, hidden: Tensor, packed: Packed, caption: float) -> Tensor:
    """Cross-entropy over the labels, those of captions weighed by `caption`."""
    weights = torch.where(packed.caption, caption, 1.0)
    losses = F.cross_entropy(text.logits(hidden.flatten(0, 1)[packed.target]).float(), packed.labels, reduction="none")
    return (losses * weights).sum() / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and weights")
    parser.add_argument("--stage", choices=list(STAGES), help="run only this stage (default: all, in order)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long, ready to go on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if sys.platform == "linux":
        # Freed buffers stay with the process: giving them back and faulting them in again costs a quarter of a step.
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 32 << 20), (-1, -1), (-2, 256 << 20)):  # mmap threshold, trim threshold, top pad
            libc.mallopt(option, value)
    deadline = time.monotonic() + 60 * options.minutes
    note = lambda text: print(text, file=sys.stderr, flush=True)
    trainer = Trainer(options.out, options.device)
    for name in STAGES:
        done = options.out / name / STATE
        if options.stage and name != options.stage:
            if done.exists() and list(STAGES).index(name) < list(STAGES).index(options.stage):
                trainer.restore(torch.load(done, map_location=options.device, weights_only=True)["task"])
            continue
        if not trainer.run(name, lambda: time.monotonic() > deadline, note):
            break


if __name__ == "__main__":
    main()
