"""How `v2l watch` lasts: `python tests/measure/soak.py [--minutes N] [--segment S] [--keep S] [--every S]`.

A camera on the loopback (RTSP) sends an example film in a loop; now and then it freezes, or is killed and comes back.
`v2l watch` remembers the last minutes of it and asks a standing question; after each segment the file is read, as
whoever asks does. Measured are memory, open files and threads of the process that watches and of the one that decodes,
and whether every second is in a segment that was written or in a gap that was recorded. Prints Markdown; the exit
status is 1 where a second was lost, the file could not be read, or memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread
from typing import Any

import av

sys.path.append(str(Path(__file__).parents[1]))

from support.senders import Camera

from v2l.adapter import load
from v2l.errors import V2LError

EXAMPLE = Path(__file__).parents[2] / "examples/long.mp4"
FROZEN_S, AWAY_S = 14.0, 8.0
"""Seconds for which the camera freezes, which is longer than the limit of 10, and for which it is away."""
EVERY_S = 0.5
"""Seconds between two samples."""
GROWTH = 0.03
"""Part by which median memory may be more in the last quarter than in the second: what is kept takes its time."""
ALIGNED_S = 0.15
"""Seconds by which segments that follow each other may miss each other."""


@dataclass
class Usage:
    """What a process used, sample by sample."""

    rss: list[float] = field(default_factory=list)
    """MB."""
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, pid: int) -> None:
        """Takes a sample, if the process is there."""
        try:
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            rss, files, threads = int(lines["VmRSS"].split()[0]), os.listdir(f"/proc/{pid}/fd"), int(lines["Threads"])
        except (OSError, KeyError, ValueError):  # it has just ended
            return
        self.rss.append(rss / 1024)
        self.files.append(len(files))
        self.threads.append(threads)

    def quarters(self) -> list[float]:
        """Median memory of each quarter, MB."""
        size = max(1, len(self.rss) // 4)
        return [statistics.median(self.rss[i * size :][:size] or [0.0]) for i in range(4)]

    def row(self, name: str) -> str:
        memory = " | ".join(f"{value:.0f}" for value in self.quarters())
        return (f"| {name} | {memory} | {max(self.rss, default=0):.0f} | {min(self.files, default=0)} to "
                f"{max(self.files, default=0)} | {min(self.threads, default=0)} to {max(self.threads, default=0)} |")


def access_units(path: Path) -> tuple[list[bytes], int]:
    """The film as a camera sends it, H.264 with a key frame a second, and its rate."""
    with av.open(str(path)) as film:
        rate = round(film.streams.video[0].average_rate or 10)
        encoder: Any = av.CodecContext.create("libx264", "w")
        stream = film.streams.video[0]
        encoder.width, encoder.height, encoder.pix_fmt = stream.width, stream.height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, rate), rate
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": str(rate), "crf": "18"}
        packets = []
        for number, frame in enumerate(film.decode(stream)):
            plain = frame.reformat(format="yuv420p")
            plain.pts, plain.time_base, plain.pict_type = number, Fraction(1, rate), 0
            packets += encoder.encode(plain)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]], rate


def children(pid: int) -> Iterator[int]:
    """Processes that a process started and that run."""
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, file.read_text().split())


def trouble(camera: Camera, every: float, over: Event, told: list[str]) -> None:
    """Freezes and kills the camera in turn."""
    number = 0
    while not over.wait(every):
        number += 1
        told.append("frozen" if number % 2 else "killed")
        if number % 2:
            camera.frozen.set()
            over.wait(FROZEN_S)
            camera.frozen.clear()
        else:
            camera.stop()
            over.wait(AWAY_S)
            camera.start()


def lost_seconds(segments: list[dict[str, Any]], gaps: list[list[Any]]) -> float:
    """Seconds between the first segment and the last that are in none, nor in a gap that was recorded."""
    spans = sorted([(one["start"], one["end"]) for one in segments] + [(gap[0], gap[1]) for gap in gaps])
    lost, at = 0.0, segments[0]["start"]
    for start, end in spans:
        if start - at > ALIGNED_S:
            lost += start - at
        at = max(at, end)
    return lost


def watch(arguments: argparse.Namespace, camera: Camera, folder: Path) -> int:
    """Has the camera watched, and tells how it went; the exit status."""
    output, alarms = folder / "cam.v2lora", folder / "alarms"
    words = ["watch", camera.url, "-o", output, "--segment", f"{arguments.segment:g}s", "--keep",
             f"{arguments.keep:g}s", "--for", f"{arguments.minutes}m", "--model", "tiny", "--json",
             "--ask", "Is there a red ring?", "--on-yes", f'echo "$V2L_STARTED_AT" >> "{alarms}"']
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "v2l", *map(str, words)], stdout=subprocess.PIPE,
                               stderr=(folder / "stderr").open("wb"), text=True)
    assert process.stdout is not None
    usage, over, told = {"watching": Usage(), "decoding": Usage()}, Event(), list[str]()
    segments: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    gaps: dict[str, list[Any]] = {}
    unreadable: list[str] = []

    def sample() -> None:
        while not over.wait(EVERY_S):
            usage["watching"].take(process.pid)
            for child in children(process.pid):
                if b"reader" in Path(f"/proc/{child}/cmdline").read_bytes():
                    usage["decoding"].take(child)

    threads = [Thread(target=sample, daemon=True),
               Thread(target=trouble, args=(camera, arguments.every, over, told), daemon=True)]
    try:
        for number, line in enumerate(process.stdout):
            if number == 0:  # what is loaded is loaded
                for thread in threads:
                    thread.start()
            document = json.loads(line)
            (answers if "question" in document else segments).append(document)
            try:
                gaps |= {f"{gap[0]} {gap[2]}": gap for source in load(output).sources for gap in source.get("gaps", [])}
            except V2LError as error:
                unreadable.append(str(error))
        status = process.wait()
    finally:
        over.set()
        process.kill()
    if not segments:
        print((folder / "stderr").read_text())
        return 1
    lost = lost_seconds(segments, list(gaps.values()))
    ran = alarms.read_text().count("\n") if alarms.exists() else 0
    edges = sum(one["yes"] is True and not (i and answers[i - 1]["yes"]) for i, one in enumerate(answers))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, exit status {status}; the camera was frozen "
          f"{told.count('frozen')} times and killed {told.count('killed')} times.\n\n"
          "| process | MB, 1st quarter | 2nd | 3rd | 4th | most | open files | threads |\n" + "|---" * 8 + "|")
    for name, used in usage.items():
        print(used.row(name))
    print(f"\n{len(segments)} segments written, {segments[-1]['segments']} kept, {len(gaps)} gaps recorded, "
          f"{sum(one['left_out'] for one in segments)} frames left out; {lost:.1f} s in neither a segment nor a gap; "
          f"the file could not be read {len(unreadable)} times; {len(answers)} answers became yes {edges} times, and "
          f"the command ran {ran} times.")
    _, second, _, last = usage["watching"].quarters()
    grew = last > second * (1 + GROWTH)
    return int(bool(lost or unreadable or grew or status or ran != edges or len(answers) != len(segments)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--segment", type=float, default=5, help="seconds of a segment")
    parser.add_argument("--keep", type=float, default=120, help="seconds that are kept")
    parser.add_argument("--every", type=float, default=45, help="seconds between two troubles")
    arguments = parser.parse_args()
    frames, rate = access_units(EXAMPLE)
    with tempfile.TemporaryDirectory() as folder, Camera(rate, frames=frames) as camera:
        return watch(arguments, camera, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
