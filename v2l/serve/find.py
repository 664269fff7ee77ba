"""POST /api/find: when something happens, in one adapter or in all of the library, as `v2l find` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from v2l.errors import AdapterError
from v2l.serve.answering import RunningRows
from v2l.serve.events import Worked, unless_hung_up
from v2l.serve.fields import Fields
from v2l.serve.guard import body_of
from v2l.serve.refusal import Refusal, json_response
from v2l.serve.service import Service
from v2l.strategies.answered import stretch
from v2l.strategies.parts import Parts
from v2l.strategies.search import FoundMoment, Search, best_first

MOST_HITS = 1000
"""Moments that are told of at a time."""


async def find(service: Service, request: Request) -> Response:
    """The endpoint: `query`, and optionally an `id`, `top` and `threshold`. Refusal, V2LError, HungUp."""
    fields = Fields.of(await body_of(request))
    query, id = fields.text("query", required=True), fields.text("id")
    top, threshold = fields.whole("top", 1, MOST_HITS), fields.number("threshold", -1e9, 1e9)
    fields.end()
    assert query is not None
    if id is not None:
        request.scope["v2l_model"] = id
    rows = RunningRows(service)
    found = Worked(found_moments(service, rows, query, id, top or MOST_HITS, threshold), rows.cancel)
    try:
        await unless_hung_up(request.receive, found.first())
        return json_response(await found.__anext__())
    finally:
        found.close()


def found_moments(service: Service, rows: RunningRows, query: str, id: str | None, top: int, threshold: float | None
                  ) -> Iterator[dict[str, Any]]:
    """The answer: `hits`, the best first; the `threshold`; `note`, why nothing was found; `skipped`, of the
    adapters that cannot be asked each with its error. V2LError where that is the only one, Refusal, Cancelled."""
    entries = list(service.library.entries().values()) if id is None else [service.library.entry(id)]
    service.load()
    service.engine.check_question(query)
    search = Search(rows, query, threshold)
    skipped: list[dict[str, str]] = []

    def parts() -> Iterator[tuple[str, Parts]]:
        for entry in entries:
            try:
                if entry.label is None:
                    raise AdapterError(entry.error)
                made = service.library.parts(entry, service.engine)
            except (AdapterError, Refusal) as error:
                if id is not None:
                    raise
                skipped.append({"id": entry.id, "error": str(error)})
                continue
            yield entry.id, made

    found: list[FoundMoment] = []
    for one in search.among(parts()):
        if one.moments is None:
            skipped.append({"id": one.name, "error": f"With {one.name} the model's numbers are not finite."})
        found += one.moments or []
    hits = [{"id": one.adapter, "source": one.video, **stretch(one.file, one.start, one.end, one.started),
             "score": round(one.score, 3)} for one in best_first(found)[:top]]
    note = search.nothing(service.engine.files.name) if search.unanswered or not hits else None
    yield {"hits": hits, "threshold": search.threshold, "note": note, "skipped": skipped}
