"""The columns of an output's records: those with which it was begun, in all of its parts.

polars, datasets and DuckDB refuse a folder whose files differ in a column, so an output that an
earlier version began goes on with that version's columns. It has none for the size of the picture
as it was sent, and `width` and `height` are that size there.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.shards import with_shards


def shape_of(output: Path) -> pa.Schema:
    """The columns of the records of an output, as its first part has them."""
    for folder in (CAPTIONS, FAILURES):
        for path in with_shards(output, folder)[:1]:
            if not is_fit(path, schema.RECORDS):
                return schema.earlier(schema.RECORDS)
            return schema.RECORDS
    return schema.RECORDS


def is_fit(path: Path, shape: pa.Schema) -> bool:
    """Has a part these columns? One that cannot be read is for others to name."""
    try:
        return bool(pq.read_schema(path).names == shape.names)
    except (pa.ArrowException, OSError, ValueError):  # a name that is not UTF-8 any more
        return True
