"""`v2l models`."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from v2l.cli import options
from v2l.cli.console import Console, columns, write, write_json, write_path
from v2l.cli.export import export_model
from v2l.cli.options import argument
from v2l.config import PRESETS
from v2l.wording import command, duration_text, size_text

models = typer.Typer(cls=options.Group, rich_markup_mode=None)


@models.callback(invoke_without_command=True)
def list_models(ctx: typer.Context, json: options.Json = False) -> None:
    """List the models known by name, and which are downloaded.

    \b
      v2l models
      v2l models pull 500m
      v2l models check 500m
      v2l models use 500m
    """
    if ctx.invoked_subcommand is not None:
        return
    from v2l.cli.describe import model_record, models_text
    from v2l.store.default import default_model
    from v2l.store.resolve import available

    default = default_model()
    if json:
        for model in available():
            write_json(model_record(model, default))
    else:
        write(models_text(available(), default, columns()))


@models.command("use", cls=options.Command)
def use_model(name: Annotated[str, argument("NAME", PRESETS)], quiet: options.Quiet = False) -> None:
    """Make a model the one that is used without --model.

    NAME is what --model takes; it is kept in the user's configuration folder, or in the folder that V2L_CONFIG names.
    The environment variable V2L_MODEL is heard before it, and --model before both. Prints the file that holds it.

    \b
      v2l models use 500m
      v2l models use tiny
    """
    from v2l.store.default import VARIABLE, set_default_model
    from v2l.store.resolve import available

    console, file = Console(quiet), set_default_model(name)
    write_path(file)
    if named := os.environ.get(VARIABLE):
        console.warn(f"{VARIABLE} is set, so without --model it is still {named}.")
    if any(model.name == name and not model.ready for model in available()):
        console.warn(f"{name} is not on this disk yet; fetch it with: {command('models pull', name)}.")


@models.command("pull", cls=options.Command)
def pull_model(
    name: Annotated[str, argument("NAME", PRESETS)],
    checkpoint: options.Checkpoint = None, quiet: options.Quiet = False,
) -> None:
    """Download a model, or update it, so that it works offline.

    NAME is what --model takes. Says how much will come in before it does; an interrupted download goes on where it
    was. Prints the base model's folder and the hypernetwork's file.

    For a machine without a connection, pull the model on another one and copy the folders models--* of it from that
    machine's Hugging Face cache to the same place here: ~/.cache/huggingface/hub, or hub in what HF_HOME names.

    \b
      v2l models pull 500m
      rsync -a other:.cache/huggingface/hub/ ~/.cache/huggingface/hub/
    """
    console = Console(quiet)
    with console.working("Asking the Hub"):
        from v2l.store.resolve import pull

        _note_sizes(name, checkpoint, console)
        base, hypernetwork = pull(name, checkpoint, console.progress)
    write_path(base.folder)
    if hypernetwork is None:
        console.warn(f"No hypernetwork is known for {name}; name one with --checkpoint when you ingest.")
    else:
        write_path(hypernetwork.weights)


def _note_sizes(name: str, checkpoint: str | None, console: Console) -> None:
    """Says what will come in, and whether there is room for it."""
    from v2l.store.hub import hub_cache, is_offline
    from v2l.store.sizes import free_space, to_fetch

    sizes = {} if is_offline() else to_fetch(name, checkpoint)
    if not sizes:
        return
    parts = " and ".join(f"{size_text(size)} of {repo}" for repo, size in sizes.items())
    free = free_space()
    room = "" if free is None else f", where {size_text(free)} are free"
    console.note(f"Fetching at most {parts} into {hub_cache()}{room}.")


@models.command("verify", cls=options.Command)
def verify_models(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Check that downloaded and converted files are unchanged.

    Reads all of them and compares their SHA-256 with that of their download or conversion. Whenever a model is used,
    only sizes and modification times are compared.

    \b
      v2l models verify
    """
    from v2l.cli.describe import verified_record, verified_text
    from v2l.errors import ModelError
    from v2l.store.pins import verify_fetched
    from v2l.store.released import verify_converted

    console = Console(quiet)
    with console.working("Reading"):
        verified = [*verify_fetched(), *verify_converted()]
    if not verified:
        console.note("Nothing was fetched yet.")
    for model in verified:
        if json:
            write_json(verified_record(model))
        else:
            write(verified_text(model))
    if changed := [path for model in verified for path in model.changed]:
        raise ModelError(f"{', '.join(map(str, changed))} changed since; delete that, and fetch it again with "
                         "`v2l models pull`.")


@models.command("check", cls=options.Command)
def check_adapters(
    name: Annotated[str, argument("NAME", PRESETS)],
    checkpoint: options.Checkpoint = None, device: options.Device = None,
    dtype: options.ComputeDtype = options.Dtype.auto, json: options.Json = False, quiet: options.Quiet = False,
    offline: options.Offline = False,
) -> None:
    """Check that a model's adapters tell of their videos.

    Draws four short clips, makes an adapter of each, and has the model write captions with each clip in its prompt.
    How likely those captions then are without the video, with the clip's own adapter, with another's and with none,
    says whether the base, the hypernetwork and the way they are put together work; no reference answers are needed.
    Exit status 0 if they do, 1 if not. Nothing is kept.

    It cannot tell how good a model is, nor find a fault that changes answers little: two ranks that are swapped, for
    one. For a video of your own there is `v2l bench VIDEO`; for how good answers are, `v2l bench quality`.

    \b
      v2l models check tiny
      v2l models check 500m --offline
    """
    console = Console(quiet)
    engine = options.load_engine(console, name, checkpoint, device, dtype, offline)
    with console.working("Checking"), TemporaryDirectory() as folder:
        engine.fetch_hypernetwork()
        from v2l.bench.likelihood import CHECKED_CLIPS, check_model, draw_checked
        from v2l.bench.likelihood_text import check_text

        console.note(f"{name} watches {len(CHECKED_CLIPS)} drawn clips once, writes captions of each with the clip in "
                     "its prompt, and these are scored without it. Watching the first tells how long that takes.")
        check = check_model(engine, draw_checked(Path(folder)), engine.sampling(), progress=console.progress,
                            foretell=lambda seconds: console.note(f"About {duration_text(seconds)} more."))
    if json:
        write_json(check.to_json())
    else:
        write(check_text(check, columns()))
    if not check.works:
        raise typer.Exit(1)


models.command("export", cls=options.Command)(export_model)
