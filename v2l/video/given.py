"""Videos that are no file: frames in memory, which become a clip as a file of them would, and bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from v2l.config import LARGEST_PICTURE, MOST_FRAMES, Sampling
from v2l.errors import UsageError, V2LError
from v2l.video.clip import Clip, Frame, VideoInfo, choose_frames, source_record
from v2l.video.track import Track, is_uneven

NAMELESS = "video"
"""How a video is called that came without a name."""


@dataclass(frozen=True)
class ArrayInfo(VideoInfo):
    """Frames in memory as a video: `path` is their name, `size` their bytes, `sha256` that of pixels and times."""

    size: int = 0
    sha256: str = ""

    @cached_property
    def source(self) -> dict[str, Any]:
        return source_record(self, self.size, self.sha256)


class ArrayClip(Clip):
    """The frames of an array that a sampling chooses; no copy of them is made."""

    def __init__(self, info: VideoInfo, indices: list[int], track: Track, images: np.ndarray) -> None:
        super().__init__(info, indices, [], track)
        self.images = images
        """[frames, height, width, 3], RGB uint8."""

    def window(self, sampling: Sampling) -> ArrayClip:
        return ArrayClip(self.info, choose_frames(self.info, self.track, sampling), self.track, self.images)

    def frames(self) -> Iterator[Frame]:
        for index in self.indices:
            yield Frame(index, self.timestamp(index), self.track.times[index], self.images[index])


def clip_of_frames(images: Any, times: Any, sampling: Sampling, name: str = NAMELESS) -> ArrayClip:
    """The clip of `images`, RGB uint8 [frames, height, width, 3], shown at `times`, ascending seconds [frames].

    It is sampled as a file would be, so a sampling that wants fewer frames looks at some of them. UsageError for what
    is of another type, shape or order; VideoError where the sampling's part of it shows no frame.
    """
    images, times = _checked_images(images), _checked_times(times)
    count, (height, width) = len(images), images.shape[1:3]
    if len(times) != count:
        raise UsageError(f"There are {count} frames and {len(times)} times; give each frame its time.")
    step = (times[-1] - times[0]) / (count - 1) if count > 1 else 1.0
    uneven = is_uneven(times, count * step)
    digest = hashlib.sha256(repr(images.shape).encode() + times.tobytes())
    for image in images:
        digest.update(np.ascontiguousarray(image).data)
    info = ArrayInfo(Path(name), count, 1 / step, width, height, times[0], uneven, images.nbytes, digest.hexdigest())
    track = Track(name, name, info.fps, width, height, times,
                  pts=array("q"), timed=False, begin=None, keys=(), hdr=False,
                  stream=0, varies=uneven)
    return ArrayClip(info, choose_frames(info, track, sampling), track, images)


def _checked_images(images: Any) -> np.ndarray:
    wanted = "frames are RGB, uint8 [frames, height, width, 3]"
    try:
        images = np.asarray(images)
    except Exception as error:  # whatever an object says that is no array
        raise UsageError(f"The frames are no array ({error}); {wanted}.") from None
    if images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise UsageError(f"The frames have the shape {list(images.shape)}; {wanted}.")
    if images.dtype != np.uint8:
        raise UsageError(f"The frames hold {images.dtype}; {wanted}, values from 0 to 255.")
    if images.shape[1] * images.shape[2] > LARGEST_PICTURE or len(images) > MOST_FRAMES:
        raise UsageError("The frames are too large or too many; make them smaller.")
    return images


def _checked_times(times: Any) -> array[float]:
    if times is None:
        raise UsageError("Frames need times, the seconds at which each is shown: times=[0.0, 0.5, 1.0], for example.")
    try:
        values = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The times are no numbers ({error}); give seconds, one for each frame.") from None
    if values.ndim != 1 or not values.size:
        raise UsageError(f"The times have the shape {list(values.shape)}; give seconds, one for each frame.")
    if not np.isfinite(values).all() or values[0] < 0:
        raise UsageError("A time is negative or not finite; times are seconds from the beginning, 0 or later.")
    if (np.diff(values) <= 0).any():
        raise UsageError("The times do not ascend; give the frames in the order in which they are shown.")
    return array("d", values.tolist())


@contextmanager
def as_file(data: Any, name: str | None = None) -> Iterator[Path]:
    """A file, for as long as the context lasts, of bytes or of what a binary file object still holds.
    Errors of the work in it name the video by that name. UsageError for a file of text, and for a name with a folder.
    """
    own = getattr(data, "name", None)
    called = name or (os.path.basename(own) if isinstance(own, str) else "") or NAMELESS
    if os.path.basename(called) != called or called in (".", ".."):
        raise UsageError(f"{called!r} is no name for a file; leave folders out of it.")
    with TemporaryDirectory(prefix="v2l-") as folder:
        path = Path(folder, called)
        with path.open("wb") as file:
            _copy(data, file)
        try:
            yield path
        except V2LError as error:
            raise type(error)(str(error).replace(str(path), called)) from error


def _copy(data: Any, file: IO[bytes]) -> None:
    if isinstance(data, (bytes, bytearray, memoryview)):
        file.write(data)
        return
    try:
        shutil.copyfileobj(data, file)
    except (TypeError, UnicodeDecodeError):
        raise UsageError("The file object reads text; open the video in binary mode, with open(path, 'rb').") from None
    except ValueError as error:  # a closed one
        raise UsageError(f"The file object cannot be read: {error}.") from None


def are_frames(video: Any) -> bool:
    """Whether something is frames in memory, rather than a name, bytes or a file object."""
    return hasattr(video, "__array__") or (isinstance(video, Sequence) and not isinstance(video, (str, bytes, bytearray,
                                                                                                  memoryview)))
