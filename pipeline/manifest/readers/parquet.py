"""Parquet: only the wanted columns are read, a batch at a time.

Files come from strangers. Three things keep one from filling the memory: a page that only a bomb
has is refused by name before it is unpacked (by its own header, as a footer may lie); text stored
through a dictionary is measured before it is spelled out (a dictionary of 500 KB can stand for
gigabytes); and a batch holds about `_BATCH_BYTES`. Arrow's own extension types stay, any other is read as what it stores: nothing
here imports a library that would register one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import MAX_COLUMNS, FileInfo, Want
from pipeline.manifest.readers.thrift import BYTE_ARRAY, Chunk, Damaged, Group, Page, groups, pages

_BATCH_ROWS, _BATCH_BYTES = 4_096, 16 << 20
#: Largest page of text or bytes; DuckDB writes pages of 100 MB. A page above the second size
#: that was shrunk by more than the ratio is a bomb: text shrinks by 50 at most, images not at all.
_PAGE_BYTES, _PAGE_SUSPECT, _PAGE_RATIO = 256 << 20, 32 << 20, 100
#: Largest text cell; a data URI of 20 MB fits.
_CELL_BYTES = 32 << 20
_FOOTER_BYTES = 32 << 20
#: Extension types that are kept: Arrow knows them itself, no Python code runs for them.
_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8", "arrow.fixed_shape_tensor")


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Columns of Parquet files."""

    def look(self, place: ManifestFile) -> FileInfo:
        with place.open() as raw, _damage(place):
            footer = _footer(place, raw)
            rows = sum(group.rows for group in groups(footer))
            schema = _open(place, raw).schema_arrow
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
        return FileInfo(
            schema=pa.schema(fields),
            rows=rows,
            mark=hashlib.sha256(footer).hexdigest(),
            huggingface=(schema.metadata or {}).get(b"huggingface"),
        )

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        with place.open() as raw, _damage(place):
            found = groups(_footer(place, raw))
            file = _open(place, raw)
            names = [name for name in file.schema_arrow.names if name in want.columns]
            leaves = [f"{n}.path" if n in want.path_only else n for n in names]
            text = [n for n in names if n in leaves and _is_text(file.schema_arrow.field(n).type)]
            with place.open() as again:
                probe = _open(place, again, read_dictionary=text) if text else None
                source = _Source(place, raw, file, probe, tuple(leaves), frozenset(text))
                first = 0
                for number, group in enumerate(found):
                    if first + group.rows > want.start:
                        yield from _group(source, number, group, max(0, want.start - first))
                    first += group.rows


@dataclass(frozen=True, slots=True)
class _Source:
    """What a file's row groups are read from."""

    place: ManifestFile
    raw: Any
    file: Any
    #: The same file, with text left in its dictionaries.
    probe: Any
    #: The columns to read, and those of them that hold text.
    leaves: tuple[str, ...]
    text: frozenset[str]


def _group(source: _Source, number: int, group: Group, start: int) -> Iterator[pa.RecordBatch]:
    """One row group from its row `start` on."""
    chunks = [c for c in group.chunks if _below(c.path, source.leaves)]
    shared = _refuse_bombs(source, chunks)
    size = sum(chunk.unpacked for chunk in chunks)
    rows = min(_BATCH_ROWS, _BATCH_BYTES * group.rows // max(1, size))
    rows = max(1, min(rows, 2 * _BATCH_BYTES // max(1, _longest(source, number, shared))))
    left = group.rows
    for batch in source.file.iter_batches(rows, row_groups=[number], columns=list(source.leaves)):
        left -= batch.num_rows
        if start >= batch.num_rows:
            start -= batch.num_rows
            continue
        batch.validate(full=True)  # offsets in range, text in UTF-8
        yield batch.slice(start) if start else batch
        start = 0
    if left:
        raise Damaged(f"row group {number + 1} lacks {left} of its {group.rows} rows")


@contextmanager
def _damage(place: ManifestFile) -> Iterator[None]:
    """Whatever a damaged file makes pyarrow raise, as one line."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())[:200]
        raise ManifestError(
            f"manifest {place.shown}: damaged Parquet file ({words}); copy the file again"
        ) from error


def _footer(place: ManifestFile, raw: Any) -> bytes:
    """The footer's bytes; ManifestError when there is none."""
    end = raw.seek(0, 2)
    raw.seek(max(0, end - 8))
    tail = raw.read(8)
    size = int.from_bytes(tail[:4], "little")
    raw.seek(0)
    if end < 12 or tail[4:] != b"PAR1" or size > end - 8 or raw.read(3) != b"PAR":
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
    content: bytes = raw.read(size)
    return content


def _open(place: ManifestFile, raw: Any, *, read_dictionary: list[str] | None = None) -> Any:
    return pq.ParquetFile(
        pa.PythonFile(raw, mode="r") if place.path is None else str(place.path),
        read_dictionary=read_dictionary,
        buffer_size=1 << 20 if place.path is not None else 8 << 20,
        # The probe's dictionaries are of plain text.
        arrow_extensions_enabled=read_dictionary is None,
    )


def _below(path: str, leaves: Sequence[str]) -> bool:
    return any(path == leaf or path.startswith(f"{leaf}.") for leaf in leaves)


def _refuse_bombs(source: _Source, chunks: list[Chunk]) -> list[str]:
    """ManifestError for a page of text or bytes that would fill the memory.

    Returns the columns that keep values in a dictionary. Remote files are judged by their
    footer: reading every header would fetch every page.
    """
    shared = []
    for chunk in chunks:
        if chunk.physical != BYTE_ARRAY:
            continue
        average = chunk.unpacked // max(1, chunk.values)
        found: Iterable[Page] = [Page(chunk.stored, average, chunk.dictionary)]
        if source.place.path is not None:
            found = pages(source.raw, chunk)
        for page in found:
            if page.dictionary and chunk.path not in shared:
                shared.append(chunk.path)
            if page.unpacked > _PAGE_BYTES or (
                page.unpacked > max(_PAGE_SUSPECT, _PAGE_RATIO * page.stored)
            ):
                raise ManifestError(
                    f"manifest {source.place.shown}: column {chunk.path!r}: {page.stored:,} bytes "
                    f"that unpack to {page.unpacked:,}, too large; leave this column out of the file"
                )
    return shared


def _longest(source: _Source, number: int, shared: list[str]) -> int:
    """Bytes of the longest text that a row group keeps in a dictionary; 0 without one.

    One row is read with its dictionary left as it is, which costs a page or two.
    """
    text = [name for name in shared if name in source.text]
    if not text:
        return 0
    longest = 0
    batch = next(source.probe.iter_batches(1, row_groups=[number], columns=text), None)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True)) if batch else {}
    for name, column in columns.items():
        longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
        if longest > _CELL_BYTES:
            raise ManifestError(
                f"manifest {source.place.shown}: column {name!r}: a cell of {longest:,} bytes; "
                f"the limit is {_CELL_BYTES >> 20} MiB"
            )
    return longest


def _is_text(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_text(kind.storage_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without views, and without extensions but those of Arrow itself."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind if kind.extension_name in _EXTENSIONS else _plain(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


PARQUET = ParquetReader()
