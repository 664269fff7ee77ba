"""The page of `v2l serve` in a real Chromium: what people see of it, and what they can do without a mouse."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.library import fill_library
from support.serving import Server, served

from v2l import load, save
from v2l.adapter.join import join, slice_segments
from v2l.adapter.wall import wall_moments
from v2l.door import Engine
from v2l.serve.guard import Rules
from v2l.wording import wall_text

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEY = "k;e y=\"1\""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny")


@pytest.fixture(scope="module")
def folder(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, with two videos in one adapter, too."""
    folder = tmp_path_factory.mktemp("library")
    fill_library(engine, folder)
    both = [load(folder / name) for name in ("50% off #1?.v2lora", "talks/lecture.v2lora")]
    save(join(both)[0], folder / "talks/both.v2lora")
    return folder


@pytest.fixture(scope="module")
def server(engine: Engine, folder: Path) -> Iterator[Server]:
    with served(engine, folder) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # CI runs as root
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Open]:
    """Opens the page in a fresh browser; nothing may fail in it, and nothing be asked of another server."""
    errors: list[str] = []
    contexts = []

    def opened(hash: str = "", of: Server = server, **settings: Any) -> Any:
        context = chromium.new_context(viewport={"width": 1280, "height": 860}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda request: None if request.url.startswith(of.url) else errors.append(request.url))
        page.goto(of.url + "/" + hash)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def ask(page: Any, question: str) -> Any:
    """Asks, and gives the article of the finished answer."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    article = page.locator(".answer").first
    article.get_by_role("heading", name=question).wait_for()
    page.wait_for_selector(".answer [aria-busy]", state="detached")
    return article


def told(server: Server, model: str, question: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    return str(server.ask("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"])


def shown_images(page: Any, within: str) -> int:
    """How many pictures there are that have come and can be seen."""
    page.wait_for_selector(f"{within} img", state="attached")
    return int(page.evaluate("""within => Promise.all([...document.querySelectorAll(within + " img")].map(
        image => image.decode().then(() => 1, () => 0))).then(shown => shown.reduce((a, b) => a + b))""", within))


def test_the_library_shows_strips_and_what_is_wrong(page: Open) -> None:
    opened = page()
    opened.wait_for_selector("#videos li")
    assert opened.inner_text("#count") == "6 adapters"
    names = opened.locator("#videos .what").all_inner_texts()
    assert [name.split("\n")[0] for name in names] == ["50% off #1?", "broken", "lost", "old", "talks/both",
                                                       "talks/lecture"]
    assert "cut short" in opened.inner_text("#videos li:nth-child(2)")
    assert "The video is not here; its adapter answers without it." in opened.inner_text("#videos li:nth-child(3)")
    assert shown_images(opened, "#videos li:nth-child(6)") == 12
    opened.fill("#filter", "mp4 TALKS/lect")
    assert opened.locator("#videos li:visible").count() == 1 and opened.inner_text("#count") == "1 of 6 adapters"
    opened.fill("#filter", "zebra")
    assert opened.inner_text("#empty") == "No name contains that."


def test_an_answer_comes_with_times_that_seek_and_segments_that_answered(page: Open, server: Server) -> None:
    opened = page()
    opened.click("text=lecture >> nth=-1")
    article = ask(opened, "When does a red ring move down?")
    assert article.locator(".text").inner_text() == told(server, "talks/lecture", "When does a red ring move down?")
    article.locator(".text .time").first.click()
    assert opened.evaluate("document.querySelector('video').currentTime") == 24
    assert opened.url.endswith("#talks/lecture?t=24")
    assert opened.get_by_role("button", name="Segment 3 of 3, 0:24 to 0:36").get_attribute("aria-pressed") == "true"
    assert opened.locator(".segment.answered").count() == 1
    assert opened.inner_text("#live").startswith("Answer: 0:24")
    timeline = ask(opened, "What happens?")
    assert timeline.locator(".line").count() == 3
    assert timeline.locator(".line").first.inner_text().startswith("0:00–0:12")
    opened.check("#only")
    opened.check("#direct")
    both = ask(opened, "What moves?")
    assert both.locator("h2 .soft").inner_text().strip() == "0:24–0:36"
    sides = both.locator("section").all_inner_texts()
    assert len(sides) == 2 and sides[0].startswith("from the adapter") and sides[1].startswith("from the video")
    assert both.locator(".facts.warning").count() == 0


def test_an_address_leads_to_a_moment(page: Open) -> None:
    opened = page("#talks/lecture?t=13.5")
    opened.wait_for_selector("[aria-pressed=true]")
    assert opened.locator("[aria-pressed=true]").get_attribute("aria-label") == "Segment 2 of 3, 0:12 to 0:24"
    opened.locator("video").evaluate("video => video.readyState || new Promise(done => video.onloadeddata = done)")
    assert opened.evaluate("document.querySelector('video').currentTime") == 13.5
    assert opened.title() == "talks/lecture · v2l"
    opened.evaluate("location.hash = '#nothing/here'")
    opened.wait_for_selector("text=There is no nothing/here in the library.")
    opened.click("text=50% off")
    opened.wait_for_selector("#video-title >> text=50% off")
    assert opened.inner_text("#video-title") == "50% off #1?"
    opened.locator("video").evaluate("video => video.readyState || new Promise(done => video.onloadeddata = done)")


def test_where_the_video_cannot_play_or_is_lost_the_page_says_so_and_still_answers(page: Open, server: Server) -> None:
    opened = page("#old")
    opened.wait_for_selector("text=This browser cannot play old.avi.")
    opened.locator(".seen button").nth(1).click()
    assert "Frame at 0:0" in opened.inner_text(".caption")
    assert shown_images(opened, "#stage") == 1
    opened.evaluate("location.hash = '#lost'")
    opened.wait_for_selector("text=lost.mp4 is not beside its adapter any more")
    assert opened.locator("#direct-choice").is_hidden() and opened.locator(".seen").count() == 0
    assert ask(opened, "What moves?").locator(".text").inner_text() == told(server, "lost", "What moves?")


def test_times_of_several_videos_lead_to_the_right_one(page: Open) -> None:
    opened = page("#talks/both")
    opened.wait_for_selector(".segment")
    assert opened.locator(".film h2").all_inner_texts() == ["50% off #1?.mp4", "lecture.mp4"]
    opened.get_by_role("button", name="Segment 2 of 3, 0:12 to 0:24").press("Enter")
    assert opened.locator("video").get_attribute("aria-label") == "lecture.mp4"
    ask(opened, "When does a green star stay still?").locator(".text .time").first.click()
    assert opened.locator("video").get_attribute("aria-label") == "50% off #1?.mp4"


def test_each_of_several_videos_is_asked_itself(page: Open, engine: Engine, folder: Path) -> None:
    """One after the other, since the server looks at one at a time; of a chosen segment, only the video it is of."""
    opened = page("#talks/both")
    opened.wait_for_selector(".segment")
    assert opened.inner_text("#direct-text") == "ask the 2 videos themselves, too"
    opened.check("#direct")
    every = ask(opened, "What appears first?")
    opened.wait_for_function("document.querySelectorAll('.answer')[0].querySelectorAll('section').length == 3")
    assert every.locator("h3").all_inner_texts() == ["from the adapter", "from 50% off #1?.mp4", "from lecture.mp4"]
    opened.wait_for_function("!document.querySelector('[aria-busy]')")
    assert every.locator(".text").all_inner_texts()[1:] == [
        engine.direct(folder / place, "What appears first?").text for place in ("50% off #1?.mp4", "talks/lecture.mp4")]
    opened.get_by_role("button", name="Segment 2 of 3, 0:12 to 0:24").press("Enter")
    opened.check("#only")
    with opened.expect_request("**/api/direct") as asked:
        part = ask(opened, "What moves?")
    assert {key: asked.value.post_data_json[key] for key in ("source", "from", "to")} == {
        "source": 1, "from": 12, "to": 24}
    assert part.locator("h3").all_inner_texts() == ["from the adapter", "from lecture.mp4"]


def test_moments_are_found_in_one_video_and_in_all(page: Open) -> None:
    opened = page()
    opened.fill("#everywhere", "a red ring moves down")
    opened.press("#everywhere", "Enter")
    opened.wait_for_selector("#everywhere-hits .moment")
    assert "lecture" in opened.locator("#everywhere-hits .moment").all_inner_texts()[0] + (
        opened.locator("#everywhere-hits .moment").all_inner_texts()[1])
    assert "1 adapter could not be searched: broken.v2lora" in opened.inner_text("#everywhere-hits")
    opened.locator("#everywhere-hits a[href='#talks/lecture?t=24']").click()
    opened.wait_for_selector("[aria-pressed=true]")
    opened.fill("#moment", "a red ring moves down")
    opened.press("#moment", "Enter")
    opened.wait_for_selector("#hits .moment")
    assert opened.locator("#hits .moment").first.inner_text().startswith("0:24–0:36")
    assert opened.locator(".hit").count() == opened.locator("#hits .moment").count()
    opened.fill("#moment", "a zebra")
    opened.press("#moment", "Enter")
    opened.wait_for_selector("text=/does not know what|Nothing scores/")
    assert opened.locator(".hit").count() == 0


def test_what_is_looked_for_last_is_what_is_shown(page: Open) -> None:
    opened, held = page(), []
    opened.route("**/api/find", lambda route: route.continue_() if held else held.append(route))
    for query in ("a red ring", "a zebra"):
        opened.fill("#everywhere", query)
        opened.press("#everywhere", "Enter")
    opened.wait_for_selector("text=/does not know what|Nothing scores/")
    with opened.expect_response("**/api/find"):
        held[0].continue_()
    opened.wait_for_timeout(50)
    assert "zebra" in opened.inner_text("#everywhere-hits") and opened.locator("#everywhere-hits .moment").count() == 0


def test_a_video_that_the_model_knows_nothing_of_is_marked_in_the_library(page: Open) -> None:
    opened = page()
    opened.route("**/api/library*", lambda route: route.fulfill(
        response=(found := route.fetch()), body=found.text().replace('"foreign": false', '"foreign":true')
        .replace('"foreign":false', '"foreign":true')))
    opened.reload()
    opened.wait_for_selector("#videos li .warning")
    assert "made up: the model knows nothing of this video" in opened.inner_text("#videos li:nth-child(6)")


def test_the_library_is_as_it_is_now(page: Open, folder: Path, engine: Engine) -> None:
    whole = engine.ingest(folder / "talks/lecture.mp4", segment="12s")
    growing = folder / "talks/growing.v2lora"
    save(slice_segments(whole, [0]), growing)
    opened = page("#talks/growing")
    opened.wait_for_selector(".segment")
    try:
        article = ask(opened, "What moves?")
        save(whole, growing)
        opened.evaluate("dispatchEvent(new Event('focus'))")
        opened.wait_for_selector(".segment >> nth=2")
        assert article.is_visible(), "answers stay"
    finally:
        growing.unlink()
    opened.evaluate("dispatchEvent(new Event('focus'))")
    opened.wait_for_selector("text=talks/growing is in the library no more.")
    assert opened.locator("#send").is_disabled()
    opened.click("#back")
    opened.wait_for_selector("#videos")
    assert opened.locator("#videos >> text=growing").count() == 0


def test_a_live_file_grows_and_its_times_are_those_of_the_clock_here(page: Open, folder: Path) -> None:
    whole, file = load(folder / "talks/lecture.v2lora"), folder / "cam.v2lora"
    first, second = ({**whole.sources[0], "name": "cam", "started": began, "sha256": began[11:13] * 32}
                     for began in ("2026-11-28T23:59:00.250Z", "2026-11-29T00:10:00.750Z"))
    twice = [replace(whole, record={**whole.record, "sources": [source]}) for source in (first, second)]
    save(slice_segments(twice[0], [1]), file)
    clock = {name: [wall_text(moment) for moment in wall_moments(one.sources, one.segments)]
             for name, one in (("first", twice[0]), ("second", twice[1]))}
    try:
        opened = page("#cam", timezone_id="America/New_York")
        opened.wait_for_selector("text=cam was watched live, and no video of it was kept.")
        chosen = opened.get_by_role("button", name=f"Segment 1 of 1, {clock['first'][2]} to {clock['first'][3][11:]}")
        assert chosen.evaluate("one => [one.style.left, one.style.width]") == ["0%", "100%"]
        chosen.press("Enter")
        article = ask(opened, "When does a red ring stay still?")
        save(join(twice)[0], file)
        opened.evaluate("dispatchEvent(new Event('focus'))")
        opened.wait_for_selector(".segment >> nth=5")
        assert opened.locator(".film .ticks").nth(1).inner_text().split("\n")[0] == clock["second"][0][11:]
        assert opened.inner_text("#facts").startswith(f"cam · 1:12 · live until {clock['second'][5]}")
        assert opened.locator("[aria-pressed=true]").get_attribute("aria-label").startswith("Segment 2 of 3"), "stays"
        assert article.is_visible() and opened.locator(".segment.answered").count() == 1, "answers and marks stay"
        ask(opened, "When does a red ring move down?").locator(".text .time").last.click()
        assert opened.url.endswith("&video=1")
        opened.locator(".segment").nth(5).press("Enter")
        only = ask(opened, "What moves?") if opened.locator("#only").check() is None else None
        assert clock["second"][4] in only.locator("h2 .soft").inner_text()
        opened.click("#back")
        opened.wait_for_selector("#videos li:has-text('cam') >> text=Watched live; no video of it was kept.")
    finally:
        file.unlink()


def test_everything_can_be_done_with_the_keyboard(page: Open) -> None:
    opened = page()
    opened.wait_for_selector("#videos li")
    opened.keyboard.press("/")
    opened.keyboard.type("talks/lecture")
    for _ in range(3):  # the field and the button of the search for moments, then the row
        opened.keyboard.press("Tab")
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.keyboard.press("Enter")
    opened.wait_for_selector(".segment")
    opened.locator(".segment").first.focus()
    opened.keyboard.press("End")
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("Enter")
    assert opened.locator("[aria-pressed=true]").get_attribute("aria-label") == "Segment 2 of 3, 0:12 to 0:24"
    opened.keyboard.press("/")
    opened.keyboard.type("What moves?")
    opened.keyboard.press("Enter")
    opened.wait_for_selector(".answer .text:not([aria-busy])")
    unnamed = opened.evaluate("""[...document.querySelectorAll("button, input, select, textarea, a, video")].filter(
        one => one.checkVisibility()
        && !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length)
    ).map(one => one.outerHTML)""")
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(page: Open, scheme: str) -> None:
    opened = page(color_scheme=scheme)
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.wait_for_selector("#videos li")
    width = "[document.scrollingElement.scrollWidth, getComputedStyle(document.body).backgroundColor]"
    background = {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 21, 26)"}[scheme]
    assert opened.evaluate(width) == [390, background]
    opened.click("text=lecture >> nth=-1")
    ask(opened, "What happens?")
    assert opened.evaluate(width) == [390, background]


def test_a_key_is_asked_for_and_pictures_come_with_it(page: Open, engine: Engine, folder: Path) -> None:
    with served(engine, folder, Rules(KEY)) as guarded:
        opened = page("#talks/lecture", of=guarded)
        opened.fill("#key-value", "wrong")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("text=This is not the server's API key.")
        opened.fill("#key-value", KEY)
        opened.keyboard.press("Enter")
        opened.wait_for_selector(".segment")
        assert shown_images(opened, ".seen") == 12
        opened.locator("video").evaluate("video => video.readyState || new Promise(done => video.onloadeddata = done)")
        assert ask(opened, "What moves?").locator(".facts.warning").count() == 0
        assert opened.evaluate("localStorage.length") == 0
        opened.reload()
        opened.wait_for_selector(".segment")


def test_errors_are_sentences(page: Open, server: Server) -> None:
    opened = page("#talks/lecture")
    opened.wait_for_selector(".segment")
    opened.check("#direct")
    assert ask(opened, "Is there an <image>?").locator(".warning").inner_text() == (
        "A question with the video in the prompt cannot contain <image>; leave it out.")
    opened.uncheck("#direct")
    opened.route("**/v1/**", lambda route: route.abort())
    assert ask(opened, "What moves?").locator(".warning").inner_text() == (
        "The server does not answer; is v2l serve still running?")


def test_five_hundred_adapters_are_listed_and_only_what_is_near_is_asked_for(page: Open, engine: Engine, folder: Path,
                                                                            tmp_path: Path) -> None:
    shutil.copy(folder / "talks/lecture.mp4", tmp_path / "lecture.mp4")
    for number in range(500):
        os.link(folder / "talks/lecture.v2lora", tmp_path / f"{number:03d}.v2lora")
    with served(engine, tmp_path) as large:
        opened = page(of=large)
        opened.wait_for_selector("#videos li >> nth=499", state="attached")
        opened.wait_for_selector("#videos img", state="attached")
        assert 12 <= opened.locator("#videos img").count() <= 12 * 40
        opened.fill("#filter", "499")
        assert opened.locator("#videos li:visible").count() == 1
        opened.wait_for_selector("#videos li:visible img")


def test_an_empty_library_says_how_to_begin(page: Open, engine: Engine, tmp_path: Path) -> None:
    with served(engine, tmp_path) as empty:
        assert "v2l ingest VIDEO" in page(of=empty).inner_text("#empty:visible")
