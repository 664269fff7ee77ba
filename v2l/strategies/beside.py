"""What comes before or after something, across segments: where it is, and what the segments on both sides of it say.

A summed adapter has no order, so the segments are asked one by one: the one that surely shows the thing what comes
after it and, if nothing there does, the next one what it shows first. tests/measure/strategies.py measures this.
"""

from __future__ import annotations

import re

from v2l.config import Decoding
from v2l.model.answer import Answer
from v2l.model.claims import presupposed
from v2l.model.questions import Beside
from v2l.strategies.combined import combining_prompt
from v2l.strategies.parts import Parts, Scores, follows_instructions, shown_by, sure_from
from v2l.strategies.prepared import AsksMany, Prepared

NOTHING_FOLLOWS = "nothing"
"""What comes after the last thing of a video."""


def asked_beside(engine: AsksMany, parts: Parts, question: str, asked: Beside, scores: Scores, decoding: Decoding
                 ) -> Prepared:
    """What is left to ask of the part that shows something, which one does, or of the one after (before) it. Of a base
    that follows instructions both are asked, and it makes one answer of theirs."""
    shown = shown_by(engine, scores)
    sure = [i for i, score in enumerate(scores.by_part) if score >= sure_from(engine)]
    first, last = next(run for run in parts.stretches({*sure, shown[0]}) if run[0] <= shown[0] <= run[1])
    own, other = (last, last + 1) if asked.after else (first, first - 1)
    there = 0 <= other < len(parts) and parts.parts[other].video == parts.parts[own].video
    if not follows_instructions(engine):
        return _asked_in_words_of_few(engine, parts, question, asked, own, other if there else None)
    adjacent = f"{asked.asks} {'first' if asked.after else 'last'}?"
    rows = [(own, question), *([(other, adjacent)] if there else [])]
    answers = engine.ask_batch(((parts.joined([part]), prompt) for part, prompt in rows), decoding)
    told = sorted((part, parts.label(part), answer.text) for (part, _), answer in zip(rows, answers, strict=True))
    prompt = combining_prompt(question, [(when, text) for _, when, text in told])
    return Prepared(question, "each", [part for part, *_ in told], None, prompt, 0.0)


def _asked_in_words_of_few(engine: AsksMany, parts: Parts, question: str, asked: Beside, own: int, other: int | None
                           ) -> Prepared:
    """What is left to ask of the part that shows something, or of the one beside it, in words that a base which knows
    few questions knows."""
    asks = asked.asks if re.fullmatch(_KNOWN, asked.asks) else "What comes"
    named = presupposed(asked.thing)
    thing = f"the {named}" if named else asked.thing
    side, begins, ends = ("after", "first", "last") if asked.after else ("before", "last", "first")
    alone = parts.joined([own])
    farthest = next(engine.ask_batch([(alone, f"{asks} {ends}?")]))
    if not _names(farthest.text, thing):
        return Prepared(question, "route", [own], alone, f"{asks} {side} {thing}?", 0.0)
    if other is not None:
        return Prepared(question, "route", [other], parts.joined([other]), f"{asks} {begins}?", 0.0)
    return Prepared(question, "route", [own], None, question, 0.0, Answer(NOTHING_FOLLOWS, [], 0, 0, 0.0, 0.0))


_KNOWN = "What (?:comes|appears|is shown)"


def _names(answer: str, thing: str) -> bool:
    """Whether an answer of the embedded model's world names a thing, which may be called by its colour or shape."""
    words = set(re.findall(r"\w+", thing)) - {"the", "object", "thing", "one"}
    return words <= set(re.findall(r"\w+", answer.lower()))
