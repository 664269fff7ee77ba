"""A conversation of `v2l ask`: questions from the terminal, each answered by itself."""

from __future__ import annotations

import sys
from contextlib import suppress

from v2l.cli.ask_print import Asker
from v2l.cli.console import is_terminal
from v2l.errors import V2LError
from v2l.system.interrupts import Terminated

ENDS_OF_A_CONVERSATION = ("", "quit", "exit", ":q", "/quit", "/exit", "/bye")
"""What ends a conversation; Ctrl-D does, too."""
_ASKS_FOR_HELP = ("help", "?", "/help", "/?")
_HELP = ("Each question is answered by itself, without those before it; an empty line, quit or Ctrl-D ends the "
         "conversation.")


def converse(asker: Asker) -> None:
    """Asks questions from the terminal, each by itself: that is what hypernetworks were trained for, single questions,
    and an adapter with earlier turns before it was never tried. Ctrl-C ends an answer that comes, or drops a question
    that was begun; on an empty line it ends the conversation and the command."""
    with suppress(ImportError):
        import readline  # noqa: F401 (gives `input` line editing, and `_begun` its line)

    asker.printer.console.note(_HELP)
    prompt = "> " if is_terminal(sys.stdout) else ""
    while (question := _typed(prompt)) not in ENDS_OF_A_CONVERSATION:
        if question in _ASKS_FOR_HELP:
            asker.printer.console.note(_HELP)
            continue
        asker.printer.streamed = False
        try:
            asker.ask([question])
        except Terminated:
            raise
        except KeyboardInterrupt:
            if not asker.printer.streamed:
                print(file=sys.stderr)
        except V2LError as error:
            asker.printer.failures.add(error, "")


def _typed(prompt: str) -> str:
    """A question; nothing where Ctrl-D was typed. What comes after a Ctrl-C stands on a line of its own: another
    prompt, where a question was begun."""
    while True:
        if not prompt:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            return input(prompt).strip()
        except EOFError:
            print(file=sys.stderr)
            return ""
        except KeyboardInterrupt as interrupt:
            begun = not isinstance(interrupt, Terminated) and _begun()
            print(file=sys.stderr)
            if not begun:
                raise


def _begun() -> bool:
    """Whether the line that was interrupted holds something. False where no line is edited (a stdout that is no
    terminal, Windows): the system has it then."""
    with suppress(ImportError):
        import readline

        return bool(readline.get_line_buffer().strip())
    return False
