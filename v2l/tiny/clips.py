"""Clips of the world as real video files: `python -m v2l.tiny.clips FOLDER` writes the examples."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import av
import numpy as np

from v2l.tiny.questions import events_caption
from v2l.tiny.render import render
from v2l.tiny.world import FPS, Event, Thing, WorldClip, frame_states, pair_paths, path_of

SIZE = 192


def write_video(clip: WorldClip, path: Path, size: int = SIZE, preset: str = "slow") -> None:
    """The clip as H.264 in yuv420p, `FPS` frames a second, `size` pixels square: the same bytes every time from one
    build of the encoder."""
    times = [i / FPS for i in range(round(clip.duration * FPS))]
    with av.open(str(path), "w") as container:
        # x264's kernels for this and that processor choose differently, and not always the same; so do its threads.
        repeatable = {"threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": preset, **repeatable})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for start in range(0, len(times), 64):
            frames = render(frame_states(clip, times[start : start + 64]), size, seed=start)
            for frame in frames.permute(0, 2, 3, 1).numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def solo(color: str, shape: str, motion: str, seconds: float, background: str = "") -> tuple[Any, ...]:
    """An act of `scene`: one object that moves."""
    return (motion, seconds, background, (color, shape))


def scene(background: str, *acts: tuple[Any, ...], seed: int = 1) -> WorldClip:
    """A clip from (action, seconds, background or "" for the clip's, (colour, shape), ...) acts in sequence."""
    rng = random.Random(f"scene {seed}")
    events, start = [], 0.0
    for action, seconds, ground, *objects in acts:
        paths = pair_paths(rng, action) if len(objects) == 2 else [path_of(rng, action)] if objects else []
        things = tuple(Thing(color, shape, path) for (color, shape), path in zip(objects, paths, strict=True))
        events.append(Event(things, action, ground or background, start, start + seconds))
        start += seconds
    return WorldClip(tuple(events), start)


def examples() -> dict[str, WorldClip]:
    """The clips under examples/; each shows at least one held-out triple."""
    return {
        "one-shape": scene("white", solo("purple", "square", "moves left", 6)),
        "two-shapes": scene("black", solo("red", "ring", "moves down", 4), solo("green", "star", "stays still", 4)),
        "three-shapes": scene("gray", solo("yellow", "star", "grows", 4), solo("blue", "triangle", "moves left", 4),
                              solo("orange", "circle", "moves right", 4)),
        "slides": scene("white", ("hello", 4, ""), ("is left of", 4, "", ("red", "heart"), ("blue", "moon")),
                        solo("green", "ring", "moves up", 4)),
        "long": scene("brown", solo("green", "cross", "grows", 9), solo("yellow", "circle", "moves down", 13),
                      solo("red", "ring", "moves down", 14)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in examples().items():
        write_video(clip, folder / f"{name}.mp4")
        print(f"{folder / name}.mp4  {clip.duration:.0f} s  {events_caption(clip)}")


if __name__ == "__main__":
    main()
