"""CSV and TSV: every cell stays the text that was written.

CSV has no types, and guessing them changes values (`007` becomes 7) and breaks in the middle of
a file, so nothing is guessed; a `where` on numbers says `CAST(width AS INT) > 512`. A header
line is required. pyarrow reads; when it refuses, `_diagnose` reads the file again with Python's
own csv module, slowly, to name the line and the column.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import MAX_COLUMNS, FileInfo, Want, skip

_IMAGE_CELL = re.compile(
    r"(?i)^(https?|s3|gs|hf|package)://|^data:image/|\.(jpe?g|png|webp|gif|bmp|tiff?|heic|avif)$"
)

#: Bytes read at once.
_PIECE = 1 << 16
#: Bytes in which the header is looked for first: a text takes four times its size to be split.
_HEAD = 1 << 14


@dataclass(frozen=True, slots=True)
class DelimitedReader:
    """Rows with a header, cells split by a delimiter, quotes by RFC 4180."""

    #: Tried in order; the first that splits the header, else the first of all.
    delimiters: str

    def look(self, place: ManifestFile) -> FileInfo:
        names, _ = self._header(place)
        return FileInfo(schema=pa.schema([pa.field(name, pa.string()) for name in names]))

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place, want), want.start)

    def _read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        """Short pieces are read first, since pyarrow reads some thirty ahead; a row that is longer
        than a piece is met again in long ones."""
        names, delimiter = self._header(place)
        read = 0
        try:
            for batch in self._pieces(place, want, names, delimiter, _PIECE):
                yield batch
                read += batch.num_rows
        except pa.ArrowInvalid:
            try:
                yield from skip(self._pieces(place, want, names, delimiter, text.MAX_LINE), read)
            except pa.ArrowInvalid as error:
                raise self._diagnose(place, names, delimiter, error) from error

    def _pieces(
        self, place: ManifestFile, want: Want, names: list[str], delimiter: str, size: int
    ) -> Iterator[pa.RecordBatch]:
        """The file in pieces of `size` bytes; ArrowInvalid for what pyarrow cannot take."""
        wanted = [name for name in names if name in want.columns]
        with text.lines(place) as source:
            try:
                yield from pyarrow.csv.open_csv(
                    pa.PythonFile(source, mode="r"),
                    read_options=pyarrow.csv.ReadOptions(
                        block_size=size, column_names=names, skip_rows_after_names=1
                    ),
                    parse_options=pyarrow.csv.ParseOptions(
                        delimiter=delimiter, newlines_in_values=True
                    ),
                    convert_options=pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        include_columns=wanted,
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "Empty CSV" not in str(error):  # a header and nothing else
                    raise

    def _header(self, place: ManifestFile) -> tuple[list[str], str]:
        """Column names and the delimiter; ManifestError when there is no usable header."""
        found = self._found(place, _HEAD) or self._found(place, text.MAX_LINE)
        if found is None:
            raise ManifestError(
                f"manifest {place.shown}: is empty; the first line must name the columns"
            )
        names, delimiter = found
        return _checked(place, names), delimiter

    def _found(self, place: ManifestFile, size: int) -> tuple[list[str], str] | None:
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
        for delimiter in (*self.delimiters, self.delimiters[0]):
            lines = io.StringIO(first, newline="")
            try:
                names = next(row for row in _rows(lines, delimiter) if row)
            except csv.Error:
                raise text.too_long(place, 1) from None
            if len(names) > 1:
                break
        if not whole and size < text.MAX_LINE and lines.tell() == len(first):
            return None
        return names, delimiter

    def _diagnose(
        self, place: ManifestFile, names: list[str], delimiter: str, error: Exception
    ) -> ManifestError:
        """Which line pyarrow could not take, and why."""
        rows = _rows(_decoded(place), delimiter)
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
            if row and len(row) != len(names):
                return ManifestError(
                    f"manifest {place.shown}: line {rows.line} has {len(row)} cells where the "
                    f"header names {len(names)} columns; quote cells that hold the delimiter"
                )
            size = sum(len(cell.encode()) for cell in row)
            if size >= text.MAX_LINE:
                widest = max(range(len(row)), key=lambda i: len(row[i]))
                return ManifestError(
                    f"manifest {place.shown}: line {rows.line}, column {names[widest]!r}: a cell "
                    f"of {len(row[widest]) / 1e6:.1f} MB; a row may hold "
                    f"{text.MAX_LINE >> 20} MiB. Put images into files or a Parquet column"
                )
        words = " ".join(str(error).split())[:200]
        return ManifestError(f"manifest {place.shown}: cannot be read as CSV: {words}")


class _rows(Iterator[list[str]]):  # noqa: N801 - used like the function csv.reader
    """csv.reader with our limit on a cell, and the line number that it has reached."""

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._reader = csv.reader(lines, delimiter=delimiter, strict=False)

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
        while line := source.readline(8 * text.MAX_LINE):
            number += 1
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise text.not_utf8(place, number) from error


def _checked(place: ManifestFile, names: list[str]) -> list[str]:
    """The header's names, each one present and unique."""
    if len(names) > MAX_COLUMNS:
        raise ManifestError(
            f"manifest {place.shown}: {len(names)} columns; the limit is {MAX_COLUMNS}. "
            "Are rows and columns exchanged?"
        )
    data = next((name for name in names if _IMAGE_CELL.search(name.strip())), None)
    if data is not None:
        raise ManifestError(
            f"manifest {place.shown}: the first line looks like a row, not a header "
            f"({data.strip()[:80]!r}); add a line that names the columns, e.g. image,title"
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
