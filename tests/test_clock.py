"""Instants as services write them."""

from __future__ import annotations

import time

import pytest

from pipeline.clock import http_date


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0000", ""])
def test_an_http_date_without_a_zone_is_utc(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this machine stands: Python would take `-0000` for its own time."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date(f"Mon, 23 Nov 2026 10:00:00 {zone}".strip()) == 1_795_428_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "soon", "Mon, 99 Nov 2026 10:00:00 GMT", "x" * 5000, "-1"])
def test_what_is_no_date(text: str) -> None:
    """One kind of error, whatever Python's parser stumbles over."""
    with pytest.raises(ValueError, match=r"date|time|day|month|hour"):
        http_date(text)
