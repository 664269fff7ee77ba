"""`v2l serve --mcp`: the library as tools of the Model Context Protocol, over stdin and stdout.

Nothing heavy is imported and no weights are read before the first question: clients start such servers when they
start themselves, and wait for each.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stdout
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
from anyio import from_thread, to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

import v2l
from v2l.adapter.record import foreign_text, is_foreign
from v2l.adapter.wall import When, wall_keys, wall_moments, wall_start
from v2l.config import STRATEGIES, Decoding, Strategy
from v2l.errors import UsageError, V2LError
from v2l.serve.library import Library, ServedAdapter
from v2l.serve.question import ServedQuestion
from v2l.serve.refusal import Refusal, refusal_of
from v2l.wording import TIME_FORMS, WALL_FORM, clock_seconds, wall_text, wall_time

if TYPE_CHECKING:
    from v2l.serve.service import Service
    from v2l.system.progress import Progress

_INSTRUCTIONS = """Videos that were watched once, each kept as a small adapter that answers questions about it.
list_videos says what there is. ask_video puts one question at a time to one video; each is answered by itself, without
earlier ones, so let a question say all it needs. Short questions about what is seen are answered best. find_moment
says when something is seen."""
_T = TypeVar("_T")
_Video = Annotated[str, Field(description="The video's name, as list_videos gives it.")]
_Question = Annotated[str, Field(description="One question, complete in itself: What happens first?")]
_Start = Annotated[str | None, Field(description=f"Ask only what is seen from this time on: {TIME_FORMS}; of what was "
                                                 f"watched live also {WALL_FORM}, in local time.")]
_End = Annotated[str | None, Field(description="Ask only what is seen before this time.")]
_Combine = Annotated[str, Field(description=f"How segments are combined: {', '.join(STRATEGIES)}.")]
_Query = Annotated[str, Field(description="A thing, what it does, or a question of yes and no: a red ring moves.")]
_OneVideo = Annotated[str | None, Field(description="Search only this video, by its name; else all are searched.")]
_Top = Annotated[int, Field(description="At most so many moments.", ge=1, le=1000)]
_Threshold = Annotated[float | None, Field(description="Only moments that score so much or more.")]
_VideoFile = Annotated[str, Field(description="The file's path below the folder: talks/lecture.mp4.")]
_Segment = Annotated[str | None, Field(description="Cut it into segments of this length, such as 60s; else one.")]


def entry_facts(entry: ServedAdapter) -> dict[str, Any]:
    """What is told of a video when all are listed; times in seconds."""
    if entry.label is None:
        return {"video": entry.id, "error": entry.error}
    record = entry.label.record
    seconds = sum(segment["end"] - segment["start"] for segment in record["segments"])
    moments = wall_moments(record["sources"], record["segments"])
    live = {"live_from": wall_text(min(moments)), "live_until": wall_text(max(moments))} if moments else {}
    return {"video": entry.id, "sources": [source["name"] for source in record["sources"]],
            "seconds": round(seconds, 3), "segments": len(record["segments"]), **live}


class Call:
    """A call of a tool, whose progress is told to whoever made it, and which they may cancel; for any threads."""

    def __init__(self, tell: Progress) -> None:
        self._tell, self._lock = tell, Lock()
        self._ways: list[Callable[[], None]] = []
        self._cancelled = False

    def tell(self, what: str, done: int, total: int | None) -> None:
        """Tells how far it is; nothing where nobody waits for it any more."""
        if not self._cancelled:
            self._tell(what, done, total)

    def cancelled_by(self, way: Callable[[], None]) -> None:
        """Has `way` called when it is cancelled; at once where it was."""
        with self._lock:
            self._ways.append(way)
        if self._cancelled:
            way()

    def cancel(self) -> None:
        """Ends what it does."""
        self._cancelled = True
        with self._lock:
            ways = list(self._ways)
        for way in ways:
            way()


class LibraryTools:
    """The tools. `make` gives the service when it is first needed; until then there is only the listing."""

    def __init__(self, library: Library, make: Callable[[Progress], Service]) -> None:
        self._library, self._make = library, make
        self._service: Service | None = None
        self._making = Lock()

    def close(self) -> None:
        """Ends what runs."""
        if self._service:
            self._service.batcher.close(0)

    def service(self, call: Call) -> Service:
        """The service, its weights loaded. V2LError."""
        with self._making:
            if self._service is None:
                call.tell("Loading the model", 0, None)
                self._service = self._make(call.tell)
            self._service.load()
            return self._service

    def listed(self) -> list[dict[str, Any]]:
        """What there is now."""
        return [entry_facts(entry) for entry in self._library.entries().values()]

    def info(self, video: str) -> dict[str, Any]:
        """What a video's adapter records. Refusal, V2LError."""
        entry = self._library.entry(video)
        record = entry.record
        keys = ("name", "duration", "fps", "width", "height")
        segments = [{"file": source["name"], "start": segment["start"], "end": segment["end"],
                     **wall_keys(wall_start(source), segment["start"], segment["end"]),
                     "frames_seen": len(segment["timestamps"])}
                    for segment in record["segments"] for source in [record["sources"][segment["source"]]]]
        note = {"note": foreign_text(entry.id)} if is_foreign(record) else {}
        return {"video": entry.id, "sources": [{key: source[key] for key in keys} for source in record["sources"]],
                "segments": segments, "base": record["base"]["id"], "bytes": entry.version[2], **note}

    def answer(self, video: str, question: str, times: tuple[When | None, When | None], strategy: str, call: Call
               ) -> dict[str, Any]:
        """The answer, and what answers. Refusal, V2LError; Cancelled."""
        if not question.strip():
            raise UsageError("The question is empty; ask one.")
        if strategy not in STRATEGIES:
            raise UsageError(f"{strategy!r} is no strategy; name one of {', '.join(STRATEGIES)}.")
        self._library.entry(video)  # a wrong name needs no weights
        service = self.service(call)
        from v2l.serve.answering import Answering, Finished

        call.tell("Asking", 0, None)
        asked = ServedQuestion(video, question, Decoding(), Strategy(strategy), times)
        answering = Answering(service, asked)
        call.cancelled_by(answering.cancel)
        for pieces, item in enumerate(answering, 1):
            if isinstance(item, Finished):
                return {"answer": item.text, "finish": item.finish, **item.facts}
            call.tell("Answering", pieces, None)
        raise AssertionError("an answer always ends with what it makes")

    def find(self, query: str, video: str | None, top: int, threshold: float | None, call: Call) -> dict[str, Any]:
        """Moments, the best first, as `v2l find` finds them. Refusal, V2LError; Cancelled."""
        if not query.strip():
            raise UsageError("The query is empty; say what to look for.")
        if video is not None:
            self._library.entry(video)
        service = self.service(call)
        from v2l.serve.answering import RunningRows
        from v2l.serve.find import found_moments

        call.tell("Searching", 0, None)
        rows = RunningRows(service)
        call.cancelled_by(rows.cancel)
        return next(found_moments(service, rows, query, video, top, threshold))

    def watch(self, file: str, segment: str | None, call: Call) -> dict[str, Any]:
        """Has a video below the folders watched, to its end though the call be cancelled. Refusal, V2LError."""
        self._library.video_below(file)
        service = self.service(call)
        from v2l.serve.ingesting import Ingesting

        for step in Ingesting(service).begin(file, segment):
            if step["type"] == "progress":
                call.tell(step["what"], step["done"], step["total"])
        return {"video": step["id"], **{key: value for key, value in step.items() if key not in ("type", "id")}}


async def _worked(context: Context[Any, Any], work: Callable[[Call], _T]) -> _T:
    """What some work in a thread gives; its progress goes to the client, who may cancel it. ToolError, in our words."""
    last = -1.0

    async def report(done: float, message: str) -> None:
        nonlocal last
        last = max(done, last + 1)  # what the protocol demands: it grows with each report
        await context.report_progress(last, None, message)

    def tell(what: str, done: int, total: int | None) -> None:
        from_thread.run(report, done, f"{what}, {done} of {total}" if total else what)

    call = Call(tell)
    try:
        return await to_thread.run_sync(work, call, abandon_on_cancel=True)
    except (V2LError, Refusal) as error:
        raise ToolError(refusal_of(error).message) from error
    except anyio.get_cancelled_exc_class():
        call.cancel()
        raise


def _when(text: str | None, name: str) -> When | None:
    if text is None or not text.strip():
        return None
    if (moment := wall_time(text)) is None and (seconds := clock_seconds(text.strip())) is None:
        raise ToolError(f"{name} should be a time: {TIME_FORMS}, or with a date, as {WALL_FORM}.")
    return seconds if moment is None else moment


def tool_server(tools: LibraryTools, may_ingest: bool) -> MCPServer[None]:
    """The server of the tools; ingest_video is one only where clients may have videos watched."""

    @asynccontextmanager
    async def lifespan(server: MCPServer[None]) -> AsyncIterator[None]:
        # mcp leads file 1 to stderr while it serves; what Python's stdout would hold back until then goes there, too.
        with redirect_stdout(sys.stderr):
            yield

    server = MCPServer[None]("v2l", instructions=_INSTRUCTIONS, version=v2l.__version__, log_level="WARNING",
                             lifespan=lifespan)

    async def list_videos(context: Context[Any, Any]) -> list[dict[str, Any]]:
        """List the videos that can be asked, with their lengths in seconds."""
        return await _worked(context, lambda call: tools.listed())

    async def video_info(context: Context[Any, Any], video: _Video) -> dict[str, Any]:
        """Tell what is known of a video: its files, its segments and their times, the model it was watched with."""
        return await _worked(context, lambda call: tools.info(video))

    async def ask_video(context: Context[Any, Any], video: _Video, question: _Question, start: _Start = None,
                        end: _End = None, strategy: _Combine = Strategy.name) -> dict[str, Any]:
        """Ask a question about what is seen in a video. The answer tells which segments it comes from, in seconds."""
        times = _when(start, "start"), _when(end, "end")
        return await _worked(context, lambda call: tools.answer(video, question, times, strategy, call))

    async def find_moment(context: Context[Any, Any], query: _Query, video: _OneVideo = None, top: _Top = 10,
                          threshold: _Threshold = None) -> dict[str, Any]:
        """Find when something is seen, in one video or in all: moments with start and end in seconds, the best
        first."""
        return await _worked(context, lambda call: tools.find(query, video, top, threshold, call))

    async def ingest_video(context: Context[Any, Any], path: _VideoFile, segment: _Segment = None) -> dict[str, Any]:
        """Watch a video file below the folder, so that it can be asked. This takes seconds to minutes."""
        return await _worked(context, lambda call: tools.watch(path, segment, call))

    offered: list[Callable[..., Any]] = [list_videos, video_info, ask_video, find_moment]
    for tool in (*offered, *([ingest_video] if may_ingest else [])):
        server.add_tool(tool)
    return server


def serve_tools(library: Library, make: Callable[[Progress], Service], may_ingest: bool) -> None:
    """Serves the tools over stdin and stdout, until stdin ends."""
    tools = LibraryTools(library, make)
    try:
        anyio.run(tool_server(tools, may_ingest).run_stdio_async)
    finally:
        tools.close()
