"""The `v2l` command: all its commands, behind one error boundary."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from typing import Annotated

import typer

from v2l import __version__
from v2l.cli.commands import COMPLETE, AllCommands
from v2l.cli.console import write
from v2l.errors import debugging

app = typer.Typer(cls=AllCommands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def _print_version(given: bool) -> None:
    if given:
        write(f"v2l {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def v2l(ctx: typer.Context, version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                                                  help="Print the version and exit.")] = False) -> None:
    """Watch a video once, keep a small file, ask it forever.

    \b
      v2l ingest lecture.mp4
      v2l ask lecture.v2lora "What happens first?"

    ingest turns a video into an adapter, a small .v2lora file; ask answers questions from that file, without the video.
    All is computed on this machine, and nothing is sent anywhere. The model that ships, tiny, knows only coloured
    shapes and slides; v2l models pull 500m fetches one for real videos.

    Exit status: 0 success, 1 some input failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 terminated, 141 the
    reader of a pipe went away.
    """
    if ctx.invoked_subcommand is None:
        write(ctx.get_help())


def main() -> None:
    """Runs the command that the arguments name. Raises SystemExit."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not debugging():
        warnings.simplefilter("ignore")
        logging.disable()  # what libraries log, FFmpeg's lines through PyAV too: v2l says itself what is to be known
    if os.environ.get(COMPLETE):  # a shell asks what TAB may offer
        from typer._completion_classes import completion_init

        completion_init()
    app(prog_name="v2l", terminal_width=min(shutil.get_terminal_size().columns, 80) - 2)
