"""Cells of any Arrow type as values that JSON and CSV can hold.

Bytes become base64 text, times ISO 8601, lists and structs JSON; NaN and infinities, which JSON
lacks, become null there.
"""

from __future__ import annotations

import base64
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa


def to_json(value: object) -> bytes:
    """One value as JSON."""
    return orjson.dumps(value, default=_other, option=orjson.OPT_NON_STR_KEYS)


def _other(value: object) -> object:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal() | date() | datetime() | time():
            return str(value)
        case timedelta():
            return value.total_seconds()
        case set() | tuple():
            return list(value)
    return str(value)


def flat(column: pa.Array) -> pa.Array:
    """A column of single values that CSV can hold."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return flat(column.dictionary_decode())
    if pa.types.is_nested(kind):
        values: list[Any] = column.to_pylist()
        return pa.array([None if v is None else to_json(v).decode() for v in values], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = column.to_pylist()
        return pa.array(
            [None if v is None else base64.b64encode(v).decode() for v in values], pa.string()
        )
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        # pyarrow needs a time zone database to write a zone; UTC with a Z says the same.
        import pyarrow.compute as pc

        plain = column.cast(pa.timestamp(kind.unit)).cast(pa.string())
        return pc.binary_join_element_wise(plain, pa.scalar("Z"), "")
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    return column
