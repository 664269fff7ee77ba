"""The door for Python: the engine with what the floors above it know, so that it answers as the command line does."""

from __future__ import annotations

import gc
import math
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, cast, overload

import torch

from v2l import engine
from v2l.adapter.file import Adapter, as_adapter
from v2l.adapter.join import join
from v2l.adapter.record import foreign_text
from v2l.config import STRATEGIES, Decoding, Sampling, Scenes, Strategy
from v2l.errors import AdapterError, UsageError
from v2l.model.answer import Answer
from v2l.model.generate import Reply
from v2l.model.text import LayerAdapter
from v2l.strategies.answered import origin, with_origin
from v2l.strategies.parts import Parts
from v2l.strategies.prepared import Prepared
from v2l.strategies.search import FoundMoment, Search, best_first
from v2l.strategies.strategy import ask_prepared, prepare
from v2l.system.progress import Progress
from v2l.video.clip import Clip, open_clip
from v2l.video.cuts import SegmentSpec, frame_at, parse_segments, regular, windows
from v2l.video.decode import Decoder
from v2l.video.given import ArrayClip, are_frames, as_file, clip_of_frames
from v2l.video.scenes import scene_edges
from v2l.wording import clock_seconds, nearest

Asked: TypeAlias = str | os.PathLike[str] | Adapter
"""An adapter, or the path of its file."""
Bound: TypeAlias = list[LayerAdapter] | None
"""An adapter from `Engine.bind`; None is the bare base."""


class Engine(engine.Engine):
    """A base model and its hypernetwork on this machine, loaded when first needed.

    `model` is `tiny`, `500m`, `2.2b`, a folder or a Hub id; None is the command line's default: what V2L_MODEL or
    `v2l models use` says, else `tiny`. `checkpoint` is a hypernetwork file or Hub id, by default the model's own;
    `device` cpu, cuda, cuda:N or mps; `dtype` auto, float32, bfloat16 or float16. Errors are V2LError.

    Threads may share an engine: it loads once, watches one video at a time, and answers several questions at once. A
    `with` block, or `close`, frees its memory.
    """

    def __init__(
        self, model: str | os.PathLike[str] | None = None, checkpoint: str | os.PathLike[str] | None = None, *,
        device: str | None = None, dtype: str = "auto", offline: bool = False, progress: Progress | None = None,
    ) -> None:
        for name, value in (("model", model), ("checkpoint", checkpoint), ("device", device), ("dtype", dtype)):
            if not isinstance(value, (str, os.PathLike, type(None))):
                raise UsageError(f"{name} is text, not {type(value).__name__}.")
        super().__init__(_text(model), _text(checkpoint), device=device, dtype=dtype, offline=offline,
                         progress=progress)
        self._loading, self._watching = threading.RLock(), threading.RLock()
        self._last: tuple[Adapter, Parts] | None = None
        """The adapter that was asked last, and what was made of it."""
        self._told_foreign = False

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Engine({self.model!r}, device={str(self.device)!r}, dtype={dtype!r})"

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model's memory. What is asked afterwards loads it again; call it when nothing is under way."""
        with self._watching, self._loading:
            self._last = None
            for name in ("base", "hypernetwork"):
                self.__dict__.pop(name, None)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # -- watching ------------------------------------------------------------------------------------------------

    def ingest(
        self, video: Any, sampling: Sampling | None = None, adapter_dtype: str = "auto", *, times: Any = None,
        frames: int | None = None, fps: float | None = None, resolution: int | None = None,
        start: float | str | None = None, end: float | str | None = None, segment: float | str | None = None,
        name: str | None = None, progress: Progress | None = None,
    ) -> Adapter:
        """Watches a video once, and gives its adapter: the one that `v2l ingest` writes of a file with these options.

        `video` is a path, the bytes of a file or a binary file object, or frames in memory: RGB uint8 [n, h, w, 3],
        with `times`, the n seconds at which they are shown. `frames`, `fps`, `resolution`, `start` and `end` sample it
        (or a whole `sampling`); `segment` is a length, such as 60, "60s" or "1:30", or "scenes". `name` is what a
        video is called that has no file. `progress` gets (what is under way, frames seen, frames in all). What the
        command line would note becomes a UserWarning. Errors are V2LError, UsageError for what is not taken.
        """
        changes = {"frames": frames, "fps": fps, "resolution": resolution, "start": _seconds("start", start),
                   "end": _seconds("end", end)}
        given = {key: _number(key, value) for key, value in changes.items() if value is not None}
        if sampling is not None and given:
            raise UsageError(f"A sampling says all, {next(iter(given))} too; change it with dataclasses.replace.")
        spec = None if segment is None else _spec(segment)
        if times is not None and not are_frames(video):
            raise UsageError("times are for frames in memory; a file has its own.")
        with self._watching, self._telling(progress):
            with self._loading:
                self.load()
            sampling = sampling or self.sampling(**given)
            with ExitStack() as stack:
                clip = _clip(video, sampling, times, name, stack)
                adapter = (super().ingest(clip, sampling, adapter_dtype) if spec is None
                           else self._in_segments(clip, sampling, spec, adapter_dtype))
        for warning in clip.warnings:  # of a video that is no file, without the folder where it was one for a while
            known = isinstance(video, (str, os.PathLike, Clip))
            warnings.warn(warning if known else warning.replace(str(clip.info.path), clip.info.path.name), stacklevel=2)
        self._tell_foreign(adapter, clip.info.path.name)
        return adapter

    def _tell_foreign(self, adapter: Adapter, name: str) -> None:
        """Warns, once an engine, of a video that its model was made for nothing like."""
        if adapter.is_foreign and not self._told_foreign:
            self._told_foreign = True
            warnings.warn(foreign_text(name, then='Engine("500m").ingest(VIDEO)'), stacklevel=3)

    @contextmanager
    def _telling(self, progress: Progress | None) -> Iterator[None]:
        """The engine tells `progress`, where there is one, for as long as the context lasts."""
        usual = self.progress
        self.progress = progress or usual
        try:
            yield
        finally:
            self.progress = usual

    def _in_segments(self, clip: Clip, sampling: Sampling, spec: SegmentSpec, adapter_dtype: str) -> Adapter:
        """Each segment watched by itself, in one pass over the file, and all joined."""
        parts = windows(clip, sampling, self._cuts(clip, sampling, spec))
        clips = [clip.window(part) for part in parts]
        total, before, adapters, tell = sum(len(one.indices) for one in clips), 0, list[Adapter](), self.progress
        with closing(Decoder(clip.track)) as decoder:
            for number, (one, part) in enumerate(zip(clips, parts, strict=True), 1):
                one.decoder, what, done = decoder, f"{clip.info.path.name}, segment {number}/{len(parts)}", before
                with self._telling(tell and (lambda _, seen, __: tell(what, done + seen, total))):  # noqa: B023
                    made = super().ingest(one, part, adapter_dtype)
                if adapters:  # all carry the hypernetwork's bias, which is held once
                    made = replace(made, bias_A=adapters[0].bias_A, bias_B=adapters[0].bias_B)
                adapters.append(made)
                before += len(one.indices)
        return join(adapters)[0]

    def _cuts(self, clip: Clip, sampling: Sampling, spec: SegmentSpec) -> list[float]:
        start, end = clip.span(sampling)
        if spec.length is not None:
            return regular(start, end, spec.length)
        if isinstance(clip, ArrayClip):
            raise UsageError("Scenes are looked for in files; cut frames in memory by a length, such as 60s.")
        first, stop, what, tell = frame_at(clip, start), frame_at(clip, end), "looking for scenes", self.progress
        return scene_edges(clip.track, first, stop, Scenes(), tell and (lambda seen: tell(what, seen, stop - first)))

    # -- asking --------------------------------------------------------------------------------------------------

    @overload
    def ask(  # type: ignore[overload-overlap]  # a str is a sequence of str, and comes first
            self, adapter: Asked | Bound, question: str, decoding: Decoding | None = None, *,
            strategy: str | Strategy = "auto", max_new_tokens: int | None = None, temperature: float | None = None,
            seed: int | None = None) -> Reply: ...

    @overload
    def ask(self, adapter: Asked | Sequence[Asked], question: str | Sequence[str], decoding: Decoding | None = None, *,
            strategy: str | Strategy = "auto", max_new_tokens: int | None = None, temperature: float | None = None,
            seed: int | None = None) -> list[Answer]: ...

    def ask(
        self, adapter: Asked | Bound | Sequence[Asked], question: str | Sequence[str],
        decoding: Decoding | None = None, *, strategy: str | Strategy = "auto", max_new_tokens: int | None = None,
        temperature: float | None = None, seed: int | None = None,
    ) -> Reply | list[Answer]:
        """A question to an adapter or its file, answered as by `v2l ask`. Iterate the reply for text as it comes, or
        read its `text`.

        Of an adapter of several segments, `strategy` is auto, join, route, each or timeline; the reply's `strategy` and
        `answered_by` tell how and of which segments it was made. Several adapters, several questions or both give a
        list of answers, as `ask_each` does: every adapter is asked by itself; `v2l.compose` joins some.
        """
        limits = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        decoding, chosen = _decoding(decoding, limits), _strategy(strategy)
        if adapter is None or (isinstance(adapter, list) and adapter and isinstance(adapter[0], LayerAdapter)):
            if not isinstance(question, str):
                raise UsageError("A bound adapter is asked one question; ask_batch takes many.")
            return super().ask(cast(Bound, adapter), question, decoding)
        asked = cast("Asked | Sequence[Asked]", adapter)
        if not _is_one(asked) or not isinstance(question, str):
            return list(self.ask_each(asked, question, decoding, strategy=chosen))
        _check_questions([question])
        self._load_text()
        self.check_question(question)
        parts = self._parts(cast(Asked, adapter))
        prepared = next(prepare(self, parts, [question], chosen, decoding))
        found = origin(parts, prepared)
        if prepared.answer is not None:
            return Reply.of(with_origin(prepared.answer, found))
        reply = super().ask(prepared.adapter, prepared.prompt, decoding)
        reply.strategy, reply.answered_by = found["strategy"], found["answered_by"]
        return reply

    def ask_each(
        self, adapters: Asked | Iterable[Asked], questions: str | Iterable[str], decoding: Decoding | None = None, *,
        strategy: str | Strategy = "auto",
    ) -> Iterator[Answer]:
        """Every question to every adapter by itself, in batches: the answers to the first adapter's questions, in
        their order, then the next one's. Adapters are read as they are needed, so there may be any number."""
        several = cast("Iterable[Asked]", [adapters] if _is_one(adapters) else adapters)
        asked = _questions(questions)
        decoding, chosen = _decoding(decoding, {}), _strategy(strategy)
        self._load_text()
        for question in asked:
            self.check_question(question)
        waiting: deque[dict[str, Any]] = deque()  # of adapters that are let go of as soon as they can be

        def prepared() -> Iterator[Prepared]:
            for one in several:
                parts = self._parts(one)
                for each in prepare(self, parts, asked, chosen, decoding):
                    waiting.append(origin(parts, each))
                    yield each

        return (with_origin(answer, waiting.popleft()) for _, answer in ask_prepared(self, prepared(), decoding))

    def find(self, adapters: Asked | Iterable[Asked], what: str, *, threshold: float | None = None,
             top: int | None = None) -> list[FoundMoment]:
        """When something happens, in one adapter or in any number: the moments that `v2l find` prints, the best first.

        `what` is a thing, what it does, or a question of yes and no. Each moment has `adapter`, `file`, `start`, `end`
        and `score`: how much surer the model is of it than without the video, nats. `threshold` is the score from
        which on something is there, by default the base's own; `top` the most moments. That the base does not know
        what is looked for is a UserWarning. Errors are V2LError.
        """
        several = cast("Iterable[Asked]", [adapters] if _is_one(adapters) else adapters)
        _check_questions([what])
        least = None if threshold is None else float(_number("threshold", threshold))
        if top is not None and _number("top", top) < 1:
            raise UsageError(f"top must be 1 or more, not {top}.")
        self._load_text()
        self.check_question(what)
        search, found = Search(self, what, least), list[FoundMoment]()
        for one in search.among((_name(each), self._parts(each)) for each in several):
            if one.moments is None:
                raise AdapterError(f"{one.name} cannot be searched, because with it the model's numbers are not "
                                   "finite: it was damaged, or made so; get it again, or try dtype=\"float32\".")
            found += one.moments
        if search.unanswered:
            warnings.warn(str(search.nothing(self.files.name)), stacklevel=2)
        return best_first(found)[:top]

    def _load_text(self) -> None:
        with self._loading:
            self.load_text()

    def _parts(self, adapter: Asked) -> Parts:
        """The adapter made ready to be asked; that of the last call is kept."""
        last = self._last
        if last is not None and last[0] is adapter:
            return last[1]
        read = as_adapter(adapter)
        self._tell_foreign(read, read.name)
        parts = Parts(self, read)
        self._last = read, parts
        return parts


def _text(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fspath(value)


def _name(adapter: Asked) -> str:
    """An adapter as it was named."""
    return adapter.name if isinstance(adapter, Adapter) else os.fspath(adapter)


def _is_one(adapter: object) -> bool:
    """Whether a value is meant as one adapter: an adapter, a path, or what is refused as one."""
    return isinstance(adapter, (str, bytes, os.PathLike, Adapter)) or not isinstance(adapter, Iterable)


def _clip(video: Any, sampling: Sampling, times: Any, name: str | None, stack: ExitStack) -> Clip:
    """The clip of whatever is taken for a video; what it needs lasts as long as `stack`."""
    if isinstance(video, Clip):
        return video
    if isinstance(video, (str, os.PathLike)):
        return open_clip(Path(video), sampling)
    if are_frames(video):
        return clip_of_frames(video, times, sampling, *([name] if name else []))
    if not isinstance(video, (bytes, bytearray, memoryview)) and not hasattr(video, "read"):
        raise UsageError(f"A video is a path, bytes, a binary file object or an array of frames with times, not "
                         f"{type(video).__name__}.")
    return open_clip(stack.enter_context(as_file(video, name)), sampling)


def _number(name: str, value: Any) -> Any:
    whole = name in ("frames", "resolution", "max_new_tokens", "seed", "top")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise UsageError(f"{name} is a {'whole ' if whole else ''}number, not {value!r}.")
    if not math.isfinite(value):
        raise UsageError(f"{name} is a number, not {value!r}.")
    return value


def _seconds(name: str, value: float | str | None) -> float | None:
    if not isinstance(value, str):
        return value
    if (seconds := clock_seconds(value)) is None:
        raise UsageError(f"{name} is seconds, or a time such as 1:30, not {value!r}.")
    return seconds


def _spec(segment: float | str) -> SegmentSpec:
    return parse_segments(segment if isinstance(segment, str) else repr(_number("segment", segment)))


def _strategy(strategy: str | Strategy) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if strategy not in STRATEGIES:
        raise UsageError(f"There is no strategy {strategy!r}{nearest(str(strategy), STRATEGIES)}; choose "
                         f"{', '.join(STRATEGIES)}.")
    return Strategy(strategy)


def _decoding(decoding: Decoding | None, changes: dict[str, Any]) -> Decoding:
    given = {name: _number(name, value) for name, value in changes.items() if value is not None}
    decoding = replace(decoding or Decoding(), **given)
    if decoding.max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be 1 or more, not {decoding.max_new_tokens}.")
    if decoding.temperature < 0:
        raise UsageError(f"temperature must be 0 or more, not {decoding.temperature}.")
    return decoding


def _questions(questions: str | Iterable[str]) -> list[str]:
    """All that is asked. UsageError for what is no text."""
    if isinstance(questions, Adapter):
        raise UsageError("The adapter comes first, and then the question.")
    if isinstance(questions, (str, bytes)) or not isinstance(questions, Iterable):
        questions = [questions]
    _check_questions(listed := list(questions))
    return listed


def _check_questions(questions: Sequence[Any]) -> None:
    for question in questions:
        if not isinstance(question, str) or not question.strip():
            what = "empty" if isinstance(question, str) else f"text, not {type(question).__name__}"
            raise UsageError(f"A question is {what}.")
