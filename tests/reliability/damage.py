"""What becomes of damaged videos: `python tests/reliability/damage.py [--cuts 100] [--flips 200] [--seed 1] [NAME...]`.

Each file is cut off at so many points, and has one bit flipped at so many; a process with a bound on memory and time
looks at what is left as `v2l ingest` does. Printed of each format: how many were refused, how many taken with a
warning, and how many showed a wrong picture without a word. Exit status 1 for a crash, a hang, an error that is no
sentence, or a cut that shows wrong pictures without a word.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from reliability.corpus import Entry, make
from v2l.config import Sampling
from v2l.errors import V2LError
from v2l.video.clip import open_clip

SAMPLING = Sampling(frames=12, fps=5, skip=0)
MEMORY = 4 << 30
"""Bytes of address space a video may take; the process itself takes half a gigabyte of them."""
SECONDS = 20.0
WRONG = 2.0
"""Mean difference from the undamaged picture, of 255, from which on one can see that it is another."""

_H264 = {"g": "30", "bf": "2", "preset": "veryfast"}
_WHOLE: dict[str, Any] = {"frames": 60, "size": (192, 128)}
SOURCES = {entry.name: entry for entry in (
    Entry("h264.mp4", options=_H264, **_WHOLE),
    Entry("index-first.mp4", options=_H264, container={"movflags": "faststart"}, **_WHOLE),
    Entry("fragments.mp4", options=_H264, container={"movflags": "frag_keyframe+empty_moov"}, **_WHOLE),
    Entry("h264.mkv", options=_H264, **_WHOLE),
    Entry("h264.ts", options=_H264, **_WHOLE),
    # Long enough for jumps.
    *(Entry(f"long.{end}", options={"g": "12", "preset": "ultrafast"}, frames=800, size=(96, 64))
      for end in ("mp4", "mkv")),
    Entry("h264.flv", options=_H264, **_WHOLE),
    Entry("hevc.mp4", "libx265", options={
        "preset": "ultrafast", "x265-params": "keyint=30:bframes=2:log-level=none:pools=none:frame-threads=1"},
        **_WHOLE),
    Entry("vp9.webm", "libvpx-vp9", options={"g": "30", "deadline": "realtime", "cpu-used": "8", "threads": "1"},
          **_WHOLE),
    Entry("vp8.webm", "libvpx", options={"g": "30", "deadline": "realtime", "cpu-used": "8", "threads": "1"}, **_WHOLE),
    Entry("av1.mp4", "libsvtav1", options={"preset": "12", "crf": "30", "g": "30", "svtav1-params": "lp=1"}, **_WHOLE),
    Entry("mpeg4.avi", "mpeg4", options={"b": "1M", "bf": "2"}, **_WHOLE),
    Entry("mpeg2.mpg", "mpeg2video", options={"b": "1M"}, **_WHOLE),
    Entry("mjpeg.mov", "mjpeg", "yuvj420p", **_WHOLE),
    Entry("moving.gif", "gif", "rgb8", rate=10, **_WHOLE),
)}
SILENT = ("hevc.mp4", "vp8.webm", "mjpeg.mov", "moving.gif")
"""Those whose decoders notice next to nothing; the others' notice nearly every damage of a picture."""
OPEN_ENDED = ("h264.ts", "mpeg2.mpg", "fragments.mp4")
"""Those that may end anywhere: what is left of them is a shorter video."""


# -- in a process of its own -----------------------------------------------------------------------------------------


def _pictures(path: Path, sampling: Sampling) -> tuple[dict[int, np.ndarray], list[str]]:
    """({hundredth of a second: picture}, warnings)."""
    clip = open_clip(path, sampling)
    return {round(100 * frame.time): frame.image for frame in clip.frames()}, clip.warnings


def _look(path: Path, whole: dict[int, np.ndarray]) -> dict[str, Any]:
    try:
        found, warnings = _pictures(path, SAMPLING)
    except V2LError as error:
        return {"outcome": "refused", "words": str(error)}
    wrong = sum(_differs(image, whole.get(time)) for time, image in found.items()) if whole else 0
    return {"outcome": "warned" if warnings else "wrong" if wrong else "taken", "words": " ".join(warnings),
            "wrong": wrong, "pictures": len(found)}


def _differs(image: np.ndarray, other: np.ndarray | None) -> bool:
    return (other is None or image.shape != other.shape
            or float(np.abs(image.astype(int) - other).mean()) > WRONG)


def _serve(source: str) -> None:
    """Paths from stdin, what became of each to stdout."""
    import cv2  # noqa: F401 - before the bound on memory, of which its threads' stacks take some

    whole = _pictures(Path(source), Sampling(frames=100_000, fps=1000, skip=0))[0] if source else {}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            found = _look(Path(json.loads(line)), whole)
        except BaseException as error:
            found = {"outcome": "raised", "words": repr(error)}
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        print(json.dumps(found), flush=True)


class Watcher:
    """A process that looks at videos; one that dies or hangs of one is replaced. `source` is the undamaged file."""

    def __init__(self, source: Path | str = "") -> None:
        self.source = str(source)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, __file__, "--serve", self.source], env=env, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    def look(self, path: Path) -> dict[str, Any]:
        """`outcome`: refused, warned, taken (all right), wrong (without a word), raised, crashed or hung; `words`."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(str(path)) + "\n")
        process.stdin.flush()
        there = select.select([process.stdout], [], [], SECONDS)[0]
        line = process.stdout.readline() if there else ""
        if line:
            return dict(json.loads(line))
        self.close()
        status = process.returncode
        self.process = self._start()
        return {"outcome": "crashed" if there else "hung", "words": f"{path} ended it with {status}"}

    def close(self) -> str:
        """What it wrote to stderr, which should be nothing."""
        self.process.kill()
        return self.process.communicate()[1]


# -- damage ----------------------------------------------------------------------------------------------------------


def cuts(content: bytes, count: int) -> Iterator[tuple[int, bytes]]:
    """(where, what is left), evenly spread."""
    for place in range(1, count + 1):
        at = len(content) * place // (count + 1)
        yield at, content[:at]


def flips(content: bytes, count: int, seed: int) -> Iterator[tuple[int, bytes]]:
    """(where, the content with a bit flipped there)."""
    chance = random.Random(seed)
    for _ in range(count):
        at, changed = chance.randrange(len(content)), bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        yield at, bytes(changed)


def examine(folder: Path, name: str, cut: int, flip: int, seed: int = 1) -> tuple[dict[str, Counter[str]], list[str]]:
    """({kind of damage: how often each outcome}, what must not be)."""
    source = make(folder, SOURCES[name])
    content, path = source.read_bytes(), folder / f"damaged {name}"
    watcher, counts, findings = Watcher(source), {"cut": Counter[str](), "flip": Counter[str]()}, []
    for kind, damaged in (("cut", cuts(content, cut)), ("flip", flips(content, flip, seed))):
        for at, left in damaged:
            path.write_bytes(left)
            found = watcher.look(path)
            outcome = found["outcome"]
            counts[kind][outcome] += 1
            counts[kind]["warned, wrong"] += outcome == "warned" and found["wrong"] > 0
            if outcome in ("raised", "crashed", "hung") or (outcome == "wrong" and kind == "cut"):
                findings.append(f"{name}, {kind} at {at}: {outcome}, {found['words']}")
            if outcome == "taken" and kind == "cut" and name not in OPEN_ENDED and at < 0.9 * len(content):
                findings.append(f"{name}, cut at {at}: taken without a word")
    said = watcher.close()
    path.unlink()
    return counts, findings + ([f"{name}: stderr says {said!r}"] if said else [])


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SOURCES)}")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or SOURCES:
            counts, findings = examine(Path(folder), name, given.cuts, given.flips, given.seed)
            bad += findings
            for kind, count in counts.items():
                print(f"{name}, {kind}: {', '.join(f'{n} {how}' for how, n in sorted(count.items()))}", flush=True)
    for finding in bad:
        print(finding)
    print(f"{len(bad)} findings")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
