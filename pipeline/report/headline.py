"""The report's first lines: what is done, what is left, when it ends. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.clock import utc
from pipeline.plural import counted
from pipeline.report.facts import Facts
from pipeline.report.page import Headline

_DAY = 86_400.0


def headline_of(
    status: Mapping[str, Any], facts: Facts, *, now: float, decisions: int = 0
) -> Headline:
    """The headline from what `status` tells and from the records. now: epoch seconds; decisions:
    how many captions somebody has decided on."""
    live, last = status["live"], status["last_run"]
    counts = live or last
    done = counts["captioned"] if counts else facts.captions
    failed = counts["failed"] if counts else facts.failures
    left = counts["left"] if counts else None
    quota = status["quota"]
    nights, minutes = status["eta_nights"], status["eta_minutes"]
    if nights is None and minutes is None and left and last is not None:
        nights, minutes = _from_last_run(last, left, quota)
    return Headline(
        job=status["job"],
        model=status["model"],
        done=done,
        failed=failed,
        left=left,
        cost_usd=facts.cost_usd,
        to_go=_to_go(nights, minutes),
        ends=_ends(nights, minutes, quota, now),
        running=status["running"] is not None,
        reviewed=decisions,
        quota=_quota(quota),
        made_at=utc(now),
    )


def _from_last_run(
    last: Mapping[str, Any], left: int, quota: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """(nights, minutes) at the pace of the last run; the one that does not apply is None."""
    each = last.get("captions_per_request")
    if not each:
        return None, None
    if limit := quota.get("limit"):
        return max(1, math.ceil(left / each / limit)), None
    seconds = last["seconds"] / max(1, last["requests"])
    return None, max(1, math.ceil(left / each * seconds / 60))


def _to_go(nights: int | None, minutes: int | None) -> str | None:
    if nights is not None:
        return counted(nights, "night")
    if minutes is None:
        return None
    if minutes < 120:
        return counted(minutes, "minute")
    return f"{minutes / 60:,.0f} hours"


def _ends(
    nights: int | None, minutes: int | None, quota: Mapping[str, Any], now: float
) -> str | None:
    if nights is not None:
        first = quota.get("resets_at") or now
        return utc(max(first, now) + (nights - 1) * _DAY)[:10]
    return utc(now + 60 * minutes)[:16] if minutes is not None else None


def _quota(quota: Mapping[str, Any]) -> str | None:
    if not quota.get("limit"):
        return None
    at = quota.get("resets_at")
    new = f", new at {utc(at)}" if at is not None else ""
    return f"{quota['used'] or 0:,} of {quota['limit']:,} requests used that day{new}"
