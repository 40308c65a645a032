"""The rows that have a caption, one by one, for the formats that hold nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.export.base import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """One row with a caption."""

    #: Position among all rows.
    ordinal: int
    #: The image cell; None when the rows come without one (image bytes left out).
    cell: Any
    key: str
    caption: str
    #: All other columns.
    others: dict[str, Any]


def captioned(rows: Rows, *, others: bool = False) -> Iterator[Captioned]:
    """Rows with a caption; `others` fills in their other columns."""
    ordinal = 0
    image = rows.pictures.column
    for batch in rows.batches:
        names = batch.schema.names
        wanted = names if others else [n for n in names if n in (image, rows.key, rows.caption)]
        for at in range(0, batch.num_rows, 256):
            for row in batch.slice(at, 256).select(wanted).to_pylist():
                caption, key = row.pop(rows.caption), row.get(rows.key)
                cell = row.get(image)
                if not isinstance(cell, str):
                    row.pop(image, None)
                if caption:
                    yield Captioned(
                        ordinal=ordinal, cell=cell, key=key or "", caption=caption, others=row
                    )
                ordinal += 1
