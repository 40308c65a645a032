"""`adopt JOB FOLDER`: records of another output, or of parts whose state is lost, become this one's.

They go through the journal as answers do, so that a kill loses and doubles nothing. A key that has
a caption here keeps it. The account book is not taken over: what was paid stays where it was paid.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment
from pipeline.captioning.interpret import deriving
from pipeline.captioning.output_location import refuse_strangers, refuse_unjoined, shared
from pipeline.errors import UsageError
from pipeline.plural import counted
from pipeline.store.foreign import adopt, foreign_parts
from pipeline.store.store import open_checkpoint

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig


def adopt_command(job: JobConfig, folder: Path, environment: Environment) -> int:
    """Take them over and say how many; 0. UsageError (64) for the job's own output, ManifestError
    (65) where there is nothing to take, Held (76), OutputError (73)."""
    output = Path(job.output.path)
    if folder.resolve() == output.resolve():
        raise UsageError(f"{folder}: is this job's output; verify --repair mends a lost state")
    parts = foreign_parts(folder)
    refuse_strangers(output)
    refuse_unjoined(job)
    new, known, odd = asyncio.run(_adopt(job, parts, environment))
    message = f"{folder}: {counted(new, 'image')} taken over"
    if known:
        message += f", {known:,} known here"
    if odd:
        message += f", {counted(odd, 'row')} left out: no record"
    print(f"{message}; the next run writes dataset.parquet")  # noqa: T201 - the result
    return 0


async def _adopt(
    job: JobConfig, parts: list[Path], environment: Environment
) -> tuple[int, int, int]:
    """(taken over, known here, no records)."""
    async with open_checkpoint(
        Path(job.output.path),
        derive=deriving(job),
        clock=environment.clock,
        min_free=job.run.min_free,
        store=await asyncio.to_thread(shared, job),
    ) as checkpoint:
        taken = [await adopt(checkpoint, part) for part in parts]
        await checkpoint.finish()
    new, known, odd = (sum(counts) for counts in zip(*taken, strict=True))
    return new, known, odd
