"""The one concurrency primitive: a worker pool over an async iterator, `each`, or `amap` where
the results are wanted.

`limit` workers share one task group, results come in the order in which they are ready, and
nothing is buffered beyond one result a worker. The group of `amap` lives in a task of its own: a
generator must not yield from inside a task group, since a failing child would cancel the
consumer in the middle of its own work (see aiometer's `amap`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
#: Seconds that leaving a reader waits for a read under way.
LEAVE = 1.0


async def each(
    act: Callable[[In], Awaitable[None]], source: AsyncGenerator[In, None], *, limit: int
) -> None:
    """Apply `act` to all that `source` yields, `limit` at a time.

    An exception from `act` or `source` cancels the other workers and is raised here as itself.
    Closes `source`, also when cancelled.
    """
    turn = _Turn()
    ended = False

    async def worker() -> None:
        nonlocal ended
        while True:
            if turn.taken:
                await turn.free()
            if ended:
                turn.leave()
                return
            turn.taken = True
            try:
                item = await anext(source)
            except StopAsyncIteration:
                ended = True
                return
            finally:
                turn.leave()
            await act(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(worker())
    except BaseExceptionGroup as failed:
        raise first_cause(failed) from None
    finally:
        await source.aclose()


class _Turn:
    """At a source that serves one at a time.

    Whoever comes while it is free is served before those who were woken. With `asyncio.Lock`, which
    is fair, all have to wait in line and be woken one by one once a single one had to wait.
    """

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def free(self) -> None:
        """Wait until it is free."""
        while self.taken:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if not self.taken:
                    self.leave()  # somebody else may have been woken in vain for us
                raise

    def leave(self) -> None:
        """It is free: the next one may look."""
        self.taken = False
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return


async def amap(
    act: Callable[[In], Awaitable[Out]], source: AsyncGenerator[In, None], *, limit: int
) -> AsyncGenerator[Out, None]:
    """`each`, with the results: they are yielded as they come.

    Closing the generator cancels the workers, waits for them, and closes `source`.
    """
    loop = asyncio.get_running_loop()
    results: asyncio.Queue[tuple[Out, asyncio.Future[None]] | None] = asyncio.Queue()

    async def hand_on(item: In) -> None:
        # Waiting for one's own result to be taken keeps them in order; a full queue does not,
        # since whoever comes first after a place is free has it.
        taken: asyncio.Future[None] = loop.create_future()
        results.put_nowait((await act(item), taken))
        await taken

    async def drive() -> None:
        try:
            await each(hand_on, source, limit=limit)
        finally:
            results.put_nowait(None)

    driver = asyncio.create_task(drive())
    try:
        while (result := await results.get()) is not None:
            if not result[1].done():
                result[1].set_result(None)
            yield result[0]
        await driver
    finally:
        await end(driver)


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it has ended, also when this is cancelled meanwhile: what the
    task reads from cannot be closed before."""
    task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


#: A timer that fires so many seconds late shows that the process stood still; what came
#: meanwhile then has so long to be read.
STOOD_STILL, CATCHING_UP = 1.0, 0.5


class Deadline:
    """`asyncio.timeout` of one length for many tasks, with a single timer among them.

    When the process stood still (stopped, frozen, a stalled machine), what came meanwhile lies
    in the sockets: it is read before anything is late.

    A timer is a handle of the event loop that is made, started and closed: 10 µs a request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: Task -> when it is late, the first one first; None: it was, and is being told.
        self._ends: dict[asyncio.Task[Any], float | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, work: Awaitable[Out]) -> Out:
        """Await `work`, which is cancelled when it takes too long; then TimeoutError.

        One at a time for each task.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        before, ends = task.cancelling(), loop.time() + self._seconds
        self._ends[task] = ends
        if self._timer is None:
            self._timer = loop.call_at(ends, self._look, ends)
        try:
            result = await work
        except BaseException as error:
            late = self._ends.pop(task) is None
            # As in `asyncio.timeout`: somebody else may have cancelled the task as well.
            if late and task.uncancel() <= before and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error
            raise
        if self._ends.pop(task) is None:
            task.uncancel()
        return result

    def _look(self, due: float) -> None:
        """Cancel what is late and look again when the next one will be. due: now, by plan."""
        loop, self._timer = asyncio.get_running_loop(), None
        now = loop.time()
        if now - due > STOOD_STILL:
            self._timer = loop.call_at(now + CATCHING_UP, self._look, now + CATCHING_UP)
            return
        for task, ends in self._ends.items():
            if ends is None:
                continue
            if ends > now:
                self._timer = loop.call_at(ends, self._look, ends)
                return
            self._ends[task] = None
            task.cancel()


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long: is it set?"""
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of several is over; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait) for wait in waits]
        for task in tasks:
            task.add_done_callback(lambda _: [other.cancel() for other in tasks])


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of an exception group: with one failing child, the exception itself."""
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


async def from_thread(batches: Callable[[], Iterator[list[In]]]) -> AsyncGenerator[list[In], None]:
    """Iterate a blocking iterator of lists in a thread of its own.

    The thread reads at most one list ahead; closing the generator closes the iterator there.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
    iterator: Iterator[list[In]] | None = None
    try:
        iterator = await loop.run_in_executor(thread, lambda: iter(batches()))
        ahead = loop.run_in_executor(thread, next, iterator, None)
        while (batch := await ahead) is not None:
            ahead = loop.run_in_executor(thread, next, iterator, None)
            yield batch
    finally:
        # One thread: the close waits for a read under way and never overlaps it. A read that
        # hangs is left alone: neither the loop nor the end of the process waits for it.
        if isinstance(iterator, Generator):
            closing = loop.run_in_executor(thread, iterator.close)
            await asyncio.wait([closing], timeout=LEAVE)
        thread.shutdown(wait=False)
