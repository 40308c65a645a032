"""A virtual clock for asyncio: time jumps to the next timer, so a simulated week takes seconds.

It jumps only when nothing is ready, no file descriptor is readable and no executor job is
pending, so real threads (the journal's writer) never see time fly past them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, tell the loop that its time has come."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> Any:
        loop = self.loop
        assert loop is not None
        if loop.pending_jobs > 0 or timeout is None:
            return super().select(0.001 if loop.pending_jobs else 1.0)
        ready = super().select(0)
        if not ready and timeout > 0:
            loop.offset += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Loop whose `time()` starts at 0 and only moves by jumps."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.pending_jobs = 0
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.offset

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        self.pending_jobs += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: object) -> None:
        self.pending_jobs -= 1


class VirtualClock:
    """A `pipeline.clock.Clock` on a virtual loop. `jump` moves the wall clock only."""

    def __init__(self, start: float = 1_795_392_000.0) -> None:
        #: Wall time at loop time 0: 2026-11-23 00:00:00 UTC by default.
        self.start = start

    def now(self) -> float:
        return self.start + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back) without any time passing."""
        self.start += seconds


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a fresh virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
