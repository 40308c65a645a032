"""Parquet: only the wanted columns are read, a batch at a time.

Files come from strangers. Three things keep one from filling the memory: a page that only a bomb
has is refused by name before it is unpacked (by its own header, as a footer may lie); text stored
through a dictionary is measured before it is spelled out (a dictionary of 500 KB can stand for
gigabytes); and a batch holds about `_BATCH_BYTES`. Extension types are read as what they store: no type's own code runs, and
nothing here imports a library that would register one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.places import Place
from pipeline.manifest.readers.base import MAX_COLUMNS, Look, Want
from pipeline.manifest.readers.pages import sizes

_BATCH_ROWS, _BATCH_BYTES = 32_768, 16 << 20
#: Largest page of text or bytes; DuckDB writes pages of 100 MB. A page above the second size
#: that was shrunk by more than the ratio is a bomb: text shrinks by 50 at most, images not at all.
_PAGE_BYTES, _PAGE_SUSPECT, _PAGE_RATIO = 256 << 20, 32 << 20, 100
#: Largest text cell; a data URI of 20 MB fits.
_CELL_BYTES = 32 << 20
_FOOTER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Columns of Parquet files."""

    def look(self, place: Place) -> Look:
        with place.open() as raw, _damage(place):
            mark = _footer(place, raw)
            file = _open(place, raw)
            schema = file.schema_arrow.remove_metadata()
            rows = file.metadata.num_rows
        fields = [pa.field(f.name, _plain(f.type)) for f in schema]
        names = [f.name for f in fields]
        if len(names) > MAX_COLUMNS:
            raise ManifestError(
                f"manifest {place.shown}: {len(names)} columns; the limit is {MAX_COLUMNS}"
            )
        double = next((name for name, times in Counter(names).items() if times > 1), None)
        if double is not None:
            raise ManifestError(
                f"manifest {place.shown}: column {double!r} occurs twice; rename one of them"
            )
        return Look(schema=pa.schema(fields), rows=rows, mark=mark)

    def read(self, place: Place, want: Want) -> Iterator[pa.RecordBatch]:
        with place.open() as raw, _damage(place):
            file = _open(place, raw)
            names = [name for name in file.schema_arrow.names if name in want.columns]
            leaves = [f"{n}.path" if n in want.path_only else n for n in names]
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if first + rows > want.start:
                    _refuse_bombs(place, raw, file.metadata.row_group(group), leaves)
                    yield from _group(place, file, group, leaves, max(0, want.start - first))
                first += rows


def _group(
    place: Place, file: Any, group: int, leaves: list[str], start: int
) -> Iterator[pa.RecordBatch]:
    """One row group from its row `start` on."""
    meta = file.metadata.row_group(group)
    size = sum(c.total_uncompressed_size for c in _chunks(meta, leaves))
    rows = min(_BATCH_ROWS, _BATCH_BYTES * meta.num_rows // max(1, size))
    longest = _longest_shared(place, file, group, leaves)
    rows = max(1, min(rows, 2 * _BATCH_BYTES // max(1, longest)))
    for batch in file.iter_batches(rows, row_groups=[group], columns=leaves):
        if start >= batch.num_rows:
            start -= batch.num_rows
            continue
        batch.validate(full=True)  # offsets in range, text in UTF-8
        yield batch.slice(start) if start else batch
        start = 0


@contextmanager
def _damage(place: Place) -> Iterator[None]:
    """Whatever a damaged file makes pyarrow raise, as one line."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())[:200]
        raise ManifestError(
            f"manifest {place.shown}: damaged Parquet file ({words}); copy the file again"
        ) from error


def _footer(place: Place, raw: Any) -> str:
    """Digest of the footer; ManifestError when there is none."""
    end = raw.seek(0, 2)
    raw.seek(max(0, end - 8))
    tail = raw.read(8)
    size = int.from_bytes(tail[:4], "little")
    raw.seek(0)
    if end < 12 or tail[4:] not in (b"PAR1", b"PARE") or size > end - 8 or raw.read(3) != b"PAR":
        raise ManifestError(
            f"manifest {place.shown}: not a whole Parquet file (no footer); it was cut short, is "
            "still being written, or is of another format. Copy it again or set manifest.format"
        )
    if size > _FOOTER_BYTES:
        raise ManifestError(
            f"manifest {place.shown}: a footer of {size >> 20} MiB; the limit is "
            f"{_FOOTER_BYTES >> 20}. Write it anew with larger row groups"
        )
    raw.seek(end - 8 - size)
    return hashlib.sha256(raw.read(size)).hexdigest()


def _open(
    place: Place, raw: Any, *, read_dictionary: list[str] | None = None, metadata: Any = None
) -> Any:
    return pq.ParquetFile(
        pa.PythonFile(raw, mode="r") if place.path is None else str(place.path),
        read_dictionary=read_dictionary,
        metadata=metadata,
        buffer_size=1 << 20 if place.path is not None else 8 << 20,
        arrow_extensions_enabled=False,
    )


def _chunks(meta: Any, leaves: list[str]) -> list[Any]:
    """The column chunks of a row group that belong to the wanted leaves."""
    chunks = (meta.column(i) for i in range(meta.num_columns))
    return [c for c in chunks if _below(c.path_in_schema, leaves)]


def _below(path: str, leaves: list[str]) -> bool:
    return any(path == leaf or path.startswith(f"{leaf}.") for leaf in leaves)


def _text_leaves(file: Any, leaves: list[str]) -> set[str]:
    """Top-level text columns among the leaves."""
    return {
        f.name
        for f in file.schema_arrow
        if f.name in leaves and (pa.types.is_string(f.type) or pa.types.is_large_string(f.type))
    }


def _refuse_bombs(place: Place, raw: Any, meta: Any, leaves: list[str]) -> None:
    """ManifestError for a page of text or bytes that would fill the memory.

    Remote files are judged by their footer: reading every header would fetch every page.
    """
    for chunk in _chunks(meta, leaves):
        if chunk.physical_type != "BYTE_ARRAY":
            continue
        stored, size = chunk.total_compressed_size, chunk.total_uncompressed_size
        pages: Iterable[tuple[int, int]] = [(stored, size // max(1, chunk.num_values))]
        if place.path is not None:
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            pages = sizes(raw, start, stored)
        for stored, size in pages:
            if size > _PAGE_BYTES or (size > _PAGE_SUSPECT and size > _PAGE_RATIO * stored):
                raise ManifestError(
                    f"manifest {place.shown}: column {chunk.path_in_schema!r}: {stored:,} bytes "
                    f"that unpack to {size:,}, too large; leave this column out of the file"
                )


def _longest_shared(place: Place, file: Any, group: int, leaves: list[str]) -> int:
    """Bytes of the longest text that a row group keeps in a dictionary; 0 without one.

    One row is read with its dictionary left as it is, which costs a page or two.
    """
    text = list(_text_leaves(file, leaves))
    chunks = _chunks(file.metadata.row_group(group), text)
    shared = [c.path_in_schema for c in chunks if c.has_dictionary_page]
    if not shared:
        return 0
    longest = 0
    with place.open() as raw:
        probe = _open(place, raw, read_dictionary=shared, metadata=file.metadata)
        for batch in probe.iter_batches(1, row_groups=[group], columns=shared):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
                if longest > _CELL_BYTES:
                    raise ManifestError(
                        f"manifest {place.shown}: column {name!r}: a cell of {longest:,} bytes; "
                        f"the limit is {_CELL_BYTES >> 20} MiB"
                    )
            break
    return longest


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without views and extensions."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


PARQUET = ParquetReader()
