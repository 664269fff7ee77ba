"""The losses of a run: a CSV file, a line a step, and a page that draws it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from v2l.errors import OutputError
from v2l.report.page import figure, figures, page
from v2l.report.plots import Axis, Html, Line, Point, line_plot
from v2l.system.files import replacing

DRAWN = 160
"""Points of a line; of more steps, each is the mean of several."""


@dataclass(frozen=True)
class StepLosses:
    """Figures of a step; None where it has none: no validation, or no clip that could be decoded."""

    step: int
    """Number of the step, from 1 on."""
    loss: float | None
    """Mean loss of a token before the step."""
    val_loss: float | None
    lr: float
    """Learning rate of the first group of parameters."""
    grad_norm: float | None
    """Norm of the gradient before clipping."""
    tokens: int
    """Target tokens in the step."""
    seconds: float
    """Seconds trained so far, over all runs."""


NAMES = tuple(field.name for field in fields(StepLosses))


class Curves:
    """`losses.csv` and `losses.html` in a folder. Rows past `step` are of a run that was killed, and dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self.csv, self.html = folder / "losses.csv", folder / "losses.html"
        self.rows = [row for row in self._read() if row.step <= step]
        with replacing(self.csv) as file:
            file.write(_csv([NAMES, *map(_values, self.rows)]))

    def _read(self) -> list[StepLosses]:
        if not self.csv.is_file():
            return []
        rows = []
        with self.csv.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                with suppress(ValueError, TypeError):  # the last line may be torn
                    number = lambda name, line=line: float(line[name]) if line[name] else None
                    rows.append(StepLosses(int(line["step"]), number("loss"), number("val_loss"), float(line["lr"]),
                                    number("grad_norm"), int(line["tokens"]), float(line["seconds"])))
        return rows

    def add(self, row: StepLosses) -> None:
        """Raises OutputError."""
        self.rows.append(row)
        try:
            with self.csv.open("ab") as file:
                file.write(_csv([_values(row)]))
        except OSError as error:
            raise OutputError(f"{self.csv} cannot be written ({error.strerror}).") from error

    def draw(self) -> None:
        """Writes the page, once there are two steps."""
        if len(self.rows) < 2:
            return
        losses = [Line("training", _means([(row.step, row.loss) for row in self.rows]), 0, marks=False),
                  Line("validation", [Point(row.step, row.val_loss) for row in self.rows if row.val_loss is not None],
                       1)]
        parts = []
        if any(line.points for line in losses):
            parts.append(figure("Loss", _plot("Loss", "nats a token", losses)))
        rates = Line("", _means([(row.step, row.lr) for row in self.rows]), 2, marks=False)
        parts.append(figure("Learning rate", _plot("Learning rate", "a step", [rates])))
        last = self.rows[-1]
        with replacing(self.html) as file:
            file.write(page("Losses", [f"After {last.step:,} steps and {last.seconds / 60:,.1f} minutes."],
                            figures(*parts)).encode())


def _plot(title: str, unit: str, lines: Sequence[Line]) -> Html:
    return line_plot(title, Axis("step", log=False), Axis(unit, log=False), lines)


def _means(values: Sequence[tuple[int, float | None]]) -> list[Point]:
    """At most DRAWN points."""
    known = [(step, value) for step, value in values if value is not None]
    each = -(-len(known) // DRAWN) or 1
    bins = [known[i : i + each] for i in range(0, len(known), each)]
    return [Point(part[-1][0], sum(value for _, value in part) / len(part)) for part in bins]


def _values(row: StepLosses) -> tuple[object, ...]:
    return tuple("" if value is None else value for value in asdict(row).values())


def _csv(lines: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
