"""JSON lines, and a JSON array of objects, also inside one object; told apart by how they begin.

Columns and types come from the first 4 MiB: numbers stay numbers, text stays text, a column of
several types or of nested values becomes JSON text, except `{"path": …}`, which stays an image
reference. Later rows must fit; a new key or a value that does not fit is an error that names its
line, as leaving it out silently would lose it from the dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.file_names import is_image
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import MAX_COLUMNS, FileInfo, Want, skip
from pipeline.manifest.readers.quotes import IMAGE_CELL

_LOOK_BYTES = 4 << 20
#: Bytes of an object that wraps its rows.
_WRAPPED_BYTES = 16 << 20
_ROWS = 8192
_REFERENCE = pa.struct([pa.field("path", pa.string())])
#: What stands between the elements of an array.
_BETWEEN = " \t\r\n,"
_Objects = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class JsonReader:
    """Objects, one a row."""

    def look(self, place: ManifestFile) -> FileInfo:
        kinds: dict[str, set[str]] = {}
        size = 0
        for number, row in _objects(place):
            size += 64 + 16 * len(row)
            for name, value in row.items():
                kinds.setdefault(name, set()).add(_kind(value))
                size += len(value) if isinstance(value, str) else 0
            if size > _LOOK_BYTES:
                break
            if len(kinds) > MAX_COLUMNS:
                raise ManifestError(
                    f"manifest {place.shown}: more than {MAX_COLUMNS} different keys by line {number}; "
                    "put what varies into one value"
                )
        if not kinds:
            return FileInfo(schema=pa.schema([pa.field("image", pa.string())]))
        return FileInfo(schema=pa.schema([pa.field(n, _type(k)) for n, k in kinds.items()]))

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place, want), want.start)

    def _read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        schema = self.look(place).schema
        known = set(schema.names)
        wanted = pa.schema([f for f in schema if f.name in want.columns])
        objects = _objects(place)
        while rows := _some(objects):
            for number, row in rows:
                if not row.keys() <= known:
                    new = next(iter(row.keys() - known))
                    raise ManifestError(
                        f"manifest {place.shown}: line {number}: key {new!r} does not occur at the "
                        "start of the file; give the first line all keys, null where it has none"
                    )
            yield _batch(place, rows, wanted)


def _some(objects: _Objects) -> list[tuple[int, dict[str, Any]]]:
    """Up to a batch of rows; fewer when they are long."""
    rows, size = [], 0
    for number, row in islice(objects, _ROWS):
        rows.append((number, row))
        size += sum(len(v) for v in row.values() if isinstance(v, str))
        if size > 8 << 20:
            break
    return rows


def _batch(
    place: ManifestFile, rows: list[tuple[int, dict[str, Any]]], schema: pa.Schema
) -> pa.RecordBatch:
    arrays = []
    for field in schema:
        values = [row.get(field.name) for _, row in rows]
        if field.type == pa.string():
            values = [v if v is None or isinstance(v, str) else _json(v) for v in values]
            values = _whole_characters(values)
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
            bad = next(n for n, row in rows if not _fits(row.get(field.name), field.type))
            raise ManifestError(
                f"manifest {place.shown}: line {bad}: {field.name!r} is not {field.type} as in the "
                "rows before; write it as text in all rows"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _whole_characters(texts: list[str | None]) -> list[str | None]:
    """Texts that UTF-8 can hold: U+FFFD stands for half of a surrogate pair (`\\ud83d` alone)."""
    try:
        "".join(t for t in texts if t is not None).encode()
    except UnicodeEncodeError:
        return [
            None if t is None else t.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for t in texts
        ]
    return texts


def _fits(value: object, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, TypeError, OverflowError, ValueError):
        return False
    return True


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int" if -(2**63) <= value < 2**63 else "float"
        case float():
            return "float"
        case str():
            return "text"
        case {"path": str(), **rest} if not rest or rest == {"bytes": None}:
            return "reference"
        case _:
            return "nested"


def _type(kinds: set[str]) -> pa.DataType:
    kinds = kinds - {"null"}
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"}:
        return pa.int64()
    if kinds and kinds <= {"int", "float"}:
        return pa.float64()
    if kinds == {"reference"}:
        return _REFERENCE
    return pa.string()


def _objects(place: ManifestFile) -> _Objects:
    """(line or element number from 1, object) of either form."""
    first = text.head_of(place, 1 << 16).lstrip()[:1]
    if first == b"[":
        return _elements(place)
    rows = _wrapped_rows(place)
    return _lines(place) if rows is None else iter(rows)


def _wrapped_rows(place: ManifestFile) -> list[tuple[int, dict[str, Any]]] | None:
    """The rows of a file that is one object around their list; None for JSON lines. ManifestError
    for an object of columns, and where several lists could be the rows."""
    with text.lines(place) as source:
        first = source.readline(text.MAX_LINE + 1)
        with suppress(orjson.JSONDecodeError):
            orjson.loads(first)
            if any(line.strip() for line in iter(lambda: source.readline(text.MAX_LINE), b"")):
                return None
        content = first + source.read(_WRAPPED_BYTES)
        if source.read(1):
            if first.rstrip(b"\n") == first or first.rstrip().endswith(b"}"):
                return None  # lines, the first of which is too long or damaged
            raise ManifestError(
                f"manifest {place.shown}: one object of more than {_WRAPPED_BYTES >> 20} MiB; write "
                "the list of the rows as a file of its own"
            )
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(whole, dict):
        return None
    if _is_of_columns(whole):
        raise ManifestError(
            f"manifest {place.shown}: one object of columns, not of rows; write it with "
            'DataFrame.to_json(orient="records")'
        )
    if whole and all(_names_image(name) for name in whole):
        return [(n, _named_row(*item)) for n, item in enumerate(whole.items(), 1)]
    lists = {name: value for name, value in whole.items() if _is_list_of_rows(value)}
    if not lists or any(_names_image(value) for value in whole.values()):
        return [(1, whole)]
    if len(lists) > 1:
        of_images = [n for n, rows in lists.items() if any(map(_is_file, rows[0].values()))]
        lists = {n: lists[n] for n in of_images} if len(of_images) == 1 else lists
    if len(lists) > 1:
        raise ManifestError(
            f"manifest {place.shown}: one object with the lists {', '.join(map(repr, lists))}; "
            "write the list of the rows as a file of its own"
        )
    return list(enumerate(next(iter(lists.values())), 1))


def _names_image(value: object) -> bool:
    return (
        isinstance(value, str)
        and IMAGE_CELL.search(value.strip().encode(errors="replace")) is not None
    )


def _is_file(value: object) -> bool:
    """The name of a picture; a link may lead to a licence."""
    return isinstance(value, str) and is_image(value)


def _named_row(name: str, value: object) -> dict[str, Any]:
    """A row of an object whose keys are its pictures: `{"a.jpg": "a cat"}`, `{"a.jpg": {"tags": …}}`."""
    return {"image": name, **(value if isinstance(value, dict) else {"text": value})}


def _is_list_of_rows(value: object) -> bool:
    """Objects that are more than a picture each."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and not row.keys() <= {"bytes", "path"} for row in value)
    )


def _is_of_columns(whole: dict[str, Any]) -> bool:
    """`{"image": {"0": …}}`, `{"image": […]}`, `{"0": {"image": …}}` or columns, index and data."""
    values = list(whole.values())
    if whole.keys() == {"columns", "index", "data"}:
        return True
    if values and all(isinstance(value, dict) and value for value in values):
        keys = {key for value in values for key in value}
        if all(key.isdigit() for key in keys) or all(key.isdigit() for key in whole):
            return True
        return len(values) > 1 and all(any(map(_names_image, v.values())) for v in values)
    plain = all(
        isinstance(value, list) and not any(isinstance(cell, dict) for cell in value)
        for value in values
    )
    return plain and len({len(value) for value in values}) == 1 and len(values[0]) > 1


def _lines(place: ManifestFile) -> _Objects:
    with text.lines(place) as source:
        number = 0
        while line := source.readline(text.MAX_LINE + 1):
            number += 1
            if len(line) > text.MAX_LINE:
                raise text.too_long(place, number)
            if not line.strip():
                continue
            yield number, _object(place, number, _parsed(place, number, line))


def _parsed(place: ManifestFile, number: int, line: bytes) -> object:
    """A line's value. What Python's own writer gives, NaN and half characters, is no JSON to orjson."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(line.decode())
        except UnicodeDecodeError:
            raise text.not_utf8(place, number) from error
        except ValueError:
            raise ManifestError(
                f"manifest {place.shown}: line {number} is not JSON: {error}; write one object a "
                "line, with nothing behind it"
            ) from error


def _object(place: ManifestFile, number: int, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return {"image": value}
    if not isinstance(value, dict):
        raise ManifestError(
            f"manifest {place.shown}: row {number} is not an object; write "
            '{"image": "…"} for each row'
        )
    return value


def _elements(place: ManifestFile) -> _Objects:
    """The elements of one JSON array, read piece by piece."""
    decoder = json.JSONDecoder()
    with text.lines(place) as source:
        while source.read(1) != b"[":
            pass  # the white space before the array
        buffer, at, number = "", 0, 0
        while True:
            while buffer[at : at + 1] in _BETWEEN and at < len(buffer):
                at += 1
            if buffer[at : at + 1] == "]":
                if buffer[at + 1 :].strip() or any(line.strip() for line in source):
                    raise ManifestError(
                        f"manifest {place.shown}: more stands behind the array, of {number:,} elements; "
                        "write one array, or one object a line"
                    )
                return
            try:
                element, at = decoder.raw_decode(buffer, at)
            except json.JSONDecodeError as error:
                buffer, at = buffer[at:], 0
                piece = source.read(max(1 << 18, len(buffer)))
                if not piece or len(buffer) > text.MAX_LINE:
                    raise ManifestError(
                        f"manifest {place.shown}: element {number + 1} of the array is cut, "
                        f"damaged or longer than {text.MAX_LINE >> 20} MiB: {error.msg}"
                    ) from error
                buffer += _whole(place, source, piece, number)
                continue
            number += 1
            yield number, _object(place, number, element)


def _whole(place: ManifestFile, source: Any, piece: bytes, number: int) -> str:
    """Decode a piece together with the rest of a character that it cuts."""
    for more in (0, 1, 1, 1):
        piece += source.read(more) if more else b""
        try:
            return piece.decode()
        except UnicodeDecodeError as error:
            trouble = error
    raise text.not_utf8(place, number + 1) from trouble


JSONL = JsonReader()
