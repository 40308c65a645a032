"""Names with dots: a value inside a column, as `data.image.url`. The column holds structs (Parquet) or
nested values as JSON text (JSON lines and arrays). Of a list, the only element that has such a value
is meant, as of the parts of a chat message the one that is a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.columns import is_list, is_text, listed

#: Cells that are looked into when the image column is looked for, and how far.
_LOOKED_AT, _DEEPEST = 20, 8


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
            if is_list(column.type):
                cells = column.to_pylist()
                return pa.array([_value(cell, self.path[at:]) for cell in cells], self.kind)
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
    if isinstance(value, list) and depth:
        inside = [leaf for inner in value for leaf in _leaves(inner, path, depth - 1)]
        times = Counter(name for name, _ in inside)
        yield from (leaf for leaf in inside if times[leaf[0]] == 1)
    elif isinstance(value, Mapping) and depth:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}", depth - 1)
    elif isinstance(value, str | bytes):
        yield path, value


def _kind(kind: pa.DataType, path: Sequence[str]) -> pa.DataType | None:
    for part in path:
        kind = listed(kind)
        if is_text(kind):
            return pa.string()
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _inside(text: str | None, path: Sequence[str]) -> str | None:
    """The value at a path in JSON, as text."""
    try:
        value = _value(orjson.loads(text or "null"), path)
    except orjson.JSONDecodeError:
        return None
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _value(value: object, path: Sequence[str]) -> Any:
    """The value at a path; of a list that of the only element which has one."""
    if not path:
        return value
    if isinstance(value, list):
        values = [inner for element in value if (inner := _value(element, path)) is not None]
        return values[0] if len(values) == 1 else None
    return _value(value.get(path[0]), path[1:]) if isinstance(value, dict) else None
