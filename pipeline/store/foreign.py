"""Records from parts that this output's journal does not know: another machine's, a lost state's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CODES, ManifestError, OutputError
from pipeline.model import Record
from pipeline.patterns import lazy
from pipeline.schema import RECORDS, table_records
from pipeline.store.parts import part_files, readable
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.store import Checkpoint

#: Records handed on together: one entry of the journal.
TOGETHER = 500
_KEY, _RECIPE = lazy(r"[0-9a-f]{32}"), lazy(r"[0-9a-f]{16}")
_NEEDED = {field.name for field in RECORDS if not field.nullable}


def foreign_parts(folder: Path) -> list[Path]:
    """The parts in a folder: an output's (captions first), or Parquet files that lie in it.
    ManifestError (65) when there is none."""
    parts = [*part_files(folder, CAPTIONS), *part_files(folder, FAILURES)] or part_files(
        folder, "."
    )
    if not parts:
        raise ManifestError(f"{folder}: no captions/*.parquet and no *.parquet in it")
    return parts


def foreign_records(part: Path) -> Iterator[tuple[list[Record], int]]:
    """The records of a part, some at a time, and how many rows are none of this program's.

    OutputError (73) for a damaged file, ManifestError (65) for one with other columns.
    """
    with readable(part), pq.ParquetFile(part, page_checksum_verification=True) as file:
        names = [field.name for field in RECORDS if field.name in file.schema_arrow.names]
        if missing := sorted(_NEEDED - set(names)):
            raise ManifestError(f"{part}: no part of an output: column {missing[0]!r} is missing")
        wanted = pa.schema([RECORDS.field(name) for name in names])
        for batch in file.iter_batches(TOGETHER, columns=names):
            try:
                table = pa.Table.from_batches([batch]).select(names).cast(wanted)
            except pa.ArrowInvalid as error:
                raise OutputError(f"{part}: {error}") from None
            records = list(filter(_is_ours, table_records(table)))
            yield records, table.num_rows - len(records)


async def adopt(checkpoint: Checkpoint, part: Path) -> tuple[int, int, int]:
    """Take the records of a part through the journal, as answers go: how many were taken, were
    known, are none of this program's. A caption replaces a failure, nothing else."""
    new = known = odd = 0
    for records, others in foreign_records(part):
        better = {
            record.key: record
            for record in records
            if (state := checkpoint.state(record.key)) is None
            or (state != "ok" and record.status == "ok")
        }
        if better:
            await checkpoint.room()
            await checkpoint.settle(list(better.values()))
        new, known = new + len(better), known + len(records) - len(better)
        odd += others
    return new, known, odd


def _is_ours(record: Record) -> bool:
    """Is it what this program writes?"""
    if not (_KEY.fullmatch(record.key) and _RECIPE.fullmatch(record.recipe)):
        return False
    if record.status == "ok":
        return bool(record.caption)
    return record.status == "failed" and record.error_code in CODES
