"""Parquet, with every type as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.base import Rows

#: Rows are gathered to row groups of about this size, whatever size the batches have.
_GROUP_ROWS, _GROUP_BYTES = 100_000, 64 << 20


@dataclass(frozen=True, slots=True)
class ParquetExporter:
    """One Parquet file."""

    folder: bool = False
    endings: tuple[str, ...] = (".parquet", ".pq")

    def write(self, rows: Rows, dest: Path) -> int:
        held: list[pa.RecordBatch] = []
        written = size = count = 0
        with pq.ParquetWriter(dest, rows.schema, compression="zstd") as writer:
            for batch in rows.batches:
                held.append(batch)
                count += batch.num_rows
                size += batch.nbytes
                if count >= _GROUP_ROWS or size >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(held, rows.schema))
                    written, held, size, count = written + count, [], 0, 0
            if held:
                writer.write_table(pa.Table.from_batches(held, rows.schema))
        return written + count


PARQUET = ParquetExporter()
