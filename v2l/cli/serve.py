"""`v2l serve`."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Annotated

from v2l.cli import options
from v2l.cli.console import Console
from v2l.cli.options import argument, option
from v2l.errors import UsageError

PORT = 8484


def serve(
    places: Annotated[list[str], argument("FOLDER_OR_ADAPTER...")],
    host: Annotated[str, option("ADDRESS", "Listen on this address.", "127.0.0.1")] = "127.0.0.1",
    port: Annotated[int, option("N", "Listen on this port; 0 takes any that is free.", str(PORT))] = PORT,
    model: Annotated[str | None, option("NAME", f"Base model: {options.MODEL_NAMES}.", "the first adapter's",
                                        callback=options.preset)] = None,
    device: options.Device = None, dtype: options.ComputeDtype = options.Dtype.auto,
    quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Serve adapters over HTTP, to clients of OpenAI's API.

    \b
      v2l serve talks/
    """
    try:
        import uvicorn

        from v2l.serve.app import Service, create_app
    except ModuleNotFoundError as error:
        raise UsageError(f"v2l serve needs {error.name}, which is not installed; install it with: "
                         "pip install 'v2l[serve]'.") from None
    from v2l.serve.batcher import Batcher
    from v2l.serve.library import Library
    from v2l.store.default import default_model

    for place in places:
        if not os.path.exists(place):
            raise UsageError(f"There is no {place}; name a folder of adapters, or an adapter.")
    console = Console(quiet)
    engine = options.load_engine(console, model or default_model().name, None, device, dtype, offline)
    service = Service(engine, Library([Path(place) for place in places]), Batcher(engine), Lock())
    console.note(f"Serving at http://{host}:{port}; Ctrl-C stops.")
    uvicorn.run(create_app(service), host=host, port=port, log_config=None, access_log=False)
