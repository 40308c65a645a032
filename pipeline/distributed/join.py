"""`run --join`: the shards' parts become the main output's, without a copy.

    each part of each shard: plan (its SHA-256 into the main journal) -> link it under `NNNNN-<part>`
    -> sync the folder -> mark … -> the shared output, if any, follows -> a part without rows takes
    the place of all in the shard

A part that holds a key which the main output has already (the same picture under two places, a failure
that was asked again) goes record by record through the journal, as `adopt` does: a caption replaces a
failure, else the earlier shard's stays. Whatever is cut short is done again: keys that are known are taken no second time, and parts of the
account book that stand under their new names neither. A shard's folder stays, with its log files
and thumbnails.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.captioning.interpret import deriving
from pipeline.captioning.output_location import shards_of, shared
from pipeline.clock import Clock
from pipeline.plural import counted
from pipeline.store.foreign import adopt
from pipeline.store.publish_plan import REQUESTS
from pipeline.store.store import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

_log = logging.getLogger("pipeline")


async def join_shards(
    job: JobConfig, checkpoint: Checkpoint, clock: Clock, *, take_over: bool
) -> None:
    """Move everything that the shards hold into the opened main output.

    take_over: although other hosts own shards of a shared output. Held (76) while a shard runs,
    OutputError (73) where a part is damaged.
    """
    taken = apart = 0
    shards = await asyncio.to_thread(shards_of, job)
    for shard in shards:
        folder = Path(shard.output.path)
        async with open_checkpoint(
            folder,
            derive=deriving(job),
            clock=clock,
            store=await asyncio.to_thread(shared, shard),
            take_over=take_over,
        ) as opened:
            await opened.finish()
            for part in await opened.published():
                if await checkpoint.take_part(folder, part):
                    taken += part.rows if part.folder != REQUESTS else 0
                else:
                    apart += (await adopt(checkpoint, folder / part.folder / part.name))[0]
            await checkpoint.publish()
            await opened.give_up()
    joined = f"{counted(len(shards), 'shard')} joined: {counted(taken + apart, 'record')}"
    _log.info("%s", f"{joined}, {apart:,} of them one by one" if apart else joined)
