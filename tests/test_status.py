"""`v2l status`, and `--shard`: the part of many videos that one machine does, and what is left to be done."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.adapters import make
from support.cli import documents, environment, refused, run

from v2l.adapter import save
from v2l.cli.shards import Shard, array_lines, parse_shard, shard_of
from v2l.errors import UsageError, VideoError
from v2l.many.failures import failure_file, note_failure
from v2l.many.jobs import Job

# Shards.


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SKYPILOT_")) or name in (
            "RANK", "WORLD_SIZE")]:
        monkeypatch.delenv(name)


def test_shards_are_disjoint_whole_and_even() -> None:
    keys = [f"talks/{i:04d}.mp4" for i in range(2000)]
    for count in (1, 2, 7, 16):
        parts = [[key for key in keys if Shard(i, count).holds(key)] for i in range(1, count + 1)]
        assert sorted(key for part in parts for key in part) == keys
        assert max(map(len, parts)) < 1.35 * len(keys) / count
    assert [Shard(1, 2).holds(key) for key in ("a.mp4", "c.mp4", "ü.mp4", "u\u0308.mp4", "\udcff.mp4")] == [
        True, False, True, True, True]  # whatever the version of v2l or Python


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "a/b", "1/2/3", "-1/2", "١/٢", "", "auto/", "auto+1",
                                  "1+2/4"])
def test_wrong_shards(text: str) -> None:
    with pytest.raises(UsageError, match="is not I/N with I from 1 to N"):
        parse_shard(text)


SLURM = {"TASK_ID": "9", "TASK_MIN": "5", "TASK_MAX": "11", "TASK_COUNT": "4", "TASK_STEP": "2"}


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, "3/4"), ({"TASK_ID": "5"}, "1/4"), ({"TASK_MAX": "12"}, "3/4"), ({"TASK_ID": None}, "no SLURM_ARRAY_TASK_ID"),
    ({"TASK_STEP": None, "TASK_COUNT": "7"}, "5/7"), ({"TASK_COUNT": "x"}, "SLURM_ARRAY_TASK_COUNT is 'x'"),
    ({"TASK_ID": "8"}, "regular"), ({"TASK_ID": "13"}, "regular"), ({"TASK_COUNT": "3"}, "regular"),
    ({"TASK_STEP": "0"}, "regular")], ids=str)
def test_slurm(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], expected: str) -> None:
    for name, value in (SLURM | changes).items():
        if value is not None:
            monkeypatch.setenv(f"SLURM_ARRAY_{name}", value)
    if "/" in expected:
        assert str(parse_shard("auto")) == expected
    else:
        with pytest.raises(UsageError, match=expected):
            parse_shard("auto")


ARRAY = {f"SLURM_ARRAY_{name}": value for name, value in SLURM.items()}  # part 3/4, task 9
SKY = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "4"}
TORCH = {"RANK": "1", "WORLD_SIZE": "4"}
ALONE = {"RANK": "0", "WORLD_SIZE": "1"}


@pytest.mark.parametrize(("variables", "text", "expected"), [
    (SKY, "auto", "2/4"), (TORCH, "auto", "2/4"), ({**SKY, **TORCH}, "auto", "2/4"), (ALONE, "auto", "1/1"),
    ({**ARRAY, **ALONE}, "auto", "3/4"), (ARRAY, "auto/16", "10/16"), (ARRAY, "auto+6/16", "16/16"),
    ({"RANK": "7"}, "auto+1000/4000", "1008/4000"), (SKY, "auto/8", "2/8"),
    ({**ARRAY, **SKY}, "auto", "could be 3/4 by the SLURM job array and 2/4 by SKYPILOT_NODE_RANK .SkyPilot.; write"),
    ({**SKY, "RANK": "9", "WORLD_SIZE": "16"}, "auto", "2/4 by SKYPILOT_NODE_RANK .* and 10/16 by RANK .torchrun."),
    ({**SKY, "RANK": "9"}, "auto/16", "could be 2/16 .* and 10/16"),
    ({"RANK": "1"}, "auto", "there is RANK and no WORLD_SIZE"), ({"WORLD_SIZE": "2"}, "auto", "no RANK"),
    ({"RANK": "-1", "WORLD_SIZE": "2"}, "auto", "RANK is '-1'"), ({"RANK": "2", "WORLD_SIZE": "2"}, "auto", "no such"),
    (ARRAY, "auto/9", "gives part 10, and the first task is number 0"),
    ({}, "auto", "no SLURM_ARRAY_TASK_ID, SKYPILOT"),
    ({}, "auto/4", "there is no SLURM_ARRAY_TASK_ID"),
], ids=str)
def test_what_launchers_say(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], text: str, expected: str
                            ) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if expected[0].isdigit() and " " not in expected:
        assert str(parse_shard(text)) == expected
    else:
        with pytest.raises(UsageError, match=expected):
            parse_shard(text)


@pytest.mark.parametrize("count", [7, 2500])
def test_what_is_to_be_submitted_again_falls_to_the_same_parts(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The options that are printed, read back as SLURM and `--shard` read them."""
    wanted = [Shard(index, count) for index in range(1, count + 1) if index % 3 != 1 or index > count - 2]
    got = []
    for line in array_lines(reversed(wanted)):
        array, word, shard = line.split()
        assert word == "--shard"
        for span in array.removeprefix("--array=").split(","):
            first, _, last = span.partition("-")
            for task in range(int(first), int(last or first) + 1):
                assert task < 1000
                monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
                got.append(parse_shard(shard))
    assert got == wanted


# Status.


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos: one done, one that failed, one changed, one with another's adapter, one that was not watched
    yet; and one whose adapter is damaged."""
    monkeypatch.chdir(tmp_path)
    Path("talks/deep").mkdir(parents=True)
    for seed, name in enumerate(("done", "failed", "changed", "other", "new", "deep/damaged")):
        video = Path("talks", f"{name}.mp4")
        video.write_bytes(name.encode() * 9)
        adapter = video.with_suffix(".v2lora")
        content = video.read_bytes()
        facts = {"name": video.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if name not in ("failed", "new"):
            save(make(seed, source={**make().sources[0], **facts}), adapter)
    Path("talks/changed.mp4").write_bytes(b"longer than before" * 9)
    Path("talks/other.mp4").rename("talks/other.mkv")
    Path("talks/deep/damaged.v2lora").write_bytes(b"{")
    note_failure(Job(Path("talks/failed.mp4"), Path("talks/failed.v2lora")), VideoError("talks/failed.mp4 is odd."))
    return tmp_path


STATES = {"talks/changed.mp4": "stale", "talks/deep/damaged.mp4": "stale", "talks/done.mp4": "done",
          "talks/failed.mp4": "failed", "talks/new.mp4": "missing", "talks/other.mkv": "stale"}


def test_each_video_has_a_state_and_a_reason(talks: Path) -> None:
    *videos, counts = documents(run("status", "talks", "--json", status=1))
    assert {video["source"]: video["state"] for video in videos} == STATES
    assert {video["source"]: video["reason"].partition(" ")[0] for video in videos if "reason" in video} == {
        "talks/changed.mp4": "talks/changed.mp4", "talks/deep/damaged.mp4": "talks/deep/damaged.v2lora",
        "talks/failed.mp4": "talks/failed.mp4", "talks/other.mkv": "talks/other.v2lora"}
    assert all(video["output"] == str(Path(video["source"]).with_suffix(".v2lora")) for video in videos)
    assert counts == {"counts": {"done": 1, "failed": 1, "stale": 3, "missing": 1}}


def test_the_states_are_told_in_lines(talks: Path) -> None:
    result = run("status", "talks", status=1)
    lines = result.stdout.splitlines()
    assert lines[:2] == ["1 done, 1 failed, 3 stale, 1 missing", "failed: talks/failed.mp4 is odd."]
    assert lines[2] == "stale: talks/changed.mp4 has changed since it was watched." and result.stderr == ""
    assert "stale: talks/other.mkv: talks/other.v2lora was made of other.mp4." in lines and len(lines) == 5
    Path("talks/changed.mp4").unlink()
    assert run("status", "talks/done.mp4").stdout == "1 done, 0 failed, 0 stale, 0 missing\n"
    assert documents(run("status", "talks", "--json", "--output-dir", "elsewhere", status=1))[-1]["counts"] == {
        "done": 0, "failed": 0, "stale": 0, "missing": 5}
    assert sorted(os.listdir()) == ["talks"]  # nothing was written, not even for a trial


def test_a_part_has_its_line_and_what_to_submit(talks: Path) -> None:
    *videos, counts = documents(run("status", "talks", "--shards", 3, "--json", status=1))
    for video in videos:
        key = os.path.relpath(video["source"], "talks")
        assert video["shard"] == str(shard_of(key, 3))
        assert counts["shards"][video["shard"]][video["state"]] >= 1
    assert sum(sum(part.values()) for part in counts["shards"].values()) == len(videos) == 6
    lines = run("status", "talks", "--shards", 3, status=1).stdout.splitlines()
    assert lines[0].split() == ["part", "done", "failed", "stale", "missing"]
    assert [line.split()[0] for line in lines[1:4]] == ["1/3", "2/3", "3/3"] and lines[-1] == counts["arrays"][0]


def test_the_files_to_run_again_are_listed_for_ingest(talks: Path) -> None:
    undone = [name for name, state in STATES.items() if state != "done"]
    assert run("status", "talks", "--files", status=1).stdout.splitlines() == undone
    assert run("status", "talks", "-0", status=1).stdout == "".join(f"{name}\0" for name in undone)
    again = documents(run("status", "-", "--json", stdin="\0".join(undone) + "\0", status=1))
    assert [video["source"] for video in again[:-1]] == undone
    assert "exclude each other" in refused("status", "talks", "--files", "--json", status=2)


def test_what_cannot_be_planned_has_failed(talks: Path) -> None:
    Path("a.mp4").touch()
    Path("b").mkdir()
    Path("b/a.mp4").touch()
    *videos, counts = documents(run("status", "a.mp4", "b/a.mp4", "--output-dir", "out", "--json", status=1))
    assert counts["counts"]["failed"] == 2 and all("would both become" in video["reason"] for video in videos)


def test_no_listing_shows_the_note_of_a_failure(talks: Path) -> None:
    assert failure_file(Path("talks/failed.v2lora")).is_file()
    for words in (("ls", "talks"), ("status", "talks")):
        result = run(*words, status=1)
        assert ".failed" not in result.stdout + result.stderr


@pytest.fixture(scope="module")
def imported() -> Iterator[str]:
    code = "import sys; sys.argv = ['v2l', 'status', '.']; from v2l.__main__ import main\ntry: main()\n" \
           "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    yield subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True,
                         cwd=Path(__file__).parent / "reference").stdout


def test_no_model_is_loaded(imported: str) -> None:
    assert "missing" in imported and not {"torch", "transformers", "numpy", "av", "cv2"} & set(imported.split())
