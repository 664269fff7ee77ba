"""Threads of torch: no more than there are cores to run them, and no spinning where other work wants those cores.

Between two steps of a computation libgomp's threads spin until all are done. Where one of them has no core, because
other work runs there, the others spin for as long as that work is left to run: a token of the 500M base, 47 ms on two
idle cores, took 875 ms beside one busy process. Spinning less from the start costs an idle machine up to half of its
speed, and other numbers of threads give other bytes, since libraries cut products up by them (1, 2 and 4 threads, AMX:
12 of 15 shapes in float32 with MKL, 7 of 15 in bfloat16 with oneDNN; MKL_CBWR=AVX512,STRICT mends the former and makes
products of one row, so answers, 2.5 times slower). So the number of threads stays as it is, and while one of them waits
for a core, as the system's clocks say, libgomp is brought to wait without spinning. It does so by itself as long as it
has more threads than there are cores, and idle ones are enough for that.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread

_WINDOW = 0.1
"""Seconds over which moments are counted."""
_WANTED, _LEFT = 0.2, 0.1
"""Shares of the time that some thread waits for a core: above the one, other work wants cores; below the other, it no
longer does. On two idle cores the thread that waited most did for 0.00 to 0.15 of a moment; beside busy loops for 0.2
to 0.5 where threads spin, and for 0.3 to 0.6 (a clip of `tiny`: 0.08 to 0.18) where they do not. How often threads lose
a core tells nothing: 20 to 300 times a second on idle cores, 40 to 250 beside a busy loop."""
_COST = 0.01
"""Share of the time that looking may take: it reads a file for each thread, 20 microseconds."""
_PAUSE = 1.0
"""Seconds after which what was counted is of another time, so that the system is asked what runs now."""


def usable_cores(control_groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores this process may use: by its affinity, and by the quotas of its control groups (versions 1 and 2)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(int(quota) for quota in _quotas(control_groups, own))]))


def _quotas(control_groups: Path, own: Path) -> Iterator[float]:
    """Cores that the control groups of this process, and those above them, may keep busy."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container may see its own group as the root, whatever it is called outside.
        names = [name for name in path.split("/") if name not in ("", "..")]
        for length in range(len(names) + 1):
            for mount in {controllers, "cpu"} if controllers else {""}:
                yield from _quota(control_groups.joinpath(mount, *names[:length]))


def _quota(folder: Path) -> Iterator[float]:
    """Cores that one control group may keep busy, if that is limited."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)  # ValueError: "max"
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)


def limit_threads() -> int:
    """Has torch use no more threads than `usable_cores`, unless OMP_NUM_THREADS says how many; how many it uses."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Has torch compute with so many threads in the block, whatever it was set to."""
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


def yield_to_others() -> None:
    """Looks whether other work wants the cores, and has torch's threads spin or not; to be called in the course of any
    long computation, several times a second. Costs less than a microsecond but for ten times a second at most."""
    contention.look()


class Contention:
    """Whether other work wants the cores on which this process computes."""

    def __init__(self, clock: Callable[[], float], waited: Callable[[], Mapping[str, float]],
                 crowded: Callable[[], bool], set_spinning: Callable[[bool], None]) -> None:
        """`waited` tells for how many seconds each thread of this process was ready to run and had no core; `crowded`
        whether there are more threads to run now than cores, those included that are about to compute."""
        self._clock, self._waited, self._crowded, self.set_spinning = clock, waited, crowded, set_spinning
        self._since, self._before, self._window = clock(), waited(), _WINDOW
        self.found = False
        """Whether there is other work, as far as was seen."""
        self._lock = Lock()

    def look(self) -> None:
        """Looks again, if the last time was a while ago."""
        if self._clock() - self._since < self._window or not self._lock.acquire(blocking=False):
            return
        try:
            now, waits = self._clock(), self._waited()
            elapsed = now - self._since
            longest = max((seconds - self._before.get(thread, 0.0) for thread, seconds in waits.items()), default=0.0)
            found = longest > (_LEFT if self.found else _WANTED) * elapsed or (elapsed > _PAUSE and self._crowded())
            self._since, self._before = now, waits
            self._window = max(_WINDOW, (self._clock() - now) / _COST)
            if found != self.found:
                self.found = found
                self.set_spinning(not found)
        finally:
            self._lock.release()


def waited(system: Path = Path("/proc")) -> dict[str, float]:
    """Seconds for which each thread of this process waited for a core; none where the system does not count them."""
    return {thread: int(line.split()[1]) / 1e9 for thread, line in _own_threads(system, "schedstat")}


def crowded(system: Path = Path("/proc")) -> bool:
    """Whether more threads want to run than there are cores, once torch computes. Those of this process that run are
    torch's, or wait for it: libgomp's spin for 20 ms after a computation."""
    import torch

    try:
        running = int((system / "loadavg").read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    own = sum(line.rpartition(")")[2].split()[0] == "R" for _, line in _own_threads(system, "stat"))
    return running - own + torch.get_num_threads() > (os.cpu_count() or 1)


def _own_threads(system: Path, name: str) -> Iterator[tuple[str, str]]:
    """The id of each thread of this process, and what a file of the system's says of it."""
    with suppress(OSError):
        tasks = os.path.join(system, "self", "task")
        for thread in os.listdir(tasks):
            with suppress(OSError), open(os.path.join(tasks, thread, name), encoding="utf-8") as file:  # it may end
                yield thread, file.read()


class _Spinning:
    """The spinning of libgomp's threads, off while idle threads make it have more than the machine has cores: its own
    rule, by which it then waits a hundred rounds instead of 300,000. Nothing where torch has another OpenMP."""

    def __init__(self) -> None:
        self._over: Event | None = None
        self._thread: Thread | None = None

    def __call__(self, spinning: bool) -> None:
        if not spinning and _libgomp():
            ready, self._over = Event(), Event()
            self._thread = Thread(target=_hold_threads, args=(ready, self._over), name="v2l-idle", daemon=True)
            self._thread.start()
            ready.wait()
        elif self._thread and self._over:
            self._over.set()
            self._thread.join()  # libgomp ends its idle threads with it
            self._thread = None


def _hold_threads(ready: Event, over: Event) -> None:
    lib = _libgomp()
    assert lib is not None
    work = ctypes.cast(lib.omp_get_thread_num, ctypes.c_void_p)  # what each of them does, once: nothing that matters
    lib.GOMP_parallel(work, None, (os.cpu_count() or 1) + 2, 0)
    ready.set()
    over.wait()


@cache
def _libgomp() -> ctypes.CDLL | None:
    """The OpenMP runtime that torch has loaded, if it is GCC's."""
    with suppress(OSError, AttributeError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = line.split(maxsplit=5)[-1]
            if "torch" in path and "libgomp" in path:
                lib = ctypes.CDLL(path)
                lib.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
                lib.GOMP_parallel.restype = None
                return lib
    return None


contention = Contention(time.monotonic, waited, crowded, _Spinning())
