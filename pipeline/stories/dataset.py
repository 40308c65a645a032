"""`dataset.parquet`: one row per manifest row, in manifest order, with what is known of it.

The join streams the manifest and looks every row's key up in the records. Records of up to a
million keys are held as one Arrow table with an index of their keys; the manifest itself is
never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.records import Row
from pipeline.stories.survey import Naming

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest

#: Record columns that stand in the dataset, in this order.
COLUMNS = (
    "caption",
    "status",
    "error_code",
    "error",
    "flags",
    "key",
    "model",
    "served_model",
    "provider",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "width",
    "height",
    "image_sha256",
    "finished_at",
)


def record_name(name: str, manifest: pa.Schema) -> str:
    """The name of a record's column beside the manifest's: a clash puts `caption_` before it."""
    while name in manifest.names:
        name = f"caption_{name}"
    return name


def joined_schema(manifest: pa.Schema) -> pa.Schema:
    """Manifest columns, then the record's."""
    fields = list(manifest)
    for name in COLUMNS:
        field = schema.RECORDS.field(name).with_nullable(True)
        fields.append(field.with_name(record_name(name, manifest)))
    return pa.schema(fields, metadata=schema.METADATA)


def records_of(output: Path) -> pa.Table:
    """All published records, with the columns of the dataset."""
    pieces = []
    for folder in ("captions", "failures"):
        paths = sorted(str(path) for path in (output / folder).glob("*.parquet"))
        if paths:
            pieces.append(ds.dataset(paths, schema=schema.RECORDS).to_table(columns=list(COLUMNS)))
    return pa.concat_tables(pieces) if pieces else schema.RECORDS.empty_table().select(COLUMNS)


def joined(
    manifest: Manifest, naming: Naming, records: pa.Table, *, bytes_too: bool = False
) -> Iterator[pa.RecordBatch]:
    """Manifest rows with their records, in manifest order."""
    whole = joined_schema(manifest.arrow(bytes_too=bytes_too))
    known = records.column("key").combine_chunks()
    rows = (row for batch in manifest.batches() for row in batch)
    for batch in manifest.tables(bytes_too=bytes_too):
        keys = pa.array(_keys(rows, batch.num_rows, naming), pa.string())
        found = records.take(pc.index_in(keys, value_set=known))
        columns = [*batch.columns, *(found.column(name).combine_chunks() for name in COLUMNS)]
        yield pa.RecordBatch.from_arrays(columns, schema=whole)


def _keys(rows: Iterator[Row], count: int, naming: Naming) -> list[str]:
    return [naming.of(next(rows)).key for _ in range(count)]


def write_dataset(output: Path, manifest: Manifest, naming: Naming) -> Path:
    """Write `<output>/dataset.parquet` aside, sync, rename. OSError when it cannot be."""
    final = output / "dataset.parquet"
    tmp = output / ".dataset.parquet.tmp"
    batches = joined(manifest, naming, records_of(output))
    whole = joined_schema(manifest.arrow())
    marked = {**schema.METADATA, b"caption_pipeline.manifest": manifest.fingerprint().encode()}
    with pq.ParquetWriter(tmp, whole.with_metadata(marked), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    fs.sync_file(tmp)
    fs.publish(tmp, final)
    return final
