"""Live sources: cameras, streams, pipes and growing files, against real senders on the loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.videos import number, write
from v2l.config import Sampling
from v2l.errors import UsageError
from v2l.live.address import parse_address
from v2l.live.source import Picture, Reading, events
from v2l.live.windows import Plan


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 numbered frames, 25 a second."""
    return write(tmp_path_factory.mktemp("film") / "film.mkv")


def seen(path: Path, reading: Reading) -> list[tuple[int, float]]:
    return [(number(event.rgb), round(event.at, 3)) for event in events(parse_address(str(path)), reading)
            if isinstance(event, Picture)]


def test_a_file_gives_each_picture_at_its_own_time(film: Path) -> None:
    assert seen(film, Reading()) == [(i, round(i / 25, 3)) for i in range(60)]


def test_only_pictures_that_may_be_wanted_are_given(film: Path) -> None:
    given = seen(film, Reading(Plan(1.0, Sampling(frames=3, fps=3.0))))
    assert given == [(i, i / 25) for i in (0, 9, 12, 18, 24, 25, 34, 37, 43, 49, 50, 59)]


@pytest.mark.parametrize(("text", "kind", "shown"), [
    ("rtsp://me:hidden@cam:554/live?token=hidden#hidden", "rtsp", "rtsp://cam:554/live"),
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
