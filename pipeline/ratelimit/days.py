"""Days as the service counts them: midnight to midnight in its own zone. Pure.

A zone's midnight may not exist (the clocks jump over it) or exist twice; zoneinfo then gives the
instant of the jump, or the first of the two, and the date of an instant agrees with both.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.clock import local, utc

#: Seconds around a midnight in which a request may count for either day: a new day starts so
#: long after it, and requests that near to it are counted in both.
MARGIN = 5.0


def day_of(instant: float, zone: str) -> str:
    """The ISO date of an instant (epoch seconds) at the service."""
    return datetime.fromtimestamp(instant, ZoneInfo(zone)).date().isoformat()


def end_of(day: str, zone: str) -> float:
    """The instant at which the day after `day` begins."""
    after = date.fromisoformat(day) + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=ZoneInfo(zone)).timestamp()


def days_touched(low: float, high: float, zone: str) -> tuple[str, ...]:
    """Every day that a request sent now may be counted on.

    The service's clock is somewhere between `low` and `high`. The first day is never left out,
    so a day has ended only when even the slowest clock is `MARGIN` past its midnight.
    """
    days = [day_of(low - MARGIN, zone)]
    while end_of(days[-1], zone) <= high + MARGIN:
        days.append((date.fromisoformat(days[-1]) + timedelta(days=1)).isoformat())
    return tuple(days)


def resume_words(instant: float) -> str:
    """`resume after 2026-11-24 00:00:05 UTC (01:00:05 local)`."""
    return f"resume after {utc(instant)} ({local(instant)})"
