"""A plain list: one URL or path a line, blank lines and `# comments` left out. The column is `image`.

A list whose first line holds a tab is a TSV by another name, one that begins with the columns of a CSV
(`image,caption`) a CSV, one whose first line is an object JSON lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.file_names import is_image
from pipeline.manifest.image_column import KNOWN, plain_name
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import FileInfo, Reader, Want, skip
from pipeline.manifest.readers.csv import CSV, TSV
from pipeline.manifest.readers.jsonl import JSONL
from pipeline.manifest.readers.quotes import IMAGE_CELL
from pipeline.patterns import lazy

SCHEMA = pa.schema([pa.field("image", pa.string())])
_ROWS = 16_384
#: A path and, behind a blank, a class or a number.
_WITH_MORE = lazy(
    r"(?i)\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif)[ ,;]+((?!.*\.[a-z]{3,4}\Z)[\w.,; -]+)"
)


@dataclass(frozen=True, slots=True)
class TxtReader:
    """One image a line."""

    def look(self, place: ManifestFile) -> FileInfo:
        table = _table(place)
        return FileInfo(schema=SCHEMA) if table is None else table.look(place)

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        table = _table(place)
        return skip(self._read(place), want.start) if table is None else table.read(place, want)

    def _read(self, place: ManifestFile) -> Iterator[pa.RecordBatch]:
        cells: list[str] = []
        with text.lines(place) as source:
            number = 0
            while line := source.readline(text.MAX_LINE + 1):
                number += 1
                if len(line) > text.MAX_LINE:
                    raise text.too_long(place, number)
                try:
                    cell = line.decode().strip()
                except UnicodeDecodeError as error:
                    raise text.not_utf8(place, number) from error
                if "\t" in cell:
                    raise ManifestError(
                        f"manifest {place.shown}: line {number} holds a tab and the first line none; "
                        "a list has one image a line, a table as many cells in each"
                    )
                if not cell or (cell[0] == "#" and _is_comment(cell)):
                    continue
                cells.append(cell)
                if len(cells) >= _ROWS:
                    yield _batch(cells)
                    cells = []
        if cells:
            yield _batch(cells)


def _table(place: ManifestFile) -> Reader | None:
    """The reader of a table that is called a list; None for a list."""
    lines = text.head_of(place, 1 << 16).decode("utf-8", "replace").splitlines()
    first = next((line for line in lines if line.strip() and not _is_comment(line.strip())), "")
    if "\t" in first.strip():
        return TSV
    if first.lstrip().startswith('{"'):
        return JSONL
    if (more := _WITH_MORE.fullmatch(first.strip())) is not None:
        raise ManifestError(
            f"manifest {place.shown}: the first line holds more than an image ({more[1][:40]!a}); write "
            "a tab before it, or the image alone"
        )
    names = [plain_name(cell) for cell in re.split("[,;|]", first)]
    is_row = IMAGE_CELL.search(first.strip().encode()) is not None
    return CSV if len(names) > 1 and not is_row and set(names) & KNOWN else None


def _is_comment(cell: str) -> bool:
    """`# words`, but not `#1.png`."""
    return cell.startswith("#") and (cell[1:2] in ("", " ", "#") or not is_image(cell))


def _batch(cells: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(cells, pa.string())], schema=SCHEMA)


TXT = TxtReader()
