"""The page as text: nothing that a model or a manifest wrote is markup in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from pipeline.report.facts import FactsBuilder
from pipeline.report.headline import headline_of
from pipeline.report.page import Extras, Headline, card_of, render
from tests.report.attacks import ATTACKS
from tests.support.outputs import failed, record, records_batch, request, requests_batch

STATUS = {
    "job": "made-up",
    "model": "maker/model",
    "running": None,
    "live": None,
    "last_run": None,
    "eta_nights": None,
    "eta_minutes": None,
    "quota": {"limit": None, "used": None, "left": None, "resets_at": None},
}


class Elements(HTMLParser):
    """The elements of a page with their attributes' names."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def elements(words: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page on which every word from outside is `words`."""
    builder = FactsBuilder(10)
    records = [record(0, caption=words, image=words, served_model=words, flags=[words])]
    records.append(failed(1, image=f"https://{words}/x", error=words))
    builder.add_records(records_batch(records))
    builder.add_requests(requests_batch([request(0, provider=words, served_model=words)]))
    facts = builder.facts()
    headline = headline_of({**STATUS, "job": words, "model": words}, facts, now=0.0)
    cards = [card_of(row) for row in facts.gallery.to_pylist()]
    run = {"run_id": words, "reason": words, "exit_code": 75}
    extras = Extras(runs=[run], jobs=[(words, 1, 2, 3)], audit=words)
    parser = Elements()
    parser.feed(render(headline, facts, cards, extras))
    return parser.seen


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_change_nothing_but_text(attack: str) -> None:
    """The page has the very elements and attributes that it has with letters instead of signs."""
    harmless = re.sub(r"[^\w:/.]", "x", attack)

    assert sorted(elements(attack)) == sorted(elements(harmless))


def test_a_very_long_caption_is_cut() -> None:
    """It says how long it is and does not fill the page; of megabytes a little is kept."""
    builder = FactsBuilder(10)
    long = [record(0, caption="x" * 5_000), record(1, caption="é" * 1_000_000)]
    builder.add_records(records_batch(long))
    facts = builder.facts()
    cards = [card_of(row) for row in facts.gallery.to_pylist()]

    text = render(headline_of(STATUS, facts, now=0.0), facts, cards, Extras())

    assert "(5,000 characters)" in text
    assert "(more than 20,000 characters)" in text
    assert len(text) < 100_000
    assert facts.gallery.nbytes < 100_000


def headline(**status: object) -> Headline:
    facts = replace(FactsBuilder(1).facts(), gallery=pa.table({}))
    return headline_of({**STATUS, **status}, facts, now=1_790_812_800.0)


def test_nights_to_go() -> None:
    """What is left, at the last run's captions a request and the day's quota."""
    last = {
        "captioned": 500,
        "failed": 3,
        "left": 2500,
        "captions_per_request": 2.0,
        "requests": 250,
        "seconds": 60.0,
    }
    quota = {"limit": 500, "used": 500, "left": 0, "resets_at": 1_790_899_200.0}

    made = headline(last_run=last, quota=quota)

    assert (made.done, made.failed, made.left) == (500, 3, 2500)
    assert (made.to_go, made.ends) == ("3 nights", "2026-10-04")
    assert made.quota is not None
    assert made.quota.startswith("500 of 500 requests used that day")


def test_minutes_to_go_without_a_daily_limit() -> None:
    """No daily limit: minutes, at the pace of the last run."""
    last = {
        "captioned": 500,
        "failed": 0,
        "left": 100,
        "captions_per_request": 1.0,
        "requests": 60,
        "seconds": 60.0,
    }

    assert headline(last_run=last).to_go == "2 minutes"
    assert headline(last_run={**last, "left": 0}).to_go is None
