"""`v2l train export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from v2l.cli import options
from v2l.cli.console import Console, write_json, write_path
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable
from v2l.config import DEFAULT_MODEL
from v2l.errors import UsageError

SUFFIX = ".pt"


def export(
    checkpoint: Annotated[str, argument("CHECKPOINT")],
    output: Annotated[Path, option("FILE", "The .pt file to write.", "", "-o", "--output")],
    base: Annotated[str | None, option("NAME", "How the released code names the base.", "as it was trained")] = None,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Write a hypernetwork in the released layout.

    The released code reads FILE, and so does ingest. CHECKPOINT is what ingest takes with --checkpoint.

    \b
      v2l train export mine/hypernetwork.safetensors -o mine.pt
    """
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"{output} does not end in {SUFFIX}, by which released checkpoints are known; "
                         "name the output so.")
    check_writable(output)
    console = Console(quiet)
    with console.working("Loading"):
        from v2l.store.export import export_released
        from v2l.store.resolve import find_hypernetwork

        files = find_hypernetwork(DEFAULT_MODEL, checkpoint, offline=offline, progress=console.progress)
        named = export_released(files, output, base)
    if json:
        write_json({"output": str(output), "checkpoint": files.name, "base": named, "size": output.stat().st_size})
    else:
        write_path(output)
