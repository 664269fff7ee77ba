"""Scores the embedded model on clips it has never seen: `python -m v2l.tiny.check [--clips N] [--json]`.

Each held-out clip shows a (colour, shape, motion) triple absent from training. An answer counts when the whole string
is exactly right under greedy decoding. Columns: floor (no video, no adapter), direct (video in the prompt), adapter
(video only in the adapter). Then films of several scenes: the adapter of one scene, and those of all joined.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from v2l.model.base import Base
from v2l.model.hypernetwork import Hypernetwork
from v2l.model.prompt import cut_tiles, normalize
from v2l.model.text import LayerAdapter
from v2l.score.text import token_f1
from v2l.tiny import WEIGHTS
from v2l.tiny.clips import write_video
from v2l.tiny.data import PREFIX, Frames, PromptEncoder, Sampled, clip_adapters, pack_turns, render_clips, split
from v2l.tiny.model import END_ID, PAD, TILE, load_hypernetwork
from v2l.tiny.questions import CAPTION_KINDS, KINDS, ONE_PART, SHORT_KINDS, QAPair, ask_about
from v2l.tiny.world import FPS, WorldClip, held_out_clips, held_out_film, sample_times
from v2l.train.joined import padded
from v2l.train.network import Network

MODES = ("floor", "direct", "adapter")
SCENES = (2, 4, 8, 16)
WHOLE_FILM = {"order joined": ("first", "last", "after", "before"), "number joined": ("count",)}
"""Kinds of questions that no scene alone answers."""
ClipQuestions = tuple[Sampled, list[QAPair]]  # a clip, the times of its frames, and what is asked about it


def questions(count: int, seed: int = 0) -> list[ClipQuestions]:
    """Held-out clips, each with one question of every kind it allows."""
    out: list[ClipQuestions] = []
    for index, (clip, times) in enumerate(held_out_clips(count, seed)):
        rng = random.Random(f"questions {seed} {index}")
        out.append(((clip, times), [turn for kind in KINDS if (turn := ask_about(rng, clip, kind)) is not None]))
    return out


def film_questions(scenes: int, count: int, seed: int = 0) -> tuple[list[ClipQuestions], list[ClipQuestions]]:
    """Held-out films of so many scenes of 12 frames, and the same questions of each asked of the one scene that they
    are about (of the first, where they are about nothing there is)."""
    rng = random.Random(f"films {scenes} {seed}")
    films: list[ClipQuestions] = []
    parts: list[ClipQuestions] = []
    for _ in range(count):
        clip = held_out_film(rng, scenes)
        times = sample_times(clip.duration, 12 * scenes)
        turns = [turn for kind in ONE_PART for _ in range(2) if (turn := ask_about(rng, clip, kind)) is not None]
        films.append(((clip, times), turns))
        about = [0 if turn.about < 0 else int(clip.events[turn.about].start) // 12 for turn in turns]
        for scene in range(scenes):
            here = [turn for turn, s in zip(turns, about, strict=True) if s == scene]
            if here:
                parts.append(((clip, times[12 * scene : 12 * scene + 12]), here))
    return films, parts


Condition = tuple[list[list[int]], Tensor | None, list[LayerAdapter] | None]


def condition(network: Network, hyper: Hypernetwork | None, encoder: PromptEncoder, clips: Sequence[Sampled], mode: str,
              seed: int, frames: Frames = render_clips) -> Condition:
    """A mode's prompt ids, image tokens and adapters, to put questions to. `joined-4` joins the adapters
    of 4 equal segments."""
    if mode == "direct":
        ids = encoder.videos([times for _, times in clips], [clip.duration for clip, _ in clips])
        pixels = frames(clips, seed, network.text.dtype, str(network.text.device), 1)
        return ids, network.vision(pixels).flatten(0, 1), None
    prefix = [encoder.videos([[0.0]], [1.0])[0][:PREFIX]] * len(clips)
    if mode == "floor":
        return prefix, None, None
    assert hyper is not None
    parts = int(mode.split("-")[1]) if mode.startswith("joined") else 1
    segments = []
    for clip in clips:
        n = len(clip[1])
        segments += split(clip, [round(n * i / parts) for i in range(1, parts)])
    return prefix, None, clip_adapters(network, hyper, encoder, segments, parts, seed, frames)


@torch.no_grad()
def mark_answers(network: Network, hyper: Hypernetwork | None, encoder: PromptEncoder, items: Sequence[ClipQuestions],
                 mode: str, batch: int = 32, frames: Frames = render_clips) -> dict[str, list[bool]]:
    """Marks of each answer, by kind: True where it would be exactly right.

    Fed the right answer, the model must rank every one of its tokens (and the end) first: exactly when greedy decoding
    produces that answer and stops.
    """
    text = network.text
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        turns = [asked for _, asked in chunk]
        clips = [clip for clip, _ in chunk]
        ids, image, adapter = condition(network, hyper, encoder, clips, mode, start, frames)
        packed = pack_turns(encoder, ids, turns, [False] * len(chunk), text.dtype, str(text.device))
        hidden = text.hidden(network.embed(packed.ids, image), packed.positions, packed.mask, adapter)
        ok = (text.logits(hidden.flatten(0, 1)[packed.target]).argmax(-1) == packed.labels).tolist()
        at = 0
        for asked in turns:
            for turn in asked:
                tokens, question = encoder.turn(turn.question, turn.answer)
                size = len(tokens) - question
                right[turn.kind].append(all(ok[at : at + size]))
                at += size
    return right


@torch.no_grad()
def generate(network: Network, hyper: Hypernetwork | None, encoder: PromptEncoder, items: Sequence[tuple[Sampled, str]],
             mode: str, limit: int = 80, batch: int = 32, frames: Frames = render_clips) -> list[str]:
    """Greedy answers, one question a clip, the whole sequence run again for each token."""
    text, out = network.text, []
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        ids, image, adapter = condition(network, hyper, encoder, [clip for clip, _ in chunk], mode, start, frames)
        lines = [line + encoder.question(question) for line, (_, question) in zip(ids, chunk, strict=True)]
        answers: list[list[int]] = [[] for _ in lines]
        for _ in range(limit):
            hidden = text.hidden(network.embed(padded(lines, PAD).to(text.device), image), adapters=adapter)
            last = torch.tensor([len(line) - 1 for line in lines], device=text.device)
            best = text.logits(hidden[torch.arange(len(lines), device=text.device), last]).argmax(-1).tolist()
            for line, answer, token in zip(lines, answers, best, strict=True):
                if not answer or answer[-1] != END_ID:
                    answer.append(token)
                line.append(token)
            if all(answer[-1] == END_ID for answer in answers):
                break
        out += [encoder.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]
    return out


def decoded(clips: Sequence[Sampled], seed: int, dtype: torch.dtype, device: str, grid: int = 1) -> Tensor:
    """The frames as a user's would come: each clip written as H.264 at 192 px, decoded, resized by the product."""
    return torch.cat([_decoded(clip, tuple(times), grid) for clip, times in clips]).to(device, dtype)


@lru_cache(maxsize=4096)
def _decoded(clip: WorldClip, times: tuple[float, ...], grid: int) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(clip, path)
        video = cv2.VideoCapture(str(path))
        frames = []
        while (read := video.read())[0]:
            frames.append(read[1][..., ::-1])
    tiles = [cut_tiles(np.ascontiguousarray(frames[round(t * FPS)]), TILE * grid, TILE) for t in times]
    return torch.from_numpy(normalize(np.concatenate(tiles)))


def percentage(values: Iterable[bool | float]) -> float:
    values = list(values)
    return 100 * sum(values) / max(1, len(values))


def _markdown(scores: dict[str, dict[str, float]], corner: str = "kind") -> str:
    columns = list(scores)
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in dict.fromkeys(row for column in columns for row in scores[column]):
        cells = [f"{scores[column][row]:.1f}" if row in scores[column] else "" for column in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_kind(network: Network, hyper: Hypernetwork, encoder: PromptEncoder, items: Sequence[ClipQuestions],
            frames: Frames = render_clips) -> dict[str, dict[str, float]]:
    """Percentages by mode, then by kind."""
    result = {}
    for mode in MODES:
        right = mark_answers(network, hyper, encoder, items, mode, frames=frames)
        result[mode] = {"short questions": percentage(ok for kind in SHORT_KINDS for ok in right[kind])}
        result[mode] |= {kind: percentage(right[kind]) for kind in KINDS}
        overlap = []
        for kind in CAPTION_KINDS:
            captions = [(clip, turn) for clip, asked in items for turn in asked if turn.kind == kind]
            wrong = [pair for pair, ok in zip(captions, right[kind], strict=True) if not ok]
            asked = [(clip, turn.question) for clip, turn in wrong]
            answers = generate(network, hyper, encoder, asked, mode, frames=frames)
            overlap += [token_f1(answer, turn.answer) for answer, (_, turn) in zip(answers, wrong, strict=True)]
            overlap += [1.0] * (len(captions) - len(wrong))
        result[mode]["caption token F1"] = percentage(overlap)
    return result


def by_scenes(network: Network, hyper: Hypernetwork, encoder: PromptEncoder, films: int, seed: int = 0,
              ) -> dict[str, dict[str, float]]:
    """Percentages right of questions about one scene of a film: asked of that scene's adapter, of all scenes' joined,
    and what the second keeps of the first; and of order and number, which only the whole film tells."""
    out: dict[str, dict[str, float]] = {name: {} for name in ("alone", "joined", "kept", *WHOLE_FILM)}
    for scenes in SCENES:
        row, rng = f"{scenes}", random.Random(f"order {seed} {scenes}")
        whole, parts = film_questions(scenes, films, seed)
        for kinds in WHOLE_FILM.values():
            for (clip, _), turns in whole:
                turns += [turn for kind in kinds if (turn := ask_about(rng, clip, kind))]
        alone = mark_answers(network, hyper, encoder, parts, "adapter", batch=4)
        joined = mark_answers(network, hyper, encoder, whole, f"joined-{scenes}", batch=4)
        for name, right in (("alone", alone), ("joined", joined)):
            out[name][row] = percentage(ok for kind in ONE_PART for ok in right[kind])
        out["kept"][row] = 100 * out["joined"][row] / out["alone"][row]
        for name, kinds in WHOLE_FILM.items():
            if oks := [ok for kind in kinds for ok in joined[kind]]:
                out[name][row] = percentage(oks)
    return out


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
    base = Base(options.weights / "base", torch.device(options.device), dtype)
    network, encoder = Network.of(base), PromptEncoder(base.tokenizer)
    hyper = load_hypernetwork(options.weights, options.device)
    frames = decoded if options.files else render_clips
    items = questions(options.clips, options.seed)
    result: dict[str, Any] = {
        "questions": sum(len(asked) for _, asked in items),
        "kinds": by_kind(network, hyper, encoder, items, frames),
        "scenes": by_scenes(network, hyper, encoder, max(1, options.clips // 12), options.seed)}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{result['questions']} questions about {options.clips} clips\n\n{_markdown(result['kinds'])}\n\n"
              f"Films of several scenes of 12 frames, an adapter of each\n\n{_markdown(result['scenes'], 'scenes')}")


if __name__ == "__main__":
    main()
