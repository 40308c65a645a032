"""`dataset.parquet`: one row per manifest row, in manifest order, with what is known of it.

The join streams the manifest and looks every row's key up in the records. Up to `FEW` records
are held as one Arrow table; more are joined by DuckDB in a child process, which sorts on disk
what does not fit. The manifest itself is never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.checkpoint.parts import readable, rows_of
from pipeline.errors import ManifestError
from pipeline.stories.keys import keyed
from pipeline.stories.survey import Naming

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest

#: Records that are joined in memory; more go through DuckDB.
FEW = 50_000
#: Rows looked up at once, and handed on at once.
LOOK_UP, SLICE = 20_000, 10_000
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


def joined(
    manifest: Manifest,
    naming: Naming,
    output: Path,
    *,
    bytes_too: bool = False,
    keys: bytes | bytearray = b"",
) -> Iterator[pa.RecordBatch]:
    """Manifest rows with their records, in manifest order.

    keys: 16 bytes for each row, where they are known already.
    """
    whole = joined_schema(manifest.arrow(bytes_too=bytes_too))
    parts = _parts(output)
    many = keyed(manifest, naming, output) if _count(parts) > FEW else None
    if many is None:
        found = _looked_up(_spelled(keys) if keys else _named(manifest, naming), parts)
    else:
        from pipeline.manifest.sql import joined as joined_in_sql

        found = joined_in_sql(many, [name for name in COLUMNS if name != "key"])
    cut = Cut(found)
    for batch in manifest.tables(bytes_too=bytes_too):
        if not batch.num_rows:
            continue
        records = cut.take(batch.num_rows)
        columns = [*batch.columns, *(_column(records, name) for name in COLUMNS)]
        yield pa.RecordBatch.from_arrays(columns, schema=whole)


def _parts(output: Path) -> list[str]:
    folders = ("captions", "failures")
    return [str(p) for folder in folders for p in sorted((output / folder).glob("*.parquet"))]


def read_columns(part: str, columns: Sequence[str]) -> pa.Table:
    """Columns of one part of captions or failures."""
    with readable(part), pq.ParquetFile(part) as file:
        return file.read(columns=list(columns), use_threads=False).select(columns)


def _count(parts: list[str]) -> int:
    return sum(rows_of(Path(part)) for part in parts)


def _column(records: pa.Table, name: str) -> pa.Array:
    """A column of the dataset; the key stands only where there is a record."""
    column = records.column(name).combine_chunks().cast(schema.RECORDS.field(name).type)
    if name == "key":
        recorded = records.column("status").combine_chunks().is_valid()
        column = pc.if_else(recorded, column, pa.scalar(None, column.type))
    return column


def _named(manifest: Manifest, naming: Naming) -> Iterator[pa.Array]:
    """The keys of all rows, some at a time."""
    keys = (naming.key(row) for batch in manifest.batches() for row in batch)
    while some := list(islice(keys, LOOK_UP)):
        yield pa.array(some, pa.string())


def _spelled(keys: bytes | bytearray) -> Iterator[pa.Array]:
    """Keys of 16 bytes as text, some at a time."""
    for start in range(0, len(keys), 16 * LOOK_UP):
        text = keys[start : start + 16 * LOOK_UP].hex().encode()
        ends = pa.array(range(0, len(text) + 1, 32), pa.int32())
        yield pa.StringArray.from_buffers(len(ends) - 1, ends.buffers()[1], pa.py_buffer(text))


def _looked_up(keys: Iterator[pa.Array], parts: list[str]) -> Iterator[pa.RecordBatch]:
    """For each key its record, from records held in memory."""
    records = schema.RECORDS.empty_table().select(COLUMNS)
    if parts:
        # One after the other: read all at once, they take several times their own size.
        records = pa.concat_tables(read_columns(part, COLUMNS) for part in parts)
    known = records.column("key").combine_chunks()
    # Each look-up hashes all known keys anew, so many rows are looked up at once.
    for some in keys:
        at = pc.index_in(some, value_set=known)
        for start in range(0, len(at), SLICE):
            yield from records.take(at.slice(start, SLICE)).combine_chunks().to_batches()


class Cut:
    """A stream of batches, cut anew."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: list[pa.RecordBatch] = []

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows."""
        have = sum(batch.num_rows for batch in self._held)
        while have < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise ManifestError("the manifest changed while it was read; run this again")
            self._held.append(batch)
            have += batch.num_rows
        held = pa.Table.from_batches(self._held)
        self._held = held.slice(rows).to_batches()
        return held.slice(0, rows)


def write_dataset(
    output: Path, manifest: Manifest, naming: Naming, keys: bytes | bytearray = b""
) -> Path:
    """Write `<output>/dataset.parquet` aside, sync, rename. OSError when it cannot be.

    keys: as for `joined`.
    """
    final = output / "dataset.parquet"
    tmp = output / ".dataset.parquet.tmp"
    batches = joined(manifest, naming, output, keys=keys)
    whole = joined_schema(manifest.arrow())
    marked = {**schema.METADATA, b"caption_pipeline.manifest": manifest.fingerprint().encode()}
    with pq.ParquetWriter(tmp, whole.with_metadata(marked), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    fs.sync_file(tmp)
    fs.publish(tmp, final)
    return final
