"""Which limits hold: the job file's words and what is known of the account, made one. Pure.

A number in the job file replaces what profile and model suggest for the minute; for the day it
is a cap of the job's own, and the account's limit holds beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings


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
        """Is there a limit that other processes and later runs share, so that it must be kept?"""
        return self.per_minute is not None or self.daily is not None


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
        sources["requests_per_minute"] = "job file"
    per_job = settings.requests_per_day
    if per_job == "auto":
        per_job = None
    elif per_job is not None:
        sources["requests_per_day"] = "job file"
    tokens = settings.tokens_per_minute
    if tokens is None:
        tokens = limits.tokens_per_minute
    else:
        sources["tokens_per_minute"] = "job file"
    bucket = limits.window == "bucket"
    return QuotaLimits(
        per_minute=per_minute,
        per_day=None if bucket else limits.requests_per_day,
        bucket=limits.requests_per_day if bucket else None,
        learnt=limits.learnt and settings.requests_per_minute == "auto",
        per_job=per_job,
        tokens_per_minute=tokens,
        concurrency=settings.concurrency,
        max_cost_usd=settings.max_cost_usd,
        zone=window_of(limits),
        day_scope=limits.day_scope,
        sources=sources,
    )
