"""`v2l serve`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2l.cli import options
from v2l.cli.console import Console, one_line
from v2l.cli.options import argument, option
from v2l.cli.server_address import KEY_VARIABLE, key_of
from v2l.config import PRESETS
from v2l.errors import UsageError
from v2l.system.interrupts import Terminated
from v2l.wording import count_of

if TYPE_CHECKING:
    from v2l.serve.library import Library
    from v2l.serve.service import Service
    from v2l.system.progress import Progress

HOST, PORT = "127.0.0.1", 8484


def _port(value: int) -> int:
    if not 0 <= value < 1 << 16:  # the system would take what is left over of more
        raise typer.BadParameter(f"{value} is not a port; they go from 1 to 65535, and 0 takes any that is free.")
    return value


def serve(
    ctx: typer.Context,
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
    mcp: Annotated[bool, typer.Option("--mcp", help="Serve tools of the Model Context Protocol over stdin and stdout, "
                                                    "to a program that starts this one.")] = False,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Serve adapters over HTTP, to clients of OpenAI's API.

    Every adapter below FOLDER is a model, called by its path there without the ending: talks/lecture.v2lora of talks/
    is lecture. POST /v1/chat/completions and /v1/responses take questions, GET /v1/models lists. Adapters that come,
    change or go are noticed at once. The base is loaded at the first question.

    The server listens on this machine alone unless --host says otherwise. Ctrl-C and SIGTERM have it finish the
    answers that are under way, and then it ends with status 0; a second Ctrl-C ends it at once.

    --mcp has assistants such as Claude Desktop and VS Code list, ask and search the videos; README.md in v2l/serve has
    what to write into their settings.

    \b
      v2l serve talks/
      v2l serve talks/ --mcp
      curl localhost:8484/v1/models
      V2L_API_KEY=... v2l serve talks/ --host 0.0.0.0
    """
    if mcp:
        unused = next((name for name in ("host", "port", "api_key", "last_turn_only") if options.is_given(ctx, name)),
                      None)
        if unused:
            raise UsageError(f"--{unused.replace('_', '-')} is for HTTP, and --mcp serves over stdin and stdout; leave "
                             "one of them out.")
        _serve_tools(places, model, ingest, device, dtype, Console(quiet), offline)
        return
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"v2l serve needs {error.name}, which is not installed; install it with: "
                         "pip install 'v2l[serve]'") from None
    from v2l.serve.server import is_loopback, listening_socket, url_of

    _check_places(places)
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


def _check_places(places: list[str]) -> None:
    for place in places:
        if not os.path.exists(place):
            raise UsageError(f"There is no {place}; name a folder of adapters, or an adapter.")


class _Telling(Console):
    """A console whose progress goes to a client, too."""

    def __init__(self, quiet: bool, tell: Progress) -> None:
        super().__init__(quiet)
        self._tell = tell

    def progress(self, title: str, done: int, total: int | None) -> None:
        self._tell(title, done, total)


def _serve_tools(places: list[str], model: str | None, ingest: bool, device: str | None, dtype: options.Dtype,
                 console: Console, offline: bool) -> None:
    """Serves the tools of the Model Context Protocol. UsageError."""
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        raise UsageError("v2l serve --mcp needs mcp, which is not installed; install it with: pip install 'v2l[mcp]'")
    _check_places(places)
    from v2l.serve.library import Library
    from v2l.serve.tools import serve_tools

    library = Library([Path(place) for place in places])

    def make(tell: Progress) -> Service:
        base = model or _base(library)
        engine = options.load_engine(_Telling(console.quiet, tell), base, None, device, dtype,
                                     offline or (model is None and base is not None and base not in PRESETS))
        engine.progress = None  # the client is told by whoever it asks next
        from v2l.serve.batcher import Batcher
        from v2l.serve.service import Service

        return Service(engine, library, Batcher(engine), may_ingest=ingest)

    serve_tools(library, make, ingest)


def _base(library: Library) -> str | None:
    """The base of the first adapter that can be read; None where there is none. UsageError."""
    from v2l.cli.ask import base_of

    labels = ((served.id, served.label) for served in library.entries().values())
    return next((base_of(id, label.record) for id, label in labels if label), None)
