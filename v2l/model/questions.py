"""What kind of answer a question needs of many segments, told from its words (tests/measure/strategies.py measures)."""

from __future__ import annotations

import re

MOMENT, WHOLE, WHEN, FIRST_PART, LAST_PART = "moment", "whole", "when", "first", "last"
"""What one segment, or none, settles; what all of it is about; when something is; what its first or last segment
settles."""
WHEN_NOT, WHEN_LAST, BEGINS, ENDS = "when not", "when last", "begins", "ends"
"""When something is not there; when it was there last; when the video itself begins, or ends."""

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
    return MOMENT


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
