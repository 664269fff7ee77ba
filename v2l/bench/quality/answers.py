"""Answers as they are kept, so that a run goes on after a stop and is scored again without the model.

The file is one of JSON lines (`system.appended`): `quality`, what a run asks of whom and its id; `answers` and
`unreadable`, each of one arm about one clip, with that id; `judged`, a judge's score of one answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from v2l.bench.quality.plan import EvalClip, EvalSetting
from v2l.config import Sampling
from v2l.system.appended import Appended

if TYPE_CHECKING:
    from v2l.model.answer import Answer


@dataclass(frozen=True)
class Respondent:
    """The model that answers, with all that decides its answers: what a setting comes to once a model is at hand."""

    model: str
    fingerprint: str
    """Hash of the base's text stack."""
    hypernetwork: str
    sha256: str
    """Hash of the hypernetwork's file."""
    dtype: str
    device: str
    sampling: dict[str, Any]
    """Frames, fps, skip and resolution."""
    tile: int
    """Edge of a tile, in pixels."""
    budget_tokens: int

    def sampling_of(self, clip: EvalClip, **changes: Any) -> Sampling:
        """Sampling of a clip: this model's, in the clip's window."""
        return replace(Sampling(**self.sampling), start=clip.start, end=clip.end, **changes)


@dataclass(frozen=True)
class ClipTask:
    """A clip and the arms that are to answer its questions."""

    clip: EvalClip
    sampling: Sampling
    arms: tuple[str, ...]
    budget_tokens: int = 0
    """Tokens that a prompt of the arm `budget` has at most."""
    taught: tuple[str, ...] = ()
    """Ids of the questions that an adapter is fine-tuned on."""

    def conditions(self, arm: str) -> dict[str, Any]:
        """Conditions that decide an arm's answers beside the model."""
        if arm == "none":
            return {}
        values = self.sampling.recorded()  # without its window, which is the clip's
        more = {"tokens": self.budget_tokens} if arm == "budget" else {}
        return values | more | ({"taught": list(self.taught)} if self.taught else {})


@dataclass(frozen=True)
class SavedAnswer:
    """One answer."""

    question: str
    """Id of the question."""
    prompt: str
    text: str
    prompt_tokens: int
    visual_tokens: int
    new_tokens: int
    seconds: float
    """Time to answer; of answers made together, each one's share."""


@dataclass(frozen=True)
class ClipAnswers:
    """The answers of one arm to all questions about a clip."""

    clip: str
    """Id of the clip."""
    arm: str
    frames: int
    """Frames really looked at."""
    setup_s: float
    """Seconds, once for the clip: decoding and seeing it, then making its adapter or its part of the prompt."""
    answers: tuple[SavedAnswer, ...]

    @classmethod
    def of(cls, clip: EvalClip, arm: str, frames: int, setup_s: float, answers: Sequence[Answer],
           seconds: float) -> ClipAnswers:
        """The model's answers to all questions about a clip, which took so many seconds together."""
        return cls(clip.id, arm, frames, setup_s, tuple(
            SavedAnswer(question.id, question.prompt, answer.text, answer.prompt_tokens, answer.visual_tokens,
                        len(answer.ids), seconds / len(answers))
            for question, answer in zip(clip.questions, answers, strict=True)))


@dataclass(frozen=True)
class Unreadable:
    """A clip that could not be decoded."""

    clip: str
    """Id of the clip."""
    name: str
    reason: str


_Key = tuple[str, str, str]
"""A clip's id, an arm, and its conditions."""


class AnswerStore:
    """The answers that a file holds of a setting; new ones go into it. Errors as of `Appended.add`."""

    def __init__(self, file: Appended, setting: EvalSetting) -> None:
        self._file, self._asked = file, setting.key()
        self._answers: dict[str, dict[_Key, dict[str, Any]]] = {}
        """Documents by who answered."""
        self._judged: dict[str, float | None] = {}
        self.respondent: Respondent | None = None
        """Model that answers, at first the one that answered last under this setting. Only its answers are found, and
        what is added is its."""
        self._announced: Respondent | None = None
        """Whose run, of this setting's, the file names last with its id."""
        self._read(file.documents)

    def _read(self, documents: Sequence[dict[str, Any]]) -> None:
        runs: dict[str, str | None] = {}  # by id, who answered; under "" the last, for v2l 0.4 wrote no ids
        for document in documents:
            try:
                if document["kind"] == "quality":
                    runs[document.get("run", "")] = runs[""] = None
                    if document["asked"] == self._asked:
                        self.respondent = Respondent(**document["made"])
                        runs[document.get("run", "")] = runs[""] = _text(asdict(self.respondent))
                        self._announced = self.respondent if "run" in document else None
                elif document["kind"] == "judged":
                    self._judged[_text(document["what"])] = document["score"]
                elif document["kind"] in ("answers", "unreadable") and (who := runs.get(document.get("run", ""))):
                    answers = self._answers.setdefault(who, {})
                    answers[document["watch"], document["arm"], _text(document["conditions"])] = document
            except (KeyError, TypeError):
                continue  # of another version

    def find(self, task: ClipTask, arm: str) -> ClipAnswers | Unreadable | None:
        """The answers known to a task, if they are about the same file and the same questions."""
        answers = self._answers.get(_text(asdict(self.respondent)), {}) if self.respondent else {}
        document = answers.get((task.clip.id, arm, _text(task.conditions(arm))))
        if document is None:
            return None
        try:
            if not _same_source(document["source"], _source(task.clip)):
                return None
            if document["kind"] == "unreadable":
                return Unreadable(task.clip.id, task.clip.name, document["reason"])
            known = {answer["question"]: SavedAnswer(**answer) for answer in document["answers"]}
            wanted = [known.get(question.id) for question in task.clip.questions]
            if not all(a and a.prompt == q.prompt for a, q in zip(wanted, task.clip.questions, strict=True)):
                return None
            return ClipAnswers(task.clip.id, arm, document["frames"], document["setup_s"],
                               tuple(answer for answer in wanted if answer))
        except (KeyError, TypeError):
            return None  # of another version

    def add(self, task: ClipTask, answers: ClipAnswers) -> None:
        """Keeps what an arm answered."""
        self._keep("answers", task, answers.arm, {"frames": answers.frames, "setup_s": answers.setup_s,
                                                  "answers": [asdict(answer) for answer in answers.answers]})

    def add_unreadable(self, task: ClipTask, clip: Unreadable) -> None:
        """Keeps that none of the task's arms can answer."""
        for arm in task.arms:
            self._keep("unreadable", task, arm, {"reason": clip.reason})

    def _keep(self, kind: str, task: ClipTask, arm: str, values: dict[str, Any]) -> None:
        assert self.respondent is not None
        made = asdict(self.respondent)
        run = sha256(_text({"asked": self._asked, "made": made}).encode()).hexdigest()[:16]
        if self._announced != self.respondent:
            self._file.add({"kind": "quality", "run": run, "asked": self._asked, "made": made})
            self._announced = self.respondent
        document = {"kind": kind, "run": run, "watch": task.clip.id, "arm": arm, "conditions": task.conditions(arm),
                    "source": _source(task.clip), **values}
        self._file.add(document)
        self._answers.setdefault(_text(made), {})[task.clip.id, arm, _text(task.conditions(arm))] = document

    def judged(self, case: dict[str, Any]) -> tuple[float | None] | None:
        """The score that a judge gave this before, in a tuple, since it may be none; None if it was not asked."""
        key = _text(case)
        return (self._judged[key],) if key in self._judged else None

    def add_judged(self, case: dict[str, Any], score: float | None) -> None:
        """Keeps a judge's score."""
        self._judged[_text(case)] = score
        self._file.add({"kind": "judged", "what": case, "score": score})


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _source(clip: EvalClip) -> dict[str, Any]:
    try:
        size: int | None = clip.video.stat().st_size
    except (OSError, ValueError):
        size = None
    return {"name": clip.video.name, "start": clip.start, "end": clip.end, "size": size}


def _same_source(known: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two sources are one file; one that is not at hand is taken to be that of the same name."""
    return known == now or (now["size"] is None and known | {"size": None} == now)
