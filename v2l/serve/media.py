"""What the page shows of a library: its adapters, the frames that were seen, the videos themselves; and the page's own
files. Only what the library lists is ever read, and nothing of it is kept on a disk.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import numpy as np
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from v2l.adapter.record import is_foreign, singles
from v2l.adapter.wall import wall_start
from v2l.errors import V2LError
from v2l.serve.library import Library, ServedAdapter, version_of
from v2l.serve.refusal import Refusal, json_response
from v2l.serve.shelf import Shelf
from v2l.video.clip import SLACK
from v2l.video.decode import Decoder
from v2l.video.track import Track, read_track

STRIP = 12
"""Most frames of a strip: what 1 frame a second shows of a short clip, and as many as can be told apart in a row."""
EDGE = 320
"""Longest edge of a frame that is sent, pixels: a phone's width, where the strip stands in for the player."""
FRAME_BYTES = 64 << 20
"""Bytes of pictures held in memory: some 10,000."""
TRACK_BYTES = 64 << 20
"""Bytes held of what videos are made of, 16 a frame: of 40 hours."""
DECODED_AT_ONCE = 2
"""Videos that are decoded at a time: answers need the cores too."""

Endpoint = Callable[[Request], Awaitable[Response]]
_ASSETS = {"page.css": "text/css", "icon.svg": "image/svg+xml",
           **dict.fromkeys(("page.js", "server.js", "shelves.js", "film.js", "answers.js", "words.js"),
                           "text/javascript")}
_ITS_OWN = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache"}
_PAGE = {**_ITS_OWN, "Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "DENY",
         "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
         "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                                    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                    "frame-ancestors 'none'"}
_MEDIA = {**_ITS_OWN, "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; sandbox"}


@dataclass(frozen=True)
class SeenFrame:
    """A frame that was looked at."""

    source: int
    """Which of the adapter's videos it is of."""
    segment: int
    time: float
    """When it is shown, seconds."""
    stream: int | None
    """Which stream of the file was asked for."""


def seen_frames(entry: ServedAdapter) -> list[SeenFrame]:
    """The frames that were seen, segment by segment. AdapterError where the adapter cannot be used."""
    record = entry.record
    return [SeenFrame(segment["source"], number, time, alone["sampling"].get("stream"))
            for number, (segment, alone) in enumerate(zip(record["segments"], singles(record), strict=True))
            for time in segment["timestamps"]]


def strip_of(count: int, most: int = STRIP) -> list[int]:
    """Which of so many frames stand for all of them, evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, most), dtype=int))] if count else []


def library_document(entry: ServedAdapter) -> dict[str, Any]:
    """An adapter as the page lists it: times in seconds, `modified` in seconds since 1970; of a source that was watched
    live `started`, by the clock of this machine."""
    facts = {"id": entry.id, "bytes": entry.version[2], "modified": entry.version[1] / 1e9}
    if entry.label is None:
        return {**facts, "error": entry.error, "sources": [], "segments": [], "frames": 0, "strip": [], "base": None,
                "foreign": False}
    record = entry.label.record
    frames = sum(len(segment["timestamps"]) for segment in record["segments"])
    return {
        **facts, "base": record["base"]["id"], "foreign": is_foreign(record), "frames": frames,
        "sources": [{"name": source["name"], "duration": source["duration"], "video": video is not None,
                     **({"started": began.astimezone().isoformat(timespec="milliseconds")}
                        if (began := wall_start(source)) else {})}
                    for source, video in zip(record["sources"], entry.videos, strict=True)],
        "segments": [{key: segment[key] for key in ("start", "end", "source")} for segment in record["segments"]],
        "strip": strip_of(frames),
    }


class SeenPictures:
    """Small pictures of the frames that were seen, decoded from the videos when they are looked at."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._pictures: Shelf[dict[int, bytes]] = Shelf(FRAME_BYTES)
        self._tracks: Shelf[Track] = Shelf(TRACK_BYTES)

    def picture(self, entry: ServedAdapter, number: int) -> bytes:
        """A JPEG of a frame, its longest edge EDGE pixels. Those of a strip are made together, in one pass over the
        video. Refusal where there is none, or its video is not what was watched; V2LError."""
        frames = seen_frames(entry)
        if not 0 <= number < len(frames):
            raise Refusal(404, f"{entry.id} saw {len(frames)} frames, and number {number} is none of them.",
                          code="frame_not_found")
        one = frames[number]
        video = self._library.video(entry, one.source)
        version = version_of(video)
        group = [i for i in strip_of(len(frames)) if (frames[i].source, frames[i].stream) == (one.source, one.stream)]
        group = group if number in group else [number]

        def make() -> tuple[dict[int, bytes], int]:
            made = dict(zip(group, self._decoded(video, version, [frames[i] for i in group]), strict=True))
            return made, sum(map(len, made.values()))

        return self._pictures.get((entry.version, version, group[0]), make)[number]

    def _decoded(self, video: Path, version: object, frames: Sequence[SeenFrame]) -> list[bytes]:
        """JPEGs of frames of one stream of a video, whose times may come in any order."""
        stream = frames[0].stream

        def read() -> tuple[Track, int]:
            track = read_track(video, stream)
            return track, 16 * track.frames

        try:
            track = self._tracks.get((version, stream), read)
            places = [_place(track, frame.time) for frame in frames]
            with closing(Decoder(track)) as decoder:
                made = {index: _jpeg(image) for index, image in decoder.images(sorted(set(places)))}
            return [made[place] for place in places]
        except (V2LError, LookupError) as error:
            raise Refusal(404, f"{video.name} does not show its frames any more: "
                          f"{str(error).replace(str(video), video.name)}", code="frame_not_found") from error


def _place(track: Track, time: float) -> int:
    """Index of the frame that is shown from a time on. LookupError where none is."""
    place = bisect_left(track.times, time - SLACK)
    if place == track.frames or abs(track.times[place] - time) > SLACK:
        raise LookupError(f"no frame begins at {time:g} s.")
    return place


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    small, file = Image.fromarray(image), io.BytesIO()
    small.thumbnail((EDGE, EDGE))
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def video_type(name: str) -> str:
    """Media type that a browser is told of a video; never one it would run or render as a page."""
    kind = guess_type(name)[0] or ""
    return kind if kind.startswith(("video/", "image/")) and "svg" not in kind else "application/octet-stream"


@cache
def asset(name: str) -> bytes:
    """A file of the page, read once."""
    return Path(__file__).with_name("page").joinpath(name).read_bytes()


def _unchanged(request: Request, content: bytes, headers: dict[str, str], kind: str) -> Response:
    """A response that a client which has the same content already need not be sent again."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={**headers, "ETag": tag})
    return Response(content, headers={**headers, "ETag": tag}, media_type=kind)


def media_endpoints(library: Library) -> dict[str, Endpoint]:
    """Endpoints by path of what the page shows, for GET; they raise Refusal and V2LError."""
    frames, limiter = SeenPictures(library), CapacityLimiter(DECODED_AT_ONCE)

    async def page(request: Request) -> Response:
        return _unchanged(request, asset("index.html"), _PAGE, "text/html")

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise Refusal(404, f"The page has no file {name}.", code="unknown_url")
        return _unchanged(request, asset(name), _ITS_OWN, _ASSETS[name])

    async def listing(request: Request) -> Response:
        entries = await run_sync(library.entries)
        content = json_response({"videos": [library_document(entry) for entry in entries.values()]}).body
        return _unchanged(request, bytes(content), _ITS_OWN, "application/json")

    async def seen(request: Request) -> Response:
        entry = await run_sync(library.entry, request.path_params["id"])
        return json_response({"frames": [{"source": frame.source, "segment": frame.segment, "time": frame.time}
                                         for frame in seen_frames(entry)]})

    async def frame(request: Request) -> Response:
        entry = await run_sync(library.entry, request.path_params["id"])
        picture = await run_sync(frames.picture, entry, request.path_params["number"], limiter=limiter)
        return Response(picture, headers=_MEDIA, media_type="image/jpeg")

    async def video(request: Request) -> Response:
        entry = await run_sync(library.entry, request.path_params["id"])
        file = await run_sync(library.video, entry, request.path_params["source"])
        return FileResponse(file, headers=_MEDIA, media_type=video_type(file.name))

    return {"/": page, "/page/{name}": part, "/api/library": listing, "/api/frames/{id:path}/{number:int}": frame,
            "/api/seen/{id:path}": seen, "/api/video/{id:path}/{source:int}": video}
