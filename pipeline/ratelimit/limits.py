"""Which limits hold: the job file's words and what is known of the account, made one. Pure.

A number in the job file replaces what profile and model suggest for the minute; for the day it
is a cap of the job's own, and the account's limit holds beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings

#: Where a number comes from that the job file names.
JOB_FILE = "job file"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimits:
    """The limits of one endpoint for this job; None = no such limit."""

    per_minute: float | None = None
    #: The account's (or the model's) own.
    per_day: int | None = None
    #: The same as a bucket that refills all the time.
    bucket: float | None = None
    #: Is the limit a minute a guess?
    learnt: bool = False
    #: Do answers tell limits?
    announced: bool = False
    #: This job's own cap.
    per_job: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 8
    max_cost_usd: float | None = None
    #: What the day is: a zone, or another window (`days.day_of`).
    zone: str = "UTC"
    day_scope: Literal["account", "model"] = "account"
    #: Where each number comes from, for `plan` and `check`.
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def daily(self) -> int | None:
        """The smallest of the daily limits."""
        bucket = None if self.bucket is None else int(self.bucket)
        known = [limit for limit in (self.per_day, self.per_job, bucket) if limit is not None]
        return min(known) if known else None

    @property
    def shared(self) -> bool:
        """Is there a limit that other processes and later runs share, or may one be told, so that it
        must be kept?"""
        return self.announced or self.per_minute is not None or self.daily is not None


#: Where a remembered number comes from, and what it is called in `sources`.
REMEMBERED = "learnt from its answers"
_NAMES = {
    "per_minute": "requests_per_minute",
    "tokens_per_minute": "tokens_per_minute",
    "bucket": "requests_per_day",
    "per_day": "requests_per_day",
}


def remembered(limits: QuotaLimits, learned: Mapping[str, float]) -> QuotaLimits:
    """The limits with what the ledger remembers of them (`learned.py`); the job file's own stay."""
    own = {name: source for name, source in limits.sources.items() if source == JOB_FILE}
    taken = {
        "per_minute": (limits.announced or limits.learnt) and "requests_per_minute" not in own,
        "tokens_per_minute": limits.announced and "tokens_per_minute" not in own,
        "bucket": limits.announced,
        "per_day": limits.per_day is limits.bucket is None and "bucket" not in learned,
    }
    known = {name: learned[name] for name, takes in taken.items() if takes and name in learned}
    if not known:
        return limits
    sources = {**limits.sources, **{_NAMES[name]: REMEMBERED for name in known}, **own}
    day, tokens = known.get("per_day"), known.get("tokens_per_minute")
    return replace(
        limits,
        per_minute=known.get("per_minute", limits.per_minute),
        tokens_per_minute=limits.tokens_per_minute if tokens is None else int(tokens),
        bucket=known.get("bucket", limits.bucket),
        per_day=limits.per_day if day is None else int(day),
        sources=sources,
    )


def window_of(limits: Limits) -> str:
    """What a limit's "day" is, as `days.day_of` takes it."""
    return limits.reset_zone if limits.window in ("day", "bucket") else limits.window


def quota_limits_of(settings: QuotaSettings, limits: Limits) -> QuotaLimits:
    """Combine `quota:` of the job file with the service's limits."""
    sources = dict(limits.sources)
    per_minute = settings.requests_per_minute
    if per_minute == "auto":
        per_minute = limits.requests_per_minute
    else:
        sources["requests_per_minute"] = JOB_FILE
    per_job = settings.requests_per_day
    if per_job == "auto":
        per_job = None
    elif per_job is not None:
        sources["requests_per_day"] = JOB_FILE
    tokens = settings.tokens_per_minute
    if tokens is None:
        tokens = limits.tokens_per_minute
    else:
        sources["tokens_per_minute"] = JOB_FILE
    bucket = limits.window == "bucket"
    return QuotaLimits(
        per_minute=per_minute,
        per_day=None if bucket else limits.requests_per_day,
        bucket=limits.requests_per_day if bucket else None,
        learnt=limits.learnt and settings.requests_per_minute == "auto",
        announced=limits.announced,
        per_job=per_job,
        tokens_per_minute=tokens,
        concurrency=settings.concurrency,
        max_cost_usd=settings.max_cost_usd,
        zone=window_of(limits),
        day_scope=limits.day_scope,
        sources=sources,
    )
