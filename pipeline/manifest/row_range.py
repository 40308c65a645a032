"""Cuts a manifest's rows to a range, and at bounds inside of it.

Rows are counted over all files in their order, before `where`: so a Parquet file gives a range by
skipping row groups, and the same number means the same row whatever the predicate is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pyarrow as pa


class RowRange:
    """The rows from the first bound up to the last; one for each pass over the files.

    bounds: in ascending order. Files are given in order, each either passed over or read to its end.
    """

    def __init__(self, bounds: Sequence[int] = (0, sys.maxsize)) -> None:
        self._bounds = bounds
        #: Rows passed so far.
        self._at = 0
        #: Between which two bounds the rows handed on last stand, from 0.
        self.piece = 0

    def skips(self, rows: int | None) -> bool:
        """Does a file of so many rows (None: not known) lie outside? Then it is passed over."""
        if rows is not None and self._at + rows <= self._bounds[0]:
            self._at += rows
            return True
        return self._at >= self._bounds[-1]

    def start(self, rows: int | None) -> int:
        """Rows that the reader may leave out at the start of the next file."""
        # How many a file of unknown length has left out of what it was told is not known either.
        start = 0 if rows is None else max(0, self._bounds[0] - self._at)
        self._at += start
        return start

    def cut(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows inside, each batch between two bounds."""
        bounds = self._bounds
        for batch in batches:
            first, self._at = self._at, self._at + batch.num_rows
            begin, end = max(first, bounds[0]), min(self._at, bounds[-1])
            while begin < end:
                while bounds[self.piece + 1] <= begin:
                    self.piece += 1
                until = min(end, bounds[self.piece + 1])
                yield batch.slice(begin - first, until - begin)
                begin = until
            if self._at >= bounds[-1]:
                return
