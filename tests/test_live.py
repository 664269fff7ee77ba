"""Live sources: cameras, streams, pipes and growing files, against real senders on the loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from threading import Thread

import pytest

from tests.support.senders import Camera, Channel, dripping, h264, segments, silent
from tests.support.videos import number, write
from v2l.errors import UsageError, VideoError
from v2l.live import code
from v2l.live.address import Address, parse_address
from v2l.live.source import Gap, Picture, Reading, Waiting, events

ROOT = str(Path(__file__).parents[1])
QUICK = Reading(timeout=1.0, pause=0.05)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 numbered frames, 25 a second."""
    return write(tmp_path_factory.mktemp("film") / "film.mkv")


def seen(source: Path | str, reading: Reading) -> list[tuple[int, float]]:
    return [(number(event.rgb), round(event.at, 3)) for event in events(parse_address(str(source)), reading)
            if isinstance(event, Picture)]


def refusal(source: Path | str, reading: Reading = QUICK) -> str:
    with pytest.raises(VideoError) as error:
        seen(source, reading)
    return str(error.value)


def children() -> list[int]:
    """The processes that this one has started and that are still there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.append(int(folder.name))
    return found


def test_a_file_gives_each_picture_at_its_own_time(film: Path) -> None:
    given = list(events(parse_address(str(film)), Reading()))
    pictures = [(number(event.rgb), round(event.at, 3)) for event in given if isinstance(event, Picture)]
    assert pictures == [(i, round(i / 25, 3)) for i in range(60)]
    assert given[-1] == Waiting(pytest.approx(2.4))  # when the last picture ends
    assert not children()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written here comes out of this process's stdin."""
    read, write = os.pipe()
    with os.fdopen(read) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield write


@pytest.mark.parametrize("name", ["film.ts", "film.h264"])
def test_a_pipe_gives_the_pictures_until_its_writer_closes_it(tmp_path: Path, stdin: int, name: str) -> None:
    content = b"".join(h264()) if name.endswith("h264") else write(tmp_path / name, frames=50).read_bytes()

    def send() -> None:
        with os.fdopen(stdin, "wb") as pipe:
            pipe.write(content)

    sender = Thread(target=send)
    sender.start()
    assert seen("-", Reading()) == [(i, i / 25) for i in range(50)]
    sender.join()


def test_pictures_without_times_or_a_rate_are_25_a_second_in_a_pipe(
        tmp_path: Path, stdin: int) -> None:
    content = write(tmp_path / "film.mjpeg", "mjpeg", rate=10, pixels="yuvj420p").read_bytes()
    late = content.find(b"\xff\xd8\xff", len(content) * 2 // 3)
    os.write(stdin, content[:late])
    given: list[tuple[int, float]] = []
    for event in events(parse_address("-"), Reading(timeout=0.3)):
        if isinstance(event, Picture):
            given.append((number(event.rgb), event.at))
        elif isinstance(event, Waiting) and event.reason and len(given) > 20 and late:
            os.write(stdin, content[late:])
            os.close(stdin)
            late = 0
    assert [shown for shown, _ in given] == list(range(60))  # and not one of them, all at the same time
    steps = [round(b[1] - a[1], 3) for a, b in pairwise(given)]
    assert steps.count(0.04) > 50 and all(step >= 0.04 for step in steps)


def test_a_pipe_that_is_silent_is_told_and_waited_for(stdin: int) -> None:
    units = h264(40)
    os.write(stdin, b"".join(units[:25]))
    given: list[Picture] = []
    told = []
    for event in events(parse_address("-"), Reading(timeout=0.3)):
        if isinstance(event, Picture):
            given.append(event)
        elif isinstance(event, Waiting) and event.reason and not told:
            told.append(event)
            os.write(stdin, b"".join(units[25:]))
            os.close(stdin)
    assert [number(picture.rgb) for picture in given] == list(range(40))
    assert given[-1].at == pytest.approx(39 / 25)  # a pipe's own times count: it was not silent for long in them
    assert told[0].reason == "nothing has come for 0.3 s" and told[0].at <= given[-1].at


def test_a_file_is_followed_for_as_long_as_it_is_written(tmp_path: Path, film: Path) -> None:
    content, path = film.read_bytes(), tmp_path / "growing.mkv"
    numbers = []
    with path.open("wb") as file:
        file.write(content[: len(content) * 2 // 3])
        file.flush()
        for event in events(parse_address(str(path)), Reading(timeout=60)):
            if isinstance(event, Picture):
                numbers.append(number(event.rgb))
            if len(numbers) == 1:
                time.sleep(0.3)  # so that it has been read to where it ends for now
                file.write(content[len(content) * 2 // 3 :])
                file.close()
    assert numbers == list(range(60))


def test_an_upgrade_while_it_watches_is_told(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "CODE", "0.1.0 of before")
    assert refusal(film) == f"{film}: v2l was upgraded while it watched; begin again."


def test_files_that_are_no_video_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    path.write_bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    assert refusal(path) == f"{path}: what comes is no video that can be watched as it comes."


def test_what_holds_films_among_other_things_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "film.ts", "mpeg2video", frames=30)
    for head, told in ((b"PK\3\4" + bytes(26) + b"film.ts", "it is a zip archive; unpack it first"),
                       (b"%PDF-1.4\n", "it is a PDF document, not a video")):
        other = tmp_path / "film"
        other.write_bytes(head + path.read_bytes())
        assert refusal(other) == f"{other}: {told}."


def test_a_picture_that_claims_to_be_huge_is_not_made(tmp_path: Path) -> None:
    content = write(tmp_path / "film.mkv", "mjpeg", pixels="yuvj420p", frames=5).read_bytes()
    huge = re.sub(rb"\xff\xc0\x00\x11\x08....", b"\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc", content, flags=re.DOTALL)
    assert huge != content
    (tmp_path / "huge.mkv").write_bytes(huge)
    assert "no picture of it could be decoded" in refusal(tmp_path / "huge.mkv")


def test_a_camera_over_the_network_through_all_that_happens_to_it() -> None:
    """Its clock jumps back, it sends nothing, it is killed and starts again; the time line goes on."""
    given: list[Picture] = []
    gaps: list[Gap] = []
    reasons: list[str] = []
    began, last = time.monotonic(), 0.0
    with Camera(password="hidden") as camera, closing(events(parse_address(camera.url), QUICK)) as stream:
        for event in stream:
            at = event.end if isinstance(event, Gap) else event.at
            assert at >= last
            last = at
            if isinstance(event, Gap):
                gaps.append(event)
                given.clear()
            elif isinstance(event, Waiting):
                reasons += [event.reason] if event.reason not in reasons else []
                camera.frozen.clear()
                if "ended" in event.reason and not camera.running:
                    camera.start()
            else:
                given.append(event)
                if len(given) == 5 and len(gaps) == 0:
                    camera.ticks -= 30 * 90000
                elif len(given) == 5 and len(gaps) == 1:
                    camera.frozen.set()
                elif len(given) == 5 and len(gaps) == 2:
                    camera.stop()
                elif len(given) == 5:
                    break
        assert camera.connections >= 3
    assert [re.sub(r"[\d.]+ s", "N s", gap.reason) for gap in gaps] == [
        "the clock of the source jumped back N s", "nothing has come for N s", "the connection ended"]
    assert gaps[1].end - gaps[1].start > 1
    assert last < time.monotonic() - began + 1
    assert "nothing has come for 1 s; trying again in 0.05 s" in reasons
    assert not children() and "hidden" not in str(gaps) + str(reasons)


def test_the_password_is_in_no_message_and_in_no_list_of_processes() -> None:
    with Camera(password="hidden") as camera:
        with closing(events(parse_address(camera.url), QUICK)) as stream:
            assert isinstance(next(stream), Picture)
            (child,) = children()
            shown = b"".join(Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))
            assert b"hidden" not in shown and b"reader" in shown
        said = refusal(camera.url.replace("hidden", "wrong"))  # at once, though it would try for ever
    assert said == f"rtsp://127.0.0.1:{camera.port}/live: the user or the password is not accepted."


def test_a_server_that_never_answers_is_given_up_after_the_retries() -> None:
    with silent() as port:
        said = refusal(f"rtsp://127.0.0.1:{port}/x", Reading(timeout=0.3, retries=1, pause=0.05))
    assert said == f"rtsp://127.0.0.1:{port}/x: nothing has come for 0.3 s; tried again 1 time."


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Segments of half a second, 10 pictures a second."""
    return segments(tmp_path_factory.mktemp("parts"), 7)


def test_hls_is_given_at_the_pace_at_which_it_plays_and_ends_when_its_list_says_so(parts: list[bytes]) -> None:
    began, given = time.monotonic(), []
    with Channel(parts) as channel, closing(events(parse_address(channel.url), Reading(timeout=30))) as stream:
        for event in stream:
            if isinstance(event, Picture):
                given.append((number(event.rgb), event.at))
                channel.ended = len(given) > 10
        asked = {path for path in channel.asked if path.endswith(".ts")}
    first = given[0][0]
    assert first >= 10  # the last three segments of the five that are there
    assert given == [(first + i, pytest.approx(i / 10, abs=0.25)) for i in range(35 - first)]
    assert time.monotonic() - began > given[-1][1] - 0.3 and len(asked) <= 6


def listing(first: int, last: int) -> bytes:
    """A list of segments that promises more of them."""
    names = "".join(f"#EXTINF:0.5,\n{i}.ts\n" for i in range(first, last))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:{first}\n{names}".encode()


def test_a_list_that_stands_still_gives_no_picture_twice_and_the_new_ones_when_it_goes_on(tmp_path: Path) -> None:
    numbers, gaps, parts = [], [], segments(tmp_path, 6, length=0.7)
    with (Channel(parts, listing(0, 3)) as channel,
          closing(events(parse_address(channel.url), replace(QUICK, timeout=1.5))) as stream):
        for event in stream:
            if isinstance(event, Picture):
                numbers.append(number(event.rgb))
                if numbers[-1] == 27:
                    break
            elif isinstance(event, Gap):
                gaps.append(event.reason)
            elif event.reason:
                channel.list = listing(1, 6)
    assert numbers == sorted(set(numbers)) and numbers[:21] == list(range(21))
    assert gaps == ["nothing has come for 1.5 s"]
    assert channel.asked.count("/2.ts") == 1


def test_of_several_lists_one_that_is_gone_is_passed_over(parts: list[bytes]) -> None:
    lists = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\ngone.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n"
    with Channel(parts) as channel:
        channel.lists = {"several.m3u8": lists % b"live.m3u8", "none.m3u8": lists % b"lost.m3u8"}
        url = channel.url.replace("live", "several")
        with closing(events(parse_address(url), Reading(timeout=5))) as stream:
            assert any(isinstance(event, Picture) for event in islice(stream, 5))
        assert refusal(channel.url.replace("live", "none"), Reading(retries=0)).endswith(
            "none.m3u8: the server answers 404 (Not Found).")


def test_a_server_whose_answer_drips_is_silent() -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n0.ts\n"
    with dripping(playlist) as port:
        said = refusal(f"http://127.0.0.1:{port}/x", Reading(timeout=0.4, retries=0))
    assert said == f"http://127.0.0.1:{port}/x: nothing has come for 0.4 s."


def film_playlist(name: str) -> bytes:
    """A list of one segment that says it is all."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\n{name}\n#EXT-X-ENDLIST\n".encode()


def test_lists_that_lead_to_nothing_live_are_refused(parts: list[bytes], film: Path) -> None:
    encrypted = film_playlist("0.ts").replace(b"#EXTINF", b'#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF')
    lists = {b"": "the server answers 404 (Not Found)",
             b"<!DOCTYPE html>\n<p>no": "a web page is there, and no video",
             b"#EXTM3U\n" + b"#\n" * (1 << 20): "its playlist has no end",
             encrypted: "it is encrypted (AES-128), which v2l watch does not read",
             film_playlist("0.ts"): "it is a film with an end, and nothing live; download it, and use v2l ingest",
             film_playlist(film.as_uri()): "what comes is no video that can be watched as it comes; v2l ingest takes "
                                           "complete files"}
    with ExitStack() as opened, ThreadPoolExecutor(3) as pool:
        channels = [opened.enter_context(Channel(parts, sent)) for sent in lists]
        said = list(pool.map(lambda channel: refusal(channel.url, Reading(retries=0)), channels))
    assert said == [f"{parse_address(channel.url).shown}: {words}."
                    for channel, words in zip(channels, lists.values(), strict=True)]


def test_a_camera_of_this_machine_gives_pictures_as_they_arrive_and_an_absent_one_is_told(film: Path) -> None:
    there = Address("camera", str(film), "camera")  # a file stands for the device, in the same calls of OpenCV
    with closing(events(there, QUICK)) as stream:
        given = [event for event in (next(stream) for _ in range(30)) if isinstance(event, Picture)]
    assert given[0].at == 0 and number(given[0].rgb) == 0
    numbers = [number(picture.rgb) for picture in given]
    assert numbers == sorted(numbers)
    said = refusal("97", Reading(retries=0))
    assert said == ("camera 97: no camera can be opened there; see that it is plugged in, and that nothing else uses "
                    "it.")


def test_the_reader_ends_when_its_parent_is_killed() -> None:
    """Though it waits for a pipe in which nothing comes."""
    code = ("import os\nfrom v2l.live.source import Reading, events\nfrom v2l.live.address import parse_address\n"
            "stream = events(parse_address('-'), Reading(timeout=0.1))\nnext(stream)\n"
            "print(open(f'/proc/self/task/{os.getpid()}/children').read(), flush=True)\n"
            "os.read(0, 1)")
    parent = subprocess.Popen([sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=os.environ | {"PYTHONPATH": ROOT})
    assert parent.stdout is not None and parent.stdin is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(500):
        if not alive(child):
            break
        time.sleep(0.01)
    assert not alive(child)
    parent.stdin.close()
    parent.stdout.close()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("text", "kind", "shown"), [
    ("rtsp://me:hidden@cam:554/live?token=hidden#hidden", "rtsp", "rtsp://cam:554/live"),
    ("rtsp://cam/user=me&password=hidden&channel=1/x", "rtsp", "rtsp://cam/user=.../x"),
    ("https://me:hidden@[::1]/a.m3u8?key=hidden", "http", "https://[::1]/a.m3u8"),
    ("0", "camera", "camera 0"), ("/dev/video2", "camera", "/dev/video2"), ("-", "pipe", "stdin"),
    ("films/a.mkv", "file", "films/a.mkv"),
])
def test_addresses_are_shown_without_what_is_secret(text: str, kind: str, shown: str) -> None:
    address = parse_address(text)
    assert (address.kind, address.shown) == (kind, shown)
    assert "hidden" not in repr(address) + str(address)


@pytest.mark.parametrize("text", ["ftp://me:hidden@host/x", "rtsp://me:hidden@/x", "rtsp://me:hidden@host:x9/",
                                  "http://me:hidden@host/a b", "concat://hidden"])
def test_addresses_that_cannot_be_are_refused_without_what_is_secret(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_address(text)
    assert text.partition("://")[0] in str(error.value) or "address" in str(error.value)
    assert "hidden" not in str(error.value)
