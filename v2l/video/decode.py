"""Decodes chosen frames of a track, one at a time, with PyAV, and notes what its decoders find wrong.

Why not OpenCV, which the released code uses: it hides what FFmpeg says of a damaged file, and hands out what is left of
its pictures as if nothing were. The colours are those the file's tags tell (matrix and range), BT.601 where there are
none. OpenCV's are the same to the bit, if both bring the same FFmpeg; but not of BT.2020, whose matrix it does not
know, nor of interlaced pictures, some of which it refuses (tests/test_video.py).

A reader may jump to a key frame when the next frame wanted is far away. A jump counts only if the frame it ends at
carries the expected timestamp; if not, everything still wanted is decoded again without jumps. Nothing is guessed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from v2l.errors import VideoError
from v2l.video.container import unknown_matrix
from v2l.video.crop import UNCROPPED, Crop
from v2l.video.source import Source
from v2l.video.track import Track

LEAP = 48
"""Frames that must be skipped by a jump for it to be worth it."""
_UNSPECIFIED = 2


class Missed(Exception):
    """The frame asked for was not reached."""


class Decoder:
    """Decodes the frames of one list of indices after the other, each beginning where the last one ended: one pass over
    a file, however many parts of it are looked at."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.damaged = False
        """Whether a decoder found fault with a frame it was given so far."""
        self._reader: FrameReader | None = None
        self._jumps, self._over = True, False
        self._end = 0
        self._spare: np.ndarray | None = None
        """The last of the `_end` frames there turned out to be."""

    def images(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, RGB uint8 [height, width, 3]) for ascending `indices`, which must come after all that were
        asked for before; holds one frame at a time.

        Instead of a frame that cannot be decoded comes the next one that can. A container may count a few more frames
        than its codec gives back: the last one there is then stands for those past it, under its own index. Errors:
        `VideoError` if more than those few are missing.
        """
        wanted, shown = list(indices), -1
        while wanted and not self._over:
            self._reader = self._reader or FrameReader(self.track, self._jumps)
            try:
                image = self._reader.read(wanted[0])
            except Missed:
                self._missed(self._reader)
                continue
            self.damaged = self.damaged or self._reader.damaged
            if self._reader.lost > self._spared:
                self._refuse(self.track.frames - self._reader.lost)
            shown = wanted.pop(0)
            yield shown, fitted(image, self.track.width, self.track.height)
        if wanted:
            yield from self._last(shown)

    def _missed(self, reader: FrameReader) -> None:
        if reader.jumped:
            self._jumps = False
        else:  # this is how far it gets
            self._over, self._end, self._spare = True, reader.position, reader.last()
            self.damaged = self.damaged or reader.damaged
        self.close()

    @property
    def _spared(self) -> int:
        """Frames that may be missing."""
        return 3 + self.track.frames // 100

    def _refuse(self, decoded: int) -> None:
        raise VideoError(f"{self.track.name} is truncated or damaged: {decoded} of {self.track.frames} frames "
                         "could be decoded; copy or download it again.")

    def _last(self, shown: int) -> Iterator[tuple[int, np.ndarray]]:
        if self._spare is None or self.track.frames - self._end > self._spared:
            self._refuse(self._end)
        elif self._end - 1 > shown:
            yield self._end - 1, fitted(self._spare, self.track.width, self.track.height)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def thumbnails(track: Track, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, RGB uint8 [height, width, 3]) of frames [first, stop), all shrunk to `size` (width, height) and
    not rotated: one pass over the file. Frames that cannot be decoded are left out."""
    with closing(FrameReader(track, True)) as reader:
        yield from reader.thumbnails(first, stop, size)


def fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image at its track's size; some recordings change theirs on the way."""
    if image.shape[:2] == (height, width):
        return image
    import cv2

    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


class FrameReader:
    """One pass over a file. `VideoError` where it cannot be opened any more."""

    def __init__(self, track: Track, jumps: bool) -> None:
        from av.video.reformatter import VideoReformatter

        self.track, self.jumps, self.jumped = track, jumps, False
        self.position = 0
        """Index of the frame that is decoded next."""
        self.corrupt = False
        """Whether a picture came that was found to be damaged, or not in its place."""
        self.lost = 0
        """Frames that did not come."""
        self.frame: Any = None
        self.convert = VideoReformatter()
        self.source = Source(track.path, track.name, track.stream, track.begin)

    @property
    def damaged(self) -> bool:
        """Whether a decoder found fault so far."""
        return self.corrupt or self.source.damaged

    def read(self, index: int) -> np.ndarray:
        """The frame, RGB uint8 [height, width, 3]. Raises Missed."""
        if self.jumps and self.track.key_before(index) - self.position >= LEAP:
            self._jump(index)
        while self.position <= index:
            self.advance()
        if self.jumped and self.damaged:  # by the jump, perhaps
            raise Missed
        return self._image()

    def _jump(self, index: int) -> None:
        pts, key = self.track.pts, self.track.key_before(index)
        self.jumped = True
        self._seek(key)
        for frame in self.source.frames:
            if frame.pts is not None and frame.pts >= pts[key]:
                self.corrupt = self.corrupt or frame.is_corrupt
                if frame.pts >= pts[index]:
                    break
        else:
            raise Missed
        if frame.pts != pts[index]:
            raise Missed
        self.frame, self.position = frame, index + 1

    def _seek(self, key: int) -> None:
        import av

        try:  # at the key frame itself: the one after may come before the wanted frame in the file
            self.source.seek(self.track.pts[key])
        except av.FFmpegError as error:
            raise Missed from error
        self.position = key

    def advance(self) -> None:
        """Goes one frame on, and past any that could not be decoded. Raises Missed."""
        frame = next(self.source.frames, None)
        if frame is None:
            raise Missed
        place = self._place(frame)
        if place >= self.position:
            self.lost += place - self.position
            self.corrupt = self.corrupt or frame.is_corrupt or place > self.position
            self.frame, self.position = frame, place + 1

    def _place(self, frame: Any) -> int:
        """Index of a decoded frame in the track; -1 for one before them all."""
        pts = self.track.pts
        if self.track.timed and frame.pts is not None:
            place = bisect_left(pts, frame.pts)
            if place < len(pts) and pts[place] == frame.pts:
                return place
            if place == 0:
                return -1
        return self.position

    def thumbnails(self, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        if self.track.key_before(first) >= LEAP:
            with suppress(Missed):  # then from the beginning
                self._seek(self.track.key_before(first))
        for frame in self.source.frames:
            index = self._place(frame)
            if index >= stop:
                return
            if index >= first:
                # AREA averages; done here, no picture is converted at its full size.
                yield index, self.convert.reformat(_plain(frame), *size, "rgb24", interpolation="AREA").to_ndarray()
            self.position = index + 1

    def _image(self) -> np.ndarray:
        import av

        frame, track = self.frame, self.track
        stored = track.stored if (frame.width, frame.height) == track.coded else None
        try:
            return rgb_image(frame, self.convert, stored, track.orientation, track.crop if stored else UNCROPPED)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{track.name} cannot be decoded; convert it, to H.264 for example.") from error

    def last(self) -> np.ndarray | None:
        return None if self.frame is None else self._image()

    def close(self) -> None:
        self.source.close()


def rgb_image(frame: Any, convert: Any, stored: tuple[int, int] | None, orientation: tuple[bool, bool, bool],
              crop: Crop = UNCROPPED) -> np.ndarray:
    """A decoded picture as it is shown, RGB uint8 [height, width, 3]: brought to `stored`, its width and height with
    square pixels and without what `crop` cuts off, and turned. `convert` is PyAV's VideoReformatter. Errors: PyAV's,
    ValueError."""
    (width, height), (left, top) = stored or (None, None), crop[:2]
    if stored and crop != UNCROPPED:
        wide = stored[0] / (frame.width - left - crop[2])  # pixels of the same height, that is
        width, height, left = round(frame.width * wide), frame.height, round(left * wide)
    # By way of BGR, as OpenCV does: the same to the bit.
    image = convert.reformat(_plain(frame), width, height, "bgr24", interpolation="BICUBIC").to_ndarray()
    if stored and crop != UNCROPPED:
        image = image[top : top + stored[1], left : left + stored[0]]
    return _turned(image[..., ::-1], orientation)


def _plain(frame: Any) -> Any:
    """The frame without those of its colours' tags that are not to be undone, or cannot be."""
    frame.color_trc = frame.color_primaries = _UNSPECIFIED
    if unknown_matrix(frame):
        frame.colorspace = _UNSPECIFIED
    return frame


def _turned(image: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    exchanged, mirrored, upside_down = orientation
    image = image.transpose(1, 0, 2) if exchanged else image
    return np.ascontiguousarray(image[:: -1 if upside_down else 1, :: -1 if mirrored else 1])
