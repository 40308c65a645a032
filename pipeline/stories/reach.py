"""What the service allows right now, learnt without a request that counts: for `plan` and `check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.api import preflight
from pipeline.api.client import open_client
from pipeline.clock import Clock
from pipeline.quota.allowance import Allowance, allowance_of
from pipeline.quota.rename import rename_account
from pipeline.quota.today import Today, today
from pipeline.records import Limits
from pipeline.stories.place import state_folder
from pipeline.stories.start import World, embedded_service

if TYPE_CHECKING:
    from pipeline.api.endpoint import Endpoint
    from pipeline.config import JobConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Model, limits and what is left of today."""

    service: preflight.Service
    limits: Limits
    allowance: Allowance
    #: None where no limit is shared with other runs.
    today: Today | None


async def reach(job: JobConfig, endpoint: Endpoint, world: World) -> Reach:
    """Ask `/models` and `/key`, and look at the ledger. ServiceError 69, KeyTrouble 77."""
    if endpoint.profile.name == "embedded":
        async with embedded_service(world) as base:
            return await _reach(job, replace(endpoint, base_url=base), world, counted=False)
    return await _reach(job, endpoint, world, counted=True)


async def _reach(job: JobConfig, endpoint: Endpoint, world: World, *, counted: bool) -> Reach:
    async with open_client(
        endpoint, concurrency=1, clock=world.clock, transport=world.transport
    ) as client:
        service = await preflight.look(client, endpoint)
    limits = preflight.limits_of(endpoint, service)
    allowance = allowance_of(job.quota, limits)
    day = None
    if counted and allowance.shared:
        day = spent_today(job, endpoint, limits, world.environ, world.clock)
    return Reach(service=service, limits=limits, allowance=allowance, today=day)


def spent_today(
    job: JobConfig,
    endpoint: Endpoint,
    limits: Limits,
    environ: Mapping[str, str],
    clock: Clock,
) -> Today:
    """The ledger's view of today, corrected by what the service itself counted."""
    from pathlib import Path

    state = state_folder(environ)
    rename_account(state, former=endpoint.former_account, account=endpoint.account)
    found = today(
        state,
        job.quota,
        limits,
        account=endpoint.account,
        model=job.endpoint.model,
        output=str(Path(job.output.path).absolute()),
        now=clock.now(),
    )
    told = limits.used_today
    if told is None or told <= found.used or found.left is None:
        return found
    return replace(found, used=told, left=max(0, found.left - (told - found.used)))
