"""The progress line, part by part, and the events worth a line of their own. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipeline.captioning.counters import RunCounters
from pipeline.clock import utc
from pipeline.plural import counted


def progress_parts(
    counters: RunCounters, total: int, quota: Mapping[str, Any], minutes: float, now: datetime
) -> list[str]:
    """The parts of the line, what matters most first.

    total: images to settle in this run; minutes: since it began; now: in the reader's zone.
    """
    done = counters.captioned + counters.failures
    images = max(counters.images, done)
    parts = [f"{done:,} of {images:,} {counters.unit}s ({100 * done // max(images, 1)}%)"]
    left = max(0, total - counters.settled)
    if counters.more:
        parts, left = [counted(done, counters.unit)], 0
    nights, rest = eta(counters.settled, counters.requests, left, quota, minutes)
    if nights is not None:
        parts.append(counted(nights, "more night"))
    elif rest is not None:
        parts.append(ends_at(now, rest))
    parts.append(f"{counters.new_captions / max(minutes, 1e-9):.0f} captions/min")
    if quota.get("limit") and quota.get("left") is not None:
        parts.append(f"{counted(quota['left'], 'request')} left today")
    if counters.failures:
        parts.append(f"{counters.failures:,} failed")
    if counters.refused:
        parts.append(f"{counters.refused:,}x 429")
    if counters.cost_usd:
        parts.append(f"${counters.cost_usd:.2f}")
    if quota.get("in_flight"):
        parts.append(f"{quota['in_flight']} in flight")
    return parts


def ends_at(now: datetime, minutes: int) -> str:
    """`ends 14:20`, `ends tonight 02:10`, `ends tomorrow 09:10`, `ends Tue 1 Dec 09:10`."""
    end = now + timedelta(minutes=minutes)
    days = (end.date() - now.date()).days
    if days == 0:
        return f"ends {end:%H:%M}"
    if days == 1:
        return f"ends {'tonight' if end.hour < 6 else 'tomorrow'} {end:%H:%M}"
    return f"ends {end:%a} {end.day} {end:%b %H:%M}"


def eta(
    settled: int, requests: int, left: int, quota: Mapping[str, Any], minutes: float
) -> tuple[int | None, int | None]:
    """(nights, None) where the day's rest does not do, else (None, minutes); (None, None): unknown.

    settled, requests: of this run so far, which took so many minutes.
    """
    if not left or not settled:
        return None, None
    needs = left * requests / settled
    limit, rest = quota.get("limit"), quota.get("left")
    if isinstance(limit, int) and isinstance(rest, int) and limit > 0 and needs > rest:
        return math.ceil((needs - rest) / limit), None
    return None, math.ceil(left * minutes / settled)


def fitted(parts: Sequence[str], width: int) -> str:
    """The parts in one line of at most `width` columns; from the first that does not fit, none."""
    line = ""
    for part in parts:
        longer = f"{line}, {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed between two looks at the quota and is worth a line."""
    if (each := after.get("endpoints")) is not None:
        earlier = before.get("endpoints", {})
        return [
            f"{name}: {line}"
            for name, own in each.items()
            for line in events(earlier.get(name, {}), own)
        ]
    lines = []
    paused = after.get("paused_until")
    if paused and not before.get("paused_until"):
        lines.append(f"paused until {utc(paused)}: the service asks to wait")
    if not paused and before.get("paused_until"):
        lines.append("the pause is over, going on")
    circuit = before.get("weather", "open"), after.get("weather", "open")
    if circuit == ("open", "closed"):
        lines.append(
            "outage: nothing succeeds at the service; probing until it does (circuit open)"
        )
    probe = after.get("next_probe")
    # Reckoned from each look at the clock, it is never the same to the microsecond.
    if probe and abs(probe - (before.get("next_probe") or 0.0)) >= 1.0:
        lines.append(
            f"the service's last answer: {after.get('last_error')}; asked again at {utc(probe)}"
        )
    if circuit == ("closed", "open"):
        lines.append("the outage is over: the service answers again, going on")
    if after.get("left") == 0 and before.get("left") != 0:
        resets = after.get("resets_at")
        new = f", new at {utc(resets)}" if isinstance(resets, int | float) else ""
        lines.append(f"the day's quota of {after.get('limit')} is spent{new}")
    return lines
