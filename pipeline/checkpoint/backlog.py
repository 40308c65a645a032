"""What is in the journal and in no part yet, kept as columns.

Some thousand answers wait for their part: as Python values they would take 2 KB each, as columns
it is a third. So every few hundred rows are turned into a batch, which is also what the part is
made of; nothing is turned twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import schema
from pipeline.records import Record, RequestRow

#: Records and account rows that are turned at once: half a millisecond for each hundred.
TOGETHER = 256


class Waiting(NamedTuple):
    """What one journal entry brings. A tuple, as there is one for every answer."""

    seq: int
    records: tuple[Record, ...]
    row: RequestRow | None
    #: Is its raw body worth keeping after publication?
    keep: bool = False


class Batch(NamedTuple):
    """What some entries in a row bring."""

    #: Number of the last entry.
    last: int
    records: pa.Table
    requests: pa.Table
    #: Entries whose raw bodies are worth keeping.
    kept: tuple[int, ...]
    #: Records, with one for each entry that has none.
    size: int


class Backlog:
    """Entries that wait, in the order of their numbers."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._records: list[Record] = []
        self._requests: list[RequestRow] = []
        self._kept: list[int] = []
        self._last = self._size = 0
        #: Records that wait, with one for each entry that has none.
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def add(self, one: Waiting) -> None:
        """Take what an entry brings."""
        self._records += one.records
        if one.row is not None:
            self._requests.append(one.row)
        if one.keep:
            self._kept.append(one.seq)
        size = max(1, len(one.records))
        self._last, self._size, self.size = one.seq, self._size + size, self.size + size
        if len(self._records) + len(self._requests) >= TOGETHER:
            self._turn()

    def all(self) -> tuple[Batch, ...]:
        """Everything that waits now."""
        if self._size:
            self._turn()
        return tuple(self._batches)

    def drop(self, upto: int) -> None:
        """Entries up to this number no longer wait: it is that of the last one of an `all`."""
        self._batches = [batch for batch in self._batches if batch.last > upto]
        self.size = self._size + sum(batch.size for batch in self._batches)

    def _turn(self) -> None:
        self._batches.append(
            Batch(
                self._last,
                _columns(schema.records_table, self._records, schema.RECORDS),
                _columns(schema.requests_table, self._requests, schema.REQUESTS),
                tuple(self._kept),
                self._size,
            )
        )
        self._records, self._requests, self._kept, self._size = [], [], [], 0


def _columns(make: Callable[[Sequence[Any]], pa.Table], rows: list[Any], shape: pa.Schema) -> Any:
    try:
        return make(rows)
    except (UnicodeEncodeError, OverflowError, TypeError, pa.ArrowException):
        return pa.concat_tables(
            [pa.Table.from_pylist([_fitted(row, shape)], schema=shape) for row in rows]
        )


def _fitted(row: Record | RequestRow, shape: pa.Schema) -> dict[str, object]:
    """A row whose every value its column can hold: one odd value must not keep the others back.

    Text that is no Unicode gets replacement characters; a number out of range becomes null.
    """
    found: dict[str, object] = {}
    for field in shape:
        value = getattr(row, field.name, None)
        if field.name == "class":
            value = getattr(row, "class_", None)
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
        try:
            pa.scalar(value, field.type)
        except (OverflowError, TypeError, ValueError, pa.ArrowException):
            value = None
        found[field.name] = value
    return found
