"""Threads: as many as there are cores to run them, and none that spins on a core that other work wants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.processes import ROOT

from v2l.config import HypernetConfig
from v2l.model.config import TextConfig
from v2l.model.hypernetwork import Hypernetwork
from v2l.model.text import LayerAdapter, TextStack
from v2l.system import threads as module
from v2l.system.threads import Contention, limit_threads, threads, usable_cores

NOWHERE = Path("/nowhere")


def control_groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A /sys/fs/cgroup and a /proc/self/cgroup."""
    for name, content in files.items():
        (folder / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fs" / name).write_text(content)
    (folder / "own").write_text(own)
    return folder / "fs", folder / "own"


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(("own", "files", "cores"), [
    ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # a container that sees its group as the root
    ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
    ("0::/\n", {"cpu.max": "350000 100000\n"}, 3),
    ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "400000 100000"}, 2),
    ("0::/../../b\n", {"cpu.max": "400000 100000"}, 4),
    ("0::/\n", {"cpu.max": "damaged"}, 16), ("0::/\n", {"cpu.max": "1 0"}, 16), ("", {}, 16), ("0::/gone\n", {}, 16),
    (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000\n",
          "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n"}, 2),
    (V1, {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 3),  # its own group, at the root
    (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
    (V1, {"cpuset/cpu.cfs_quota_us": "100000\n", "cpuset/cpu.cfs_period_us": "100000\n"}, 16),
])
def test_quotas_of_control_groups(tmp_path: Path, sixteen_cores: None, own: str, files: dict[str, str], cores: int
                                  ) -> None:
    assert usable_cores(*control_groups(tmp_path, own, files)) == cores


def test_no_control_groups(sixteen_cores: None) -> None:
    assert usable_cores(NOWHERE, NOWHERE) == 16


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_as_it_is_now() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(NOWHERE, NOWHERE) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores(NOWHERE, NOWHERE) == len(before)


@pytest.fixture
def torch_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


def test_torch_has_no_more_threads_than_cores(torch_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    assert limit_threads() == 4
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    assert limit_threads() == 2 == torch.get_num_threads()


def test_what_the_user_said_stands(torch_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert limit_threads() == 4 == torch.get_num_threads()


def test_a_block_has_its_threads(torch_threads: None) -> None:
    with threads(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 4


class Machine:
    """A machine whose clocks a test moves; it keeps what the threads were told."""

    def __init__(self) -> None:
        self.time, self.crowded = 0.0, False
        self.waited: dict[str, float] = {}
        self.spinning: list[bool] = []
        self.contention = Contention(lambda: self.time, lambda: dict(self.waited), lambda: self.crowded,
                                     self.spinning.append)

    def after(self, seconds: float, **waited: float) -> list[bool]:
        """What the threads were told by then, if so many of those seconds they had no core."""
        self.time += seconds
        for thread, more in waited.items():
            self.waited[thread] = self.waited.get(thread, 0.0) + more
        self.contention.look()
        return self.spinning


def test_threads_stop_spinning_while_one_waits_for_a_core_and_only_then() -> None:
    machine = Machine()
    assert machine.after(0.25, main=0.01) == [] and machine.after(0.0625, main=0.06) == []  # a moment is no measure
    assert machine.after(0.125, worker=0.06) == [False] and machine.contention.found
    assert machine.after(0.125, worker=0.06) == [False] and machine.after(0.125, main=0.02) == [False]
    assert machine.after(0.25, main=0.01, worker=0.01) == [False, True] and not machine.contention.found


def test_moments_of_many_threads_are_no_other_work() -> None:
    """Each of them loses its core now and then, to the system's own threads."""
    machine = Machine()
    assert machine.after(0.25, **{f"worker {number}": 0.02 for number in range(64)}) == []


def test_threads_come_and_go() -> None:
    machine = Machine()
    assert machine.after(0.25, decoder=0.04) == []
    del machine.waited["decoder"]
    assert machine.after(0.25, worker=0.1) == [False]


def test_after_a_pause_the_system_is_asked() -> None:
    machine = Machine()
    machine.crowded = True
    assert machine.after(0.5) == []
    assert machine.after(5.0) == [False]
    machine.crowded = False
    assert machine.after(5.0, main=0.01) == [False, True]


def test_looking_is_rare_where_it_takes_long() -> None:
    """A file is read for each thread, and there may be hundreds."""
    machine, looks = Machine(), []

    def waited() -> dict[str, float]:
        looks.append(machine.time)
        machine.time += 0.0078125
        return {}

    contention = Contention(lambda: machine.time, waited, lambda: False, machine.spinning.append)
    for _ in range(64):
        machine.time += 0.0625
        contention.look()
    assert 0.0078125 * (len(looks) - 2) <= 0.01 * machine.time


def a_system(folder: Path, running: int, own: dict[str, str]) -> Path:
    """A /proc: so many threads run now, and the states of this process's own."""
    (folder / "loadavg").write_text(f"0.50 0.40 0.30 {running}/300 4242\n")
    for thread, state in own.items():
        (folder / "self" / "task" / thread).mkdir(parents=True)
        (folder / "self" / "task" / thread / "stat").write_text(f"{thread} (a name) R) {state} 1 1 0")
        (folder / "self" / "task" / thread / "schedstat").write_text(f"7000 {thread}500000000 12\n")
    return folder


@pytest.mark.parametrize(("running", "crowded"), [(3, False), (4, True)])
def test_own_threads_that_run_are_no_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: int,
                                                crowded: bool) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with threads(2):
        assert module.crowded(a_system(tmp_path, running, {"1": "R", "2": "R", "3": "S"})) is crowded


def test_what_the_system_tells_of_waiting(tmp_path: Path) -> None:
    assert module.waited(a_system(tmp_path, 1, {"1": "R", "12": "S"})) == {"1": 1.5, "12": 12.5}
    assert module.waited(NOWHERE) == {} and module.crowded(NOWHERE) is False


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP")
def test_libgomp_has_more_threads_than_cores_while_none_shall_spin() -> None:
    """By its own rule it then waits without spinning; the threads are gone when they may spin again, and torch computes
    with as many as before, so its bytes are the same."""
    code = """
import os, time, torch
from v2l.system.threads import contention
def count(): return len(os.listdir("/proc/self/task"))
x = torch.randn(300, 300)
expected, before = x @ x, count()
for _ in range(2):
    contention.set_spinning(False)
    assert count() > before + os.cpu_count() and torch.get_num_threads() == 2
    assert torch.equal(x @ x, expected)
    contention.set_spinning(True)
    end = time.monotonic() + 60
    while count() != before and time.monotonic() < end:  # they are on their way
        time.sleep(0.005)
    assert count() == before
"""
    env = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the counts are Linux's")
def test_other_work_is_noticed() -> None:
    """A process that computes beside as many busy loops as there are cores finds them."""
    code = """
import os, subprocess, sys, time, torch
from v2l.system import threads
# They end by themselves, too: left behind, they would take the cores of all tests after this one.
loop = "import time; end = time.monotonic() + 9\\nwhile time.monotonic() < end: pass"
busy = [subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(os.cpu_count())]
try:
    x, end = torch.randn(500, 500), time.monotonic() + 8
    while not threads.contention.found and time.monotonic() < end:
        x @ x
        threads.yield_to_others()
    assert threads.contention.found
finally:
    for process in busy:
        process.kill()
"""
    env = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_every_step_of_the_hypernetwork_and_of_training_looks_for_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds without a look takes them beside other work, too, with threads that spin."""
    looks: list[None] = []
    monkeypatch.setattr(module, "contention", SimpleNamespace(look=lambda: looks.append(None)))
    hyper = Hypernetwork(HypernetConfig(2, 16, 24, 16, rank=2, latent_size=8, num_blocks=3, num_heads=2, num_kv_heads=1,
                                        head_dim=4))
    A, B = hyper(torch.randn(2, 5, 16), torch.arange(2))
    assert len(looks) == 4
    (A.sum() + B.sum()).backward()
    assert len(looks) == 8
    stack = TextStack(TextConfig(16, 24, 2, 2, 1, 8, 20, 1e-5, 1e4, 64, True))
    looks.clear()
    stack.hidden(torch.randn(1, 5, 16), adapters=[LayerAdapter(a[None], b[None], 1.0) for a, b in zip(
        A.detach().requires_grad_(), B.detach().requires_grad_(), strict=True)]).sum().backward()
    assert len(looks) == 3  # nothing before the first layer has a gradient
