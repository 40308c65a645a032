"""A whole run on a virtual clock against the simulator in process: days pass in seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pipeline.captioning.inputs import Environment
from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run
from pipeline.config.job import load_job
from pipeline.simulator.core import Simulator
from tests.support import virtual
from tests.support.transport import FakeTransport, simulated


def world_of(
    simulator: Simulator, clock: virtual.VirtualClock, *, state: Path, seed: int = 0
) -> Environment:
    """The world of one command on this simulator."""
    return Environment(
        clock=clock,
        rng=random.Random(f"{seed} {clock.now()}"),  # no run draws the ids of another
        environ={"OPENROUTER_API_KEY": "sk-or-v1-test", "CAPTION_PIPELINE_STATE": str(state)},
        stream=None,
        transport=FakeTransport(simulated(simulator)),
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
