"""Worker processes that decode strangers' pictures, with limits on memory and CPU time.

One process a slot, one picture at a time in it: a picture that kills its worker fails alone, and
its neighbours in the other slots do not notice. Spawned, never forked: a forked child would hold
the output's lock after its parent was killed. A worker ends with its driver, however that ended.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pipeline.errors import ImageError
from pipeline.images.limits import PICTURE_SECONDS, WORKER_BYTES
from pipeline.images.outage import machine_trouble, no_thread

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")
#: How a picture ends its worker: a fault of the decoder, or the limit of CPU seconds. For want of
#: memory it fails by MemoryError. All other ends come from outside, or from a worker that never
#: began.
_BY_A_PICTURE = frozenset(
    -number
    for number in (
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        *(signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGXCPU),
    )
)
#: Above that the event loop cannot feed them.
MOST = 16


def cores() -> int:
    """Workers worth having on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST, usable or 1))


class Workers:
    """A few processes, started when they are needed."""

    def __init__(
        self, count: int, *, memory: int = WORKER_BYTES, seconds: int = PICTURE_SECONDS
    ) -> None:
        self._memory, self._seconds = memory, seconds
        self._pools: list[ProcessPoolExecutor | None] = [None] * count
        # Last in, first out: with little to do, one worker does it all.
        self._free: asyncio.LifoQueue[int] = asyncio.LifoQueue()
        for slot in reversed(range(count)):
            self._free.put_nowait(slot)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a worker. ImageError `corrupt` if it kills two of them; SourceUnavailable when
        they are killed from outside, as by the kernel where memory is short, or do not start."""
        assert not kwargs
        slot, ended = await self._free.get(), None
        try:
            for _ in range(2):
                # Twice: the worker may have been killed from outside, or by the picture before.
                try:
                    return await asyncio.get_running_loop().run_in_executor(
                        self._pool(slot), _limited, self._seconds, work, args
                    )
                except BrokenExecutor:
                    ended = await asyncio.to_thread(self._drop, slot)
                except (OSError, RuntimeError) as error:
                    self._drop(slot, wait=0.0)
                    if isinstance(error, RuntimeError) and not no_thread(error):
                        raise
                    why = getattr(error, "strerror", None) or error
                    raise machine_trouble(f"no image worker can be started: {why}") from None
            if ended in _BY_A_PICTURE:
                raise ImageError("corrupt", "decoding it takes too much time or kills the decoder")
            raise machine_trouble("image workers are killed from outside (out of memory?)")
        finally:
            self._free.put_nowait(slot)

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        pool = self._pools[slot]
        if pool is None:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            pool = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_start, initargs=(self._memory,)
            )
            self._pools[slot] = pool
        return pool

    def _drop(self, slot: int, *, wait: float = 1.0) -> int | None:
        """Let a worker go; its exit code (-N: signal N) if it ends within so many seconds."""
        pool, self._pools[slot] = self._pools[slot], None
        if pool is None:
            return None
        workers = list((pool._processes or {}).values())  # noqa: SLF001 - nothing else tells how it ended
        pool.shutdown(wait=False)
        end, ended = time.monotonic() + wait, None
        for worker in workers:  # one at most
            # The pool's own thread may be the one that learns how it ended.
            while (ended := worker.exitcode) is None and time.monotonic() < end:
                worker.join(0.01)
            if ended is None:
                worker.kill()
        return ended

    def close(self) -> None:
        """Let them go, once they have finished what they are at."""
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(cancel_futures=True)


def _start(memory: int) -> None:
    """In a fresh worker: cap memory, dump no core, leave Ctrl-C to the driver, end with it."""
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with suppress(ValueError, OSError):  # some kernels know no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_driver() -> None:
    """Nobody else would end a worker whose driver was killed.

    It waits at a queue whose other end it holds open itself, so it would never hear of it; the
    sentinel is a pipe that the driver alone holds.
    """
    from multiprocessing import parent_process

    driver = parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _limited(seconds: int, work: Callable[..., T], args: tuple[object, ...]) -> T:
    """In a worker: so many CPU seconds for this picture, then the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
    return work(*args)
