"""Bottom-k sampling: of any number of records, those with the k smallest keys.

A key is a SHA-256, so its order is random with regard to everything that one may look for; and
the sample is the same in whichever order, and in however many runs, the records came.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


class BottomK:
    """The k records with the smallest keys of all that were added."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._tables: list[pa.Table] = []
        self._rows = 0
        #: Once k records are known: the largest key that still belongs to them.
        self._most: str | None = None

    def add(self, table: pa.Table) -> None:
        """Offer records."""
        if self._most is not None:
            table = table.filter(pc.less(table["key"], self._most))
        if not len(table) or not self._k:
            return
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= 2 * self._k + 5_000:
            self._shrink()

    def table(self) -> pa.Table | None:
        """The sample, in the order of keys; None when nothing was added."""
        if not self._tables:
            return None
        self._shrink()
        return self._tables[0]

    def _shrink(self) -> None:
        whole = pa.concat_tables(self._tables)
        whole = whole.take(pc.sort_indices(whole["key"])[: self._k]).combine_chunks()
        self._tables, self._rows = [whole], len(whole)
        if len(whole) == self._k:
            self._most = whole["key"][-1].as_py()
