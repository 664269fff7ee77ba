"""A drawn video as long as a measurement wants it, in a small file."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np

from v2l.config import Sampling

_RATE, _WIDTH, _HEIGHT = 2, 256, 144
"""Pictures a second at least, and pixels."""
ASPECT = (16, 9)


def length(sampling: Sampling) -> tuple[int, int]:
    """(pictures, pictures a second) of a video of which `sampling` looks at exactly its number of frames."""
    seconds = math.ceil(sampling.frames / sampling.fps + 2 * sampling.skip)
    rate = max(_RATE, math.ceil(_RATE * sampling.fps))
    return seconds * rate, rate


def draw_video(path: Path, sampling: Sampling) -> Path:
    """Writes that video as H.264: 16:9, so that frames are cut into tiles as those of most videos are. The
    background moves too, and is nowhere twice: of no two pictures is any tile equal, which would cost nothing."""
    pictures, rate = length(sampling)
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    background = np.stack([rows * 255 // _HEIGHT, columns * 255 // _WIDTH, 128 + 0 * rows], axis=-1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "24"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for i in range(pictures):
            picture = np.roll(background, (i, 3 * i), (0, 1))  # as at first again after 2,304 pictures
            left, top = 7 * i % (_WIDTH - 32), 5 * i % (_HEIGHT - 32)
            picture[top : top + 32, left : left + 32] = (40 * i % 256, 255 - 24 * i % 256, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
