"""Tar shards as WebDataset writes them: members that share a key are one row.

The key is the member's name up to the first dot of its last part. Columns: `image`, a reference
`tar://MEMBER::SHARD` (the chained form that fsspec also reads; no image byte is read here),
`__key__`, and the text sidecars `txt`, `json` and `cls`, null where a row has none. `where` can
look into the JSON: `json->>'$.width' > '512'`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import FileInfo, Want, skip
from pipeline.manifest.readers.folder import is_image

SIDECARS = ("txt", "json", "cls")
SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("image", "__key__", *SIDECARS)])
#: Largest sidecar that is read.
MAX_SIDECAR = 1 << 20
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class WebdatasetReader:
    """Rows of a tar shard."""

    def look(self, place: ManifestFile) -> FileInfo:
        with place.open() as raw:
            try:
                _open(raw).close()
            except tarfile.ReadError as error:
                first = str(error).partition("\n")[0]
                raise ManifestError(
                    f"manifest {place.shown}: not a tar file, or cut in its first member ({first}); "
                    "copy the shard again"
                ) from error
        return FileInfo(schema=SCHEMA)

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(self._read(place, sidecars=set(SIDECARS) & set(want.columns)), want.start)

    def _read(self, place: ManifestFile, *, sidecars: set[str]) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, str | None]] = []
        for row in _rows(place, sidecars):
            rows.append(row)
            if len(rows) >= _ROWS:
                yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _rows(place: ManifestFile, sidecars: set[str]) -> Iterator[dict[str, str | None]]:
    """Members next to each other with one key, as rows; those without an image are left out."""
    row: dict[str, str | None] = {}
    with place.open() as raw:
        try:
            with _open(raw) as tar:
                for member in tar:
                    if not member.isreg():
                        continue
                    key, _, kind = _split(member.name)
                    if row.get("__key__") != key:
                        if row.get("image"):
                            yield row
                        row = {"__key__": key}
                    if is_image(member.name):
                        row.setdefault("image", f"tar://{member.name}::{place.name}")
                    elif kind in sidecars and member.size <= MAX_SIDECAR:
                        file = tar.extractfile(member)
                        assert file is not None
                        row[kind] = file.read().decode("utf-8", "replace").strip()
                    tar.members = []  # type: ignore[attr-defined] # it keeps all headers it has seen
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ManifestError(
                f"manifest {place.shown}: damaged or cut after row {row.get('__key__')!r}: {error}; "
                "copy the shard again"
            ) from error
    if row.get("image"):
        yield row


def _split(name: str) -> tuple[str, str, str]:
    """`a/b.c.jpg` -> (`a/b`, `.`, `c.jpg`)."""
    folder, slash, last = name.rpartition("/")
    stem, dot, kind = last.partition(".")
    return folder + slash + stem, dot, kind.lower()


def _open(raw: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=raw, mode="r:*")


WEBDATASET = WebdatasetReader()
