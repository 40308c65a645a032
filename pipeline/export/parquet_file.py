"""How Parquet is written here, so that every reader can take it in pieces.

A reader takes a page whole: pictures and long texts get a page each. Row groups with pictures stay
small, as the loaders of `datasets` and the hub's viewer read one whole.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: A page ends at this size …
PAGE_BYTES = 256 << 10
#: … which the writer looks at every so many cells: often enough for captions, at no cost.
_CELLS = 16


def parquet_writer(
    dest: Path, schema: pa.Schema, first: pa.Table, *, use_dictionary: bool | list[str] = True
) -> pq.ParquetWriter:
    """A writer for the rows of which `first` are the first ones."""
    long = any(_longest(column) > PAGE_BYTES // _CELLS for column in first.columns)
    return pq.ParquetWriter(
        dest,
        schema,
        compression="zstd",
        use_dictionary=use_dictionary,
        data_page_size=PAGE_BYTES,
        write_batch_size=1 if long else _CELLS,
    )


def _longest(column: pa.ChunkedArray) -> int:
    """Bytes of the longest cell of text or bytes."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return max((_longest(pa.chunked_array([c.storage])) for c in column.chunks), default=0)
    if pa.types.is_struct(kind):
        inner = (pc.struct_field(column, [at]) for at in range(kind.num_fields))
        return max((_longest(field) for field in inner), default=0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _longest(pa.chunked_array(pc.list_flatten(column).chunks, kind.value_type))
    types = pa.types
    if not (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    ):
        return 0
    return int(pc.max(pc.binary_length(column)).as_py() or 0)
