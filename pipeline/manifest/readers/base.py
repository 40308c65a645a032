"""What every manifest format offers. One more format = one more file + one line in `READERS`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from pipeline.manifest.places import ManifestFile

#: More columns than this are a mistake, or an attack.
MAX_COLUMNS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file says about itself without being read."""

    schema: pa.Schema
    #: None: unknown until read.
    rows: int | None = None
    #: Goes into the manifest's fingerprint, e.g. a digest of the footer.
    mark: str = ""
    #: Parquet: the features that Hugging Face declares, as JSON.
    huggingface: bytes | None = None
    #: Its first line is a row, and its columns are numbered.
    nameless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What to read of a file. Columns that the file lacks are simply absent from its batches."""

    columns: tuple[str, ...]
    #: Struct columns of which only the field `path` is read.
    path_only: frozenset[str] = field(default_factory=frozenset)
    #: The first rows alone are wanted, soon: a tar's texts that come later may be missing.
    first: bool = False
    #: Rows at the start of the file to leave out.
    start: int = 0


class Reader(Protocol):
    """One format. Both methods raise ManifestError and nothing else for a bad file."""

    def look(self, place: ManifestFile) -> FileInfo:
        """Columns and, if it is cheap, rows."""
        ...

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        """Stream the wanted columns in file order, in batches of bounded size.

        Yields exactly the rows from `want.start` on.
        """
        ...


def skip(batches: Iterator[pa.RecordBatch], start: int) -> Iterator[pa.RecordBatch]:
    """Drop the first `start` rows, for formats that can only be read from the beginning."""
    for batch in batches:
        if start >= batch.num_rows:
            start -= batch.num_rows
            continue
        yield batch.slice(start) if start else batch
        start = 0
