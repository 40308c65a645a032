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
from pipeline.model import Record, RequestRow

#: Rows that are turned at once, in one or two milliseconds.
TOGETHER = 512
#: Or bytes of their texts, about: a Python string may take four times what a column takes.
TOGETHER_BYTES = 4 << 20


class Waiting(NamedTuple):
    """What one journal entry brings. A tuple, as there is one for every answer."""

    seq: int
    records: tuple[Record, ...]
    row: RequestRow | None
    #: Is its raw body worth keeping after publication?
    keep: bool = False


class Portion(NamedTuple):
    """What the entries of one publication bring."""

    #: Number of the last entry.
    last: int
    records: pa.Table
    requests: pa.Table
    #: Entries whose raw bodies are worth keeping.
    kept: tuple[int, ...]
    #: Records, with one for each entry that has none.
    size: int
    #: Bytes of their texts, about.
    text: int


class Backlog:
    """Entries that wait, in the order of their numbers."""

    def __init__(self) -> None:
        self._closed: list[Portion] = []
        #: Records, with one for each entry that has none, that wait.
        self.size = 0
        #: Bytes of their texts, about.
        self.text = 0
        self._begin()

    def _begin(self) -> None:
        self._records = _Columns(schema.records_table, schema.RECORDS)
        self._requests = _Columns(schema.requests_table, schema.REQUESTS)
        self._kept: list[int] = []
        self._last = self._size = self._text = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def add(self, entry: Waiting) -> None:
        """Take what an entry brings."""
        if entry.row is not None:
            self._requests.add((entry.row,))
        if entry.keep:
            self._kept.append(entry.seq)
        size = max(1, len(entry.records))
        self._last, self._size, self.size = entry.seq, self._size + size, self.size + size
        text = sum(len(each.caption or "") + len(each.caption_raw or "") for each in entry.records)
        self._records.add(entry.records, text)
        self._text, self.text = self._text + text, self.text + text

    def all(self) -> tuple[Portion, ...]:
        """Everything that waits now."""
        if self._size:
            tables = self._records.whole(), self._requests.whole()
            self._closed.append(
                Portion(self._last, *tables, tuple(self._kept), self._size, self._text)
            )
            self._begin()
        return tuple(self._closed)

    def drop(self, upto: int) -> None:
        """Entries up to this number, the last one of a portion, no longer wait."""
        self._closed = [portion for portion in self._closed if portion.last > upto]
        self.size = self._size + sum(portion.size for portion in self._closed)
        self.text = self._text + sum(portion.text for portion in self._closed)


class _Columns:
    """Rows that become columns, `TOGETHER` at a time."""

    def __init__(self, make: Callable[[Sequence[Any]], pa.Table], shape: pa.Schema) -> None:
        self._make, self._shape = make, shape
        self._tables: list[pa.Table] = [shape.empty_table()]
        self._rows: list[Any] = []
        self._text = 0

    def add(self, rows: Sequence[Any], text: int = 0) -> None:
        self._rows += rows
        self._text += text
        if len(self._rows) >= TOGETHER or self._text >= TOGETHER_BYTES:
            self._turn()

    def whole(self) -> pa.Table:
        """All rows. None may be added any more."""
        if self._rows:
            self._turn()
        return pa.concat_tables(self._tables)

    def _turn(self) -> None:
        try:
            table = self._make(self._rows)
        except (UnicodeEncodeError, OverflowError, TypeError, pa.ArrowException):
            fitted = [_fitted(row, self._shape) for row in self._rows]
            table = pa.Table.from_pylist(fitted, schema=self._shape)
        self._tables.append(table)
        self._rows, self._text = [], 0


def _fitted(row: Record | RequestRow, shape: pa.Schema) -> dict[str, object]:
    """A row whose every value its column can hold: one odd value must not keep the others back.

    Text that is no Unicode gets replacement characters; a number out of range becomes null.
    """
    fitted: dict[str, object] = {}
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
        fitted[field.name] = value
    return fitted
