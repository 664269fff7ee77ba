"""Scores of answers: worked examples, second implementations, other scripts; loops found and captions left alone."""

from __future__ import annotations

import itertools
import random
import re
import string
import time
from collections import Counter

import pytest

from v2l.errors import UsageError
from v2l.score.text import (
    common_subsequence,
    content_words,
    degeneration,
    exact_match,
    is_degenerate,
    rouge_l,
    token_f1,
    words,
)


def squad(text: str) -> list[str]:
    """Normalisation as SQuAD's evaluation describes it, for ASCII."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def naive_f1(a: list[str], b: list[str]) -> float:
    left, common = list(b), 0
    for word in a:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall)


def table(a: list[str], b: list[str]) -> int:
    """Longest common subsequence by the textbook's table."""
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        rows[i + 1][j + 1] = rows[i][j] + 1 if a[i] == b[j] else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


def texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    vocabulary = ["a", "the", "An", "red", "Red,", "ring", "moves", "down.", "then", "e-mail", "don't", "3", "(x)"]
    return [" ".join(rng.choices(vocabulary, k=rng.randint(1, 12))) for _ in range(count)]


def test_words_are_squads() -> None:
    for text in texts(0, 300):
        assert content_words(text) == squad(text) or not squad(text)


def test_f1_is_what_counting_by_hand_gives() -> None:
    answers, references = texts(1, 300), texts(2, 300)
    compared = 0
    for answer, reference in zip(answers, references, strict=True):
        if squad(answer) and squad(reference):
            assert token_f1(answer, reference) == pytest.approx(naive_f1(squad(answer), squad(reference)))
            compared += 1
    assert compared > 200


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1", "rouge"),
    [
        ("A red ring.", "the RED ring", 1, 1, 2 / 3),  # ROUGE keeps the articles, which differ
        ("red ring", "ring red", 0, 1, 0.5),
        ("red red red", "red", 0, 0.5, 0.5),
        ("blue star", "red ring", 0, 0, 0),
        ("The gunman kill police", "police killed the gunman", 0, 2 / 3, 0.5),  # Lin 2004, section 3: 2 of 4 in order
        ("", "", 1, 1, 1),
        ("", "red", 0, 0, 0),
        ("red", "", 0, 0, 0),
        ("   ", "", 1, 1, 1),
        ("A", "B", 0, 0, 0),  # letters of choices: normalised like SQuAD both would be nothing and match
        ("A.", "a", 1, 1, 1),
        ("+", "-", 0, 0, 0),
        ("", "the", 0, 0, 0),
    ],
)
def test_by_hand(answer: str, reference: str, exact: float, f1: float, rouge: float) -> None:
    assert exact_match(answer, reference) == exact
    assert token_f1(answer, reference) == pytest.approx(f1)
    assert rouge_l(answer, reference) == pytest.approx(rouge)


def test_the_best_reference_counts() -> None:
    references = ("a blue star", "a red ring")
    assert exact_match("Red ring", references) == token_f1("Red ring", references) == 1
    assert token_f1("red star", references) == 0.5
    assert rouge_l("a red ring moves", references) == pytest.approx(6 / 7)
    for score in (exact_match, token_f1, rouge_l):
        assert score("red ring", list(references)) == score("red ring", references[::-1])
        with pytest.raises(UsageError, match="without a reference"):
            score("red ring", ())


@pytest.mark.parametrize(
    ("answer", "same", "other"),
    [
        ("красное кольцо", "Красное кольцо.", "синяя звезда"),
        ("红色的圆环", "红色的圆环。", "蓝星"),
        ("赤いリング", "赤いリング！", "青の星"),
        ("빨간 고리", "빨간 고리.", "파란 별"),
        ("حلقة حمراء", "حلقة حمراء؟", "نجمة زرقاء"),
        ("लाल अंगूठी", "लाल अंगूठी।", "नीला तारा"),
        ("l’anneau", "l'anneau", "l’étoile"),
        ("ＡＢＣ １２", "abc 12", "xyz"),
        ("Straße", "STRASSE", "Weg"),
        ("down—then up", "down – then up", "left"),
        ("cafe\u0301", "café", "the"),
        ("👍", "👍", "👎"),
    ],
)
def test_other_scripts(answer: str, same: str, other: str) -> None:
    assert content_words(answer)
    assert exact_match(answer, same) == token_f1(answer, same) == rouge_l(answer, same) == 1
    assert exact_match(answer, other) == token_f1(answer, other) == rouge_l(answer, other) == 0


def test_scripts_without_spaces_are_compared_in_part() -> None:
    assert token_f1("红圆环", "红色圆环") == pytest.approx(6 / 7)
    assert rouge_l("环圆", "圆环") == 0.5
    assert words("第3个ring") == ["第", "3", "个", "ring"]


def test_common_subsequence_is_the_tables() -> None:
    rng = random.Random(3)
    for _ in range(300):
        kinds = "abcdefgh"[: rng.randint(1, 8)]
        a, b = (rng.choices(kinds, k=rng.randint(0, 70)) for _ in range(2))
        assert common_subsequence(a, b) == table(a, b) == common_subsequence(b, a)


def test_long_captions_are_cheap() -> None:
    rng = random.Random(4)
    a, b = (" ".join(rng.choices([f"word{i}" for i in range(200)], k=500)) for _ in range(2))
    started = time.process_time()
    for _ in range(20):
        rouge_l(a, b)
    assert time.process_time() - started < 1  # the table takes some 50 ms each


COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("ring", "star", "circle", "square", "triangle", "cross")
PROSE = """
A man in a grey coat walks along a pier while gulls circle above the boats. He stops at the railing, looks at the water
for some time and takes a photograph. A child runs past him with a kite, and the man turns around to watch the kite rise
above the roofs of the harbour. The camera then pans to the left, where two women are unloading crates of fish from a
small blue boat onto the pier. One of them waves at the child, who waves back.
"""
MOTIONS = ("moves down", "moves up", "moves left", "stays still", "grows", "shrinks")


def enumeration(seed: int, items: int) -> str:
    """A caption in fixed words, as repetitive as a right one gets; no event comes twice."""
    events = list(itertools.product(COLOURS, SHAPES, MOTIONS))
    chosen = random.Random(seed).sample(events, items)
    return "On a white background, " + ", then ".join(f"a {c} {s} {m}" for c, s, m in chosen) + "."


def test_captions_are_no_loops() -> None:
    for seed, items in itertools.product(range(20), (1, 2, 3, 4, 6, 8, 12, 16, 20)):
        caption = enumeration(seed, items)
        assert not is_degenerate(caption), caption
        assert degeneration(caption) < 0.4
    prose = PROSE.split()
    for length in range(1, len(prose) + 1):
        assert not is_degenerate(" ".join(prose[:length]))
    for answer in ("yes", "No.", "3", "A", "no, no, no, no", "tick tock tick tock", "1000000000", "1, 2, 3, 4, 5, 6, 7",
                   "a red ring moves down, then a green star moves down", "红色的圆环向下移动", "да",
                   "a red ring, a red ring and a red ring", "Ring A, ring B, ring C, ring D, ring E and ring F."):
        assert not is_degenerate(answer), answer


@pytest.mark.parametrize("unit", ["down ", "a red ring moves down, then ", "The man walks. ", "红色的圆环，", "!", "0",
                                  "the the ", "- \n", "He looks at the camera and then he looks at the wall. "])
def test_loops_are_found_wherever_they_are_cut(unit: str) -> None:
    whole = unit * max(5, 130 // len(unit))
    for cut in range(len(unit)):
        for lead in ("", "A man walks along a pier while gulls circle above the boats. "):
            assert is_degenerate(lead + whole[: len(whole) - cut]), (lead, cut)


def test_loops_that_vary() -> None:
    counting = " ".join(f"In frame {i} a man is seen walking along the pier." for i in range(12))
    assert degeneration(counting) > 0.5
    assert is_degenerate(counting)
    assert is_degenerate("the man walks along the pier and " * 10 + "then it ends.")


@pytest.mark.parametrize("nothing", ["", " ", "\n", ".", "...", "?!", "👍"])
def test_nothing_said(nothing: str) -> None:
    assert is_degenerate(nothing)
    assert degeneration(nothing) == 0


def test_repeated_four_grams_by_hand() -> None:
    assert degeneration("a b c d") == degeneration("a b c") == 0
    assert degeneration("a b c d e a b c d") == pytest.approx(1 / 6)
    assert degeneration("x " * 10) == pytest.approx(6 / 7)
    for text in texts(5, 50):
        grams = Counter(tuple(words(text)[i : i + 4]) for i in range(len(words(text)) - 3))
        assert degeneration(text) == pytest.approx(sum(n - 1 for n in grams.values()) / max(1, grams.total()))
