"""A window of a live source as the engine takes a video: a clip of its own, whose record tells the stream's times."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from v2l.config import Sampling
from v2l.live.windows import Window
from v2l.model.prompt import resized_size
from v2l.video.clip import Clip, Frame, VideoInfo
from v2l.video.container import decoder_version
from v2l.video.track import Track


@dataclass(frozen=True)
class LiveInfo(VideoInfo):
    """A window of a live source as a video that begins with it; `path` is what messages call it."""

    seconds: float = 0.0
    """How long it is."""
    of: dict[str, Any] = field(default_factory=dict)
    """What its record says of the source."""

    @property
    def duration(self) -> float:
        return self.seconds

    @cached_property
    def source(self) -> dict[str, Any]:
        return self.of


class LiveClip(Clip):
    """The pictures of a window. The prompt tells their times from the window's start, as a file of that minute alone
    would have them: how long a camera has been running says nothing of what it shows. The record has the source's."""

    def __init__(self, info: VideoInfo, window: Window) -> None:
        track = Track(str(info.path), str(info.path), info.fps, info.width, info.height, array("d", window.times),
                      pts=array("q"), timed=False, begin=None, keys=(), hdr=False, stream=0, varies=True,
                      decoder=decoder_version())
        super().__init__(info, list(range(len(window.times))), [], track)
        self._window = window

    def span(self, sampling: Sampling) -> tuple[float, float]:
        """When the window begins and ends, seconds since watching began."""
        return self._window.start, self._window.end

    def timestamp(self, index: int) -> float:
        """When a picture is shown, seconds since the window began."""
        return self._window.times[index] - self._window.start

    def frames(self) -> Iterator[Frame]:
        for index, (at, image) in enumerate(zip(self._window.times, self._window.images, strict=True)):
            yield Frame(index, self.timestamp(index), round(at, 6), image)


def shrunk(image: np.ndarray, resolution: int) -> np.ndarray:
    """A picture [height, width, 3] as large as its tiles are cut from it: from there on, equal to the bit. What is
    smaller stays."""
    height, width = image.shape[:2]
    size = resized_size(width, height, resolution)
    if size[0] * size[1] >= width * height or resized_size(*size, resolution) != size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
