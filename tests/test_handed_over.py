"""Files as dashcams, capture programs, surveillance recorders and shells hand them over, whole and not."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any
from zipfile import ZipFile

import av
import pytest
from av.video.frame import PictureType
from PIL import Image
from reliability.corpus import ALL
from support.videos import Pipe, number, numbered, write

from v2l.errors import VideoError
from v2l.video.clip import Clip, open_clip
from v2l.video.folder import find_videos
from v2l.video.track import read_track

B = {"bf": "2", "g": "20", "x264-params": "scenecut=0:b-adapt=0"}
QUICK = {"g": "10", "deadline": "realtime", "cpu-used": "8", "preset": "ultrafast"}
PACKET = 188
"""Bytes of a packet of a broadcast."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of H.264, some shown later than they are decoded, with a key frame every 20, and
    silence."""
    return write(tmp_path_factory.mktemp("film") / "film.mp4", options=B, audio_s=2.4)


def copied(film: Path, format: str, target: Any, **options: str) -> None:
    """Copies the pictures and the sound into another container; `target` may be a Pipe."""
    with av.open(str(film)) as source, av.open(target, "w", format=format, options=options) as output:
        streams = [output.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)


def shown(clip: Clip) -> list[int]:
    return [number(frame.image) for frame in clip.frames()]


@pytest.fixture(scope="module")
def broadcast(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("broadcast") / "film.ts"
    copied(film, "mpegts", str(path))
    return path.read_bytes()


def test_zeros_behind_a_broadcast_and_within_are_passed_over(broadcast: bytes, tmp_path: Path) -> None:
    """Dashcams make a file as large as it may become, and bad sectors are copied as zeros."""
    path, half = tmp_path / "dashcam.ts", len(broadcast) // PACKET // 2 * PACKET
    path.write_bytes(broadcast[:half] + bytes(200_000) + broadcast[half:] + bytes(300_000))
    clip = open_clip(path, ALL)
    assert (shown(clip), clip.warnings) == (list(range(60)), [])


def test_packets_that_a_broadcast_lost_are_told(broadcast: bytes, tmp_path: Path) -> None:
    """Its counters tell; they begin anew, too, where segments were put together, and nothing is lost there."""
    path, packets = tmp_path / "film.ts", len(broadcast) // PACKET
    path.write_bytes(broadcast[: packets * 2 // 5 * PACKET] + broadcast[packets * 3 // 5 * PACKET :])
    assert any("has lost pictures at 1 place" in note for note in open_clip(path, ALL).warnings)
    path.write_bytes(broadcast * 2)
    assert not any("lost" in note for note in open_clip(path, ALL).warnings)


def test_a_broadcast_that_ends_within_a_packet_is_told(broadcast: bytes, tmp_path: Path) -> None:
    path, end = tmp_path / "film.ts", len(broadcast) // PACKET * 3 // 4 * PACKET
    for more, notes in ((0, 0), (37, 1), (187, 1)):
        path.write_bytes(broadcast[: end + more])
        warnings = open_clip(path, ALL).warnings
        assert len(warnings) == notes and all("breaks off before its end" in note for note in warnings)


def test_a_flash_recording_that_was_stopped_promised_no_length(film: Path, tmp_path: Path) -> None:
    pipe, path = Pipe(), tmp_path / "recording.flv"
    copied(film, "flv", pipe, flvflags="no_duration_filesize")
    path.write_bytes(pipe.content)
    assert (open_clip(path, ALL).info.frames, open_clip(path, ALL).warnings) == (60, [])
    for behind in (b"", bytes(50_000)):
        path.write_bytes(pipe.content[: len(pipe.content) * 2 // 3] + behind)
        clip = open_clip(path, ALL)
        assert 20 < clip.info.frames < 60 and shown(clip)[:-3] == list(range(clip.info.frames - 3))
        assert "breaks off before its end" in clip.warnings[0]


def test_an_avi_that_was_stopped_within_sound_is_told(tmp_path: Path) -> None:
    """Into a pipe, so that its header promises nothing."""
    pipe, path = Pipe(), tmp_path / "recording.avi"
    copied(write(tmp_path / "film.avi", "mpeg4", audio_s=2.4), "avi", pipe)
    path.write_bytes(pipe.content)
    assert open_clip(path, ALL).warnings == []
    path.write_bytes(pipe.content[: pipe.content.rindex(b"01wb", 0, len(pipe.content) * 2 // 3) + 9])
    clip = open_clip(path, ALL)
    assert shown(clip) == list(range(clip.info.frames)) and "breaks off before its end" in clip.warnings[0]


def test_raw_av1_is_watched_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path / "film.obu", "libsvtav1", options={"preset": "12", "crf": "30"})
    content = path.read_bytes()
    assert open_clip(path, ALL).warnings == []
    path.write_bytes(content[: len(content) * 3 // 4])
    clip = open_clip(path, ALL)
    assert shown(clip) == list(range(clip.info.frames)) and "breaks off before its end" in clip.warnings[0]


def test_mp4_files_put_together_with_cat_are_told(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    path.write_bytes(film.read_bytes() * 2)
    clip = open_clip(path, ALL)
    assert clip.info.frames == 60 and "of which FFmpeg reads only the first" in clip.warnings[0]
    pieces = tmp_path / "pieces.mp4"
    copied(film, "mp4", str(pieces), movflags="frag_keyframe+empty_moov")
    content = pieces.read_bytes()
    assert open_clip(pieces, ALL).warnings == []
    pieces.write_bytes(content * 2)
    assert "of which FFmpeg does not read all" in open_clip(pieces, ALL).warnings[0]


def encode(path: Path, ticks: int = 1, plain: int = 0, tagged: bool = False) -> None:
    """Encodes 60 pictures of so many ticks each; the first `plain` ones are shown in the order of the file. `tagged`
    says how their colours are coded."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25 * ticks, options=B)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if tagged:
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(numbered(i, 96, 64), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.pict_type = i * ticks, PictureType.P if i < plain else PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def test_the_pictures_of_h264_in_avi_are_as_far_apart_at_the_end(tmp_path: Path) -> None:
    """As ffmpeg copies them there: with two ticks a picture, of which FFmpeg takes the last one to be there for one."""
    path = tmp_path / "camera.avi"
    encode(path, ticks=2)
    clip = open_clip(path, ALL)
    assert ((clip.info.fps, clip.info.duration), clip.warnings) == (pytest.approx((25, 2.4)), [])
    assert shown(clip) == list(range(60)) and clip.track.times[-1] == pytest.approx(2.36)


def test_windows_media_with_h264_tells_times_in_the_order_of_decoding(tmp_path: Path) -> None:
    """Written into a pipe. The first one shown out of order comes behind those that are decoded for a look."""
    late = tmp_path / "late.mp4"
    encode(late, plain=40)
    pipe, path = Pipe(), tmp_path / "late.wmv"
    copied(late, "asf", pipe)
    path.write_bytes(pipe.content)
    clip = open_clip(path, ALL)
    assert (shown(clip), clip.warnings) == (list(range(60)), [])


def tar_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("film.mp4")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(("make", "told"), [
    (gzip.compress, "is packed with gzip"),
    (lzma.compress, "is packed with xz"),
    (tar_of, "is a tar archive"),
    (lambda film: b"Rar!\x1a\x07\x01\0" + film, "is a RAR archive"),
    (lambda film: b"7z\xbc\xaf\x27\x1c\0\4" + film, "is a 7z archive"),
    (lambda film: b"%PDF-1.4\n", "is a PDF document"),
    (lambda film: b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(300), "has its name without ._"),
    (lambda film: b"[InternetShortcut]\nURL=https://x.org\n", "is a link to a web page"),
    (lambda film: b"[playlist]\nFile1=film.mp4\n", "is a playlist, not a video"),
    (lambda film: film[: film.index(b"moov") - 4], r"lacks the index that cameras write at the end \(moov\)"),
])
def test_what_is_no_video_is_told_by_its_true_kind(film: Path, make: Callable[[bytes], bytes], told: str,
                                                   tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(make(film.read_bytes()))
    with pytest.raises(VideoError, match=told):
        open_clip(path, ALL)


def old_tar_of(content: bytes) -> bytes:
    """As programs before 1988 wrote, and some still do: without its name, only with the sum of the head."""
    archive = bytearray(tar_of(content))
    archive[257:512] = bytes(255)
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


@pytest.fixture(scope="module")
def stills() -> bytes:
    """Three pictures as a scanner makes them, with a few bytes between."""
    file = io.BytesIO()
    for shade in (40, 120, 200):
        Image.new("RGB", (64, 48), (shade, 90, 30)).save(file, "jpeg")
        file.write(b"\nendstream\n")
    return file.getvalue()


def disc_of(content: bytes) -> bytes:
    return bytes(1 << 15) + b"\1CD001\1" + bytes(4096) + content


def zip_of(content: bytes, name: str = "film.ts") -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(("wrapped", "told"), [
    (zip_of, "is a zip archive"),
    (lambda film: zip_of(film, "[Content_Types].xml"), "is an office document"),
    (tar_of, "is a tar archive"),
    (old_tar_of, "is a tar archive"),
    (disc_of, "is the image of a disc"),
    (lambda film: b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + film, "is a PDF document"),
    (lambda film: b"\xef\xbb\xbf\n<html><body>\0" + film, "is a web page"),
    (lambda film: b"From: a@b\r\nMIME-Version: 1.0\r\n\r\n" + film, "is a mail"),
    (lambda film: b"SQLite format 3\0" + bytes(84) + film, "is an SQLite database"),
    (lambda film: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504) + film, "is a file of Office or Windows"),
    (lambda film: b"MZ" + bytes(126) + b"PE\0\0" + bytes(99) + film, "is a program"),
])
def test_what_holds_films_among_other_things_is_no_film(wrapped: Callable[[bytes], bytes], told: str, stills: bytes,
                                                        broadcast: bytes, tmp_path: Path) -> None:
    """FFmpeg searches any file for pictures and for broadcasts, and makes one film of all that it finds."""
    for content in (stills, broadcast):
        path = tmp_path / "film.bin"
        path.write_bytes(wrapped(content))
        with pytest.raises(VideoError, match=told):
            read_track(path)


@pytest.mark.parametrize("before", [b"\0" * 40, b"Note: 7\r\n\r\n"])
def test_what_cameras_write_before_a_film_is_passed_over(before: bytes, broadcast: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(before + broadcast)
    assert read_track(path).frames > 50


def with_aperture(content: bytes) -> bytes:
    """An mp4 with a clean aperture, into the description of its pictures: 80 x 48 of 96 x 64, and off the middle."""
    aperture = pack(">I4s8i", 40, b"clap", 80, 1, 48, 1, -4, 1, -6, 1)
    entry = content.index(b"avc1", content.index(b"stsd"))
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = content.rindex(kind, 0, entry + 4) - 4
        length = int.from_bytes(content[at : at + 4], "big") + len(aperture)
        content = content[:at] + length.to_bytes(4, "big") + content[at + 4 :]
    at = content.index(b"avcC") - 4
    return content[:at] + aperture + content[at:]


def with_edges(content: bytes) -> bytes:
    """The same in Matroska, in place of what is said there of colours."""
    edges, at = b"\x54\xcc\x81\4\x54\xbb\x81\2\x54\xdd\x81\x0c\x54\xaa\x81\x0e", content.index(b"\x55\xb0\x90")
    return content[:at] + edges + b"\xec\x81\0" + content[at + 19 :]


def test_what_the_container_cuts_off_is_not_shown(film: Path, tmp_path: Path) -> None:
    """As players and FFmpeg's programs from 7.1 on have it: 4 columns at the left, 12 at the right, 2 lines on top."""
    tagged = tmp_path / "tagged.mkv"
    encode(tagged, tagged=True)
    for whole, cropped in ((film, with_aperture(film.read_bytes())), (tagged, with_edges(tagged.read_bytes()))):
        path = tmp_path / f"cropped{whole.suffix}"
        path.write_bytes(cropped)
        clip, all_of_it = open_clip(path, ALL), next(open_clip(whole, ALL).frames()).image
        assert (clip.info.width, clip.info.height) == (80, 48)
        assert (next(clip.frames()).image == all_of_it[2:50, 4:84]).all()


@pytest.mark.parametrize(("ending", "codec", "options"), [
    ("mkv", "libx264", {"cluster_time_limit": "400"}), ("webm", "libvpx", {"cluster_time_limit": "400"}),
    ("ogv", "libvpx", {"page_duration": "100000"}), ("wmv", "wmv2", {}),
    ("avi", "mpeg4", {})])
def test_a_hole_within_a_film_is_told(ending: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    """As where a sector of a disk, or a part of a download, is missing: FFmpeg goes on behind it without a word."""
    path = write(tmp_path / f"film.{ending}", codec, frames=250, container=options, options=QUICK)
    assert read_track(path).notes == ()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3300] = bytes(3300)
    path.write_bytes(content)
    track = read_track(path)
    assert track.frames < 250 and any("is damaged within, and pictures are lost there" in note for note in track.notes)


def test_an_avi_that_broke_off_within_a_file_made_before_is_told(tmp_path: Path) -> None:
    """Dashcams and downloads make a file as large as it may become, full of zeros."""
    path = write(tmp_path / "film.avi", "mjpeg", pixels="yuvj420p", frames=40)
    content = path.read_bytes()
    half = content[: len(content) // 2]
    path.write_bytes(half.ljust(len(content) + 9999, b"\0"))
    with pytest.raises(VideoError, match=r"is truncated: \d+ of about 40 frames"):
        read_track(path)
    path.write_bytes(content + bytes(9999))
    assert (read_track(path).frames, read_track(path).notes) == (40, ())


def test_an_mp4_that_ends_within_the_sound_of_a_fragment_is_told(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    copied(film, "mp4", str(path), movflags="frag_keyframe+empty_moov")
    content = path.read_bytes()
    whole, last = read_track(path), content.rindex(b"mdat")
    length = int.from_bytes(content[last - 4 : last], "big")
    path.write_bytes(content[: last - 4 + length - 5])
    cut = read_track(path)
    assert (whole.notes, cut.frames) == ((), whole.frames) and "breaks off before its end" in cut.notes[0]


def test_what_disks_keep_of_deleted_videos_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.mp4", "#recycle/b.mp4", "day/@eaDir/a.mp4/SYNOVIDEO_FILM.mp4", "$RECYCLE.BIN/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos(tmp_path)
    assert found.files == [tmp_path / "a.mp4"]
    assert sum("keeps deleted files or copies of its own; it is passed over" in note for note in found.notes("")) == 3
