"""What kind of answer a question needs of many segments, told from its words (tests/measure/strategies.py measures)."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOMENT, WHOLE, WHEN, FIRST_PART, LAST_PART = "moment", "whole", "when", "first", "last"
"""What one segment, or none, settles; what all of it is about; when something is; what its first or last segment
settles."""
WHEN_NOT, WHEN_LAST, BEGINS, ENDS = "when not", "when last", "begins", "ends"
"""When something is not there; when it was there last; when the video itself begins, or ends."""
AFTER, BEFORE, EARLIER, HOW_OFTEN = "after", "before", "earlier", "how often"
"""What comes after, or before, something else; which of two comes first, or whether one does; how often something is
there."""

_VIDEO = (r"(?:(?:the|this) )?(?:(?:whole|entire|full) )?"
          r"(?:video|film|movie|clip|recording|footage|lecture|talk|episode|meeting)")
_IT = rf"(?:{_VIDEO}|it|this|that)"
_IN_IT = rf"(?: (?:in|during|over|throughout) {_IT})?(?: (?:overall|here|in detail|step by step|in order))?"
_HAPPENS = (r"(?:happen(?:s|ed)?|occur(?:s|red)?|goes on|went on|takes place|took place|is happening|is going on|"
            r"was going on)")
_BRIEFLY = r"(?: (?:briefly|shortly|overall|in detail|step by step|in one sentence|in a few words))?"
_THINGS = r"(?:events|objects|things|scenes|topics|people|items|steps|everything)"
_WHOLE = (
    rf"(?:so )?what(?: all)? (?:has |is |was )?(?:{_HAPPENS}|happening|going on|taking place){_IN_IT}",
    rf"(?:describe|summari[sz]e|recap|outline|explain)(?: (?:{_IT}|everything|what (?:{_HAPPENS}|you see){_IN_IT}))?"
    rf"{_BRIEFLY}",
    rf"(?:(?:give|write)(?: me)? )?(?:(?:an?|the) )?(?:\w+ )?(?:description|summary|overview|recap|outline)"
    rf"(?: of {_IT})?",
    rf"list (?:all )?(?:of )?(?:the )?{_THINGS}(?: (?:that|which) (?:appear|happen|occur))?{_IN_IT}",
    rf"(?:what|which) (?:objects|things|people|topics|items)(?: (?:all|are there|appear|appeared|are shown|are seen|are"
    rf"(?: there)?|can be seen))?{_IN_IT}",
    rf"what (?:is|was) {_IT} (?:all )?(?:about|showing)",
    rf"(?:(?:talk|something|everything|more) )?about {_IT}",
    rf"what (?:is|are|was) (?:shown|seen|said|discussed|covered|talked about){_IN_IT}",
    rf"what (?:is|are|was) (?:there )?(?:in|on) {_IT}",
    rf"what (?:do|did|can|could) (?:you|we|i|one) see{_IN_IT}",
    rf"what can be seen{_IN_IT}",
    rf"what (?:does|do|did) (?:{_IT}|they) (?:show|cover|contain|say)",
)
_COME = r"(?:appears?|comes?|is shown|is seen|happens|happened|appeared|is|was|came)"
_END = {
    FIRST_PART: (rf"what {_COME} first{_IN_IT}", rf"how does (?:{_VIDEO}|it) (?:begin|start|open)"),
    LAST_PART: (rf"what {_COME} last{_IN_IT}", rf"how does (?:{_VIDEO}|it) (?:end|finish|close)"),
}
_SEEN = (rf"(?:{_COME}|{_HAPPENS}|follows|can be seen|can (?:we|you|one|i) see|(?:do|did) (?:we|you|one|i) see"
         r"|(?:does|do|did) .+? (?:do|say|see|show))")
_HEAD = rf"(?:what(?: else| thing| object| shape| scene| slide| event| word)?|who(?: else)?|which \w+) {_SEEN}"
_NEXT = r"(?: (?:next|right|directly|immediately|just|shortly|straight))*"
_SOMETHING = r"(?!(?:that|this|it|them|him|her|then|now|all)\b(?! \w)|\d|(?:the )?(?:\w+ )?(?:end|start|beginning)\b)"
_BESIDE = re.compile(
    rf"(?P<head>{_HEAD}){_NEXT} (?P<side>after|before) (?P<thing>{_SOMETHING}.+?){_IN_IT}"
    rf"|(?:(?:right|directly|immediately|just|shortly) )?(?P<side2>after|before) (?P<thing2>{_SOMETHING}.+?),? "
    rf"(?P<head2>{_HEAD}){_NEXT}{_IN_IT}"
    rf"|(?P<head3>what|who|which \w+) (?P<side3>follow|precede)(?:s|ed|d)? (?P<thing3>{_SOMETHING}.+?){_IN_IT}")
_EITHER = re.compile(
    rf"(?:what|which|who)(?: (?:thing|object|one|event|of (?:them|these|the two)))* {_COME} "
    rf"(?P<side>first|earlier|last|later)(?: {_VIDEO})?[,:;]? (?P<thing>.+?),? or (?P<other>.+)")
_IS_EARLIER = re.compile(
    rf"(?P<aux>does|did|do|is|was|are|were) (?:there )?(?P<thing>.+?) (?P<side>before|after) "
    rf"(?P<other>{_SOMETHING}.+?)(?: (?:does|did|do|is|was))?{_IN_IT}")
_IS_THERE = (r" (?:appears?|appeared|happens?|happened|comes?|came|occurs?|occurred|starts?|started|begins?|began"
             r"|shows? up|takes? place|(?:is |was |be )?(?:shown|seen|there|visible|on screen))$")
_OFTEN = re.compile(r"(?:how many times|how often) (.+)")
_ASKS_WHEN = (r"(?:when(?: exactly)?|(?:(?:at|around|in|during|on) (?:what|which) (?:point|moment)"
              r"|(?:(?:at|around|in|during|on) )?(?:what|which) (?:time|minute|second|timestamp))s?(?: in time)?)")
_AUXILIARY = r"(?:does|do|did|is|are|was|were|can|could|has|have|will|would)"
_WHEN = re.compile(rf"{_ASKS_WHEN}(?: (?:(?:in|of|during|into) )?{_VIDEO})? ({_AUXILIARY} .+ .+)")
_ITS_OWN = {
    BEGINS: rf"(?:{_VIDEO}|it) (?:start|begin|starts|begins)",
    ENDS: rf"(?:{_VIDEO}|it) (?:end|finish|stop|over|be over|finished|ended)",
}
_NEGATED = re.compile(r"\b(?:not|no|never|none|nothing|nobody|no one|nowhere|neither|without|cease|fail|lack|except)\b")
_OUT = r"(?: (?:the )?(?:screen|scene|picture|frame|view|sight))"
_LAST = re.compile(
    r"(?P<before>(?:does|do|did|will|would|can|could) )(?P<thing>.+?) (?:last appear|appear (?:last|for the last time)"
    rf"|(?:completely )?(?:disappear|vanish|go(?: away)?|(?:leave|exit){_OUT}?|(?:go|move|get) (?:out of|off){_OUT}))"
    rf"{_IN_IT}"
    rf"|(?P<before2>(?:is|are|was|were|has|have) )(?!there )(?P<thing2>.+?) (?:last (?:seen|shown|visible|there)"
    rf"|(?:seen|shown) (?:last|for the last time)|(?:completely )?(?:disappeared|vanished|gone(?: away)?))"
    rf"{_IN_IT}"
    rf"|(?P<before3>(?:has|have) )(?P<thing3>.+?) (?:left|exited){_OUT}?{_IN_IT}")
_ABSENT = re.compile(
    rf"(?P<before>{_AUXILIARY} )(?:not there (?:an?|any) (?P<a>.+?)|there (?:no|not an?|not any) (?P<b>.+?)"
    r"|(?P<c>.+?) (?:absent|missing|invisible|hidden|out of (?:view|sight)|off screen)"
    r"|(?:not (?P<d>.+?)|(?P<e>.+?) not) (?:be )?(?:appear|there|visible|seen|shown|present|on screen|in view"
    rf"|in the picture)|no (?!one )(?P<f>.+?) (?:appear|there|visible|seen|shown|present|on screen|in view)){_IN_IT}")
_ENDING = re.compile(r"\b(?:stop|stops|stopped|end|ends|ended|finish|finishes|finished|last|lastly|until|no longer"
                     r"|disappears?|disappeared|vanish|vanished|gone|absent|missing|invisible|leaves?|left off)\b")
_AT = re.compile(r",? ?\b(?:at|around|about) (?:(?:about|around|exactly|time|minute) )?"
                 r"(?:(?P<clock>(?:\d+:)?\d{1,2}:\d\d)|(?P<seconds>\d+(?:\.\d+)?) ?(?:s|sec|secs|seconds?)"
                 r"|second (?P<second>\d+(?:\.\d+)?))"
                 rf"(?: (?:in|into|of) {_IT})?[ .?!]*$", re.IGNORECASE)
_AT_CLOCK = re.compile(r",? ?\b(?:at|around|about) (?:(?:about|around|exactly) )?(?:(?P<day>\d{4}-\d\d-\d\d)[ T])?"
                       r"(?P<clock>[012]?\d:[0-5]\d(?::[0-5]\d)?)[ .?!]*$", re.IGNORECASE | re.ASCII)
_APPEAR = re.compile(
    r"(?:(?:does|do|did) (?P<a>.+?) (?:first )?(?:appear|show up|show|come up|come on|occur|turn up|come|start|begin)"
    r"|(?:is|are|was|were|can) (?:there )?(?P<b>.+?) (?:be )?(?:seen|shown|visible|present|there|on screen|in view)"
    r"|(?:is|are|was|were) there (?P<c>.+?)"
    r"|(?:does|do|did|can|could) (?:one|you|we|i) (?:first )?see (?P<d>.+?))"
    rf"(?: (?:again|first|for the first time))?{_IN_IT}")


def kind_of(question: str) -> str:
    """One of the kinds above, by patterns of English; what fits none is MOMENT. Of what asks for the times of a
    negation or of an end that is not of a thing's being there, "When does the dog stop barking?", no yes or no of a
    segment is the answer: it is WHOLE."""
    words = plain_words(question)
    if found := _WHEN.fullmatch(words):
        return _kind_of_when(found[1])
    for kind, patterns in ((WHOLE, _WHOLE), *_END.items()):
        if any(re.fullmatch(pattern, words) for pattern in patterns):
            return kind
    if beside := beside_in(question):
        return AFTER if beside.after else BEFORE
    if earlier_in(question):
        return EARLIER
    return HOW_OFTEN if when_of_how_often(question) else MOMENT


def _kind_of_when(asked: str) -> str:
    """The kind of what follows "when": an auxiliary, who, and does what."""
    for kind, pattern in _ITS_OWN.items():
        if re.fullmatch(rf"{_AUXILIARY} {pattern}", asked):
            return kind
    if _ABSENT.fullmatch(asked):
        return WHEN_NOT
    if _NEGATED.search(asked):
        return WHOLE
    if _LAST.fullmatch(asked):
        return WHEN_LAST
    return WHOLE if _ENDING.search(asked) else WHEN


@dataclass(frozen=True)
class Beside:
    """A question of what comes after, or before, something: "What is shown after the red ring?"."""

    after: bool
    thing: str
    """"the red ring"."""
    asks: str
    """"What is shown", of which "What is shown first?" is asked of what follows."""


def beside_in(question: str) -> Beside | None:
    """What a question asks to be after, or before, something; None where it is no such question."""
    found = _BESIDE.fullmatch(plain_words(question))
    if not found:
        return None
    head, side, thing = (found[name] or found[f"{name}2"] or found[f"{name}3"] for name in ("head", "side", "thing"))
    head = re.sub(r" follows$", " comes", f"{head} comes" if found["head3"] else head)
    return Beside(side in ("after", "follow"), thing, f"{head[:1].upper()}{head[1:]}")


@dataclass(frozen=True)
class Earlier:
    """A question of which of two things comes first, or last, or whether one comes before, or after, the other."""

    thing: str
    other: str
    first: bool
    """Asks for what comes first, or whether `thing` does; else for what comes last, or whether `thing` does."""
    says_yes: bool
    """The answer is yes or no; else it is one of both."""
    queries: tuple[str, str]
    """What to look for, for each of both."""


def earlier_in(question: str) -> Earlier | None:
    """What a question asks to be first of two things; None where it is no such question."""
    words = plain_words(question)
    if found := _EITHER.fullmatch(words):
        both = found["thing"], found["other"]
        return Earlier(*both, found["side"] in ("first", "earlier"), False, both)
    found = _IS_EARLIER.fullmatch(words)
    if not found:
        return None
    thing, other = (re.sub(_IS_THERE, "", found[name]) for name in ("thing", "other"))
    does = thing == found["thing"] and found["aux"] in ("does", "did", "do")  # "does the man fall before ..."
    return Earlier(thing, other, found["side"] == "before", True, (f"{found['aux']} {thing}" if does else thing, other))


def when_of_how_often(question: str) -> str:
    """A question of how often something is there as one of when: "How many times does a star appear?" -> "When does a
    star appear?"; empty where it is no such question."""
    found = _OFTEN.fullmatch(plain_words(question))
    asked = f"when {found[1]}" if found else ""
    if not (found := _WHEN.fullmatch(asked)) or _kind_of_when(found[1]) != WHEN:
        return ""
    return f"{asked[0].upper()}{asked[1:]}?"


def time_in(question: str) -> tuple[str, float] | None:
    """A question that ends in a time of the video, "What happens at 0:15?", without it, and the time in seconds."""
    found = _AT.search(question)
    if not found or not question[: found.start()].strip():
        return None
    seconds = 0.0
    for number in (found["clock"] or found["seconds"] or found["second"]).split(":"):
        seconds = 60 * seconds + float(number)
    return f"{question[: found.start()].rstrip()}?", seconds


def clock_time_in(question: str) -> tuple[str, str, str] | None:
    """A question that ends in a time of day, "What happens at 14:05?", without it, and the day and the time as it has
    them: 2026-11-28, or nothing, and 14:05."""
    found = _AT_CLOCK.search(question)
    if not found or not question[: found.start()].strip():
        return None
    return f"{question[: found.start()].rstrip()}?", found["day"] or "", found["clock"]


def yes_or_no(question: str, grammar: bool) -> str:
    """A question of kind WHEN, WHEN_NOT or WHEN_LAST as one that a segment answers with yes or no: "When does the dog
    bark?" -> "Does the dog bark?", and what only asks when something is there, or not -> "Is there a dog?". Without
    `grammar`, for a base that knows few questions, always the latter, of what the question names."""
    found = _WHEN.fullmatch(plain_words(question))
    asked = found[1] if found else plain_words(question)
    if asks_of := _ABSENT.fullmatch(asked) or _LAST.fullmatch(asked):
        named = next(words for name, words in asks_of.groupdict().items() if words and not name.startswith("before"))
        asked = f"{'are' if asked.startswith(('are ', 'were ', 'do ', 'have ')) else 'is'} there {named}"
    there = _APPEAR.fullmatch(asked)
    thing = next(filter(None, there.groups()), "") if there else ""
    if not thing and not grammar:
        named = re.search(r"\b(?:the|an?) (\w+ \w+)", asked)
        thing = named[1] if named else ""
    if not thing:
        return f"{asked[:1].upper()}{asked[1:]}?"
    thing = re.sub(r"^(?:the|an?|some|any) ", "", thing)
    plural = asked.startswith(("do ", "are ", "were ")) and not asked.startswith(("do you", "do we", "do i"))
    return f"Are there any {thing}?" if plural else f"Is there {'an' if thing[:1] in 'aeiou' else 'a'} {thing}?"


def plain_words(question: str) -> str:
    """The words in small letters, one space between two, without courtesies and what ends a sentence."""
    text = re.sub(r"\s+", " ", question.lower().replace("\u2019", "'")).strip(" .,:;?!\u2026\"")
    text = re.sub(r"\b(what|when|who|where|how|it|that|there)'s\b|\bwhats\b", lambda m: f"{m[1] or 'what'} is", text)
    text = re.sub(r"\bcan't\b", "can not", re.sub(r"\bwon't\b", "will not", text))
    text = re.sub(r"n't\b", " not", text).replace("cannot", "can not")
    return re.sub(r"^(?:please |can you |could you |tell me |so |and )+|[, ]+please$", "", text)
