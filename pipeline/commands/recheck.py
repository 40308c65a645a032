"""Checks of stored records: derived again after checks were changed, and one caption for many images.

Nothing is asked for a change.

What a check says follows from the caption, its raw text and how its answer ended, which records
hold. So flags are made anew, a caption that now fails becomes a failure, and one that failed by a
check becomes a caption again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import fs
from pipeline.captioning.checked import ASKS, checked
from pipeline.captioning.interpret import checks_of
from pipeline.captioning.view import SAME_CAPTION, view_of
from pipeline.checks.settings import ChecksSettings
from pipeline.model import ASK_CAPTION, ASKED_AGAIN, CHECK_FAILED, RECHECKED, Record
from pipeline.schema import table_records
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.store.store import Checkpoint

NAME = "checks.json"
#: Records in one entry of the journal.
_AT_ONCE = 500


async def recheck(
    job: JobConfig, output: Path, recipes: Container[str], checkpoint: Checkpoint
) -> int:
    """Derive records of these recipes again where the checks are others than those of the last run;
    how many changed. Parts are published."""
    mark = _mark(job.checks)
    path = output / "_state" / NAME
    # An output of before there were checks is left as it is, unless the job asks for others.
    noted = fs.read_object(path).get("checks", _mark(ChecksSettings()))
    if not checkpoint or noted == mark:
        await asyncio.to_thread(_note, path, mark)
        return 0
    count = await _settled(checkpoint, _changed(job, output, recipes))
    await asyncio.to_thread(_note, path, mark)
    return count


async def act_on_same(
    job: JobConfig, output: Path, recipes: Container[str], checkpoint: Checkpoint
) -> int:
    """Fail, or mark to be asked again, captions that too many different images have, where
    `checks.same_caption.action` says so; how many records changed. Parts are published.

    It is seen when all were asked, so it is done by the next run, once for each image.
    """
    if job.checks.same_caption.action not in (*ASKS, "fail") or not checkpoint:
        return 0
    return await _settled(checkpoint, _same(job, output, recipes))


async def _settled(checkpoint: Checkpoint, changed: Iterator[Record]) -> int:
    """Store records as they are made; how many there were."""
    count = 0
    while records := await asyncio.to_thread(lambda: list(islice(changed, _AT_ONCE))):
        await checkpoint.settle(records)
        count += len(records)
        if checkpoint.crowded:
            await checkpoint.room()
    await checkpoint.finish()
    return count


def _mark(checks: ChecksSettings) -> str:
    """What records were checked with; how they are asked again is no part of it."""
    # What one caption for many images has failed are captions again without it.
    others = {"retry"} if checks.same_caption.action == "fail" else {"retry", "same_caption"}
    settings = checks.model_dump(mode="json", exclude=others)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _note(path: Path, mark: str) -> None:
    fs.write_atomic(path, json.dumps({"checks": mark}).encode(), private=True)


def _changed(job: JobConfig, output: Path, recipes: Container[str]) -> Iterator[Record]:
    checks = checks_of(job)
    for batch in record_batches(output):
        for record in table_records(pa.Table.from_batches([batch])):
            if record.recipe not in recipes:
                continue
            again = checked(checks, record)
            if again.status == "failed" and record.status == "ok":
                again = again._replace(flags=(*again.flags, RECHECKED))
            elif again.status == "ok":
                kept = tuple([flag for flag in again.flags if flag != RECHECKED])
                again = again._replace(flags=kept)
            if again != record:
                yield again


def _same(job: JobConfig, output: Path, recipes: Container[str]) -> Iterator[Record]:
    repeated = view_of(job).repeated(output)
    for batch in record_batches(output) if repeated else ():
        for record in table_records(pa.Table.from_batches([batch])):
            text, flags = record.caption, dict.fromkeys((*record.flags, SAME_CAPTION))
            if text is None or hash(text) not in repeated or record.recipe not in recipes:
                continue
            if job.checks.same_caption.action == "fail":
                yield record._replace(
                    caption=None,
                    status="failed",
                    error_code=CHECK_FAILED,
                    error="checks: same_caption",
                    flags=(*flags, RECHECKED),
                    caption_raw=record.caption_raw or text,
                )
            elif flags.keys().isdisjoint((ASK_CAPTION, ASKED_AGAIN)):
                yield record._replace(flags=(*flags, ASK_CAPTION))
