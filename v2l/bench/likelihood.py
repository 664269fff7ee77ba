"""Whether a model's adapters tell of their videos, found without reference answers: what the base answers with a video
in its prompt is scored without it, by how likely each token is to the bare base and to it with this and that adapter.

A working model ranks them: the bare base, the bias alone and the adapter of another video clearly below the adapter,
and that not above the video in the prompt. How the bare base and another video's adapter compare is not asked: `tiny`'s
tell so surely of their own video that they lie below the bare base. A trained adapter is besides best as it is, for
its scale and its bias were trained with it: a wrong scale, or a bias that counts twice, is found by what mends it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from v2l.adapter import Adapter
from v2l.config import Decoding
from v2l.errors import ModelError
from v2l.model.prompt import END
from v2l.model.text import LayerAdapter
from v2l.system.progress import Progress, silent
from v2l.tiny.clips import examples, scene, solo, write_video
from v2l.train.config import CAPTION_PROMPTS
from v2l.video.clip import open_clip

if TYPE_CHECKING:
    from v2l.config import Sampling
    from v2l.engine import Engine, Seen

LONGEST_TEXT = 64
"""Longest text that is scored, in tokens."""
LEAST_GAP = 0.1
"""Log-probability a token that the video in the prompt must add to the bare base's for anything to be told."""
LEAST_SHARE = 0.25
"""Share of that which the adapter must add to what the bare base, the bias and another video's adapter have. Over two
clips `tiny`'s adapters add 0.67 or more; with a scale divided by the rank, 0.12 or less."""
BETTER = 0.03
"""Share of that by which an adapter changed on purpose is better. Over two clips none of `tiny`'s is by more than
0.027, and those with the bias counted twice all are by 0.031 or more; over four it is -0.07 and 0.09."""
TIMES_WATCHING = 3
"""How many times as long as watching alone a check takes for each video."""
CHECKED_CLIPS = ("three-shapes", "two-shapes", "one-shape", "slides")
"""Example clips that a model is checked on; fewer let more faults pass."""


@dataclass(frozen=True)
class Likelihood:
    """Mean log-probabilities of a token of the texts about one video, or several; the token that ends a text counts."""

    video: str
    tokens: int
    """Tokens of all texts."""
    base: float
    """Mean of the bare base, without the video."""
    bias: float
    """Mean with the bias alone, which is the same for all videos."""
    other: float
    """Mean with the adapter of another video."""
    adapter: float
    direct: float
    """Mean with the video in the prompt."""
    changed: dict[str, float]
    """Means with the adapter changed on purpose, by the names of `changes`."""
    texts: dict[str, str]
    """What is scored: the answers with the video in the prompt, by question."""

    @property
    def gap(self) -> float:
        """What the video in the prompt adds to the bare base."""
        return self.direct - self.base

    @property
    def share(self) -> float:
        """Share of the gap that the adapter closes."""
        return (self.adapter - self.base) / self.gap if self.gap > 0 else math.nan

    @property
    def best_change(self) -> str:
        """Name of the change with which the texts are likeliest."""
        return max(self.changed, key=lambda name: self.changed[name])


@dataclass(frozen=True)
class ModelCheck:
    """What was found on some clips, each with another's adapter beside its own; the verdict is over all tokens."""

    model: str
    device: str
    dtype: str
    clips: list[Likelihood]
    foreign: list[str] = field(default_factory=list)
    """Videos that the model was made for nothing like; only `tiny` tells."""

    @property
    def whole(self) -> Likelihood:
        """All clips as one."""
        return pooled(self.clips)

    @property
    def works(self) -> bool:
        return not problems(self.whole)

    def to_json(self) -> dict[str, Any]:
        """Everything measured and derived, ready for `json.dumps`; numbers that are not finite are null."""
        whole, found = self.whole, problems(self.whole)
        document = {"model": self.model, "device": self.device, "dtype": self.dtype, "works": not found,
                    "verdict": verdict_text(self.model, whole), "problems": found, "share": whole.share,
                    "best_change": whole.best_change, "foreign": self.foreign, "all": asdict(whole),
                    "clips": [asdict(clip) for clip in self.clips]}
        finite: dict[str, Any] = _finite(document)
        return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pooled(clips: Sequence[Likelihood]) -> Likelihood:
    """The mean over the tokens of all clips."""
    tokens = sum(clip.tokens for clip in clips)

    def mean(values: Sequence[float]) -> float:
        return sum(value * clip.tokens for value, clip in zip(values, clips, strict=True)) / tokens

    return Likelihood(
        "all", tokens, mean([clip.base for clip in clips]), mean([clip.bias for clip in clips]),
        mean([clip.other for clip in clips]), mean([clip.adapter for clip in clips]),
        mean([clip.direct for clip in clips]),
        {name: mean([clip.changed[name] for clip in clips]) for name in clips[0].changed}, {})


# The verdict.


def problems(found: Likelihood) -> list[str]:
    """What is wrong, a clause each; nothing where the adapters work."""
    if not all(map(math.isfinite, (found.base, found.bias, found.other, found.adapter, found.direct,
                                   *found.changed.values()))):
        return ["some numbers are not finite; try --dtype float32"]
    if found.gap < LEAST_GAP:
        return [f"the video in the prompt makes its own answers likelier than no video by only {found.gap:.2f} a "
                "token, so that nothing can be told of adapters"]
    least, said = LEAST_SHARE * found.gap, []
    for name, value in (("no adapter gives", found.base), ("the bias alone gives", found.bias),
                        ("the adapter of another video gives", found.other)):
        if found.adapter - value < least:
            added = (found.adapter - value) / found.gap
            said.append(f"to what {name}, the adapter adds {added:.0%} of what the video in the prompt adds to no "
                        f"video (at least {LEAST_SHARE:.0%} are expected)")
    if found.adapter - found.direct > BETTER * found.gap:
        said.append("the answers with the video in the prompt are likelier to the adapter than to that prompt")
    name = found.best_change
    if found.changed[name] - found.adapter > BETTER * found.gap:
        said.append(f"changed on purpose ({name}), it is better ({found.changed[name]:.2f}) than as it is "
                    f"({found.adapter:.2f})")
    return said


def verdict_text(model: str, found: Likelihood) -> str:
    """The verdict in one sentence."""
    if said := problems(found):
        return f"{model} does not work here: {'; '.join(said)}."
    return (f"{model} works here: its adapters give {found.share:.0%} of what the video in the prompt adds, clearly "
            "more than the bias alone or the adapter of another video, and no change of scale or bias makes them "
            "better.")


# Measuring.


def changes(rank: int) -> dict[str, tuple[float, float]]:
    """Changes that are tried on an adapter: factors of its segments and of its bias."""
    return {f"scale / {rank}": (1 / rank, 1 / rank), "scale / 2": (0.5, 0.5), "scale x 2": (2, 2),
            f"scale x {rank}": (rank, rank), "no bias": (1, 0), "bias / 2": (1, 0.5), "bias x 2": (1, 2)}


def measure_likelihood(engine: Engine, seen: Seen, adapter: Adapter, other: Adapter, video: str,
                       prompts: Sequence[str] = CAPTION_PROMPTS) -> Likelihood:
    """Scores the answers to the prompts with a video in the prompt; `seen` and `adapter` are of that video, `other` is
    of another one. ModelError where there are no answers."""
    answers = list(engine.direct_batch(seen, engine.prefix(seen, 0), prompts, Decoding(max_new_tokens=LONGEST_TEXT)))
    if not all(answer.finite for answer in answers):
        raise ModelError(f"The base {engine.files.name} gives numbers that are not finite with {video} in its prompt; "
                         "try --dtype float32.")
    end = engine.base.token(END)
    ids = [(*answer.ids, *((end,) if answer.finish == "stop" else ())) for answer in answers]
    tokens, bound = sum(map(len, ids)), engine.bind(adapter)
    direct = sum(answer.logprob * len(text) for answer, text in zip(answers, ids, strict=True)) / tokens
    means = _means(engine, {
        "base": None, "bias": _multiplied(bound, adapter, 0, 1), "other": engine.bind(other), "adapter": bound,
        **{name: _multiplied(bound, adapter, *factors) for name, factors in changes(adapter.rank).items()},
    }, list(zip(prompts, ids, strict=True)))
    base, bias, others, own = (means.pop(name) for name in ("base", "bias", "other", "adapter"))
    texts = {prompt: answer.text for prompt, answer in zip(prompts, answers, strict=True)}
    return Likelihood(video, tokens, base, bias, others, own, direct, means, texts)


def _multiplied(bound: list[LayerAdapter], adapter: Adapter, segments: float, bias: float) -> list[LayerAdapter]:
    """A bound adapter with its segments and its bias multiplied by these."""
    factors = torch.tensor([segments] * adapter.total_rank + [bias] * adapter.rank, device=bound[0].B.device)
    return [LayerAdapter(layer.A, layer.B * factors[:, None], layer.scale) for layer in bound]


def _means(engine: Engine, ways: Mapping[str, list[LayerAdapter] | None],
           texts: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, float]:
    """Mean log-probability of a token of the texts (question, tokens) with each of several adapters."""
    tokens = sum(len(ids) for _, ids in texts)
    found = engine.answer_logprobs((bound, prompt, (ids,)) for bound in ways.values() for prompt, ids in texts)
    return {name: sum(next(found)[0] for _ in texts) / tokens for name in ways}


def check_model(engine: Engine, videos: Sequence[Path], sampling: Sampling, *, progress: Progress = silent,
                foretell: Callable[[float], None] = lambda seconds: None) -> ModelCheck:
    """Watches some videos, at least two, and measures each with the next one's adapter as the other. Errors as of
    `ingest` and `direct`. Once the first is watched, `foretell` is given the seconds that the rest may take."""
    engine.load()
    watched = []
    for video in videos:
        started, clip = time.perf_counter(), open_clip(video, sampling)
        seen = engine.see(clip, sampling)
        watched.append((video.name, seen, engine.ingest_seen(clip, seen, sampling)))
        if len(watched) == 1:
            foretell((time.perf_counter() - started) * (len(videos) * TIMES_WATCHING - 1))
    clips = []
    for number, (name, seen, adapter) in enumerate(watched):
        progress(f"Scoring {name}", number, len(watched))
        other = watched[(number + 1) % len(watched)][2]
        clips.append(measure_likelihood(engine, seen, adapter, other, name))
    return ModelCheck(engine.files.name, engine.device.type, str(engine.dtype).removeprefix("torch."), clips,
                      [name for name, _, adapter in watched if adapter.is_foreign])


def draw_checked(folder: Path) -> list[Path]:
    """Writes the example clips of `CHECKED_CLIPS` into a folder."""
    return [_written(folder / f"{name}.mp4", examples()[name]) for name in CHECKED_CLIPS]


def draw_other(folder: Path) -> Path:
    """Writes a clip that is none of the examples, for a video to be told from."""
    return _written(folder / "another.mp4", scene("pink", solo("cyan", "cross", "shrinks", 6),
                                                  solo("blue", "heart", "moves up", 6)))


def _written(path: Path, clip: Any) -> Path:
    write_video(clip, path)
    return path
