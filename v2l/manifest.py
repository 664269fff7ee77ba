"""Clips and what is asked of them: a JSON Lines file that training and the quality bench read.

One JSON object a line: `id`, `video_path` (relative to the manifest's folder, or absolute), `prompt`, `target_text` (a
text or a list of them; left out where a teacher is still to write it), and optionally `question` and `answer` (a second
turn about the same clip, `question_kind` its kind), `start` and `end` (seconds), `split` (train, val or test),
`benchmark`, `task` (caption, qa), `kind`, `choices`. Other keys are the user's own and left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.errors import UsageError
from v2l.system.files import replacing
from v2l.system.lines import NO_TEXT, text_of

SPLITS = ("train", "val", "test")
TASKS = ("caption", "qa")


@dataclass(frozen=True)
class Turn:
    """One thing asked about a clip."""

    prompt: str
    targets: tuple[str, ...]
    """References; none where a teacher is still to write them."""
    kind: str = ""


@dataclass(frozen=True)
class Item:
    """One line: a clip, and one or two turns about it."""

    id: str
    video: Path
    turns: tuple[Turn, ...]
    start: float | None = None
    """Seconds; the clip begins here, and ends at `end`."""
    end: float | None = None
    split: str = "train"
    benchmark: str = ""
    choices: tuple[str, ...] = ()
    task: str = ""
    """Task of its benchmark, one of TASKS; empty where the manifest does not say."""


def read_manifest(path: str | os.PathLike[str], split: str | None = None) -> list[Item]:
    """The items of a manifest, those of one split if that is given. No video is opened.

    Raises UsageError, naming the file, the line and what is wrong with it.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"There is no split {split!r}; it is {_either(SPLITS)}.")
    return [item for item, _ in read_lines(path) if split in (None, item.split)]


def read_lines(path: str | os.PathLike[str]) -> list[tuple[Item, dict[str, Any]]]:
    """Every item with the JSON object it was read from, the user's own keys included. Raises as `read_manifest`."""
    path = Path(path)
    items: list[tuple[Item, dict[str, Any]]] = []
    lines: dict[str, int] = {}
    for number, document in documents(path):
        item = parse_item(document, path.parent, f"{path}, line {number}")
        before = lines.setdefault(item.id, number)
        if before != number:
            raise UsageError(f"{path}, line {number}: the id {_short(item.id)} is that of line {before} too; "
                             "give each line its own.")
        items.append((item, document))
    if not items:
        raise UsageError(f"{path} is empty; a manifest has one JSON object a line.")
    return items


def documents(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers of the lines and the JSON objects they hold. Raises UsageError."""
    try:
        text = text_of(path.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text, or a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or NO_TEXT
        raise UsageError(f"The manifest {path} cannot be read ({reason}); name a JSON Lines file.") from None
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a text may hold other ends of lines
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is not JSON ({error}); write one object a line.") from None
        if not isinstance(document, dict):
            raise UsageError(f"{path}, line {number} is no JSON object; write one object a line.")
        yield number, document


def parse_item(document: dict[str, Any], folder: Path, where: str) -> Item:
    """Item that a line's JSON object describes; `folder` is the manifest's. UsageError begins with `where` and names
    all that is wrong."""
    line = _Line({key: value for key, value in document.items() if value is not None})
    id, video = line.text("id", needed=True), line.text("video_path", needed=True)
    if "\0" in video:
        line.problems.append("video_path holds a NUL character")
    turns = [Turn(line.text("prompt", needed=True), line.texts("target_text"), line.text("kind"))]
    if "question" in line.values:
        turns.append(Turn(line.text("question"), line.texts("answer"), line.text("question_kind")))
    elif "answer" in line.values:
        line.problems.append("there is an answer and no question")
    start, end = line.seconds("start"), line.seconds("end")
    if end is not None and end <= (start or 0):
        line.problems.append(f"end ({end:g}) does not come after start ({start or 0:g})")
    split = line.text("split") or "train"
    if split not in SPLITS:
        line.problems.append(f"split is {_short(split)}, not {_either(SPLITS)}")
    benchmark, choices, task = line.text("benchmark"), line.texts("choices"), line.text("task")
    if task not in ("", *TASKS):
        line.problems.append(f"task is {_short(task)}, not {_either(TASKS)}")
    if line.problems:
        raise UsageError(f"{where}: {'; '.join(line.problems)}.")
    return Item(id, folder / video, tuple(turns), start, end, split, benchmark, choices, task)


class _Line:
    """Values of a line as what they must be; what is otherwise is noted in `problems`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values, self.problems = values, list[str]()

    def text(self, key: str, needed: bool = False) -> str:
        value = self.values.get(key, None if needed else "")
        if value is None:
            self.problems.append(f"there is no {key}")
        elif not isinstance(value, str):
            self.problems.append(f"{key} is {_short(value)}, not a text")
        elif not value.strip() and key in self.values:
            self.problems.append(f"{key} is blank")
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            self.problems.append(f"{key} is {_short(value)}, not a text or a list of texts")
            return ()
        if not all(each.strip() for each in values):
            self.problems.append(f"{key} is blank; leave it out where there is none")
        return tuple(values)

    def seconds(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and 0 <= value < 2**53):  # never of NaN, and what is more a float may not hold
            self.problems.append(f"{key} is {_short(value)}, not seconds from 0 on")
            return None
        return float(value)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def write_manifest(path: str | os.PathLike[str], items: Iterable[Item]) -> None:
    """Writes items as `read_manifest` reads them; the same items give the same bytes. Raises OutputError."""
    folder = Path(path).parent
    lines = [line_of(document_of(item, folder)) for item in items]
    with replacing(path) as file:
        file.writelines(lines)


def line_of(document: dict[str, Any]) -> bytes:
    """Line of a manifest that holds a JSON object, with its end."""
    return json.dumps(document).encode() + b"\n"


def document_of(item: Item, folder: Path) -> dict[str, Any]:
    """JSON object of an item's line in a manifest in `folder`."""
    if len(item.turns) not in (1, 2):
        raise ValueError(f"{item.id} has {len(item.turns)} turns; a line of a manifest holds one or two.")
    values: dict[str, Any] = {"id": item.id, "video_path": video_path(item.video, folder)}
    for turn, (prompt, targets, kind) in zip(item.turns, TURN_KEYS, strict=False):
        values |= {prompt: turn.prompt, targets: turn.targets[0] if len(turn.targets) == 1 else list(turn.targets),
                   kind: turn.kind}
    values |= {"start": item.start, "end": item.end, "split": item.split, "benchmark": item.benchmark,
               "task": item.task, "choices": list(item.choices)}
    return {key: value for key, value in values.items() if value not in (None, "", [])}


TURN_KEYS = (("prompt", "target_text", "kind"), ("question", "answer", "question_kind"))
"""Keys of a line's first and second turn: prompt, targets, kind."""


def video_path(video: Path, folder: Path) -> str:
    """Name of a video in a manifest in `folder`: relative where it lies below, so that both can move together."""
    video, folder = Path(os.path.abspath(video)), Path(os.path.abspath(folder))
    return video.relative_to(folder).as_posix() if video.is_relative_to(folder) else str(video)
