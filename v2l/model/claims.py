"""What is claimed by the words one looks for, as questions whose answers are known (tests/measure/moments.py measures).

"A red ring moves left" holds where "Is there a red ring?" is answered with yes and, by a base that knows only few kinds
of questions, "What does the red ring do?" with "moves left". Nobody generates these answers: how likely they are tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from v2l.model.questions import WHEN_NOT, WHOLE, kind_of, plain_words, yes_or_no


@dataclass(frozen=True)
class Claim:
    """A question, and which answers speak for what is looked for and which against it."""

    question: str
    yes: tuple[str, ...] = ()
    """Answers for it, or how they begin; where there are none, all others than those of `no`."""
    no: tuple[str, ...] = ()
    """Answers against it; where there are none, all others than those of `yes`."""


@dataclass(frozen=True)
class Sought:
    """What is looked for: that all of the claims hold or, if `absent`, that they do not."""

    claims: tuple[Claim, ...]
    absent: bool


def sought(query: str, grammar: bool) -> Sought:
    """Claims of a query: a thing ("red ring"), what it does ("a red ring moves"), a question of yes and no, or one of
    when. Without `grammar`, for a base that knows few questions, several that must all be answered so."""
    words = plain_words(query)
    if found := re.fullmatch(r"no (?!one\b)(.*?(people|s)?)", words):
        words = f"{'are' if found[2] else 'is'} there no {found[1]}"
    asked = plain_words(yes_or_no(words, grammar=True))
    absent = kind_of(words if words.startswith(_WHEN_WORDS) else f"when {words}") == WHEN_NOT
    return Sought((_instructed(asked),) if grammar else tuple(_few(asked)), absent)


def is_open(question: str) -> bool:
    """Whether a question asks for more than yes or no: "What happens?", "How many rings are there?", "Describe it"."""
    words = plain_words(question)
    return kind_of(question) == WHOLE or bool(_OPEN.match(words))


_OPEN = re.compile(r"(?:what|who|whom|whose|where|which|how|why|describe|list|name|count|tell|explain|give|read)\b")


def presupposed(question: str) -> str:
    """What a question to the embedded model's world takes to be there, as a query: of "What color is the ring?" a ring,
    of "Where is the red ring?" a red ring, of "What moves left?" something that moves left. Empty where no words
    tell."""
    words = plain_words(question)
    if _AUXILIARY.match(words):
        return _parted(plain_words(yes_or_no(words, grammar=True)))[0]
    if found := re.fullmatch(r"(?:what|which) (?:shape|thing|object) is (\w+)", words):
        return f"{found[1]} object"
    for named in _NAMED.finditer(words):
        if not _NOT_SHOWN.fullmatch(named[1]):
            return named[1]
    found = re.fullmatch(r"(?:what|which)(?: thing| object| one)? (?!(?:thing|object|one)\b)(\w.+)", words)
    return f"something {found[1]}" if found and _DOES.fullmatch(found[1]) else ""


_NAMED = re.compile(r"\b(?:the|an?|any) (\w+(?: (?!(?:is|are|was|were|does|do|doing|of|in|on|at|to|from|with|behind"
                    r"|when|while|and|or|say|says|moves?|moving|appears?|comes?|looks?|has|have|grows?|grew|shrinks?"
                    r"|shrank|stays?|\w{3,}ed)\b)\w+)*)")
_NOT_SHOWN = re.compile(r"(?:colou?r|shape|size|name|word|description|left|right|background|video|film|movie|clip"
                        r"|objects?|things?|events?|first|last)(?: .+)?|.+ (?:background|colou?r)")
_DOES = re.compile(r"(?:(?:is |are )?\w+ing|does not|(?!(?:is|was|does|has|happens|comes|appears)\b)\w+s)(?: \w+)?")

_WHEN_WORDS = ("when ", "at ", "around ", "in ", "during ", "on ", "which ", "what ")
_AUXILIARY = re.compile(r"(?P<does>does|do|did|can|could|will|would|has|have) |(?:is|are|was|were|be) ")
_ARTICLE = re.compile(r"(?:the|an?|any|some|one) ")
_SOMEBODY = r"(?:someone|somebody|something|everyone|everybody|he|she|it|(?:an?|the|one) \w+(?: \w+)*?)"
_SINGULAR = r"\w+[^s\W]s"
"""A verb of one: "moves"; "gas" and "boss" are none."""


# Of a base that follows instructions.


def _instructed(asked: str) -> Claim:
    """One question of yes and no: as it is, of whether somebody does something, or of whether something is there."""
    if not _AUXILIARY.match(asked):
        asked = _inverted(asked) or _is_there(asked)
    return Claim(f"{asked[:1].upper()}{asked[1:]}?", ("Yes", "yes"), ("No", "no"))


def _inverted(statement: str) -> str:
    """A statement as a question: "a man falls down" -> "does a man fall down", "the man is there" -> "is the man
    there"; nothing where it is none."""
    if found := re.fullmatch(r"(.+?) (is|are|was|were|has|have|can) (.+)", statement):
        return f"{found[2]} {found[1]} {found[3]}"
    if found := re.fullmatch(rf"({_SOMEBODY}) ({_SINGULAR})((?: .+)?)", statement):
        verb = re.sub(r"ies$", "ys", re.sub(r"(ss|x|zz|ch|sh|o)es$", r"\1s", found[2]))[:-1]
        return f"does {found[1]} {verb}{found[3]}"
    return ""


def _is_there(thing: str) -> str:
    if thing.startswith("the "):
        return f"is {thing} there"
    if re.match(r"(?:two|three|four|five|six|seven|eight|nine|ten|many|several|some|people|\d+)\b", thing):
        return f"are there {thing}"
    if thing.endswith("s") and not thing.endswith("ss") and not _ARTICLE.match(thing):
        return f"are there any {thing}"
    return f"is there {thing if _ARTICLE.match(thing) else _with_article(thing)}"


def _with_article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


# Of a base that knows the questions of the embedded model's world.

_PLACE = r"(?:to the )?(left of|right of|above|below|over|under) (?:(?:the|an?) )?(.+)"
_SIDES = ("left of", "right of", "above", "below")
_WAYS = {"left", "right", "up", "down", "still"}
_ANYTHING = ("something", "anything", "object", "thing", "one")


def _few(asked: str) -> Iterator[Claim]:
    """Claims of whatever of the world is named; the question itself where nothing is."""
    thing, does = _parted(asked)
    if thing in ("", "it"):
        yield Claim(f"{asked[:1].upper()}{asked[1:]}?", ("yes",), ("no",))
        return
    if thing not in _ANYTHING:
        yield from _of_thing(thing)
    if not does:
        return
    if thing in _ANYTHING:
        yield Claim(f"What {does}?", no=("nothing",))
    elif word := re.fullmatch(r"(?:says|shows|reads) (.+)", does):
        yield Claim(f"What does the {thing} say?", (word[1],))
    elif place := re.fullmatch(f"is {_PLACE}", does):
        side = {"over": "above", "under": "below"}.get(place[1], place[1])
        others = (f"{other} the {place[2]}" for other in _SIDES if other != side)
        yield Claim(f"Where is the {thing}?", (f"{side} the {place[2]}",), tuple(others))
    else:
        yield Claim(f"What does the {thing} do?", (does,))
        if does != "moves":  # nobody asked it what moves at all
            yield Claim(f"What {does}?", (f"the {thing}",))


def _of_thing(thing: str) -> Iterator[Claim]:
    """Claims that a thing is there, that what has its shape has its colour, and what has its colour its shape. Of a
    shape, or a colour, alone it was never asked whether it is there, but it knows to say that there is none."""
    kind, _, shape = thing.rpartition(" ")
    if shape in _ANYTHING:
        yield Claim(f"What shape is the {kind} object?", no=("there",))
    elif not kind and shape != "slide":
        yield Claim(f"What color is the {shape}?", no=("there",))
    else:
        yield Claim(f"Is there {_with_article(thing)}?", ("yes",), ("no",))
        if kind and " " not in kind:
            yield Claim(f"What color is the {shape}?", (kind,))
            yield Claim(f"What shape is the {kind} object?", (shape,))


def _parted(asked: str) -> tuple[str, str]:
    """A thing, without its article, and what it does, as "moves left"; either may be missing."""
    auxiliary = _AUXILIARY.match(asked)
    words = re.sub(r"^(?:there )", "", asked[auxiliary.end() :] if auxiliary else asked)
    words = re.sub(r"^(?:something|anything) (?=\w+$)(?!\w+s$)(\w+)$", r"\1 object", words)
    words = re.sub(rf"^{_ARTICLE.pattern}", "", re.sub(r"\b(?:that|which) ", "", words))
    if auxiliary and auxiliary["does"]:
        return _bare(words)
    if found := re.fullmatch(r"(?!something|anything)(\w{3,}ing) (.+)", words):
        return found[2], _of_one(found[1])
    if found := re.fullmatch(rf"(.+?) (?:is )?({_PLACE})", words):
        return found[1], f"is {found[2]}"
    if found := re.fullmatch(rf"(.+?) (?:is |are )?({_SINGULAR}|\w{{3,}}ing)((?: .+)?)", words):
        return found[1], _of_one(found[2]) + found[3]
    if found := re.fullmatch(r"(.+?) (?:is|are) (\w+)", words):
        return f"{found[2]} {found[1]}", ""
    return words, ""


def _bare(words: str) -> tuple[str, str]:
    """The parts of "red ring move left", which follows "does"."""
    *before, last = words.split()
    if before and before[-1] in ("say", "show", "read"):
        return " ".join(before[:-1]), f"{before[-1]}s {last}"
    way = f" {last}" if last in _WAYS and len(before) > 1 else ""
    verb, thing = (before[-1], before[:-1]) if way else (last, before)
    return " ".join(thing), f"{_of_one(verb)}{way}"


def _of_one(verb: str) -> str:
    """A verb as it is said of one: "moving", "move" and "moves" are "moves"."""
    stem = re.sub(r"ing$", "", verb)
    if stem == verb:
        return verb if verb.endswith("s") else f"{verb}s"
    return f"{stem}es" if stem[-1:] in "vcszu" else f"{stem}s"
