"""The job file's `quota` and `retry` sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Settings

Auto = Literal["auto"]


class QuotaSettings(Settings):
    requests_per_minute: Annotated[float, Field(gt=0)] | Auto | None = "auto"
    """auto: by profile and model; null: no limit."""
    requests_per_day: Annotated[int, Field(ge=1)] | Auto | None = "auto"
    """Caps this job; the account's own limit holds over all jobs."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Estimated tokens, in and out."""
    concurrency: int = Field(default=8, ge=1, le=4096)
    """Requests in flight at once."""
    max_cost_usd: Annotated[float, Field(gt=0)] | None = None
    """Stop (75) before this job has spent more."""
    shards: Auto | Literal["shared", "split"] = "auto"
    """Shards of a job share one ledger on this host, or split each limit; auto splits below a scheduler."""
    when_spent: Literal["stop", "wait"] = "stop"
    """A spent day ends the run (75), or is slept through."""


class RetrySettings(Settings):
    attempts: int = Field(default=5, ge=1, le=100)
    """Attempts an image; waits for a limit do not count."""
