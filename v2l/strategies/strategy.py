"""Many segments, one question: which of them answer it, and how (tests/measure/strategies.py measures).

Summing all segments in rank space (v2l/README.md section 6) garbles answers as they become many, and has no order.
Every segment is an adapter by itself, though, and a batch asks them all in little more time than one. So a question to
an adapter of many segments becomes a question to a smaller one (`route`), or to the bare base with the segments'
answers in the prompt (`each`), or is answered by what every segment says and when (`timeline`; `when`, of yes and no).
Which it needs, its words tell (`v2l.model.questions`).
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby

from v2l.config import Decoding, Strategy
from v2l.model.answer import Answer
from v2l.model.claims import presupposed
from v2l.model.questions import (
    AFTER,
    BEFORE,
    BEGINS,
    EARLIER,
    ENDS,
    FIRST_PART,
    HOW_OFTEN,
    LAST_PART,
    WHEN,
    WHEN_LAST,
    WHEN_NOT,
    WHOLE,
    beside_in,
    clock_time_in,
    earlier_in,
    kind_of,
    time_in,
    when_of_how_often,
)
from v2l.model.text import LayerAdapter
from v2l.strategies.beside import asked_beside
from v2l.strategies.combined import prompt_of_all
from v2l.strategies.parts import Part, Parts, Scores, follows_instructions, score_parts, shown_by
from v2l.strategies.prepared import AsksMany, Prepared, ask_every_part, told_in_order
from v2l.strategies.times import own_time, told_when, told_which_first
from v2l.wording import wall_time

RARITY = 0.05
"""What an answer gains, for each factor e by which fewer segments give it, in units of its mean log-probability."""


def prepare(
    engine: AsksMany, parts: Parts, questions: Sequence[str], strategy: Strategy, decoding: Decoding
) -> Iterator[Prepared]:
    """What is left to ask for each question, in order. Segments are asked here, one batch a strategy."""
    started = time.perf_counter()
    finds = not follows_instructions(engine)
    names = [_AT if strategy.name == "auto" and _held(parts, question) else
             chosen_strategy(strategy, len(parts), question, finds) for question in questions]
    scored = _scored(engine, parts, questions, names)
    names = [name if _can_be_told(engine, name, scores) else _of_moment(strategy, len(parts), question, finds)
             for name, question, scores in zip(names, questions, scored, strict=True)]
    probed = _probed(engine, parts, questions, names, scored, strategy, decoding)
    elapsed = time.perf_counter() - started
    for question, name, scores in zip(questions, names, scored, strict=True):
        if name in _ITS_OWN:
            yield own_time(parts, question, name)
        elif name in _WHENS:
            yield told_when(engine, parts, question, name, scores[0], elapsed, decoding)
        elif name in _SIDES:
            yield _by_sides(engine, parts, question, scores, elapsed, decoding, strategy.segment_scale)
        elif name in _TOLD:
            yield _told(engine, parts, question, name, next(probed[name]), elapsed, decoding)
        else:
            answers = next(probed[name]) if _needs_answers(engine, name, scores) else ()
            asked, by, sure = _asked_of(engine, parts, question, name, scores, answers, strategy.best)
            yield Prepared(question, "join" if name == "join" else "route", by,
                           parts.joined(by, strategy.segment_scale), asked, elapsed if name == "route" else 0.0,
                           scores=sure)


_ENDS = (FIRST_PART, LAST_PART)
_WHENS = (WHEN, WHEN_NOT, WHEN_LAST, HOW_OFTEN)
_SIDES = (AFTER, BEFORE, EARLIER)
_ITS_OWN = (BEGINS, ENDS)
_TOLD = ("each", "timeline")
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


def _scored(engine: AsksMany, parts: Parts, questions: Sequence[str], names: Sequence[str]) -> list[list[Scores]]:
    """For each question, how surely every part shows each thing that has to be looked for."""
    queries = [_looked_for(engine, question, name) for question, name in zip(questions, names, strict=True)]
    wanted = list(dict.fromkeys(query for some in queries for query in some))  # each once
    scores = dict(zip(wanted, next(score_parts(engine, [parts], wanted))[1], strict=True)) if wanted else {}
    return [[scores[query] for query in some] for some in queries]


def _can_be_told(engine: AsksMany, name: str, scores: Sequence[Scores]) -> bool:
    """Whether what comes before or after something is told from where that is; any other question can be."""
    if name == EARLIER:
        return all(one.answerable for one in scores)
    return name not in _SIDES or bool(shown_by(engine, scores[0]))


def _looked_for(engine: AsksMany, question: str, name: str) -> list[str]:
    if name in _WHENS:
        return [when_of_how_often(question) or question]
    few = not follows_instructions(engine)
    beside, earlier = (beside_in(question), earlier_in(question)) if name in _SIDES else (None, None)
    if beside:
        return [(few and presupposed(beside.thing)) or beside.thing]
    if earlier:
        return list(earlier.queries)
    named = presupposed(question) if name == "route" and few else ""
    return [named] if named else []


def _probed(engine: AsksMany, parts: Parts, questions: Sequence[str], names: Sequence[str],
            scored: Sequence[Sequence[Scores]], strategy: Strategy, decoding: Decoding
            ) -> dict[str, Iterator[tuple[Answer, ...]]]:
    """What every part answers: for each strategy that asks them, the answers to its questions in order. To route, they
    are asked only where scores do not tell which parts to ask."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for question, name, scores in zip(questions, names, scored, strict=True):
        if _needs_answers(engine, name, scores):
            wanted[name].append(question)
    found = {}
    for name, asked in wanted.items():
        limit = min(decoding.max_new_tokens, strategy.probe_tokens) if name == "route" else None
        exact = replace(decoding, max_new_tokens=limit or decoding.max_new_tokens, temperature=0.0)
        found[name] = iter(ask_every_part(engine, parts, asked, exact))
    return found


def _needs_answers(engine: AsksMany, name: str, scores: Sequence[Scores]) -> bool:
    return name in _TOLD or (name == "route" and not (scores and shown_by(engine, scores[0])))


def _asked_of(engine: AsksMany, parts: Parts, question: str, name: str, scores: Sequence[Scores],
              answers: Sequence[Answer], best: int) -> tuple[str, list[int], tuple[float, ...]]:
    """The question to put to some parts, these, and their scores where they were chosen by them. To route, the one
    part that most surely shows what is named; where none does, by the `answers` of all."""
    everything = list(range(len(parts)))
    if name == _AT and (held := _held(parts, question)):
        return *held, ()
    if name in _ENDS:
        return question, everything[:1] if name == FIRST_PART else everything[-1:], ()
    if name == "join":
        return question, everything, ()
    if not answers:
        surest = shown_by(engine, scores[0])[0]
        return question, [surest], (scores[0].by_part[surest],)
    if scores and scores[0].answerable:  # it is nowhere, and one that says otherwise guesses
        return question, [max(everything, key=lambda i: answers[i].logprob)], ()
    return question, sorted(ranked(answers)[:best]), ()


def _by_sides(engine: AsksMany, parts: Parts, question: str, scores: Sequence[Scores], elapsed: float,
              decoding: Decoding, scale: float | None) -> Prepared:
    """Answered by what comes before or after something, of which the scores are."""
    started = time.perf_counter()
    beside, earlier = beside_in(question), earlier_in(question)
    if beside:
        found = asked_beside(engine, parts, question, beside, scores[0], decoding)
    elif earlier:
        found = told_which_first(engine, parts, question, earlier, scores)
    return replace(found, adapter=found.adapter and parts.joined(found.by, scale),
                   elapsed=elapsed + time.perf_counter() - started)


def _told(engine: AsksMany, parts: Parts, question: str, name: str, answers: tuple[Answer, ...], elapsed: float,
          decoding: Decoding) -> Prepared:
    """Answered by what every part says: a line each, or one answer that a base which follows instructions makes."""
    if name != "each" or not follows_instructions(engine):
        return told_in_order(parts, question, name, answers, elapsed)
    started = time.perf_counter()
    prompt = prompt_of_all(engine, parts, question, [answer.text for answer in answers], decoding)
    return Prepared(question, name, list(range(len(parts))), None, prompt, elapsed + time.perf_counter() - started)


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


def chosen_strategy(strategy: Strategy, parts: int, question: str, finds: bool) -> str:
    """The strategy for a question, `auto` resolved: a name, or a kind of question that is a strategy by itself. With
    one part there is nothing to choose from, and it is `join`, but for times and for which of two is first. `finds`
    where scores tell which parts show a thing that is named."""
    kind = kind_of(question) if strategy.name == "auto" else None
    if kind in (*_WHENS, *_ITS_OWN) or (kind == EARLIER and finds):
        return str(kind)
    if parts == 1:
        return "timeline" if strategy.name == "timeline" else "join"
    if strategy.name != "auto":
        return strategy.name
    if kind in (*_ENDS, *_SIDES):
        return str(kind)
    return "timeline" if kind == WHOLE else _of_moment(strategy, parts, question, finds)


def _of_moment(strategy: Strategy, parts: int, question: str, finds: bool) -> str:
    """The strategy of `auto` for a question about one moment."""
    return "join" if parts <= strategy.join_up_to and not (finds and presupposed(question)) else "route"


def ranked(answers: Sequence[Answer]) -> list[int]:
    """The parts from the best to the worst, by how sure each is of its own answer, and a little by how few agree.

    A segment that shows nothing of what is asked about is less sure of what it says. Where it is sure that there is
    nothing ("no"), all others like it say the same, and the one that says otherwise has seen something. That is all
    there is to go by where a question names nothing, or where nothing was measured, of a base that follows
    instructions. Where the thing that is named has scores (`v2l.strategies.parts`), they choose better. What chose
    worse (v2l/bench/README.md): how much surer a segment is than the hypernetwork's bias alone, or than the others, of
    the same answer, or that there is one. The likelihood of the question's words chose hardly better than chance.
    """
    same = Counter(answer.text for answer in answers)
    scores = [answer.logprob - RARITY * math.log(same[answer.text] / len(answers)) for answer in answers]
    return sorted(range(len(answers)), key=lambda i: -scores[i])
