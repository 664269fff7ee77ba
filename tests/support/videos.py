"""Small real video files whose frames say which they are: frame i shows the bits of i as black and white blocks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder's own variable


class Pipe:
    """What is written, and cannot be gone back to."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, content: bytes) -> int:
        self.content += content
        return len(content)


def numbered(index: int, width: int, height: int) -> np.ndarray:
    """The picture of frame `index` (0 to 255), RGB [height, width, 3]: its bits on top, a colour below."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(8):
        if index >> bit & 1:
            image[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255
    image[height // 2 :] = (index % 256, 128, 255 - index % 256)
    return image


def number(image: np.ndarray) -> int:
    """Which frame a picture made by `numbered` is."""
    height, width = image.shape[:2]
    return sum(1 << bit for bit in range(8) if image[height // 4, (2 * bit + 1) * width // 16].mean() > 128)


def write(path: Path, codec: str = "libx264", *, frames: int = 60, rate: int | Fraction = 25,
          size: tuple[int, int] = (96, 64), pixels: str = "yuv420p", options: dict[str, str] | None = None,
          container: dict[str, str] | None = None, stamps_ms: Sequence[int] | None = None, audio_s: float = 0) -> Path:
    """Encodes `frames` numbered frames; `stamps_ms` makes the rate variable, `audio_s` adds that much silence."""
    base = Fraction(1, 1000) if stamps_ms else Fraction(1, rate)
    with av.open(str(path), "w", options=container or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = *size, pixels, base
        sound: Any = output.add_stream("aac", rate=8000, layout="mono") if audio_s else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(i, *size), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = stamps_ms[i] if stamps_ms else i, base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound:
            silence(output, sound, audio_s)
    return path


def silence(output: Any, stream: Any, seconds: float) -> None:
    """Encodes silence at 8 kHz into an audio stream."""
    for k in range(int(seconds * 8000) // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, k * 1024
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
