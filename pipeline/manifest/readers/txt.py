"""A plain list: one URL or path a line, blank lines left out. The column is `image`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.manifest import text
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
                if cell:
                    cells.append(cell)
                if len(cells) >= _ROWS:
                    yield _batch(cells)
                    cells = []
        if cells:
            yield _batch(cells)


def _batch(cells: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(cells, pa.string())], schema=SCHEMA)


TXT = TxtReader()
