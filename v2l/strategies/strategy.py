"""Many segments, one question: which of them answer it, and how (tests/measure/strategies.py measures).

Summing all segments in rank space (v2l/README.md section 6) garbles answers as they become many. Every segment is an
adapter by itself, though, and a batch asks them all in little more time than one. So a question to an adapter of many
segments becomes a question to a smaller one (`route`), or to the bare base with the segments' answers in the prompt
(`each`), or is answered by what every segment says and when (`timeline`; `when`, of yes and no). Which it needs, its
words tell (`v2l.model.questions`).
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

from v2l.adapter.wall import at_text
from v2l.config import Decoding, Strategy
from v2l.model.answer import Answer
from v2l.model.questions import (
    BEGINS,
    ENDS,
    FIRST_PART,
    LAST_PART,
    WHEN,
    WHEN_LAST,
    WHEN_NOT,
    WHOLE,
    clock_time_in,
    kind_of,
    time_in,
    yes_or_no,
)
from v2l.model.text import LayerAdapter
from v2l.strategies.parts import Part, Parts, Scores, ScoresMany, follows_instructions, score_parts, sure_from
from v2l.wording import count_of, wall_time

RARITY = 0.05
"""What an answer gains, for each factor e by which fewer segments give it, in units of its mean log-probability."""
COMBINED_AT_ONCE = 16
"""Answers the base reads at once to make one of them; more are combined in rounds."""


class AsksMany(ScoresMany, Protocol):
    """What is needed of an engine here: its base, and answers to many questions at once."""

    def ask_batch(self, rows: Iterable[tuple[list[LayerAdapter] | None, str]], decoding: Decoding | None = None
                  ) -> Iterator[Answer]:
        """`Engine.ask_batch`, of adapters that are bound."""


@dataclass(frozen=True)
class Prepared:
    """What is left to ask for one question, or the answer if there is nothing left."""

    question: str
    strategy: str
    """join, route, each, timeline or when."""
    by: list[int]
    """The parts that answer."""
    adapter: list[LayerAdapter] | None
    prompt: str
    """The question to put to `adapter`."""
    elapsed: float
    """Seconds spent on it so far."""
    answer: Answer | None = None
    said: tuple[Answer, ...] = ()
    """What each of `by` said, if the answer is made of that."""
    scores: tuple[float, ...] = ()
    """How surely each of `by` shows what is asked for, if the answer is made of that (`v2l.strategies.parts`)."""


def prepare(
    engine: AsksMany, parts: Parts, questions: Sequence[str], strategy: Strategy, decoding: Decoding
) -> Iterator[Prepared]:
    """What is left to ask for each question, in order. Segments are asked here, one batch a strategy."""
    held = [_held(parts, question) if strategy.name == "auto" else None for question in questions]
    names = [_AT if at else chosen_strategy(strategy, len(parts), question)
             for at, question in zip(held, questions, strict=True)]
    started = time.perf_counter()
    probed = _probed(engine, parts, questions, names, strategy, decoding)
    scored = _scored(engine, parts, [q for q, name in zip(questions, names, strict=True) if name in _WHENS])
    elapsed = time.perf_counter() - started
    for at, question, name in zip(held, questions, names, strict=True):
        if at:
            yield Prepared(question, "route", at[1], parts.joined(at[1], strategy.segment_scale), at[0], 0.0)
            continue
        if name in _ITS_OWN:
            yield _own_time(parts, question, name)
            continue
        if name in _ENDS or name == "join":
            by = [0] if name == FIRST_PART else [len(parts) - 1] if name == LAST_PART else list(range(len(parts)))
            adapter = parts.joined(by, strategy.segment_scale)
            yield Prepared(question, "join" if name == "join" else "route", by, adapter, question, 0.0)
            continue
        if name in _WHENS:
            yield _when(engine, parts, question, name, next(scored), elapsed, decoding)
            continue
        answers = next(probed[name])
        if name == "route":
            by = sorted(ranked(answers)[: strategy.best])
            yield Prepared(question, name, by, parts.joined(by, strategy.segment_scale), question, elapsed)
        elif name == "each" and follows_instructions(engine):
            started = time.perf_counter()
            prompt = _combine(engine, parts, question, [answer.text for answer in answers], decoding)
            yield Prepared(question, name, list(range(len(parts))), None, prompt,
                           elapsed + time.perf_counter() - started)
        else:
            yield _timeline(parts, question, name, answers, elapsed)


_ENDS = (FIRST_PART, LAST_PART)
_WHENS = (WHEN, WHEN_NOT, WHEN_LAST)
_ITS_OWN = (BEGINS, ENDS)
_AT = "at"
"""Asked of the segments that hold a time."""


def _held(parts: Parts, question: str) -> tuple[str, list[int]] | None:
    """A question that ends in a time without it, and the parts that hold this time; None where none does. Of what was
    watched live a time is one of the clock here, the last such time that is held, if one is."""
    if found := clock_time_in(question):
        asked, day, clock = found
        moments = {i: max(held) for i, part in enumerate(parts.parts) if (held := list(_moments(part, day, clock)))}
        if moments:
            return asked, [i for i, moment in moments.items() if moment == max(moments.values())]
    at = time_in(question)
    if not at:
        return None
    asked, seconds = at
    held_by = [i for i, part in enumerate(parts.parts) if part.start <= seconds < part.end]
    return (asked, held_by) if held_by else None


def _moments(part: Part, day: str, clock: str) -> Iterator[datetime]:
    """The moments of a part that was watched live at which a clock here showed this time, on that day or on any."""
    if part.started is None:
        return
    first, last = (part.started + timedelta(seconds=at) for at in (part.start, part.end))
    for one in {day} if day else {f"{moment.astimezone():%Y-%m-%d}" for moment in (first, last)}:
        moment = wall_time(f"{one} {clock}")
        if moment and first <= moment < last:
            yield moment


def _probed(engine: AsksMany, parts: Parts, questions: Sequence[str], names: Sequence[str], strategy: Strategy,
            decoding: Decoding) -> dict[str, Iterator[tuple[Answer, ...]]]:
    """What every part answers: for each strategy that asks them, the answers to its questions in order."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for question, name in zip(questions, names, strict=True):
        if name not in ("join", _AT, *_ENDS, *_WHENS, *_ITS_OWN):
            wanted[name].append(question)
    found = {}
    for name, asked in wanted.items():
        limit = min(decoding.max_new_tokens, strategy.probe_tokens) if name == "route" else None
        exact = replace(decoding, max_new_tokens=limit or decoding.max_new_tokens, temperature=0.0)
        found[name] = iter(_ask_every_part(engine, parts, asked, exact))
    return found


def _scored(engine: AsksMany, parts: Parts, questions: Sequence[str]) -> Iterator[Scores]:
    """How surely every part shows what each question asks the times of."""
    return iter(next(score_parts(engine, [parts], questions))[1] if questions else [])


def ask_prepared(
    engine: AsksMany, prepared: Iterable[Prepared], decoding: Decoding
) -> Iterator[tuple[Prepared, Answer]]:
    """Each of `prepared`, of one adapter or of many, with its answer, in order; asked in batches."""
    for answered, group in groupby(prepared, key=lambda each: each.answer is not None):
        if answered:
            yield from ((each, each.answer) for each in group if each.answer)
        else:
            yield from _ask(engine, group, decoding)


def _ask(engine: AsksMany, prepared: Iterable[Prepared], decoding: Decoding) -> Iterator[tuple[Prepared, Answer]]:
    waiting: deque[Prepared] = deque()

    def rows() -> Iterator[tuple[list[LayerAdapter] | None, str]]:
        for each in prepared:
            waiting.append(replace(each, adapter=None))  # the batch alone holds on to adapters
            yield each.adapter, each.prompt

    for answer in engine.ask_batch(rows(), decoding):
        yield waiting.popleft(), answer


def chosen_strategy(strategy: Strategy, parts: int, question: str) -> str:
    """The strategy for a question, `auto` resolved: a name, or a kind of question that is a strategy by itself. With
    one part there is nothing to choose from, and it is `join`, but for times."""
    kind = kind_of(question) if strategy.name == "auto" else None
    if kind in (*_WHENS, *_ITS_OWN):
        return str(kind)
    if parts == 1:
        return "timeline" if strategy.name == "timeline" else "join"
    if strategy.name != "auto":
        return strategy.name
    if kind in _ENDS:
        return str(kind)
    if kind == WHOLE:
        return "timeline"
    return "join" if parts <= strategy.join_up_to else "route"


def _ask_every_part(
    engine: AsksMany, parts: Parts, questions: Sequence[str], decoding: Decoding
) -> list[tuple[Answer, ...]]:
    """The answers of the parts, in their order, for each question."""
    def rows() -> Iterator[tuple[list[LayerAdapter], str]]:
        for part in range(len(parts)):
            alone = parts.joined([part])
            yield from ((alone, question) for question in questions)

    answers = list(engine.ask_batch(rows(), decoding))
    return [tuple(answers[i :: len(questions)]) for i in range(len(questions))]


def ranked(answers: Sequence[Answer]) -> list[int]:
    """The parts from the best to the worst, by how sure each is of its own answer, and a little by how few agree.

    A segment that shows nothing of what is asked about is less sure of what it says. Where it is sure that there is
    nothing ("no"), all others like it say the same, and the one that says otherwise has seen something. Measured on the
    embedded model, the likelihood of the question's words, which needs no answer, chose hardly better than chance (its
    training never scored questions); how much surer a segment is than the hypernetwork's bias alone, or than the other
    segments are of the same answer, chose worse than this or no better.
    """
    same = Counter(answer.text for answer in answers)
    scores = [answer.logprob - RARITY * math.log(same[answer.text] / len(answers)) for answer in answers]
    return sorted(range(len(answers)), key=lambda i: -scores[i])


# One answer out of many.


def _timeline(parts: Parts, question: str, name: str, answers: tuple[Answer, ...], elapsed: float) -> Prepared:
    """Answered by what every part says, a line each."""
    everything = list(range(len(parts)))
    lines = [f"{parts.label(i)}: {' '.join(answer.text.split())}" for i, answer in enumerate(answers)]
    return Prepared(question, name, everything, None, question, elapsed, _of_all(answers, "\n".join(lines)), answers)


def _when(engine: AsksMany, parts: Parts, question: str, name: str, scores: Scores, elapsed: float, decoding: Decoding
          ) -> Prepared:
    """Answered by the times of the parts that are sure of it, or of the last of them for WHEN_LAST. Where the base does
    not know what is asked about, the parts that say yes count, or no for WHEN_NOT; where none says that, and some say
    neither, what all say is the answer."""
    everything = list(range(len(parts)))
    said: list[Answer]
    if scores.answerable:
        threshold, tokens = sure_from(engine), scores.prompt_tokens // len(parts)
        by = [i for i in everything if scores.by_part[i] >= threshold]
        words = ("no", "yes") if name == WHEN_NOT else ("yes", "no")
        said = [Answer(words[0 if i in by else 1], [], tokens, 0, 0.0, 0.0, finite=not math.isnan(scores.by_part[i]))
                for i in everything]
    else:
        asked = yes_or_no(question, follows_instructions(engine))
        said = list(*_ask_every_part(engine, parts, [asked], replace(decoding, temperature=0.0)))
        begins = lambda word: [i for i, answer in enumerate(said) if answer.text.lower().startswith(word)]
        by, others = (begins("no"), begins("yes")) if name == WHEN_NOT else (begins("yes"), begins("no"))
        if not by and len(others) < len(said):
            return _timeline(parts, question, WHEN, tuple(said), elapsed)
    if name == WHEN_LAST and by:
        by = by[-1:]
    text = ", ".join(parts.label(*ends) for ends in parts.stretches(by))
    if not by:
        text = f"in none of {count_of(len(parts), 'segment')}"
    elif name == WHEN_LAST:
        text = f"last in {text}"
    by = by or everything
    return Prepared(question, WHEN, by, None, question, elapsed, _of_all(said, text), tuple(said[i] for i in by),
                    tuple(scores.by_part[i] for i in by) if scores.answerable else ())


def _own_time(parts: Parts, question: str, name: str) -> Prepared:
    """When what was watched begins or ends, which needs no model."""
    at = 0 if name == BEGINS else len(parts) - 1
    part = parts.parts[at]
    of = f" of {part.source}" if parts.several_videos else ""
    text = at_text(part.started, part.start if name == BEGINS else part.end) + of
    answer = Answer(text, [], 0, 0, 0.0, 0.0, 0.0, True, "stop")
    return Prepared(question, WHEN, [at], None, question, 0.0, answer)


def _of_all(answers: Sequence[Answer], text: str) -> Answer:
    """An answer made of others, which all had to be there first."""
    whole = max(answer.total_s for answer in answers)
    return Answer(text, [token for answer in answers for token in answer.ids], sum(a.prompt_tokens for a in answers), 0,
                  whole, whole, sum(answer.logprob for answer in answers) / len(answers),
                  all(answer.finite for answer in answers),
                  "length" if any(answer.finish == "length" for answer in answers) else "stop")


def _combine(engine: AsksMany, parts: Parts, question: str, answers: Sequence[str], decoding: Decoding) -> str:
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
