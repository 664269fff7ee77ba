"""The decoded pictures of one stream of a file, in the order they are shown, their times on a clock that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from v2l.errors import VideoError
from v2l.video.container import decoder_of, open_container, packets_of
from v2l.video.packets import Clock, is_decoded, is_header

ANIMATION = -1
"""Stands for the stream of a file that Pillow decodes: FFmpeg knows no animated WebP."""
MILLISECOND = Fraction(1, 1000)


class Source:
    """One pass over a stream. `first` is the time of the first picture, where packets of earlier ones are to be left
    out: what they need was cut off. `VideoError` where the file cannot be opened (any more)."""

    def __init__(self, path: str, name: str, stream: int, first: int | None) -> None:
        import av

        self.name, self.first = name, first
        self.damaged = False
        """Whether a decoder refused a packet so far."""
        self.container: Any = None
        if stream == ANIMATION:
            self.frames = animation(Path(path))
            return
        try:
            self.container = open_container(path)
            self.stream = self.container.streams[stream]
        except (av.FFmpegError, ValueError, IndexError) as error:
            raise VideoError(f"{name} cannot be read any more; was it moved or changed?") from error
        self.context = decoder_of(self.stream)
        self.frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        import av

        packets = packets_of(self.container, self.stream)
        format = self.container.format.name
        clock = Clock(self.stream, format)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the file is broken here; what was read before is shown
                with suppress(av.FFmpegError):
                    yield from self.context.decode(None)
                return
            if not packet.size and (packet.pts is not None or packet.dts is not None):
                continue  # a picture that is shown again; without any time, it is the end
            header = is_header(packet, format)
            if header:
                clock.start_anew()
            else:
                clock.correct(packet)
            if (header and not is_decoded(packet)) or self._undecodable(packet):
                continue
            try:
                yield from self.context.decode(packet if packet.size else None)
            except MemoryError:
                raise
            except av.FFmpegError:  # a damaged picture; the ones after it may be well
                self.damaged = True

    def _undecodable(self, packet: Any) -> bool:
        """Whether what a packet needs was cut off before the first key frame."""
        return bool(self.first is not None and packet.pts is not None and packet.pts < self.first
                    and not (packet.is_keyframe or packet.is_discard))

    def seek(self, pts: int) -> None:
        """Goes on at a key frame. Errors: PyAV's."""
        self.container.seek(pts, stream=self.stream)
        self.context.flush_buffers()
        self.frames = self._decode()

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
        else:
            self.frames = iter(())


def animation(path: Path) -> Iterator[Any]:
    """The pictures of an animated WebP file, as PyAV's frames in milliseconds."""
    import av
    from PIL import Image, ImageSequence

    time = 0  # milliseconds; what is to be shown for no time, browsers show for a tenth of a second
    try:
        with Image.open(path) as image:
            for picture in ImageSequence.Iterator(image):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
                frame.pts, frame.time_base, frame.duration = time, MILLISECOND, picture.info.get("duration", 0)
                frame.duration = frame.duration if frame.duration > 10 else 100
                time += frame.duration
                yield frame
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise VideoError(f"{path} is damaged; copy or download it again.") from error
