"""`v2l help` and `v2l completion`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from v2l.cli.commands import COMPLETE
from v2l.cli.console import write
from v2l.cli.options import argument
from v2l.errors import UsageError
from v2l.wording import nearest

SHELLS = ("bash", "zsh", "fish", "powershell")


def show_help(ctx: typer.Context, words: Annotated[list[str] | None, argument("[COMMAND]...")] = None) -> None:
    """Show the help of a command.

    \b
      v2l help ingest
      v2l help models pull
    """
    here: Any = ctx.find_root()
    for word in words or ():
        commands = getattr(here.command, "commands", {})
        if word not in commands:
            raise UsageError(f"{here.command_path} has no command {word}{nearest(word, commands)}; {here.command_path} "
                             "--help lists them.")
        here = type(ctx)(commands[word], info_name=word, parent=here)
    write(here.get_help())


def print_script(shell: Annotated[str, argument("SHELL")]) -> None:
    """Print the script that completes v2l's commands in a shell.

    SHELL is bash, zsh, fish or powershell. TAB then completes commands, options, models, adapters and videos. A shell
    that reads the script from a file calls v2l only when TAB is pressed, so it starts as fast as before.

    \b
      v2l completion bash > ~/.local/share/bash-completion/completions/v2l
      v2l completion zsh > ~/.zfunc/_v2l
      v2l completion fish > ~/.config/fish/completions/v2l.fish
    """
    from typer._completion_shared import get_completion_script

    if shell.lower() not in SHELLS:
        raise UsageError(f"{shell} is not {', '.join(SHELLS[:-1])} or {SHELLS[-1]}{nearest(shell, SHELLS)}.")
    script = get_completion_script(prog_name="v2l", complete_var=COMPLETE, shell=shell.lower())
    # Folders among the words keep the cursor behind their slash.
    write(script.replace("complete -o default -F", "complete -o default -o filenames -F"))
