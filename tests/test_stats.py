"""The statistics: against closed forms, second implementations, hand-worked examples; and how often they are right."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from v2l.errors import UsageError
from v2l.score import stats
from v2l.score.stats import Paired, holm, paired, verdicts

MARGIN = 0.05


def split(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores with these differences."""
    return np.maximum(differences, 0), np.maximum(-differences, 0)


@cache
def answers(pairs: int, only_a: int, only_b: int) -> Paired:
    """So many answers of which a alone, and b alone, has so many right."""
    differences = np.repeat([1.0, -1.0, 0.0], [only_a, only_b, pairs - only_a - only_b])
    return paired(*split(differences), margin=MARGIN, resamples=2000)


def chance(pairs: int, only_a: float, only_b: float, event: Callable[[Paired], bool]) -> float:
    """Exact probability of an event, by going through all results that are at all likely."""
    total = 0.0
    for a in range(40):
        for b in range(40):
            both = pairs - a - b
            p = math.comb(pairs, a) * math.comb(pairs - a, b) * only_a**a * only_b**b * (1 - only_a - only_b) ** both
            if p > 1e-5 and event(answers(pairs, a, b)):
                total += p
    return total


# --- known distributions ---


def test_students_t() -> None:
    for t in (-40.0, -3.2, -1.0, 0.0, 0.3, 2.5):
        assert stats.students_t(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
        assert stats.students_t(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)
    for freedom in (3, 4, 9, 30, 299):
        at, step = np.linspace(-200, -1.5, 200_001, retstep=True)
        scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
        density = np.exp(scale - (freedom + 1) / 2 * np.log1p(at**2 / freedom))
        area = (density.sum() - density[-1] / 2) * step
        assert stats.students_t(-1.5, freedom) == pytest.approx(area, abs=2e-6)
        assert stats.students_t(1.5, freedom) == pytest.approx(1 - area, abs=2e-6)


def test_normal_differences_give_nearly_the_t_interval() -> None:
    rng = np.random.default_rng(0)
    for n, t in ((30, 2.0452), (400, 1.9659)):
        differences = np.clip(rng.normal(0.03, 0.1, n), -1, 1)
        found = paired(*split(differences), margin=MARGIN)
        half = t * differences.std(ddof=1) / math.sqrt(n)
        assert found.difference == pytest.approx(differences.mean(), abs=1e-12)
        assert found.mean_a - found.mean_b == pytest.approx(found.difference, abs=1e-12)
        for end, sign in ((found.low, -1), (found.high, 1)):  # the imagined clips widen it, less the more there are
            assert 0.97 <= sign * (end - found.difference) / half <= 1 + 5 / n + 0.05
        z = (found.difference + MARGIN) / (half / t)
        assert found.p_noninferior == pytest.approx(1 - stats.students_t(z, n - 1), abs=2e-3)


def test_resampling_is_what_a_plain_loop_does() -> None:
    rng = random.Random(0)
    clips = [[rng.choice((-0.5, 0.0, 0.0, 0.25, 1.0)) for _ in range(rng.randint(1, 5))] for _ in range(25)]
    sums, sizes = np.array([sum(clip) for clip in clips]), np.array([float(len(clip)) for clip in clips])
    means = []
    for _ in range(20_000):
        drawn = rng.choices(clips, k=len(clips))
        means.append(sum(sum(clip) for clip in drawn) / sum(len(clip) for clip in drawn))
    shares = np.linspace(0.01, 0.99, 25)
    for kinds in (0, 1000):  # drawing clips, counting kinds
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stats, "FEW_KINDS", kinds)
            ours = stats.resampled_means(sums, sizes, len(sums), 20_000, 0)
        assert np.abs(np.quantile(ours, shares) - np.quantile(means, shares)).max() < 0.006


# --- what it promises ---


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "right or wrong": lambda rng: rng.choice([-1.0, 0.0, 1.0], 80, p=[0.05, 0.9, 0.05]),
    "seldom different": lambda rng: rng.choice([-1.0, 0.0, 1.0], 300, p=[0.05, 0.94, 0.01]),
    "scores": lambda rng: np.clip(rng.normal(rng.uniform(-0.1, 0.1), 0.1, 60), -1, 1),
    "few": lambda rng: np.clip(rng.normal(rng.uniform(-0.3, 0.3), 0.1, rng.integers(1, 8)), -1, 1),
    "worse": lambda rng: np.clip(rng.normal(-0.12, 0.2, 100), -1, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_interval_and_tests_agree(kind: str) -> None:
    rng, seen = np.random.default_rng(1), set()
    for trial in range(40):
        differences = KINDS[kind](rng)
        groups = None if trial % 2 else rng.integers(0, max(1, len(differences) // 2), len(differences)).tolist()
        for confidence in (0.95, 0.8):
            one_sided = (1 - confidence) / 2
            found = paired(*split(differences), groups=groups, margin=MARGIN, confidence=confidence, resamples=500)
            low, high = found.low, found.high
            assert -1 <= low <= found.difference <= high <= 1
            assert (low > 0 or high < 0) == (found.p_different <= 2 * one_sided)
            assert (low > -MARGIN) == (found.p_noninferior <= one_sided)
            assert (low > -MARGIN and high < MARGIN) == (found.p_equivalent <= one_sided)
            assert (high < -MARGIN) == (found.p_inferior <= one_sided)
            assert found.p_noninferior <= found.p_equivalent
            seen.add(verdicts([found], MARGIN, 1 - confidence)[0])
    assert len(seen) > 1 or kind == "few"


def test_order_and_names_do_not_matter_and_the_seed_does() -> None:
    rng = np.random.default_rng(2)
    a, b, clip = rng.random(90), rng.random(90), rng.integers(0, 25, 90)
    found = paired(a, b, groups=clip.tolist(), margin=MARGIN, resamples=1000)
    for _ in range(5):
        order = rng.permutation(90)
        names = [f"video {c}" for c in clip[order]]
        assert paired(a[order].tolist(), b[order].tolist(), groups=names, margin=MARGIN, resamples=1000) == found
    assert found.clips == len(set(clip)) < found.pairs == 90
    alone = paired(a, b, margin=MARGIN, resamples=1000)
    assert alone == paired(a, b, groups=range(90), margin=MARGIN, resamples=1000) != found
    other = paired(a, b, groups=clip.tolist(), margin=MARGIN, resamples=1000, seed=1)
    assert other != found and other.low == pytest.approx(found.low, abs=0.03)
    turned = paired(b, a, groups=clip.tolist(), margin=MARGIN, resamples=10_000)
    assert turned.difference == pytest.approx(-found.difference)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=0.02)


def test_clips_that_repeat_their_pairs_are_no_more_than_one() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40)
    once = paired(a, b, margin=MARGIN)
    thrice = paired(np.repeat(a, 3), np.repeat(b, 3), groups=np.repeat(range(40), 3).tolist(), margin=MARGIN)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-12)
    pretended = paired(np.repeat(a, 3), np.repeat(b, 3), margin=MARGIN)
    assert pretended.high - pretended.low < 0.65 * (once.high - once.low)


# --- edges ---


def test_no_disagreement_is_the_rule_of_three() -> None:
    for n in (30, 100, 300, 1000):
        found = answers(n, 0, 0)
        assert found.difference == 0 and -found.low == found.high == pytest.approx(3 / n, rel=0.1)
        assert found.p_different == 1
    assert verdicts([answers(300, 0, 0)], MARGIN) == ["equivalent"]
    assert verdicts([answers(30, 0, 0)], MARGIN) == ["inconclusive"]  # 30 clips cannot show a difference of 5%


def test_all_differences_equal() -> None:
    for step in (0.2, 1.0):
        found = paired([step] * 50, [0.0] * 50, margin=MARGIN)
        assert found.low == pytest.approx(step - 3 / 50, rel=0.1)
        assert found.high == pytest.approx(min(1.0, step + 3 / 50), rel=0.1)
        assert found.low < found.difference <= found.high
    noisy = paired([0.1 + 0.2, 0.7, 0.5, 0.4, 0.9, 0.3] * 9, [0.1, 0.5, 0.3, 0.2, 0.7, 0.1] * 9, margin=MARGIN)
    exact = paired([0.25] * 54, [0.05] * 54, margin=MARGIN)
    assert (noisy.low, noisy.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_one_or_two_clips_tell_nothing() -> None:
    for groups in (None, ["the only clip"]):
        found = paired([0.9], [0.2], groups=groups, margin=MARGIN)
        assert (found.low, found.high, found.clips) == (-1, 1, 1)
        assert found.p_different == found.p_noninferior == found.p_equivalent == found.p_inferior == 1
    many = paired([1.0] * 50, [0.0] * 50, groups=[7] * 50, margin=MARGIN)
    assert (many.low, many.high, many.pairs, many.clips) == (-1, 1, 50, 1)
    two = paired([0.9, 0.8], [0.2, 0.1], margin=MARGIN)
    assert (two.low, two.high) == (-1, 1)
    four = paired([0.9, 0.9, 0.9, 0.91], [0.2] * 4, margin=MARGIN)
    assert four.low < 0.1 and four.high == 1
    assert verdicts([found, many, two], MARGIN) == ["inconclusive"] * 3


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([], [], {}, "no scores"),
        ([1.0], [1.0, 0.0], {}, "1 scores cannot be paired with 2;"),
        ([1.0, 0.0], [1.0, 0.0], {"groups": [1]}, "2 scores cannot be paired with 2 about 1 videos"),
        ([1.0, math.nan], [1.0, 0.0], {}, "lie in 0..1"),
        ([1.0, None], [1.0, 0.0], {}, "lie in 0..1"),
        ([1.0, 0.0], [1.0, 1.01], {}, "lie in 0..1"),
        ([-0.1], [1.0], {}, "lie in 0..1"),
        ([1.0], [1.0], {"margin": 0.0}, "margin of 0.0"),
        ([1.0], [1.0], {"margin": math.nan}, "margin of nan"),
        ([1.0], [1.0], {"confidence": 95}, "confidence of 95"),
        ([1.0], [1.0], {"resamples": 0}, "0 resamples"),
    ],
)
def test_what_cannot_be_compared(a: list[float], b: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        paired(a, b, **({"margin": MARGIN} | options))  # type: ignore[arg-type]


def test_to_json() -> None:
    found = paired([True, False, True], [True, True, True], margin=0.15)
    values = json.loads(json.dumps(found.to_json()))
    assert Paired(**values) == found
    assert (values["mean_a"], values["mean_b"], values["margin"], values["confidence"]) == (2 / 3, 1, 0.15, 0.95)


def test_it_is_cheap() -> None:
    rng = np.random.default_rng(4)
    started = time.process_time()
    for _ in range(4):  # of the 36 that a table of nine benchmarks and four scores takes
        paired(rng.random(600), rng.random(600), margin=MARGIN)
    assert time.process_time() - started < 2


# --- how often it is right ---


def binomial_error(share: float, trials: int) -> float:
    """Three standard errors."""
    return 3 * math.sqrt(share * (1 - share) / trials)


@pytest.mark.parametrize(
    ("pairs", "only_a", "only_b"),
    [(300, 0.005, 0.015), (300, 0.01, 0.02), (300, 0.0, 0.01), (300, 0.005, 0.005), (300, 0.0, 0.003),
     (300, 0.0, 0.05), (100, 0.005, 0.015), (100, 0.02, 0.05), (40, 0.05, 0.05)],
)
def test_coverage_of_right_and_wrong_answers_with_few_disagreements(pairs: int, only_a: float, only_b: float) -> None:
    """97% against 98% of 300 answers and the like: where plain percentiles hold 58 to 96%."""
    true = only_a - only_b
    assert chance(pairs, only_a, only_b, lambda found: found.low - 1e-9 <= true <= found.high + 1e-9) > 0.95
    assert chance(pairs, only_a, only_b, lambda found: found.low > true + 1e-9) < 0.025


def clustered_answers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    clip = np.repeat(np.arange(60), rng.integers(1, 10, 60))
    differ = rng.random(len(clip)) < rng.beta(0.03 * 7 / 3, 0.97 * 7 / 3, 60)[clip]  # correlated by 0.3 within a clip
    return np.where(differ, np.where(rng.random(len(clip)) < 1 / 3, 1.0, -1.0), 0.0), clip


def clustered_scores(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    clip = np.repeat(np.arange(25), 6)
    return rng.normal(-0.01, 0.1, 25)[clip] + rng.normal(0, 0.1, 150), clip


@pytest.mark.parametrize("draw", [clustered_answers, clustered_scores])
def test_coverage_of_clips_with_several_questions(draw: Callable) -> None:
    rng, trials, held, pretended = np.random.default_rng(5), 300, 0, 0
    for seed in range(trials):
        differences, clip = draw(rng)
        scores = split(np.clip(differences, -1, 1))
        found = paired(*scores, groups=clip.tolist(), margin=MARGIN, resamples=300, seed=seed)
        held += found.low <= -0.01 <= found.high
        alone = paired(*scores, margin=MARGIN, resamples=300, seed=seed)
        pretended += alone.low <= -0.01 <= alone.high
    assert held / trials > 0.95 - binomial_error(0.95, trials)
    assert pretended < held  # what the same data promise when videos are forgotten
    assert pretended / trials < 0.85 or draw is clustered_answers


@pytest.mark.parametrize(
    ("draw", "true"),
    [
        (lambda rng: rng.normal(0.02, 0.1, 10), 0.02),
        (lambda rng: rng.normal(0.02, 0.1, 100), 0.02),
        (lambda rng: (rng.random(100) < 0.1) * rng.beta(2, 6, 100) * np.where(rng.random(100) < 0.7, -1, 1), -0.01),
        (lambda rng: np.minimum(rng.exponential(0.1, 60), 1), 0.1),
    ],
    ids=["few, normal", "normal", "token F1, seldom different", "skewed"],
)
def test_coverage_of_scores(draw: Callable, true: float) -> None:
    rng, trials, held = np.random.default_rng(6), 300, 0
    for seed in range(trials):
        found = paired(*split(np.clip(draw(rng), -1, 1)), margin=MARGIN, resamples=300, seed=seed)
        held += found.low <= true <= found.high
    assert held / trials > 0.95 - binomial_error(0.95, trials)


def test_errors_at_the_margins_edge() -> None:
    """A difference of exactly the margin is called non-inferior or equivalent in 2.5% of cases at most."""
    for only_a, only_b in ((0.0, 0.05), (0.005, 0.055)):
        assert chance(300, only_a, only_b, lambda found: found.p_noninferior <= 0.025) < 0.025
        assert chance(300, only_a, only_b, lambda found: found.p_equivalent <= 0.025) < 0.025
        assert chance(300, only_b, only_a, lambda found: found.p_equivalent <= 0.025) < 0.025
        assert chance(300, only_b, only_a, lambda found: found.p_noninferior <= 0.025) > 0.999
    rng, trials, wrong = np.random.default_rng(7), 300, 0
    for seed in range(trials):
        scores = split(rng.normal(-MARGIN, 0.1, 30))
        wrong += paired(*scores, margin=MARGIN, resamples=300, seed=seed).p_equivalent <= 0.025
    assert wrong / trials < 0.025 + binomial_error(0.025, trials)


def test_errors_and_power_without_a_difference() -> None:
    assert chance(300, 0.02, 0.02, lambda found: found.p_different <= 0.05) < 0.05
    assert chance(300, 0.01, 0.01, lambda found: found.p_equivalent <= 0.025) > 0.98
    assert chance(300, 0.0, 0.01, lambda found: found.p_noninferior <= 0.025) > 0.95


# --- families ---


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, 0.02, 0.5, 0.9]) == pytest.approx([0.08, 0.08, 1, 1])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    for wrong in ([0.1, 1.1], [math.nan], [-0.1]):
        with pytest.raises(UsageError, match="p-values"):
            holm(wrong)


def step_down(p_values: list[float], alpha: float) -> set[int]:
    """Holm's own procedure: which tests are rejected."""
    left, rejected = dict(enumerate(p_values)), set()
    while left:
        smallest = min(left, key=lambda i: left[i])
        if left[smallest] > alpha / len(left):
            break
        del left[smallest]
        rejected.add(smallest)
    return rejected


def test_holm_is_the_step_down_procedure() -> None:
    rng = random.Random(8)
    for _ in range(200):
        p_values = [rng.choice((rng.random(), rng.random() / 50, 0.01, 0.0)) for _ in range(rng.randint(1, 9))]
        adjusted = holm(p_values)
        assert all(q >= p for p, q in zip(p_values, adjusted, strict=True))
        for i, j in itertools.product(range(len(p_values)), repeat=2):
            assert p_values[i] > p_values[j] or adjusted[i] <= adjusted[j]
        for alpha in (0.0123, 0.05, 0.2, 0.77):
            assert {i for i, q in enumerate(adjusted) if q <= alpha} == step_down(p_values, alpha)


SURE: dict[str, Paired] = {
    "equivalent": answers(300, 2, 2),
    "better": answers(300, 40, 2),
    "non-inferior": answers(300, 21, 10),
    "inferior": answers(300, 5, 80),
    "worse": answers(300, 2, 20),
    "inconclusive": answers(300, 12, 18),
}


def test_each_verdict_is_what_the_interval_shows() -> None:
    for name, found in SURE.items():
        assert verdicts([found], MARGIN) == [name]
    low, high = {name: found.low for name, found in SURE.items()}, {name: found.high for name, found in SURE.items()}
    assert low["equivalent"] > -MARGIN and high["equivalent"] < MARGIN
    assert low["better"] > 0
    assert -MARGIN < low["non-inferior"] < 0 and high["non-inferior"] > MARGIN
    assert high["inferior"] < -MARGIN
    assert low["worse"] < -MARGIN < high["worse"] < 0
    assert low["inconclusive"] < -MARGIN < 0 < high["inconclusive"]
    slightly = paired(np.linspace(0.52, 0.53, 300), [0.5] * 300, margin=MARGIN)
    assert slightly.low > 0 and verdicts([slightly], MARGIN) == ["equivalent"]


def test_families_are_corrected() -> None:
    assert verdicts(list(SURE.values()) * 2, MARGIN)[:2] == ["equivalent", "better"]
    barely = next(found for only_b in range(30) if 0.01 < (found := answers(300, 10, only_b)).p_noninferior <= 0.025
                  and found.p_equivalent == found.p_noninferior)
    assert verdicts([barely], MARGIN) == ["equivalent"]
    assert verdicts([barely, SURE["inferior"], SURE["inconclusive"]], MARGIN)[0] == "inconclusive"
    assert verdicts([], MARGIN) == []


def test_verdicts_need_results_of_their_kind() -> None:
    with pytest.raises(UsageError, match=r"margin of 0\.05 .* judged at 0\.15"):
        verdicts([answers(300, 1, 1)], 0.15)
    with pytest.raises(UsageError, match=r"confidence of 0\.95"):
        verdicts([answers(300, 1, 1)], MARGIN, alpha=0.1)
    with pytest.raises(UsageError, match="compute them anew"):
        verdicts([answers(300, 1, 1), replace(answers(300, 1, 1), margin=0.15)], MARGIN)
