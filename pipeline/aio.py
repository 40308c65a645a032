"""The one concurrency primitive: `amap`, a worker pool over an async iterator.

`limit` workers share one task group, results come in the order in which they are ready, and
nothing is buffered beyond one result a worker. The group lives in a task of its own: a
generator must not yield from inside a task group, since a failing child would cancel the
consumer in the middle of its own work (see aiometer's `amap`).
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


async def amap(
    act: Callable[[In], Awaitable[Out]], source: AsyncGenerator[In, None], *, limit: int
) -> AsyncGenerator[Out, None]:
    """Apply `act` to what `source` yields, `limit` at a time; yield results as they come.

    An exception from `act` or `source` cancels the other workers and is raised here as itself.
    Closing the generator cancels the workers, waits for them, and closes `source`.
    """
    results: asyncio.Queue[tuple[Out] | None] = asyncio.Queue(maxsize=limit)
    turn = asyncio.Lock()
    ended = False

    async def worker() -> None:
        nonlocal ended
        while True:
            async with turn:
                if ended:
                    return
                try:
                    one = await anext(source)
                except StopAsyncIteration:
                    ended = True
                    return
            await results.put((await act(one),))

    async def drive() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(limit):
                    group.create_task(worker())
        except (asyncio.CancelledError, GeneratorExit):
            raise  # only the consumer cancels, and it no longer reads
        except BaseException:
            await results.put(None)
            raise
        await results.put(None)

    driver = asyncio.create_task(drive())
    try:
        while (result := await results.get()) is not None:
            yield result[0]
        try:
            await driver
        except BaseExceptionGroup as group:
            raise first_cause(group) from None
    finally:
        driver.cancel()
        await asyncio.wait([driver])
        await source.aclose()


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
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        iterator = await loop.run_in_executor(thread, lambda: iter(batches()))
        try:
            ahead = loop.run_in_executor(thread, next, iterator, None)
            while (batch := await ahead) is not None:
                ahead = loop.run_in_executor(thread, next, iterator, None)
                yield batch
        finally:
            # One thread: the close waits for a read under way and never overlaps it.
            if isinstance(iterator, Generator):
                thread.submit(iterator.close)
