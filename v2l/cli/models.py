"""`v2l models`."""

from __future__ import annotations

from typing import Annotated

import typer

from v2l.cli import options
from v2l.cli.console import Console, columns, write, write_json, write_path
from v2l.cli.options import argument

models = typer.Typer(rich_markup_mode=None)


@models.callback(invoke_without_command=True)
def list_models(ctx: typer.Context, json: options.Json = False) -> None:
    """Show the models known by name and what of them is on this disk.

    \b
      v2l models
      v2l models pull 500m
    """
    if ctx.invoked_subcommand is not None:
        return
    from v2l.cli.describe import model_record, models_text
    from v2l.store.resolve import available

    if json:
        for model in available():
            write_json(model_record(model))
    else:
        write(models_text(available(), columns()))


@models.command("pull", cls=options.Command)
def pull_model(
    name: Annotated[str, argument("NAME")],
    checkpoint: options.Checkpoint = None, quiet: options.Quiet = False,
) -> None:
    """Fetch a model now, so that it is there offline.

    NAME is as for --model. What is there is brought up to date.

    \b
      v2l models pull 500m
    """
    console = Console(quiet)
    with console.working("Asking the Hub"):
        from v2l.store.resolve import pull

        base, hypernetwork = pull(name, checkpoint, console.progress)
    write_path(base.folder)
    if hypernetwork is None:
        console.warn(f"No hypernetwork is known for {name}; name one with --checkpoint when you ingest.")
    else:
        write_path(hypernetwork.weights)


@models.command("verify", cls=options.Command)
def verify_models(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Read through all that was fetched, and compare it with what it was then.

    At every use only sizes and times of change are compared. What was converted is compared too.

    \b
      v2l models verify
    """
    from v2l.cli.describe import verified_record, verified_text
    from v2l.errors import ModelError
    from v2l.store.pins import verify_fetched
    from v2l.store.released import verify_converted

    console = Console(quiet)
    with console.working("Reading"):
        found = [*verify_fetched(), *verify_converted()]
    if not found:
        console.note("Nothing was fetched yet.")
    for one in found:
        if json:
            write_json(verified_record(one))
        else:
            write(verified_text(one))
    if bad := [path for one in found for path in one.changed]:
        raise ModelError(f"{', '.join(map(str, bad))} changed since; delete that, and fetch it again with "
                         "`v2l models pull`.")
