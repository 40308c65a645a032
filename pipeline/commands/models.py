"""`models`: what the service has that takes images."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment
from pipeline.captioning.own_service import open_service
from pipeline.errors import JobError, ServiceError
from pipeline.service.client import open_client
from pipeline.service.endpoint import endpoint_of
from pipeline.service.list_models import list_models
from pipeline.service.models import Model, cheapest_first

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.service.endpoint import Endpoint


def models_command(
    job: JobConfig, environ: Mapping[str, str], environment: Environment, *, as_json: bool
) -> int:
    """Print the image-capable models, cheapest first; ServiceError 69 when there are none."""
    models = asyncio.run(listed(job, environ, environment))
    able = cheapest_first(models)
    if as_json:
        rows = [
            {
                "id": m.id,
                "prices": known_prices(m),
                "free": m.free,
                "context": m.context,
                "max_output": m.max_output,
                "expires": m.expires,
            }
            for m in able
        ]
        print(json.dumps({"models": rows}))  # noqa: T201 - the command's result
        return 0
    for m in able:
        print(f"{m.id}  {price(m)}  context {m.context or '?'}  {expiry(m)}".rstrip())  # noqa: T201
    return 0


async def listed(
    job: JobConfig, environ: Mapping[str, str], environment: Environment
) -> list[Model]:
    """All models of the service."""
    if job.endpoints:
        raise JobError(
            "models asks one service: leave endpoints out, and give its profile by --set"
        )
    endpoint = endpoint_of(job.endpoint, environ)
    async with open_service(endpoint, environment, concurrency=1) as opened:
        return await _listed(opened.endpoint, environment)


async def _listed(endpoint: Endpoint, environment: Environment) -> list[Model]:
    async with open_client(
        endpoint, concurrency=1, clock=environment.clock, transport=environment.transport
    ) as client:
        models, reply = await list_models(client, endpoint)
    if not models:
        raise ServiceError(f"{endpoint.base_url}: does not list its models (HTTP {reply.status})")
    return models


def known_prices(model: Model) -> dict[str, float | None] | None:
    """The prices for JSON, which has no infinity: null for one that varies."""
    if model.prices is None:
        return None
    return {name: price if price < math.inf else None for name, price in model.prices.items()}


def price(model: Model) -> str:
    """Per million tokens, in and out."""
    if model.prices is None:
        return "price not told"
    if model.free:
        return "free"
    if math.inf in model.prices.values():
        return "price varies"
    return f"${model.prices['prompt'] * 1e6:.4g} in, ${model.prices['completion'] * 1e6:.4g} out"


def expiry(model: Model) -> str:
    return f"until {model.expires}" if model.expires else ""
