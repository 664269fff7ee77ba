"""What the page of `v2l serve` is served: the library, pictures, videos and their ranges."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.library import fill_library
from support.serving import Server, served

from v2l.config import Sampling
from v2l.door import Engine
from v2l.serve.media import EDGE, strip_of, video_type
from v2l.video.clip import open_clip

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny")


@pytest.fixture(scope="module")
def folder(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    fill_library(engine, folder)
    return folder


@pytest.fixture(scope="module")
def server(engine: Engine, folder: Path) -> Iterator[Server]:
    with served(engine, folder) as server:
        yield server


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


def fetched(server: Server, path: str) -> Any:
    status, _, content = get(server, path)
    assert status == 200, content
    return json.loads(content)


# What is served.


def test_the_library_is_listed_with_what_can_be_shown(server: Server) -> None:
    videos = {video["id"]: video for video in fetched(server, "/api/library")["videos"]}
    assert list(videos) == ["50% off #1?", "broken", "lost", "old", "talks/lecture"]
    lecture = videos["talks/lecture"]
    assert lecture["sources"] == [{"name": "lecture.mp4", "duration": 36.0, "video": True}]
    assert lecture["segments"] == [{"start": start, "end": start + 12.0, "source": 0} for start in (0.0, 12.0, 24.0)]
    assert lecture["frames"] == 36 and len(lecture["strip"]) == 12 and lecture["base"] == "v2l/tiny"
    assert videos["lost"]["sources"][0]["video"] is False
    assert "cut short" in videos["broken"]["error"]


def test_a_listing_that_is_as_it_was_is_not_sent_again(server: Server) -> None:
    _, headers, _ = get(server, "/api/library")
    assert get(server, "/api/library", If_None_Match=headers["etag"])[0] == 304


def test_pictures_are_the_frames_that_were_seen(server: Server, folder: Path, engine: Engine) -> None:
    sampling = engine.sampling()
    windows = [Sampling(resolution=sampling.resolution, start=start, end=start + 12) for start in (0, 12, 24)]
    frames = [frame for window in windows for frame in open_clip(folder / "talks/lecture.mp4", window).frames()]
    told = fetched(server, "/api/seen/talks/lecture")["frames"]
    assert [frame["time"] for frame in told] == [frame.time for frame in frames]
    assert [frame["segment"] for frame in told] == [0] * 12 + [1] * 12 + [2] * 12
    for number in (0, 5, 20, 35):
        status, headers, content = get(server, f"/api/frames/talks/lecture/{number}")
        assert status == 200 and headers["content-type"] == "image/jpeg" and headers["cache-control"] == "no-store"
        picture = np.asarray(Image.open(io.BytesIO(content)))
        assert max(picture.shape) <= EDGE
        assert np.abs(picture.astype(int) - frames[number].image).mean() < 3, "a JPEG of that very frame"
    different = [np.abs(frames[0].image.astype(int) - frame.image).mean() for frame in frames[5:]]
    assert min(different) > 3, "which no other frame would pass for"


def test_frames_that_were_not_seen_or_whose_video_is_lost_are_not_there(server: Server) -> None:
    for path, why in (("talks/lecture/36", "saw 36 frames"), ("lost/0", "lost.mp4 is not beside"),
                      ("nothing/0", "does not exist"), ("broken/0", "cut short")):
        status, _, content = get(server, f"/api/frames/{path}")
        assert status in (404, 422) and why in json.loads(content)["error"]["message"]


def test_a_strip_stands_evenly_for_all_frames() -> None:
    assert strip_of(0) == [] and strip_of(1) == [0] and strip_of(12) == list(range(12))
    assert strip_of(100, 3) == [0, 49, 99]


VIDEO = "/api/video/talks/lecture/0"


def test_a_video_comes_whole_or_in_ranges(server: Server, folder: Path) -> None:
    content = (folder / "talks/lecture.mp4").read_bytes()
    size = len(content)
    status, headers, whole = get(server, VIDEO)
    assert (status, whole, headers["content-type"]) == (200, content, "video/mp4")
    assert headers["accept-ranges"] == "bytes" and headers["x-content-type-options"] == "nosniff"
    for asked, first, end in (("0-99", 0, 100), ("100-", 100, size), ("-100", size - 100, size),
                              (f"0-{10 * size}", 0, size), (f"{size - 1}-", size - 1, size)):
        status, headers, part = get(server, VIDEO, Range=f"bytes={asked}")
        assert (status, part) == (206, content[first:end]), asked
        assert headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    status, headers, _ = get(server, VIDEO, Range=f"bytes={size}-")
    assert status == 416 and headers["content-range"] == f"bytes */{size}"
    status, headers, nothing = get(server, VIDEO, "HEAD")
    assert (status, nothing, headers["content-length"]) == (200, b"", str(size))
    assert get(server, VIDEO, Range="bytes=0-9", If_Range='"another"')[::2] == (200, content)


@pytest.mark.parametrize("path", ["../talks/lecture", "..%2ftalks%2flecture", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
                                  "talks/..%2ftalks/lecture", "talks/lecture.mp4", "talks%00/lecture", "talks"])
def test_no_path_leads_out_of_the_library(server: Server, path: str) -> None:
    for kind in ("video", "frames", "seen"):
        status, _, content = get(server, f"/api/{kind}/{path}" + ("" if kind == "seen" else "/0"))
        assert status == 404 and b"error" in content


def test_the_page_has_no_other_files_and_runs_nothing_but_its_own(server: Server) -> None:
    status, headers, page = get(server, "/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(rb"https?://|<style|style=|onclick|<script(?! type=\"module\" src=\"/page/)", page)
    for name in re.findall(rb'/page/([\w.]+)"', page):
        assert get(server, f"/page/{name.decode()}")[0] == 200
    for name in ("README.md", "..%2fmedia.py", "../media.py", "index.html.bak", ""):
        assert get(server, f"/page/{name}")[0] == 404
    source = ROOT / "v2l/serve/page"
    for file in source.glob("*.js"):
        imported = re.findall(r'from "\./([\w.]+)"', file.read_text())
        assert all(get(server, f"/page/{name}")[0] == 200 for name in imported)


def test_videos_are_told_as_media_and_nothing_else() -> None:
    assert video_type("a.mp4") == "video/mp4" and video_type("a.gif") == "image/gif"
    for name in ("a.html", "a.svg", "a.ts.html", "a.js", "a"):
        assert video_type(name) == "application/octet-stream"


def test_a_video_is_asked_directly_one_at_a_time(server: Server, engine: Engine, folder: Path) -> None:
    body = {"id": "talks/lecture", "question": "What happens first?"}
    status, _, answer = server.ask("POST", "/api/direct", body)
    expected = engine.direct(folder / "talks/lecture.mp4", "What happens first?").text
    assert status == 200 and answer["choices"][0]["message"]["content"] == expected
    assert answer["v2l"]["strategy"] == "direct" and answer["v2l"]["visual_tokens"] > 0
    assert server.ask("POST", "/api/direct", {**body, "from": 24, "to": 36})[2]["choices"][0]["message"]["content"] == (
        engine.direct(folder / "talks/lecture.mp4", body["question"], engine.sampling(start=24.0, end=36.0)).text)
    assert server.ask("POST", "/api/direct", {**body, "id": "lost"})[0] == 404
    assert server.ask("POST", "/api/direct", {"id": "lost"})[0] == 400


def test_moments_are_found_as_the_segments_score(server: Server) -> None:
    status, _, found = server.ask("POST", "/api/find", {"id": "talks/lecture", "query": "a red ring moves down"})
    assert status == 200 and found["note"] is None and found["skipped"] == []
    assert found["hits"][0] == {"id": "talks/lecture", "source": 0, "file": "lecture.mp4", "start": 24.0, "end": 36.0,
                                "score": found["hits"][0]["score"]}
    assert found["hits"][0]["score"] >= found["threshold"]
    every = server.ask("POST", "/api/find", {"query": "a red ring moves down", "top": 1, "threshold": -1000})[2]
    assert len(every["hits"]) == 1 and [one["id"] for one in every["skipped"]] == ["broken"]
    nothing = server.ask("POST", "/api/find", {"id": "talks/lecture", "query": "a red ring", "threshold": 1000})[2]
    assert nothing["hits"] == [] and re.match("Nothing found that scores 1000 or more; the likeliest is 0:.* of talks",
                                              nothing["note"])
    assert server.ask("POST", "/api/find", {"id": "talks/lecture"})[0] == 400
    assert server.ask("POST", "/api/find", {"id": "nothing", "query": "a ring"})[0] == 404
    assert server.ask("POST", "/api/find", {"id": "broken", "query": "a ring"})[0] == 422
