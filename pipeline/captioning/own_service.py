"""Services that this program starts itself, for as long as they are needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment

if TYPE_CHECKING:
    from pipeline.service.endpoint import Endpoint
    from pipeline.service.llamacpp.server import LlamaServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Where requests go to."""

    endpoint: Endpoint
    #: Requests that may be under way at once.
    concurrency: int
    server: LlamaServer | None = None


@asynccontextmanager
async def open_service(
    endpoint: Endpoint, environment: Environment, *, concurrency: int
) -> AsyncIterator[Opened]:
    """The endpoint with the address of its service, which is started if it is one of ours.
    ServiceError (69) when it cannot be."""
    opened = Opened(endpoint=endpoint, concurrency=concurrency)
    if endpoint.profile.name == "embedded":
        async with embedded_service(environment) as base:
            yield replace(opened, endpoint=replace(endpoint, base_url=base))
    elif endpoint.profile.name == "llamacpp":
        from pipeline.service.endpoint import Secret
        from pipeline.service.llamacpp.server import llama_server

        settings = endpoint.settings
        async with llama_server(settings, concurrency=concurrency, clock=environment.clock) as own:
            reached = replace(endpoint, base_url=own.url, key=Secret(own.key))
            # More would wait inside the server, and their deadlines would run.
            yield Opened(endpoint=reached, concurrency=own.slots, server=own)
    else:
        yield opened


@asynccontextmanager
async def embedded_service(environment: Environment) -> AsyncIterator[str]:
    """The embedded describer on a loopback port of this process; gives its base URL."""
    from pipeline.simulator.core import Simulator
    from pipeline.simulator.knobs import PROFILES
    from pipeline.simulator.server import serve

    simulator = Simulator(PROFILES["embedded"], seed=0, clock=environment.clock)
    async with serve(simulator, clock=environment.clock) as base:
        yield base
