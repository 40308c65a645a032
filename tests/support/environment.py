"""A whole run on a virtual clock against the simulator in process: days pass in seconds."""

from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import suppress
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


async def killed(task: asyncio.Task[Any], folder: Path) -> bool:
    """End a run in `out` and `state` below a folder as `kill -9` does; was it still at work?

    The files are copied while no writer is at work, the run is thrown away with all it does on its way
    out, and the copies take their place: process memory is gone, the disk is not.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual.VirtualLoop)
    while loop.pending_jobs:  # noqa: ASYNC110 - the loop counts them, no event tells
        await asyncio.sleep(0)
    at_work = not task.done()
    for name in ("out", "state"):
        shutil.copytree(folder / name, folder / f"{name}.then")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    for name in ("out", "state"):
        shutil.rmtree(folder / name)
        (folder / f"{name}.then").rename(folder / name)
    # It names this process, which lives on: that of the run would be gone.
    (folder / "out/_state/lock").write_text("")
    return at_work
