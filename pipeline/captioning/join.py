"""`dataset.parquet`: one row per manifest row, in manifest order, with what is known of it.

The manifest is streamed, and every row's key is looked up in the published parts. Neither is ever
held whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import fs, schema
from pipeline.captioning.dataset_edits import keep_edited, note_written
from pipeline.captioning.fields import NO_FIELDS, Fields
from pipeline.captioning.naming import Naming
from pipeline.captioning.plain_keys import plain_keys
from pipeline.captioning.reviewed import REVIEW, reviewed
from pipeline.captioning.view import PLAIN_VIEW, View
from pipeline.export.ahead import ahead
from pipeline.export.card import write_card
from pipeline.export.features import read_features, with_features
from pipeline.export.parquet_file import PagedWriter
from pipeline.memory import give_back
from pipeline.store.parts import REPEATED, metadata_of
from pipeline.store.record_index import FLUSH, RecordLookup
from pipeline.store.reviews import read_decisions

if TYPE_CHECKING:
    from pipeline.manifest.cells import BatchRows
    from pipeline.manifest.open import Manifest

#: Rows of the smallest row group.
SLICE = 2_500
#: Bytes of rows that wait for their records, where these are looked up many at a time.
WAITING_BYTES = 16 << 20
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
    "review",
)
CAPTION = COLUMNS[0]
#: Metadata of a dataset: whose captions it holds.
_RECIPE = b"caption_pipeline.recipe"
#: Those of them that records have; the last one is what people decided.
RECORD_COLUMNS = COLUMNS[:-1]


def record_names(
    manifest: pa.Schema, prefix: str = "", fields: Fields = NO_FIELDS
) -> dict[str, str]:
    """What the records' columns are called beside the manifest's: `caption`, or `caption_new` where
    the manifest has a column of that name. Case does not count: SQL reads `Caption` as `caption`.

    prefix: `output.prefix`. fields: `reply.fields`, which stand beside the caption.
    """
    taken = {name.lower() for name in manifest.names}
    names = {}
    for column in (CAPTION, *fields.names, *COLUMNS[1:]):
        base = name = prefix + column
        number = 1
        while name.lower() in taken:
            name = f"{base}_new{number if number > 1 else ''}"
            number += 1
        taken.add(name.lower())
        names[column] = name
    return names


def joined_schema(manifest: pa.Schema, prefix: str = "", fields: Fields = NO_FIELDS) -> pa.Schema:
    """Manifest columns, then the record's."""
    kinds = {field.name: field for field in (*schema.RECORDS, *REVIEW, *fields.columns)}
    columns = [field for field in manifest if not _only_bytes(manifest, field)]
    for column, name in record_names(manifest, prefix, fields).items():
        columns.append(kinds[column].with_nullable(True).with_name(name))
    declared = read_features(manifest.metadata)
    return with_features(pa.schema(columns, metadata=schema.METADATA), declared)


def _only_bytes(manifest: pa.Schema, field: pa.Field) -> bool:
    """The image column of a manifest that has no other, its bytes left out."""
    return len(manifest) == 1 and bool(pa.types.is_null(field.type))


def joined(
    manifest: Manifest,
    naming: Naming,
    output: Path,
    *,
    pictures: Collection[str] = (),
    prefix: str = "",
    view: View = PLAIN_VIEW,
    threaded: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Manifest rows with their records, in manifest order; nothing that people decided.

    Each row's key is made from the same read as the row. ManifestError (65) when the manifest
    changes meanwhile. pictures: columns that keep their bytes. threaded: rows are read and named in
    a thread of their own, some batches ahead.
    """
    fields, repeated = view.fields, view.repeated(output)
    whole = joined_schema(manifest.arrow(pictures=pictures), prefix, fields)
    own = len(whole) - len(COLUMNS) - len(fields)
    wanted = (*RECORD_COLUMNS, "fields") if fields else RECORD_COLUMNS
    plain = type(naming) is Naming and naming.identity == "auto" and not naming.prompt.places
    waiting = deque[pa.RecordBatch]()

    def keys() -> Iterator[bytes]:
        size = 0
        for table, rows in manifest.tables(pictures=pictures):
            waiting.append(table)
            size = table.nbytes + (size if len(waiting) > 1 else 0)
            yield named(rows)
            if size > WAITING_BYTES:
                yield FLUSH
                size = 0

    def named(rows: BatchRows) -> bytes:
        if plain and (images := rows.plain_images()) is not None:
            keys = plain_keys(naming.recipe, images, naming.prompt.render({}))
            if keys is not None:
                return keys
        return b"".join([naming.raw(row) for row in rows])

    made = ahead(keys()) if threaded else keys()
    for records in RecordLookup(output, wanted).records(made):
        start = 0
        while start < records.num_rows:
            rows = waiting.popleft()
            taken = min(rows.num_rows, records.num_rows - start)
            if taken < rows.num_rows:
                waiting.appendleft(rows.slice(taken))
            piece = records.slice(start, taken)
            shown = view.shown(dict(zip(wanted, piece.columns, strict=True)), repeated)
            typed = fields.arrays(shown.pop("fields").to_pylist()) if fields else []
            caption, *rest = shown.values()
            columns = [*rows.slice(0, taken).columns[:own], caption, *typed, *rest]
            columns.append(pa.nulls(taken, pa.string()))  # `reviewed` fills it in
            yield pa.RecordBatch.from_arrays(columns, schema=whole)
            start += taken


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together to row groups. Each is held until it is whole, and the file's footer
    holds what it tells of each until the end: so groups grow with the file."""
    group, count, size, before = list[pa.RecordBatch](), 0, 0, 0
    for batch in batches:
        group.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if count >= max(SLICE, before // 200) or size >= GROUP_BYTES:
            yield pa.Table.from_batches(group)
            group, count, size, before = [], 0, 0, before + count
    if group:
        yield pa.Table.from_batches(group)


def dataset_mark(output: Path, manifest: Manifest, prefix: str, view: View = PLAIN_VIEW) -> bytes:
    """What dataset.parquet was made from, beside the records."""
    last = max((decision.at for decision in read_decisions(output).values()), default="")
    return " ".join(f"{manifest.fingerprint()} {prefix} {last} {view.mark}".split()).encode()


def is_stale(path: Path, mark: bytes) -> bool:
    """Was a dataset made from something else, or is it not to be read any more?"""
    return (metadata_of(path) or {}).get(b"caption_pipeline.manifest") != mark


def recipe_of(path: Path) -> str | None:
    """Whose captions a dataset holds; None where there is none, or where it does not say."""
    recipe = (metadata_of(path) or {}).get(_RECIPE)
    return recipe.decode() if recipe else None


def write_dataset(
    output: Path,
    manifest: Manifest,
    naming: Naming,
    *,
    prefix: str = "",
    view: View = PLAIN_VIEW,
) -> Path:
    """Write `<output>/dataset.parquet` aside, sync, rename, and a card that names it; one that was
    edited is kept under another name. OSError when it cannot be, ManifestError (65) when the manifest changes meanwhile.
    """
    final = output / "dataset.parquet"
    tmp = output / ".dataset.parquet.tmp"
    columns = manifest.arrow()
    whole = joined_schema(columns, prefix, view.fields)
    marked = {
        **whole.metadata,
        b"caption_pipeline.manifest": dataset_mark(output, manifest, prefix, view),
        _RECIPE: naming.recipe.encode(),
    }
    names = record_names(columns, prefix, view.fields)
    # Of the records' columns only some have values that repeat.
    unique = {names[name] for name in COLUMNS if name not in REPEATED}
    repeated = [name for name in whole.names if name not in unique]
    marked_schema = whole.with_metadata(marked)
    with ExitStack() as stack:
        writer = None
        batches = joined(manifest, naming, output, prefix=prefix, view=view)
        for group in _groups(reviewed(batches, names, read_decisions(output))):
            if writer is None:
                opened = PagedWriter(tmp, marked_schema, group, use_dictionary=repeated)
                writer = stack.enter_context(opened)
            writer.write_table(group)
            del group
            give_back()
        if writer is None:
            empty = whole.empty_table()
            stack.enter_context(PagedWriter(tmp, marked_schema, empty, use_dictionary=[]))
    manifest.check_unchanged()
    fs.sync_file(tmp)
    keep_edited(final)
    note_written(tmp, final)
    fs.publish(tmp, final)
    about = f"One row per image; the captions are in the column `{names['caption']}`."
    write_card(output, title=output.name, data=final.name, text=about)
    return final
