"""Limits divided between the shards of a job, rounded down. Pure.

Shards on one host share the ledger, which keeps the minute and the day for all of them; what it
does not hold (tokens, money, requests in flight) is divided. Between hosts everything is: as long
as each keeps its part, all together keep the whole, though what a shard leaves over is lost.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import JobError
from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings


def split_settings(quota: QuotaSettings, shards: int, *, hosts: bool) -> QuotaSettings:
    """`quota:` of one shard. hosts: the ledger is not shared. JobError (78) for a part of nothing."""
    update: dict[str, object] = {
        "concurrency": max(1, quota.concurrency // shards),
        "tokens_per_minute": _part(quota.tokens_per_minute, shards, "tokens_per_minute"),
    }
    if quota.max_cost_usd is not None:
        update["max_cost_usd"] = quota.max_cost_usd / shards
    if hosts and isinstance(quota.requests_per_minute, float):
        update["requests_per_minute"] = quota.requests_per_minute / shards
    if hosts and isinstance(quota.requests_per_day, int):
        update["requests_per_day"] = _part(quota.requests_per_day, shards, "requests_per_day")
    return quota.model_copy(update=update)


def split_limits(limits: Limits, shards: int, *, hosts: bool) -> Limits:
    """The service's own limits for one shard. What it says is used today was used by all of them."""
    limits = replace(
        limits,
        tokens_per_minute=_part(limits.tokens_per_minute, shards, "tokens_per_minute"),
    )
    if not hosts:
        return limits
    per_minute, used = limits.requests_per_minute, limits.used_today
    return replace(
        limits,
        requests_per_minute=None if per_minute is None else per_minute / shards,
        requests_per_day=_part(limits.requests_per_day, shards, "requests_per_day"),
        used_today=None if used is None else -(-used // shards),
    )


def _part(limit: int | None, shards: int, name: str) -> int | None:
    if limit is not None and limit < shards:
        raise JobError(
            f"quota: {shards} shards cannot share {name} {limit}: take fewer shards, or set "
            "quota.shards: shared where all run on one host"
        )
    return None if limit is None else limit // shards
