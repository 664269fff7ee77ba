"""`v2l status`: what is done of many videos, what failed and why, and what to run again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.console import Console, one_line, write, write_json, write_path
from v2l.cli.inputs import expand
from v2l.cli.options import argument, option
from v2l.cli.outputs import Planned, plan_all
from v2l.cli.shards import Shard, array_lines, shard_of
from v2l.errors import UsageError
from v2l.many.states import DONE, FAILED, OUTDATED, STATES
from v2l.wording import count_of

if TYPE_CHECKING:
    from v2l.many.states import Standing

_MOST_TOLD = 20
"""Videos that a reason is printed for; --json has all."""


def status(
    videos: Annotated[list[str], argument("VIDEO...")],
    output_dir: Annotated[Path | None, option("DIR", "Look for the adapters in DIR, as ingest put them there.",
                                                     "next to each video")] = None,
    shards: Annotated[int | None, option("N", "Tell of each of N parts, as ingest --shard I/N made them.", "",
                                         callback=options.positive)] = None,
    files: Annotated[bool, typer.Option("--files", help="Print only the videos that are to be run again, one a line."
                                        )] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="Like --files, with a NUL after each name.")] = False,
    json: options.Json = False, quiet: options.Quiet = False,
) -> None:
    """Tell what is done of many videos, and what failed and why.

    VIDEO is a folder, a video, or - to read names from stdin, as for ingest. A video is done where its adapter was
    made of the file as it is now, whatever the settings; it failed where the last run says so, in a small hidden file
    beside the adapter (.talk.v2lora.failed), which the next success removes; it is stale where it has changed since,
    or where its adapter is damaged or another video's; else it is missing. No model is loaded.

    With --shards N, each part has its line, and what to give sbatch to have the rest done: tasks count from 0.
    --files and --null list what is to be run again for ingest; of folders below VIDEO with --output-dir, run ingest
    on VIDEO again instead, since names from a list go into DIR itself.
    Exit status: 0 if all is done, 1 if not.

    \b
      v2l status talks/ --output-dir adapters
      v2l status talks/ --shards 64
      v2l status talks/ --files | v2l ingest -
    """
    if sum((files, null, json)) > 1:
        raise UsageError("--files, --null and --json exclude each other.")
    console = Console(quiet)
    plan = plan_all(expand(videos), None, output_dir)
    report = _Report(plan, shards)
    if json:
        for document in report.documents():
            write_json(document)
    elif files or null:
        for standing in report.standings:
            if standing.state != DONE:
                _write_name(standing.job.video, null)
    else:
        for note in plan.notes:
            console.note(note)
        for line in report.lines():
            write(line)
        if report.others:
            console.warn(f"{count_of(report.others, 'video')} more failed or are stale; --json tells why.")
    if report.counts[DONE] < report.counts.total():
        raise typer.Exit(1)


def _write_name(path: Path, null: bool) -> None:
    if null:
        write(str(path), end="\0")
    else:
        write_path(path)


class _Report:
    """What became of the videos of a plan, all of them and by part."""

    def __init__(self, plan: Planned, shards: int | None) -> None:
        from v2l.many.states import standings

        self.plan, self.shards = plan, shards
        self.standings: list[Standing] = list(standings(plan.jobs))
        self.counts, self.by_part = Counter[str]({FAILED: len(plan.failures)}), defaultdict[int, Counter[str]](Counter)
        for standing in self.standings:
            self.counts[standing.state] += 1
            if shards:
                self.by_part[self._part(standing).index][standing.state] += 1
        self.others = 0
        """Videos that are not done and were not told of by `lines`."""

    def _part(self, standing: Standing) -> Shard:
        assert self.shards is not None
        return shard_of(self.plan.jobs[standing.job], self.shards)

    def lines(self) -> Iterator[str]:
        """The table, why videos are not done, and what to submit again."""
        rows = [("part", *STATES), *self._rows()] if self.shards else []
        if rows:
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield ", ".join(f"{self.counts[state]:,} {state}" for state in STATES)
        told = list(self._told())
        self.others = len(told) - len(told[:_MOST_TOLD])
        yield from told[:_MOST_TOLD]
        yield from self._arrays()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        assert self.shards is not None
        for index in range(1, self.shards + 1):
            counts = self.by_part[index]
            yield (str(Shard(index, self.shards)), *(f"{counts[state]:,}" for state in STATES))

    def _told(self) -> Iterator[str]:
        for video, error in self.plan.failures:
            yield f"{FAILED}: {_after(video, str(error))}"
        for standing in sorted(self.standings, key=lambda one: STATES.index(one.state)):
            if standing.state in (FAILED, OUTDATED):
                yield f"{standing.state}: {_after(standing.job.video, standing.reason)}"

    def _arrays(self) -> Iterator[str]:
        if self.shards:
            yield from array_lines(Shard(index, self.shards) for index, counts in self.by_part.items()
                                   if counts[DONE] < counts.total())

    def documents(self) -> Iterator[dict[str, Any]]:
        """An object a video, and at last one with `counts`, and of parts `shards` and `arrays`."""
        for video, error in self.plan.failures:
            yield {"source": str(video), "state": FAILED, "reason": str(error)}
        for standing in self.standings:
            document = {"source": str(standing.job.video), "output": str(standing.job.output), "state": standing.state}
            if standing.reason:
                document["reason"] = standing.reason
            if self.shards:
                document["shard"] = str(self._part(standing))
            yield document
        summed: dict[str, Any] = {"counts": {state: self.counts[state] for state in STATES}}
        if self.shards:
            summed["shards"] = {str(Shard(index, self.shards)): {state: self.by_part[index][state] for state in STATES}
                                for index in range(1, self.shards + 1)}
            summed["arrays"] = list(self._arrays())
        yield summed


def _after(video: Path, reason: str) -> str:
    """A reason that begins with the video it is of, once."""
    text = reason if reason.startswith(str(video)) else f"{video}: {reason}"
    return one_line(text)
