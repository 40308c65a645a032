"""The Parquet schema of records and of the account book, complete from version 1.

The version stands in the Parquet metadata under `caption_pipeline.schema`; a reader meets a
newer one with a named error, never with a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import pyarrow as pa

from pipeline.model import Record, RequestRow

VERSION = 1
METADATA = {b"caption_pipeline.schema": str(VERSION).encode()}

_TIME = pa.timestamp("us", tz="UTC")
_INT = pa.int64()
_STR = pa.string()

RECORDS = pa.schema(
    [
        pa.field("key", _STR, nullable=False),
        pa.field("recipe", _STR, nullable=False),
        pa.field("id", _STR),
        pa.field("image", _STR, nullable=False),
        pa.field("caption", _STR),
        pa.field("status", _STR, nullable=False),
        pa.field("error_code", _STR),
        pa.field("error", _STR),
        pa.field("flags", pa.list_(_STR)),
        pa.field("fields", _STR),
        pa.field("caption_raw", _STR),
        pa.field("prompt_id", _STR),
        pa.field("model", _STR),
        pa.field("served_model", _STR),
        pa.field("provider", _STR),
        pa.field("request_id", _STR),
        pa.field("generation_id", _STR),
        pa.field("finish_reason", _STR),
        pa.field("prompt_tokens", _INT),
        pa.field("completion_tokens", _INT),
        pa.field("cost_usd", pa.float64()),
        pa.field("latency_ms", _INT),
        pa.field("attempts", _INT),
        pa.field("pack_size", _INT),
        pa.field("image_sha256", _STR),
        pa.field("width", _INT),
        pa.field("height", _INT),
        pa.field("run_id", _STR),
        pa.field("finished_at", _TIME),
        pa.field("sent_width", _INT),
        pa.field("sent_height", _INT),
    ],
    metadata=METADATA,
)

REQUESTS = pa.schema(
    [
        pa.field("request_id", _STR, nullable=False),
        pa.field("run_id", _STR, nullable=False),
        pa.field("at", _TIME),
        pa.field("attempt", _INT),
        pa.field("class", _STR, nullable=False),
        pa.field("status", _INT),
        pa.field("provider", _STR),
        pa.field("model", _STR),
        pa.field("served_model", _STR),
        pa.field("images", _INT),
        pa.field("prompt_tokens", _INT),
        pa.field("completion_tokens", _INT),
        pa.field("cost_usd", pa.float64()),
        pa.field("latency_ms", _INT),
        pa.field("wait_ms", _INT),
        pa.field("service_tier", _STR),
    ],
    metadata=METADATA,
)

#: Size of the picture as it was sent: record columns that outputs begun by earlier versions lack. There
#: `width` and `height` are that size, and the original's is not known.
SENT_SIZE = {"width": "sent_width", "height": "sent_height"}
#: Columns that parts of earlier versions lack: read as null there. They are the last ones.
LATER = frozenset({"service_tier", *SENT_SIZE.values()})

#: Decisions of people on captions, oldest first; the last one of a key counts.
REVIEWS = pa.schema(
    [
        pa.field("key", _STR, nullable=False),
        pa.field("decision", _STR, nullable=False),
        pa.field("before", _STR),
        pa.field("after", _STR),
        pa.field("by", _STR),
        pa.field("at", _TIME, nullable=False),
    ],
    metadata=METADATA,
)


def earlier(shape: pa.Schema) -> pa.Schema:
    """The schema that parts of earlier versions have."""
    return pa.schema([field for field in shape if field.name not in LATER], shape.metadata)


def completed(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """The columns of a part, or those that are asked for, whichever version wrote it."""
    if columns is None and table.schema.names == earlier(REQUESTS).names:
        columns = REQUESTS.names
    if columns is None:
        return table
    if set(columns) >= {*SENT_SIZE, *SENT_SIZE.values()}:
        table = of_now(table)
    if "service_tier" in columns and "service_tier" not in table.schema.names:
        kind = REQUESTS.field("service_tier")
        table = table.append_column(kind, pa.nulls(len(table), kind.type))
    return table.select(list(columns))


def of_now(records: pa.Table) -> pa.Table:
    """Records, whichever version wrote them, with the columns `SENT_SIZE`."""
    names = records.schema.names
    if "sent_width" in names or not {*SENT_SIZE} & {*names}:
        return records
    records = records.rename_columns([SENT_SIZE.get(name, name) for name in names])
    for name in SENT_SIZE:
        records = records.append_column(RECORDS.field(name), pa.nulls(len(records), _INT))
    return records


def fitted(records: pa.Table, shape: pa.Schema) -> pa.Table:
    """Records with the columns of the output that they go to."""
    if records.schema.names == shape.names:
        return records
    if "sent_width" in shape.names:
        records = of_now(records)
    else:
        records = records.drop_columns([*SENT_SIZE])
        former = {sent: name for name, sent in SENT_SIZE.items()}
        records = records.rename_columns([former.get(n, n) for n in records.schema.names])
    return pa.Table.from_arrays([records[name] for name in shape.names], schema=shape)


def _agree(cls: type, names: Sequence[str], schema: pa.Schema) -> None:
    if [name.rstrip("_") for name in names] != schema.names:
        raise TypeError(f"{cls.__name__} and its schema differ")


_REQUEST = [field.name for field in fields(RequestRow)]
_agree(Record, Record._fields, RECORDS)
_agree(RequestRow, _REQUEST, REQUESTS)
_request: Callable[[RequestRow], tuple[Any, ...]] = attrgetter(*_REQUEST)


def _table(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    if not columns:
        return schema.empty_table()
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def records_table(records: Sequence[Record]) -> pa.Table:
    """Records as an Arrow table with the schema of `captions/` and `failures/`."""
    return _table(records, RECORDS)


def table_records(table: pa.Table) -> list[Record]:
    """Rows as records, the way back of `records_table`; a column that is missing, or null, has its
    default."""
    table = of_now(table)
    at = table.schema.get_field_index("finished_at")
    if at >= 0:
        table = table.set_column(at, "finished_at", table["finished_at"].cast(pa.int64()))
    records = []
    for row in table.to_pylist():
        row["flags"] = tuple(row.get("flags") or ())
        given = {name: value for name, value in row.items() if value is not None}
        records.append(Record(**{"id": None, "caption": None, **given}))
    return records


def requests_table(rows: Sequence[RequestRow]) -> pa.Table:
    """Account rows as an Arrow table with the schema of `requests/`."""
    return _table(map(_request, rows), REQUESTS)
