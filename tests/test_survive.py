"""Files that survive: kills, full and vanished disks, processes at the same time, the same bytes every time."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.adapters import make
from support.cli import MAKE, MODEL, command, environment, run
from support.processes import ROOT

from v2l.adapter import save
from v2l.config import Sampling
from v2l.engine import Engine
from v2l.errors import OutputError
from v2l.segments import ingest_segments, work_folder
from v2l.system import files
from v2l.system.files import replacing
from v2l.tiny.clips import scene, solo, write_video
from v2l.video.cuts import SegmentSpec

EXAMPLES = Path(ROOT) / "examples"


def by_hand(program: str, *words: str) -> str:
    """The last line of a program of tests/reliability, which must find nothing: a few of what it does by the hundred
    when run by hand. It forks, so it must know no threads, and has a process of its own."""
    done = subprocess.run([sys.executable, str(Path(ROOT, "tests", "reliability", program)), *words], timeout=250,
                          capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


# Killed, and on failing disks.


def test_kills() -> None:
    assert by_hand("kill.py", "--kills", "4", "--only", "segments", "compose").startswith("4 kills, ")


def test_failing_disks_and_runs_that_meet() -> None:
    assert by_hand("faults.py", "--count", "4", "--only", "compose") == "4 failing disks, 2 meetings, 0 faults"


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_while_a_file_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Told only when what was written is to reach the disk, as quotas and network mounts do."""
    adapter, path = make(1), tmp_path / "a.v2lora"
    save(adapter, path)
    whole = path.read_bytes()

    def failing(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(OutputError, match=r"^Cannot write .*a\.v2lora: .*; (free some, or )?choose another place\.$"):
        save(make(2), path)
    assert path.read_bytes() == whole and os.listdir(tmp_path) == ["a.v2lora"]


def test_a_folder_in_which_no_open_file_can_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that a virtual machine or a network shares."""
    rename, handles = os.replace, Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("what is open cannot be told here")

    def busy(old: Path, new: Path) -> None:
        if any(os.path.realpath(handle) == str(old) for handle in handles.iterdir()):
            raise OSError(errno.ETXTBSY, os.strerror(errno.ETXTBSY))
        rename(old, new)

    monkeypatch.setattr(files.os, "replace", busy)
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole" and os.listdir(tmp_path) == ["a"]


def test_a_damaged_adapter_is_told_and_made_again(tmp_path: Path) -> None:
    """Whether an output is up to date is told by its record, so the way out must be one that does not ask."""
    video, made = shutil.copy(EXAMPLES / "one-shape.mp4", tmp_path), tmp_path / "one-shape.v2lora"
    ingest = ("ingest", video, *MAKE, "--frames", 2)
    run(*ingest)
    whole = made.read_bytes()
    made.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    said = run("ask", made, "What happens?", *MODEL, status=1).stderr
    assert "not what its sha256 says" in said and "ingest its video again with --force" in said
    run(*ingest, "--force")
    assert made.read_bytes() == whole


def test_segments_that_an_output_holds_do_not_wait_on(tmp_path: Path) -> None:
    """A run that was killed between joining and clearing up leaves them."""
    engine, video = Engine("tiny", device="cpu", dtype="float32"), EXAMPLES / "two-shapes.mp4"
    sampling, output = Sampling(frames=2, resolution=64), tmp_path / "a.v2lora"
    done = ingest_segments(engine, video, sampling, SegmentSpec(4.0), output, keep=True)
    waiting = work_folder(output)
    waiting.mkdir()
    for part in done.kept:
        shutil.copy(part, waiting)
    (waiting / "other.v2lora").write_bytes(b"of other settings")
    for _ in range(2):
        assert ingest_segments(engine, video, sampling, SegmentSpec(4.0), output).skipped
        assert os.listdir(waiting) == ["other.v2lora"]
    (waiting / "other.v2lora").unlink()
    shutil.copy(done.kept[0], waiting)
    assert ingest_segments(engine, video, sampling, SegmentSpec(4.0), output).skipped
    assert not waiting.exists()


def test_the_next_run_removes_what_a_killed_one_left_and_not_what_another_writes(tmp_path: Path) -> None:
    code = "with replacing(sys.argv[1]) as f:\n f.write(b'half'); f.flush(); print('there', flush=True); input()"
    writers = [subprocess.Popen([sys.executable, "-c", f"import sys\nfrom v2l.system.files import replacing\n{code}",
                                 str(tmp_path / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": ROOT}) for name in ("dead", "alive")]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "there\n"
    writers[0].kill()
    writers[0].wait()
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(tmp_path / "next") as file:
        file.write(b"whole")
    assert len(list(tmp_path.iterdir())) == 2  # what is alive, and this
    writers[1].communicate("\n", timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {"alive", "next"}


def test_a_file_swept_before_it_was_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making it and locking it another process may take it for left over."""
    lock, swept = files.fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole" and len(swept) == 1 == len(list(tmp_path.iterdir()))


# The same bytes.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_do_not_depend_on_the_threads(tmp_path: Path, dtype: str) -> None:
    engine, sampling = Engine("tiny", device="cpu", dtype=dtype), Sampling(frames=4, resolution=64)
    video, before = EXAMPLES / "two-shapes.mp4", torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ingest_segments(engine, video, sampling, SegmentSpec(4.0), tmp_path / f"{threads}.v2lora")
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "1.v2lora").read_bytes() == (tmp_path / "2.v2lora").read_bytes()


def test_a_compressed_file_has_the_same_bytes_from_any_number_of_threads(tmp_path: Path) -> None:
    names = [tmp_path / f"{number}.v2lora" for number in range(3)]
    for number, name in enumerate(names):
        save(make(number, "float16", 10.0 * number, 10.0 * number + 10), name)
    made = set()
    for threads in "12":
        output = tmp_path / f"joined-{threads}.v2lora"
        subprocess.run(command("compose", *names, "--max-rank", 7, "-o", output), check=True, timeout=100,
                       env=environment(OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads), capture_output=True)
        made.add(output.read_bytes())
    assert len(made) == 1


def test_a_video_of_the_suite_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    clip = scene("gray", solo("red", "ring", "moves down", 2), solo("blue", "star", "grows", 2))
    made = set()
    for number in range(6):
        write_video(clip, tmp_path / "a.mp4", preset="veryfast")
        made.add((tmp_path / "a.mp4").read_bytes())
        (tmp_path / str(number)).write_bytes(os.urandom(number))
    assert len(made) == 1
