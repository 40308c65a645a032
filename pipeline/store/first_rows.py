"""The first row of each record, in the order in which rows are handed on.

Rows with one key share a record. What it cost was paid once, so that its cost stands in the first
of them alone: else a sum over the rows counts it several times. A byte a record.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

#: The column that only the first row gets.
ONCE = "cost_usd"


class FirstRows:
    """Which records were handed on already."""

    def __init__(self) -> None:
        #: Group of parts -> a byte for each of its records.
        self._marks: dict[int, bytearray] = {}

    def paid_once(self, rows: pa.Table, number: int, size: int, at: pa.Array) -> pa.Table:
        """The rows, with no cost in those whose record was handed on before.

        number, size: the group of parts, and its records; at: which of them the rows are, in their
        order, null for none. To be called once for each row.
        """
        place = rows.schema.get_field_index(ONCE)
        if place < 0 or rows.column(place).null_count == len(rows):
            return rows
        marks = self._marks.setdefault(number, bytearray(size))
        first = []
        for record in at.to_pylist():
            first.append(record is None or not marks[record])
            if record is not None:
                marks[record] = 1
        if all(first):
            return rows
        paid = pc.if_else(pa.array(first), rows.column(place), None)
        return rows.set_column(place, rows.schema.field(place), paid)
