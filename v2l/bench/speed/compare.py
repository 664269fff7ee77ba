"""One video, one question, three ways to answer: from the adapter, with the video in the prompt, and with the video's
part of that prompt computed before (the published comparison, v2l/README.md section 8, with a stronger baseline
added)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import v2l
from v2l.bench.config import QUESTION, REPEATS
from v2l.bench.speed.amortization import pays_after
from v2l.bench.speed.timing import timed
from v2l.config import Decoding, Sampling
from v2l.engine import Engine, Seen
from v2l.model.answer import Answer
from v2l.model.generate import Reply
from v2l.model.text import Cache
from v2l.video.clip import open_clip


@dataclass(frozen=True)
class Way:
    """One way of answering; times in seconds, medians over the repeats, with everything loaded and warm."""

    name: str
    setup_s: float
    """Once per video, before the first question."""
    prompt_tokens: int
    visual_tokens: int
    ttft_s: float
    """Time to the first token, from the question (and, for direct, the video file)."""
    total_s: float
    new_tokens: int
    answer: str


@dataclass(frozen=True)
class Comparison:
    """The adapter against two baselines on one video."""

    model: str
    video: str
    device: str
    dtype: str
    threads: int
    frames: int
    resolution: int
    question: str
    repeats: int
    adapter: Way
    direct: Way
    cached: Way

    @property
    def ways(self) -> tuple[Way, Way, Way]:
        return self.adapter, self.direct, self.cached

    def pays_after(self, baseline: Way) -> int | None:
        """After how many questions watching once has cost less than the baseline, counted to the first token of each;
        None where it never does."""
        mine = self.adapter
        return pays_after(mine.setup_s, mine.ttft_s, baseline.setup_s, baseline.ttft_s)

    def to_json(self) -> dict[str, Any]:
        """Everything measured and derived, ready for `json.dumps`."""
        return asdict(self) | {
            "v2l": v2l.__version__,
            "token_reduction": self.direct.prompt_tokens / self.adapter.prompt_tokens,
            "ttft_ratio": self.direct.ttft_s / self.adapter.ttft_s,
            "ttft_ratio_cached": self.cached.ttft_s / self.adapter.ttft_s,
            "pays_after": {way.name: self.pays_after(way) for way in (self.direct, self.cached)},
        }


def _way(name: str, setup_s: float, reply: Callable[[], Reply], repeats: int) -> Way:
    """Answers `repeats` times after one warm-up."""
    answers: list[Answer] = [reply().finish() for _ in range(repeats + 1)][1:]
    last, median = answers[-1], statistics.median
    return Way(name, setup_s, last.prompt_tokens, last.visual_tokens, median(answer.ttft_s for answer in answers),
               median(answer.total_s for answer in answers), len(last.ids), last.text)


def cached_prefix(engine: Engine, seen: Seen, question: str, new_tokens: int) -> tuple[tuple[Cache, int], float]:
    """`Engine.prefix` of a video, with room for the question and so many tokens of an answer, and the seconds it
    took."""
    room = len(engine.base.encode(question)) + 32 + new_tokens  # the template around the question has fewer than 32
    return timed(engine.device, lambda: engine.prefix(seen, room))


def compare(
    engine: Engine,
    video: Path,
    *,
    question: str = QUESTION,
    sampling: Sampling | None = None,
    repeats: int = REPEATS,
    decoding: Decoding | None = None,
) -> Comparison:
    """Measures all three ways in one run, on any model. `repeats` timed answers a way, after a warm-up."""
    sampling, decoding = sampling or engine.sampling(), decoding or Decoding()
    engine.ingest(video, sampling)  # loads and warms everything
    adapter, ingest_s = timed(engine.device, lambda: engine.ingest(video, sampling))
    bound, bind_s = timed(engine.device, lambda: engine.bind(adapter))
    by_adapter = _way("adapter", ingest_s + bind_s, lambda: engine.ask(bound, question, decoding), repeats)
    direct = _way("direct", 0.0, lambda: engine.direct(video, question, sampling, decoding), repeats)

    seen, see_s = timed(engine.device, lambda: engine.see(open_clip(video, sampling), sampling))
    prefix, prefix_s = cached_prefix(engine, seen, question, decoding.max_new_tokens)
    cached = _way("direct, cached", see_s + prefix_s,
                  lambda: engine.direct_cached(seen, prefix, question, decoding), repeats)
    return Comparison(
        model=engine.files.name,
        video=video.name,
        device=engine.device.type,
        dtype=str(engine.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        frames=len(seen.timestamps),
        resolution=sampling.resolution,
        question=question,
        repeats=repeats,
        adapter=by_adapter,
        direct=direct,
        cached=cached,
    )
