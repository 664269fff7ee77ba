"""What cameras, recorders, muxers and shells do to videos, beyond the frames that the corpus reads back."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import nullcontext
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from reliability.corpus import ALL, make, picture, reading
from reliability.recorded import RECORDED, boxes
from support.cli import MAKE, documents, run
from support.videos import Pipe, number, silence, write

from v2l.adapter import load_label
from v2l.config import Sampling
from v2l.errors import OutputError, V2LError, VideoError
from v2l.system.files import replacing
from v2l.video.clip import open_clip
from v2l.video.cuts import windows
from v2l.video.decode import thumbnails
from v2l.video.folder import find_videos
from v2l.video.track import read_track


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


def recorded(made: Path, name: str) -> Path:
    return make(made, next(entry for entry in RECORDED if entry.name == name))


# -- colours ---------------------------------------------------------------------------------------------------------

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Weights of red and blue by the number of the matrix in ITU-T H.273."""
PATCHES = [(90, 128, 128), (200, 128, 128), (120, 90, 170), (120, 170, 90),
           (90, 100, 100), (160, 150, 150), (60, 190, 128), (150, 128, 60)]
"""Y, Cb and Cr of 8 bits."""


def yuv(path: Path, codec: str, matrix: int, full: bool, bits: int) -> None:
    """A video of 32 x 32 patches, their colours coded as told, without loss."""
    shape = np.repeat(np.repeat(np.array(PATCHES).reshape(2, 4, 3), 32, 0), 32, 1) << (bits - 8)
    planes = [shape[..., 0], shape[::2, ::2, 1], shape[::2, ::2, 2]]
    pixels = "yuv420p10le" if bits == 10 else "yuv420p"
    options = {"libx264": {"qp": "0"}, "libvpx-vp9": {"lossless": "1", "deadline": "realtime", "cpu-used": "8"}}[codec]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        for i in range(3):
            frame = av.VideoFrame(128, 64, pixels)
            for plane, values in zip(frame.planes, planes, strict=True):
                line = np.zeros((plane.height, plane.line_size), np.uint8)
                content = values.astype("<u2" if bits == 10 else np.uint8)
                line[:, : plane.width * content.itemsize] = content.view(np.uint8).reshape(plane.height, -1)
                plane.update(line.tobytes())
            frame.pts, frame.colorspace, frame.color_range = i, matrix, 2 if full else 1
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def rgb(matrix: int, full: bool) -> np.ndarray:
    """The patches' colours, by the definition."""
    y, cb, cr = np.array(PATCHES, float).T
    if full:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red, blue = LUMA[matrix]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], 1).clip(0, 1) * 255


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize(("name", "codec", "bits"), [
    ("a.mp4", "libx264", 8), ("a10.mp4", "libx264", 10), ("a.mkv", "libx264", 8), ("a.webm", "libvpx-vp9", 8)])
def test_colours_are_what_their_tags_say(tmp_path: Path, name: str, codec: str, bits: int, matrix: int, full: bool
                                         ) -> None:
    yuv(tmp_path / name, codec, matrix, full, bits)
    image = next(iter(open_clip(tmp_path / name, Sampling()).frames())).image
    seen = image[16::32, 16::32].reshape(-1, 3).astype(float)
    assert np.abs(seen - rgb(matrix, full)).max() <= 2.5


@pytest.mark.parametrize("primaries", [1, 3, 9])
def test_tags_that_nobody_knows_stop_no_picture(tmp_path: Path, primaries: int) -> None:
    path = write(tmp_path / "odd.mp4", frames=3,
                 options={"x264-params": f"colorprim={'bt709' if primaries == 1 else 'bt2020'}:transfer=log100"})
    assert [number(frame.image) for frame in open_clip(path, ALL).frames()] == [0, 1, 2]


def test_colours_that_ffmpeg_does_not_convert_are_read_with_a_note(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.mp4", frames=3, options={"x264-params": "colormatrix=ycgco"})
    clip = open_clip(path, ALL)
    assert [number(frame.image) for frame in clip.frames()] == [0, 1, 2]
    (note,) = clip.warnings
    assert "coded as YCgCo" in note and "may look wrong" in note


# -- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dvd.mpg", "dvd.ts", "dvd.mkv", "dvd.mp4"])
@pytest.mark.parametrize(("stored", "pixel", "shown"), [
    ((720, 576), (64, 45), (1024, 576)), ((720, 480), (8, 9), (640, 480)), ((1440, 1080), (4, 3), (1920, 1080)),
    ((480, 288), (1, 1), (480, 288))])
def test_pixels_that_are_not_square_are_shown_as_they_are(
    tmp_path: Path, name: str, stored: tuple[int, int], pixel: tuple[int, int], shown: tuple[int, int]
) -> None:
    codec = "mpeg2video" if name in ("dvd.mpg", "dvd.ts") else "libx264"
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25)
        (stream.width, stream.height), stream.pix_fmt = stored, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*pixel)
        for i in range(2):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, *stored), format="rgb24")))
        output.mux(stream.encode(None))
    clip = open_clip(path, ALL)
    assert (clip.info.width, clip.info.height) == shown
    frames = list(clip.frames())
    assert [frame.image.shape for frame in frames] == [(*shown[::-1], 3)] * 2
    assert [reading(frame.image) for frame in frames] == [0, 1]


# -- which stream, and whether there is one ---------------------------------------------------------------------------


def test_a_stream_can_be_chosen(made: Path) -> None:
    path = recorded(made, "small-first.mp4")
    assert "--stream: 0 (64 x 48, 30 frames)" in open_clip(path, ALL).warnings[0]
    clip = open_clip(path, Sampling(frames=1000, fps=1000, skip=0, stream=0))
    assert (clip.info.width, clip.info.height, clip.warnings) == (64, 48, [])
    assert [reading(frame.image) for frame in clip.frames()] == list(range(4000, 4030))
    with pytest.raises(VideoError, match=r"no video stream 7; its video streams are 0 \(64 x 48, 30 frames\), 1"):
        open_clip(path, Sampling(stream=7))


def test_a_chosen_stream_is_recorded_and_no_other(made: Path, tmp_path: Path) -> None:
    path = recorded(made, "small-first.mp4")
    for name, more in (("film", []), ("small", ["--stream", 0])):
        run("ingest", path, "-o", tmp_path / f"{name}.v2lora", *more, *MAKE)
    film, small = (load_label(tmp_path / f"{name}.v2lora").record for name in ("film", "small"))
    assert "stream" not in film["sampling"] and small["sampling"]["stream"] == 0
    assert (film["sources"][0]["width"], small["sources"][0]["width"]) == (160, 64)


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "still.webp")
    Image.new("RGB", (64, 48)).save(tmp_path / "still.avif")
    for name in ("still.webp", "still.avif"):
        with pytest.raises(VideoError, match="is a picture, not a video"):
            open_clip(tmp_path / name, ALL)


@pytest.mark.parametrize("flags", ["", "frag_keyframe+empty_moov"])
def test_encryption_is_told(tmp_path: Path, flags: str) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0123456789abcdef" * 2, "encryption_kid": "a" * 32}
    path = write(tmp_path / "film.mp4", container={**key, **({"movflags": flags} if flags else {})})
    with pytest.raises(VideoError, match=r"film\.mp4 is encrypted"):
        open_clip(path, ALL)


def test_what_a_shop_protected_is_told(tmp_path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0123456789abcdef" * 2, "encryption_kid": "a" * 32}
    path = write(tmp_path / "film.mp4", container=key)
    path.write_bytes(path.read_bytes().replace(b"encv", b"drmi").replace(b"cenc", b"itun"))
    with pytest.raises(VideoError, match=r"film\.mp4 is encrypted"):
        open_clip(path, ALL)


@pytest.mark.parametrize("half", [False, True])
def test_a_scrambled_broadcast_is_told(tmp_path: Path, half: bool) -> None:
    """From its begin on, or from where the key was lost."""
    content = bytearray(write(tmp_path / "whole.ts", options={"g": "12"}).read_bytes())
    for at in range(len(content) // 376 * 188 if half else 0, len(content), 188):
        if content[at + 1] & 0x1F == 1 and content[at + 2] == 0:  # the pictures
            begin = at + 5 + content[at + 4] if content[at + 3] & 0x20 else at + 4
            content[begin : at + 188] = bytes(byte ^ 0xA5 for byte in content[begin : at + 188])
            content[at + 3] |= 0x80
    path = tmp_path / "scrambled.ts"
    path.write_bytes(content)
    if half:
        assert "is encrypted in its later part" in open_clip(path, ALL).warnings[0]
        return
    with pytest.raises(VideoError, match=r"scrambled\.ts is encrypted"):
        open_clip(path, ALL)


# -- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["screen.mkv", "screen.mp4", "screen.ts"])
def test_frames_are_taken_evenly_in_time_where_the_rate_varies(made: Path, name: str) -> None:
    """Taken by their numbers, ten of twelve would be of four seconds of the thirty. A broadcast does not say how long
    the last picture stays."""
    clip = open_clip(recorded(made, name), Sampling())
    frames = list(clip.frames())
    assert clip.info.varies and clip.info.duration == pytest.approx(29.04, abs=0.25)
    assert [frame.timestamp for frame in frames] == [frame.time for frame in frames]
    gaps = np.diff([frame.time for frame in frames])
    assert len(frames) == 12 and gaps.min() > 1.4 and gaps.max() < 3.6
    assert clip.info.source["spacing"] == "time"


def test_of_a_constant_rate_nothing_is_recorded_anew(reference: Path) -> None:
    clip = open_clip(reference / "videos" / "clip.mp4", Sampling())
    assert not clip.info.varies and {"spacing", "start"}.isdisjoint(clip.info.source)


def test_a_window_in_which_nothing_new_comes_shows_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "slides.mkv", frames=4, stamps_ms=[0, 20_000, 31_000, 33_000], options={"bf": "0"})
    assert open_clip(path, Sampling(start=22, end=25)).indices == [1]
    assert open_clip(path, Sampling(start=30, end=32)).indices == [2]
    assert open_clip(path, Sampling(start=0, end=31)).indices == [0, 1]


def test_what_an_edit_list_leaves_out_is_no_jump_of_the_clock(tmp_path: Path) -> None:
    """What is left out before a part has times from before the end of the part before it."""
    path = write(tmp_path / "film.mp4", rate=10, options={"bf": "0", "g": "12", "x264-params": "scenecut=0"})
    content = path.read_bytes()
    second = int.from_bytes(content[content.index(b"mdhd") + 16 :][:4], "big")
    at = content.index(b"edts") - 4
    old = int.from_bytes(content[at : at + 4], "big")
    edits = b"".join(pack(">IiI", length, start, 1 << 16) for length, start in (
        (2000, 0), (3000, -1), (2000, 2 * second)))
    box = pack(">I4sI4sII", 24 + len(edits), b"edts", 16 + len(edits), b"elst", 0, 3) + edits
    whole = bytearray(content[:at] + box + content[at + old :])
    for kind in (b"moov", b"trak"):
        place = whole.index(kind) - 4
        whole[place : place + 4] = pack(">I", int.from_bytes(whole[place : place + 4], "big") + len(box) - old)
    path.write_bytes(whole)
    clip = open_clip(path, ALL)
    with av.open(str(path)) as container:
        assert [frame.time for frame in clip.frames()] == pytest.approx([f.time for f in container.decode(video=0)])
    assert clip.warnings == []


def test_times_count_from_the_files_start(made: Path) -> None:
    """The pictures begin after three seconds of sound, and last for 1.2."""
    path = recorded(made, "after-sound.mp4")
    clip = open_clip(path, Sampling(start=3.4, end=3.8, fps=100))
    assert [reading(frame.image) for frame in clip.frames()] == list(range(10, 20))
    assert [frame.timestamp for frame in clip.frames()] == pytest.approx([3.4 + i / 25 for i in range(10)])
    whole = open_clip(path, Sampling())
    assert whole.span(Sampling()) == (3.0, pytest.approx(4.2))
    assert [(w.start, w.end) for w in windows(whole, Sampling(), [3.6])] == [(3.0, 3.6), (3.6, None)]
    assert whole.info.source["start"] == 3.0
    with pytest.raises(VideoError, match="its pictures begin at 0:03"):
        open_clip(path, Sampling(end=2))


def test_the_decoder_is_recorded(made: Path, tmp_path: Path) -> None:
    for name, decoder in (("from-the-middle.mp4", f"PyAV {av.__version__}, libavcodec "), ("animated.webp", "Pillow ")):
        run("ingest", recorded(made, name), "-o", tmp_path / "film.v2lora", "--force", *MAKE)
        assert load_label(tmp_path / "film.v2lora").record["compute"]["decoder"].startswith(decoder)


def test_an_adapter_of_an_older_version_is_looked_at_anew(made: Path, tmp_path: Path) -> None:
    """It is up to date where the file is read as it was then, and not where its frames were taken otherwise."""
    from dataclasses import replace

    from v2l.adapter import load, save

    for name, current in (("from-the-middle.mp4", True), ("screen.mkv", False)):
        path, output = recorded(made, name), tmp_path / f"{name}.v2lora"
        run("ingest", path, "-o", output, *MAKE)
        adapter = load(output)
        older = {**adapter.record, "compute": {k: v for k, v in adapter.record["compute"].items() if k != "decoder"},
                 "sources": [{k: v for k, v in adapter.sources[0].items() if k != "spacing"}]}
        save(replace(adapter, record=older), output)
        assert documents(run("ingest", path, "-o", output, "--json", *MAKE))[0]["skipped"] is current


def test_an_adapter_of_what_begins_later_is_up_to_date(made: Path, tmp_path: Path) -> None:
    path, output = recorded(made, "after-sound.mp4"), tmp_path / "film.v2lora"
    skipped = [documents(run("ingest", path, "-o", output, "--json", *MAKE))[0]["skipped"] for _ in range(2)]
    assert skipped == [False, True]


def test_scenes_are_looked_for_across_a_jump_of_the_clock(made: Path) -> None:
    track = read_track(recorded(made, "cat.ts"))
    assert [index for index, _ in thumbnails(track, 0, 60, (32, 18))] == list(range(60))
    assert [round(time * 25) for time in track.times] == list(range(60))


# -- whole or not ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragments(made: Path) -> list[bytes]:
    """The head of a fragmented mp4, and its fragments in pairs."""
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    options = {"g": "12", "x264-params": "scenecut=0"}
    parts = boxes(write(made / "fragments.mp4", options=options, container=flags).read_bytes())
    return [box for kind, box in parts if kind in (b"ftyp", b"moov", b"moof", b"mdat")]


def test_a_fragment_that_breaks_off_is_told(fragments: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "piece.mp4"
    path.write_bytes(b"".join(fragments[:2] + fragments[4:8]))
    assert open_clip(path, ALL).info.frames == 24
    for last in (fragments[8][:50], fragments[8] + fragments[9][:50]):
        path.write_bytes(b"".join(fragments[:2] + fragments[4:8]) + last)
        with pytest.raises(VideoError, match="truncated"):
            open_clip(path, ALL)


def test_fragments_that_are_missing_are_told_by_the_index_before_them(tmp_path: Path) -> None:
    """A piece from the middle still has the index of the whole, and misses nothing."""
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof+global_sidx"}
    whole = write(tmp_path / "whole.mp4", options={"g": "12", "x264-params": "scenecut=0"}, container=flags)
    parts = [box for _, box in boxes(whole.read_bytes())]
    at = [i for i, box in enumerate(parts) if box[4:8] == b"moof"]
    path = tmp_path / "piece.mp4"
    for kept, frames in ((parts[: at[4]], 0), (parts[: at[0]] + parts[at[1] : at[3]], 24), (parts, 60)):
        path.write_bytes(b"".join(kept))
        with nullcontext() if frames else pytest.raises(VideoError, match=r"truncated: 48 of about [56]\d frames"):
            assert open_clip(path, ALL).info.frames == frames


def test_a_flash_film_tells_its_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.swf", "flv", options={"b": "1M"})
    content = path.read_bytes()
    assert (open_clip(path, ALL).info.frames, open_clip(path, ALL).warnings) == (60, [])
    path.write_bytes(content * 2)
    assert "holds films put one behind the other, which FFmpeg mixes up" in open_clip(path, ALL).warnings[0]
    path.write_bytes(content[: len(content) * 3 // 5])
    with pytest.raises(VideoError, match="truncated"):
        open_clip(path, ALL)
    path.write_bytes(content[:4] + (100 << 20).to_bytes(4, "little") + content[8:])  # as written into a pipe
    assert open_clip(path, ALL).info.frames == 60


def test_the_last_picture_of_a_flash_video_stays_as_long_as_its_header_says(tmp_path: Path) -> None:
    path = write(tmp_path / "slides.flv", "flv", frames=3, stamps_ms=[0, 2000, 9000])
    assert open_clip(path, ALL).info.duration == pytest.approx(9.04, abs=0.05)


def test_a_segment_without_its_head_and_the_head_alone_are_told(fragments: list[bytes], tmp_path: Path) -> None:
    """And the way out that is told works, for DASH's mp4 and for its webm."""
    webm = write(tmp_path / "whole.webm", "libvpx", frames=9, container={"live": "1"}).read_bytes()
    cluster = webm.index(b"\x1f\x43\xb6\x75")
    for ending, head, segment in (("mp4", b"".join(fragments[:2]), b"".join(fragments[4:6])),
                                  ("webm", webm[:cluster], webm[cluster:])):
        path = tmp_path / f"film.{ending}"
        path.write_bytes(segment)
        with pytest.raises(VideoError, match=rf"is a segment of a stream.*\(cat init\.{ending} .*film\.{ending} > "):
            open_clip(path, ALL)
        path.write_bytes(head)
        with pytest.raises(VideoError, match="is the head of a stream"):
            open_clip(path, ALL)
        path.write_bytes(head + segment)
        assert open_clip(path, ALL).info.frames in (9, 12)


def test_a_recorder_that_was_stopped_leaves_what_it_has(tmp_path: Path) -> None:
    content = write(tmp_path / "live.mkv", container={"live": "1"}).read_bytes()
    path = tmp_path / "stopped.mkv"
    path.write_bytes(content[: len(content) * 2 // 3])
    clip = open_clip(path, ALL)
    assert 20 < clip.info.frames < 60 and "breaks off" in clip.warnings[0]
    assert [number(frame.image) for frame in clip.frames()] == list(range(clip.info.frames))


def test_an_avi_that_was_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    """Its header says 2^30 pictures, and that its lists are of 2^32 - 1 bytes."""
    pipe, path = Pipe(), tmp_path / "pipe.avi"
    with av.open(pipe, "w", format="avi") as output, av.open(str(write(tmp_path / "a.avi", "mpeg4"))) as source:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert pipe.content[4:8] == b"\xff" * 4 and b"idx1" not in pipe.content
    path.write_bytes(pipe.content)
    clip = open_clip(path, ALL)
    assert (clip.info.frames, clip.info.duration, clip.warnings) == (60, pytest.approx(2.4), [])
    path.write_bytes(pipe.content[: len(pipe.content) * 2 // 3])
    clip = open_clip(path, ALL)
    assert 20 < clip.info.frames < 60 and "breaks off before its end" in clip.warnings[0]


def test_a_flash_video_that_is_cut_between_two_pictures_is_told_by_its_header(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.flv").read_bytes()
    ends = [13]
    while ends[-1] < len(content):
        ends.append(ends[-1] + int.from_bytes(content[ends[-1] + 1 : ends[-1] + 4], "big") + 15)
    (tmp_path / "cut.flv").write_bytes(content[: ends[len(ends) * 3 // 10]])
    with pytest.raises(VideoError, match=r"truncated: 17 of about [56]\d frames"):
        open_clip(tmp_path / "cut.flv", ALL)


def test_a_raw_stream_that_is_cut_says_at_which_end(tmp_path: Path) -> None:
    whole, path = write(tmp_path / "whole.hevc", "libx265", options={
        "preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:bframes=3:log-level=none"}), tmp_path / "a.hevc"
    content = whole.read_bytes()
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    begun, broken = "begins in the middle of a film, whose key frame is missing; 7", "breaks off within a picture"
    for part, frames, words in ((content[places[5] :], 48, begun), (content[: places[30] + 12], 30, broken),
                                (content[: places[6] + 11], 6, broken), (content, 60, "")):
        path.write_bytes(part)
        clip = open_clip(path, ALL)
        assert clip.info.frames == frames and bool(clip.warnings) == bool(words)
        assert all(words in note for note in clip.warnings)


def test_what_breaks_off_where_nothing_is_lost_is_whole(tmp_path: Path) -> None:
    """The index at the end of a Matroska file, and of an AVI, is no picture."""
    for name, codec, index in (("a.mkv", "libx264", b"\x1c\x53\xbb\x6b"), ("a.avi", "mpeg4", b"idx1")):
        content = write(tmp_path / name, codec).read_bytes()
        (tmp_path / name).write_bytes(content[: content.rindex(index) + 6])
        assert open_clip(tmp_path / name, ALL).info.frames == 60


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["animated.webp", "animated.apng", "from-the-middle.mp4"])
def test_what_is_cut_off_is_refused(made: Path, tmp_path: Path, name: str, kept: float) -> None:
    content = recorded(made, name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        list(open_clip(tmp_path / name, ALL).frames())


def test_a_picture_that_stays_for_long_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "slides.mkv", frames=3, stamps_ms=[0, 1000, 3_601_000], options={"bf": "0"})
    (note,) = open_clip(path, ALL).warnings
    assert "shows one picture for 60 min, from 0:01 on" in note or "shows one picture for 1" in note


# -- formats that say in pages, packets or frames what there should be ------------------------------------------------

ENDING = [("a.ogv", "libvpx", "yuv420p"), ("a.wmv", "wmv2", "yuv420p"), ("a.ivf", "libvpx", "yuv420p"),
          ("a.apng", "apng", "rgb24"), ("a.y4m", "wrapped_avframe", "yuv420p"), ("a.mxf", "mpeg2video", "yuv420p"),
          ("a.nut", "mpeg4", "yuv420p")]


def ending(folder: Path, name: str, codec: str, pixels: str) -> bytes:
    if not (folder / name).exists():
        options = {"libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
                   "wmv2": {"b": "8M", "qmin": "1", "g": "1"}}.get(codec, {})
        write(folder / name, codec, pixels=pixels, options=options)
    return (folder / name).read_bytes()


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endings")


@pytest.mark.parametrize(("name", "codec", "pixels"), ENDING, ids=[name for name, *_ in ENDING])
def test_what_is_there_is_whole_and_what_breaks_off_is_told(
    endings: Path, tmp_path: Path, name: str, codec: str, pixels: str
) -> None:
    """Refused where the header promises more; what promises nothing may be what a stopped recorder left."""
    content = ending(endings, name, codec, pixels)
    path = tmp_path / name
    for more in (b"", b"" if name in ("a.y4m", "a.nut") else bytes(3000)):
        path.write_bytes(content + more)
        clip = open_clip(path, ALL)
        assert (clip.info.frames, clip.warnings) == (60, [])
    for kept in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(len(content) * kept)])
        if name in ("a.ogv", "a.y4m", "a.nut"):
            (note,) = open_clip(path, ALL).warnings
            assert "a." in note and "breaks off before its end" in note
        else:
            with pytest.raises(VideoError, match=r"truncated: \d+ of about [5-7][0-9] frames"):
                open_clip(path, ALL)


def test_an_ogg_that_ends_between_pages_is_told(endings: Path, tmp_path: Path) -> None:
    content = ending(endings, *ENDING[0])
    (tmp_path / "cut.ogv").write_bytes(content[: content.rindex(b"OggS")])
    assert "breaks off" in open_clip(tmp_path / "cut.ogv", ALL).warnings[0]


def test_theora_films_put_together_are_one(tmp_path: Path) -> None:
    """Their decoder takes the second film's headers; that of many pictures at a time refuses them."""
    content = (Path(__file__).parent / "support" / "theora.ogv").read_bytes()
    (tmp_path / "cat.ogv").write_bytes(content * 3)
    clip = open_clip(tmp_path / "cat.ogv", ALL)
    frames = list(clip.frames())
    assert [reading(frame.image) for frame in frames] == [*range(8)] * 3
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(24)])
    (note,) = clip.warnings
    assert "has a clock that jumps 2 times" in note


def test_ogg_films_that_ffmpeg_does_not_read_are_told(tmp_path: Path) -> None:
    """It takes no second film where there is sound beside the pictures."""
    path = tmp_path / "film.ogv"
    parts = []
    for _ in range(2):
        with av.open(str(path), "w") as output:
            stream: Any = output.add_stream("libvpx", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
            (stream.width, stream.height), stream.pix_fmt = (96, 48), "yuv420p"
            sound: Any = output.add_stream("libopus", rate=48000, layout="mono")
            for i in range(5):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, 96, 48), format="rgb24")))
            output.mux(stream.encode(None))
            silence(output, sound, 0.3)
        parts.append(path.read_bytes())
    assert open_clip(path, ALL).warnings == []
    path.write_bytes(b"".join(parts))
    clip = open_clip(path, ALL)
    assert [reading(frame.image) for frame in clip.frames()] == list(range(5))
    (note,) = clip.warnings
    assert "FFmpeg reads only the first where there is sound" in note


@pytest.mark.parametrize("name", ["a.ivf", "a.wmv", "a.y4m"])
def test_films_of_which_ffmpeg_reads_only_the_first_are_told(endings: Path, tmp_path: Path, name: str) -> None:
    content = ending(endings, *next(known for known in ENDING if known[0] == name))
    (tmp_path / name).write_bytes(content * 2)
    clip = open_clip(tmp_path / name, ALL)
    (note,) = clip.warnings
    assert clip.info.frames == 60 and "holds films put one behind the other" in note


def test_packets_of_asf_that_are_missing_are_told_by_the_header(endings: Path, tmp_path: Path) -> None:
    content = ending(endings, *ENDING[1])
    data = content.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50
    (tmp_path / "cut.wmv").write_bytes(content[: data + 3200 * ((len(content) - data) // 3200 // 2)])
    with pytest.raises(VideoError, match="truncated"):
        open_clip(tmp_path / "cut.wmv", ALL)


@pytest.mark.parametrize("count", [0, 0xFFFFFFFF])
def test_an_ivf_whose_length_was_never_filled_in_is_whole(endings: Path, tmp_path: Path, count: int) -> None:
    content = bytearray(ending(endings, *ENDING[2]))
    content[24:28] = count.to_bytes(4, "little")
    path = tmp_path / "live.ivf"
    path.write_bytes(content)
    assert open_clip(path, ALL).warnings == []
    path.write_bytes(content[: len(content) * 2 // 3])
    clip = open_clip(path, ALL)
    assert 20 < clip.info.frames < 60 and "breaks off" in clip.warnings[0]


def test_frames_of_an_ivf_that_are_missing_are_told_by_its_header(endings: Path, tmp_path: Path) -> None:
    content, at = ending(endings, *ENDING[2]), 32
    for _ in range(40):
        at += 12 + int.from_bytes(content[at : at + 4], "little")
    (tmp_path / "cut.ivf").write_bytes(content[:at])
    with pytest.raises(VideoError, match="truncated: 40 of about 60 frames"):
        open_clip(tmp_path / "cut.ivf", ALL)


def test_an_animated_png_of_which_only_the_end_is_missing_is_whole(endings: Path, tmp_path: Path) -> None:
    content = ending(endings, *ENDING[3])
    (tmp_path / "end.apng").write_bytes(content[:-12])
    assert open_clip(tmp_path / "end.apng", ALL).warnings == []
    (tmp_path / "cut.apng").write_bytes(content[: content.rindex(b"fcTL") - 4])
    with pytest.raises(VideoError, match="truncated: 59 of about 60 frames"):
        open_clip(tmp_path / "cut.apng", ALL)


def test_a_tape_that_breaks_off_in_a_frame_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "tape.dv", "dvvideo", frames=4, size=(720, 576))
    assert (open_clip(path, ALL).info.frames, open_clip(path, ALL).warnings) == (4, [])
    path.write_bytes(path.read_bytes()[:-137_000])
    assert "breaks off" in open_clip(path, ALL).warnings[0]


def test_a_stream_of_pictures_with_its_last_mark_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cam.mpjpeg"
    with path.open("wb") as file:
        file.write(b"--ffmpeg\r\n")
        for i in range(10):
            image = BytesIO()
            Image.fromarray(picture(i, 160, 96)).save(image, "JPEG")
            file.write(b"Content-type: image/jpeg\r\nContent-length: %d\r\n\r\n" % len(image.getvalue()))
            file.write(image.getvalue() + b"\r\n--ffmpeg\r\n")
    clip = open_clip(path, ALL)
    assert (clip.info.frames, clip.warnings) == (10, [])


# -- pictures in a row -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "cam.mjpg"), ("JPEG", "cam.mjpeg"), ("PNG", "all.png"),
                                            ("BMP", "all.bmp")])
def test_pictures_in_a_row_are_a_video_and_one_is_not(tmp_path: Path, kind: str, name: str) -> None:
    images = [Image.fromarray(picture(i, 160, 96)) for i in range(12)]
    path = tmp_path / name
    with path.open("wb") as file:
        for image in images:
            image.save(file, kind)
    assert [reading(frame.image) for frame in open_clip(path, ALL).frames()] == list(range(12))
    images[0].save(path, kind)
    with pytest.raises(VideoError, match="is a picture, not a video"):
        open_clip(path, ALL)


def test_a_photo_that_holds_other_pictures_is_no_video(tmp_path: Path) -> None:
    images = [Image.fromarray(picture(i, 160, 96)) for i in range(2)]
    images[0].save(tmp_path / "listed.mpo", save_all=True, append_images=images[1:])
    (tmp_path / "photo.mjpg").write_bytes((tmp_path / "listed.mpo").read_bytes())
    with (tmp_path / "preview.mjpg").open("wb") as file:
        images[0].save(file, "JPEG")
        images[1].resize((80, 48)).save(file, "JPEG")
    for name in ("photo.mjpg", "preview.mjpg"):
        with pytest.raises(VideoError, match="is a picture, not a video"):
            open_clip(tmp_path / name, ALL)


def test_what_h264_cuts_off_at_the_left_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "whole.mp4", size=(160, 96), frames=2, options={"crf": "1", "bf": "0"})
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as output:
        given: Any = source.streams.video[0]
        stream = output.add_stream_from_template(given)
        crop = av.bitstream.BitStreamFilterContext("h264_metadata=crop_left=40", given, stream)
        for packet in source.demux(given):
            for cropped in crop.filter(packet if packet.size else None):
                cropped.stream = stream
                output.mux(cropped)
    clip = open_clip(tmp_path / "cut.mp4", ALL)
    whole = next(iter(open_clip(tmp_path / "whole.mp4", ALL).frames())).image
    assert (clip.info.width, clip.info.height) == (120, 96)
    assert np.abs(next(iter(clip.frames())).image.astype(int) - whole[:, 40:]).max() <= 2


# -- folders ---------------------------------------------------------------------------------------------------------


def test_what_a_scan_passes_over_is_told(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    for name in ("a.mp4", "b.hevc", "c.3g2", "d.M2T", "e.insv", "notes.txt", "cover.jpg", "README"):
        (folder / name).write_bytes(b"x")
    (folder / "app.ts").write_text("export const answer: number = 42;\n" * 200)
    (folder / "go.mod").write_text("module example\n")
    (folder / "film.ts").write_bytes(recorded(made, "cat.ts").read_bytes()[:2000])
    Image.new("RGB", (8, 8)).save(folder / "still.webp")
    (folder / "moving.webp").write_bytes(recorded(made, "animated.webp").read_bytes())
    found = find_videos(folder)
    assert [path.name for path in found.files] == [
        "a.mp4", "b.hevc", "c.3g2", "d.M2T", "e.insv", "film.ts", "moving.webp"]
    (note,) = found.notes("videos")
    assert note.startswith("6 files passed over as no videos") and all(
        words in note for words in ("1 .ts", "1 .mod", "1 .txt", "1 without ending", "1 .webp"))


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_and_second_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.mp4").touch()
    (tmp_path / "talks" / "a.mp4").touch()
    (tmp_path / "talks" / "b.mp4").symlink_to("a.mp4")
    (tmp_path / "talks" / "more").symlink_to("../more")
    found = find_videos(tmp_path / "talks")
    assert found.files == [tmp_path / "talks" / "a.mp4"]
    first, second = found.notes("videos")
    assert "talks/more is a link to a folder" in first and "b.mp4 is another name of" in second


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may enter everything")
def test_a_folder_that_may_not_be_entered_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "closed").mkdir(mode=0)
    assert "closed" in str(find_videos(tmp_path).closed[0])
    with pytest.raises(VideoError, match="may not be entered"):
        find_videos(tmp_path / "closed")


def test_what_a_folder_holds_besides_is_said_by_the_command(made: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(recorded(made, "from-the-middle.mp4").read_bytes())
    (tmp_path / "notes.txt").touch()
    result = run("ingest", tmp_path, *MAKE)
    assert "1 file passed over as no videos: 1 .txt." in result.stderr
    again = run("ingest", tmp_path / "film.mp4", tmp_path / "film.mp4", *MAKE)
    assert len(again.stdout.splitlines()) == 1


def test_field_pictures_later_in_a_film_are_found(tmp_path: Path) -> None:
    """An encoder takes frames or fields as the picture moves."""
    from support.paff import fields

    luma = [np.ascontiguousarray(picture(i, 160, 96) @ (0.299, 0.587, 0.114)).astype(np.uint8) for i in range(50)]
    coded = fields(luma)
    raw = tmp_path / "raw.h264"
    raw.write_bytes(b"".join(content for content, _ in coded))
    with av.open(str(raw)) as source, av.open(str(tmp_path / "mixed.mkv"), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for i in range(50):
            pair = [(coded[2 * i][0] + coded[2 * i + 1][0], 2 * i)] if i < 25 else [(coded[2 * i + j][0], 2 * i + j)
                                                                                     for j in (0, 1)]
            for content, at in pair:
                packet = av.Packet(content)
                packet.pts = packet.dts = at
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 50), stream, i % 25 == 0
                output.mux(packet)
    clip = open_clip(tmp_path / "mixed.mkv", ALL)
    assert (clip.info.frames, clip.info.fps) == (50, 25)
    assert [reading(frame.image, colour=False) for frame in clip.frames()] == list(range(50))


@pytest.mark.parametrize(("content", "told"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a git-lfs pointer"),
    (b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "is a web page"),
    (b"\x1f\x8b\x08" + bytes(99), "gzip"),
    (b"PK\x03\x04" + bytes(99), "is a zip archive"), (b"a,b\n1,2\n" * 40, "is text"),
    (bytes(100_000), "holds nothing but zeros"), ("\ufeff<!DOCTYPE html><p>café".encode(), "is a web page"),
    (b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n", "holds only subtitles"),
    (b'<?xml version="1.0"?>\n<playlist version="1"><trackList/></playlist>\n', "is a playlist"),
    ('#EXTM3U\n#EXTINF:2,\nnone.ts\n'.encode("utf-16"), r"is a playlist.*\(ffmpeg -i .*film.mp4 -c copy film.mp4\)"),
    (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"/>\n', "is a playlist.*ffmpeg")])
def test_what_a_file_is_that_is_no_video_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=rf"film\.mp4 .*{told}"):
        open_clip(tmp_path / "film.mp4", ALL)


@pytest.mark.parametrize(("content", "told"), [(b"", "it is empty"), (b"\0\0\0\x20ftypisom" * 9, "another kind")])
def test_what_is_asked_and_is_no_adapter_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "film.v2lora").write_bytes(content)
    with pytest.raises(V2LError, match=told):
        load_label(tmp_path / "film.v2lora")


def test_a_video_with_the_name_of_an_adapter_is_told(tmp_path: Path) -> None:
    (tmp_path / "film.v2lora").write_bytes(b"\0\0\0\x20ftypisom" * 9)
    result = run("ingest", tmp_path / "film.v2lora", status=1)
    assert "film.v2lora has the name of an adapter and holds none" in result.stderr


# -- at the door, and where files are written --------------------------------------------------------------------------


@pytest.mark.parametrize("more", [("--fps", "1e300"), ("--frames", "9" * 23), ("--resolution", "9" * 23)])
def test_numbers_that_no_video_has_are_refused_at_the_door(tmp_path: Path, more: tuple[str, str]) -> None:
    result = run("ingest", tmp_path / "film.mp4", *more, status=2)
    assert f"{more[0]}" in result.stderr and "is more than" in result.stderr


@pytest.mark.parametrize(("code", "written"), [(errno.EINVAL, True), (errno.ENOSYS, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_tell_when_bytes_are_on_the_disk_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, written: bool
) -> None:
    def refused(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refused)
    with nullcontext() if written else pytest.raises(OutputError), replacing(tmp_path / "a") as file:
        file.write(b"bytes")
    assert (tmp_path / "a").exists() is written
