"""What the service allows right now, learnt without a request that counts: for `plan` and `check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment, one_by_one
from pipeline.captioning.output_location import state_folder
from pipeline.captioning.own_service import open_service
from pipeline.captioning.second import other_models
from pipeline.clock import Clock
from pipeline.errors import KeyTrouble, ServiceError
from pipeline.model import Limits
from pipeline.ratelimit.limits import QuotaLimits, quota_limits_of
from pipeline.ratelimit.rename import rename_account
from pipeline.ratelimit.today import Today, today
from pipeline.service import preflight
from pipeline.service.client import open_client

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.config.job import JobConfig
    from pipeline.service.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """Model, limits and what is left of today."""

    service: preflight.Service
    limits: Limits
    quota_limits: QuotaLimits
    #: None where no limit is shared with other runs.
    today: Today | None
    #: Models of second questions that count in a quota of their own.
    others: Mapping[str, ServiceStatus] = field(default_factory=dict)


async def service_status(
    job: JobConfig, endpoint: Endpoint, environment: Environment, *, only_plan: bool = False
) -> ServiceStatus:
    """Ask `/models` and `/key`, and look at the ledger. ServiceError 69, KeyTrouble 77.

    only_plan: a price which nobody agreed to is a warning.
    """
    async with open_service(endpoint, environment, concurrency=job.quota.concurrency) as opened:
        return await _reach(job, opened.endpoint, environment, only_plan)


async def every_status(
    job: JobConfig, inputs: JobInputs, environment: Environment
) -> tuple[dict[str, ServiceStatus], list[str]]:
    """The same of each endpoint by name, "" where there is one, for a plan; and why some of several
    are left out, as a run leaves them out. ServiceError 69 or KeyTrouble 77 when all are."""
    statuses, troubles = dict[str, ServiceStatus](), dict[str, ServiceError | KeyTrouble]()
    for name, own in one_by_one(job).items():
        endpoint = inputs.pool[name] if inputs.pool else inputs.endpoint
        try:
            statuses[name] = await service_status(
                own, endpoint, environment, only_plan=not inputs.pool
            )
        except (ServiceError, KeyTrouble) as error:
            troubles[name] = error
    if not statuses:
        raise next(iter(troubles.values()))
    return statuses, [f"{name} is left out: {error}" for name, error in troubles.items()]


async def _reach(
    job: JobConfig, endpoint: Endpoint, environment: Environment, only_plan: bool
) -> ServiceStatus:
    async with open_client(
        endpoint, concurrency=1, clock=environment.clock, transport=environment.transport
    ) as client:
        others = other_models(job)
        service = await preflight.look(client, endpoint, only_plan=only_plan, others=others)
    status_of = partial(_status_of, job, endpoint, environment)
    own = {
        name: status_of(replace(service, model=model), limits, name)
        for name, model in service.others.items()
        if (limits := preflight.own_limits_of(endpoint, service, model)) is not None
    }
    status = status_of(service, preflight.limits_of(endpoint, service), job.endpoint.model)
    return replace(status, others=own)


def _status_of(
    job: JobConfig,
    endpoint: Endpoint,
    environment: Environment,
    service: preflight.Service,
    limits: Limits,
    model: str,
) -> ServiceStatus:
    quota_limits = quota_limits_of(job.quota, limits)
    day = None
    if not endpoint.profile.own and quota_limits.shared:
        at = job.endpoint.model_copy(update={"model": model})
        asked = job.model_copy(update={"endpoint": at})
        day = spent_today(asked, endpoint, limits, environment.environ, environment.clock)
        quota_limits = day.quota_limits
    return ServiceStatus(service=service, limits=limits, quota_limits=quota_limits, today=day)


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
    day = today(
        state,
        job.quota,
        limits,
        account=endpoint.account,
        model=job.endpoint.model,
        output=str(Path(job.output.path).absolute()),
        now=clock.now(),
    )
    used = limits.used_today
    if used is None or used <= day.used or day.left is None:
        return day
    return replace(day, used=used, left=max(0, day.left - (used - day.used)))
