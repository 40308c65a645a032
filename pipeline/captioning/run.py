"""The page that tells the run.

    rows -> fresh -> items -> requests -> settled

Everything these stages need is opened by the caller (`wiring.py`), so that tests pass their own
clock, network and files. Trouble with a row is a value and settles that row; trouble with the
job stops the gate; an exception that reaches this page is a bug.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from itertools import groupby

from pipeline.aio import amap, each, first
from pipeline.captioning.endpoint_pool import OneEndpoint
from pipeline.captioning.prepare import captioned_before, item_of_url, load_items
from pipeline.captioning.request_source import RequestSource
from pipeline.captioning.select import Candidate
from pipeline.captioning.wiring import RunContext
from pipeline.descriptors import SpareDescriptors
from pipeline.errors import Exit, ManifestError, StopReason
from pipeline.model import Item

#: Items without an image to load that are handed on at once: a hand-over costs as much as an item.
TOGETHER = 16


async def run_job(run: RunContext) -> None:
    """Caption the rows that the selection gives; returns when all is settled or the run was stopped."""
    rows = split_loadable(run, run.sources.candidates(run.selection))
    items = amap(partial(loaded, run), rows, limit=run.ahead)
    captioner = run.captioner
    asked = run.endpoint_pool or OneEndpoint(captioner)
    asked.remember(partial(captioned_before, run))
    request_source = RequestSource(
        items, captioner.packing.pool, asked, stopped=run.gate.stopped, suspects=run.suspects
    )
    settle = request_source.settling(asked.settle)
    work = each(settle, request_source.requests(), limit=run.workers)

    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        beside = [
            group.create_task(SpareDescriptors().keep_looking(captioner.clock, run.progress.event)),
            group.create_task(run.progress.keep_showing()),
            group.create_task(request_source.keep_asking_again()),
            group.create_task(drain(run, request_source, working)),
        ]
        working.add_done_callback(lambda _: [task.cancel() for task in beside])
    for copies in run.same_pictures.copies():
        await captioner.checkpoint.room()
        await captioner.checkpoint.settle(copies)
    for sentence in run.same_pictures.sentences():
        run.progress.event(sentence)
    for reason in (run.sources.reason(), asked.reason_left):
        if reason is not None:
            run.gate.stop(reason)


async def split_loadable(
    run: RunContext, batches: AsyncGenerator[list[Candidate], None]
) -> AsyncGenerator[tuple[Candidate, ...] | list[Item], None]:
    """Rows of an image to load, with their keys, one for each prompt, and, several at a time, items
    that need no loading; until the run is stopped, by a manifest that changes too."""
    stopped = run.gate.stopped
    try:
        async with aclosing(batches):
            async for candidates in batches:
                ready: list[Item] = []
                for _, of_one_image in groupby(
                    candidates, lambda candidate: id(candidate[0].image)
                ):
                    items = [
                        (candidate, item_of_url(run, *candidate)) for candidate in of_one_image
                    ]
                    ready += [item for _, item in items if item is not None]
                    to_load = tuple([candidate for candidate, item in items if item is None])
                    if ready and (to_load or len(ready) >= TOGETHER):
                        yield ready
                        ready = []
                    if to_load:
                        run.sources.begins()
                        yield to_load
                    if stopped.is_set():
                        return
                if ready:
                    yield ready
    except ManifestError as error:
        run.gate.stop(StopReason(exit=Exit.MANIFEST, message=str(error)))


async def loaded(run: RunContext, candidates: tuple[Candidate, ...] | list[Item]) -> list[Item]:
    """Items to ask: those at hand, or those of one image, unless they settled."""
    if isinstance(candidates, list):
        return candidates
    try:
        return await load_items(run, candidates)
    finally:
        run.sources.ends()


async def drain(
    run: RunContext, request_source: RequestSource, working: asyncio.Task[None]
) -> None:
    """Once the run is stopped, give what is in flight its time, then end the work.

    A second signal sets `run.hurry`. What is given up stays counted as spent.
    """
    await run.gate.stopped.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(run.job.run.drain):
            await first(request_source.idle(), run.hurry.wait())
    working.cancel()
