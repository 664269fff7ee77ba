"""`v2l serve`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.cli import options
from v2l.cli.ask import base_of
from v2l.cli.console import Console, one_line
from v2l.cli.options import argument, option
from v2l.cli.server_address import KEY_VARIABLE, key_of
from v2l.config import PRESETS
from v2l.errors import UsageError
from v2l.system.interrupts import Terminated
from v2l.wording import count_of

if TYPE_CHECKING:
    from v2l.serve.library import Library

HOST, PORT = "127.0.0.1", 8484


def _port(value: int) -> int:
    if not 0 <= value < 1 << 16:  # the system would take what is left over of more
        raise typer.BadParameter(f"{value} is not a port; they go from 1 to 65535, and 0 takes any that is free.")
    return value


def serve(
    places: Annotated[list[str], argument("FOLDER_OR_ADAPTER...")],
    host: Annotated[str, option("ADDRESS", "Listen on this address; any but the loopback needs an API key.", HOST)]
    = HOST,
    port: Annotated[int, option("N", "Listen on this port; 0 takes any that is free.", f"{PORT}",
                                 callback=_port)] = PORT,
    api_key: Annotated[str | None, option("KEY", "Demand this key of clients; in V2L_API_KEY, nobody sees it in the "
                                                 "list of processes.", KEY_VARIABLE)] = None,
    model: Annotated[str | None, option("NAME", f"Base model: {options.MODEL_NAMES}.", "the first adapter's",
                                        callback=options.preset, autocompletion=options.completing(PRESETS))] = None,
    ingest: Annotated[bool, typer.Option("--ingest", help="Let clients have videos below FOLDER watched.")] = False,
    last_turn_only: Annotated[bool, typer.Option(
        "--last-turn-only", help="Answer the last question of a conversation, and leave out its earlier turns and "
                                 "system prompts, which are refused otherwise.")] = False,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Serve adapters over HTTP, to clients of OpenAI's API.

    Every adapter below FOLDER is a model, called by its path there without the ending: talks/lecture.v2lora of talks/
    is lecture. POST /v1/chat/completions and /v1/responses take questions, GET /v1/models lists. Adapters that come,
    change or go are noticed at once. The base is loaded at the first question.

    The server listens on this machine alone unless --host says otherwise. Ctrl-C and SIGTERM have it finish the
    answers that are under way, and then it ends with status 0; a second Ctrl-C ends it at once.

    \b
      v2l serve talks/
      curl localhost:8484/v1/models
      V2L_API_KEY=... v2l serve talks/ --host 0.0.0.0
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"v2l serve needs {error.name}, which is not installed; install it with: "
                         "pip install 'v2l[serve]'") from None
    from v2l.serve.server import is_loopback, listening_socket, url_of

    for place in places:
        if not os.path.exists(place):
            raise UsageError(f"There is no {place}; name a folder of adapters, or an adapter.")
    key = key_of(api_key)
    with listening_socket(host, port) as listening:
        if key is None and not is_loopback(listening):
            raise UsageError(f"--host {host} lets other machines ask, so an API key is needed: set {KEY_VARIABLE}, or "
                             "give --api-key.")
        from v2l.serve.library import Library

        console, library = Console(quiet), Library([Path(place) for place in places])
        base = model or _base(library)
        engine = options.load_engine(console, base, None, device, dtype,
                                     offline or (model is None and base is not None and base not in PRESETS))
        from v2l.serve.app import create_app
        from v2l.serve.batcher import Batcher
        from v2l.serve.guard import Rules, allowed_hosts
        from v2l.serve.server import Listening
        from v2l.serve.service import Service

        service = Service(engine, library, Batcher(engine), last_turn_only, ingest,
                          lambda line: console.note(one_line(line)))
        rules = Rules(key, None if key else allowed_hosts(host))
        server = Listening(create_app(service, rules), service.note)
        console.note(f"Serving {count_of(len(library.entries()), 'adapter')} at {url_of(listening)} with "
                     f"{engine.model}; Ctrl-C stops.")
        server.run([listening])
    if service.watching.locked():  # for a client that has gone: it is broken off, and what it would replace stays
        server.cut = server.cut or signal.SIGTERM
    if server.cut:
        raise KeyboardInterrupt if server.cut == signal.SIGINT else Terminated


def _base(library: Library) -> str | None:
    """The base of the first adapter that can be read; None where there is none. UsageError."""
    labels = ((served.id, served.label) for served in library.entries().values())
    return next((base_of(id, label.record) for id, label in labels if label), None)
