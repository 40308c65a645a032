"""Days in the service's zone: midnights that do not exist, exist twice, and month ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.ratelimit.days import MARGIN, day_of, days_touched, end_of, resume_words


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("day", "zone", "end"),
    [
        ("2026-11-23", "UTC", "2026-11-24T00:00:00"),
        ("2026-12-31", "UTC", "2027-01-01T00:00:00"),
        ("2028-02-28", "UTC", "2028-02-29T00:00:00"),
        ("2028-02-29", "UTC", "2028-03-01T00:00:00"),
        ("2027-02-28", "UTC", "2027-03-01T00:00:00"),
        ("2026-07-01", "America/Los_Angeles", "2026-07-02T07:00:00"),
        ("2026-12-01", "America/Los_Angeles", "2026-12-02T08:00:00"),
        # The clocks go forward on 8 March at 2:00, back on 1 November at 2:00.
        ("2026-03-08", "America/Los_Angeles", "2026-03-09T07:00:00"),
        ("2026-11-01", "America/Los_Angeles", "2026-11-02T08:00:00"),
        # Midnight itself does not exist in Santiago on 6 September 2026 (00:00 -> 01:00).
        ("2026-09-05", "America/Santiago", "2026-09-06T04:00:00"),
        # 23:00 to midnight exists twice there on 4 April 2026.
        ("2026-04-04", "America/Santiago", "2026-04-05T04:00:00"),
        # 00:00 to 01:00 exists twice in Havana on 1 November 2026.
        ("2026-10-31", "America/Havana", "2026-11-01T04:00:00"),
    ],
)
def test_a_day_ends_at_the_next_midnight_of_its_zone(day: str, zone: str, end: str) -> None:
    """The instant of the reset, also where the clocks are changed."""
    assert end_of(day, zone) == at(end)


@pytest.mark.parametrize(
    "zone", ["UTC", "America/Los_Angeles", "America/Santiago", "America/Havana"]
)
def test_every_instant_lies_within_its_day(zone: str) -> None:
    """Over two years, hour by hour: the day's end is ahead, at most 25 hours, and ends it."""
    instant = at("2026-01-01T00:00:00")
    while instant < at("2028-04-01T00:00:00"):
        day = day_of(instant, zone)
        end = end_of(day, zone)

        assert instant < end <= instant + 25 * 3600
        assert day_of(end, zone) > day
        assert day_of(end - 1, zone) == day
        instant += 3600


def test_around_midnight_both_days_are_touched() -> None:
    """Within the margin, or as far as the service's clock may be off, a request counts twice."""
    midnight = at("2026-11-24T00:00:00")

    assert days_touched(midnight - 60, midnight - 60, "UTC") == ("2026-11-23",)
    assert days_touched(midnight - 4, midnight - 4, "UTC") == ("2026-11-23", "2026-11-24")
    assert days_touched(midnight + 4, midnight + 4, "UTC") == ("2026-11-23", "2026-11-24")
    assert days_touched(midnight + MARGIN, midnight + MARGIN, "UTC") == ("2026-11-24",)
    assert days_touched(midnight - 1800, midnight + 1800, "UTC") == ("2026-11-23", "2026-11-24")
    assert len(days_touched(midnight - 1, midnight + 90000, "UTC")) == 3


def test_the_resume_instant_is_shown_in_both_zones() -> None:
    """The words that the user reads."""
    words = resume_words(at("2026-11-24T00:00:05"))

    assert words.startswith("resume after 2026-11-24 00:00:05 UTC (")
    assert words.endswith(" local)")
