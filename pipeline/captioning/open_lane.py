"""One endpoint, opened: its service, client, what it says of the model, and its gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment, JobInputs
from pipeline.captioning.output_location import state_folder
from pipeline.captioning.own_service import open_service
from pipeline.captioning.second import other_models
from pipeline.errors import Exit, KeyTrouble, ServiceError, StopReason
from pipeline.packsize.limits import within
from pipeline.ratelimit.rules.cost import Cost, cap_of
from pipeline.store.snapshot import spent

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.model import Limits
    from pipeline.packsize.limits import PackLimits
    from pipeline.ratelimit.protocol import RequestGate
    from pipeline.ratelimit.settings import QuotaSettings
    from pipeline.service.client import Client
    from pipeline.service.endpoint import Endpoint
    from pipeline.service.models import Model
    from pipeline.service.preflight import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEndpoint:
    """Everything that is needed to ask one endpoint."""

    #: Of several; "" where there is one.
    name: str
    endpoint: Endpoint
    client: Client
    service: Service
    limits: Limits
    gate: RequestGate
    #: What is known of other models that are asked a second time, and the gates of those with limits
    #: of their own; by name.
    models: Mapping[str, Model]
    gates: Mapping[str, RequestGate]
    #: Requests that may be under way at once.
    concurrency: int


async def open_endpoints(
    stack: AsyncExitStack,
    job: JobConfig,
    inputs: JobInputs,
    environment: Environment,
    *,
    worked: bool,
    event: Callable[[str], None],
) -> list[OpenedEndpoint]:
    """The job's endpoints; of several those that can be asked. ServiceError 69, KeyTrouble 77.

    worked: the job has captions, so its addresses are right: a service that is out will come back.
    """
    if not inputs.pool:
        return [
            await _open(stack, job, inputs, environment, "", inputs.endpoint, job.quota, worked)
        ]
    opened, troubles = [], list[ServiceError | KeyTrouble]()
    cost = None
    if (most := job.quota.max_cost_usd) is not None:
        cost = cap_of(most, await asyncio.to_thread(spent, inputs.output))
    quotas = [each.quota for each in job.endpoints]
    for (name, endpoint), quota in zip(inputs.pool.items(), quotas, strict=True):
        try:
            lane = await _open(stack, job, inputs, environment, name, endpoint, quota, False, cost)
            opened.append(lane)
        except (ServiceError, KeyTrouble) as error:
            troubles.append(error)
            event(f"{name} is left out: {error}")
    if not opened:
        raise troubles[0]
    return opened


async def _open(
    stack: AsyncExitStack,
    job: JobConfig,
    inputs: JobInputs,
    environment: Environment,
    name: str,
    wanted: Endpoint,
    quota: QuotaSettings,
    worked: bool,
    cost: Cost | None = None,
) -> OpenedEndpoint:
    from pipeline.service import preflight
    from pipeline.service.client import open_client
    from pipeline.service.models import Model

    clock = environment.clock
    service_opened = await stack.enter_async_context(
        open_service(wanted, environment, concurrency=quota.concurrency)
    )
    endpoint, concurrency = service_opened.endpoint, service_opened.concurrency
    client = await stack.enter_async_context(
        open_client(endpoint, concurrency=concurrency, clock=clock, transport=environment.transport)
    )
    patience = endpoint.settings.patience if worked or endpoint.profile.own else 0.0
    own = job.model_copy(update={"endpoint": endpoint.settings})
    others = other_models(own)
    service = await preflight.look(client, endpoint, patience=patience, others=others)
    limits = preflight.limits_of(endpoint, service)
    quota = quota.model_copy(update={"concurrency": concurrency})
    gate_of = await _gate_opener(inputs, environment, endpoint, quota, cost)
    gate = await stack.enter_async_context(gate_of(limits, model=endpoint.settings.model))
    models = {other: service.others.get(other, Model(id=other)) for other in others}
    gates = {}
    for model in models.values():
        own_limits = preflight.own_limits_of(endpoint, service, model)
        if own_limits is not None:
            opener = gate_of(own_limits, model=model.id, beside=gate)
            gates[model.id] = await stack.enter_async_context(opener)
    if (server := service_opened.server) is not None:
        server.answered = lambda: gate.circuit.last_success
        server.on_end = lambda message: gate.stop(StopReason(exit=Exit.SERVICE, message=message))
    return OpenedEndpoint(
        name=name,
        endpoint=endpoint,
        client=client,
        service=service,
        limits=limits,
        gate=gate,
        models=models,
        gates=gates,
        concurrency=concurrency,
    )


async def _gate_opener(
    inputs: JobInputs,
    environment: Environment,
    endpoint: Endpoint,
    quota: QuotaSettings,
    cost: Cost | None,
) -> Callable[..., AbstractAsyncContextManager[RequestGate]]:
    """Opens the gate of one of the endpoint's models, in the ledger of its account."""
    from pipeline.ratelimit.gate import open_gate
    from pipeline.ratelimit.rename import rename_account

    state, account = state_folder(environment.environ), endpoint.account
    await asyncio.to_thread(rename_account, state, former=endpoint.former_account, account=account)
    opener: Callable[..., AbstractAsyncContextManager[RequestGate]] = (
        environment.open_gate or open_gate
    )
    return partial(
        # Several endpoints are not asked by workers of Ray, whose gates know of no common cap.
        partial(opener, cost=cost) if cost else opener,
        quota,
        account=None if endpoint.profile.own else account,
        output=str(inputs.output.absolute()),
        patience=endpoint.settings.patience,
        clock=environment.clock,
        rng=environment.rng,
        state=state,
        spent_usd=await asyncio.to_thread(spent, inputs.output),
    )


def common_limits(limits: PackLimits, endpoints: Sequence[Endpoint]) -> PackLimits:
    """What a request may hold that every one of these services takes."""
    for images in (endpoint.profile.images for endpoint in endpoints):
        limits = within(limits, count=images.count, raw_bytes=images.raw_bytes)
    return limits


def common_side(side: int, endpoints: Sequence[Endpoint]) -> int:
    """The longest side of a picture that every one of these services takes, and that is asked for."""
    return min(endpoint.profile.images.longest(side) for endpoint in endpoints)


__all__ = ["OpenedEndpoint", "common_limits", "common_side", "open_endpoints"]
