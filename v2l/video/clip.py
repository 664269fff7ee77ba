"""A video file -> the frames a model looks at, with their times (METHOD section 2).

Which frames there are comes from `container`, what they show from `decode`; PyAV is imported there, on use.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from v2l.config import Sampling
from v2l.errors import UsageError, VideoError
from v2l.system.cache import hash_of
from v2l.video.decode import Decoder
from v2l.video.track import Track, read_track

EXTENSIONS = (
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogv", ".ts", ".vob", ".webm", ".wmv",
)
"""Endings by which videos are found in a folder; a file given by name may have any."""


SLACK = 0.0006
"""Seconds by which a frame may come before a window and belong to it: containers round times to a millisecond."""


@dataclass(frozen=True)
class VideoInfo:
    """A video file. Width and height in pixels as displayed, after rotation."""

    path: Path
    frames: int
    fps: float
    width: int
    height: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps

    @cached_property
    def source(self) -> dict[str, Any]:
        """`source_record`, read once."""
        return source_record(self)


@dataclass(frozen=True)
class Frame:
    """One frame: its index in the file, its time as index / fps, its real presentation time in seconds, and what it
    shows, RGB uint8 [height, width, 3]."""

    index: int
    timestamp: float
    time: float
    image: np.ndarray


@dataclass
class Clip:
    """The frames of a video chosen by a sampling. `warnings` are sentences for the user; clips of a file with one
    `decoder`, watched in the order of their frames, are decoded in one pass."""

    info: VideoInfo
    indices: list[int]
    warnings: list[str]
    track: Track = field(repr=False)
    decoder: Decoder | None = field(default=None, repr=False)

    def window(self, sampling: Sampling) -> Clip:
        """The clip another sampling makes of the file, which is not read again; both warn of the same. Errors as of
        `open_clip`."""
        return Clip(self.info, _chosen(self.info, self.track, sampling), self.warnings, self.track)

    @property
    def end(self) -> float:
        """When the video ends, seconds: where the rate varies, its last frame may come after frames / fps."""
        return max(self.info.duration, self.track.times[-1])

    def frames(self) -> Iterator[Frame]:
        """Decodes the frames one at a time, in order; only one is held. `indices` always says what came out: where a
        codec gives back a few frames fewer than its container counts, the last one stands for those past it. Where a
        decoder finds fault with one, a warning is added at the end.

        Errors: `VideoError` if the file turns out truncated or damaged in more than a few frames.
        """
        seen, decoder = [], self.decoder or Decoder(self.track)
        try:
            for index, image in decoder.images(self.indices):
                seen.append(index)
                yield Frame(index, index / self.info.fps, self.track.times[index], image)
        finally:
            if decoder is not self.decoder:
                decoder.close()
        self.indices = seen
        warning = f"{self.info.path} is damaged and may show wrong pictures; copy or download it again."
        if decoder.damaged and warning not in self.warnings:
            self.warnings.append(warning)


def span(end: float, sampling: Sampling) -> tuple[float, float]:
    """Seconds that a sampling covers of a video that ends at `end`."""
    return sampling.start or 0.0, end if sampling.end is None else min(sampling.end, end)


def frame_indices(frames: int, fps: float, sampling: Sampling, times: Sequence[float] | None = None) -> list[int]:
    """Indices of the frames looked at, ascending (METHOD section 2), of a video of `frames` frames at `fps`.

    With start or end, the frames shown in [start, end) are sampled as if they were a video of their own; indices stay
    those of the whole. `times` are the frames' presentation times in seconds, index / fps if not given.
    Errors: `UsageError` for settings that make no sense, `VideoError` for a window that holds no frame.
    """
    _check(sampling)
    first, stop = _window(frames, fps, sampling, times)
    return [first + i for i in _sampled(stop - first, fps, sampling)]


def _check(sampling: Sampling) -> None:
    if sampling.frames < 1:
        raise UsageError(f"At least 1 frame must be looked at, not {sampling.frames}.")
    if not (sampling.fps > 0 and math.isfinite(sampling.fps)):
        raise UsageError(f"Frames per second must be above 0, not {sampling.fps}.")
    if not (sampling.skip >= 0 and math.isfinite(sampling.skip)):
        raise UsageError(f"Seconds to skip must be 0 or more, not {sampling.skip}.")
    start, end = sampling.start, sampling.end
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise UsageError(f"The {name} must be 0 seconds or later, not {value}.")
    if end is not None and end <= (start or 0):
        raise UsageError(f"The end ({end:g} s) must come after the start ({start or 0:g} s).")


def _window(frames: int, fps: float, sampling: Sampling, times: Sequence[float] | None) -> tuple[int, int]:
    """(first, stop) frame of [start, end)."""
    start, end, duration = sampling.start or 0.0, sampling.end, frames / fps
    time = (lambda i: i / fps) if times is None else times.__getitem__
    first = bisect_left(range(frames), start - SLACK, key=time)
    stop = frames if end is None else bisect_left(range(frames), end - SLACK, key=time)
    if start >= max(duration, time(frames - 1)) or first >= frames:
        raise VideoError(f"The video is {duration:.2f} s long, so nothing of it starts at {start:g} s.")
    if first >= stop:
        raise VideoError(f"No frame is shown from {start:g} s to {end:g} s; choose a longer part.")
    return first, stop


def _sampled(total: int, fps: float, sampling: Sampling) -> list[int]:
    """METHOD section 2 for a video of `total` frames."""
    duration = total / fps
    wanted = max(1, min(round(sampling.fps * duration), sampling.frames))
    first, last = 0, total - 1
    if duration - 2 * sampling.skip > sampling.frames * sampling.fps:
        first, last = int(sampling.skip * fps), min(int(total - sampling.skip * fps), total - 1)
        if first >= last:
            first, last = 0, total - 1
    return [int(i) for i in np.unique(np.linspace(first, last, wanted, dtype=int))]


def open_clip(path: Path, sampling: Sampling) -> Clip:
    """Reads what a video file holds and chooses its frames; decodes no more than the first.

    Errors: `VideoError` naming the file; `UsageError` for a sampling that makes no sense.
    """
    _check(sampling)
    track = read_track(path)
    info = VideoInfo(path, track.frames, track.fps, track.width, track.height)
    indices = _chosen(info, track, sampling)
    warnings = []
    if track.hdr:
        warnings.append(f"{path} is an HDR video; its colours are read without tone mapping and will look pale.")
    return Clip(info, indices, warnings, track)


def _chosen(info: VideoInfo, track: Track, sampling: Sampling) -> list[int]:
    try:
        return frame_indices(info.frames, info.fps, sampling, track.times)
    except VideoError as error:
        raise VideoError(f"{info.path}: {error}") from error


def find_videos(paths: Iterable[Path]) -> list[Path]:
    """Files as given; for a folder, the videos below it, sorted by path, hidden ones left out.

    Errors: `VideoError` for a folder without videos.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(_below(path))
            if not below:
                raise VideoError(f"{path} is a folder without videos.")
            found += below
        else:
            found.append(path)
    return found


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(place, name)


def source_record(info: VideoInfo) -> dict[str, Any]:
    """What an adapter says of the video it was made from: the file's name without its folder, duration (s), fps,
    frames, width, height, size (bytes) and sha256."""
    try:
        size, sha256 = info.path.stat().st_size, hash_of(info.path)
    except OSError as error:
        raise VideoError(f"{info.path} cannot be read any more ({error}).") from error
    return {
        "name": info.path.name, "duration": info.duration, "fps": info.fps, "frames": info.frames,
        "width": info.width, "height": info.height, "size": size, "sha256": sha256,
    }


def is_source(path: Path, source: Mapping[str, Any]) -> bool:
    """Whether a file is the one a `source_record` tells of, byte for byte; False where it cannot be read."""
    try:
        return path.stat().st_size == source["size"] and hash_of(path) == source["sha256"]
    except (OSError, ValueError):
        return False
