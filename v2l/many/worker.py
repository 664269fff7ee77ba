"""One worker of many: a process that holds an engine, and watches the videos that it is given."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import v2l
from v2l import errors
from v2l.errors import OutputError, V2LError, VideoError, sentence
from v2l.many.ingest import Failed, Ingested, Settings, ingest_one
from v2l.many.jobs import Job
from v2l.many.sharing import Ready, Taken, Unable

if TYPE_CHECKING:
    from v2l.engine import Engine
    from v2l.video.cuts import SegmentSpec


@dataclass(frozen=True)
class Order:
    """How videos are to be watched, as it was asked for where the work was ordered."""

    model: str | None
    checkpoint: str | None
    device: str | None
    dtype: str
    offline: bool
    sampling: Mapping[str, Any]
    """Changes of the model's default sampling."""
    adapter_dtype: str
    force: bool
    asked: frozenset[str]
    segments: SegmentSpec | None
    keep_segments: bool
    folder: str = ""
    """The folder that relative names start from."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that decide which model is found, and how."""
    threads: int | None = None
    """Threads that compute; None where a GPU does."""


class Worker:
    """An engine in a process of its own. `watch` may be called when `ready` has returned, and `stop` at any time."""

    def __init__(self, order: Order) -> None:
        os.environ.update(order.environment)
        if order.threads is not None:  # before torch is imported, whose OpenMP reads it once
            os.environ["OMP_NUM_THREADS"] = str(order.threads)
        with suppress(OSError):  # what cannot be seen from here is told of the first video
            os.chdir(order.folder)
        self._order, self._place, self._stopped = order, platform.node(), Flag()

    def ready(self) -> Ready | Unable:
        """Loads the model, all of it: what does not fit into memory must end no video's work."""
        order = self._order
        try:
            self._engine = engine = self._load()
            self._settings = Settings(engine.sampling(**order.sampling), order.adapter_dtype, order.force, order.asked,
                                      order.segments, order.keep_segments)
            made = engine.provenance(self._settings.sampling, order.adapter_dtype)
        except Exception as error:
            return Unable(self._place, _portable(error, ""))
        makes = (f"v2l {v2l.__version__}", f"it computes in {made.compute}", f"on a {engine.device.type}",
                 f"with the base {made.base[:19]}", f"the hypernetwork {made.hypernetwork[:19]}",
                 f"frames of {self._settings.sampling.resolution} pixels")
        return Ready(self._place, makes)

    def _load(self) -> Engine:
        from v2l.engine import Engine

        order = self._order
        engine = Engine(order.model, order.checkpoint, device=order.device, dtype=order.dtype, offline=order.offline,
                        progress=self._look_whether_stopped)
        engine.fetch_hypernetwork()
        engine.load()
        return engine

    def _look_whether_stopped(self, *_: object) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt  # which no code takes for a video's fault

    def watch(self, job: Job, again: bool) -> Ingested | Failed | Taken | Unable:
        """What becomes of a video; `Crew.give` says what `again` means."""
        for folder, wrong in ((job.video.parent, VideoError), (job.output.parent, OutputError)):
            if not folder.is_dir():
                where = os.path.abspath(os.path.join(self._order.folder, folder))
                return Unable(self._place, wrong(f"{where} is not to be seen there; every machine must have it under "
                                                 "the same name."))
        try:
            result = ingest_one(self._engine, job, self._settings, patient=again)
        except KeyboardInterrupt:
            return Taken()
        if isinstance(result, Failed):
            return Failed(job, _portable(result.error, f"{job.video}: "))
        return result or Taken()

    def stop(self) -> None:
        """Has the video under way be left, as Ctrl-C does, which takes no longer than a frame or a layer."""
        self._stopped.set()


def _portable(error: Exception, subject: str) -> V2LError:
    """The same error for another process: of one that is a bug only what is told of it, since its traceback and its
    class may mean nothing there; with V2L_DEBUG=1, the traceback goes to this process's stderr."""
    if errors.debugging():
        print("".join(traceback.format_exception(error)), file=sys.stderr)
    kind = getattr(errors, type(error).__name__, V2LError)
    return kind(str(error)) if isinstance(error, V2LError) else V2LError(sentence(error, subject))
