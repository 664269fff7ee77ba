"""Questions that are answered with times: by how surely each segment shows something, and when it is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from v2l.adapter.wall import at_text
from v2l.config import Decoding
from v2l.model.answer import Answer
from v2l.model.questions import BEGINS, HOW_OFTEN, WHEN, WHEN_LAST, WHEN_NOT, Earlier, when_of_how_often, yes_or_no
from v2l.strategies.parts import Parts, Scores, follows_instructions, shown_by, sure_from
from v2l.strategies.prepared import AsksMany, Prepared, ask_every_part, made_of, told_in_order
from v2l.wording import count_of


def told_when(engine: AsksMany, parts: Parts, question: str, name: str, scores: Scores, elapsed: float,
              decoding: Decoding) -> Prepared:
    """Answered by the times of the parts that are sure of it, by the last of them for WHEN_LAST, or by how many times
    these are for HOW_OFTEN, parts in a row being one. Where the base does not know what is asked about, the parts that
    say yes count, or no for WHEN_NOT; where none says that, and some say neither, what all say is the answer."""
    everything = list(range(len(parts)))
    said: list[Answer]
    if scores.answerable:
        threshold, tokens = sure_from(engine), scores.prompt_tokens // len(parts)
        by = [i for i in everything if scores.by_part[i] >= threshold]
        words = ("no", "yes") if name == WHEN_NOT else ("yes", "no")
        said = [Answer(words[0 if i in by else 1], [], tokens, 0, 0.0, 0.0, finite=not math.isnan(scores.by_part[i]))
                for i in everything]
    else:
        asked = yes_or_no(when_of_how_often(question) or question, follows_instructions(engine))
        said = list(*ask_every_part(engine, parts, [asked], replace(decoding, temperature=0.0)))
        begins = lambda word: [i for i, answer in enumerate(said) if answer.text.lower().startswith(word)]
        by, others = (begins("no"), begins("yes")) if name == WHEN_NOT else (begins("yes"), begins("no"))
        if not by and len(others) < len(said):
            return told_in_order(parts, question, WHEN, tuple(said), elapsed)
    if name == WHEN_LAST and by:
        by = by[-1:]
    text = _times(parts, by, name)
    by = by or everything
    return Prepared(question, WHEN, by, None, question, elapsed, made_of(said, text), tuple(said[i] for i in by),
                    tuple(scores.by_part[i] for i in by) if scores.answerable else ())


def _times(parts: Parts, by: Sequence[int], name: str) -> str:
    """In words, when some parts are."""
    runs = parts.stretches(by)
    text = ", ".join(parts.label(*ends) for ends in runs) or f"in none of {count_of(len(parts), 'segment')}"
    if name == HOW_OFTEN:
        return f"{count_of(len(runs), 'time')}: {text}"
    return f"last in {text}" if name == WHEN_LAST and by else text


def own_time(parts: Parts, question: str, name: str) -> Prepared:
    """When what was watched begins or ends, which needs no model."""
    at = 0 if name == BEGINS else len(parts) - 1
    part = parts.parts[at]
    of = f" of {part.source}" if parts.several_videos else ""
    text = at_text(part.started, part.start if name == BEGINS else part.end) + of
    answer = Answer(text, [], 0, 0, 0.0, 0.0, 0.0, True, "stop")
    return Prepared(question, WHEN, [at], None, question, 0.0, answer)


def told_which_first(engine: AsksMany, parts: Parts, question: str, asked: Earlier, scores: Sequence[Scores]
                     ) -> Prepared:
    """Answered by the times of the first moments of two things or, where one part shows both, by what it tells of them
    first; where it does not tell of both, it is asked the question."""
    names, shown = (asked.thing, asked.other), [shown_by(engine, each) for each in scores]
    answer = lambda text: Answer(text, [], sum(each.prompt_tokens for each in scores), 0, 0.0, 0.0)
    if gone := [name for name, some in zip(names, shown, strict=True) if not some]:
        text = f"{' and '.join(gone)} in none of {count_of(len(parts), 'segment')}"
        return Prepared(question, WHEN, list(range(len(parts))), None, question, 0.0, answer(text))
    one, other = places = [_first(engine, each.by_part, some) for each, some in zip(scores, shown, strict=True)]
    if one == other:
        told = next(engine.ask_batch([(parts.joined([one]), _TELL)])).text.lower()
        places = [told.find(re.sub(r"^(?:the|an?) ", "", name)) for name in names]
        if min(places) < 0 or places[0] == places[1]:
            return Prepared(question, "route", [one], parts.joined([one]), question, 0.0)
    is_so = (places[0] < places[1]) == asked.first
    short = ("yes" if is_so else "no") if asked.says_yes else names[not is_so]
    at = ", ".join(f"{name} {parts.label(part)}" for name, part in zip(names, (one, other), strict=True))
    return Prepared(question, WHEN, sorted({one, other}), None, question, 0.0, answer(f"{short}: {at}"))


def _first(engine: AsksMany, scores: Sequence[float], shown: Sequence[int]) -> int:
    """The first part that surely shows something, of some that do; the surest of them, where none is sure."""
    return min((i for i in shown if scores[i] >= sure_from(engine)), default=shown[0])


_TELL = "What happens?"
"""What has a segment tell of everything it shows, in the order of time."""
