"""The video room: which frames, from any container, and one clear sentence for whatever is not a video."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from support.videos import number, numbered, silence, write

from v2l.config import Sampling
from v2l.errors import UsageError, V2LError, VideoError
from v2l.video import container
from v2l.video import decode as decoding
from v2l.video.clip import frame_indices, open_clip
from v2l.video.folder import find_videos
from v2l.video.track import Track, read_track

GOLDEN = json.loads((Path(__file__).parent / "reference" / "golden.json").read_text())["cases"]
B = {"g": "12", "bf": "3", "preset": "veryfast"}
X265 = {"preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:bframes=3:log-level=none"}
VP9 = {"g": "12", "deadline": "realtime", "cpu-used": "8", "threads": "1"}
JERKY = [250 * (i // 3 + (i % 3 > 0)) + 33 * (i // 3 + max(0, i % 3 - 1)) + 7 * (i // 3) for i in range(240)]
"""Milliseconds: bursts of frames with pauses between."""

# name: (codec, what to write)
FILES = {
    "plain.mp4": ("libx264", {"options": B}),
    "plain.mkv": ("libx264", {"options": B}),
    "plain.mov": ("libx264", {"options": B}),
    "plain.ts": ("libx264", {"options": B}),
    "plain.flv": ("libx264", {"options": B}),
    "raw.h264": ("libx264", {"options": B}),
    "fragments.mp4": ("libx264", {"options": B, "container": {"movflags": "frag_keyframe+empty_moov"}}),
    "hevc.mp4": ("libx265", {"options": X265}),
    "ten-bit.mkv": ("libx265", {"options": X265, "pixels": "yuv420p10le"}),
    "vp9.webm": ("libvpx-vp9", {"options": VP9}),
    "vp8.webm": ("libvpx", {"options": {"deadline": "realtime", "cpu-used": "8", "threads": "1"}}),
    "av1.mp4": ("libsvtav1", {"options": {"preset": "12", "crf": "10"}}),
    "av1.mkv": ("libsvtav1", {"options": {"preset": "12", "crf": "10"}}),
    "mpeg4.avi": ("mpeg4", {"options": {"bf": "2", "b": "2M"}}),
    "mpeg4.mp4": ("mpeg4", {"options": {"b": "2M"}}),
    "motion.avi": ("mjpeg", {"pixels": "yuvj420p"}),
    "mpeg2.ts": ("mpeg2video", {}),
    "mpeg2.mpg": ("mpeg2video", {}),
    "interlaced.mp4": ("libx264", {"options": {"x264-params": "interlaced=1"}}),
    "interlaced.ts": ("mpeg2video", {"options": {"flags": "+ildct+ilme", "b": "2M"}}),
    "moving.gif": ("gif", {"pixels": "rgb8", "rate": 10}),
    "odd.mkv": ("ffv1", {"pixels": "bgr0", "size": (97, 65)}),
    "odd.mp4": ("libx264", {"pixels": "yuv444p", "size": (97, 65)}),
    "jerky.mkv": ("libx264", {"stamps_ms": JERKY}),
    "jerky.mp4": ("libx264", {"stamps_ms": JERKY}),
    "jerky.avi": ("mpeg4", {"stamps_ms": JERKY}),
    "long-sound.mkv": ("libx264", {"audio_s": 8}),
    "short-sound.mp4": ("libx264", {"audio_s": 1}),
    "name with % and: %02d.mp4": ("libx264", {}),
    "-leading-dash.mp4": ("libx264", {}),
}
ALL = Sampling(frames=1000, fps=1000, skip=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where each file of FILES is written once, when it is first asked for."""
    return tmp_path_factory.mktemp("videos")


def make(made: Path, name: str) -> Path:
    path = made / name
    if not path.exists():
        codec, options = FILES[name]
        write(path, codec, **options)
    return path


def seen(path: Path, sampling: Sampling = ALL) -> list[int]:
    """The numbers read from the pictures of a clip."""
    clip = open_clip(path, sampling)
    frames = list(clip.frames())
    assert [frame.index for frame in frames] == clip.indices
    assert all(frame.image.shape == (clip.info.height, clip.info.width, 3) for frame in frames)
    return [number(frame.image) for frame in frames]


# -- which frames ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["tag"])
def test_the_reference_frames(case: dict, reference: Path) -> None:
    clip = open_clip(reference / "videos" / case["video"], Sampling(frames=case["max_frames"]))
    assert clip.indices == case["frame_indices"]
    assert (clip.info.frames, clip.info.fps) == (case["total_num_frames"], case["fps"])
    assert clip.info.duration == case["duration"]
    assert clip.warnings == []


def test_sampling_by_hand() -> None:
    assert frame_indices(125, 25, Sampling()) == [0, 31, 62, 93, 124]  # 5 s at 1 a second
    assert frame_indices(10, 30, Sampling()) == [0]  # a third of a second still gives one
    assert frame_indices(1, 25, Sampling()) == [0]
    assert frame_indices(3, 1, Sampling(frames=9, fps=9)) == [0, 1, 2]  # no frame twice
    assert frame_indices(600, 30, Sampling(skip=0))[-1] == 599
    assert frame_indices(600, 30, Sampling(skip=3))[0] == 90  # 14 s are left, more than 12 frames cover
    assert frame_indices(600, 30, Sampling(skip=5))[0] == 0  # 10 s are not
    assert len(frame_indices(2_000_000, 30, Sampling(frames=64))) == 64


def test_a_window_is_a_clip_of_its_own_with_absolute_indices() -> None:
    assert frame_indices(500, 25, Sampling(start=4, end=9)) == [100 + i for i in frame_indices(125, 25, Sampling())]
    assert frame_indices(500, 25, Sampling(start=15)) == [375 + i for i in frame_indices(125, 25, Sampling())]
    assert frame_indices(500, 25, Sampling(end=5)) == frame_indices(125, 25, Sampling())
    assert frame_indices(500, 25, Sampling(end=1000)) == frame_indices(500, 25, Sampling())
    assert frame_indices(500, 25, Sampling(start=1, end=1.01)) == [25]


@pytest.mark.parametrize(("sampling", "kind", "words"), [
    (Sampling(start=20), VideoError, "0:20 long"),
    (Sampling(start=1.001, end=1.002), VideoError, "No frame"),
    (Sampling(start=5, end=5), UsageError, "after the start"),
    (Sampling(start=5, end=2), UsageError, "after the start"),
    (Sampling(end=0), UsageError, "after the start"),
    (Sampling(start=-1), UsageError, "0 seconds or later"),
    (Sampling(end=float("nan")), UsageError, "0 seconds or later"),
    (Sampling(frames=0), UsageError, "At least 1 frame"),
    (Sampling(fps=0), UsageError, "above 0"),
    (Sampling(fps=float("inf")), UsageError, "above 0"),
    (Sampling(skip=-1), UsageError, "0 or more"),
])
def test_settings_that_make_no_sense(sampling: Sampling, kind: type[V2LError], words: str) -> None:
    with pytest.raises(kind, match=words):
        frame_indices(500, 25, sampling)


@pytest.mark.parametrize("name", FILES)
def test_every_frame_of_every_kind_of_file(made: Path, name: str) -> None:
    assert seen(make(made, name)) == list(range(60))


@pytest.mark.parametrize("name", FILES)
def test_count_and_rate_are_opencvs_where_those_are_true(made: Path, name: str) -> None:
    info = open_clip(make(made, name), ALL).info
    capture = cv2.VideoCapture(str(make(made, name)), cv2.CAP_FFMPEG)
    said = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    assert (info.width, info.height) == (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    assert info.frames == 60
    if name in ("jerky.mkv", "jerky.avi"):  # hundreds of frames, at 25 or 1000 a second
        assert said[0] > 90
        assert info.duration == pytest.approx((JERKY[59] + 40) / 1000, rel=0.03)
    elif name in ("long-sound.mkv", "plain.flv", "mpeg2.mpg", "raw.h264"):  # longer sound, no count, ...
        assert (info.frames, info.fps) == (60, said[1])
    else:
        assert (info.frames, info.fps) == said


def test_times_are_real_where_the_rate_varies(made: Path) -> None:
    clip = open_clip(make(made, "jerky.mkv"), Sampling(frames=60, fps=60, skip=0, start=1.0, end=2.0))
    frames = list(clip.frames())
    inside = [i for i in range(60) if 1000 <= JERKY[i] < 2000]
    assert [number(f.image) for f in frames] == [f.index for f in frames] == inside
    assert [f.time for f in frames] == pytest.approx([JERKY[i] / 1000 for i in inside])
    assert [f.timestamp for f in frames] == [i / clip.info.fps for i in inside]


def test_a_window_of_a_file(made: Path) -> None:
    path = make(made, "plain.mp4")
    assert seen(path, Sampling(frames=5, fps=5, start=1, end=2)) == [25, 31, 37, 43, 49]
    with pytest.raises(VideoError, match=r"plain\.mp4: The video is 0:02\.4 long"):
        open_clip(path, Sampling(start=2.4))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("name", ["few.mp4", "few.gif", "few.mkv"])
def test_one_and_two_frames(tmp_path: Path, name: str, frames: int) -> None:
    codec, pixels = ("gif", "rgb8") if name.endswith("gif") else ("libx264", "yuv420p")
    path = write(tmp_path / name, codec, frames=frames, pixels=pixels, rate=10)
    assert seen(path) == list(range(frames))
    assert open_clip(path, ALL).info.fps == 10


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="PyAV cannot write it")
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_as_a_phone_says(tmp_path: Path, rotation: int) -> None:
    upright = write(tmp_path / "upright.mp4", frames=4)
    path = remux(upright, tmp_path / "phone.mp4", rotation=rotation)
    clip = open_clip(path, ALL)
    assert (clip.info.width, clip.info.height) == ((96, 64) if rotation == 180 else (64, 96))
    plain = [frame.image for frame in open_clip(upright, ALL).frames()]
    for frame, by_opencv in zip(clip.frames(), opencv(path), strict=True):
        assert frame.image.shape == (clip.info.height, clip.info.width, 3)
        assert np.array_equal(frame.image, by_opencv)
        turned = [k for k in range(4) if np.array_equal(np.rot90(plain[frame.index], k), frame.image)]
        assert turned == [rotation // 90]


# -- colours, and jumps -----------------------------------------------------------------------------------------------

FAR = {
    "b-frames.mp4": ("libx264", {"options": B}),
    "b-frames.mkv": ("libx264", {"options": B}),
    "open.mp4": ("libx264", {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"}}),
    "refresh.mkv": ("libx264", {"options": {"x264-params": "intra-refresh=1:keyint=12"}}),
    "hevc.mp4": ("libx265", {"options": X265}),
    "vp9.webm": ("libvpx-vp9", {"options": VP9}),
    "mpeg4.mp4": ("mpeg4", {"options": {"g": "12", "bf": "2", "b": "1M"}}),
    "jerky.mkv": ("libx264", {"options": B, "stamps_ms": JERKY}),
    "jerky.mp4": ("libx264", {"options": B, "stamps_ms": JERKY}),
    "av1.mp4": ("libsvtav1", {"options": {"preset": "12", "crf": "10", "g": "12"}}),
}


@pytest.mark.parametrize("name", FAR)
def test_a_jump_gives_the_very_frame_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(decoding, "LEAP", 1)
    codec, options = FAR[name]
    track = read_track(write(tmp_path / name, codec, frames=240, size=(64, 64), **options))
    reader = decoding.FrameReader(track, False)
    straight = [reader.read(i) for i in range(240)]
    reader.close()
    assert [number(image) for image in straight] == list(range(240))
    missed = 0
    for i in range(1, 240, 6):
        reader = decoding.FrameReader(track, True)
        try:
            assert np.array_equal(reader.read(i), straight[i])
        except decoding.Missed:
            missed += 1
        reader.close()
    assert reader.jumped
    if name != "refresh.mkv":  # which has no frame to start cleanly at
        assert missed == 0
    indices = [3, 120, 121, 239]
    decoder = decoding.Decoder(track)
    images = dict(decoder.images(indices))
    assert all(np.array_equal(images[i], straight[i]) for i in indices)
    assert not decoder.damaged
    decoder.close()


def opencv(path: Path) -> Iterator[np.ndarray]:
    """Frames as OpenCV decodes them, as the released code does."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    while True:
        there, image = capture.read()
        if not there:
            return
        yield image[..., ::-1]


@pytest.mark.parametrize("name", ["wide.mp4", "plain.ts", "vp8.webm", "vp9.webm", "mpeg4.avi", "hevc.mp4", "motion.avi",
                                  "ten-bit.mkv", "odd.mp4", "moving.gif"])
def test_colours_are_opencvs_to_the_bit(made: Path, reference: Path, name: str) -> None:
    if name == "ten-bit.mkv" and int(av.__version__.split(".")[0]) < 18:
        pytest.skip("its FFmpeg rounds otherwise than that of OpenCV 5")
    path = reference / "videos" / name if name == "wide.mp4" else make(made, name)
    sampling = replace(ALL, end=1) if name == "wide.mp4" else ALL
    pictures = opencv(path)
    assert all(np.array_equal(frame.image, next(pictures)) for frame in open_clip(path, sampling).frames())


def remux(source: Path, path: Path, *more: Path, shift: int = 0, hide: int = -1, rotation: int = 0) -> Path:
    """Copies packets, those of further files after the first one's; `shift` in frames at 25 a second. Packet `hide`
    loses VP8's "show this frame"."""
    with av.open(str(source)) as first, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(first.streams.video[0])
        if rotation:
            stream.set_display_rotation(rotation)
        for part in (source, *more):
            with av.open(str(part)) as container:
                track = container.streams.video[0]
                frame = round(1 / 25 / track.time_base)
                for place, packet in enumerate(p for p in container.demux(track) if p.size):
                    content = bytearray(bytes(packet))
                    if place == hide:
                        content[0] &= ~0x10
                    copy = av.Packet(bytes(content))
                    copy.pts, copy.dts = packet.pts + shift * frame, packet.dts + shift * frame
                    copy.time_base, copy.is_keyframe, copy.stream = track.time_base, packet.is_keyframe, stream
                    output.mux(copy)
            shift += 60
    return path


def test_pictures_that_are_not_shown_do_not_count(made: Path, tmp_path: Path) -> None:
    path = remux(make(made, "vp8.webm"), tmp_path / "hidden.webm", hide=30)
    assert seen(path) == [i for i in range(60) if i != 30]


def test_what_an_edit_list_leaves_out_does_not_count(made: Path, tmp_path: Path) -> None:
    path = remux(make(made, "plain.mp4"), tmp_path / "trimmed.mp4", shift=-20)
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT) == 60
    numbers = seen(path)
    assert numbers == list(range(20, 20 + len(numbers)))
    assert len(numbers) in (39, 40)  # what the list says of the last frame is the muxer's own affair


def test_a_broadcast_cut_in_the_middle(made: Path, tmp_path: Path) -> None:
    content = make(made, "mpeg2.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(content[len(content) // 188 // 3 * 188 :])
    numbers = seen(path)
    assert numbers == list(range(60 - len(numbers), 60))
    assert len(numbers) > 30


def test_a_film_that_is_interlaced_in_part(made: Path, tmp_path: Path) -> None:
    write(tmp_path / "even.ts", "mpeg2video", options={"b": "2M"})
    path = remux(tmp_path / "even.ts", tmp_path / "mixed.mkv", make(made, "interlaced.ts"))
    assert seen(path) == [*range(60), *range(60)]
    assert seen(path, Sampling(frames=2, fps=9, skip=0)) == [0, 59]
    assert seen(path, Sampling(frames=3, fps=9, skip=0)) == [0, 59, 59]


def test_a_still_picture_shown_for_long(tmp_path: Path) -> None:
    path = tmp_path / "slide.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(60):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(7, 64, 64)).reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    assert seen(path) == [7] * 60


def test_a_count_a_little_too_high_is_no_error(made: Path) -> None:
    track = read_track(make(made, "plain.ts"))
    track = replace(track, times=array("d", [*track.times, 2.40, 2.44]))
    assert decoded(track, [0, 30, 61]) == [0, 30, 59]
    assert decoded(track, [59, 60, 61]) == [59]
    track = replace(track, times=array("d", [i / 25 for i in range(80)]))
    with pytest.raises(VideoError, match="60 of 80 frames could be decoded"):
        decoded(track, [0, 79])


def decoded(track: Track, indices: list[int]) -> list[int]:
    with closing(decoding.Decoder(track)) as decoder:
        return [index for index, _ in decoder.images(indices)]


# -- what is not a video ---------------------------------------------------------------------------------------------


def refused(path: Path, words: str) -> None:
    with pytest.raises(VideoError, match=words) as caught:
        list(open_clip(path, Sampling()).frames())
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("dear diary\n" * 100)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    write(tmp_path / "other.mp4", frames=2)
    Image.new("RGB", (64, 48)).save(tmp_path / "img_01.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "jpeg.mp4", format="jpeg")
    with av.open(str(tmp_path / "song.m4a"), "w") as output:
        silence(output, output.add_stream("aac", rate=8000, layout="mono"), 1)
    refused(tmp_path / "nowhere.mp4", "no such file")
    refused(tmp_path, "is a folder")
    refused(tmp_path / "empty.mp4", "is empty")
    refused(tmp_path / "text.mp4", "not a video")
    refused(tmp_path / "list.mp4", "playlist")
    refused(tmp_path / "img_01.png", "is a picture")
    refused(tmp_path / "jpeg.mp4", "is a picture")
    refused(tmp_path / "song.m4a", "only audio")
    for name in ("img_%02d.png", "0", "concat:a|b"):
        refused(Path(name), "no such file")
    with pytest.raises(VideoError, match="is an address"):
        open_clip(Path("rtsp://localhost/x"), Sampling())
    with pytest.raises(VideoError, match=r"file:///films/a%20b\.mp4 is an address; .* file: '/films/a b\.mp4'"):
        open_clip(Path("file:///films/a%20b.mp4"), Sampling())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    refused(tmp_path / "pipe.mp4", "not a regular file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "secret.mp4", frames=2)
    path.chmod(0)
    refused(path, "permissions")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", [
    "plain.mp4", "fast.mp4", "plain.mkv", "vp9.webm", "motion.avi", "moving.gif", "plain.flv",
])
def test_truncated(made: Path, tmp_path: Path, name: str, kept: float) -> None:
    if name == "fast.mp4":
        whole = write(tmp_path / "whole.mp4", options=B, container={"movflags": "faststart"})
    else:
        whole = make(made, name)
    content = whole.read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, "truncated")


def test_noise_inside_is_survived_or_refused(made: Path, tmp_path: Path) -> None:
    content = bytearray(make(made, "plain.mkv").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    try:
        assert len(seen(path)) > 30
    except VideoError as error:
        assert "damaged.mkv" in str(error)


def test_hdr_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "hdr.mp4", frames=3,
                 options={"x264-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"})
    assert "HDR" in open_clip(path, ALL).warnings[0]


def test_nothing_else_is_printed_and_nothing_heavy_imported(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("dear diary")
    script = """
import sys, pathlib, v2l.video.clip as video
assert not {"cv2", "av", "torch"} & set(sys.modules), "heavy"
for name in sys.argv[1:]:
    try:
        print(len(list(video.open_clip(pathlib.Path(name), video.Sampling()).frames())))
    except video.VideoError as error:
        print("refused")
"""
    paths = [make(made, "av1.mp4"), tmp_path / "text.mp4", make(made, "jerky.mkv")]
    done = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["2", "refused", "6"], "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_that_is_not_utf8(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"old \xff\xfe.mp4")
    path.write_bytes((reference / "videos" / "clip.mp4").read_bytes())
    frames, usual = (open_clip(p, Sampling()).frames() for p in (path, reference / "videos" / "clip.mp4"))
    assert [frame.index for frame in frames] == [frame.index for frame in usual]


# -- folders and records ---------------------------------------------------------------------------------------------


def test_find_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.MKV", "a/.hidden.mp4", ".git/x.mp4", "notes.txt", "c.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    named = [tmp_path / "a" / "z.MKV", tmp_path / "b.mp4", tmp_path / "c.webm"]
    assert find_videos(tmp_path).files == named
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="without videos"):
        find_videos(tmp_path / "empty")


def test_source_record(reference: Path) -> None:
    path = reference / "videos" / "portrait.mp4"
    content = path.read_bytes()
    assert open_clip(path, Sampling()).info.source == {
        "name": "portrait.mp4", "duration": 420 / 29.97, "fps": 29.97, "frames": 420, "width": 90, "height": 160,
        "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_large_pictures_are_decoded_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as half a gigabyte holds: a phone's 8K by one core alone would take minutes."""
    monkeypatch.setattr(container, "usable_cores", lambda: 64)
    sizes = {"360p": 640 * 360, "1080p": 1920 * 1080, "4K": 3840 * 2160, "8K": 7680 * 4320, "largest": 8192 * 8192}
    assert [container.decoder_threads(size) for size in sizes.values()] == [1, 16, 16, 8, 4]
    monkeypatch.setattr(container, "usable_cores", lambda: 1)
    assert container.decoder_threads(sizes["8K"]) == 1
