"""`v2l models`."""

from __future__ import annotations

from typing import Annotated

import typer

from v2l.commands.console import Console, columns, write, write_json, write_path
from v2l.commands.options import Checkpoint, Command, Json, Quiet, argument

models = typer.Typer(rich_markup_mode=None)


@models.callback(invoke_without_command=True)
def list_models(ctx: typer.Context, json: Json = False) -> None:
    """Show the models known by name and what of them is on this disk.

    \b
      v2l models
      v2l models pull 500m
    """
    if ctx.invoked_subcommand is not None:
        return
    from v2l.checkpoints import available
    from v2l.show import model_record, models_text

    if json:
        for model in available():
            write_json(model_record(model))
    else:
        write(models_text(available(), columns()))


@models.command("pull", cls=Command)
def pull_model(
    name: Annotated[str, argument("NAME")],
    checkpoint: Checkpoint = None, quiet: Quiet = False,
) -> None:
    """Fetch a model now, so that it is there offline.

    NAME is as for --model. What is there is brought up to date.

    \b
      v2l models pull 500m
    """
    console = Console(quiet)
    with console.working("Asking the Hub"):
        from v2l.checkpoints import find_hypernetwork, pull

        base, hypernetwork = pull(name, progress=console.progress)
        if checkpoint is not None:
            hypernetwork = find_hypernetwork(name, checkpoint, progress=console.progress)
    write_path(base.folder)
    if hypernetwork is None:
        console.warn(f"No hypernetwork is known for {name}; name one with --checkpoint when you ingest.")
    else:
        write_path(hypernetwork.weights)
