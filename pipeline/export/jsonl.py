"""JSON lines: one object a row, all columns, null where there is no value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.export.base import Rows
from pipeline.export.cells import to_json

_ROWS = 1024


@dataclass(frozen=True, slots=True)
class JsonlExporter:
    """One `.jsonl` file."""

    folder: bool = False
    endings: tuple[str, ...] = (".jsonl", ".ndjson")

    def write(self, rows: Rows, dest: Path) -> int:
        written = 0
        with dest.open("wb") as file:
            for batch in rows.batches:
                for at in range(0, batch.num_rows, _ROWS):
                    for row in batch.slice(at, _ROWS).to_pylist():
                        file.write(to_json(row) + b"\n")
                        written += 1
        return written


JSONL = JsonlExporter()
