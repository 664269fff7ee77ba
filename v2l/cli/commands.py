"""The commands of `v2l` by their names, each imported when it is called: one costs 10 to 40 ms, all of them 130."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
import typer.main

from v2l.cli import options
from v2l.cli.console import Boundary

_PLACES = {"ingest": "ingest:ingest", "watch": "watch:watch_", "status": "status:status", "ask": "ask:ask",
           "find": "find:find_", "ls": "ls:ls", "info": "adapters:info", "compose": "adapters:compose_",
           "slice": "slice:slice_", "export": "export:export_", "serve": "serve:serve", "help": "complete:show_help",
           "completion": "complete:print_script", "models": "models:models", "bench": "bench:bench",
           "train": "train:train"}
"""Where each command is: a module of this room, and what in it is the command, or a group of them."""

COMPLETE = "_V2L_COMPLETE"
"""Environment variable in which a shell says that it asks what TAB may offer."""


class Commands(Mapping[str, Any]):
    """The commands; one is made when it is first looked up, and names alone make none."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, inside = _PLACES[name].partition(":")
            self._made[name] = _command(name, getattr(import_module(f"v2l.cli.{module}"), inside))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


def _command(name: str, function_or_group: Any) -> Any:
    """Typer's command of a function, or of a group."""
    if isinstance(function_or_group, typer.Typer):
        made = typer.main.get_command(function_or_group)
        made.name = name
        return made
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=options.Command)(function_or_group)
    return typer.main.get_command(alone)


class AllCommands(Boundary):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names; Typer's would make each."""
        return list(self.commands)
