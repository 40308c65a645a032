"""The words of the progress line, and the events worth a line of their own. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.captioning.counters import RunCounters
from pipeline.clock import utc


def words_of(
    counters: RunCounters, total: int, quota: Mapping[str, Any], minutes: float
) -> list[str]:
    """The parts of the line, what matters most first. minutes: since the run began."""
    left = max(0, total - counters.settled)
    words = [f"{counters.settled}/{total}", f"{left} left"]
    words.append(f"{counters.new_captions / max(minutes, 1e-9):.0f}/min")
    words.append(f"{counters.requests} req")
    if quota.get("limit"):
        words.append(f"{quota.get('used', 0)}/{quota['limit']} today")
    if counters.failures:
        words.append(f"{counters.failures} failed")
    if counters.refused:
        words.append(f"{counters.refused}x 429")
    if eta := eta_words(counters, left, quota, minutes):
        words.append(eta)
    if quota.get("in_flight"):
        words.append(f"{quota['in_flight']} in flight")
    return words


def eta_words(counters: RunCounters, left: int, quota: Mapping[str, Any], minutes: float) -> str:
    """`4 more nights` where the day's rest does not do, else `12 min`; nothing before an answer."""
    nights, rest = eta(counters.settled, counters.requests, left, quota, minutes)
    if nights is not None:
        return f"{nights} more night{'s' * (nights != 1)}"
    return f"{rest} min" if rest is not None else ""


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


def fitted(words: Sequence[str], width: int) -> str:
    """The parts in one line of at most `width` columns; from the first that does not fit, none."""
    line = ""
    for word in words:
        longer = f"{line}, {word}" if line else word
        if len(longer) > width:
            break
        line = longer
    return line


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed between two looks at the quota and is worth a line."""
    found = []
    paused = after.get("paused_until")
    if paused and not before.get("paused_until"):
        found.append(f"paused until {utc(paused)}: the service asks to wait")
    if not paused and before.get("paused_until"):
        found.append("the pause is over, going on")
    weather = before.get("weather", "open"), after.get("weather", "open")
    if weather == ("open", "closed"):
        found.append("weather closed: nothing succeeds at the service; probing until it does")
    probe = after.get("next_probe")
    if probe and probe != before.get("next_probe"):
        found.append(
            f"the service's last answer: {after.get('last_error')}; asked again at {utc(probe)}"
        )
    if weather == ("closed", "open"):
        found.append("weather open: the service answers again, going on")
    if after.get("left") == 0 and before.get("left") != 0:
        resets = after.get("resets_at")
        new = f", new at {utc(resets)}" if isinstance(resets, int | float) else ""
        found.append(f"the day's quota of {after.get('limit')} is spent{new}")
    return found
