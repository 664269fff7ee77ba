"""What HLS and other streams are fetched with: who is asked, what is told to whom, and what is believed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from v2l.live import web as web_module
from v2l.live.playlist import Playlist, SegmentRead
from v2l.live.web import Web, WebError, web_reason

BASIC = f"Basic {base64.b64encode(b'me:hidden').decode()}"
Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(answer: Callable[[str, Any], Answer]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Its address, without `http://`, and the headers of all requests; `answer` is asked with path and headers."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(dict(self.headers.items()))
            status, headers, body = answer(self.path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{http.server_port}", heard
        http.shutdown()
        thread.join()


def fetched(web: Web, url: str, **options: str) -> bytes:
    file = web.open(url, 0, options)
    parts = list(iter(lambda: file.read(1000), b""))
    file.close()
    return b"".join(parts)


def new(alive: Callable[[], None] = lambda: None) -> Web:
    return Web(5.0, alive)


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_user_and_password_are_told_to_who_asks_for_them(scheme: str) -> None:
    def answer(path: str, headers: Any) -> Answer:
        told = headers.get("Authorization", "")
        if told == BASIC or 'username="me"' in told:
            return 200, {}, b"video"
        return 401, {"WWW-Authenticate": f'{scheme} realm="camera", nonce="7", qop="auth"'}, b""

    with server(answer) as (host, heard):
        assert fetched(new(), f"http://me:hidden@{host}/live") == b"video"
        assert (BASIC in str(heard)) == (scheme == "Basic")
        with pytest.raises(HTTPError) as error:
            fetched(new(), f"http://{host}/live")
        assert error.value.code == 401


def test_no_other_host_is_told_the_password() -> None:
    with (server(lambda path, headers: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as (other, heard),
          server(lambda path, headers: (302, {"Location": f"http://{other}/"}, b"")) as (host, _)):
        with pytest.raises(HTTPError):
            fetched(new(), f"http://me:hidden@{host}/live")
        assert heard and "Authorization" not in str(heard)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1:9/x", "data:,x"])
def test_nothing_leads_from_the_web_to_elsewhere(to: str) -> None:
    with server(lambda path, headers: (302, {"Location": to}, b"")) as (host, _), pytest.raises(URLError) as error:
        fetched(new(), f"http://{host}/live")
    assert web_reason(error.value) == "the server leads to what is no address of the web"
    with pytest.raises(ValueError):
        new().open(to, 0, {})


def test_what_leads_in_circles_is_told() -> None:
    with (server(lambda path, headers: (302, {"Location": "/live"}, b"")) as (host, _),
          pytest.raises(HTTPError) as error):
        fetched(new(), f"http://{host}/live")
    assert web_reason(error.value) == "the server leads in circles"


def test_a_list_tells_how_long_its_segments_are_and_whether_it_is_complete() -> None:
    lists = {"/live": b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n1.ts\n",
             "/over": b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.ts\n#EXT-X-ENDLIST\n",
             "/long": b"#EXTM3U\n" + b"#\n" * (1 << 20)}
    alive: list[bool] = []
    with server(lambda path, headers: (200, {}, lists.get(path, b"video"))) as (host, _):
        web = new(lambda: alive.append(True))
        assert fetched(web, f"http://{host}/live") == lists["/live"]
        assert (web.ended, web.longest, alive) == (False, 6.0, [])
        fetched(web, f"http://{host}/1.ts")
        assert alive  # what is no list is what is waited for
        fetched(web, f"http://{host}/over")
        assert web.ended and web.longest == 6.0
        with pytest.raises(WebError):
            fetched(web, f"http://{host}/long")


def listing(first: int, last: int, prefix: str = "") -> bytes:
    lines = "".join(f"#EXTINF:2,\n{prefix}{i}.ts?token=x\n" for i in range(first, last))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{lines}".encode()


def test_a_list_is_read_on_from_where_it_was_left_and_is_waited_for_where_it_stands_still(
        monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[SegmentRead] = []
    alive: list[bool] = []
    lists = {"/live.m3u8": listing(7, 10)}

    def sleep(seconds: float) -> None:
        assert seconds == 1 and not alive
        lists["/live.m3u8"] = listing(8, 12)

    monkeypatch.setattr(web_module.time, "sleep", sleep)
    with server(lambda path, headers: (200, {}, lists.get(path, b"video"))) as (host, _):
        first = Web(5.0, lambda: None, (), told.append)
        fetched(first, f"http://{host}/live.m3u8")
        for i in (8, 9):
            fetched(first, f"http://{host}/{i}.ts?token=x")
        assert [one.sequence for one in told] == [8, 9]
        again = Web(5.0, lambda: alive.append(True), told)
        left = fetched(again, f"http://{host}/live.m3u8")
        assert Playlist(left.decode(), "").after(9) == left.decode()
        assert b"SEQUENCE:10\n" in left and left.count(b"EXTINF") == 2

        lists["/live.m3u8"] = listing(0, 2)  # which its sender begins anew
        with pytest.raises(WebError, match="its sender began anew"):
            fetched(again, f"http://{host}/live.m3u8")
        assert fetched(Web(5.0, lambda: None, told), f"http://{host}/live.m3u8") == listing(0, 2)
        lists["/live.m3u8"] = listing(7, 10, "new")  # of another session, with the same numbers
        assert fetched(Web(5.0, lambda: None, told), f"http://{host}/live.m3u8") == listing(7, 10, "new")


def test_what_leaves_a_list_leaves_its_keys_and_the_place_of_its_bytes() -> None:
    text = ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:3\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"i.mp4\"\n"
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-28T20:00:00Z\n#EXTINF:2,\n#EXT-X-BYTERANGE:100@50\na.mp4\n"
            "#EXT-X-DISCONTINUITY\n#EXTINF:3,\n#EXT-X-BYTERANGE:10\na.mp4\n")
    playlist = Playlist(text, "http://host/x/live.m3u8")
    seen = playlist.seen("http://host/x/a.mp4", 50)
    assert seen and seen.sequence == 3 and playlist.last_seen([seen]) == 3
    assert playlist.after(3).splitlines() == [
        "#EXTM3U", "#EXT-X-MEDIA-SEQUENCE:4", '#EXT-X-KEY:METHOD=AES-128,URI="k"', '#EXT-X-MAP:URI="i.mp4"',
        "#EXT-X-DISCONTINUITY", "#EXTINF:3,", "#EXT-X-BYTERANGE:10@150", "a.mp4"]
    assert playlist.after(4) == "" and playlist.last_seen([]) is None


def test_a_segment_that_is_gone_is_passed_over_and_a_list_that_is_gone_is_not() -> None:
    with server(lambda path, headers: (200 if path == "/live" else 404, {}, b"#EXTM3U\n")) as (host, _):
        web = new()
        fetched(web, f"http://{host}/live")
        assert fetched(web, f"http://{host}/1.ts") == b"" and web.failed is None
        assert fetched(web, f"http://{host}/large.m3u8") == b""  # a smaller one may be there
        assert web.failed and web_reason(web.failed) == "the server answers 404 (Not Found)"
        with pytest.raises(HTTPError):
            fetched(new(), f"http://{host}/live.m3u8")


def test_a_part_of_a_file_is_asked_for_as_a_range() -> None:
    with server(lambda path, headers: (206, {}, b"video")) as (host, heard):
        fetched(new(), f"http://{host}/all.ts", offset="100", end_offset="300")
        fetched(new(), f"http://{host}/all.ts", offset="100")
    assert [each["Range"] for each in heard] == ["bytes=100-299", "bytes=100-"]
