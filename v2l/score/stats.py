"""Is one way of answering as good as another? Paired differences of scores, with intervals and tests that agree.

The interval is a bootstrap over clips: whole clips are drawn with replacement, since questions about one video are not
independent, and the mean difference over their pairs is taken each time. Plain percentiles of that, and BCa ones,
promise too much where it matters here, when two ways of answering disagree about few of many answers: where 300 answers
hold one disagreement or none, no resample can know that there are others. Two things mend it.

- Two imagined clips join those that clips are drawn from, one to either side of the mean, as far from it as the clip
  that is farthest. Where no clip differs from another, or there are fewer than `FEWEST`, they are as far as scores can
  be: 300 answers without a disagreement then give +-3/300, the rule of three. This is the one count that Bonett and
  Price (Journal of Educational and Behavioral Statistics 37, 2012) add to the disagreements of either kind, for scores
  of any size.
- The percentiles are Hesterberg's expanded ones (The American Statistician 69, 2015): as many standard errors out as
  Student's t for so many clips says, since a bootstrap of n clips is too narrow by sqrt((n - 1) / n) and its tails are
  those of a normal distribution. Where BCa's correction for skewed data would move an end further out it is added,
  never where it would move it in: few disagreements are too few to tell how skewed they are.

Measured with `tests/measure/coverage.py`: of 300 answers that differ in 0.3 to 8% of cases the 95% intervals hold the
true difference in 96 to 100%, plain percentiles in 58 to 97%, BCa in 53 to 95%; of token F1, normal scores of 5 clips
and more, and several questions a clip 95 to 98%, where percentiles go down to 85% and BCa to 84%.

Every p-value comes from the same resampled means through the same correction, so an interval excludes a value exactly
when the two-sided test of it has p <= 1 - confidence, and lies above or below it when the one-sided one has
p <= (1 - confidence) / 2. Nothing here is asserted: `verdicts` follow from these p-values alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2l.errors import UsageError

CONFIDENCE = 0.95
"""Confidence of the intervals; a verdict may be wrong with what is left of 1."""
RESAMPLES = 10_000
"""Resamples of the bootstrap."""
FEWEST = 5
"""Number of clips below which nothing is taken from how little they happen to differ."""
_SAME = 1e-9
"""Clips whose means lie within this of each other do not differ: it is rounding."""
FEW_KINDS = 32
"""Up to so many different clips, counting how often each kind is drawn is faster than drawing clips."""
_DRAWN_AT_ONCE = 1 << 17
"""Clips drawn together: what they need stays in the processor's cache."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """Scores of two ways of answering the same questions, compared; a is held against b."""

    pairs: int
    clips: int
    """Videos that the pairs are about; what is resampled."""
    mean_a: float
    mean_b: float
    difference: float
    """Mean of a - b over all pairs."""
    low: float
    high: float
    """Confidence interval of the difference."""
    margin: float
    """A difference smaller than this does not matter."""
    confidence: float
    p_different: float
    """Two-sided p of no difference."""
    p_noninferior: float
    """One-sided p of a being worse than b by the margin or more."""
    p_equivalent: float
    """The larger p of two one-sided tests: of a being worse, and better, than b by the margin or more."""
    p_inferior: float
    """One-sided p of a being worse than b by no more than the margin."""

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for `json.dumps`."""
        return asdict(self)


def paired(
    a: Sequence[float],
    b: Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    margin: float,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compares scores a[i] and b[i], both in 0..1, of the same question; `groups` names the video each is about.

    Without groups every pair stands for itself. The same data give the same result, in whatever order. One video tells
    nothing, so its interval is [-1, 1]. Raises UsageError for no pairs, lengths that differ, and scores, margin or
    confidence out of range.
    """
    scores_a, scores_b = np.asarray(a, float), np.asarray(b, float)
    _check(scores_a, scores_b, groups, margin, confidence, resamples)
    sums, sizes = _by_clip(scores_a - scores_b, groups)
    more_sums, more_sizes = _with_imagined(sums, sizes)
    means = resampled_means(more_sums, more_sizes, len(sums), resamples, seed)
    skew = _skew(more_sums, more_sizes)
    from_below, from_above = (_p_value(len(sums), resamples, min(0.0, turned)) for turned in (skew, -skew))

    def p_above(value: float) -> float:
        """p of the difference not being above `value`."""
        return from_below(int(np.searchsorted(means, value, "right")))

    def p_below(value: float) -> float:
        return from_above(resamples - int(np.searchsorted(means, value, "left")))

    one_sided = (1 - confidence) / 2
    low, high = (bisect_right(range(resamples), one_sided, key=p) for p in (from_below, from_above))  # that many beyond
    return Paired(
        pairs=len(scores_a),
        clips=len(sums),
        mean_a=math.fsum(scores_a) / len(scores_a),
        mean_b=math.fsum(scores_b) / len(scores_b),
        difference=math.fsum(scores_a - scores_b) / len(scores_a),
        low=max(-1.0, float(means[low - 1])) if low else -1.0,
        high=min(1.0, float(means[-high])) if high else 1.0,
        margin=margin,
        confidence=confidence,
        p_different=min(1.0, 2 * min(p_above(0), p_below(0))),
        p_noninferior=p_above(-margin),
        p_equivalent=max(p_above(-margin), p_below(margin)),
        p_inferior=p_below(-margin),
    )


def _check(a: _Floats, b: _Floats, groups: Sequence[Hashable] | None, margin: float, confidence: float,
           resamples: int) -> None:
    if not len(a):
        raise UsageError("There are no scores to compare; give at least one pair.")
    if not len(a) == len(b) == (len(a) if groups is None else len(groups)):
        raise UsageError(f"{len(a)} scores cannot be paired with {len(b)}"
                         f"{'' if groups is None else f' about {len(groups)} videos'}; each needs its partner.")
    if not all(0 <= value <= 1 for value in (a.min(), a.max(), b.min(), b.max())):  # no NaN passes
        raise UsageError("Scores to compare lie in 0..1; leave out the pairs where one is missing.")
    if not (0 < margin < 1 and 0 < confidence < 1):
        raise UsageError(f"A margin of {margin} at a confidence of {confidence} means nothing; "
                         "both lie between 0 and 1.")
    if resamples < 1:
        raise UsageError(f"A bootstrap of {resamples} resamples tells nothing; use {RESAMPLES:,}.")


def _by_clip(differences: _Floats, groups: Sequence[Hashable] | None) -> tuple[_Floats, _Floats]:
    """Sum and number of the differences of each clip, in an order that does not depend on theirs."""
    if groups is None:
        return np.sort(differences), np.ones(len(differences))
    places: dict[Hashable, int] = {}
    clip = np.array([places.setdefault(group, len(places)) for group in groups])
    order = np.argsort(differences, kind="stable")  # a sum of floats depends on the order, too
    sums, sizes = np.bincount(clip[order], differences[order]).astype(float), np.bincount(clip).astype(float)
    order = np.lexsort((sizes, sums))
    return sums[order], sizes[order]


def _with_imagined(sums: _Floats, sizes: _Floats) -> tuple[_Floats, _Floats]:
    """The clips and two more of middle size, whose mean is that of all (see above)."""
    mean, size = sums.sum() / sizes.sum(), sizes.mean()
    away = np.abs(sums - mean * sizes).max()
    if len(sums) < FEWEST or away < _SAME:
        away = size
    return np.append(sums, mean * size + np.array([-away, away])), np.append(sizes, [size, size])


def resampled_means(sums: _Floats, sizes: _Floats, count: int, resamples: int, seed: int) -> _Floats:
    """Mean differences of `count` clips drawn with replacement, `resamples` times, sorted."""
    rng = np.random.default_rng(seed)
    kinds, counts = np.unique(np.stack([sums, sizes], 1), axis=0, return_counts=True)
    if len(kinds) <= FEW_KINDS:  # scores of 0 and 1: how often each kind of clip is drawn says it all
        totals = rng.multinomial(count, counts / len(sums), resamples) @ kinds
        return np.sort(totals[:, 0] / totals[:, 1])
    means = np.empty(resamples)
    alike = bool(np.all(sizes == sizes[0]))
    rows = max(1, _DRAWN_AT_ONCE // count)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        drawn = rng.integers(0, len(sums), (len(part), count), dtype=np.min_scalar_type(len(sums)))
        part[:] = sums.take(drawn).sum(1) / (count * sizes[0] if alike else sizes.take(drawn).sum(1))
    means.sort()
    return means


def _skew(sums: _Floats, sizes: _Floats) -> float:
    """The acceleration of the BCa interval, which for a mean is its bias-correction, too. The imagined clips keep it
    below 0.05."""
    away = sums - sums.sum() / sizes.sum() * sizes
    return float((away**3).sum() / (6 * (away**2).sum() ** 1.5))


def _p_value(clips: int, resamples: int, skew: float) -> Callable[[int], float]:
    """How many resampled means lie on the wrong side -> one-sided p-value."""
    standard, narrow = NormalDist(), math.sqrt((clips - 1) / clips)

    def p(wrong: int) -> float:
        share = (wrong + 1) / (resamples + 1)  # the data themselves count as one more resample: p is never 0
        if share >= 1 or clips == 1:
            return 1.0
        z = standard.inv_cdf(share) - skew
        return students_t(narrow * (z / (1 + skew * z) - skew), clips - 1)

    return p


def students_t(t: float, freedom: int) -> float:
    """Distribution function of Student's t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle, odd = math.atan(t / math.sqrt(freedom)), freedom % 2
    steps = np.arange(1, freedom // 2)
    ratios = 2 * steps / (2 * steps + 1) if odd else (2 * steps - 1) / (2 * steps)
    series = math.sin(angle) * (1 + float(np.cumprod(ratios * math.cos(angle) ** 2).sum()))
    if odd:
        series = 2 / math.pi * (angle + (math.cos(angle) * series if freedom > 1 else 0.0))
    return (1 + series) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted so that rejecting those up to alpha is wrong about any of them with a
    probability of at most alpha (Holm 1979). In the order given; larger p-values stay larger or equal."""
    if not all(0 <= p <= 1 for p in p_values):
        raise UsageError("p-values lie in 0..1.")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


VERDICTS = ("equivalent", "better", "non-inferior", "inferior", "worse", "inconclusive")


def verdicts(results: Sequence[Paired], margin: float, alpha: float = 1 - CONFIDENCE) -> list[str]:
    """One of VERDICTS for each benchmark of a family: the results of one metric and two ways of answering.

    Each kind of test is Holm-adjusted over the benchmarks. A one-sided test holds when its adjusted p is at most
    alpha/2, which for a single benchmark is what its interval of confidence 1 - alpha shows (v2l/README.md section 8);
    the two one-sided tests of equivalence, usually done at alpha each, are stricter here: 2.5% each for an interval of
    95%. The first of these that holds is the verdict:

    - equivalent: p_equivalent <= alpha/2. The whole interval lies within +-margin, even if it excludes 0.
    - better: p_different <= alpha and a positive difference. The interval lies above 0.
    - non-inferior: p_noninferior <= alpha/2. The interval lies above -margin.
    - inferior: p_inferior <= alpha/2. The interval lies below -margin.
    - worse: p_different <= alpha and a negative difference. The interval lies below 0.
    - inconclusive: none of these; more clips would tell.

    With several benchmarks an interval may show what the adjusted p no longer does. Raises UsageError for results that
    were computed for another margin or another confidence than 1 - alpha.
    """
    for result in results:
        if not (math.isclose(result.margin, margin) and math.isclose(result.confidence, 1 - alpha)):
            raise UsageError(f"Results at a margin of {result.margin} and a confidence of {result.confidence} cannot "
                             f"be judged at {margin} and {1 - alpha}; compute them anew.")
    different, noninferior, equivalent, inferior = (
        holm([getattr(result, name) for result in results])
        for name in ("p_different", "p_noninferior", "p_equivalent", "p_inferior")
    )
    out = []
    for i, result in enumerate(results):
        holds = (
            equivalent[i] <= alpha / 2,
            different[i] <= alpha and result.difference > 0,
            noninferior[i] <= alpha / 2,
            inferior[i] <= alpha / 2,
            different[i] <= alpha and result.difference < 0,
            True,
        )
        out.append(VERDICTS[holds.index(True)])
    return out
