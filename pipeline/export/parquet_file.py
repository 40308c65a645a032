"""How Parquet is written here, so that every reader can take it in pieces.

A reader takes a page whole: pictures and long texts get a page each. Row groups with pictures stay
small, as the loaders of `datasets` and the hub's viewer read one whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: A page ends at this size …
PAGE_BYTES = 256 << 10
#: … which the writer looks at every so many cells: often enough for captions, at no cost.
_CELLS = 16
#: Cells longer than this could make pages larger, so many at once.
_LONG = PAGE_BYTES // _CELLS


class PagedWriter:
    """Writes one file whose pages are of about `PAGE_BYTES`, or hold one cell that is longer.

    How often the writer looks at a page's size is fixed for a file, by its first rows. Where those
    are short, each longer cell that comes later gets a row group of its own, and so its page.
    """

    def __init__(
        self, dest: Path, schema: pa.Schema, first: pa.Table, *, use_dictionary: list[str]
    ) -> None:
        long = {name for name in first.schema.names if _longest(first.select([name])) > _LONG}
        #: Is the size looked at after each cell?
        self._each = bool(long)
        self._writer = pq.ParquetWriter(
            dest,
            schema,
            compression="zstd",
            # A dictionary is a page, too.
            use_dictionary=[name for name in use_dictionary if name not in long],
            data_page_size=PAGE_BYTES,
            write_batch_size=1 if self._each else _CELLS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write_table(self, table: pa.Table) -> None:
        """Write rows as a row group, or as several where cells are long."""
        for group in [table] if self._each else _apart(table):
            self._writer.write_table(group)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def _apart(table: pa.Table) -> Iterator[pa.Table]:
    """Rows in order: each that holds a long cell by itself, what stands between in pieces."""
    if len(table) <= 1 or _longest(table) <= PAGE_BYTES:
        yield table
        return
    middle = len(table) // 2
    yield from _apart(table.slice(0, middle))
    yield from _apart(table.slice(middle))


def _longest(table: pa.Table) -> int:
    """Bytes of the longest cell of text or bytes."""
    return max((_longest_of(column) for column in table.columns), default=0)


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
