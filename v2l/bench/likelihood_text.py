"""A check of a model as plain text that reads well on 40 columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from v2l.report.grid import Grid, wrapped
from v2l.wording import shortened

if TYPE_CHECKING:
    from v2l.bench.likelihood import ModelCheck


def check_text(check: ModelCheck, width: int | None = None) -> str:
    """A table of log-probabilities a token, and the verdict."""
    columns = [*check.clips, check.whole]
    names = [shortened(Path(column.video).stem, 12).replace("-", "\n") for column in columns]

    def row(name: str, values: list[float]) -> list[str]:
        return [name, *(f"{value:.2f}" for value in values)]

    change = check.whole.best_change
    table = Grid(["", *names], [
        row("no adapter", [column.base for column in columns]),
        row("bias alone", [column.bias for column in columns]),
        row("other video's", [column.other for column in columns]),
        row("its adapter", [column.adapter for column in columns]),
        row("in the prompt", [column.direct for column in columns]),
        row(change, [column.changed[change] for column in columns]),
        ["tokens", *(f"{column.tokens:,}" for column in columns)],
    ]).text(width)
    about = ("How likely the answers with the video in the prompt are, as the mean log-probability of a token (0: "
             f"certain); the last row but one changes the adapter on purpose ({change}, of {len(check.whole.changed)} "
             "changes the best)")
    return "\n".join([wrapped(about, width), "", table, "", wrapped(check.to_json()["verdict"], width)])

