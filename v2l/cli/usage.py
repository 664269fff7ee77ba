"""What is wrong with a call that Typer refuses, in one sentence with the way out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from v2l.errors import UsageError
from v2l.wording import command, nearest, not_among


def usage_error(error: Any) -> UsageError:
    """The error of a call that Typer refused: of click, which some typers have inside, so its class is told by name."""
    ctx: Any = getattr(error, "ctx", None)
    kind = type(error).__name__
    path = ctx.command_path if ctx is not None else "v2l"
    see = f"{path} --help tells more" if ctx is not None else "the --help of its command tells more"
    message, param = str(error.message).rstrip("."), getattr(error, "param", None)
    if kind == "NoSuchOption":
        return UsageError(f"{path} has no option {error.option_name}{_meant(error.option_name, ctx)}; {see}.")
    if kind == "MissingParameter" and param is not None:
        return UsageError(f"{path} needs {_called(param)}; {see}.")
    if kind == "BadOptionUsage":
        return UsageError(f"{error.option_name} takes {_values(error.option_name, message, ctx)}; {see}.")
    if kind == "BadParameter" and param is not None:
        return UsageError(f"{_called(param, short=True)}: {_plain(message)}.")
    if unknown := re.fullmatch(r"No such command '(.*?)'.*", message, re.DOTALL):
        return UsageError(_no_command(unknown[1], path, ctx))
    if extra := re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message, re.DOTALL):
        return UsageError(f"{path} has no use for {extra[1]}; put quotes around a name with spaces ({see}).")
    if message == "Missing command":
        return UsageError(f"{path} needs a command: {', '.join(ctx.command.commands)}; {see}.")
    return UsageError(f"{message}; {see}.")


def _called(param: Any, short: bool = False) -> str:
    """A parameter as the help calls it: `-o FILE`, `VIDEO...`."""
    if param.param_type_name == "argument":
        return str(param.metavar)
    name = str(max(param.opts, key=len) if short else param.opts[0])
    return name if short or not param.metavar else f"{name} {param.metavar}"


def _values(option: str, message: str, ctx: Any) -> str:
    """What an option takes after it, for a call that gives too little, or something where it takes nothing."""
    if "not take" in message:
        return "no value"
    params = ctx.command.get_params(ctx) if ctx is not None else ()
    metavar = next((str(param.metavar or "") for param in params if option in param.opts), "")
    return metavar if " " in metavar else "a value"


def _meant(option: str, ctx: Any) -> str:
    """The option that is much like it, for the end of a clause."""
    names = [name for param in ctx.command.get_params(ctx) for name in param.opts if name.startswith("--")]
    return nearest(option, names)


def _plain(message: str) -> str:
    """Words for what is no number, or none of some names, click's or pydantic's, which Typer takes where it is
    installed, in plain ones."""
    if choice := re.fullmatch(r"(?:Value error, )?'(.*)' is not one of ('.*')", message, re.DOTALL):
        return not_among(choice[1], re.findall("'(.*?)'", choice[2]))
    found = re.match(r"(?:(.+) is not|Input should be) a valid (int|float|number)", message, re.DOTALL)
    if not found:
        return message
    return f"{found[1] or 'the value'} is not a {'whole number' if found[2] == 'int' else 'number'}"


def _no_command(word: str, path: str, ctx: Any) -> str:
    if os.path.exists(word):
        from v2l.adapter.find import holds_adapter

        then = f"{command('ask', word)} QUESTION" if holds_adapter(word) else command("ingest", word)
        return f"{word} is a file, and a command comes first: {then}."
    return f"{path} has no command {word}{nearest(word, ctx.command.commands)}; {path} --help lists them."


def refuse_empty(params: Iterable[Any], words: Sequence[str]) -> None:
    """UsageError where a value is an empty text, which a shell makes of a variable that is not set: as a path, it would
    be the folder one is in."""
    takes = {name for param in params if not getattr(param, "is_flag", False) for name in param.opts}
    metavar = next((f" ({param.metavar})" for param in params if param.param_type_name == "argument"), "")
    options = words[: words.index("--")] if "--" in words else words
    for number, word in enumerate(words):
        option = word.removesuffix("=") if number < len(options) else ""
        if not word and number <= len(options) and words[number - 1] in takes:
            option = words[number - 1]
        if not word or (option != word and option in takes):
            what = f"The value of {option}" if option else f"An argument{metavar}"
            raise UsageError(f"{what} is empty, perhaps a variable that is not set; write what is meant, or leave "
                             f"{option or 'it'} out.")
