"""A teacher's texts: what a base says with the video in its prompt is what a hypernetwork learns (v2l/README.md section
8)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from v2l.config import Decoding, Sampling
from v2l.errors import ModelError, OutputError, UsageError
from v2l.manifest import TURN_KEYS, Item, Turn, document_of, line_of, parse_item, read_lines, video_path
from v2l.system.appended import Appended
from v2l.system.files import beside, replacing
from v2l.train.config import CAPTION_PROMPTS
from v2l.video.clip import open_clip

if TYPE_CHECKING:
    from v2l.engine import Engine, Seen
    from v2l.model.answer import Answer


def lines_of_videos(videos: Iterable[Path], folder: Path, prompt: str | None = None
                    ) -> list[tuple[Item, dict[str, Any]]]:
    """Videos as the lines of a manifest in `folder`: the prompt, or one of the usual ones, is asked of each."""
    items = []
    for video in videos:
        name = video_path(video, folder)
        asked = prompt or CAPTION_PROMPTS[crc32(os.fsencode(video.name)) % len(CAPTION_PROMPTS)]
        items.append(Item(name, folder / name, (Turn(asked, (), "caption"),)))
    return [(item, document_of(item, folder)) for item in items]


def teacher(engine: Engine, sampling: Sampling, decoding: Decoding) -> dict[str, Any]:
    """The teacher's name, sampling and decoding, as the lines it writes record them."""
    return {"base": engine.files.name, "revision": engine.files.revision, **sampling.recorded(),
            "max_new_tokens": decoding.max_new_tokens, "dtype": str(engine.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class _Line:
    """A line to be written."""

    item: Item
    document: dict[str, Any]
    """The line as it was given, but for the video's path, which starts at the output's folder."""
    wanted: tuple[int, ...]
    """Numbers of the turns that the teacher writes."""

    @property
    def prompts(self) -> list[str]:
        """Prompts of the wanted turns."""
        return [self.item.turns[turn].prompt for turn in self.wanted]

    @property
    def clip(self) -> tuple[str, float | None, float | None]:
        return os.path.abspath(self.item.video), self.item.start, self.item.end

    def filled(self, texts: Sequence[str], teacher: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the teacher's texts of its wanted turns."""
        wrote = dict(zip((TURN_KEYS[turn][1] for turn in self.wanted), texts, strict=True))
        return {**self.document, **wrote, "teacher": {**teacher, "wrote": list(wrote)}}

    def texts_in(self, item: Item, document: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str] | None:
        """The texts that a line written before has of its wanted turns; None unless this teacher was asked the same."""
        by = document.get("teacher")
        if not isinstance(by, dict) or not isinstance(by.get("wrote"), list):
            return None
        other = _Line(item, {}, self.wanted)
        same = (len(item.turns) == len(self.item.turns) and (other.clip, other.prompts) == (self.clip, self.prompts)
                and all(TURN_KEYS[turn][1] in by["wrote"] and item.turns[turn].targets for turn in self.wanted)
                and {key: value for key, value in by.items() if key != "wrote"} == teacher)
        return [item.turns[turn].targets[0] for turn in self.wanted] if same else None


class Targets:
    """A manifest in the making: `path` once it is whole; until then its lines are appended to `path` + `.part`, from
    which an interrupted run resumes. Until `close` no other process can write it: use it as a context manager.

    `lines` are as `read_lines` gives them. The teacher writes turns without targets, with `force` all of them; a
    finished `path` is then made again. UsageError where `path` holds lines of something else, or another run writes it.
    """

    def __init__(self, path: Path, lines: Iterable[tuple[Item, dict[str, Any]]], teacher: Mapping[str, Any],
                 force: bool = False) -> None:
        self.path, self.part, self.teacher, self.force = path, beside(path, "{}.part"), teacher, force
        self.lines = [self._line(*line) for line in lines]
        self._written = Appended(self.part, "what an earlier run of `v2l train targets` wrote",
                                 "name another file with -o")
        try:
            self._resume()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Targets:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes write the manifest."""
        self._written.close()

    def _resume(self) -> None:
        self.ready: dict[str, dict[str, Any]] = {line.item.id: line.document for line in self.lines if not line.wanted}
        """Finished lines, by their id."""
        self.given = len(self.ready)
        """Lines that the teacher has nothing to do with."""
        before = [*self._finished(), *self._unfinished()]
        wanted = {line.item.id: line for line in self.lines if line.wanted}
        for item, document in before:
            line = wanted.get(item.id)
            texts = line.texts_in(item, document, self.teacher) if line else None
            if line and texts:
                self.ready[item.id] = line.filled(texts, self.teacher)
        self.resumed = len(self.ready) - self.given
        """Lines that an earlier run wrote."""

    def _line(self, item: Item, document: dict[str, Any]) -> _Line:
        if asked := [turn.prompt for turn in item.turns if "<image>" in turn.prompt]:
            raise UsageError(f"The prompt {asked[0]!r} of {item.id} contains <image>, which stands for frames; "
                             "leave it out.")
        wanted = tuple(i for i, turn in enumerate(item.turns) if self.force or not turn.targets)
        return _Line(item, {**document, "video_path": video_path(item.video, self.path.parent)}, wanted)

    def _finished(self) -> list[tuple[Item, dict[str, Any]]]:
        """The lines of `path`, where that is not to be written anew."""
        if self.force or not self.path.exists():
            return []
        entries, ids = read_lines(self.path), {line.item.id for line in self.lines}
        if strange := [item.id for item, _ in entries if item.id not in ids]:
            raise UsageError(f"{self.path} holds lines of another manifest or part, such as {strange[0]}; take them "
                             "out, name another file with -o, or replace it with --force.")
        return entries

    def _unfinished(self) -> list[tuple[Item, dict[str, Any]]]:
        """The lines that an interrupted run wrote."""
        return [(parse_item(document, self.path.parent, f"{self.part}, line {number}"), document)
                for number, document in enumerate(self._written.documents, 1)]

    def clips(self) -> list[list[_Line]]:
        """The lines that are still to be written, those about one clip together."""
        clips: dict[object, list[_Line]] = {}
        for line in self.lines:
            if line.item.id not in self.ready:
                clips.setdefault(line.clip, []).append(line)
        return list(clips.values())

    def add(self, line: _Line, texts: Sequence[str]) -> None:
        """Keeps what the teacher wrote. Raises OutputError."""
        document = line.filled(texts, self.teacher)
        self._written.add(document)
        self.ready[line.item.id] = document

    def finish(self) -> bool:
        """Writes `path`, in the order of the lines given; lines that failed are left out. False where none is there to
        write. Raises OutputError, and UsageError where another run has written `path` meanwhile."""
        if not self.ready:
            return False
        self._finished()
        written = b"".join(line_of(self.ready[line.item.id]) for line in self.lines if line.item.id in self.ready)
        if not self.path.exists() or self.path.read_bytes() != written:
            with replacing(self.path) as file:
                file.write(written)
        with suppress(OSError):
            self.part.unlink(missing_ok=True)
        return True


@dataclass(frozen=True)
class ClipTargets:
    """The result for a clip."""

    video: Path
    texts: int = 0
    cut: int = 0
    """Texts that were ended by `max_new_tokens`."""
    errors: list[Exception] = field(default_factory=list)
    """Reasons why lines of the clip were not written."""
    warnings: Sequence[str] = ()


def write_targets(engine: Engine, targets: Targets, sampling: Sampling, decoding: Decoding) -> Iterator[ClipTargets]:
    """Has the teacher write what is missing, clip by clip; each is seen once, whatever is asked of it. A clip that
    cannot be read stops no other. Call `targets.finish()` at the end."""
    for lines in targets.clips():
        item = lines[0].item
        try:
            yield _answer(engine, targets, lines, replace(sampling, start=item.start, end=item.end), decoding)
        except OutputError:
            raise  # what befalls every clip
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # the tensors in them must be gone before the next clip
            yield ClipTargets(item.video, errors=[error])


def _answer(engine: Engine, targets: Targets, lines: Sequence[_Line], sampling: Sampling, decoding: Decoding
            ) -> ClipTargets:
    clip = open_clip(lines[0].item.video, sampling)
    prompts = list(dict.fromkeys(prompt for line in lines for prompt in line.prompts))
    answers = _ask(engine, engine.see(clip, sampling), prompts, decoding)
    errors: list[Exception] = []
    for line in lines:
        texts = [answers[prompt].text for prompt in line.prompts]
        if all(texts):
            targets.add(line, texts)
        else:
            errors.append(ModelError(f"{line.item.id}: the teacher answers {line.prompts[texts.index('')]!r} "
                                     "with nothing; write that target yourself."))
    cut = sum(len(answer.ids) == decoding.max_new_tokens for answer in answers.values())
    return ClipTargets(clip.info.path, len(answers), cut, errors, clip.warnings)


def _ask(engine: Engine, seen: Seen, prompts: Sequence[str], decoding: Decoding) -> dict[str, Answer]:
    """Each prompt with the video before it; of several, the video's part is computed once."""
    if len(prompts) == 1:
        return {prompts[0]: engine.direct(seen, prompts[0], decoding=decoding).finish()}
    answers = engine.direct_batch(seen, engine.prefix(seen, 0), prompts, decoding)
    return dict(zip(prompts, answers, strict=True))
