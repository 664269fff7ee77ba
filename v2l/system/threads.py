"""Threads of torch: no more than there are cores to run them, and no spinning where other work wants those cores.

Between two steps of a computation libgomp's threads spin until all are done. Where one of them has no core, because
other work runs there, the others spin for as long as that work is left to run: a token of the 500M base, 47 ms on two
idle cores, took 875 ms beside one busy process. Spinning less from the start costs an idle machine up to half of its
speed, and other numbers of threads give other bytes, since libraries cut products up by them (1, 2 and 4 threads, AMX:
12 of 15 shapes in float32 with MKL, 7 of 15 in bfloat16 with oneDNN; MKL_CBWR=AVX512,STRICT mends the former and makes
products of one row, so answers, 2.5 times slower). So the number of threads stays as it is, and while other work is
there, as the system's counts of lost cores say, libgomp is brought to wait without spinning. It does so by itself as
long as it has more threads than there are cores, and idle ones are enough for that.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_WINDOW = 0.1
"""Seconds over which moments are counted."""
_RATE = 40.0
"""Times a second that threads lose their core, from which on other work wants it: beside busy loops they were 85 and
more, and thousands where nothing spins."""
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
    long computation, several times a second. Costs less than a microsecond but for ten times a second."""
    contention.look()


class Contention:
    """Whether other work wants the cores on which this process computes."""

    def __init__(self, clock: Callable[[], float], lost: Callable[[], int], crowded: Callable[[], bool],
                 set_spinning: Callable[[bool], None]) -> None:
        """`lost` counts how often threads of this process lost their core to others; `crowded` says whether there are
        more threads to run now than cores, those included that are about to compute."""
        self._clock, self._lost, self._crowded, self.set_spinning = clock, lost, crowded, set_spinning
        self._since, self._before = clock(), lost()
        self.found = False
        """Whether there is other work, as far as was seen."""
        self._lock = Lock()

    def look(self) -> None:
        """Looks again, if the last time was a while ago."""
        if self._clock() - self._since < _WINDOW or not self._lock.acquire(blocking=False):
            return
        try:
            now, lost = self._clock(), self._lost()
            elapsed, count = now - self._since, lost - self._before
            self._since, self._before = now, lost
            found = count > _RATE * elapsed or (elapsed > _PAUSE and self._crowded())
            if found != self.found:
                self.found = found
                self.set_spinning(not found)
        finally:
            self._lock.release()


def _lost() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def _crowded() -> bool:
    import torch

    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running - 1 + torch.get_num_threads() > (os.cpu_count() or 1)  # this thread is one of those that run


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


contention = Contention(time.monotonic, _lost, _crowded, _Spinning())
