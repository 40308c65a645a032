"""The rows that have a caption, one by one, for the formats that hold nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.celltext import rows_json
from pipeline.export.base import Rows
from pipeline.export.slices import slices
from pipeline.picture_cell import NotOnePicture, picture_of

_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """One row with a caption."""

    #: Position among all rows.
    ordinal: int
    #: The image cell; None when the rows come without one (image bytes left out).
    cell: Any
    key: str
    caption: str
    #: All columns but image bytes, as a JSON object; empty unless asked for.
    columns: str


def captioned(
    rows: Rows, *, columns: bool = False, name: Callable[[str], str] = str
) -> Iterator[Captioned]:
    """Rows with a caption; `columns` fills in their JSON, `name` says what each is called there."""
    ordinal = 0
    image = rows.pictures.column
    for batch in slices(rows.batches):
        for at in range(0, batch.num_rows, 256):
            piece = batch.slice(at, 256)
            captions = piece.column(rows.caption).to_pylist()
            keys = piece.column(rows.key).to_pylist()
            cells = picture_cells(piece, image)
            lines = _json(piece, image, name) if columns else [""] * len(keys)
            for caption, key, cell, line in zip(captions, keys, cells, lines, strict=True):
                if caption:
                    yield Captioned(
                        ordinal=ordinal, cell=cell, key=key or "", caption=caption, columns=line
                    )
                ordinal += 1


def picture_cells(batch: pa.RecordBatch, image: str) -> list[Any]:
    """The image cells with what they wrap taken out; None for what is no picture."""
    if image not in batch.schema.names:
        return [None] * batch.num_rows
    return [_picture_of(cell) for cell in batch.column(image).to_pylist()]


def _picture_of(cell: object) -> object:
    try:
        return picture_of(cell)
    except NotOnePicture:
        return None


def _json(batch: pa.RecordBatch, image: str, name: Callable[[str], str]) -> list[str]:
    """The rows as JSON, pictures left out."""
    kept = [f.name for f in batch.schema if f.name != image or not holds_bytes(f.type)]
    renamed = batch.select(kept).rename_columns([name(column) for column in kept])
    return list(rows_json(renamed).to_pylist())


def holds_bytes(kind: pa.DataType) -> bool:
    """Does an image column of this type hold the pictures themselves?"""
    return bool(pa.types.is_binary(kind) or pa.types.is_struct(kind))


def one_line(caption: str) -> str:
    """Line breaks as blanks: trainers read the first line only."""
    return _BREAKS.sub(" ", caption).strip()
