"""POST /api/direct: a question with the video itself in the prompt, to be held beside the adapter's answer.

One at a time: each takes seconds and gigabytes where adapters take neither, and runs beside the batch of all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Event, Lock
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from v2l.config import Sampling
from v2l.serve.answering import Cancelled, Finished
from v2l.serve.events import Worked
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.library import ServedAdapter, Version, version_of
from v2l.serve.openai import Items, replied, started
from v2l.serve.refusal import Refusal
from v2l.serve.service import Service
from v2l.video.clip import open_clip

if TYPE_CHECKING:
    from v2l.engine import Seen

MOST_SECONDS = 1e9
"""No video is longer."""


class Direct:
    """Asks videos that adapters were made of. The one that was looked at last stays in memory, as the model saw it."""

    def __init__(self, service: Service) -> None:
        self._service, self._turn = service, Lock()
        self._last: tuple[tuple[Version | None, Sampling], Seen] | None = None

    async def respond(self, request: Request) -> Response:
        """The endpoint: `id` of an adapter, `question`, and optionally `stream`, `source`, and `from` and `to` in
        seconds. It answers as chat completions do. Refusal, V2LError, HungUp."""
        fields = Fields.of(await body_of(request))
        id, question = fields.text("id", required=True), fields.text("question", required=True)
        stream, source = fields.flag("stream"), fields.whole("source", 0, 2**31) or 0
        times = fields.number("from", 0, MOST_SECONDS), fields.number("to", 0, MOST_SECONDS)
        fields.end()
        assert id is not None and question is not None
        request.scope["v2l_model"] = id
        if not self._turn.acquire(blocking=False):
            raise Refusal(409, "A video is being asked already, and only one can be at a time; ask again when it has "
                          "answered. Adapters can be asked meanwhile.", code="busy_with_a_video",
                          headers={"Retry-After": "5"})
        left = Event()
        items: Items = Worked(self._answer(id, question, source, times, left), left.set)
        return await replied(request, await started(request, items), id, stream)

    def _answer(self, id: str, question: str, source: int, times: tuple[float | None, float | None], left: Event
                ) -> Iterator[str | Finished]:
        """Pieces, and what they make. Refusal, V2LError; Cancelled where whoever asked has left."""
        service = self._service
        try:
            entry = service.library.entry(id)
            video = service.library.video(entry, source)
            service.load()
            with service.loading:
                service.engine.base.vision  # noqa: B018  # read once, whoever else needs it now
            sampling = replace(self._sampling(entry), start=times[0], end=times[1])
            key = version_of(video), sampling
            if self._last is None or self._last[0] != key:
                self._last = None
                self._last = key, service.engine.see(open_clip(video, sampling), sampling)
            if left.is_set():
                raise Cancelled
            reply = service.engine.direct(self._last[1], question)
            for piece in reply:
                if left.is_set():
                    raise Cancelled
                yield piece
            answer = reply.finish()
        finally:
            self._turn.release()  # before the end is told: who hears of it may ask the next at once
        yield Finished(answer.text, answer.finish, answer.prompt_tokens, len(answer.ids),
                       {"strategy": "direct", "visual_tokens": answer.visual_tokens})

    def _sampling(self, entry: ServedAdapter) -> Sampling:
        """As the adapter's frames were chosen, but for the whole video: where it has many segments, its prompt would
        be larger than bases can read."""
        recorded = entry.record["sampling"]
        return self._service.engine.sampling(**{name: recorded[name] for name in ("frames", "fps", "skip", "resolution",
                                                                                 "stream") if name in recorded})
