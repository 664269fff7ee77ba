"""Which stream of a file is the film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from v2l.errors import VideoError
from v2l.video.packets import StreamPackets
from v2l.wording import count_of

_STILLS = ("avif", "heic", "heix", "mif1")
"""Brands of still pictures that are mp4 files inside."""
_FEW = 5
"""So many times more pictures make a stream the film and another one an accompaniment: its cover, its slides, the
thumbnails of a player."""


def choose_stream(
    container: Any, streams: Mapping[int, StreamPackets], wanted: int | None, path: Path
) -> tuple[StreamPackets, list[str]]:
    """The stream that is the film, as FFmpeg's programs choose it, and what a user should know of the choice: by its
    disposition, how many pictures it has, how large they are, its bit rate; never one picture where others are many.
    `wanted` is the index of the one to take. VideoError where there is none."""
    if wanted is not None:
        if wanted not in streams:
            there = f"its video streams are {_listed(streams)}" if streams else "it holds no video stream"
            raise VideoError(f"{path} has no video stream {wanted}; {there}.")
        return streams[wanted], []
    films = {index: packets for index, packets in streams.items() if not _accompanies(packets.stream)}
    if not films:
        kind = "only audio, " if container.streams.audio else "only subtitles, " if container.streams.subtitles else ""
        raise VideoError(f"{path} holds {kind}no video stream.")
    most = max(packets.count for packets in films.values())
    if most <= 1 and container.metadata.get("major_brand") in _STILLS:
        raise VideoError(f"{path} is a picture, not a video.")
    chosen = max(films, key=lambda index: _rank(films[index], most))
    others = [index for index, packets in films.items() if index != chosen and packets.count > 1]
    if not others:
        return films[chosen], []
    other = _listed({index: streams[index] for index in others})
    return films[chosen], [f"{path} holds {len(others) + 1} films, and stream {chosen} is watched; choose another one "
                           f"with --stream: {other}."]


def _accompanies(stream: Any) -> bool:
    """Whether a stream is a cover or the thumbnails of a player: video streams too."""
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _rank(packets: StreamPackets, most: int) -> tuple[Any, ...]:
    from av.stream import Disposition

    context, shown = packets.stream.codec_context, packets.stream.disposition
    size = 0 if context is None else context.width * context.height
    return (context is not None, packets.count > 1 or most <= 1,
            bool(shown & Disposition.default) - bool(shown & (Disposition.visual_impaired | Disposition.dependent)),
            packets.count * _FEW >= most, size, getattr(context, "bit_rate", 0) or 0, -packets.stream.index)


def _listed(streams: Mapping[int, StreamPackets]) -> str:
    """`0 (64 x 48, 100 frames), 2 (...)`."""
    texts = []
    for index, packets in streams.items():
        context = packets.stream.codec_context
        size = f"{context.width} x {context.height}, " if context is not None and context.width else ""
        texts.append(f"{index} ({size}{count_of(packets.count, 'frame')})")
    return ", ".join(texts)
