"""`v2l ingest`: what it computes agrees with the released code; what it writes, where, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.cli import MAKE, REFERENCE, command, documents, environment, heed_interrupts, refused, run

GOLDEN = json.loads((REFERENCE / "golden.json").read_text())
VIDEOS = REFERENCE / "videos"
TOKENS = {case["video"]: len(case["context_input_ids"]) for case in GOLDEN["cases"][:2]}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load_file(REFERENCE / "golden.safetensors")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with one short video."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(VIDEOS / "short.mp4", tmp_path / "short.mp4")
    return tmp_path


def left() -> list[str]:
    """The names in the current folder, but notes of what failed."""
    return sorted(name for name in os.listdir() if not name.endswith(".failed"))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["tag"])
def test_the_file_agrees_with_the_released_code(case: dict, golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    run("ingest", VIDEOS / case["video"], "-o", tmp_path / "a.v2lora", *MAKE, "--frames", case["max_frames"],
        "--resolution", case["longest_edge"])
    found = load_file(tmp_path / "a.v2lora")
    for name, expected in (("A", golden[f"{case['tag']}/A"]), ("B", golden[f"{case['tag']}/B"]),
                           ("bias_A", golden["bias/A"]), ("bias_B", golden["bias/B"])):
        tensor = found[f"down_proj.{name}"]
        assert tensor.shape == expected.shape
        assert np.linalg.norm(tensor - expected) <= 1e-4 * np.linalg.norm(expected)


def test_the_adapter_lands_next_to_its_video_and_its_path_is_printed(here: Path) -> None:
    result = run("ingest", "short.mp4", *MAKE)
    assert result.stdout == "short.v2lora\n"
    assert result.stderr.startswith(f"short.mp4: 3 frames, {TOKENS['short.mp4']} tokens, ")
    assert sorted(os.listdir()) == ["short.mp4", "short.v2lora"]


def test_json_and_quiet(here: Path) -> None:
    result = run("ingest", "short.mp4", "--json", "--quiet", *MAKE)
    (made,) = documents(result)
    assert made.pop("seconds") > 0
    assert made == {"output": "short.v2lora", "source": "short.mp4", "frames": 3, "tokens": TOKENS["short.mp4"],
                    "size": Path("short.v2lora").stat().st_size, "skipped": False}
    assert result.stderr == ""


def test_what_is_up_to_date_is_kept_and_still_printed(here: Path) -> None:
    run("ingest", "short.mp4", *MAKE)
    made = Path("short.v2lora")
    content = made.read_bytes()
    os.utime(made, (1, 1))
    result = run("ingest", "short.mp4", *MAKE)
    assert (result.stdout, result.stderr) == ("short.v2lora\n", "short.v2lora is up to date.\n")
    assert documents(run("ingest", "short.mp4", "--json", *MAKE))[0]["skipped"] is True
    assert made.stat().st_mtime == 1
    run("ingest", "short.mp4", "--force", *MAKE)
    assert made.stat().st_mtime > 1 and made.read_bytes() == content


@pytest.mark.parametrize("change", [("--frames", 2), ("--fps", 2), ("--resolution", 96), ("--start", 1), ("--end", 2),
                                    ("--adapter-dtype", "float16"), ("--dtype", "bfloat16")], ids=lambda c: c[0])
def test_what_was_made_otherwise_is_replaced_by_force_alone(here: Path, change: tuple[str, object]) -> None:
    run("ingest", "short.mp4", *MAKE)
    before = Path("short.v2lora").read_bytes()
    error = refused("ingest", "short.mp4", *MAKE, *change)
    assert error.startswith("short.v2lora ") and "replace it with --force" in error
    assert Path("short.v2lora").read_bytes() == before
    assert documents(run("ingest", "short.mp4", "--json", "--force", *MAKE, *change))[0]["skipped"] is False


def test_another_video_or_a_damaged_output_makes_it_again(here: Path) -> None:
    run("ingest", "short.mp4", *MAKE)
    shutil.copy(VIDEOS / "clip.mp4", "short.mp4")
    assert documents(run("ingest", "short.mp4", "--json", *MAKE))[0] | {"seconds": 0} == {
        "output": "short.v2lora", "source": "short.mp4", "frames": 8, "tokens": TOKENS["clip.mp4"], "seconds": 0,
        "size": Path("short.v2lora").stat().st_size, "skipped": False}
    Path("short.v2lora").write_bytes(b"damaged")
    assert documents(run("ingest", "short.mp4", "--json", *MAKE))[0]["skipped"] is False


def test_a_composed_adapter_is_not_replaced_unasked(here: Path) -> None:
    shutil.copy(VIDEOS / "clip.mp4", "clip.mp4")
    run("ingest", "short.mp4", "clip.mp4", *MAKE)
    run("compose", "short.v2lora", "clip.v2lora", "-o", "both.v2lora")
    os.replace("both.v2lora", "short.v2lora")
    before = Path("short.v2lora").read_bytes()
    assert "holds 2 segments that were joined, and its video has changed since" in refused(
        "ingest", "short.mp4", *MAKE)
    assert Path("short.v2lora").read_bytes() == before
    assert run("ingest", "short.mp4", "--force", *MAKE).stdout == "short.v2lora\n"


@pytest.mark.parametrize(("start", "end", "seconds"), [("3", "6", (3, 6)), ("0:03", "0:06.5", (3, 6.5)),
                                                       ("0:00:01.5", "99:00", (1.5, 8))])
def test_a_part_of_a_video(here: Path, start: str, end: str, seconds: tuple[float, float]) -> None:
    run("ingest", VIDEOS / "clip.mp4", "-o", "part.v2lora", "--start", start, "--end", end, *MAKE)
    (segment,) = documents(run("info", "part.v2lora", "--json"))[0]["segments"]
    assert (segment["start"], segment["end"]) == seconds
    assert all(seconds[0] <= at < seconds[1] for at in segment["timestamps"])


def test_folders_and_names_from_stdin(here: Path) -> None:
    Path("talks/deep").mkdir(parents=True)
    shutil.move("short.mp4", "talks/deep/a.b.mp4")
    shutil.copy(VIDEOS / "short.mp4", "talks/other.MOV")
    Path("talks/notes.txt").write_text("no video")
    result = run("ingest", "talks", "--output-dir", "out/adapters", *MAKE)
    assert result.stdout.splitlines() == ["out/adapters/deep/a.b.v2lora", "out/adapters/other.v2lora"]
    again = run("ingest", "-", "talks", *MAKE, stdin="talks/other.MOV\n\ntalks/deep/a.b.mp4\n")
    assert again.stdout.splitlines() == ["talks/other.v2lora", "talks/deep/a.b.v2lora"]


def test_names_of_any_kind(here: Path) -> None:
    for name in ("-clip.mp4", "a b\nc.mp4", "große Köpfe 🎬.mp4", "\x1b[31mred.mp4"):
        shutil.copy("short.mp4", name)
        result = run("ingest", *MAKE, "--", name)
        assert result.stdout == name.replace(".mp4", ".v2lora") + "\n"
        assert "\x1b" not in result.stderr
        assert Path(name).with_suffix(".v2lora").exists()


def test_one_bad_file_does_not_stop_the_others(here: Path) -> None:
    Path("bad.mp4").write_text("no video")
    result = run("ingest", "bad.mp4", "nope.mp4", "short.mp4", *MAKE, status=1)
    assert result.stdout == "short.v2lora\n"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2 and "bad.mp4" in errors[0] and "nope.mp4" in errors[1]
    assert sorted(os.listdir()) == [".bad.v2lora.failed", "bad.mp4", "short.mp4", "short.v2lora"]


def silence(path: str) -> None:
    """A second of audio and nothing else."""
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le" if path.endswith(".wav") else "aac", rate=8000, layout="mono")
        for start in range(0, 8000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def no_frames(path: str) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        container.start_encoding()


WRONG = {
    "no such file": ("nope.mp4", lambda path: None),
    "an address": ("https://host/a.mp4", lambda path: None),
    "a name too long": ("n" * 300 + ".mp4", lambda path: None),
    "not a video": ("notes.txt", lambda path: Path(path).write_text("Buy milk.\n" * 100)),
    "empty": ("empty.mp4", lambda path: Path(path).touch()),
    "no video stream": ("sound.mp4", silence),
    "an audio file": ("sound.wav", silence),
    "no frames": ("none.avi", no_frames),
    "truncated": ("cut.mp4", lambda path: Path(path).write_bytes((VIDEOS / "clip.mp4").read_bytes()[:40000])),
    "a folder without videos": ("folder", os.mkdir),
    "an adapter": ("x.v2lora", lambda path: Path(path).write_text("{}")),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_one_sentence(here: Path, kind: str) -> None:
    name, make = WRONG[kind]
    make(name)
    before = left()
    said = refused("ingest", name, *MAKE)
    assert name in said and ("download the video first" in said) is (kind == "an address")
    assert left() == before


@pytest.mark.parametrize(("words", "status", "said"), [
    (("-o", "missing/a.v2lora"), 1, "the folder missing does not exist"),
    (("-o", "folder.v2lora"), 2, "folder.v2lora is a folder; to put adapters there, write --output-dir folder.v2lora."),
    (("-o", "short.mp4/a.v2lora"), 1, "short.mp4 is not a folder"),
    (("--output-dir", "short.mp4"), 1, "short.mp4 is not a folder"),
    (("-o", "/dev/full/a.v2lora"), 1, "/dev/full is not a folder"),
    (("-o", "a.mp4"), 2, "does not end in .v2lora"),
    (("-o", "a.v2lora", "--output-dir", "."), 2, "exclude each other"),
    (("--start", "2", "--end", "1"), 2, "--end must come after --start"),
    (("--start", "4:00"), 1, "nothing of it starts at 4:00"),
])
def test_a_place_or_a_call_that_is_wrong(here: Path, words: tuple[str, ...], status: int, said: str) -> None:
    Path("folder.v2lora").mkdir()
    assert said in refused("ingest", "short.mp4", *words, *MAKE, status=status)
    assert left() == ["folder.v2lora", "short.mp4"]


def test_a_protected_output_stays(here: Path) -> None:
    Path("pipe.v2lora").symlink_to("/dev/null")
    assert "permission denied" in refused("ingest", "short.mp4", "-o", "pipe.v2lora", *MAKE)
    assert Path("/dev/null").is_char_device()


def test_two_videos_do_not_become_one_file(here: Path) -> None:
    shutil.copy("short.mp4", "short.mkv")
    made = run("ingest", ".", *MAKE).stdout.splitlines()
    assert made == ["short.mkv.v2lora", "short.mp4.v2lora"]
    assert run("ingest", "short.mp4", *MAKE).stderr == "short.mp4.v2lora is up to date.\n"  # named alone, too
    assert "there are 2 videos" in refused("ingest", "short.mp4", "short.mkv", "-o", "a.v2lora", *MAKE, status=2)
    assert run("ingest", "short.mp4", "./short.mp4", *MAKE).stdout == "short.mp4.v2lora\n"


def test_an_adapter_keeps_its_name_when_a_video_with_another_ending_comes(here: Path) -> None:
    run("ingest", "short.mp4", *MAKE)
    shutil.copy(VIDEOS / "clip.mp4", "short.mkv")
    for _ in range(2):
        assert run("ingest", ".", *MAKE).stdout.splitlines() == ["short.mkv.v2lora", "short.v2lora"]
    assert run("ingest", "short.mkv", *MAKE).stdout == "short.mkv.v2lora\n"


def test_videos_that_would_become_one_file_fail_alone_with_a_way_out(here: Path) -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        shutil.copy("short.mp4", f"{folder}/a b.mp4")
        os.utime(f"{folder}/a b.mp4", (1, 1))
    Path("y/a b.mp4").write_bytes(Path("y/a b.mp4").read_bytes() + b"\0")
    shown = run("ingest", "x/a b.mp4", "y/a b.mp4", "short.mp4", "--output-dir", "out", *MAKE, status=1)
    assert shown.stdout == "out/short.v2lora\n"
    assert ("Error: x/a b.mp4 and y/a b.mp4 would both become out/a b.v2lora; ingest it by itself: "
            "v2l ingest 'x/a b.mp4' -o 'x/a b.mp4-2.v2lora'.\n") in shown.stderr


def test_only_a_known_ending_is_taken_off_a_name(here: Path) -> None:
    for name in ("talk 1.5", "talk 1.6", "talk 1.6.MP4"):
        shutil.copy("short.mp4", name)
    assert run("ingest", "talk 1.5", "talk 1.6.MP4", *MAKE).stdout == "talk 1.5.v2lora\ntalk 1.6.v2lora\n"
    assert "would both become" in run("ingest", "talk 1.6", "talk 1.6.MP4", *MAKE, status=1).stderr


def test_a_name_as_long_as_a_name_can_be(here: Path) -> None:
    """Locks, work folders and folders of segments have names that begin with it."""
    for name in ("ü" * 123 + "a", "x" * 247, "x" * 200 + "." + "y" * 46):
        os.mkdir("clips")
        shutil.copy("short.mp4", f"clips/{name}.mp4")
        result = run("ingest", f"clips/{name}.mp4", *MAKE, "--segment", "1s", "--keep-segments")
        assert result.stdout == f"clips/{name}.v2lora\n"
        folder, = (path for path in Path("clips").iterdir() if path.is_dir())
        assert folder.name.startswith(name[:50]) and folder.name.endswith(".segments-1s")
        assert len(os.listdir("clips")) == 3 and all(path.suffix == ".v2lora" for path in folder.iterdir())
        shutil.rmtree("clips")


def test_the_way_out_of_a_name_that_is_too_long_can_be_typed(here: Path) -> None:
    """Not after the work, where the folder is still to be made, and of a clash of names that fit just so."""
    for folder in ("x", "y"):
        os.mkdir(folder)
        shutil.copy("short.mp4", f"{folder}/{'ü' * 123}a.mp4")
    shutil.copy("short.mp4", "n" * 251 + ".mp4")
    Path(f"y/{'ü' * 123}a.mp4").write_bytes(Path("short.mp4").read_bytes() + b"\0")
    shown = run("ingest", "n" * 251 + ".mp4", "x", "y", "--output-dir", "out", *MAKE, status=1)
    ways_out = re.findall(r"ingest it by itself: v2l (.*)\.$", shown.stderr, re.MULTILINE)
    assert len(ways_out) == 3 and shown.stderr.count("has a name that is too long for that disk; ") == 1
    for way_out in ways_out[:2]:
        words = shlex.split(way_out)
        assert run(*words, *MAKE).stdout == words[-1] + "\n" and len(os.fsencode(Path(words[-1]).name)) <= 255


@pytest.mark.parametrize("words", [
    ("--frames", "0"), ("--frames", "x"), ("--fps", "0"), ("--fps", "nan"), ("--fps", "inf"), ("--resolution", "-1"),
    ("--start", "1:60"), ("--start", "-5"), ("--end", "1:2:3:4"), ("--end", "1:61:00"), ("--dtype", "int8"),
    ("--adapter-dtype", "x"), ("--device", "abacus"), ("--bogus",)], ids=" ".join)
def test_wrong_options_are_wrong_usage(here: Path, words: tuple[str, ...]) -> None:
    result = run("ingest", "short.mp4", *words, status=2)
    assert result.stdout == "" and words[0] in result.stderr
    assert os.listdir() == ["short.mp4"]


@pytest.mark.parametrize(("words", "status", "said"), [
    (("--model", "nowhere"), 2, "There is no model nowhere: it is none of tiny, 500m, 2.2b, no folder, and no Hub id"),
    (("--model", "."), 1, ""), (("--checkpoint", "nope.pt"), 1, "There is no file nope.pt; --checkpoint takes"),
], ids=str)
def test_a_model_that_is_not_there_is_told_once(here: Path, words: tuple[str, ...], status: int, said: str) -> None:
    shutil.copy("short.mp4", "other.mp4")
    assert refused("ingest", "short.mp4", "other.mp4", *MAKE, *words, status=status).startswith(said)
    assert sorted(os.listdir()) == ["other.mp4", "short.mp4"]


def test_interrupting_leaves_nothing(here: Path) -> None:
    """Ctrl-C while frames are looked at."""
    shutil.copy(VIDEOS / "long.mp4", "long.mp4")
    words = ("ingest", "short.mp4", "long.mp4", "--quiet", *MAKE, "--frames", 900, "--fps", 10)
    with subprocess.Popen(command(*words, "--resolution", 160), env=environment(), cwd=here, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        assert process.stdout is not None and process.stdout.readline() == "short.v2lora\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stdout, stderr) == (130, "", "Interrupted.\n")
    assert sorted(os.listdir()) == ["long.mp4", "short.mp4", "short.v2lora"]
