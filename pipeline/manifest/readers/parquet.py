"""Parquet: only the wanted columns are read, a batch at a time.

Parquet's own reader is trusted with the file. Memory is bounded by the batch: it holds about
`_BATCH_BYTES` by the average row of its row group, and fewer rows where a dictionary stands for
long values (one of 500 KB can stand for gigabytes). A page is unpacked whole, so one of 1 GB costs
what docs/inputs.md says. No column chunk's metadata is asked for: a damaged one ends the process
(pyarrow 26). Arrow's own extension types stay, any other is read as what it stores: nothing here
imports a library that would register one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.columns import is_bytes
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import MAX_COLUMNS, FileInfo, Want

_BATCH_ROWS, _BATCH_BYTES = 4_096, 16 << 20
#: Rows longer than this make small batches by themselves; their dictionaries may be large.
_LONG_ROW = 16 << 10
_FOOTER_BYTES = 32 << 20
#: Memory that the pages of one row group may take, and the rows of a page that pyarrow writes at most.
_MOST_BYTES, _PAGE_ROWS = 2_900_000_000, 1_024
#: Extension types that are kept: Arrow knows them itself, no Python code runs for them.
_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8", "arrow.fixed_shape_tensor")


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Columns of Parquet files."""

    def look(self, place: ManifestFile) -> FileInfo:
        with place.open() as raw, _damage(place):
            footer = _footer(place, raw)
            file = _open(place, raw, footer)
            schema, rows = file.schema_arrow, sum(_group_rows(file))
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
            footer = _footer(place, raw)
            file = _open(place, raw, footer)
            names = [name for name in file.schema_arrow.names if name in want.columns]
            leaves = [f"{n}.path" if n in want.path_only else n for n in names]
            shared = [n for n in _shareable(file.schema_arrow) if _below(n, leaves)]
            with place.open() as again:
                probe = _open(place, again, footer, read_dictionary=shared) if shared else None
                first = 0
                for number, rows in enumerate(_group_rows(file)):
                    if first + rows > want.start:
                        size = _batch_rows(file, number, probe, shared)
                        start = max(0, want.start - first)
                        yield from _group(place, file, number, leaves, size, start)
                    first += rows


def _group_rows(file: Any) -> list[int]:
    """The rows of each row group."""
    metadata = file.metadata
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ValueError("row groups and rows do not add up")
    return rows


def _group(
    place: ManifestFile, file: Any, number: int, leaves: list[str], size: int, start: int
) -> Iterator[pa.RecordBatch]:
    """One row group from its row `start` on, `size` rows at a time."""
    left = file.metadata.row_group(number).num_rows
    before: int | None = pa.total_allocated_bytes()
    # Threads gain nothing on pictures, and hold one more page of them.
    threads = size == _BATCH_ROWS
    for batch in file.iter_batches(size, row_groups=[number], columns=leaves, use_threads=threads):
        if before is not None and not threads:
            _check_pages(place, file, number, pa.total_allocated_bytes() - before)
        before = None
        left -= batch.num_rows
        if start >= batch.num_rows:
            start -= batch.num_rows
            continue
        batch.validate(full=True)  # offsets in range, text in UTF-8
        yield batch.slice(start) if start else batch
        start = 0
    if left:
        raise ValueError(f"row group {number + 1} lacks {left} of its rows")


def _check_pages(place: ManifestFile, file: Any, number: int, taken: int) -> None:
    """ManifestError where the pages of a row group are too large for memory.

    taken: what its first page takes, a dictionary of the first `_PAGE_ROWS` rows twice; the page of
    the next ones comes beside it.
    """
    group = file.metadata.row_group(number)
    more = min(max(0, group.num_rows - _PAGE_ROWS), _PAGE_ROWS)
    needed = taken + more * group.total_byte_size // max(1, group.num_rows)
    if needed > _MOST_BYTES:
        raise ManifestError(
            f"manifest {place.shown}: the pages of row group {number + 1} take {needed / 1e9:.1f} GB "
            "of memory; write the file anew with row_group_size=100 (pandas, pyarrow), or with "
            "polars or DuckDB"
        )


def _batch_rows(file: Any, number: int, probe: Any, shared: list[str]) -> int:
    """How many rows of a row group may be read at once."""
    group = file.metadata.row_group(number)
    average = max(1, group.total_byte_size // max(1, group.num_rows))
    rows: int = min(_BATCH_ROWS, _BATCH_BYTES // average)
    if probe is not None and average < _LONG_ROW:
        rows = min(rows, 2 * _BATCH_BYTES // max(1, _longest(probe, number, shared)))
    return max(1, rows)


@contextmanager
def _damage(place: ManifestFile) -> Iterator[None]:
    """Whatever a damaged file makes pyarrow raise, as one line."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
        message = " ".join(str(error).split())[:200]
        raise ManifestError(
            f"manifest {place.shown}: damaged Parquet file ({message}); copy the file again"
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


def _open(
    place: ManifestFile, raw: Any, footer: bytes, *, read_dictionary: list[str] | None = None
) -> Any:
    return pq.ParquetFile(
        pa.PythonFile(raw, mode="r") if place.path is None else str(place.path),
        read_dictionary=read_dictionary,
        # A list has room made for as many entries as it claims, of hundreds of bytes each, before
        # any is read; each takes a byte or more of the footer.
        thrift_container_size_limit=len(footer),
        buffer_size=1 << 20 if place.path is not None else 8 << 20,
        # Else the whole row group is read ahead, whatever the batch.
        pre_buffer=False,
        # The probe's dictionaries are of plain text.
        arrow_extensions_enabled=read_dictionary is None,
    )


def _longest(probe: Any, number: int, shared: list[str]) -> int:
    """Bytes of the longest text or picture that a row group keeps in a dictionary.

    One row is read with its dictionary left as it is, which costs a page or two.
    """
    longest = 0
    for batch in islice(probe.iter_batches(1, row_groups=[number], columns=shared), 1):
        for column in pa.Table.from_batches([batch]).flatten().columns:
            if pa.types.is_dictionary(column.type):
                values = column.chunk(0).dictionary
                longest = max(longest, pc.max(pc.binary_length(values)).as_py() or 0)
    return longest


def _shareable(schema: pa.Schema) -> list[str]:
    """The leaves that may keep text or bytes in a dictionary."""
    leaves = []
    for field in schema:
        kind = field.type
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        inner = (
            [(f"{field.name}.{f.name}", f.type) for f in kind] if pa.types.is_struct(kind) else []
        )
        leaves += [name for name, leaf in inner or [(field.name, kind)] if _is_long(leaf)]
    return leaves


def _below(path: str, leaves: Sequence[str]) -> bool:
    return any(path == leaf or path.startswith(f"{leaf}.") for leaf in leaves)


def _is_long(kind: pa.DataType) -> bool:
    """Text or bytes of any length."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_bytes(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without views, in lists and structs too (nothing takes single ones out of them in
    pyarrow 26), without dictionaries of bytes, and without extensions but those of Arrow itself."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind if kind.extension_name in _EXTENSIONS else _plain(kind.storage_type)
    if pa.types.is_dictionary(kind) and is_bytes(kind.value_type):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_plain(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


PARQUET = ParquetReader()
