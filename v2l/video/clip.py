"""A video file -> the frames a model looks at, with their times (v2l/README.md section 2).

Which frames there are comes from `track`, what they show from `decode`; PyAV is imported there, on use.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from v2l.config import Sampling
from v2l.errors import UsageError, VideoError
from v2l.system.cache import hash_of
from v2l.video.decode import Decoder
from v2l.video.track import Track, read_track
from v2l.wording import count_of, time_text

SLACK = 0.0006
"""Seconds by which a frame may come before a window and belong to it: containers round times to a millisecond."""


@dataclass(frozen=True)
class VideoInfo:
    """A video file. Width and height in pixels as displayed: after rotation, with square pixels."""

    path: Path
    frames: int
    fps: float
    width: int
    height: int
    start: float = 0.0
    """When its pictures begin, seconds from the file's start; 0 where that is not noticeably later."""
    varies: bool = False
    """Whether its rate varies, so that frames are taken evenly in time."""

    @property
    def duration(self) -> float:
        """Seconds of pictures."""
        return self.frames / self.fps

    @property
    def end(self) -> float:
        """When its pictures end, seconds from the file's start."""
        return self.start + self.duration

    @cached_property
    def source(self) -> dict[str, Any]:
        """`source_record`, read once."""
        try:
            size, sha256 = self.path.stat().st_size, hash_of(self.path)
        except OSError as error:
            raise VideoError(f"{self.path} cannot be read any more ({error}).") from error
        return source_record(self, size, sha256)


@dataclass(frozen=True)
class Frame:
    """One frame: its index in the file, the time that a prompt tells (at a constant rate index / fps, else the real
    one), its real presentation time, and what it shows, RGB uint8 [height, width, 3]. Times are seconds from the file's
    start."""

    index: int
    timestamp: float
    time: float
    image: np.ndarray


@dataclass(repr=False)
class Clip:
    """The frames of a video chosen by a sampling. `warnings` are sentences for the user; clips of a file with one
    `decoder`, watched in the order of their frames, are decoded in one pass."""

    info: VideoInfo
    indices: list[int]
    warnings: list[str]
    track: Track
    decoder: Decoder | None = None

    def __repr__(self) -> str:
        info = self.info
        return (f"<Clip {info.path.name}: {len(self.indices)} of {count_of(info.frames, 'frame')}, {info.width} x "
                f"{info.height}, {time_text(info.duration)}>")

    def window(self, sampling: Sampling) -> Clip:
        """The clip another sampling makes of the file, which is not read again; both warn of the same. Errors as of
        `open_clip`."""
        return Clip(self.info, choose_frames(self.info, self.track, sampling), self.warnings, self.track)

    @property
    def end(self) -> float:
        """When the video ends, seconds: where the rate is not what is said, its last frame may come after that."""
        return max(self.info.end, self.track.times[-1])

    def span(self, sampling: Sampling) -> tuple[float, float]:
        """Seconds that a sampling covers of the video."""
        return span(self.info.start, self.end, sampling)

    def timestamp(self, index: int) -> float:
        """The time that a prompt tells of a frame: index / fps where the rate is constant, else the real one."""
        return self.track.times[index] if self.track.varies else self.info.start + index / self.info.fps

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
                yield Frame(index, self.timestamp(index), self.track.times[index], image)
        finally:
            if decoder is not self.decoder:
                decoder.close()
        self.indices = seen
        warning = f"{self.info.path} is damaged and may show wrong pictures; copy or download it again."
        if decoder.damaged and warning not in self.warnings:
            self.warnings.append(warning)


def span(start: float, end: float, sampling: Sampling) -> tuple[float, float]:
    """Seconds that a sampling covers of a video whose pictures last from `start` to `end`."""
    return max(start, sampling.start or 0.0), end if sampling.end is None else min(sampling.end, end)


def frame_indices(frames: int, fps: float, sampling: Sampling, times: Sequence[float] | None = None) -> list[int]:
    """Indices of the frames looked at, ascending (v2l/README.md section 2), of a video of `frames` frames at `fps`.

    With start or end, the frames shown in [start, end) are sampled as if they were a video of their own; indices stay
    those of the whole. `times` are the frames' presentation times in seconds, index / fps if not given.
    Errors: `UsageError` for settings that make no sense, `VideoError` for a window that holds no frame.
    """
    _check(sampling)
    first, stop = _window(times or [i / fps for i in range(frames)], frames / fps, sampling)
    return [first + i for i in _sampled(stop - first, fps, sampling)]


def _indices_in_time(times: Sequence[float], end: float, sampling: Sampling) -> list[int]:
    """The same of a video whose rate varies and that ends at `end`: evenly in time, the frames that show then. Where
    none begins in a window, it is the one that shows all the while."""
    start, until = span(times[0], end, sampling)
    stop = bisect_left(times, until - SLACK)
    if times[0] <= start < until and stop == bisect_left(times, start - SLACK):
        return [stop - 1]
    first, stop = _window(times, end, sampling)
    begin, last = max(start, times[first]), min(until, times[stop - 1])
    wanted = max(1, min(round(sampling.fps * (until - begin)), sampling.frames))
    if until - begin - 2 * sampling.skip > sampling.frames * sampling.fps:
        begin, last = begin + sampling.skip, min(until - sampling.skip, last)
    at = [bisect_right(times, time + SLACK) - 1 for time in np.linspace(begin, max(begin, last), wanted)]
    return sorted({min(max(index, first), stop - 1) for index in at})


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
        raise UsageError(f"The end ({time_text(end)}) must come after the start ({time_text(start or 0)}).")


def _window(times: Sequence[float], duration: float, sampling: Sampling) -> tuple[int, int]:
    """(first, stop) frame of [start, end)."""
    start, end = sampling.start or 0.0, sampling.end
    first = bisect_left(times, start - SLACK)
    stop = len(times) if end is None else bisect_left(times, end - SLACK)
    if start >= max(duration, times[-1]) or first >= len(times):
        raise VideoError(f"The video is {time_text(duration)} long, so nothing of it starts at {time_text(start)}.")
    if first >= stop:
        begins = f"its pictures begin at {time_text(times[0])}" if stop == 0 else "choose a longer part"
        until = time_text(duration if end is None else end)
        raise VideoError(f"No frame is shown from {time_text(start)} to {until}; {begins}.")
    return first, stop


def _sampled(total: int, fps: float, sampling: Sampling) -> list[int]:
    """v2l/README.md section 2 for a video of `total` frames."""
    duration = total / fps
    wanted = max(1, min(round(sampling.fps * duration), sampling.frames))
    first, last = 0, total - 1
    if duration - 2 * sampling.skip > sampling.frames * sampling.fps:
        first, last = int(sampling.skip * fps), min(int(total - sampling.skip * fps), total - 1)
        if first >= last:
            first, last = 0, total - 1
    return [int(i) for i in np.unique(np.linspace(first, last, wanted, dtype=int))]


def open_clip(path: Path, sampling: Sampling) -> Clip:
    """Reads what a video file holds and chooses its frames; decodes no more than the first ones, where that tells.

    Errors: `VideoError` naming the file; `UsageError` for a sampling that makes no sense.
    """
    _check(sampling)
    track = read_track(path, sampling.stream)
    info = VideoInfo(path, track.frames, track.fps, track.width, track.height, track.start, track.varies)
    indices = choose_frames(info, track, sampling)
    warnings = list(track.notes)
    if track.hdr:
        warnings.append(f"{path} is an HDR video; its colours are read without tone mapping and will look pale.")
    return Clip(info, indices, warnings, track)


def choose_frames(info: VideoInfo, track: Track, sampling: Sampling) -> list[int]:
    """Indices of the frames of a track that a sampling looks at. Errors as of `open_clip`."""
    _check(sampling)
    try:
        if track.varies:
            return _indices_in_time(track.times, info.end, sampling)
        first, stop = _window(track.times, info.end, sampling)
        return [first + i for i in _sampled(stop - first, info.fps, sampling)]
    except VideoError as error:
        raise VideoError(f"{info.path}: {error}") from error


def source_record(info: VideoInfo, size: int, sha256: str) -> dict[str, Any]:
    """What an adapter says of the video it was made from: the file's name without its folder, duration (s), fps,
    frames, width, height, size (bytes) and sha256. Where its pictures begin noticeably later than the file, start (s);
    where its rate varies, spacing: its frames are taken evenly in time, else evenly by their number."""
    record = {
        "name": info.path.name, "duration": info.duration, "fps": info.fps, "frames": info.frames,
        "width": info.width, "height": info.height, "size": size, "sha256": sha256,
    }
    return record | ({"start": info.start} if info.start else {}) | ({"spacing": "time"} if info.varies else {})


def is_source(path: Path, source: Mapping[str, Any]) -> bool:
    """Whether a file is the one a `source_record` tells of, byte for byte; False where it cannot be read."""
    try:
        return path.stat().st_size == source["size"] and hash_of(path) == source["sha256"]
    except (OSError, ValueError):
        return False
