"""`v2l ingest --ray` on a real cluster of this machine: the files of one machine, though a worker is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

import pytest
from support.cli import MAKE, ROOT, command, documents, environment, heed_interrupts, run
from support.videos import write

from v2l.many.cluster import connected

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

THREADS = os.environ["OMP_NUM_THREADS"]
"""Threads of this process; other numbers may give other bytes."""
SHARED = ("--ray", "--workers", "2", "--worker-cpus", THREADS, *MAKE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that is started as `--ray local` starts one."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # which its workers inherit
    with connected("local"):
        import ray  # not before: it reads once who may connect

        yield ray.get_runtime_context().gcs_address
    os.environ.pop("PYTHONPATH")
    if path is not None:
        os.environ["PYTHONPATH"] = path


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four videos."""
    monkeypatch.chdir(tmp_path)
    Path("talks/deep").mkdir(parents=True)
    for number, name in enumerate(("0", "1", "2", "deep/3")):
        write(Path(f"talks/{name}.mp4"), frames=300 + 10 * number, size=(64, 64))
    return tmp_path


def workers(doing: str = "") -> set[int]:
    """The processes that hold an engine, by what Ray calls them."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if process.read_bytes().startswith(f"ray::Worker{doing}".encode()):
                found.add(int(process.parent.name))
        except OSError:
            pass
    return found


def all_ended() -> bool:
    """Whether no worker is left, some seconds after they were told to end."""
    end = time.monotonic() + 20
    while workers() and time.monotonic() < end:
        time.sleep(0.05)
    return not workers()


def kill_one_at_work(killed: list[int], over: Event) -> None:
    """Kills the process of a worker that is at a video, once."""
    while not killed and not over.wait(0.002):
        if list(Path("out").rglob(".*.lock")):
            for process in sorted(workers(".watch"))[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)


def test_the_files_are_those_of_one_machine_though_workers_are_killed(cluster: str, talks: Path) -> None:
    run("ingest", "talks", "--output-dir", "alone", *MAKE)
    Path("talks/bad.mp4").write_text("no video")
    Path("out/deep").mkdir(parents=True)
    shutil.copy("alone/deep/3.v2lora", "out/deep")
    killed, over = list[int](), Event()
    killer = Thread(target=kill_one_at_work, args=(killed, over))
    killer.start()
    result = run("ingest", "talks", "--output-dir", "out", "--json", *SHARED, status=1)
    over.set()
    killer.join()
    *lines, counts = documents(result)
    assert killed and "which another will watch: its process was killed" in result.stderr
    assert {line["source"]: line.get("skipped") for line in lines} == {
        **dict.fromkeys(("talks/0.mp4", "talks/1.mp4", "talks/2.mp4"), False), "talks/deep/3.mp4": True,
        "talks/bad.mp4": None}
    assert counts["counts"] == {"made": 3, "up to date": 1, "kept": 0, "failed": 1, "foreign": 0}
    assert "Error: talks/bad.mp4 is text, not a video" in result.stderr and "Ray: 2 workers of" in result.stderr
    for made in Path("alone").rglob("*.v2lora"):
        assert Path("out", made.relative_to("alone")).read_bytes() == made.read_bytes()
    run("status", "talks/0.mp4", "talks/1.mp4", "talks/2.mp4", "--output-dir", "out")
    assert all_ended()


def test_ctrl_c_leaves_what_is_done_and_nothing_else(cluster: str, talks: Path) -> None:
    words = command("ingest", "talks", "--json", "--frames", 200, "--fps", 25, "--workers", 1, "--worker-cpus",
                    THREADS, "--ray", cluster, *MAKE)
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=heed_interrupts) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline() or process.stderr.read())
        while not list(Path("talks").rglob(".*.lock")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130 and errors.endswith("Interrupted.\n"), errors
    done = [first["output"], *(json.loads(line)["output"] for line in rest.splitlines())]
    left = {str(path) for path in Path("talks").rglob("*") if path.is_file() and path.suffix != ".mp4"}
    assert set(done) <= left and len(left) < 4 and all_ended()
    assert all(name.endswith(".v2lora") and not Path(name).name.startswith(".") for name in left)
