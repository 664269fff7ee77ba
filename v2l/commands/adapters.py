"""Commands that work on adapter files alone, with no model: `v2l compose`, `v2l info`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from v2l.commands.asking import joined
from v2l.commands.console import Console, Failures, columns, write, write_json
from v2l.commands.options import Force, Json, Output, Quiet, argument
from v2l.commands.plan import check_output, expand
from v2l.errors import AdapterError, UsageError, V2LError

if TYPE_CHECKING:
    from v2l.adapter import Adapter


def compose(
    segments: Annotated[list[str], argument("ADAPTER...")],
    output: Annotated[Path, Output],
    force: Force = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Join adapters into one that answers from all of them.

    They must be of one base and one hypernetwork; - reads names from stdin. No model is needed.

    \b
      v2l compose part1.v2lora part2.v2lora -o full.v2lora
    """
    from v2l.adapter import load, save

    names, console = list(expand(segments)), Console(quiet)
    check_output(output)
    if os.path.realpath(output) in map(os.path.realpath, names):
        raise UsageError(f"{output} is one of the adapters to join; name another file with -o.")
    adapter = joined(names, console)
    skipped = False
    if not force:
        with suppress(AdapterError):
            skipped = _same(adapter, load(output))
    if skipped:
        console.note(f"{output} is up to date.")
    else:
        save(adapter, output)
    if json:
        write_json({"output": str(output), "segments": len(adapter.segments),
                    "sources": [source["name"] for source in adapter.sources],
                    "rank": adapter.total_rank + adapter.rank, "size": adapter.file_size, "skipped": skipped})
    else:
        write(str(output))


def _same(one: Adapter, other: Adapter) -> bool:
    """Whether two adapters are the same file."""
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return one.record == other.record and one.dtype == other.dtype and all(a.tobytes() == b.tobytes() for a, b in pairs)


def info(
    files: Annotated[list[str], argument("ADAPTER...")],
    json: Json = False,
) -> None:
    """Show what an adapter says about itself.

    \b
      v2l info lecture.v2lora
    """
    from v2l.adapter import load
    from v2l.show import adapter_text

    failures = Failures()
    for number, name in enumerate(expand(files)):
        try:
            adapter = load(name)
        except V2LError as error:
            failures.add(error, name)
            continue
        if json:
            shapes = {f"down_proj.{key}": list(array.shape) for key, array in adapter.tensors().items()}
            write_json({"file": name, "size": os.path.getsize(name), "dtype": adapter.dtype, "tensors": shapes,
                        **adapter.record})
        else:
            write(("\n" if number else "") + adapter_text(adapter, columns()))
    failures.exit()
