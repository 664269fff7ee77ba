"""Standing questions: asked of every segment of a live source by itself, as soon as it stands in its file.

A question of yes and no is decided as `v2l find` decides, by how much surer the segment makes the model than the bias
alone does. The word that it says is no measure: of 1,904 answers of segments about what `tiny` knows
(tests/measure/moments.py --quick), 43 should be yes; by the score 42 are, and no other, by the word 40 and 57 others.
Only where a base that follows instructions is not sure that yes and no are the answers, its first word decides. Of any
other question the answer is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.adapter import Adapter
from v2l.adapter.wall import wall_start
from v2l.config import Decoding
from v2l.errors import UsageError, V2LError
from v2l.live.watching import Watched
from v2l.model.claims import is_open
from v2l.strategies.answered import stretch
from v2l.wording import wall_json

if TYPE_CHECKING:
    from v2l.engine import Engine


@dataclass(frozen=True)
class StandingAnswer:
    """What a segment answers to a standing question."""

    question: str
    text: str
    """yes or no, or what the model says where that is not asked for."""
    yes: bool | None
    """None where it is neither asked for yes or no, nor answered so."""
    score: float | None
    """Nats, as of `v2l find`; None where that does not decide."""
    known: bool = True
    """Whether the model knows such questions."""


class StandingQuestions:
    """Questions that stand while a source is watched."""

    def __init__(self, engine: Engine, questions: Sequence[str], threshold: float | None = None,
                 decoding: Decoding | None = None) -> None:
        """`threshold`: the score from which on it is yes; where there is none, that of `v2l find`. V2LError for a
        question that cannot be asked; UsageError where it is empty."""
        for question in questions:
            if not question.strip():
                raise UsageError("A standing question is empty; say what to ask with --ask.")
            engine.check_question(question)
        self._engine, self._decoding = engine, replace(decoding or Decoding(), temperature=0.0)
        self.questions = list(dict.fromkeys(questions))
        self._threshold = threshold

    @property
    def model(self) -> str:
        """Name of the model that is asked."""
        return self._engine.files.name

    def answers(self, segment: Adapter) -> list[StandingAnswer]:
        """What a segment answers, in the order of the questions. V2LError."""
        from v2l.strategies.parts import Parts, follows_instructions, score_parts, sure_from

        if not self.questions:
            return []
        engine, parts = self._engine, Parts(self._engine, segment)
        closed = [question for question in self.questions if not is_open(question)]
        scores = dict(zip(closed, next(score_parts(engine, [parts], closed))[1] if closed else [], strict=True))
        known = {question: found.by_part[0] for question, found in scores.items() if found.answerable}
        if any(map(math.isnan, known.values())):
            raise V2LError("A segment gives no answer, because with it the model's numbers are not finite; try --dtype "
                           "float32.")
        asked = [question for question in self.questions if question not in known]
        said = dict(zip(asked, engine.ask_batch([(parts.whole, question) for question in asked], self._decoding),
                        strict=True))
        least = sure_from(engine) if self._threshold is None else self._threshold
        found = []
        for question in self.questions:
            if question in known:
                score = known[question]
                found.append(StandingAnswer(question, "yes" if score >= least else "no", score >= least, score))
            elif is_open(question):
                found.append(StandingAnswer(question, said[question].text, None, None))
            else:
                found.append(_by_its_word(question, said[question].text, follows_instructions(engine)))
        return found


def _by_its_word(question: str, text: str, instructed: bool) -> StandingAnswer:
    """An answer of yes or no by its first word; what a base that knows few questions says to another is neither."""
    word = text.lower().lstrip(" \"'(*").split(" ", 1)[0].strip(".,:;!*\"'")
    yes = {"yes": True, "no": False}.get(word) if instructed else None
    return StandingAnswer(question, text, yes, None, known=instructed)


def answer_document(watched: Watched, answer: StandingAnswer) -> dict[str, Any]:
    """The JSON object of an answer: `yes` and `score` are null where they say nothing."""
    segment, source = watched.segment.segments[0], watched.segment.sources[0]
    return {"question": answer.question, "answer": answer.text, "yes": answer.yes,
            "score": None if answer.score is None else round(answer.score, 3), "output": str(watched.file.path),
            **stretch(source["name"], segment["start"], segment["end"], wall_start(source))}


def answer_environment(watched: Watched, answer: StandingAnswer) -> dict[str, str]:
    """What a command learns of an answer, as variables of its environment."""
    segment, source = watched.segment.segments[0], watched.segment.sources[0]
    return {"V2L_FILE": str(Path(watched.file.path).absolute()), "V2L_SOURCE": source["name"],
            "V2L_START": f"{segment['start']:.3f}", "V2L_END": f"{segment['end']:.3f}",
            "V2L_STARTED_AT": wall_json(watched.start), "V2L_ENDED_AT": wall_json(watched.end),
            "V2L_QUESTION": answer.question, "V2L_ANSWER": answer.text,
            "V2L_SCORE": "" if answer.score is None else f"{answer.score:.3f}"}
