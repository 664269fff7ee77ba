"""Clips of the world as real video files: `python -m v2l.tiny.clips FOLDER` writes the examples."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import av
import numpy as np

from v2l.tiny.questions import caption
from v2l.tiny.render import render
from v2l.tiny.world import Clip, Event, frame_states, is_held_out, path_of

FPS, SIZE = 10, 192


def write_video(clip: Clip, path: Path, fps: int = FPS, size: int = SIZE) -> None:
    """The clip as H.264 in yuv420p, `fps` frames a second, `size` pixels square."""
    times = [i / fps for i in range(round(clip.duration * fps))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "slow"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for start in range(0, len(times), 64):
            frames = render(frame_states(clip, times[start : start + 64]), size, seed=start)
            for frame in frames.permute(0, 2, 3, 1).numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def scene(background: str, *acts: tuple[str, str, str, float], seed: int = 1) -> Clip:
    """A clip from (colour, shape, motion, seconds) acts, one after the other."""
    rng = random.Random(f"scene {seed}")
    events, start = [], 0.0
    for color, shape, motion, seconds in acts:
        events.append(Event(color, shape, motion, start, start + seconds, path_of(rng, motion)))
        start += seconds
    return Clip(background, tuple(events), start)


def examples() -> dict[str, Clip]:
    """The clips under examples/; each shows at least one held-out triple."""
    clips = {
        "one-shape": scene("white", ("purple", "square", "moves left", 6)),
        "two-shapes": scene("black", ("red", "ring", "moves down", 4), ("green", "star", "stays still", 4)),
        "three-shapes": scene("gray", ("yellow", "star", "grows", 4), ("blue", "triangle", "moves left", 4),
                              ("orange", "circle", "moves right", 4)),
        "long": scene("brown", ("green", "cross", "grows", 9), ("yellow", "circle", "moves down", 13),
                      ("red", "ring", "moves down", 14)),
    }
    for name, clip in clips.items():
        if not any(is_held_out(e.color, e.shape, e.motion) for e in clip.events):
            raise AssertionError(f"{name} shows nothing new")
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in examples().items():
        write_video(clip, folder / f"{name}.mp4")
        print(f"{folder / name}.mp4  {clip.duration:.0f} s  {caption(clip)}")


if __name__ == "__main__":
    main()
