"""The page that tells the run.

    rows -> fresh -> items -> requests -> settled

Everything these stages need is opened by the caller (`start.py`), so that tests pass their own
clock, network and files. Trouble with a row is a value and settles that row; trouble with the
job stops the gate; an exception that reaches this page is a bug.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial

from pipeline.aio import amap, first, from_thread
from pipeline.records import Item, Row
from pipeline.stories.present import present
from pipeline.stories.start import Opened
from pipeline.stories.supply import Supply


async def run_job(run: Opened) -> None:
    """Caption what the survey left; returns when all is settled or the run was stopped."""
    rows = fresh(run)
    items = loaded(amap(lambda row: present(run, row), rows, limit=run.ahead))
    supply = Supply(items, run.pool, stopped=run.desk.gate.stopped)
    settle = supply.settling(run.desk.settle)

    async def work() -> None:
        async with aclosing(amap(settle, supply.requests(), limit=2 * run.concurrency)) as done:
            async for _ in done:
                pass

    async with asyncio.TaskGroup() as group:
        working = group.create_task(work())
        draining = group.create_task(drain(run, supply, working))
        showing = group.create_task(run.progress.keep_showing())
        working.add_done_callback(lambda _: (draining.cancel(), showing.cancel()))


async def fresh(run: Opened) -> AsyncGenerator[Row, None]:
    """The rows to ask, in manifest order, until the run is stopped."""
    marked = partial(run.manifest.batches, only=run.survey.ask)
    async with aclosing(from_thread(marked)) as rows:
        async for row in rows:
            if run.desk.gate.stopped.is_set():
                return
            yield row


async def loaded(items: AsyncGenerator[Item | None, None]) -> AsyncGenerator[Item, None]:
    """The rows that became items; the others are settled already."""
    async with aclosing(items):
        async for item in items:
            if item is not None:
                yield item


async def drain(run: Opened, supply: Supply, working: asyncio.Task[None]) -> None:
    """Once the run is stopped, give what is in flight its time, then end the work.

    A second signal sets `run.hurry`. What is given up stays counted as spent.
    """
    await run.desk.gate.stopped.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(run.job.run.drain):
            await first(supply.idle(), run.hurry.wait())
    working.cancel()
