"""`dataset.parquet`: one row per manifest row, in manifest order, with what is known of it.

The manifest is streamed, and every row's key is looked up in the published parts. Neither is ever
held whole.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import fs
from pipeline.captioning.columns import CAPTION, RECORD_COLUMNS, columns_of, decided
from pipeline.captioning.naming import Naming
from pipeline.captioning.view import PLAIN_VIEW, View
from pipeline.clock import iso
from pipeline.export.ahead import ahead
from pipeline.export.card import write_card
from pipeline.export.parquet_file import PagedWriter
from pipeline.memory import give_back
from pipeline.schema import METADATA
from pipeline.store.parts import metadata_of
from pipeline.store.record_index import FLUSH, RecordLookup
from pipeline.store.record_shape import shape_of
from pipeline.store.reviews import read_decisions

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest

#: Rows of the smallest row group.
SLICE = 2_500
#: Bytes of rows that wait for their records, where these are looked up many at a time.
WAITING_BYTES = 16 << 20
#: Bytes of a row group that is not let grow any more.
GROUP_BYTES = 16 << 20
#: Metadata of a dataset: whose captions it holds.
_RECIPE = b"caption_pipeline.recipe"


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
    changes meanwhile. pictures: columns that keep their bytes. threaded: read rows in a thread.
    """
    fields, repeated, shape = view.fields, view.repeated(output), shape_of(output)
    source = manifest.arrow(pictures=pictures)
    columns = columns_of(source, naming, prefix=prefix, fields=fields, records=shape)
    own = columns.schema.get_field_index(columns.names[0][CAPTION])
    extra = {"fields": bool(fields), "recipe": columns.prompt is not None}
    wanted = [n for n in (*RECORD_COLUMNS, *extra) if n in shape.names and extra.get(n, True)]
    each, waiting = naming.prompts_per_row, deque[pa.RecordBatch]()
    of_recipe = {prompt.recipe: prompt.name for prompt in naming.prompts}

    def keys() -> Iterator[bytes]:
        size = 0
        for table, rows in manifest.tables(pictures=pictures):
            waiting.append(table)
            size = table.nbytes + (size if len(waiting) > 1 else 0)
            yield naming.keys_of_all(rows)
            if size > WAITING_BYTES:
                yield FLUSH
                size = 0

    def shown(records: pa.RecordBatch, number: int) -> Iterator[pa.Array]:
        """The columns of one prompt's records."""
        values = view.shown(dict(zip(wanted, records.columns, strict=True)), repeated)
        typed = fields.arrays(values["fields"].to_pylist()) if fields else []
        values.update(zip(fields.names, typed, strict=True))
        values["review"] = pa.nulls(len(records), pa.string())  # `decided` fills it in
        return (values[column] for column in columns.names[number])

    made = ahead(keys()) if threaded else keys()
    for records in _whole_rows(RecordLookup(output, wanted).records(made), each):
        start = 0
        while start < records.num_rows:
            rows = waiting.popleft()
            if (taken := min(rows.num_rows, (records.num_rows - start) // each)) < rows.num_rows:
                waiting.appendleft(rows.slice(taken))
            piece = records.slice(start, taken * each)
            arrays = [*rows.slice(0, taken).columns[:own]]
            for number in range(each):
                arrays += shown(piece if each == 1 else _every(piece, number, each), number)
            if columns.copy is not None:
                arrays.append(pa.nulls(taken, pa.string()))  # `decided` fills it in
            if columns.prompt is not None:
                recipes = map(of_recipe.get, piece.column("recipe").to_pylist())
                arrays.append(pa.array(recipes, pa.string()))
            yield pa.RecordBatch.from_arrays(arrays, schema=columns.schema)
            start += taken * each


def _every(records: pa.RecordBatch, first: int, step: int) -> pa.RecordBatch:
    return records.take(pa.array(range(first, len(records), step), pa.int64()))


def _whole_rows(
    batches: Iterator[pa.RecordBatch], prompts_per_row: int
) -> Iterator[pa.RecordBatch]:
    """Records in batches that hold all those of a row."""
    rest: list[pa.RecordBatch] = []
    for batch in batches:
        if not rest and not len(batch) % prompts_per_row:
            yield batch
            continue
        table = pa.Table.from_batches([*rest, batch]).combine_chunks()
        whole = len(table) // prompts_per_row * prompts_per_row
        rest = table.slice(whole).to_batches()
        yield from table.slice(0, whole).to_batches()


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
    columns = columns_of(
        manifest.arrow(), naming, prefix=prefix, fields=view.fields, records=shape_of(output)
    )
    whole = columns.schema
    marked = {
        **whole.metadata,
        b"caption_pipeline.manifest": dataset_mark(output, manifest, prefix, view),
        _RECIPE: naming.recipe.encode(),
    }
    marked_schema = whole.with_metadata(marked)
    with ExitStack() as stack:
        writer = None
        batches = joined(manifest, naming, output, prefix=prefix, view=view)
        for group in _groups(decided(batches, columns, read_decisions(output))):
            if writer is None:
                opened = PagedWriter(tmp, marked_schema, group)
                writer = stack.enter_context(opened)
            writer.write_table(group)
            del group
            give_back()
        if writer is None:
            empty = whole.empty_table()
            stack.enter_context(PagedWriter(tmp, marked_schema, empty))
    manifest.check_unchanged()
    fs.sync_file(tmp)
    keep_edited(final)
    note_written(tmp, final)
    fs.publish(tmp, final)
    caption = columns.names[0][CAPTION]
    about = f"One row per image; the captions are in the column `{caption}`."
    write_card(output, title=output.name, data=final.name, text=about)
    return final


#: Below `_state/`.
NOTE = "dataset.json"
_log = logging.getLogger("pipeline")


def keep_edited(dataset: Path) -> Path | None:
    """Rename a dataset that somebody edited by hand, and say so; its new name, None where it is ours.

    One that cannot be read is damaged: it is left to be replaced. Where nothing is noted, a file
    that bears this program's metadata is taken for ours.
    """
    if not dataset.is_file() or not _edited(dataset):
        return None
    day = iso(dataset.stat().st_mtime)[:10]
    kept, number = dataset.with_name(f"dataset.edited-{day}.parquet"), 1
    while kept.exists():
        number += 1
        kept = dataset.with_name(f"dataset.edited-{day}-{number}.parquet")
    dataset.rename(kept)
    _log.warning(
        "%s was edited: kept as %s; `review JOB --import %s` takes its captions as decisions",
        dataset.name,
        kept.name,
        kept,
    )
    return kept


def note_written(tmp: Path, dataset: Path) -> None:
    """Note what is about to become the dataset: its SHA-256 beside that of the file which it replaces,
    so that a crash between the two makes no edit of either. Size and time spare reading it again."""
    note = dataset.parent / "_state" / NOTE
    before = fs.read_object(note).get("sha256") or []
    look = tmp.stat()
    content = {
        "sha256": [fs.sha256_file(tmp), *before[:1]],
        "size": look.st_size,
        "mtime_ns": look.st_mtime_ns,
    }
    fs.make_private_dir(note.parent)
    fs.write_atomic(note, json.dumps(content).encode(), private=True)


def _edited(dataset: Path) -> bool:
    noted, look = fs.read_object(dataset.parent / "_state" / NOTE), dataset.stat()
    if (noted.get("size"), noted.get("mtime_ns")) == (look.st_size, look.st_mtime_ns):
        return False
    if fs.sha256_file(dataset) in noted.get("sha256", ()):
        return False
    metadata = metadata_of(dataset)
    return metadata is not None and (bool(noted) or METADATA.keys().isdisjoint(metadata))
