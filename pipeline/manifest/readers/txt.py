"""A plain list: one URL or path a line, blank lines and `# comments` left out. The column is `image`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.file_names import is_image
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import FileInfo, Want, skip

SCHEMA = pa.schema([pa.field("image", pa.string())])
_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class TxtReader:
    """One image a line."""

    def look(self, place: ManifestFile) -> FileInfo:
        text.head_of(place, 1 << 16)
        return FileInfo(schema=SCHEMA)

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place), want.start)

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
                        f"manifest {place.shown}: line {number} holds a tab; a table needs a first "
                        "line with its column names, as image<TAB>title, and manifest.format: tsv"
                    )
                if cell and not _is_comment(cell):
                    cells.append(cell)
                if len(cells) >= _ROWS:
                    yield _batch(cells)
                    cells = []
        if cells:
            yield _batch(cells)


def _is_comment(cell: str) -> bool:
    """`# words`, but not `#1.png`."""
    return cell.startswith("#") and (cell[1:2] in ("", " ", "#") or not is_image(cell))


def _batch(cells: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(cells, pa.string())], schema=SCHEMA)


TXT = TxtReader()
