"""From Arrow batches to rows, and what makes a row bad.

What a cell wraps is taken out here: the one picture of a list, base64 without a head, JSON text.
A bad row is a value: it settles as `bad_row` without a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.celltext import as_text
from pipeline.manifest.columns import (
    is_image_struct,
    is_list,
    is_text,
    listed,
    only_elements,
    path_only,
    prompt_type,
)
from pipeline.manifest.image_column import stored_type
from pipeline.media import MAX_DATA_URI
from pipeline.model import Row
from pipeline.picture_cell import MAY_WRAP, NotOnePicture, picture_of

MAX_URL = 8_192
#: Bytes of the id.
MAX_ID = 512
#: Bytes of a cell that the prompt names.
MAX_CELL = 1 << 20
#: What a cell may be blank with.
_SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]
#: Of rows whose prompt names none; one for all of them.
_NO_COLUMNS: Mapping[str, object] = MappingProxyType({})
#: Rows, and why they are bad.
_Trouble = tuple[pa.Array, str]
_Troubles = list[_Trouble]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """The rows of a batch as it was read, made when they are iterated over: a million of them take
    two seconds."""

    batch: pa.RecordBatch
    image: str
    id_column: str | None
    columns: Sequence[str]

    def __iter__(self) -> Iterator[Row]:
        return iter(
            rows(self.batch, image=self.image, id_column=self.id_column, columns=self.columns)
        )

    def plain_images(self) -> pa.Array | None:
        """The images as text, where every row is good, is its cell as that stands, and needs no
        column but that; None: the rows say."""
        column = self.batch.column(self.image)
        if self.columns or not pa.types.is_string(column.type) or column.null_count:
            return None
        troubles: _Troubles = []
        if self.id_column is not None:
            troubles.append(_ids(self.batch, self.id_column, self.image)[1])
        if not _short_urls(column):
            troubles += _image_trouble(column, self.image)
            troubles.append((pc.match_substring_regex(column, MAY_WRAP), "wrapped"))
        return None if any(mask.true_count for mask, _ in troubles) else column


def rows(
    batch: pa.RecordBatch,
    *,
    image: str,
    id_column: str | None,
    columns: Sequence[str],
) -> list[Row]:
    """Rows of a batch as it was read."""
    images, troubles, not_one = _images(batch.column(image), image)
    cells = {name: _prompt_cells(batch.column(name), name == image) for name in columns}
    ids: list[str | None] = [None] * len(images)
    if id_column is not None:
        texts, trouble = _ids(batch, id_column, image)
        troubles.append(trouble)
        # One that is too long is cut, its row being bad.
        ids = [None if text is None else text[:MAX_ID] for text in texts.to_pylist()]
    for name, column in cells.items():
        if is_text(column.type):
            long = pc.greater(pc.binary_length(column), MAX_CELL)
            troubles.append((long, f"column {name!r}: a cell longer than {MAX_CELL >> 20} MiB"))
    reasons = _reasons(len(images), troubles, not_one)
    if not columns:
        return [
            Row(cell, i, _NO_COLUMNS, b) for cell, i, b in zip(images, ids, reasons, strict=True)
        ]
    named = [column.to_pylist() for column in cells.values()]
    return [
        Row(cell, i, dict(zip(cells, values, strict=True)), b)
        for cell, i, b, *values in zip(images, ids, reasons, *named, strict=True)
    ]


def _ids(batch: pa.RecordBatch, id_column: str, image: str) -> tuple[pa.Array, _Trouble]:
    """The ids as text, and which are too long."""
    texts = as_text(_prompt_cells(batch.column(id_column), id_column == image))
    long = pc.greater(pc.binary_length(texts), MAX_ID)
    return texts, (long, f"column {id_column!r}: an id longer than {MAX_ID} bytes")


def _prompt_cells(column: pa.Array, is_image: bool) -> pa.Array:
    """A column as prompts and ids read it: integers and booleans as such, the rest as its text. A
    picture in a struct is its path, as in exports."""
    if path_only(column.type) or (is_image and is_image_struct(listed(column.type))):
        column = only_elements(column) if is_list(column.type) else column
        at = column.type.get_field_index("path")
        column = pc.struct_field(column, [at]) if at >= 0 else pa.nulls(len(column))
    kind = prompt_type(column.type)
    if column.type == kind:
        return column
    return as_text(column) if kind == pa.string() else column.cast(kind)


def _reasons(count: int, troubles: _Troubles, not_one: Mapping[int, str]) -> list[str | None]:
    """Why each row is bad, by the first trouble that it has; None: it is not."""
    reasons: list[str | None] = [None] * count
    for mask, text in reversed(troubles):
        for at in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
            reasons[at] = text
    for at, text in not_one.items():
        reasons[at] = text
    return reasons


def _images(column: pa.Array, name: str) -> tuple[list[Any], _Troubles, dict[int, str]]:
    """The images of a column, which rows have none of use, and why lists are not of one picture."""
    lists = column if is_list(column.type) else None
    column = column if lists is None else only_elements(column)
    kind = stored_type(column.type)
    if column.type != kind:
        column = as_text(column) if kind == pa.string() else column.cast(kind)
    images, not_one = column.to_pylist(), dict[int, str]()
    wrapped = []
    if pa.types.is_string(kind):
        if lists is None and not column.null_count and _short_urls(column):
            return images, [], not_one
        wraps = pc.fill_null(pc.match_substring_regex(column, MAY_WRAP), False)
        wrapped = [(at, images[at]) for at in pc.indices_nonzero(wraps).to_pylist()]
    if lists is not None:
        lengths = pc.fill_null(pc.list_value_length(lists), 1)
        odd = pc.indices_nonzero(pc.not_equal(lengths, 1)).to_pylist()
        wrapped += [(at, lists[at].as_py()) for at in odd]
    for at, cell in wrapped:
        try:
            picture = picture_of(cell)
        except NotOnePicture as error:
            not_one[at] = f"column {name!r}: {error}"
            paths = [p.get("path") if isinstance(p, Mapping) else p for p in cell]
            picture = cell if isinstance(cell, str) else json.dumps(paths, default=len)
        if isinstance(picture, Mapping):
            picture = picture.get("bytes") or picture.get("path")
        images[at] = picture
    if wrapped and pa.types.is_string(kind):
        # Bytes in hand are judged as a data URI is: neither empty nor too long.
        texts = ["data:" if isinstance(image, bytes) else image for image in images]
        column = pa.array(texts, kind)
    return images, _image_trouble(column, name), not_one


def _image_trouble(column: pa.Array, name: str) -> _Troubles:
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


def _short_urls(column: pa.Array) -> bool:
    """Are all of these web addresses that no row is bad for?"""
    short = (pc.max(pc.binary_length(column)).as_py() or 0) <= MAX_URL
    return short and pc.all(pc.starts_with(column, "http")).as_py() is True


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
