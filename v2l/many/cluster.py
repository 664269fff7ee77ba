"""Workers on a Ray cluster: an actor each, on a machine, on several, or on this one alone."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from v2l.errors import UsageError, V2LError, debugging
from v2l.many.jobs import Job
from v2l.many.sharing import Ended, Happening
from v2l.many.worker import Order, Worker
from v2l.wording import shortened

MOST_CORES = 4
"""Cores of a worker that has no GPU, where its machine has as many: more of them share a video's work less well."""
LEAVING = 15.0
"""Seconds that workers have to leave their videos when the work is stopped."""
_REACHED = 5.0
"""Seconds within which a cluster answers that is there."""
_STORE = 100 << 20
"""Bytes of the object store of a cluster that is started here: only names and records pass through it."""


@dataclass(frozen=True)
class Size:
    """The workers of a cluster, and what each of them has."""

    workers: int
    cores: int
    gpus: float
    machines: int


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the Ray cluster at an address for as long as the block lasts.

    `auto` is the one that RAY_ADDRESS names, else the one this machine is in, else as `local` one that is started on
    this machine, for the block. A connection that is there already is used, and stays. V2LError where there is none;
    UsageError where Ray is not installed.
    """
    if address == "auto" and not (os.environ.get("RAY_ADDRESS") or _is_running() or _is_connected()):
        address = "local"
    if address == "local":
        _guard()
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    with _own_signals():
        try:
            _silence()
            _connect(ray, address)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".:")
            raise V2LError(f"There is no Ray cluster for us at {address} ({first}); start one with ray start --head, "
                           "give its token if it wants one (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN), or write --ray "
                           "local for this machine alone.") from error
    try:
        yield
    finally:
        ray.shutdown()


def _is_connected() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _is_running() -> bool:
    """Whether this machine is in a cluster: Ray notes where it is, and does not remove a note when it is killed."""
    folder = os.environ.get("RAY_TMPDIR") or ("/tmp" if os.name == "posix" else tempfile.gettempdir())
    with suppress(OSError, ValueError):
        _check_listens(Path(folder, "ray", "ray_current_cluster").read_text().strip())
        return True
    return False


def _check_listens(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED):
        pass


def _guard() -> None:
    """Has a cluster that is started here take orders of nobody else: Ray listens on all addresses of the machine, and
    whoever may talk to it may run code here. Ray reads this once, when it is imported."""
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _ray() -> Any:
    # Nothing is sent anywhere: of a cluster that is started here, Ray would report how it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be; else it warns
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ModuleNotFoundError as error:
        raise UsageError(f"--ray needs {error.name}, which is not installed; install it with: pip install "
                         "'v2l[ray]'.") from None
    return ray


def _silence() -> None:
    """Keeps Ray from printing what happens to workers among the results on stdout, which no setting of it does."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, **_: debugging() and print(*data["lines"], sep="\n", file=sys.stderr)


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": debugging()}
    if address == "local":
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)
    else:
        if address != "auto":
            _check_listens(address)
        ray.init(address=address, **quiet)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Puts back how signals are handled: Ray takes SIGTERM for itself."""
    if current_thread() is not main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def size_of(device: str | None, workers: int | None, cores: int | None, gpus: float | None) -> Size:
    """How many workers the cluster that is connected holds now, and what each has: a GPU (`gpus` may be a part of one)
    where there is any and the CPU was not asked for, else up to `MOST_CORES` cores, the same number everywhere.
    UsageError where it holds none."""
    machines = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    with_gpus = any(machine.get("GPU") for machine in machines)
    if gpus is None:
        gpus = 1.0 if with_gpus and device in (None, "cuda") else 0.0
    fewest = int(min((machine["CPU"] for machine in machines if machine.get("CPU")), default=0))
    needed = cores or (1 if gpus else max(1, min(MOST_CORES, fewest)))
    held = [int(min(machine.get("CPU", 0) / needed, machine.get("GPU", 0) / gpus if gpus else float("inf")))
            for machine in machines]
    if not workers and not sum(held):
        what = f"{needed} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UsageError(f"No machine of the cluster has {what} for a worker; take fewer --worker-cpus or "
                         "--worker-gpus, or say with --workers how many to wait for.")
    return Size(workers or sum(held), needed, gpus, sum(map(bool, held)))


class RayCrew:
    """Workers that are Ray's actors, each ended with its process, whatever of Ray ended it."""

    def __init__(self, order: Order, size: Size) -> None:
        self._ray, self._order = _ray(), order
        # Two calls at once: `stop` must come through while a video is watched.
        self._class = self._ray.remote(num_cpus=size.cores, num_gpus=size.gpus, max_concurrency=2, max_restarts=0,
                                       max_task_retries=0)(Worker)
        self._numbers = count()
        self._actors: dict[int, Any] = {}
        self._awaited: dict[Any, int] = {}
        """What is awaited, and of which worker."""
        self._watching: set[int] = set()

    def start(self) -> int:
        number, actor = next(self._numbers), self._class.remote(self._order)
        self._actors[number] = actor
        self._awaited[actor.ready.remote()] = number
        return number

    def give(self, worker: int, job: Job, again: bool) -> None:
        self._awaited[self._actors[worker].watch.remote(job, again)] = worker
        self._watching.add(worker)

    def dismiss(self, worker: int) -> None:
        if actor := self._actors.pop(worker, None):
            with suppress(Exception):  # it may be gone
                self._ray.kill(actor)

    def wait(self) -> tuple[int, Happening]:
        done: list[Any] = []
        while not done:  # not for ever at once: a signal is heard in between
            done, _ = self._ray.wait(list(self._awaited), num_returns=1, timeout=1.0)
        worker = self._awaited.pop(done[0])
        self._watching.discard(worker)
        try:
            return worker, self._ray.get(done[0])
        except self._ray.exceptions.RayError as error:
            self.dismiss(worker)
            return worker, Ended(_reason(error))

    def close(self) -> None:
        """Ends all workers; those that watch have some seconds to leave their videos as Ctrl-C does."""
        watching = [ref for ref, worker in self._awaited.items() if worker in self._watching]
        try:
            if watching:
                for worker in self._watching:
                    self._actors[worker].stop.remote()
                self._ray.wait(watching, num_returns=len(watching), timeout=LEAVING)
        finally:
            for worker in list(self._actors):
                self.dismiss(worker)


def _reason(error: Exception) -> str:
    """Why a worker ended, as the end of a sentence; Ray writes paragraphs."""
    text = str(getattr(error, "cause", None) or error)
    if "OutOfMemory" in type(error).__name__ or "memory pressure" in text or "low on memory" in text:
        return "Ray ended it because its machine ran short of memory"
    if "unexpectedly exits" in text or "SYSTEM_ERROR" in text:
        return "its process was killed or crashed; the system kills where memory runs out"
    if re.search(r"\bnode\b[^.]*\b(died|dead|preempted|terminated)\b", text, re.IGNORECASE):
        return "its machine went away"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return shortened(" ".join(lines[-1].split()), 200).rstrip(". ")
