"""A whole run on a virtual clock against the simulator in process: days pass in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.captioning.inputs import Environment
from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run
from pipeline.config.job import load_job
from pipeline.errors import NoReply
from pipeline.simulator.core import Simulator
from pipeline.simulator.inprocess import InProcess
from tests.support import virtual


@dataclass(frozen=True, slots=True)
class Wire:
    """The client's transport over the simulator in process."""

    inner: InProcess

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        written: Callable[[], None],
    ) -> tuple[int, Mapping[str, str], bytes]:
        written()
        try:
            return await self.inner.request(method, url, headers, body or b"")
        except ConnectionResetError:
            raise NoReply("server_error", "the connection broke (simulated)", sent=True) from None


def world_of(
    simulator: Simulator, clock: virtual.VirtualClock, *, state: Path, seed: int = 0
) -> Environment:
    """The world of one command on this simulator."""
    return Environment(
        clock=clock,
        rng=random.Random(f"{seed} {clock.now()}"),  # no run draws the ids of another
        environ={"OPENROUTER_API_KEY": "sk-or-v1-test", "CAPTION_PIPELINE_STATE": str(state)},
        stream=None,
        transport=Wire(InProcess(simulator)),
    )


def run_job(
    job: Path,
    simulator: Simulator,
    clock: virtual.VirtualClock,
    *,
    state: Path,
    options: RunOptions | None = None,
    seed: int = 0,
) -> Any:
    """A coroutine of one run; awaited inside `virtual.run`."""
    environment = world_of(simulator, clock, state=state, seed=seed)
    return run(load_job(job, (), environment.environ), options or RunOptions(), environment)
