"""The `v2l` command: gathers the commands, and their one error boundary."""

from __future__ import annotations

import os
import shutil
import warnings
from typing import Annotated

import typer

from v2l import __version__
from v2l.cli import options
from v2l.cli.adapters import compose, info, slice_
from v2l.cli.ask import ask
from v2l.cli.bench import bench
from v2l.cli.console import Boundary, debugging, write
from v2l.cli.ingest import ingest
from v2l.cli.models import models
from v2l.cli.train import train

app = typer.Typer(cls=Boundary, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        write(f"v2l {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def v2l(ctx: typer.Context, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                                  help="Show the version.")] = False) -> None:
    """Watch a video once, keep a small file, ask it forever.

    \b
      v2l ingest lecture.mp4
      v2l ask lecture.v2lora "What happens first?"

    Answers come from the file alone; nothing leaves this machine. Exit status: 0 done, 1 some input failed,
    2 wrong usage, 130 interrupted, 143 told to end, 141 nobody reads the results.
    """
    if ctx.invoked_subcommand is None:
        write(ctx.get_help())


def main() -> None:
    """The `v2l` command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not debugging():
        warnings.simplefilter("ignore")
    app(prog_name="v2l", terminal_width=min(shutil.get_terminal_size().columns, 80) - 2)


for command in (ingest, ask, compose, slice_, info):
    app.command(command.__name__.rstrip("_"), cls=options.Command)(command)
app.add_typer(models, name="models")
app.add_typer(bench, name="bench")
app.add_typer(train, name="train")
