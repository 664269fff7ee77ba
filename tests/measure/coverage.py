#!/usr/bin/env python3
"""How often a 95% interval of `v2l.score.stats.paired` holds the true difference, beside the plain and BCa bootstrap's:
`python tests/measure/coverage.py [--trials N] [--only NAME]` (a few minutes of one core).

Each line draws many data sets of known difference. `right` are scores of 0 and 1: how often only a, and only b, is
right; `alike` is the correlation of disagreements within a clip. Printed are, per method, per cent of intervals that
hold the difference, and of those that miss it how many lie above and below it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from v2l.score import stats
from v2l.score.stats import paired

RESAMPLES = 1000
"""Of scores of any size; of zeros and ones as many as users have."""
NORMAL = NormalDist()
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores a, scores b, and the clip of each."""
Clips = tuple[tuple[float, int], ...]
"""Sum and number of each clip's differences."""


def right(clips: int, sizes: tuple[int, int], only_a: float, only_b: float, alike: float = 0.0) -> tuple:
    def draw(rng: np.random.Generator) -> Sample:
        size = rng.integers(sizes[0], sizes[1] + 1, clips)
        either = only_a + only_b
        chance = np.full(clips, either)
        if alike:
            spread = (1 - alike) / alike
            chance = rng.beta(either * spread, (1 - either) * spread, clips)
        clip = np.repeat(np.arange(clips), size)
        differ, of_a = rng.random(len(clip)) < chance[clip], rng.random(len(clip)) < only_a / either
        return np.where(differ, of_a, True).astype(float), np.where(differ, ~of_a, True).astype(float), clip

    name = f"right: {clips} clips, {'-'.join(map(str, sorted(set(sizes))))} each, {only_a:.1%} / {only_b:.1%}"
    return f"{name}{f', alike {alike}' if alike else ''}", draw, only_a - only_b


def scores(name: str, clips: int, size: int, mean: float, draw_clip: Callable, draw_rest: Callable) -> tuple:
    """Differences of a clip's mean and of each pair around it."""

    def draw(rng: np.random.Generator) -> Sample:
        clip = np.repeat(np.arange(clips), size)
        difference = np.clip(draw_clip(rng, clips)[clip] + draw_rest(rng, len(clip)), -1, 1)
        return np.maximum(difference, 0), np.maximum(-difference, 0), clip

    return f"{name}: {clips} clips, {size} each", draw, mean


def normal(spread: float) -> Callable:
    return lambda rng, n: rng.normal(0.02, spread, n)


def nothing(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.zeros(n)


def rare(share: float) -> Callable:
    """Mostly no difference; else up to 1, mostly small, 70% of it negative."""
    return lambda rng, n: (rng.random(n) < share) * rng.beta(2, 6, n) * np.where(rng.random(n) < 0.7, -1, 1)


CASES = [
    right(300, (1, 1), 0.005, 0.015),
    right(300, (1, 1), 0.01, 0.02),
    right(300, (1, 1), 0.0, 0.01),
    right(300, (1, 1), 0.005, 0.005),
    right(300, (1, 1), 0.0, 0.003),
    right(300, (1, 1), 0.02, 0.06),
    right(160, (1, 1), 0.01, 0.02),
    right(100, (1, 1), 0.005, 0.015),
    right(30, (1, 1), 0.1, 0.1),
    right(100, (3, 3), 0.01, 0.02, 0.3),
    right(100, (3, 3), 0.03, 0.05, 0.1),
    right(60, (1, 9), 0.01, 0.02, 0.3),
    right(30, (10, 10), 0.01, 0.02, 0.2),
    scores("F1, half differ", 300, 1, -0.4 * 0.25 * 0.5, nothing, rare(0.5)),
    scores("F1, 5% differ", 300, 1, -0.4 * 0.25 * 0.05, nothing, rare(0.05)),
    scores("F1, 10% differ", 60, 1, -0.4 * 0.25 * 0.1, nothing, rare(0.1)),
    scores("normal", 5, 1, 0.02, normal(0.1), nothing),
    scores("normal", 10, 1, 0.02, normal(0.1), nothing),
    scores("normal", 30, 1, 0.02, normal(0.1), nothing),
    scores("normal", 300, 1, 0.02, normal(0.1), nothing),
    scores("normal, clips and pairs", 30, 5, 0.04, normal(0.05), normal(0.1)),
    scores("exponential", 30, 1, 0.1, lambda rng, n: rng.exponential(0.1, n), nothing),
    scores("exponential", 300, 1, 0.1, lambda rng, n: rng.exponential(0.1, n), nothing),
]


def bootstraps(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The textbook's intervals."""
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)), dtype=np.uint16)
    means, mean = sums[drawn].sum(1) / sizes[drawn].sum(1), sums.sum() / sizes.sum()
    below = np.clip((means < mean).mean() + (means == mean).mean() / 2, 1e-4, 1 - 1e-4)
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    skew = without.mean() - without
    scale = 6 * (skew**2).sum() ** 1.5
    bias, speed = NORMAL.inv_cdf(below), (skew**3).sum() / scale if scale else 0.0
    moved = [bias + NORMAL.inv_cdf(share) for share in (0.025, 0.975)]
    shares = [NORMAL.cdf(bias + z / (1 - speed * z)) for z in moved]
    return {"percentile": tuple(np.quantile(means, (0.025, 0.975))), "BCa": tuple(np.quantile(means, shares))}


def intervals(clips: Clips, seed: int) -> dict[str, tuple[float, float]]:
    sums, sizes = (np.array(column, float) for column in zip(*clips, strict=True))
    clip = np.repeat(np.arange(len(clips)), sizes.astype(int))
    means = (sums / sizes)[clip]  # the intervals depend on sums and sizes alone
    groups = None if len(clip) == len(clips) else clip.tolist()
    resamples = RESAMPLES if len(set(clips)) > 30 else stats.RESAMPLES
    found = paired(np.maximum(means, 0), np.maximum(-means, 0), groups=groups, margin=0.05, resamples=resamples,
                   seed=seed)
    return bootstraps(sums, sizes, resamples, seed) | {"v2l": (found.low, found.high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    trials = options.trials
    for name, draw, true in (case for case in CASES if options.only in case[0]):
        rng = np.random.default_rng(0)
        missed: dict[str, np.ndarray] = {}
        known: dict[Clips, dict[str, tuple[float, float]]] = {}  # zeros and ones give the same data again and again
        for _ in range(trials):
            a, b, clip = draw(rng)
            clips = tuple(sorted(zip(np.bincount(clip, a - b).tolist(), np.bincount(clip).tolist(), strict=True)))
            if clips not in known:
                known[clips] = intervals(clips, len(known))
            for method, (low, high) in known[clips].items():
                missed.setdefault(method, np.zeros(2))[:] += true < low - 1e-12, true > high + 1e-12
        shown = [f"{method} {100 - 100 * sum(n) / trials:5.1f} ({100 * n[0] / trials:.1f} {100 * n[1] / trials:.1f})"
                 for method, n in missed.items()]
        print(f"{name:62}", *(f"{text:27}" for text in shown), flush=True)


if __name__ == "__main__":
    main()
