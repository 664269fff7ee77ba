"""What kind of answer a question needs of many segments, told from its words (tests/measure/strategies.py measures)."""

from __future__ import annotations

import re

MOMENT, WHOLE, WHEN, FIRST_PART, LAST_PART = "moment", "whole", "when", "first", "last"
"""What one segment, or none, settles; what all of it is about; when something is; what its first or last segment
settles."""

_VIDEO = (r"(?:(?:the|this) )?(?:(?:whole|entire|full) )?"
          r"(?:video|film|movie|clip|recording|footage|lecture|talk|episode|meeting)")
_IN_IT = rf"(?: (?:in|during|over|throughout) {_VIDEO})?(?: (?:overall|here|in detail|step by step|in order))?"
_HAPPENS = (r"(?:happen(?:s|ed)?|occur(?:s|red)?|goes on|went on|takes place|took place|is happening|is going on|"
            r"was going on)")
_BRIEFLY = r"(?: (?:briefly|shortly|overall|in detail|step by step|in one sentence|in a few words))?"
_THINGS = r"(?:events|objects|things|scenes|topics|people|items|steps|everything)"
_WHOLE = (
    rf"(?:so )?what(?: all)? (?:has )?{_HAPPENS}{_IN_IT}",
    rf"(?:describe|summari[sz]e|recap|outline|explain)(?: (?:{_VIDEO}|it|everything|what {_HAPPENS}{_IN_IT}))?"
    rf"{_BRIEFLY}",
    rf"(?:give|write)(?: me)? (?:an?|the)(?: \w+)? (?:description|summary|overview|recap|outline)(?: of {_VIDEO})?",
    rf"list (?:all )?(?:of )?(?:the )?{_THINGS}(?: (?:that|which) (?:appear|happen|occur))?{_IN_IT}",
    rf"(?:what|which) (?:objects|things|people|topics|items)(?: (?:all|are there|appear|appeared|are shown|are seen|are"
    rf"(?: there)?|can be seen))?{_IN_IT}",
    rf"what(?: is|'s) {_VIDEO} about",
    rf"what (?:is|are) (?:shown|seen|said|discussed|covered|talked about){_IN_IT}",
    rf"what (?:does|do) {_VIDEO} (?:show|cover|contain|say)",
)
_COME = r"(?:appears?|comes?|is shown|is seen|happens|happened|appeared|is|was|came)"
_END = {
    FIRST_PART: (rf"what {_COME} first{_IN_IT}", rf"how does (?:{_VIDEO}|it) (?:begin|start|open)"),
    LAST_PART: (rf"what {_COME} last{_IN_IT}", rf"how does (?:{_VIDEO}|it) (?:end|finish|close)"),
}
_ASKS_WHEN = r"(?:when(?: exactly)?|(?:at|around) (?:what|which) (?:time|times|point|minute|moment)s?|what time)"
_AUXILIARY = r"(?:does|do|did|is|are|was|were|can|could|has|have|will|would)"
_WHEN = re.compile(rf"{_ASKS_WHEN}(?: {_VIDEO})? ({_AUXILIARY} .+ .+)")
_APPEAR = re.compile(
    r"(?:(?:does|do|did) (?P<a>.+?) (?:first )?(?:appear|show up|show|come up|come on|occur|turn up|come|start|begin)"
    r"|(?:is|are|was|were|can) (?:there )?(?P<b>.+?) (?:be )?(?:seen|shown|visible|present|there|on screen|in view)"
    r"|(?:is|are|was|were) there (?P<c>.+?)"
    r"|(?:does|do|did|can|could) (?:one|you|we|i) (?:first )?see (?P<d>.+?))"
    rf"(?: (?:again|first|for the first time))?{_IN_IT}")


def kind_of(question: str) -> str:
    """MOMENT, WHOLE, WHEN, FIRST_PART or LAST_PART, by patterns of English; what fits none is MOMENT."""
    words = _words(question)
    if _WHEN.fullmatch(words):
        return WHEN
    for kind, patterns in ((WHOLE, _WHOLE), *_END.items()):
        if any(re.fullmatch(pattern, words) for pattern in patterns):
            return kind
    return MOMENT


def yes_or_no(question: str, grammar: bool) -> str:
    """A question of kind WHEN as one that a segment answers with yes or no: "When does the dog bark?" -> "Does the dog
    bark?", and what only asks when something is there -> "Is there a dog?". Without `grammar`, for a base that knows
    few questions, always the latter, of what the question names."""
    found = _WHEN.fullmatch(_words(question))
    asked = found[1] if found else _words(question)
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


def _words(question: str) -> str:
    """The words in small letters, one space between two, without courtesies and what ends a sentence."""
    text = re.sub(r"\s+", " ", question.lower().replace("\u2019", "'")).strip(" .?!")
    return re.sub(r"^(?:please |can you |could you |tell me |and )+|[, ]+please$", "", text)
