"""What an answer tells besides its words: which segments answered, how, and all of it as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from v2l.adapter.wall import wall_keys
from v2l.model.answer import Answer

if TYPE_CHECKING:  # nothing heavy is needed to tell it
    from v2l.strategies.parts import Parts
    from v2l.strategies.prepared import Prepared


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
    by = [stretch(parts.parts[i].source, *span, parts.parts[i].started) | ({"answer": words.text} if words else {})
          | ({"score": round(score, 3)} if score is not None else {})
          for i, words, score in zip(prepared.by, said, scores, strict=True) for span in parts.parts[i].spans]
    times = {"segments": [[one["start"], one["end"]] for one in by]} if len(prepared.by) < len(parts) else {}
    return {"strategy": prepared.strategy, **times, "answered_by": by}


def stretch(file: str, start: float, end: float, began: datetime | None = None) -> dict[str, Any]:
    """JSON keys of a stretch of a video, in seconds to the millisecond, as text tells it; by the wall clock, too, where
    the video was watched live and `began` then."""
    return {"file": file, "start": round(start, 3), "end": round(end, 3), **wall_keys(began, start, end)}


def with_origin(answer: Answer, found: Mapping[str, Any]) -> Answer:
    """The answer with what `origin` found of its question."""
    return replace(answer, strategy=found["strategy"], answered_by=found["answered_by"])


@dataclass(frozen=True)
class SegmentSays:
    """What a segment, or some that were compressed together, answers by itself."""

    label: str
    """When it is, for people."""
    start: float
    end: float
    source: str
    """Name of its video."""
    answer: Answer
    wall: dict[str, str] = field(default_factory=dict)
    """JSON keys of its times by the wall clock, where its video was watched live."""


@dataclass(frozen=True)
class Answered:
    """A question to an adapter, and what is told of its answer beside its words; a server sends the same as JSON."""

    question: str
    elapsed: float
    """Seconds that went by before the answer was begun."""
    origin: dict[str, Any]
    """JSON keys of the answer, as `origin` gives them."""
    from_: str
    """The segments that answer, for people; empty where all do, or where the answer itself tells."""
    needs_segments: bool
    """Whether a question of times, or at one, had only one segment to ask."""
    said: tuple[SegmentSays, ...]
    """What the segments said, where the answer is made of that."""
    answer: Answer | None
    """None where it is yet to be made."""
    as_one: int = 1
    """Segments that are asked together, as one adapter."""

    @classmethod
    def of(cls, parts: Parts, prepared: Prepared) -> Answered:
        """What is told of a question that was prepared."""
        said = tuple(
            SegmentSays(parts.label(i), part.start, part.end, part.source, answer,
                        wall_keys(part.started, part.start, part.end))
            for i, answer in zip(prepared.by, prepared.said, strict=False) for part in [parts.parts[i]])
        all_told = prepared.answer or len(prepared.by) == len(parts)
        times = (bool(prepared.said) and prepared.strategy == "when") or prepared.strategy == "route"
        counts = [len(parts.parts[i].spans) for i in prepared.by]
        as_one = sum(counts) if prepared.strategy in ("join", "route") else max(counts, default=1)
        return cls(prepared.question, prepared.elapsed, origin(parts, prepared),
                   "" if all_told else " and ".join(map(parts.label, prepared.by)), len(parts) == 1 and times, said,
                   prepared.answer, as_one)

    def document(self) -> dict[str, Any]:
        """The JSON object from which `read` makes it again."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Answered:
        """What `document` tells. KeyError, TypeError where it is something else."""
        said = tuple(SegmentSays(**{**one, "answer": Answer(**one["answer"])}) for one in told["said"])
        return cls(**{**told, "said": said, "answer": told["answer"] and Answer(**told["answer"])})
