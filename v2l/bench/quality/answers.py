"""Answers as they are kept, so that a run goes on after a stop and is scored again without the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from v2l.bench.quality.plan import Question, Setting, Watch
from v2l.bench.speed.journal import Journal
from v2l.config import Sampling

if TYPE_CHECKING:
    from v2l.model.generate import Answer


@dataclass(frozen=True)
class Made:
    """What the setting came to: who answers, as far as it decides the answers."""

    model: str
    fingerprint: str
    """Of the base's text stack."""
    hypernetwork: str
    sha256: str
    """Of the hypernetwork."""
    dtype: str
    device: str
    sampling: dict[str, Any]
    """Frames, fps, skip and resolution."""
    tile: int
    """The edge of a tile, in pixels."""
    budget_tokens: int

    def sampling_of(self, watch: Watch, **changes: Any) -> Sampling:
        """How a clip is looked at."""
        return replace(Sampling(**self.sampling), start=watch.start, end=watch.end, **changes)


def sampling_values(sampling: Sampling) -> dict[str, Any]:
    """A sampling without its window, which is the clip's."""
    return {name: value for name, value in asdict(sampling).items() if name not in ("start", "end")}


@dataclass(frozen=True)
class Task:
    """A clip and the arms that are to answer its questions."""

    watch: Watch
    sampling: Sampling
    arms: tuple[str, ...]
    budget_tokens: int = 0
    """Of a prompt of the arm `budget`."""
    taught: tuple[str, ...] = ()
    """Ids of the questions that an adapter is fine-tuned on."""

    def conditions(self, arm: str) -> dict[str, Any]:
        """What decides an arm's answers beside the model."""
        if arm == "none":
            return {}
        values = sampling_values(self.sampling)
        more = {"tokens": self.budget_tokens} if arm == "budget" else {}
        return values | more | ({"taught": list(self.taught)} if self.taught else {})


@dataclass(frozen=True)
class Given:
    """One answer."""

    question: str
    """Its id."""
    prompt: str
    text: str
    prompt_tokens: int
    visual_tokens: int
    new_tokens: int
    seconds: float
    """Of answering; of answers made together, each one's share."""


def given_of(question: Question, answer: Answer, seconds: float) -> Given:
    return Given(question.id, question.prompt, answer.text, answer.prompt_tokens, answer.visual_tokens,
                 len(answer.ids), seconds)


@dataclass(frozen=True)
class Answered:
    """The answers of one arm to all questions about a clip."""

    watch: str
    """The clip's id."""
    arm: str
    conditions: dict[str, Any]
    frames: int
    """Really looked at."""
    setup_s: float
    """Once for the clip: decoding and seeing it, then making its adapter or its part of the prompt."""
    answers: tuple[Given, ...]


@dataclass(frozen=True)
class Unreadable:
    """A clip that could not be decoded."""

    watch: str
    name: str
    reason: str


_Key = tuple[str, str, str]
"""A clip's id, an arm, and its conditions."""


class Record:
    """What a journal holds of a setting; new answers go into it. Errors as of `Journal`."""

    def __init__(self, journal: Journal, setting: Setting) -> None:
        self._journal, self._asked = journal, setting.asked()
        self._by_maker: dict[str, dict[_Key, dict[str, Any]]] = {}
        self._judged: dict[str, float | None] = {}
        self.made: Made | None = None
        """Who answered last under this setting."""
        self._begun = False
        """Whether what is added now would be read as of this maker."""
        self._read(journal.documents)

    def _read(self, documents: Sequence[dict[str, Any]]) -> None:
        units: dict[_Key, dict[str, Any]] | None = None
        for document in documents:
            try:
                if document["kind"] == "quality":
                    units = None
                    if document["asked"] == self._asked:
                        self.made = Made(**document["made"])
                        units = self._by_maker.setdefault(_text(asdict(self.made)), {})
                elif document["kind"] == "judged":
                    self._judged[_text(document["what"])] = document["score"]
                elif units is not None and document["kind"] in ("answers", "unreadable"):
                    units[document["watch"], document["arm"], _text(document["conditions"])] = document
            except (KeyError, TypeError):
                continue  # of another version
        self._begun = units is not None

    def made_by(self, made: Made) -> None:
        """From now on only what this maker answered counts, and what is added is its."""
        if made != self.made:
            self.made, self._begun = made, False

    def find(self, task: Task, arm: str) -> Answered | Unreadable | None:
        """What is known of a task, if it was about the same file and asked the same."""
        units = self._by_maker.get(_text(asdict(self.made)), {}) if self.made else {}
        document = units.get((task.watch.id, arm, _text(task.conditions(arm))))
        if document is None or not _same_source(document["source"], _source(task.watch)):
            return None
        try:
            if document["kind"] == "unreadable":
                return Unreadable(task.watch.id, task.watch.name, document["reason"])
            unit = Answered(**{name: document[name] for name in ("watch", "arm", "conditions", "frames", "setup_s")},
                            answers=tuple(Given(**given) for given in document["answers"]))
        except (KeyError, TypeError):
            return None
        given = {answer.question: answer for answer in unit.answers}
        wanted = [given.get(question.id) for question in task.watch.questions]
        if not all(a and a.prompt == q.prompt for a, q in zip(wanted, task.watch.questions, strict=True)):
            return None
        return replace(unit, answers=tuple(answer for answer in wanted if answer))

    def add(self, task: Task, found: Answered) -> None:
        self._keep("answers", task, found.arm, asdict(found))

    def add_unreadable(self, task: Task, found: Unreadable) -> None:
        for arm in task.arms:
            self._keep("unreadable", task, arm, {"reason": found.reason})

    def _keep(self, kind: str, task: Task, arm: str, values: dict[str, Any]) -> None:
        assert self.made is not None
        if not self._begun:
            self._journal.add({"kind": "quality", "asked": self._asked, "made": asdict(self.made)})
            self._begun = True
        document = {"kind": kind, "watch": task.watch.id, "arm": arm, "conditions": task.conditions(arm),
                    "source": _source(task.watch), **values}
        self._journal.add(document)
        units = self._by_maker.setdefault(_text(asdict(self.made)), {})
        units[task.watch.id, arm, _text(task.conditions(arm))] = document

    def judged(self, what: dict[str, Any]) -> tuple[float | None] | None:
        """What a judge said when it was asked this before; None if it was not."""
        key = _text(what)
        return (self._judged[key],) if key in self._judged else None

    def add_judged(self, what: dict[str, Any], score: float | None) -> None:
        self._judged[_text(what)] = score
        self._journal.add({"kind": "judged", "what": what, "score": score})


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _source(watch: Watch) -> dict[str, Any]:
    try:
        size: int | None = watch.video.stat().st_size
    except (OSError, ValueError):
        size = None
    return {"name": watch.video.name, "start": watch.start, "end": watch.end, "size": size}


def _same_source(known: dict[str, Any], now: dict[str, Any]) -> bool:
    """A file that is not at hand is taken to be the one of the same name."""
    return known == now or (now["size"] is None and known | {"size": None} == now)
