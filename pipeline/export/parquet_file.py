"""How Parquet is written here, so that every reader can take it in pieces.

A reader takes a page whole: pictures and long texts get a page each. Row groups with pictures stay
small, as the loaders of `datasets` and the hub's viewer read one whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: A page ends at this size …
PAGE_BYTES = 256 << 10
#: … which the writer looks at after so many cells at most: each look takes as long as writing ten
#: short cells. Where cells are longer it looks more often, as often as a page has cells.
_CELLS = 128
#: Cells longer than this are looked at one by one, where the first rows have such ones.
_LONG = PAGE_BYTES // 16
#: Bytes that a page may get between two looks, by longer cells that come later.
_MOST_BYTES = 8 << 20
#: Rows by which a column's values are judged to repeat or not.
_SAMPLE = 10_000


class PagedWriter:
    """Writes one file whose pages are of about `PAGE_BYTES`, or hold one cell that is longer.

    How often the writer looks at a page's size is fixed for a file, by its first rows. Where those
    are short, each longer cell that comes later gets a row group of its own, and so its page.
    Columns whose values repeat in the first rows get a dictionary.
    """

    def __init__(self, dest: Path, schema: pa.Schema, first: pa.Table) -> None:
        sizes = {name: _longest_of(first[name]) for name in first.schema.names}
        longest = max(1, *sizes.values())
        #: Cells after which the size is looked at.
        cells = 1 if longest > _LONG else min(_CELLS, PAGE_BYTES // longest)
        #: Cells longer than this are put apart; None: each has its page anyway.
        self._apart = min(PAGE_BYTES, _MOST_BYTES // cells) if cells > 1 else None
        repeated = [name for name in sizes if _repeats(first[name].slice(0, _SAMPLE))]
        # A path that is no UTF-8 is taken as bytes only.
        self._file = pa.OSFile(os.fsencode(dest), "wb")
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            # A dictionary is a page, too.
            use_dictionary=[name for name in repeated if sizes[name] <= _LONG],
            data_page_size=PAGE_BYTES,
            write_batch_size=cells,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_table(self, table: pa.Table) -> None:
        """Write rows as a row group, or as several where cells are long."""
        for group in [table] if self._apart is None else _apart(table, self._apart):
            self._writer.write_table(group)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
        self._file.close()


def _apart(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Rows in order: each with a cell above the limit by itself, what stands between in pieces."""
    if len(table) <= 1 or max(map(_longest_of, table.columns), default=0) <= limit:
        yield table
        return
    middle = len(table) // 2
    yield from _apart(table.slice(0, middle), limit)
    yield from _apart(table.slice(middle), limit)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Is each value there twice on average? Then a dictionary makes the file smaller; else it only
    takes its time. The writer makes none for what is nested."""
    kind, types = column.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return all(_repeats(pa.chunked_array([chunk.storage])) for chunk in column.chunks)
    if types.is_nested(kind):
        return False
    try:
        different = int(pc.count_distinct(column).as_py())
    except pa.ArrowNotImplementedError:
        return True  # dictionaries, views, nulls, intervals
    return bool(2 * different <= len(column) - column.null_count)


def _longest_of(column: pa.ChunkedArray) -> int:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return max((_longest_of(pa.chunked_array([c.storage])) for c in column.chunks), default=0)
    if pa.types.is_struct(kind):
        inner = (pc.struct_field(column, [at]) for at in range(kind.num_fields))
        return max((_longest_of(field) for field in inner), default=0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _longest_of(pa.chunked_array(pc.list_flatten(column).chunks, kind.value_type))
    types = pa.types
    if not (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    ):
        return 0
    return int(pc.max(pc.binary_length(column)).as_py() or 0)
