"""POST /api/ingest: a video below the folders is watched, and its adapter can be asked; with `--ingest` only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from v2l.many.ingest import Ingested, Settings, ingest_all
from v2l.many.jobs import Job, adapter_for, videos_by_stem
from v2l.serve.events import EventStream, Worked, event, unless_hung_up
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.refusal import Refusal, json_response, refusal_of
from v2l.serve.service import Service
from v2l.video.cuts import SegmentSpec, parse_segments

Step = dict[str, Any]
"""An event of the work: `progress` with what is under way, or `done` with what became of the video."""


class Ingesting:
    """The endpoint; one video is watched at a time. What is begun is finished, though its client hang up: the work is
    for all, and a stream only tells of it."""

    def __init__(self, service: Service) -> None:
        self._service, self._busy = service, service.watching

    async def endpoint(self, request: Request) -> Response:
        """The route. Refusal, V2LError, HungUp."""
        if not self._service.may_ingest:
            raise Refusal(403, "This server watches no videos: start it with v2l serve --ingest, or run v2l ingest.",
                          code="ingest_not_allowed")
        fields = Fields.of(await body_of(request))
        name, segment = fields.text("path", required=True), fields.text("segment")
        stream = fields.flag("stream")
        fields.end()
        steps = Worked(await run_in_threadpool(self.begin, str(name), segment), lambda: None)
        if stream:
            return EventStream(_events(steps), steps.close)
        return json_response(await unless_hung_up(request.receive, _last(steps)))

    def begin(self, name: str, segment: str | None) -> Iterator[Step]:
        """The steps of watching a video below the folders, cut into segments or not; iterate them. Refusal,
        V2LError."""
        spec = None if segment is None else parse_segments(segment)
        video = self._service.library.video_below(name)
        if not self._busy.acquire(blocking=False):
            raise Refusal(409, "Another video is being watched; ask again when it is done.", code="busy",
                          headers={"Retry-After": "10"})
        return self._steps(video, spec)

    def _steps(self, video: Path, spec: SegmentSpec | None) -> Iterator[Step]:
        """Watches a video, in a thread of its own that goes on when nobody asks for the next step."""
        steps: SimpleQueue[Step | Exception | None] = SimpleQueue()

        def work() -> None:
            try:
                steps.put(self._watched(video, spec, steps))
            except Exception as error:
                steps.put(error)
            finally:
                self._busy.release()
            steps.put(None)

        Thread(target=work, name="v2l-ingest", daemon=True).start()
        while (step := steps.get()) is not None:
            if isinstance(step, Exception):
                raise step
            yield step

    def _watched(self, video: Path, spec: SegmentSpec | None, steps: SimpleQueue[Step | Exception | None]) -> Step:
        engine = self._service.engine
        with self._service.loading:
            engine.load()

        def tell(what: str, done: int, total: int | None) -> None:
            steps.put({"type": "progress", "what": what, "done": done, "total": total})

        videos_by_stem.cache_clear()
        job = Job(video, adapter_for(video))
        asked = frozenset(["segments"] if spec else [])
        before, engine.progress = engine.progress, tell
        try:
            [result] = ingest_all(engine, [job], Settings(engine.sampling(), asked=asked, segments=spec))
        finally:
            engine.progress = before
        if not isinstance(result, Ingested):
            raise result.error
        return {"type": "done", "id": self._service.library.id_of(job.output), "segments": result.segments,
                "frames": result.frames, "skipped": result.skipped, "seconds": round(result.seconds, 3),
                **({"note": f"It {result.reason}."} if result.reason else {})}


async def _last(steps: AsyncIterator[Step]) -> Step:
    return [step async for step in steps][-1]


async def _events(steps: AsyncIterator[Step]) -> AsyncGenerator[bytes, None]:
    try:
        async for step in steps:
            yield event(step)
    except Exception as error:
        yield event(refusal_of(error).document())
