"""Decodes chosen frames of a track, one at a time: with OpenCV, and with PyAV where OpenCV cannot deliver.

Either may jump to a key frame when the next frame wanted is far away. A jump counts only if the frame it ends at
carries the expected timestamp; if not, everything still wanted is decoded again without jumps. Nothing is guessed.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import numpy as np

from v2l.container import Track
from v2l.errors import VideoError

_LEAP = 48
"""Frames that must be skipped by a jump for it to be worth it."""
_EARLY = 16
"""Frames before the wanted one that OpenCV aims at when it jumps."""


class _Missed(Exception):
    """A decoder did not get to the frame asked for."""


class _Reader(Protocol):
    position: int
    """Index of the frame that is decoded next."""
    jumped: bool

    def __init__(self, track: Track, jumps: bool) -> None: ...
    def read(self, index: int) -> np.ndarray: ...
    def last(self) -> np.ndarray | None: ...
    def close(self) -> None: ...


def decode(track: Track, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, RGB uint8 [height, width, 3]) for ascending `indices`; holds one frame at a time.

    A container may count a few more frames than its codec gives back: the last frame there is then stands for the ones
    past it, under its own index. Errors: `VideoError` if more than those few are missing.
    """
    with closing(Decoder(track)) as decoder:
        yield from decoder.images(indices)


def thumbnails(track: Track, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, RGB uint8 [height, width, 3]) of frames [first, stop), all shrunk to `size` (width, height) and
    not rotated: one pass over the file. Frames that cannot be decoded are left out."""
    try:
        reader = _PyAV(track, True)
    except _Missed as error:
        raise VideoError(f"{track.name} cannot be decoded; convert it, to H.264 for example.") from error
    with closing(reader):
        yield from reader.thumbnails(first, stop, size)


def _fitted(image: np.ndarray, track: Track) -> np.ndarray:
    """The image at the track's size; some recordings change theirs on the way."""
    if image.shape[:2] == (track.height, track.width):
        return image
    import cv2

    return np.asarray(cv2.resize(image, (track.width, track.height), interpolation=cv2.INTER_AREA))


class _OpenCV:
    """Where OpenCV cannot convert a picture (OpenCV 5, an interlaced one among others) it hands out the one before
    again and says all is well. So a picture equal to the one before is a miss, and PyAV has a look."""

    def __init__(self, track: Track, jumps: bool) -> None:
        import cv2

        self.track, self.jumps, self.position, self.jumped = track, jumps, 0, False
        if not is_text(track.path):
            raise _Missed  # OpenCV 5 crashes
        with _quiet_opencv():
            # FFmpeg by name: other backends take file names for devices, pipelines or numbered pictures.
            self.capture = cv2.VideoCapture(track.path, cv2.CAP_FFMPEG)
        if not self.capture.isOpened():
            raise _Missed
        self._grab()
        self.shown = self._retrieve()

    def read(self, index: int) -> np.ndarray:
        import cv2

        if self.jumps and self.track.key_before(index - _EARLY) - self.position >= _LEAP:
            self._jump(index)
        else:
            while self.position <= index:
                self._grab()
        if index > 0:
            before, self.shown = self.shown, self._retrieve()
            if np.array_equal(before, self.shown):
                raise _Missed
        return np.asarray(cv2.cvtColor(self.shown, cv2.COLOR_BGR2RGB))

    def _retrieve(self) -> np.ndarray:
        ok, image = self.capture.retrieve()
        if not ok or image is None:
            raise _Missed
        return np.asarray(image)

    def _grab(self) -> None:
        if not self.capture.grab():
            raise _Missed
        self.position += 1

    def _jump(self, index: int) -> None:
        import cv2

        self.jumped = True
        times = self.track.times
        self.capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self.position = index
        self._grab()
        neighbours = [times[i] for i in (index - 1, index + 1) if 0 <= i < len(times)]
        nearest = min(abs(times[index] - t) for t in neighbours)
        if abs(self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - times[index]) >= min(nearest / 4, 0.02):
            raise _Missed

    def last(self) -> np.ndarray | None:
        return None  # gone once the frame after it was asked for

    def close(self) -> None:
        self.capture.release()


class _PyAV:
    def __init__(self, track: Track, jumps: bool) -> None:
        self.track, self.jumps, self.position, self.jumped = track, jumps, 0, False
        self.frame: Any = None
        self.container = self._open(track)
        self.stream = self.container.streams[track.stream]
        self.stream.thread_type = "AUTO"
        self.frames = self._decode()

    @staticmethod
    def _open(track: Track) -> Any:
        import av

        try:
            return av.open(track.path)
        except (av.FFmpegError, ValueError) as error:
            raise _Missed from error

    def _decode(self) -> Iterator[Any]:
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            try:
                yield from packet.decode()
            except av.FFmpegError:  # a damaged picture; the ones after it may be well
                continue

    def read(self, index: int) -> np.ndarray:
        pts = self.track.pts
        if self.jumps and self.track.key_before(index) - self.position >= _LEAP:
            self.jumped = True
            # Aimed at the key frame itself: the one after may come before the wanted frame in the file.
            self.container.seek(pts[self.track.key_before(index)], stream=self.stream)
            self.frames = self._decode()
            self.frame = next((f for f in self.frames if f.pts is not None and f.pts >= pts[index]), None)
            if self.frame is None or self.frame.pts != pts[index]:
                raise _Missed
            self.position = index + 1
        while self.position <= index:
            frame = next(self.frames, None)
            if frame is None:
                raise _Missed
            self.frame = frame
            self.position += 1
        return self._image(self.frame)

    def thumbnails(self, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        from av.video.reformatter import VideoReformatter

        pts, shrink = self.track.pts, VideoReformatter()
        if self.track.key_before(first) >= _LEAP:
            self.container.seek(pts[self.track.key_before(first)], stream=self.stream)
            self.frames = self._decode()
        for count, frame in enumerate(self.frames):
            index = count
            if pts:  # tells a frame even after a jump or a damaged one
                index = len(pts) if frame.pts is None else bisect_left(pts, frame.pts)
                if index == len(pts) or pts[index] != frame.pts:
                    continue
            if index >= stop:
                return
            if index >= first:
                # AREA averages; done here, no picture is converted at its full size.
                yield index, shrink.reformat(frame, *size, format="rgb24", interpolation="AREA").to_ndarray()

    @staticmethod
    def _image(frame: Any) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90))

    def last(self) -> np.ndarray | None:
        return None if self.frame is None else self._image(self.frame)

    def close(self) -> None:
        self.container.close()


_WAYS: tuple[tuple[type[_Reader], bool], ...] = ((_OpenCV, True), (_PyAV, True), (_OpenCV, False), (_PyAV, False))
"""Readers in the order they are tried, and whether they jump."""


class Decoder:
    """`decode` for one list of indices after the other, each beginning where the last one ended: one pass over a file,
    however many parts of it are looked at."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self._reader: _Reader | None = None
        self._way = 0
        self._failed: list[type[_Reader]] = [] if track.plain else [_OpenCV]
        self._end = 0
        self._spare: np.ndarray | None = None
        """The last of the `_end` frames there turned out to be."""

    def images(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """As `decode`; the indices must come after all that were asked for before."""
        wanted, shown = list(indices), -1
        while wanted:
            reader = self._open()
            if reader is None:
                break
            try:
                image = reader.read(wanted[0])
            except _Missed:
                self._missed(reader)
                continue
            shown = wanted.pop(0)
            yield shown, _fitted(image, self.track)
        if wanted:
            yield from self._last(shown)

    def _open(self) -> _Reader | None:
        """The reader in use, or the next one that opens; None when all have missed."""
        while self._reader is None and self._way < len(_WAYS):
            kind, jumps = _WAYS[self._way]
            if kind not in self._failed:
                try:
                    self._reader = kind(self.track, jumps)
                    break
                except _Missed:
                    self._failed.append(kind)
            self._way += 1
        return self._reader

    def _missed(self, reader: _Reader) -> None:
        if not reader.jumped:  # this is how far it gets
            self._failed.append(type(reader))
            self._end, self._spare = reader.position, reader.last()
        self._way += 1
        self.close()

    def _last(self, shown: int) -> Iterator[tuple[int, np.ndarray]]:
        track, end = self.track, self._end
        if self._spare is None or track.frames - end > 3 + track.frames // 100:
            raise VideoError(f"{track.name} is truncated or damaged: {end} of {track.frames} frames could be decoded; "
                             "copy or download it again.")
        if end - 1 > shown:
            yield end - 1, _fitted(self._spare, track)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def is_text(path: str) -> bool:
    """Whether a file's name is UTF-8; names of old archives may not be."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV and the FFmpeg inside it write to stderr what we say as one sentence. FFmpeg's level is read once, from
    the environment, when the first file is opened; a level the user has set stands."""
    import cv2

    name, level = "OPENCV_FFMPEG_LOGLEVEL", cv2.utils.logging.getLogLevel()
    ours = name not in os.environ and "OPENCV_FFMPEG_DEBUG" not in os.environ
    if ours:
        os.environ[name] = "-8"
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        if ours:
            del os.environ[name]
