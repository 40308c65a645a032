"""What is left of today, looked up from outside a run: for `plan`, `check` and `status`.

Reads the ledger without changing it and without making one; a run that is going on is not
disturbed. A ledger that is missing or unreadable is the same as one that holds nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from pipeline.model import Limits
from pipeline.ratelimit.days import MARGIN, day_of, end_of
from pipeline.ratelimit.ledger_file import NAME, VERSION
from pipeline.ratelimit.ledger_view import (
    Names,
    limit_with_room,
    loss_of,
    names_of,
    unknown_of,
    view_of,
)
from pipeline.ratelimit.limits import QuotaLimits, quota_limits_of, remembered
from pipeline.ratelimit.rules.bucket import left_of
from pipeline.ratelimit.rules.daily import DayView, refusals_allowed
from pipeline.ratelimit.settings import QuotaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Today:
    """One endpoint's day, as this host knows it."""

    #: Requests counted on it, of all processes on this host; by this job alone.
    used: int
    used_by_job: int
    refused: int
    #: Reservations of this output that never got a reply; they are part of `used`.
    unknown: int
    #: The binding daily limit, and what is left of it; None: no daily limit.
    limit: int | None
    left: int | None
    #: When requests may go again after the day is spent (epoch s).
    resets_at: float
    #: The service said so, or refusals have used up what they may.
    spent: bool
    #: The limits with what the ledger remembers of them.
    quota_limits: QuotaLimits


def today(
    state: Path,
    settings: QuotaSettings,
    limits: Limits,
    *,
    account: str,
    model: str,
    output: str,
    now: float,
) -> Today:
    """The day that `now` (epoch s) falls on. The other arguments are those of `open_gate`."""
    names, quota_limits = (
        names_of(account, model, output, limits),
        quota_limits_of(settings, limits),
    )
    day = day_of(now, names.zone)
    view, unknown = _read(state / NAME, names, day)
    quota_limits = remembered(quota_limits, view.learned)
    used, by_job = view.used.get(day, 0), view.used_by_job.get(day, 0)
    allowed = refusals_allowed(quota_limits.daily)
    most = limit_with_room(limits)
    raised = most is not None and view.hold_limit is not None and view.hold_limit < most
    stated = view.hold_until > now and not raised
    spent = stated or (allowed is not None and view.refused.get(day, 0) >= allowed)
    left = [
        max(0, limit - counted)
        for limit, counted in ((quota_limits.per_day, used), (quota_limits.per_job, by_job))
        if limit is not None
    ]
    resets_at = view.hold_until if stated else end_of(day, names.zone) + MARGIN
    if quota_limits.bucket is not None:
        empty_at = view.learned.get("empty_at", 0.0)
        left.append(left_of(quota_limits.bucket, empty_at, now))
        resets_at = resets_at if stated else max(now, empty_at)
    return Today(
        used=used,
        used_by_job=by_job,
        refused=view.refused.get(day, 0),
        unknown=unknown,
        limit=quota_limits.daily,
        left=0 if spent else (min(left) if left else None),
        resets_at=resets_at,
        spent=spent,
        quota_limits=quota_limits,
    )


def _read(path: Path, names: Names, day: str) -> tuple[DayView, int]:
    # mode=rw: after a crash the journal must be rolled back before anything can be read.
    for mode in ("rw", "ro"):
        try:
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=5.0)
        except sqlite3.Error:
            continue
        try:
            db.execute("PRAGMA query_only=1")
            if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return view_of(db, names, [day], loss_of(db)), unknown_of(db, names)
        except sqlite3.Error:
            continue
        finally:
            db.close()
    return DayView(), 0
