"""Names with dots: a value inside a column, as `data.image.url`. The column holds structs (Parquet) or
nested values as JSON text (JSON lines and arrays)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.columns import is_text

#: Cells that are looked into when the image column is looked for, and how far.
_LOOKED_AT, _DEEPEST = 20, 6


@dataclass(frozen=True, slots=True)
class InnerColumn:
    """A column that is made of another one."""

    column: str
    path: tuple[str, ...]
    kind: pa.DataType

    def taken(self, column: pa.Array) -> pa.Array:
        """Its cells; null where there is no such value."""
        for at, part in enumerate(self.path):
            if is_text(column.type):
                texts = [_inside(text, self.path[at:]) for text in column.to_pylist()]
                return pa.array(texts, pa.string())
            column = pc.struct_field(column, [column.type.get_field_index(part)])
        return column


def inner_column(schema: pa.Schema, name: str) -> InnerColumn | None:
    """What a name with dots means; None where no column begins so or it has no such field."""
    parts = name.split(".")
    for at in range(len(parts) - 1, 0, -1):
        column = ".".join(parts[:at])
        if column in schema.names:
            kind = _kind(schema.field(column).type, parts[at:])
            return None if kind is None else InnerColumn(column, tuple(parts[at:]), kind)
    return None


def values_inside(sample: Mapping[str, Sequence[object]]) -> dict[str, list[object]]:
    """The texts and bytes inside of cells, structs and lists of one or JSON text, by dotted names."""
    leaves: dict[str, list[object]] = {}
    for column, cells in sample.items():
        for cell in cells[:_LOOKED_AT]:
            for path, value in _leaves(_parsed(cell), column, _DEEPEST):
                leaves.setdefault(path, []).append(value)
    return {name: values for name, values in leaves.items() if name not in sample}


def _parsed(cell: object) -> object:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("{", "[")):
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping) and depth:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}", depth - 1)
    elif isinstance(value, str | bytes):
        yield path, value


def _kind(kind: pa.DataType, path: Sequence[str]) -> pa.DataType | None:
    for part in path:
        if is_text(kind):
            return pa.string()
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _inside(text: str | None, path: Sequence[str]) -> str | None:
    """The value at a path in JSON, as text; a list of one stands for its element."""
    try:
        value = orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None
    for part in path:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        value = value.get(part) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
