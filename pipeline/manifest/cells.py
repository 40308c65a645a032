"""From Arrow batches to rows, and what makes a row bad.

The verdict is computed on whole columns, in one place, so that rows built in Python and keys
computed in SQL agree on which rows are bad. A bad row is a value: it settles as `bad_row`
without a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.celltext import as_text
from pipeline.manifest.columns import is_text, prompt_type
from pipeline.manifest.image_column import stored_type
from pipeline.media import MAX_DATA_URI
from pipeline.model import Row

MAX_URL = 8_192
#: Bytes of the id.
MAX_ID = 512
#: Bytes of a cell that the prompt names.
MAX_CELL = 1 << 20
#: What a cell may be blank with.
_SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]
#: Of rows whose prompt names none; one for all of them.
_NO_COLUMNS: Mapping[str, object] = MappingProxyType({})


def prepared(batch: pa.RecordBatch, *, image: str, columns: Sequence[str]) -> pa.RecordBatch:
    """The batch with its image and prompt columns in the types in which they are handed on."""
    arrays = []
    for field, array in zip(batch.schema, batch.columns, strict=True):
        kind = stored_type(field.type) if field.name == image else field.type
        if field.name in columns and field.name != image:
            kind = prompt_type(field.type) or field.type
        if array.type != kind:
            array = as_text(array) if kind == pa.string() else array.cast(kind)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def verdicts(
    batch: pa.RecordBatch, *, image: str, id_column: str | None, columns: Sequence[str]
) -> pa.Array | None:
    """Why each row is bad (null: it is not); None when none is. Takes a prepared batch."""
    found: list[tuple[Any, str]] = _image_trouble(batch.column(image), image)
    if id_column is not None:
        long = pc.greater(_size(batch.column(id_column)), MAX_ID)
        found.append((long, f"column {id_column!r}: an id longer than {MAX_ID} bytes"))
    for name in columns:
        column = batch.column(name)
        if name != image and is_text(column.type):
            long = pc.greater(_size(column), MAX_CELL)
            found.append((long, f"column {name!r}: a cell longer than {MAX_CELL >> 20} MiB"))
    found = [(mask, words) for mask, words in found if pc.any(mask).as_py()]
    if not found:
        return None
    return pc.case_when(
        pc.make_struct(*(pc.fill_null(mask, False) for mask, _ in found)),
        *(pa.scalar(words) for _, words in found),
    )


def _image_trouble(column: pa.Array, name: str) -> list[tuple[Any, str]]:
    empty = (_empty(column), f"column {name!r}: no image")
    if not pa.types.is_string(column.type):
        return [empty]
    length = pc.utf8_length(column)
    if (pc.max(length).as_py() or 0) <= MAX_URL:
        return [empty]
    data = pc.equal(pc.ascii_lower(pc.utf8_slice_codeunits(column, 0, 5)), "data:")
    url = pc.and_(pc.greater(length, MAX_URL), pc.invert(data))
    uri = pc.and_(pc.greater(length, MAX_DATA_URI), data)
    return [
        empty,
        (url, f"column {name!r}: longer than {MAX_URL:,} characters"),
        (uri, f"column {name!r}: a data URI of more than 20 MB"),
    ]


def _empty(column: pa.Array) -> pa.Array:
    """Rows without an image: null, blank text, no bytes, a struct with neither."""
    if pa.types.is_struct(column.type):
        masks = [_empty(pc.struct_field(column, f.name)) for f in column.type]
        mask = masks[0]
        for other in masks[1:]:
            mask = pc.and_(mask, other)
        return pc.or_(mask, column.is_null())
    if pa.types.is_string(column.type):
        # Arrow trims by tables of all Unicode, a megabyte that most manifests never need.
        first = pc.utf8_slice_codeunits(column, 0, 1)
        if pc.any(pc.is_in(first, pa.array(_SPACES))).as_py():
            column = pc.utf8_trim_whitespace(column)
    return pc.fill_null(pc.equal(pc.binary_length(column), 0), True)


def _size(column: pa.Array) -> pa.Array:
    """Bytes that each cell takes as text; 0 for null."""
    if not is_text(column.type):
        return pa.array([0] * len(column), pa.int32())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return pc.fill_null(pc.binary_length(column), 0)


def rows(
    batch: pa.RecordBatch,
    *,
    image: str,
    id_column: str | None,
    columns: Sequence[str],
) -> list[Row]:
    """Rows of a prepared batch."""
    bad = verdicts(batch, image=image, id_column=id_column, columns=columns)
    images = batch.column(image).to_pylist()
    ids = _texts(batch.column(id_column)) if id_column is not None else [None] * len(images)
    reasons = bad.to_pylist() if bad is not None else [None] * len(images)
    if not columns:
        return [
            Row(cell, i, _NO_COLUMNS, b) for cell, i, b in zip(images, ids, reasons, strict=True)
        ]
    named = [batch.column(name).to_pylist() for name in columns]
    return [
        Row(cell, i, dict(zip(columns, cells, strict=True)), b)
        for cell, i, b, *cells in zip(images, ids, reasons, *named, strict=True)
    ]


def _texts(column: pa.Array) -> list[str | None]:
    """The id column as text; one that is too long is cut, its row being bad."""
    return [None if cell is None else cell[:MAX_ID] for cell in as_text(column).to_pylist()]
