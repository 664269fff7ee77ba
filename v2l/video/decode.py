"""Decodes chosen frames of a track, one at a time, with PyAV, and notes what its decoders find wrong.

Why not OpenCV, which the released code uses: it hides what FFmpeg says of a damaged file, and hands out what is left of
its pictures as if nothing were. The colours are OpenCV's, to the bit (tests/test_video.py).

A reader may jump to a key frame when the next frame wanted is far away. A jump counts only if the frame it ends at
carries the expected timestamp; if not, everything still wanted is decoded again without jumps. Nothing is guessed.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from v2l.errors import VideoError
from v2l.video.track import Track, limit, open_container

_LEAP = 48
"""Frames that must be skipped by a jump for it to be worth it."""
_CHECKING = {"vp9": "libvpx-vp9"}
"""Decoders that notice nearly every damage, where FFmpeg's own, no faster and equal to the bit, notices none."""
_SMALL, _AT_ONCE, _MOST = 1 << 18, 1 << 28, 16
"""Pixels of a picture up to which one is decoded at a time: these are fast anyway, and where pictures are decoded one
by one none is handed out before its faults are noted. Pixels, of 1.5 bytes at least, of all that are decoded at a time.
How many pictures FFmpeg takes by itself, where there are as many cores."""


class _Missed(Exception):
    """The frame asked for was not reached."""


class Decoder:
    """Decodes the frames of one list of indices after the other, each beginning where the last one ended: one pass over
    a file, however many parts of it are looked at."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.damaged = False
        """Whether a decoder found fault with a frame it was given so far."""
        self._reader: _Reader | None = None
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
            self._reader = self._reader or _Reader(self.track, self._jumps)
            try:
                image = self._reader.read(wanted[0])
            except _Missed:
                self._missed(self._reader)
                continue
            self.damaged = self.damaged or self._reader.damaged
            if self._reader.lost > self._spared:
                self._refuse(self.track.frames - self._reader.lost)
            shown = wanted.pop(0)
            yield shown, _fitted(image, self.track)
        if wanted:
            yield from self._last(shown)

    def _missed(self, reader: _Reader) -> None:
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
            yield self._end - 1, _fitted(self._spare, self.track)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def thumbnails(track: Track, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, RGB uint8 [height, width, 3]) of frames [first, stop), all shrunk to `size` (width, height) and
    not rotated: one pass over the file. Frames that cannot be decoded are left out."""
    with closing(_Reader(track, True)) as reader:
        yield from reader.thumbnails(first, stop, size)


def _fitted(image: np.ndarray, track: Track) -> np.ndarray:
    """The image at the track's size; some recordings change theirs on the way."""
    if image.shape[:2] == (track.height, track.width):
        return image
    import cv2

    return np.asarray(cv2.resize(image, (track.width, track.height), interpolation=cv2.INTER_AREA))


class _Reader:
    """One pass over a file. `VideoError` where it cannot be opened any more."""

    def __init__(self, track: Track, jumps: bool) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.track, self.jumps, self.jumped = track, jumps, False
        self.position = 0
        """Index of the frame that is decoded next."""
        self.damaged = False
        self.lost = 0
        """Frames that did not come."""
        self.frame: Any = None
        self.convert = VideoReformatter()
        try:
            self.container = open_container(track.path)
            self.stream = self.container.streams[track.stream]
        except (av.FFmpegError, ValueError, IndexError) as error:
            raise VideoError(f"{track.name} cannot be read any more; was it moved or changed?") from error
        self.context = _context(self.stream)
        self.frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            if self._undecodable(packet):
                continue
            try:
                yield from self.context.decode(packet if packet.size else None)
            except MemoryError:
                raise
            except av.FFmpegError:  # a damaged picture; the ones after it may be well
                self.damaged = True

    def _undecodable(self, packet: Any) -> bool:
        """Whether what it needs was cut off before the first key frame."""
        return bool(self.track.timed and packet.pts is not None and packet.pts < self.track.pts[0]
                    and not (packet.is_keyframe or packet.is_discard))

    def read(self, index: int) -> np.ndarray:
        if self.jumps and self.track.key_before(index) - self.position >= _LEAP:
            self._jump(index)
        while self.position <= index:
            self._advance()
        if self.jumped and self.damaged:  # by the jump, perhaps
            raise _Missed
        return self._image()

    def _jump(self, index: int) -> None:
        pts, key = self.track.pts, self.track.key_before(index)
        self.jumped = True
        self._seek(key)
        for frame in self.frames:
            if frame.pts is not None and frame.pts >= pts[key]:
                self.damaged = self.damaged or frame.is_corrupt
                if frame.pts >= pts[index]:
                    break
        else:
            raise _Missed
        if frame.pts != pts[index]:
            raise _Missed
        self.frame, self.position = frame, index + 1

    def _seek(self, key: int) -> None:
        import av

        try:  # at the key frame itself: the one after may come before the wanted frame in the file
            self.container.seek(self.track.pts[key], stream=self.stream)
        except av.FFmpegError as error:
            raise _Missed from error
        self.context.flush_buffers()
        self.frames, self.position = self._decode(), key

    def _advance(self) -> None:
        """One frame on, and past any that could not be decoded."""
        frame = next(self.frames, None)
        if frame is None:
            raise _Missed
        place = self._place(frame)
        if place >= self.position:
            self.lost += place - self.position
            self.damaged = self.damaged or frame.is_corrupt or place > self.position
            self.frame, self.position = frame, place + 1

    def _place(self, frame: Any) -> int:
        """Which frame of the track it is; -1 for one before them all."""
        pts = self.track.pts
        if self.track.timed and frame.pts is not None:
            place = bisect_left(pts, frame.pts)
            if place < len(pts) and pts[place] == frame.pts:
                return place
            if place == 0:
                return -1
        return self.position

    def thumbnails(self, first: int, stop: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        if self.track.key_before(first) >= _LEAP:
            with suppress(_Missed):  # then from the beginning
                self._seek(self.track.key_before(first))
        for frame in self.frames:
            index = self._place(frame)
            if index >= stop:
                return
            if index >= first:
                # AREA averages; done here, no picture is converted at its full size.
                yield index, self.convert.reformat(frame, *size, format="rgb24", interpolation="AREA").to_ndarray()
            self.position = index + 1

    def _image(self) -> np.ndarray:
        import av

        try:  # by way of BGR, as OpenCV does: the same to the bit
            image = self.convert.reformat(self.frame, format="bgr24", interpolation="BICUBIC").to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{self.track.name} cannot be decoded; convert it, to H.264 for example.") from error
        return np.ascontiguousarray(np.rot90(image[..., ::-1], self.track.turns))

    def last(self) -> np.ndarray | None:
        return None if self.frame is None else self._image()

    def close(self) -> None:
        self.container.close()


def _context(stream: Any) -> Any:
    """The decoder of a stream."""
    import av

    context = stream.codec_context
    name, pixels, size = _CHECKING.get(context.name), context.format, context.width * context.height
    if name and pixels is not None and pixels.components[0].bits == 8:  # what they decode however they were built
        with suppress(av.codec.codec.UnknownCodecError):
            checking = limit(av.CodecContext.create(name, "r"))
            checking.extradata = context.extradata
            context = checking
    context.thread_type = "AUTO"  # "SLICE" would keep FFmpeg from looking for faults, even alone
    context.thread_count = _threads(size)
    return context


def _threads(size: int) -> int:
    """How many pictures of so many pixels are decoded at a time; 0: as many as there are cores."""
    if size < _SMALL:
        return 1
    room = _AT_ONCE // size
    return 0 if room >= _MOST else max(1, min(os.cpu_count() or 1, room))
