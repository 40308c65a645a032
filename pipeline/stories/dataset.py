"""`dataset.parquet`: one row per manifest row, in manifest order, with what is known of it.

The manifest is streamed, and every row's key is looked up in the published parts. Neither is ever
held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.checkpoint.lookup import Lookup
from pipeline.checkpoint.parts import REPEATED
from pipeline.errors import ManifestError
from pipeline.memory import give_back
from pipeline.stories.keyfile import KeyFile
from pipeline.stories.survey import Naming

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest

#: Rows looked up and handed on at once.
SLICE = 2_500
#: Bytes of a row group that is not let grow any more.
GROUP_BYTES = 16 << 20
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
    keys: KeyFile | None = None,
) -> Iterator[pa.RecordBatch]:
    """Manifest rows with their records, in manifest order.

    keys: of all rows, where they are known already.
    """
    whole = joined_schema(manifest.arrow(bytes_too=bytes_too))
    lookup = Lookup(output, COLUMNS)
    named = _named(manifest, naming, SLICE) if keys is None else _known(keys, SLICE)
    cut = Cut(lookup.records(named))
    for batch in manifest.tables(bytes_too=bytes_too):
        for start in range(0, batch.num_rows, SLICE):
            rows = batch.slice(start, SLICE)
            records = cut.take(rows.num_rows).combine_chunks()
            columns = [column.chunk(0) for column in records.columns]
            yield pa.RecordBatch.from_arrays([*rows.columns, *columns], schema=whole)


def _named(manifest: Manifest, naming: Naming, size: int) -> Iterator[bytes]:
    """The keys of all rows, some at a time."""
    keys = (naming.raw(row) for batch in manifest.batches() for row in batch)
    while some := b"".join(islice(keys, size)):
        yield some


def _known(keys: KeyFile, size: int) -> Iterator[bytes]:
    """The same where they are known already."""
    start = 0
    while some := keys.read(start, size):
        yield some
        start += size


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


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together to row groups. Each is held until it is whole, and the file's footer
    holds what it tells of each until the end: so groups grow with the file."""
    held, count, size, before = list[pa.RecordBatch](), 0, 0, 0
    for batch in batches:
        held.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if count >= max(SLICE, before // 200) or size >= GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, count, size, before = [], 0, 0, before + count
    if held:
        yield pa.Table.from_batches(held)


def write_dataset(
    output: Path,
    manifest: Manifest,
    naming: Naming,
    keys: KeyFile | None = None,
) -> Path:
    """Write `<output>/dataset.parquet` aside, sync, rename. OSError when it cannot be.

    keys: as for `joined`.
    """
    final = output / "dataset.parquet"
    tmp = output / ".dataset.parquet.tmp"
    batches = joined(manifest, naming, output, keys=keys)
    columns = manifest.arrow()
    whole = joined_schema(columns)
    marked = {**schema.METADATA, b"caption_pipeline.manifest": manifest.fingerprint().encode()}
    # Of the records' columns only some have values that repeat.
    repeated = [
        *columns.names,
        *(record_name(name, columns) for name in REPEATED if name in COLUMNS),
    ]
    with pq.ParquetWriter(
        tmp, whole.with_metadata(marked), compression="zstd", use_dictionary=repeated
    ) as writer:
        for group in _groups(batches):
            writer.write_table(group)
            del group
            give_back()
    fs.sync_file(tmp)
    fs.publish(tmp, final)
    return final
