"""`v2l ingest --ray`: what it means, and its run on a Ray cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from v2l.cli.console import Console
from v2l.errors import UsageError
from v2l.wording import count_of

if TYPE_CHECKING:
    from v2l.many.cluster import Size
    from v2l.many.ingest import Failed, Ingested
    from v2l.many.jobs import Job
    from v2l.many.worker import Order

_ADDRESS = re.compile(r"auto|local|ray://\S+|(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)
_NAMED = 3
"""Videos under way that are named."""


def with_address(args: list[str]) -> list[str]:
    """The words of a call, where `--ray` that no address follows stands for `--ray auto`: what follows is a video."""
    end = args.index("--") if "--" in args else len(args)
    words = []
    for number, word in enumerate(args[:end]):
        bare = word == "--ray" and not (number + 1 < end and _ADDRESS.fullmatch(args[number + 1]))
        words.append("--ray=auto" if bare else word)
    return words + args[end:]


def address(value: str | None) -> str | None:
    """The callback of the option. UsageError for what can be no address."""
    if value is not None and not _ADDRESS.fullmatch(value):
        raise UsageError(f"--ray {value} is no address of a Ray cluster, such as auto, local, 10.0.0.1:6379 or "
                         "ray://10.0.0.1:10001.")
    return value


@dataclass(frozen=True)
class Cluster:
    """Which cluster is to do the work, and by how many workers of which size."""

    address: str
    workers: int | None
    cores: int | None
    gpus: float | None


def cluster_of(address: str | None, workers: int | None, cores: int | None, gpus: float | None, device: str | None
               ) -> Cluster | None:
    """The cluster that was asked for, if any. UsageError for what makes no sense together."""
    if address is None:
        given = {"--workers": workers, "--worker-cpus": cores, "--worker-gpus": gpus}
        if unused := next((name for name, value in given.items() if value is not None), None):
            raise UsageError(f"{unused} is for the workers of a cluster; it needs --ray.")
        return None
    if device and ":" in device:
        raise UsageError(f"--device {device} names a device of one machine, and Ray gives each worker its own; write "
                         f"--device {device.partition(':')[0]}.")
    return Cluster(address, workers, cores, gpus)


def share_out_on(cluster: Cluster, jobs: list[Job], order: Order, console: Console,
                 done: Callable[[Iterable[Ingested | Failed]], None]) -> None:
    """Has the workers of a cluster watch the videos, and `done` take what becomes of them. V2LError."""
    from v2l.many.cluster import RayCrew, connected, size_of
    from v2l.many.sharing import share_out

    with ExitStack() as stack:
        with console.working("Starting Ray"):
            stack.enter_context(connected(cluster.address))
        size = size_of(order.device, cluster.workers, cluster.cores, cluster.gpus)
        console.note(f"Ray: {_workers(size)}.")
        crew = RayCrew(_completed(order, size), size)
        with (closing(crew), console.working("Loading", of=len(jobs)),
              closing(share_out(crew, jobs, size.workers, console.warn,
                                lambda under_way: console.progress(_title(under_way), 0, None))) as results):
            done(results)


def _completed(order: Order, size: Size) -> Order:
    """The order with what other machines need to know: what was not named here might mean something else there."""
    from v2l.store.default import default_model

    environment = {name: value for name, value in os.environ.items() if name.startswith(("V2L_", "HF_"))}
    return replace(order, model=order.model or default_model().name, folder=os.getcwd(), environment=environment,
                   device=order.device or (None if size.gpus else "cpu"), threads=None if size.gpus else size.cores)


def _workers(size: Size) -> str:
    each = f"{size.gpus:g} GPU and {count_of(size.cores, 'core')}" if size.gpus else count_of(size.cores, "core")
    return f"{count_of(size.workers, 'worker')} of {each} on {count_of(size.machines, 'machine')}"


def _title(jobs: list[Job]) -> str:
    names = ", ".join(job.video.name for job in jobs[:_NAMED])
    return f"{names} and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else names or "Loading"
