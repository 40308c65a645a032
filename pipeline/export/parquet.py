"""Parquet, with every type as it is; with pictures if asked for; or as shards for the hub.

Pictures become `{bytes, path}`, the form of Hugging Face, in the image column itself where that
holds them already or is called `image`, else in a new column `image` beside it. A picture that
cannot be read is null where its row has no caption either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import OutputError, UsageError
from pipeline.export.base import Rows, Written
from pipeline.export.captioned import holds_bytes, picture_cells
from pipeline.export.card import our_card, write_card
from pipeline.export.features import read_features, with_features
from pipeline.export.names import text_of
from pipeline.export.parquet_file import PagedWriter
from pipeline.export.pictures import NO_PICTURE, ending
from pipeline.plural import counted

#: Rows are gathered to row groups of about this size, whatever size the batches have.
GROUP_ROWS, GROUP_BYTES = 100_000, 64 << 20
#: The same where they hold pictures.
PICTURE_ROWS, PICTURE_BYTES = 100, 256 << 20
SHARD_BYTES = 500 * 10**6
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, slots=True)
class ParquetExporter:
    """One Parquet file."""

    endings: tuple[str, ...] = (".parquet", ".pq")
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return False

    def write(self, rows: Rows, dest: Path) -> Written:
        if rows.options.images:
            rows = with_pictures(rows)
        written, writer = Written(), None
        try:
            for group in groups(rows):
                writer = writer or PagedWriter(dest, rows.schema, group)
                writer.write_table(group)
                written.rows += group.num_rows
            writer = writer or PagedWriter(dest, rows.schema, rows.schema.empty_table())
        finally:
            if writer is not None:
                writer.close()
        return written


@dataclass(frozen=True, slots=True)
class HubExporter:
    """Parquet shards with pictures, and a card: what `load_dataset(DEST)` and the hub take."""

    endings: tuple[str, ...] = ()
    pictures: bool = True

    def folder(self, dest: Path) -> bool:
        return True

    def write(self, rows: Rows, dest: Path) -> Written:
        rows = with_pictures(rows)
        size, most = rows.options.shard_size or SHARD_BYTES, rows.options.shard_rows or 1 << 62
        written, paths, writer, count = Written(), list[Path](), None, 0
        try:
            for group in groups(rows, most=most, size=size):
                full = writer is not None and paths[-1].stat().st_size + group.nbytes > size
                if writer is not None and (full or count + group.num_rows > most):
                    writer.close()
                    writer = None
                if writer is None:
                    paths.append(dest / f"train-{len(paths):05d}")
                    writer, count = PagedWriter(paths[-1], rows.schema, group), 0
                writer.write_table(group)
                count += group.num_rows
                written.rows += group.num_rows
            if writer is None:
                paths.append(dest / "train-00000")
                writer = PagedWriter(paths[-1], rows.schema, rows.schema.empty_table())
        finally:
            if writer is not None:
                writer.close()
        for path in paths:
            path.rename(path.with_name(f"{path.name}-of-{len(paths):05d}.parquet"))
        about = (
            f"{counted(written.rows, 'picture')}; the captions are in the column `{rows.caption}`."
        )
        write_card(dest, title=rows.title, data="train-*.parquet", text=about)
        written.notes.append(f"{len(paths):,} shard{'s' * (len(paths) != 1)}")
        return written


def hub_shards(folder: Path) -> list[Path]:
    """The shards of an earlier export: there is its card beside them."""
    return sorted(folder.glob("train-*-of-*.parquet")) if our_card(folder) else []


def groups(rows: Rows, *, most: int = 1 << 62, size: int = 1 << 62) -> Iterator[pa.Table]:
    """Batches put together to row groups of at most so many rows and about so many bytes."""
    pictures = any(field.type == _PICTURE for field in rows.schema)
    limit = min(PICTURE_ROWS if pictures else GROUP_ROWS, most)
    large = min(PICTURE_BYTES if pictures else GROUP_BYTES, size)
    kept, count, kept_bytes = list[pa.RecordBatch](), 0, 0
    for batch in rows.batches:
        at, few = 0, max(1, batch.num_rows * large // max(1, batch.nbytes))
        while at < batch.num_rows:
            piece = batch.slice(at, min(few, limit - count))
            if kept and kept_bytes + piece.nbytes > large:
                yield pa.Table.from_batches(kept, rows.schema)
                kept, count, kept_bytes = [], 0, 0
                continue
            kept.append(piece)
            at, count, kept_bytes = (
                at + piece.num_rows,
                count + piece.num_rows,
                kept_bytes + piece.nbytes,
            )
            if count == limit:
                yield pa.Table.from_batches(kept, rows.schema)
                kept, count, kept_bytes = [], 0, 0
    if kept:
        yield pa.Table.from_batches(kept, rows.schema)


def with_pictures(rows: Rows) -> Rows:
    """The same rows, each with its picture."""
    image = rows.pictures.column
    name = image
    at = rows.schema.get_field_index(image)
    if at >= 0 and not holds_bytes(rows.schema.field(at).type) and image.lower() != "image":
        taken = {other.lower() for other in rows.schema.names}
        name = next(n for n in ("image", "image_new", "image_new2") if n not in taken)
        schema = rows.schema.insert(0, pa.field(name, _PICTURE))
    else:
        schema = rows.schema.set(at, pa.field(name, _PICTURE))
    declared = read_features(rows.schema.metadata)
    schema = with_features(schema, declared, images=name)
    return replace(rows, schema=schema, batches=_embedded(rows, schema, name))


def _embedded(rows: Rows, schema: pa.Schema, name: str) -> Iterator[pa.RecordBatch]:
    for batch in rows.batches:
        for piece in _few(batch):
            cells = picture_cells(piece, rows.pictures.column)
            captions = piece.column(rows.caption).to_pylist()
            pictures = [
                _picture(rows, cell, bool(caption))
                for cell, caption in zip(cells, captions, strict=True)
            ]
            columns = [
                pa.array(pictures, _PICTURE) if field.name == name else piece.column(field.name)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _few(batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
    """So few rows that their pictures stay small together."""
    rows = 16
    return (batch.slice(at, rows) for at in range(0, batch.num_rows, rows))


def _picture(rows: Rows, cell: Any, needed: bool) -> dict[str, Any] | None:
    try:
        content = rows.pictures.read(cell)
        if not needed and ending(content) == NO_PICTURE:
            return None  # any file may be named; only pictures are handed on
    except (OutputError, UsageError):
        if needed:
            raise
        return None
    text = text_of(cell)
    path = text if text and not text.startswith("/") and "://" not in text else Path(text).name
    return {"bytes": content, "path": path or None}


PARQUET = ParquetExporter()
HUB = HubExporter()
