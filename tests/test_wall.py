"""The wall clock of what was watched live: what records tell of it, and what is chosen and shown by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.adapters import make, source
from support.cli import documents, run
from support.library import EXAMPLES
from support.serving import served

from v2l import load, save
from v2l.adapter import Adapter
from v2l.adapter.join import join, overlapping, slice_segments, within
from v2l.adapter.provenance import lost_by
from v2l.door import Engine
from v2l.errors import AdapterError, UsageError
from v2l.model.questions import clock_time_in
from v2l.wording import wall_json, wall_span_text, wall_text, wall_time


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place that is not where records count from, and that changes its clocks."""
    import time

    if not hasattr(time, "tzset"):
        pytest.skip("the zone of a process cannot be changed here")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=timezone.utc)  # type: ignore[arg-type,misc]


def live(number: int = 0, start: float = 0.0, began: str = "2026-11-28T13:00:00.000Z", **told: Any) -> Adapter:
    """A minute of a camera that began to be watched at 14:00 local time."""
    cam = source("cam", sha256=f"{sum(map(ord, began)):064x}", started=began, **told)
    return make(number, source=cam, start=start, end=start + 60)


@pytest.mark.parametrize("text, when", [
    ("2026-11-28T14:00", utc(2026, 11, 28, 13)), ("2026-11-28 14:00:05.5", utc(2026, 11, 28, 13, 0, 5, 500_000)),
    ("2026-07-01t9:30z", utc(2026, 7, 1, 9, 30)), ("2026-07-01", utc(2026, 6, 30, 22)),
    ("2026-11-28T14:00-05:30", utc(2026, 11, 28, 19, 30)), ("2026-11-28T14:00 +0100", utc(2026, 11, 28, 13)),
    ("2026-02-30T14:00", None), ("2026-11-28T25:00", None), ("2026-11-28T14", None), ("1:30", None), ("", None),
    ("0001-01-01T00:00+14:00", None), ("9999-12-31", None), ("2026-11-28T14:00+99:00", None),
    ("\u0662026-11-28", None)])
def test_a_moment_is_read_as_people_write_it_in_local_time(text: str, when: datetime | None) -> None:
    assert wall_time(text) == when


def test_a_moment_is_shown_as_the_clock_here_shows_it() -> None:
    at = utc(2026, 11, 28, 22, 59, 59)
    assert wall_text(at) == "2026-11-28 23:59:59"
    assert wall_span_text(at - timedelta(hours=1), at) == "2026-11-28 22:59:59 to 23:59:59"
    assert wall_span_text(at, at + timedelta(minutes=1)) == "2026-11-28 23:59:59 to 2026-11-29 00:00:59"
    assert wall_json(at + timedelta(microseconds=250_400)) == "2026-11-28T22:59:59.250Z"
    assert wall_time(wall_json(at)) == at


@pytest.mark.parametrize("told", [
    {"started": "2026-11-28T13:00:00"}, {"started": "2026-11-28 13:00:00Z"}, {"started": "2026-02-30T13:00:00Z"},
    {"started": "9999-12-31T23:59:59Z"}, {"started": 1764334800}, {"started": None}, {"started": ["2026"]},
    {"started": "2026-11-28T13:00:00+99:00"}, {"started": "2026-11-28T13:00:00Z\n"}, {"gaps": {}}, {"gaps": [[1, 2]]},
    {"gaps": [[2, 1, "no connection"]]}, {"gaps": [[1, 2, ""]]}, {"gaps": [[1, True, "x"]]}, {"dropped": 3},
    {"dropped": {"segments": 3}}, {"dropped": {"rule": "half of the frames", "frames": -1}}])
def test_what_no_clock_tells_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(AdapterError, match=f"'{next(iter(told))}' in source 0 of its record is not what it should be"):
        make(source=source(**told))


def test_a_segment_where_no_calendar_reaches_is_refused() -> None:
    with pytest.raises(AdapterError, match="from when its source started"):
        live(start=1e12)


def test_what_a_live_source_tells_is_kept_and_the_format_stays(tmp_path: Path) -> None:
    told = {"gaps": [[3, 9.5, "no connection"]], "dropped": {"rule": "half of the frames", "frames": 6}}
    save(live(**told), tmp_path / "cam.v2lora")
    assert {key: load(tmp_path / "cam.v2lora").sources[0][key] for key in told} == told
    assert b'"version":"1"' in (tmp_path / "cam.v2lora").read_bytes()


def hour() -> Adapter:
    """14:00 to 14:03 and, begun again, 14:10 to 14:11, of one camera; and a film."""
    parts = [live(1), live(2, 60), live(3, 120), live(4, began="2026-11-28T14:10:00+01:00"), make(5)]
    return join(parts)[0]


@pytest.mark.parametrize("start, end, chosen", [
    ("2026-11-28T14:00", None, [1, 2, 3, 4]), ("2026-11-28T14:01", "2026-11-28T14:02", [2]),
    ("2026-11-28T14:02:59", "2026-11-28T13:10:01Z", [3, 4]), (None, "2026-11-28T14:01", [1]),
    ("2026-11-28", "2026-11-29", [1, 2, 3, 4])])
def test_segments_are_chosen_by_the_clock_of_each_source(start: str | None, end: str | None, chosen: list[int]) -> None:
    whole = hour()
    assert overlapping(whole, wall_time(start or ""), wall_time(end or "")) == chosen


@pytest.mark.parametrize("start, end, said", [
    ("2026-11-28T14:04", "2026-11-28T14:09", "lies between 2026-11-28 14:00:00 and 2026-11-28 14:11:00"),
    ("2026-11-28T14:02", "2026-11-28T14:01", "2026-11-28 14:02:00 to 2026-11-28 14:01:00 is empty"),
    ("2026-11-28T14:02", 5.0, "write both as 2026-11-28T14:00 or both as 1:30")])
def test_what_the_clock_does_not_hold_is_told(start: str, end: str | float, said: str) -> None:
    last = wall_time(end) if isinstance(end, str) else end
    with pytest.raises(UsageError, match=said):
        within(hour(), wall_time(start), last)


def test_a_film_has_no_clock() -> None:
    with pytest.raises(UsageError, match="does not record when it was filmed"):
        within(make(), wall_time("2026-11-28"), None)


def test_live_sources_are_composed_by_when_they_started_whatever_the_order() -> None:
    early, late, film = live(1, began="2026-11-28T13:00:00Z"), live(2, began="2026-11-28T12:59:00-01:00"), make(3)
    one, other = join([late, film, early])[0], join([join([early, late])[0], film])[0]
    assert [s["name"] for s in one.sources] == ["lecture.mp4", "cam", "cam"]
    assert one.record == other.record and one.A.tobytes() == other.A.tobytes()
    assert [s.get("started") for s in one.sources] == [None, "2026-11-28T13:00:00Z", "2026-11-28T12:59:00-01:00"]
    assert slice_segments(one, [1]).record == early.record


def test_another_day_of_the_same_camera_is_not_lost_for_its_name() -> None:
    one, other = live(1), live(2, began="2026-11-29T13:00:00Z")
    assert lost_by(other, join([one, other])[0]) == "holds 2026-11-28 14:00:00 to 14:01:00 of cam, which would be lost"
    assert lost_by(join([other, one])[0], one) == ""


# What the commands make of it.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film of three segments, and the same as a camera would have seen it from 13:59:48 UTC on."""
    folder = tmp_path_factory.mktemp("live")
    film = Engine("tiny").ingest(EXAMPLES / "long.mp4", segment="12s")
    cam = {**film.sources[0], "name": "cam", "started": "2026-11-28T13:59:48.250Z",
           "gaps": [[1.0, 2.0, "no connection"], [3.0, 9.5, "no connection"], [12.0, 12.5, "no connection"],
                    [13.0, 23.25, "the camera's clock\njumped back 30.0 s"]],
           "dropped": {"rule": "half of the frames of a segment that waits", "frames": 6}}
    save(film, folder / "film.v2lora")
    save(replace(film, record={**film.record, "sources": [cam]}), folder / "cam.v2lora")
    return folder


@pytest.fixture
def cam(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    return "cam.v2lora"


def test_info_tells_when_and_what_was_not_seen(cam: str) -> None:
    text = " ".join(run("info", cam).stdout.split())
    assert "started 2026-11-28 14:59:48, watched live" in text
    assert "4 gaps, 0:18 in all; the last 3: 2026-11-28 14:59:51 to 14:59:57, no connection" in text
    assert "2026-11-28 15:00:01 to 15:00:11, the camera's clock jumped back 30.0 s" in text
    assert "not seen half of the frames of a segment that waits (6 frames)" in text
    assert "segment 2 2026-11-28 15:00:00 to 15:00:12, 12 frames" in text
    assert "2026-11-28 14:59:48 " in text.split("timeline")[1].split("segment 1")[0]
    assert [s["started"] for s in documents(run("info", cam, "--json"))[0]["sources"]] == ["2026-11-28T13:59:48.250Z"]


def test_ls_tells_until_when_it_was_watched_and_looks_for_no_video(cam: str) -> None:
    assert "live until 2026-11-28 15:00:24" in run("ls", cam).stdout and "--videos" not in run("ls", cam).stderr
    [told] = documents(run("ls", cam, "--json"))
    assert (told["state"], told["started_at"], told["ended_at"]) == (
        "live", "2026-11-28T13:59:48.250Z", "2026-11-28T14:00:24.250Z")


def test_ask_chooses_and_answers_by_the_clock(cam: str) -> None:
    lines = run("ask", cam, "--timeline", "What happens?").stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "2026-11-28 14:59:48 to 15:00:00", "2026-11-28 15:00:00 to 15:00:12", "2026-11-28 15:00:12 to 15:00:24"]
    one = documents(run("ask", cam, "--timeline", "What happens?", "--from", "2026-11-28T14:00:13Z", "--json"))
    assert [(d["start"], d["started_at"], d["ended_at"]) for d in one] == [
        (24.0, "2026-11-28T14:00:12.250Z", "2026-11-28T14:00:24.250Z")]
    assert "00:00:24,000 --> 00:00:36,000" in run("ask", cam, "--timeline", "--format", "srt", "What happens?").stdout
    questions = ("When does a red ring move down?", "What moves at 15:00:15?", "What moves at 2026-11-28 14:59?",
                 "When does the video start?")
    when, at, never, begins = documents(run("ask", cam, *questions, "--json"))
    assert when["answer"] == "2026-11-28 15:00:12 to 15:00:24"
    assert [(one["start"], one["ended_at"]) for one in at["answered_by"]] == [(24.0, "2026-11-28T14:00:24.250Z")]
    assert never["strategy"] == "join" and begins["answer"] == "2026-11-28 14:59:48"
    asked = run("ask", cam, "--from", "2026-11-28 15:00:15", "What moves?")
    assert "Asking the segment 2026-11-28 15:00:12 to 15:00:24 of cam" in asked.stderr


@pytest.mark.parametrize("words, said", [
    (("cam.v2lora", "--from", "2026-11-29", "What?"), "between 2026-11-28 14:59:48 and 2026-11-28 15:00:24"),
    (("film.v2lora", "--from", "2026-11-28", "What?"), "film.v2lora does not record when it was filmed"),
    (("cam.v2lora", "--from", "2026-11-28T15:00", "--to", "14:59", "What?"), "--to must come after --from"),
    (("cam.v2lora", "--from", "2026-11-28T15:00", "--to", "90", "What?"), "write both as 2026-11-28T14:00"),
    (("cam.v2lora", "--from", "2026-11-28T15:00", "--to", "2026-11-28", "What?"), "--to must come after --from"),
    (("cam.v2lora", "--from", "28.11.2026", "What?"), "or with a date, as 2026-11-28T14:00")])
def test_what_cannot_be_chosen_by_the_clock_is_said(cam: str, words: tuple[str, ...], said: str) -> None:
    assert said in run("ask", *words, status=2).stderr


def test_of_many_files_those_that_hold_nothing_of_that_time_are_passed_over(cam: str, tmp_path: Path) -> None:
    save(live(), "broken.v2lora")
    Path("broken.v2lora").write_bytes(Path("broken.v2lora").read_bytes()[:-9])
    asked = run("ask", cam, "film.v2lora", "broken.v2lora", "--from", "2026-11-28T15:00:15", "What moves?", status=1)
    Path("broken.v2lora").unlink()
    assert asked.stdout.splitlines() == ["cam.v2lora: down"] and "cut short" in asked.stderr
    assert "1 of 3 adapters hold nothing of that time." in asked.stderr and "film" not in asked.stderr
    said = run("find", ".", "a red ring", "--from", "2026-11-29", status=2).stderr
    assert "None of 2 adapters holds anything of that time; what they hold lies between 2026-11-28 14:59:48 and" in said
    run("slice", cam, "film.v2lora", "--from", "2026-11-28T15:00:15", "-o", tmp_path / "part.v2lora")
    assert load(tmp_path / "part.v2lora").span == (24, 36)


def test_find_and_slice_go_by_the_clock(cam: str, tmp_path: Path) -> None:
    assert "2026-11-28 15:00:00  2026-11-28 15:00:24" in run("find", cam, "a red ring").stdout
    [hit] = documents(run("find", cam, "a red ring", "--json"))
    assert (hit["start"], hit["started_at"], hit["ended_at"]) == (
        12.0, "2026-11-28T14:00:00.250Z", "2026-11-28T14:00:24.250Z")
    run("slice", cam, "--from", "2026-11-28T15:00", "--to", "2026-11-28T15:00:12", "-o", tmp_path / "part.v2lora")
    assert load(tmp_path / "part.v2lora").span == (0, 24)
    for words in (("--from", "2026-11-28T15:00:13", "--to", "15:00:20"),
                  ("--from", "9:00:13", "--to", "2026-11-28T09:00:20-05:00")):
        run("slice", cam, *words, "-o", tmp_path / "day.v2lora", "--force")  # the day is that of the other
        assert load(tmp_path / "day.v2lora").span == (24, 36)


@pytest.mark.parametrize("question, found", [
    ("What moves at 14:02?", ("What moves?", "", "14:02")), ("Who came at 2026-11-28 9:05:30",
                                                             ("Who came?", "2026-11-28", "9:05:30")),
    ("What moves at 14:75?", None), ("At 14:02?", None), ("What is it about?", None)])
def test_a_question_may_end_in_a_time_of_day(question: str, found: tuple[str, str, str] | None) -> None:
    assert clock_time_in(question) == found


def test_a_server_takes_and_tells_moments(folder: Path) -> None:
    with served(Engine("tiny"), folder) as server:
        listed = {one["id"]: one for one in server.ask("GET", "/api/library")[2]["videos"]}
        assert listed["cam"]["sources"][0]["started"] == "2026-11-28T14:59:48.250+01:00"
        assert "started" not in listed["film"]["sources"][0]
        assert server.ask("GET", "/v1/models/cam")[2]["v2l"]["ended_at"] == "2026-11-28T14:00:24.250Z"
        body = {"model": "cam", "messages": [{"role": "user", "content": "What moves?"}]}
        for first in ("2026-11-28T15:00:15", "2026-11-28T14:00:15Z", 25):
            _, _, reply = server.ask("POST", "/v1/chat/completions", {**body, "v2l": {"from": first}})
            assert [one["ended_at"] for one in reply["v2l"]["answered_by"]] == ["2026-11-28T14:00:24.250Z"]
        mixed = server.ask("POST", "/v1/chat/completions", {**body, "v2l": {"from": 1, "to": "2026-11-28"}})
        assert mixed[0] == 400 and "a time of the same kind" in mixed[2]["error"]["message"]
        [hit] = server.ask("POST", "/api/find", {"query": "a red ring", "id": "cam"})[2]["hits"]
        assert hit["started_at"] == "2026-11-28T14:00:00.250Z"
        words = ("ask", folder / "cam.v2lora", "--from", "2026-11-28T15:00:15", "--json", "What moves?", "--timeline")
        here, there = documents(run(*words))[0], documents(run(*words, "--server", server.url))[0]
        assert (there["answer"], there["started_at"]) == (here["answer"], "2026-11-28T14:00:12.250Z")
