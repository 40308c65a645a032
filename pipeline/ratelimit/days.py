"""Days as the service counts them, and what else it has for one: midnight to midnight in its own
zone, calendar months, hours aligned to the epoch, a credit that ends once. Pure.

A zone's midnight may not exist (the clocks jump over it) or exist twice; zoneinfo then gives the
instant of the jump, or the first of the two, and the date of an instant agrees with both.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.clock import local, utc
from pipeline.patterns import lazy

#: Seconds around a midnight in which a request may count for either day: a new day starts so
#: long after it, and requests that near to it are counted in both.
MARGIN = 5.0


#: A credit that never comes again "ends" here: 2200, as far as any clock is believed.
NEVER_ENDS = 7_258_118_400.0
_HOURS = lazy(r"(\d+)h")


def day_of(instant: float, window: str) -> str:
    """The name of the window that an instant (epoch seconds) falls into at the service: an ISO date,
    a month, the hour with which hours aligned to the epoch began, or `credit`.

    window: a zone's name (its days), `month` (of UTC), `5h` and the like, or `credit`.
    """
    if window == "credit":
        return window
    if match := _HOURS.fullmatch(window):
        seconds = int(match[1]) * 3600
        start = datetime.fromtimestamp(instant // seconds * seconds, UTC)
        return start.strftime("%Y-%m-%dT%H")
    if window == "month":
        return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m")
    return datetime.fromtimestamp(instant, ZoneInfo(window)).date().isoformat()


def end_of(day: str, window: str) -> float:
    """The instant at which the window after `day` begins."""
    if window == "credit":
        return NEVER_ENDS
    if match := _HOURS.fullmatch(window):
        start = datetime.fromisoformat(f"{day}:00").replace(tzinfo=UTC)
        return start.timestamp() + int(match[1]) * 3600
    if window == "month":
        year, month = map(int, day.split("-"))
        return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
    after = date.fromisoformat(day) + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=ZoneInfo(window)).timestamp()


def describe(window: str) -> str:
    """A window for people."""
    if match := _HOURS.fullmatch(window):
        return f"hours aligned to the epoch, {match[1]} at a time"
    shapes = {"month": "a calendar month", "credit": "a credit that ends once"}
    return shapes.get(window) or f"a day begins at midnight {window}"


def days_touched(low: float, high: float, window: str) -> tuple[str, ...]:
    """Every window that a request sent now may be counted on.

    The service's clock is somewhere between `low` and `high`. The first one is never left out,
    so a day has ended only when even the slowest clock is `MARGIN` past its midnight.
    """
    days = [day_of(low - MARGIN, window)]
    while (end := end_of(days[-1], window)) <= high + MARGIN:
        days.append(day_of(end, window))
    return tuple(days)


def resume_words(instant: float) -> str:
    """`resume after 2026-11-24 00:00:05 UTC (01:00:05 local)`."""
    return f"resume after {utc(instant)} ({local(instant)})"
