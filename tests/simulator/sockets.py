"""A simulator on a real port, in a thread of its own for callers that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.clock import SystemClock
from pipeline.simulator.core import Simulator
from pipeline.simulator.parse_options import turned
from pipeline.simulator.server import serve


def made(profile: str = "embedded", **knobs: object) -> Simulator:
    return Simulator(turned(profile, knobs), seed=0, clock=SystemClock())


@contextmanager
def in_thread(simulator: Simulator) -> Iterator[str]:
    """Serve until the end of the block; gives the base URL."""
    ready = threading.Event()
    found: dict[str, object] = {}

    async def main() -> None:
        stop = asyncio.Event()
        async with serve(simulator) as base:
            found.update(base=base, stop=stop, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield str(found["base"])
    finally:
        loop, stop = found["loop"], found["stop"]
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert isinstance(stop, asyncio.Event)
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
