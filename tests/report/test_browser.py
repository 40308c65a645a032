"""The report in a real browser: what it shows, and that nothing in it acts or leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.report.attacks import ATTACKS
from tests.support.browser import chromium, serious, watched
from tests.support.command import pipeline
from tests.support.outputs import failed, record, request, write_output

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of captions that attack it, some harmless ones, failures, and a week of requests."""
    folder = tmp_path_factory.mktemp("report")
    records = [
        record(at, caption=words, image=f"https://a.example/{words[:300]}")
        for at, words in enumerate(ATTACKS)
    ]
    records += [record(100 + at, image=f"https://b.example/{at}.jpg") for at in range(30)]
    records += [record(200, flags=["truncated"]), failed(201), failed(202, "timeout")]
    requests = [request(at) for at in range(9)] + [request(9, **{"class": "transient"})]
    job = write_output(folder, records, requests)
    done = pipeline("report", job, folder / "page.html")
    assert done.code == 0, done.err
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200, 2000])
def test_nothing_acts_and_all_is_accessible(
    browser: Browser, page_file: Path, scheme: str, width: int
) -> None:
    """No console error, no dialog, no outside request, no serious finding of axe, no sideways
    scrolling; every item has its key, and every caption is there as text."""
    size = {"width": width, "height": 900}
    with watched(browser, viewport=size, color_scheme=scheme) as page:
        page.goto(page_file.as_uri())
        assert page.locator("#cards [data-key]").count() == len(ATTACKS) + 33
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        texts = page.locator("#cards .text").all_text_contents()
        for attack in (one for one in ATTACKS if one.isprintable() and len(one) < 1000):
            assert attack in texts
        assert serious(page) == []


def test_search_and_filters(browser: Browser, page_file: Path) -> None:
    """Words, status, flag and host choose what is shown, by keyboard alone."""
    with watched(browser) as page:
        page.goto(page_file.as_uri())
        visible = page.locator("#cards [data-key]:visible")
        page.keyboard.press("/")
        page.keyboard.type("NUMBER 107")
        assert visible.count() == 1
        assert page.locator("#shown").inner_text() == f"1 of {len(ATTACKS) + 33} match"
        page.locator("#q").fill("")
        page.locator("select[data-filter=status]").select_option("failed")
        assert visible.count() == 2
        page.locator("select[data-filter=status]").select_option("")
        page.locator("select[data-filter=flag]").select_option("truncated")
        assert visible.count() == 1
        page.locator("select[data-filter=flag]").select_option("")
        page.locator("select[data-filter=host]").select_option("b.example")
        assert visible.count() == 30
        page.locator("h1").click()
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.dataset.host") == "b.example"


def test_it_reads_without_script(browser: Browser, page_file: Path) -> None:
    """No script: captions and charts are there, and no filter that would do nothing."""
    with watched(browser, java_script_enabled=False) as page:
        page.goto(page_file.as_uri())
        assert page.locator("#cards .text:visible").count() == len(ATTACKS) + 33
        assert page.locator("figure svg:visible").count() > 3
        assert not page.locator("#filters").is_visible()
