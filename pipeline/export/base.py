"""What every export format is given and gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.export.pictures import Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows to export, once through."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    #: How to come by the pictures, for formats that hold them.
    pictures: Pictures
    #: The columns of caption and key.
    caption: str = "caption"
    key: str = "key"
    #: CSV: leave cells that a spreadsheet would run as formulas as they are.
    formulas: bool = False


class Exporter(Protocol):
    """One format. One more format = one more file + one line in `EXPORTS`."""

    @property
    def folder(self) -> bool:
        """Writes a folder (True) or one file."""
        ...

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of DEST that mean this format."""
        ...

    def write(self, rows: Rows, dest: Path) -> int:
        """Write everything to `dest`, which nobody looks at yet; the number of rows written."""
        ...
