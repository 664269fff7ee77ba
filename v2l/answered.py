"""What an answer tells besides its words: which segments answered, how, and all of it as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # nothing heavy is needed to tell it
    from v2l.model.answer import Answer
    from v2l.parts import Parts
    from v2l.strategies import Prepared


def document(question: str, answer: Answer, delay: float = 0.0, **facts: Any) -> dict[str, Any]:
    """The JSON object of an answer, as `v2l ask --json` prints it; `delay` is the seconds from the question to the
    answer's own clock, `facts` are further keys, such as `adapter`, `model` and what `origin` gives."""
    return {"question": question, "answer": answer.text, "finish": answer.finish, "prompt_tokens": answer.prompt_tokens,
            "visual_tokens": answer.visual_tokens, "new_tokens": len(answer.ids),
            "ttft_s": round(delay + answer.ttft_s, 4), "total_s": round(delay + answer.total_s, 4), **facts}


def origin(parts: Parts, prepared: Prepared) -> dict[str, Any]:
    """JSON keys that tell what answers a question: `strategy`; `answered_by`, of each segment the file and the times in
    seconds, its own words where the answer is made of them, and how sure it is where that decides (`score`); if not all
    answer, their times once more under `segments`."""
    said, scores = ([*some, *[None] * (len(prepared.by) - len(some))] for some in (prepared.said, prepared.scores))
    by = [stretch(parts.parts[i].source, *span) | ({"answer": words.text} if words else {})
          | ({"score": round(score, 3)} if score is not None else {})
          for i, words, score in zip(prepared.by, said, scores, strict=True) for span in parts.parts[i].spans]
    times = {"segments": [[one["start"], one["end"]] for one in by]} if len(prepared.by) < len(parts) else {}
    return {"strategy": prepared.strategy, **times, "answered_by": by}


def stretch(file: str, start: float, end: float) -> dict[str, Any]:
    """JSON keys of a stretch of a video, in seconds to the millisecond, as text tells it."""
    return {"file": file, "start": round(start, 3), "end": round(end, 3)}


def with_origin(answer: Answer, found: Mapping[str, Any]) -> Answer:
    """The answer with what `origin` found of its question."""
    return replace(answer, strategy=found["strategy"], answered_by=found["answered_by"])
