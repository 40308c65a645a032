"""`check`'s look at the first pictures: can this machine open them, under this job's settings?"""

from __future__ import annotations

import asyncio
from itertools import chain, islice
from typing import TYPE_CHECKING

from pipeline.captioning.inputs import Environment, boundary_of
from pipeline.commands.outcome import REMEDIES
from pipeline.errors import ImageError, ManifestError

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest
    from pipeline.model import Row

#: Pictures that are opened.
OPENED = 20
#: Letters of a picture's name in a message.
NAME_CHARS = 200


def images_words(job: JobConfig, manifest: Manifest, environment: Environment) -> str:
    """How many of the first pictures can be opened; ManifestError (65) when none of them can."""
    return asyncio.run(_opened(job, manifest, environment))


async def _opened(job: JobConfig, manifest: Manifest, environment: Environment) -> str:
    from pipeline.images.load import open_images

    rows = await asyncio.to_thread(
        lambda: list(islice(chain.from_iterable(manifest.batches()), OPENED))
    )
    if not rows:
        return "the manifest is empty"
    failed = dict[str, list[str]]()
    async with open_images(
        job.images,
        folder=manifest.folder,
        boundary=boundary_of(job, manifest),
        clock=environment.clock,
        concurrency=job.quota.concurrency,
    ) as images:

        async def trouble(row: Row) -> ImageError | None:
            try:
                await images.load(row.image, inline=job.images.send != "url")
            except ImageError as error:
                return error
            return None

        for row, error in zip(rows, await asyncio.gather(*map(trouble, rows)), strict=True):
            if error is not None:
                name = "bytes" if isinstance(row.image, bytes) else str(row.image)[:NAME_CHARS]
                failed.setdefault(error.code, []).append(f"{name}: {error.message}")
    if not failed:
        return f"the first {len(rows)} can be opened"
    code, examples = max(failed.items(), key=lambda each: len(each[1]))
    count = sum(map(len, failed.values()))
    message = f"{count} of the first {len(rows)} cannot be opened ({code}: {examples[0]})"
    if (remedy := REMEDIES.get(code)) is not None:
        message += f"; {remedy}"
    if count < len(rows):
        return message
    raise ManifestError(message)
