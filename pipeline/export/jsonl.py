"""JSON lines: one object a row, all columns, null where there is no value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.celltext import rows_json
from pipeline.export.base import Rows, Written
from pipeline.export.slices import slices


@dataclass(frozen=True, slots=True)
class JsonlExporter:
    """One `.jsonl` file."""

    endings: tuple[str, ...] = (".jsonl", ".ndjson")
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return False

    def write(self, rows: Rows, dest: Path) -> Written:
        written = Written()
        with dest.open("wb") as file:
            for batch in slices(rows.batches):
                lines = rows_json(batch, "\n")
                end = memoryview(lines.buffers()[1]).cast("i")[len(lines)]
                file.write(memoryview(lines.buffers()[2])[:end])
                written.rows += batch.num_rows
        return written


JSONL = JsonlExporter()
