"""Trains the embedded model from nothing: `python -m v2l.tiny.train --out DIR [--minutes M] [--device cuda]`.

Three stages, each with checkpoints; run again with the same --out to go on where it stopped. Data is a function of the
stage and the step, so a resumed run sees what an unbroken one would have.

  vision    the image encoder learns from single frames to tell shapes, colours and places (dense labels)
  base      the whole model answers questions about clips of 2 to 12 frames, with a training aid on every frame
  hypernet  with the base frozen, the hypernetwork learns adapters that answer without the video, whole or in segments
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SmolVLMForConditionalGeneration

from v2l.hypernetwork import Hypernetwork
from v2l.tiny.adapt import adapters, context_features, split
from v2l.tiny.data import (
    BLIND_SHARE,
    PREFIX,
    SLOTS,
    Encoder,
    Packed,
    Sampled,
    draw_turns,
    drawn,
    frame_labels,
    pack,
    segment_labels,
)
from v2l.tiny.evaluate import mean, questions, score
from v2l.tiny.model import (
    base_config,
    build_tokenizer,
    embed,
    hypernet_config,
    logits,
    norm,
    rope,
    rotate,
    save_base,
    save_hypernetwork,
    see,
    think,
)
from v2l.tiny.questions import KINDS, SHORT_KINDS
from v2l.tiny.world import BACKGROUND_NAMES, COLOR_NAMES, MOTIONS, SHAPES, frame_states, training_clip

DTYPE = torch.bfloat16
LOOK_LAYER, LOOK_HEADS, LOOK_WEIGHT = 4, 2, 0.3
AID_LAYERS, AID_WEIGHT = (3, 4), 0.2  # the training aid reads what enters these decoder layers
OTHERS = ("aid.slot", "aid.scene")  # readers of the hypernetwork's latents
SLOT_LAYER, SLOT_WEIGHT = 2, 0.1
AIDS = (len(COLOR_NAMES), len(SHAPES), len(MOTIONS), 4, len(COLOR_NAMES), len(SHAPES))
PATCH_LABELS = (len(COLOR_NAMES) + 1, len(SHAPES) + 1)
SLOT_LABELS = (len(COLOR_NAMES) + 1, len(SHAPES) + 1, len(MOTIONS) + 1)
FRAME_LABELS = (len(COLOR_NAMES), len(SHAPES), len(BACKGROUND_NAMES), 3)


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
    "vision": Stage(900, 0.02, 3e-3),
    "base": Stage(4500, 0.02, 3e-3, cooldown=0.4),
    "hypernet": Stage(3050, 0.02, 3e-3, cooldown=0.5),
}


class Optimizer:
    """Muon on the hidden layers' matrices, AdamW on everything else; float32 masters for a low-precision copy."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], stage: Stage) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        small: list[nn.Parameter] = []
        for name, p in named:
            hidden = p.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "latents_q", "bias", "aid."))
            (matrices if hidden else small if name.startswith(("head.", "bias_")) else others).append(p)
        # The hypernetwork's head starts at about 0.005: steps must be smaller there.
        groups = [dict(params=others, share=1.0)] + ([dict(params=small, share=0.2)] if small else [])
        self.stage = stage
        self.parts = [torch.optim.Muon(matrices, lr=stage.muon, weight_decay=0.01, momentum=0.95),
                      torch.optim.AdamW(groups, lr=stage.adam, betas=(0.9, 0.98), weight_decay=0.0)]
        self.parameters = [*matrices, *others, *small]

    def step(self, step: int) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part, rate in zip(self.parts, (self.stage.muon, self.stage.adam), strict=True):
            for group in part.param_groups:
                group["lr"] = rate * self.stage.rate(step) * group.get("share", 1.0)
            part.step()
            part.zero_grad(set_to_none=True)


class LowPrecision:
    """A bfloat16 copy of a module to compute with, refreshed from the float32 one; gradients travel back."""

    def __init__(self, master: nn.Module) -> None:
        self.copy = copy.deepcopy(master).to(DTYPE)
        self.pairs = list(zip(master.parameters(), self.copy.parameters(), strict=True))

    @torch.no_grad()
    def refresh(self) -> nn.Module:
        torch._foreach_copy_([q for _, q in self.pairs], [p for p, _ in self.pairs])
        return self.copy

    def collect(self) -> None:
        for p, q in self.pairs:
            p.grad, q.grad = None if q.grad is None else q.grad.float(), None


class Trainer:
    def __init__(self, out: Path, device: str) -> None:
        self.out, self.device = out, device
        torch.manual_seed(0)
        self.tokenizer = build_tokenizer()
        self.encoder = Encoder(self.tokenizer)
        self.base = SmolVLMForConditionalGeneration(base_config(self.tokenizer.get_vocab_size())).to(device)
        self.hyper = Hypernetwork(hypernet_config(self.base.config)).to(device)
        vision, text = self.base.config.vision_config.hidden_size, self.base.config.text_config.hidden_size
        # Linear readers that only training needs; they are not exported.
        self.aids = nn.ModuleDict({
            "patch": nn.Linear(vision, sum(PATCH_LABELS)), "frame": nn.Linear(text, sum(FRAME_LABELS)),
            "event": nn.Linear(text, sum(AIDS)), "slot": nn.Linear(self.hyper.config.latent_size, sum(SLOT_LABELS)),
            "scene": nn.Linear(self.hyper.config.latent_size, len(BACKGROUND_NAMES))}).to(device)
        self.low = LowPrecision(nn.ModuleDict({"base": self.base, "aid": self.aids}))

    # --- the stages' losses ---

    def vision_loss(self, step: int) -> Tensor:
        rng = random.Random(f"vision {step}")
        clips: list[Sampled] = []
        for _ in range(192):
            clip, times = training_clip(rng, (4, 12))
            clips.append((clip, [rng.uniform(times[0], times[-1])]))
        fast = self.low.copy
        patches, tokens = see(fast["base"], drawn(clips, step, DTYPE, self.device))
        state = torch.from_numpy(np.concatenate([frame_states(*sampled) for sampled in clips])).to(self.device)
        events = [clip.events[clip.event_at(times[0])] for clip, times in clips]
        color = torch.tensor([COLOR_NAMES.index(event.color) for event in events], device=self.device)
        background = torch.tensor([BACKGROUND_NAMES.index(c.background) for c, _ in clips], device=self.device)
        shape = state[:, 0].long()
        # A patch belongs to the object if its centre is within the object's radius.
        grid = (torch.arange(8, device=self.device) + 0.5) / 8
        far = torch.hypot(grid[None, None, :] - state[:, 7, None, None], grid[None, :, None] - state[:, 8, None, None])
        inside = (far < state[:, 9, None, None]).flatten(1)
        readings = fast["aid"]["patch"](patches).float().split(PATCH_LABELS, -1)
        loss = sum(F.cross_entropy(r.flatten(0, 1), torch.where(inside, truth[:, None], r.shape[-1] - 1).flatten())
                   for r, truth in zip(readings, (color, shape), strict=True))
        # Each of a frame's four tokens must tell everything about it.
        *names, place = fast["aid"]["frame"](norm_free(tokens)).float().split(FRAME_LABELS, -1)
        for reading, truth in zip(names, (color, shape, background), strict=True):
            loss = loss + F.cross_entropy(reading.flatten(0, 1), truth[:, None].expand(-1, tokens.shape[1]).flatten())
        return loss + F.smooth_l1_loss(place * 10, (state[:, None, 7:10] * 10).expand_as(place))

    def base_loss(self, step: int) -> Tensor:
        rng = random.Random(f"base {step}")
        share = step / STAGES["base"].steps
        low, high = (2, 4) if share < 0.08 else (4, 7) if share < 0.6 else (4, 12)
        n = rng.randint(low, high)
        clips = [training_clip(rng, (n, n)) for _ in range(6144 // (160 + 11 * n))]
        turns = [draw_turns(rng, clip) for clip, _ in clips]
        blind = [rng.random() < BLIND_SHARE for _ in clips]
        ids = self.encoder.videos([t for _, t in clips], [c.duration for c, _ in clips])
        packed = pack(self.encoder, ids, turns, blind, DTYPE, self.device)
        fast = self.low.copy
        pixels = drawn(clips, step, DTYPE, self.device)
        keep: list[Tensor] = []
        x = embed(fast["base"], packed.ids, see(fast["base"], pixels)[1].flatten(0, 1))
        hidden = think(fast["base"], x, packed.positions, packed.mask, keep=keep)
        loss = answer_loss(fast["base"], hidden, packed)
        # The aid reads each frame's closing token.
        closing = (packed.ids == self.encoder.close).nonzero()[1::2]
        labels = torch.from_numpy(frame_labels(clips)).to(self.device)
        # Where each question should look: at the frames of the event its answer is about.
        event = labels[:, 3].view(len(clips), n)[packed.pointers[:, 0]]
        right = event == packed.pointers[:, 2:]
        scores = looks(fast["base"], keep[LOOK_LAYER], packed, closing.view(len(clips), n, 2))
        loss = loss - LOOK_WEIGHT * scores.log_softmax(-1).masked_fill(~right[:, None], -1e9).logsumexp(-1).mean()
        for layer in AID_LAYERS:
            state = keep[layer][closing[:, 0], closing[:, 1]]
            readings = fast["aid"]["event"](norm_free(state)).float().split(AIDS, -1)
            for index, reading in enumerate(readings):
                aid = F.cross_entropy(reading, labels[:, index], ignore_index=-1, reduction="sum")
                loss = loss + AID_WEIGHT * aid / len(labels)
        return loss

    def hypernet_loss(self, step: int) -> Tensor:
        rng = random.Random(f"hypernet {step}")
        share = step / STAGES["hypernet"].steps
        parts = rng.choices((1, 2, 3), (0.5, 0.3, 0.2) if share < 0.8 else (0.24, 0.38, 0.38))[0]
        n = rng.randint(max(4, 2 * parts), 8 if share < 0.25 else 8 + 4 * parts if share < 0.8 else 12 * parts)
        clips = [training_clip(rng, (n, n)) for _ in range(24 if n <= 16 else 16)]
        segments = []
        for sampled in clips:
            segments += split(sampled, random_cuts(rng, n, parts))
        turns = [draw_turns(rng, clip) for clip, _ in clips]
        prefix = self.encoder.videos([[0.0]], [1.0])[0][:PREFIX]
        packed = pack(self.encoder, [prefix] * len(clips), turns, [False] * len(clips), DTYPE, self.device)
        base = self.low.copy["base"]
        keep: list[Tensor] = []
        pairs = adapters(self.hyper, *context_features(base, self.encoder, segments, step), parts, keep)
        hidden = think(base, embed(base, packed.ids), packed.positions, packed.mask, pairs)
        loss = answer_loss(base, hidden, packed)
        # The aid: from layer SLOT_LAYER on, a segment's first latents each tell one of its events, one the background.
        latents = norm_free(keep[0][SLOT_LAYER:])
        events, scenes = (torch.from_numpy(x).to(self.device) for x in segment_labels(segments))
        readings = self.aids["slot"](latents[:, :, :SLOTS]).split(SLOT_LABELS, -1)
        for index, reading in enumerate(readings):
            truth = events[..., index].expand(reading.shape[:-1])
            loss = loss + SLOT_WEIGHT * F.cross_entropy(reading.flatten(0, -2), truth.flatten(), ignore_index=-1)
        scene = self.aids["scene"](latents[:, :, SLOTS])
        return loss + SLOT_WEIGHT * F.cross_entropy(scene.flatten(0, 1), scenes.expand(scene.shape[:-1]).flatten())

    # --- the loop ---

    def trained(self, stage: str) -> list[tuple[str, nn.Parameter]]:
        aids = [(f"aid.{name}", p) for name, p in self.aids.named_parameters()]
        if stage == "hypernet":
            return [*self.hyper.named_parameters(), *(pair for pair in aids if pair[0].startswith(OTHERS))]
        idle = ("text_model", "lm_head", "event") if stage == "vision" else ("aid.patch", "aid.frame")
        named = [*self.base.named_parameters(), *aids]
        return [(name, p) for name, p in named if not any(part in name for part in (*idle, *OTHERS))]

    def check(self, stage: str, clips: int) -> dict[str, float]:
        """Percentages right by kind on held-out clips (a different draw from the evaluation's)."""
        if stage == "vision":
            return {}
        hyper, mode = (self.hyper, "adapter") if stage == "hypernet" else (None, "direct")
        right = score(self.low.refresh()["base"], hyper, self.encoder, questions(clips, seed=1), mode)
        out = {"short": mean(ok for kind in SHORT_KINDS for ok in right[kind])} | {k: mean(right[k]) for k in KINDS}
        if stage == "hypernet":
            right = score(self.low.copy["base"], hyper, self.encoder, questions(clips, seed=1), "composed-2")
            out["composed-2"] = mean(ok for kind in SHORT_KINDS for ok in right[kind])
        return out

    def run(self, stage: str, deadline: float) -> bool:
        """Trains one stage to its end (True) or until the deadline (False)."""
        path, plan = self.out / f"{stage}.pt", STAGES[stage]
        losses: dict[str, Callable[[int], Tensor]] = {
            "vision": self.vision_loss, "base": self.base_loss, "hypernet": self.hypernet_loss}
        named = self.trained(stage)
        optimizer = Optimizer(named, plan)
        step, spent = 0, 0.0
        if path.exists():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            step, spent = saved["step"], saved["seconds"]
            self.base.load_state_dict(saved["base"])
            self.aids.load_state_dict(saved["aids"], strict=False)
            self.hyper.load_state_dict(saved["hyper"])
            for part, state in zip(optimizer.parts, saved["optimizer"], strict=True):
                part.load_state_dict(state)

        def save() -> None:
            state = dict(step=step, seconds=spent, base=self.base.state_dict(), aids=self.aids.state_dict(),
                         hyper=self.hyper.state_dict(), optimizer=[part.state_dict() for part in optimizer.parts])
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)

        self.low.refresh()
        since, total, started = 0, torch.zeros((), device=self.device), time.monotonic()
        while step < plan.steps and time.monotonic() < deadline:
            loss = losses[stage](step)
            loss.backward()
            if stage != "hypernet":
                self.low.collect()
            optimizer.step(step)
            self.low.refresh()
            total += loss.detach()
            since, step = since + 1, step + 1
            if step % 50 == 0 or step == plan.steps:
                now = time.monotonic()
                spent += now - started
                line = dict(stage=stage, step=step, loss=round(float(total) / since, 4), minutes=round(spent / 60, 2),
                            step_s=round((now - started) / since, 3))
                if step % 250 == 0 or step == plan.steps:
                    line |= {k: round(v, 1) for k, v in self.check(stage, 96).items()}
                    save()
                self.log(line)
                since, total, started = 0, torch.zeros((), device=self.device), time.monotonic()
        save()
        return step >= plan.steps

    def log(self, line: dict[str, object]) -> None:
        print(json.dumps(line), file=sys.stderr, flush=True)
        with open(self.out / "log.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def export(self, folder: Path) -> None:
        save_base(self.base, self.tokenizer, folder / "base")
        save_hypernetwork(self.hyper, folder)


def random_cuts(rng: random.Random, frames: int, parts: int) -> list[int]:
    """Where to cut a clip's samples into `parts` segments of 2 to 12 frames."""
    while True:
        cuts = sorted(rng.sample(range(2, frames - 1), parts - 1))
        if all(2 <= b - a <= 12 for a, b in zip([0, *cuts], [*cuts, frames], strict=True)):
            return cuts


def norm_free(x: Tensor) -> Tensor:
    """Unit-rms vectors, so that a linear reader sees what a decoder layer sees after its norm."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


def looks(base: nn.Module, entering: Tensor, packed: Packed, closing: Tensor) -> Tensor:
    """Attention scores [p, LOOK_HEADS, frames] of the questions' last tokens over their clips' frames in `LOOK_LAYER`.

    entering [b, s, width] is what enters that layer, closing [b, frames, 2] where each frame's closing token is.
    """
    layer, text = base.model.text_model.layers[LOOK_LAYER], base.config.text_config
    h = norm(entering, layer.input_layernorm.weight, text.rms_norm_eps)
    rows, places = packed.pointers[:, 0], packed.pointers[:, 1]
    cut = lambda x: x.unflatten(-1, (-1, text.head_dim))[..., :LOOK_HEADS, :].transpose(-2, -3)
    q = cut(layer.self_attn.q_proj(h[rows, places])[:, None])  # [p, heads, 1, d]
    k = cut(layer.self_attn.k_proj(h[closing[..., 0], closing[..., 1]]))  # [b, heads, frames, d]
    q = rotate(q, *rope(base.config, packed.positions[rows, places][:, None], q.dtype))
    k = rotate(k, *rope(base.config, packed.positions[closing[..., 0], closing[..., 1]], k.dtype))
    return (q @ k[rows].transpose(-1, -2))[:, :, 0].float() * text.head_dim**-0.5


def answer_loss(base: nn.Module, hidden: Tensor, packed: Packed) -> Tensor:
    losses = F.cross_entropy(logits(base, hidden.flatten(0, 1)[packed.target]).float(), packed.labels, reduction="none")
    return (losses * packed.weights).sum() / packed.weights.sum()


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
    trainer = Trainer(options.out, options.device)
    names = list(STAGES)
    for name in names:
        path = options.out / f"{name}.pt"
        if options.stage and name != options.stage:
            if path.exists() and names.index(name) < names.index(options.stage):
                saved = torch.load(path, map_location=options.device, weights_only=True)
                trainer.base.load_state_dict(saved["base"])
                trainer.aids.load_state_dict(saved["aids"], strict=False)
            continue
        if not trainer.run(name, deadline):
            break
    trainer.export(options.out / "weights")


if __name__ == "__main__":
    main()
