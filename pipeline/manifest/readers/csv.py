"""CSV and TSV: every cell stays the text that was written.

CSV has no types, and guessing them changes values (`007` becomes 7) and breaks in the middle of
a file, so nothing is guessed; a `where` on numbers says `CAST(width AS INT) > 512`. A first line that
holds a picture is a row: then the columns are `column_1`, `column_2`, …. What a quote means is decided for the file as a whole (`quotes.py`). pyarrow
reads; when it refuses, `_diagnose` reads the file again with Python's own csv module, slowly, to
name the line and the column.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.csv

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.image_column import KNOWN, plain_name
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import MAX_COLUMNS, FileInfo, Want, skip
from pipeline.manifest.readers.quotes import IMAGE_CELL, Quoting, quoting
from pipeline.patterns import lazy
from pipeline.picture_cell import bare_base64

#: A spreadsheet's first line that names the delimiter.
_SEP = lazy(r'"?sep=(.)"?(\r\n|\r|\n)', re.IGNORECASE)

#: Bytes read at once, until a row is longer.
_PIECES = (1 << 16, 1 << 20, 8 << 20, text.MAX_LINE)
#: Bytes in which the header is looked for first: a text takes four times its size to be split.
_HEAD, _LONGEST_HEAD = 1 << 14, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The dialect of a file, detected from its first rows."""

    names: list[str]
    delimiter: str
    #: Lines up to the first row.
    lines: int
    #: A line `sep=;` comes first.
    sep: bool
    quoting: Quoting = Quoting.DOUBLED
    #: The columns have no names; the first line is a row.
    nameless: bool = False


@dataclass(frozen=True, slots=True)
class DelimitedReader:
    """Rows with a header, cells split by a delimiter, quotes as the file as a whole has them."""

    #: Tried in order; the first that splits the header, else the first of all.
    delimiters: str

    def look(self, place: ManifestFile) -> FileInfo:
        header = self._header(place)
        schema = pa.schema([pa.field(name, pa.string()) for name in header.names])
        return FileInfo(schema=schema, nameless=header.nameless)

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place, want), want.start)

    def _read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        """Short pieces are read first, since pyarrow reads some thirty ahead where it uses threads;
        a row that is longer than a piece is met again in longer ones."""
        header = self._header(place)
        read = 0
        for size in _PIECES:
            try:
                for batch in skip(self._pieces(place, want, header, size), read):
                    yield batch
                    read += batch.num_rows
                return
            except pa.ArrowInvalid as error:
                if size == _PIECES[-1] or "straddling" not in str(error):
                    raise self._diagnose(place, header, error) from error

    def _pieces(
        self, place: ManifestFile, want: Want, header: _Header, size: int
    ) -> Iterator[pa.RecordBatch]:
        """The file in pieces of `size` bytes; ArrowInvalid for what pyarrow cannot take."""
        wanted = [name for name in header.names if name in want.columns]
        quotes = header.quoting is not Quoting.NONE
        with text.lines(place) as source:
            try:
                yield from pyarrow.csv.open_csv(
                    pa.PythonFile(source, mode="r"),
                    read_options=pyarrow.csv.ReadOptions(
                        use_threads=size == _PIECES[0],
                        block_size=size,
                        column_names=header.names,
                        skip_rows=header.lines,
                    ),
                    parse_options=pyarrow.csv.ParseOptions(
                        delimiter=header.delimiter,
                        quote_char='"' if quotes else False,
                        escape_char="\\" if header.quoting is Quoting.BACKSLASH else False,
                        newlines_in_values=quotes,
                    ),
                    convert_options=pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(header.names, pa.string()),
                        include_columns=wanted,
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "Empty CSV" not in str(error):  # a header and nothing else
                    raise

    def _header(self, place: ManifestFile) -> _Header:
        """The header; ManifestError when there is no usable one."""
        header = self._first_row(place, Quoting.DOUBLED)
        rule = quoting(place, header.delimiter, len(header.names))
        if rule is not Quoting.DOUBLED:
            header = self._first_row(place, rule)
        header = replace(header, quoting=rule)
        if any(map(_is_picture, header.names)):
            names = [f"column_{i}" for i in range(1, len(header.names) + 1)]
            return replace(header, names=names, lines=int(header.sep), nameless=True)
        return replace(header, names=_checked(place, header.names))

    def _first_row(self, place: ManifestFile, rule: Quoting) -> _Header:
        first = self._found(place, _HEAD, rule) or self._found(place, _LONGEST_HEAD, rule)
        if first is None:
            raise ManifestError(
                f"manifest {place.shown}: is empty; the first line must name the columns"
            )
        return first

    def _found(self, place: ManifestFile, size: int, rule: Quoting) -> _Header | None:
        """The header in the first bytes of a file; None when it does not end there."""
        head = text.head_of(place, size)
        whole = len(head) < size
        try:
            # A cut character at the end of the piece is not the file's fault.
            first = codecs.getincrementaldecoder("utf-8")().decode(head, whole)
        except UnicodeDecodeError as error:
            raise text.not_utf8(place, head.count(b"\n", 0, error.start) + 1) from error
        if not first.strip():
            return None
        named = _SEP.match(first)
        first = first[named.end() :] if named else first
        delimiters = named[1] if named else self.delimiters
        for delimiter in (*delimiters, delimiters[0]):
            lines = io.StringIO(first, newline="")
            rows = _rows(lines, delimiter, rule)
            try:
                names, line = _header_row(rows)
            except csv.Error:
                raise text.too_long(place, 1) from None
            if len(names) > 1:
                break
        if not whole and size < _LONGEST_HEAD and lines.tell() == len(first):
            return None
        if rows.line == line:
            with suppress(csv.Error):
                row = next((row for row in rows if row), [])
                names = _ended_alike(names, row) if whole or lines.tell() < len(first) else names
        return _Header(names=names, delimiter=delimiter, lines=line + bool(named), sep=bool(named))

    def _diagnose(self, place: ManifestFile, header: _Header, error: Exception) -> ManifestError:
        """Which line pyarrow could not take, and why."""
        names, lines = header.names, _decoded(place)
        rows = _rows(lines, header.delimiter, header.quoting)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error:
                return ManifestError(
                    f"manifest {place.shown}: a cell near line {rows.line} is larger than "
                    f"{text.MAX_LINE >> 20} MiB; close an open quote, or put images into files "
                    "or a Parquet column"
                )
            # What stands before the rows has cells of its own.
            if row and rows.line > header.lines and len(row) != len(names):
                rule = "first line has" if header.nameless else "header names"
                return ManifestError(
                    f"manifest {place.shown}: line {rows.line} has {len(row)} cells where the "
                    f"{rule} {len(names)} columns; quote cells that hold the delimiter"
                )
            size = sum(len(cell.encode()) for cell in row)
            if size >= text.MAX_LINE:
                widest = max(range(len(row)), key=lambda i: len(row[i]))
                return ManifestError(
                    f"manifest {place.shown}: line {rows.line}, column {names[widest]!r}: a cell "
                    f"of {len(row[widest]) / 1e6:.1f} MB; a row may hold "
                    f"{text.MAX_LINE >> 20} MiB. Put images into files or a Parquet column"
                )
        message = " ".join(str(error).split())[:200]
        return ManifestError(f"manifest {place.shown}: cannot be read as CSV: {message}")


class _rows(Iterator[list[str]]):  # noqa: N801 - used like the function csv.reader
    """csv.reader with our limit on a cell, and the line number that it has reached."""

    def __init__(self, lines: Iterator[str], delimiter: str, rule: Quoting) -> None:
        self._reader = csv.reader(
            lines,
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if rule is Quoting.NONE else csv.QUOTE_MINIMAL,
            escapechar="\\" if rule is Quoting.BACKSLASH else None,
        )

    def __next__(self) -> list[str]:
        before = csv.field_size_limit(4 * text.MAX_LINE)
        try:
            return next(self._reader)
        finally:
            csv.field_size_limit(before)

    @property
    def line(self) -> int:
        return self._reader.line_num


def _decoded(place: ManifestFile) -> Iterator[str]:
    """Physical lines as text."""
    with text.lines(place) as source:
        number = 0
        while line := source.readline(4 * text.MAX_LINE):
            number += 1
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise text.not_utf8(place, number) from error


def _header_row(rows: _rows) -> tuple[list[str], int]:
    """The first row that is not blank, and the line in which it ends; lines of `# words` before one
    with a column of images are left out."""
    filled = (row for row in rows if row)
    first = next(filled, []), rows.line
    if not first[0] or not first[0][0].startswith("#") or KNOWN & set(map(plain_name, first[0])):
        return first
    later = next((row for row in filled if not row[0].startswith("#")), []), rows.line
    return later if KNOWN & set(map(plain_name, later[0])) else first


def _ended_alike(names: list[str], row: list[str]) -> list[str]:
    """The header, where a delimiter ends each row but not it, or it but no row."""
    if len(row) == len(names) + 1 and not row[-1].strip():
        return [*names, ""]
    if len(row) == len(names) - 1 > 0 and not names[-1].strip():
        return names[:-1]
    return names


def _is_picture(cell: str) -> bool:
    """Is this no column's name, but an image or where one is?"""
    cell = cell.strip()
    return IMAGE_CELL.search(cell.encode()) is not None or bare_base64(cell) is not None


def _checked(place: ManifestFile, names: list[str]) -> list[str]:
    """The header's names, each one present and unique."""
    if len(names) > MAX_COLUMNS:
        raise ManifestError(
            f"manifest {place.shown}: {len(names)} columns; the limit is {MAX_COLUMNS}. "
            "Are rows and columns exchanged?"
        )
    # `DataFrame.to_csv` leaves the index column without a name.
    names = [name.strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    double = [name for name, times in Counter(names).items() if times > 1]
    if double:
        raise ManifestError(
            f"manifest {place.shown}: column {double[0]!r} occurs twice; rename one of them"
        )
    return names


CSV = DelimitedReader(delimiters=",;\t|")
TSV = DelimitedReader(delimiters="\t")
