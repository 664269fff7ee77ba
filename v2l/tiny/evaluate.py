"""Scores the embedded model on clips it has never seen: `python -m v2l.tiny.evaluate [--clips N] [--json]`.

Each held-out clip shows a (colour, shape, motion) triple absent from training. An answer counts when the whole string
is exactly right under greedy decoding. Columns: floor (no video, no adapter), direct (video in the prompt), adapter
(video only in the adapter), composed (adapters of 2 or 3 segments of the clip, joined).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from v2l.hypernetwork import Hypernetwork
from v2l.prompt import cut_tiles, normalize
from v2l.tiny import WEIGHTS
from v2l.tiny.adapt import Frames, adapters, context_features, split
from v2l.tiny.clips import FPS, write_video
from v2l.tiny.data import PREFIX, Encoder, Sampled, drawn, mask_of, pack, pad
from v2l.tiny.model import END, TILE, embed, load_base, load_hypernetwork, logits, see, think
from v2l.tiny.questions import KINDS, SHORT_KINDS, Turn, ask
from v2l.tiny.world import Clip, held_out_clips

MODES = ("floor", "direct", "adapter", "composed-2", "composed-3")


def questions(count: int, seed: int = 0) -> list[tuple[Sampled, list[Turn]]]:
    """Held-out clips, each with one question of every kind it allows."""
    out: list[tuple[Sampled, list[Turn]]] = []
    for index, (clip, times) in enumerate(held_out_clips(count, seed)):
        rng = random.Random(f"questions {seed} {index}")
        out.append(((clip, times), [turn for kind in KINDS if (turn := ask(rng, clip, kind)) is not None]))
    return out


Condition = tuple[list[list[int]], Tensor | None, list[tuple[Tensor, Tensor]] | None]


def condition(base: nn.Module, hyper: Hypernetwork | None, encoder: Encoder, clips: Sequence[Sampled], mode: str,
              seed: int, frames: Frames = drawn) -> Condition:
    """What a mode puts before or under the questions: prompt ids, image tokens, adapters."""
    if mode == "direct":
        ids = encoder.videos([times for _, times in clips], [clip.duration for clip, _ in clips])
        pixels = frames(clips, seed, base.lm_head.weight.dtype, str(base.lm_head.weight.device))
        return ids, see(base, pixels)[1].flatten(0, 1), None
    prefix = [encoder.videos([[0.0]], [1.0])[0][:PREFIX]] * len(clips)
    if mode == "floor":
        return prefix, None, None
    assert hyper is not None
    parts = int(mode[-1]) if mode.startswith("composed") else 1
    segments = []
    for clip in clips:
        n = len(clip[1])
        segments += split(clip, [round(n * i / parts) for i in range(1, parts)])
    return prefix, None, adapters(hyper, *context_features(base, encoder, segments, seed, frames), parts)


@torch.no_grad()
def score(base: nn.Module, hyper: Hypernetwork | None, encoder: Encoder, items: Sequence[tuple[Sampled, list[Turn]]],
          mode: str, batch: int = 32, frames: Frames = drawn) -> dict[str, list[bool]]:
    """Whether each answer would be exactly right, by kind.

    Fed the right answer, the model must rank every one of its tokens (and the end) first: exactly when greedy decoding
    produces that answer and stops.
    """
    weight = base.lm_head.weight
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        turns = [asked for _, asked in chunk]
        ids, image, adapter = condition(base, hyper, encoder, [clip for clip, _ in chunk], mode, start, frames)
        packed = pack(encoder, ids, turns, [False] * len(chunk), weight.dtype, str(weight.device))
        hidden = think(base, embed(base, packed.ids, image), packed.positions, packed.mask, adapter)
        ok = (logits(base, hidden.flatten(0, 1)[packed.target]).argmax(-1) == packed.labels).tolist()
        at = 0
        for asked in turns:
            for turn in asked:
                tokens, question = encoder.turn(turn.question, turn.answer)
                size = len(tokens) - question
                right[turn.kind].append(all(ok[at : at + size]))
                at += size
    return right


@torch.no_grad()
def generate(base: nn.Module, hyper: Hypernetwork | None, encoder: Encoder, items: Sequence[tuple[Sampled, str]],
             mode: str, limit: int = 48, batch: int = 32, frames: Frames = drawn) -> list[str]:
    """Greedy answers, one question a clip, the whole sequence run again for each token."""
    weight, out = base.lm_head.weight, []
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        ids, image, adapter = condition(base, hyper, encoder, [clip for clip, _ in chunk], mode, start, frames)
        lines = [line + encoder.question(question) for line, (_, question) in zip(ids, chunk, strict=True)]
        answers: list[list[int]] = [[] for _ in lines]
        for _ in range(limit):
            tokens = torch.from_numpy(pad(lines)).to(weight.device)
            mask = mask_of(torch.zeros(tokens.shape, dtype=torch.long).numpy(), weight.dtype, str(weight.device))
            positions = torch.arange(tokens.shape[1], device=weight.device).expand_as(tokens)
            hidden = think(base, embed(base, tokens, image), positions, mask, adapter)
            last = torch.tensor([len(line) - 1 for line in lines], device=weight.device)
            best = logits(base, hidden[torch.arange(len(lines), device=weight.device), last]).argmax(-1).tolist()
            for line, answer, token in zip(lines, answers, best, strict=True):
                if not answer or answer[-1] != END:
                    answer.append(token)
                line.append(token)
            if all(answer[-1] == END for answer in answers):
                break
        out += [encoder.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]
    return out


def decoded(clips: Sequence[Sampled], seed: int, dtype: torch.dtype, device: str) -> Tensor:
    """The frames as a user's would come: each clip written as H.264 at 192 px, decoded, resized by the product."""
    return torch.cat([_decoded(clip, tuple(times)) for clip, times in clips]).to(device, dtype)


@lru_cache(maxsize=4096)
def _decoded(clip: Clip, times: tuple[float, ...]) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(clip, path)
        video = cv2.VideoCapture(str(path))
        frames = []
        while (read := video.read())[0]:
            frames.append(read[1][..., ::-1])
    tiles = [cut_tiles(np.ascontiguousarray(frames[round(t * FPS)]), TILE, TILE) for t in times]
    return torch.from_numpy(normalize(np.concatenate(tiles)))


def token_f1(answer: str, truth: str) -> float:
    a, b = answer.lower().split(), truth.lower().split()
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if a and b else 0.0


def mean(values: Iterable[bool | float]) -> float:
    values = list(values)
    return 100 * sum(values) / max(1, len(values))


def table(scores: dict[str, dict[str, float]]) -> str:
    modes = list(scores)
    lines = ["| kind | " + " | ".join(modes) + " |", "|---" * (len(modes) + 1) + "|"]
    for kind in dict.fromkeys(kind for mode in modes for kind in scores[mode]):
        cells = [f"{scores[mode][kind]:.1f}" if kind in scores[mode] else "" for mode in modes]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def evaluate(base: nn.Module, hyper: Hypernetwork, encoder: Encoder, count: int, seed: int = 0,
             frames: Frames = drawn) -> dict[str, dict[str, float]]:
    """Percentages by mode, then by kind, over `count` held-out clips."""
    items = questions(count, seed)
    result = {}
    for mode in MODES:
        right = score(base, hyper, encoder, items, mode, frames=frames)
        result[mode] = {"short questions": mean(ok for kind in SHORT_KINDS for ok in right[kind])}
        result[mode] |= {kind: mean(right[kind]) for kind in KINDS}
        captions = [(clip, turn) for clip, asked in items for turn in asked if turn.kind == "caption"]
        wrong = [pair for pair, ok in zip(captions, right["caption"], strict=True) if not ok]
        said = generate(base, hyper, encoder, [(clip, turn.question) for clip, turn in wrong], mode, frames=frames)
        overlap = [token_f1(answer, turn.answer) for answer, (_, turn) in zip(said, wrong, strict=True)]
        result[mode]["caption token F1"] = mean([*overlap, *[1.0] * (len(captions) - len(wrong))])
    result["direct"]["questions asked"] = float(sum(len(asked) for _, asked in items))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=600, help="held-out clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with base/ and hypernetwork.safetensors")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16 (faster; default float32)")
    parser.add_argument("--files", action="store_true", help="write every clip as an mp4 file and decode it back")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dtype = torch.bfloat16 if options.bfloat16 else torch.float32
    base, tokenizer = load_base(options.weights / "base", dtype, options.device)
    hyper = load_hypernetwork(options.weights, options.device)
    result = evaluate(base, hyper, Encoder(tokenizer), options.clips, options.seed,
                      decoded if options.files else drawn)
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
