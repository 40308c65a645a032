"""A virtual clock for asyncio: time jumps to the next timer, so a simulated week takes seconds.

It jumps only when nothing is ready, no file descriptor is readable and no executor job is
pending, so real threads (the journal's writer) never see time fly past them.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Executor
from functools import partial
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
    """Loop whose `time()` starts at 0 and only moves by jumps.

    seed: tasks that are ready in the same turn go in an order drawn from it, as nothing promises
    them another. Plain callbacks keep their places, which asyncio does promise.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self, seed: object = None) -> None:
        self._order = None if seed is None else random.Random(f"order {seed}")
        self.offset = 0.0
        self.pending_jobs = 0
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.offset

    def _run_once(self) -> None:
        if self._order is not None and len(self._ready) > 1:
            places = [at for at, handle in enumerate(self._ready) if _is_step(handle)]
            handles = [self._ready[at] for at in places]
            self._order.shuffle(handles)
            for at, handle in zip(places, handles, strict=True):
                self._ready[at] = handle
        super()._run_once()

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        self.pending_jobs += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: object) -> None:
        self.pending_jobs -= 1


def _is_step(handle: asyncio.Handle) -> bool:
    """Does this callback take a task one step on?"""
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    return isinstance(owner, asyncio.Task) or type(callback).__name__ == "TaskStepMethWrapper"


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


def run(coroutine: Coroutine[Any, Any, T], *, seed: object = None) -> T:
    """Run a coroutine on a fresh virtual loop; seed: see `VirtualLoop`."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, seed)) as runner:
        return runner.run(coroutine)
