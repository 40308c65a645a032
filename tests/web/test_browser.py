"""`watch` and `review` in a real browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.store.reviews import read_decisions
from tests.report.attacks import ATTACKS
from tests.support.browser import chromium, serious, watched
from tests.support.command import simulator, start, until, write_job
from tests.support.outputs import key_of, record, write_output
from tests.support.pictures import folder_of
from tests.support.served import Served, served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def opened(page: Page, server: Served) -> None:
    page.goto(server.url)
    expect(page.locator("#counts")).to_contain_text("decided")


def without_pictures(page: Page) -> None:
    """The images of made-up records are nowhere: answered with an empty picture."""
    page.route("**/picture/*", lambda route: route.fulfill(status=200, content_type="image/png"))


def test_200_decisions_by_keyboard_survive_kill(browser: Browser, tmp_path: Path) -> None:
    """Each key press is on disk when it is shown as saved; kill -9 takes none of them back."""
    job = write_output(tmp_path, [record(at) for at in range(210)])
    with served("review", job, "--as", "Ann") as server, watched(browser, own=server.url) as page:
        without_pictures(page)
        opened(page, server)
        for at in range(200):
            page.keyboard.press("arf"[at % 3])
        expect(page.locator("#saved")).to_have_text("200", timeout=60_000)
        server.process.kill()
        server.process.wait(30)
    made = read_decisions(tmp_path / "out")
    assert len(made) == 200
    counts = [sum(one.decision == verb for one in made.values()) for verb in VERBS]
    assert counts == [67, 67, 66]
    assert {one.by for one in made.values()} == {"Ann"}
    with served("review", job) as server, watched(browser, own=server.url) as page:
        without_pictures(page)
        opened(page, server)
        expect(page.locator("#counts")).to_have_text("134 of 210 decided, 66 flagged")


VERBS = ("accept", "reject", "flag")


def test_edit_and_find_the_unsure(browser: Browser, tmp_path: Path) -> None:
    """An edit by keyboard; what the run marked is the next unsure one; nothing is inaccessible."""
    marked = record(5, flags=["truncated"])
    job = write_output(tmp_path, [*(record(at) for at in range(5)), marked])
    with served("review", job) as server, watched(browser, own=server.url) as page:
        without_pictures(page)
        opened(page, server)
        page.keyboard.press("u")
        assert page.locator("#caption").get_attribute("data-key") == key_of(5)
        page.keyboard.press("e")
        page.locator("#text").fill("Written by hand.")
        page.keyboard.press("Enter")
        expect(page.locator("#saved")).to_have_text("1")
        assert serious(page) == []
        page.locator("#q").fill("by hand")
        assert page.locator("#cards li:visible").count() == 1
    assert read_decisions(tmp_path / "out")[key_of(5)].after == "Written by hand."


def test_two_tabs_lose_nothing(browser: Browser, tmp_path: Path) -> None:
    """The second decision on one caption is refused, shown, and made again knowingly."""
    job = write_output(tmp_path, [record(0)])
    with served("review", job) as server, browser.new_context() as context:
        one, two = context.new_page(), context.new_page()
        for page in (one, two):
            without_pictures(page)
            opened(page, server)
        one.keyboard.press("a")
        expect(one.locator("#saved")).to_have_text("1")
        two.keyboard.press("r")
        expect(two.locator("#trouble")).to_contain_text("meanwhile")
        expect(two.locator("#decision")).to_contain_text("accept")
        two.keyboard.press("r")
        expect(two.locator("#saved")).to_have_text("1")
    assert read_decisions(tmp_path / "out")[key_of(0)].decision == "reject"


def test_attacks_are_text_here_too(browser: Browser, tmp_path: Path) -> None:
    """Captions that try to be markup are shown as they are."""
    job = write_output(tmp_path, [record(at, caption=one) for at, one in enumerate(ATTACKS)])
    with served("review", job) as server, watched(browser, own=server.url) as page:
        without_pictures(page)
        opened(page, server)
        expect(page.locator("#cards li")).to_have_count(len(ATTACKS))
        for _ in ATTACKS:
            page.keyboard.press("j")
        assert page.locator("main script, main iframe, main a").count() == 0


def test_watch_shows_captions_as_they_land(browser: Browser, tmp_path: Path) -> None:
    """Opened before the first caption: they appear without a reload, long before they are in a
    part, with their pictures, in two browsers; at the end the headline says that all is done."""
    images = folder_of(tmp_path, 12)
    with simulator(tmp_path, "latency=[0.2, 0.4]", "rpm=null") as server:
        quota = {"requests_per_minute": None, "concurrency": 1}
        job = write_job(tmp_path, server.base, images, quota=quota, images={"send": "inline"})
        with (
            served("watch", job) as watching,
            watched(browser, own=watching.url) as page,
            watched(browser, own=watching.url) as second,
        ):
            page.goto(watching.url)
            second.goto(watching.url)
            process = start("run", job)
            try:
                expect(page.locator("#cards [data-key]").first).to_be_visible(timeout=60_000)
                assert process.poll() is None, "the run still goes on"
                assert not list((tmp_path / "out" / "captions").glob("*.parquet"))
                expect(page.locator("#cards [data-key]")).to_have_count(12, timeout=60_000)
                assert process.wait(60) == 0
                expect(page.locator("#headline")).to_contain_text("complete", timeout=30_000)
                expect(page.locator("#cards img")).to_have_count(12)
                expect(page.locator("#shown")).to_have_text("12 shown")
                expect(second.locator("#cards img")).to_have_count(12)
                assert serious(page) == []
            finally:
                end(process)
            status, _, _ = watching.ask("POST", "/decide", {"X-Token": ""}, {})
            assert status == 403


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    until(lambda: process.poll() is not None)
