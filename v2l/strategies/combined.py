"""One answer that a base which follows instructions makes of the answers of many segments."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.config import Decoding
from v2l.strategies.parts import Parts
from v2l.strategies.prepared import AsksMany

COMBINED_AT_ONCE = 16
"""Answers the base reads at once to make one of them; more are combined in rounds."""


def prompt_of_all(engine: AsksMany, parts: Parts, question: str, answers: Sequence[str], decoding: Decoding) -> str:
    """The prompt that has the bare base make one answer of the parts' answers, which are combined in rounds first where
    they are many."""
    partial = [((i, i), answer) for i, answer in enumerate(answers)]
    labelled = lambda some: [(parts.label(*ends), answer) for ends, answer in some]
    while len(partial) > COMBINED_AT_ONCE:
        groups = [partial[i : i + COMBINED_AT_ONCE] for i in range(0, len(partial), COMBINED_AT_ONCE)]
        rows = ((None, combining_prompt(question, labelled(group))) for group in groups)
        partial = [((group[0][0][0], group[-1][0][1]), answer.text)
                   for group, answer in zip(groups, engine.ask_batch(rows, decoding), strict=True)]
    return combining_prompt(question, labelled(partial))


def combining_prompt(question: str, answers: Sequence[tuple[str, str]]) -> str:
    """(when, answer) pairs in the order of time -> a user message for a base that follows instructions."""
    lines = [f"From {when}: {' '.join(answer.split())}" for when, answer in answers]
    return (f"A video was watched in {len(answers)} parts, and of each part this question was asked: {question}\n"
            "These are the answers, in the order of time:\n" + "\n".join(lines) + "\n"
            "A part that does not show what is asked about may have been answered wrongly. "
            f"Using only these answers, answer the question about the whole video, briefly: {question}")
