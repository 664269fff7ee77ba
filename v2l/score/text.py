"""How well an answer fits its references: exact match, token F1, ROUGE-L, each 0..1 and the best over the references.
And whether it is an answer at all, or a loop.

Words are compared as SQuAD's evaluation does (Rajpurkar et al. 2016): lower case, no punctuation, no articles, any
white space. Where that would leave nothing of an answer ("A", "the", "+"), what it would have lost is kept, so that a
choice named by its letter counts. Outside ASCII, which SQuAD does not treat, compatible characters are made one
(full-width letters, say), punctuation and symbols part words, and scripts written without spaces (Han, kana) are
compared character by character, as in MLQA (Lewis et al. 2020).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from v2l.errors import UsageError

LOOPS = 4
"""An answer whose end is the same characters so many times in a row is in a loop."""
SHORTEST_LOOP = 24
"""Characters that they must make up together: "no, no, no, no" is not a loop yet."""
REPEATED = 0.5
"""Share of repeated 4-grams from which on an answer counts as degenerate. Captions and enumerations in fixed words stay
below 0.4 (tests/test_scores.py)."""
FEWEST_WORDS = 16
"""Number of words below which the share of repeated 4-grams says nothing."""

_ARTICLES = frozenset(("a", "an", "the"))
_DROPPED = str.maketrans("", "", string.punctuation + "‘’‚‛“”„‟")
_ALONE = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
"""A character of Han or kana."""

References = str | Sequence[str]


def words(text: str) -> list[str]:
    """The words of a text in lower case without punctuation; what consists of nothing else is kept as it is."""
    text = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text.translate(_DROPPED))
    return _ALONE.sub(r" \1 ", spaced).split() or text.split()


def content_words(text: str) -> list[str]:
    """`words` without articles; a text of articles alone keeps them."""
    every = words(text)
    return [word for word in every if word not in _ARTICLES] or every


def exact_match(answer: str, references: References) -> float:
    """1 if the answer's words are those of a reference, in order; two empty texts match."""
    return _best(lambda mine, other: float(mine == other), content_words, answer, references)


def token_f1(answer: str, references: References) -> float:
    """Harmonic mean of precision and recall of the answer's words, each counted as often as it stands in both.
    Of an empty answer: 1 if the reference is empty, too, else 0."""
    return _best(lambda mine, other: _f1((Counter(mine) & Counter(other)).total(), mine, other), content_words, answer,
                 references)


def rouge_l(answer: str, references: References) -> float:
    """ROUGE-L (Lin 2004) with beta 1: harmonic mean of precision and recall of the longest common subsequence of words.
    Articles count, as word order does. Of an empty answer: 1 if the reference is empty, too, else 0."""
    return _best(lambda mine, other: _f1(common_subsequence(mine, other), mine, other), words, answer, references)


def _best(score: Callable[[list[str], list[str]], float], split: Callable[[str], list[str]], answer: str,
          references: References) -> float:
    texts = [references] if isinstance(references, str) else references
    if not texts:
        raise UsageError("An answer cannot be scored without a reference; give target_text or answer in the manifest.")
    mine = split(answer)
    return max(score(mine, split(text)) for text in texts)


def _f1(common: int, mine: Sequence[str], other: Sequence[str]) -> float:
    return 2 * common / (len(mine) + len(other)) if mine or other else 1.0


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    The rows of the usual table differ by 0 or 1 from place to place; as the bits of one integer a row follows from the
    one before in four operations (Crochemore et al. 2001), so that memory is linear and long captions are cheap.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    row = whole = (1 << len(a)) - 1
    for word in b:
        matching = row & places.get(word, 0)
        row = (row + matching | row - matching) & whole
    return len(a) - row.bit_count()


def degeneration(answer: str) -> float:
    """Share of the answer's 4-grams of words that stood in it before: 1 - different / all, known as seq-rep-4
    (Welleck et al. 2020). 0 for fewer than four words."""
    split = words(answer)
    grams = list(zip(*(split[start:] for start in range(4)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def is_degenerate(answer: str) -> bool:
    """Whether an answer says nothing or goes round in circles: it has no letter or digit, or its end is the same
    LOOPS times over, or half of its 4-grams are repeats.

    Greedy decoding falls into a loop and stays there (Holtzman et al. 2020), so the end tells, also in the middle of a
    round and in any script. The 4-grams find loops that count or vary as they go ("frame 1 shows .., frame 2 ..").
    """
    text = " ".join(answer.casefold().split())
    if not any(character.isalnum() for character in text):
        return True
    if _loops(text) or _loops(text.rstrip(string.punctuation)):  # a last full stop does not end a loop
        return True
    return len(words(answer)) >= FEWEST_WORDS and degeneration(answer) >= REPEATED


def _loops(text: str) -> bool:
    return any(text.endswith(text[-size:] * max(LOOPS, -(-SHORTEST_LOOP // size)))
               for size in range(1, len(text) // LOOPS + 1))
