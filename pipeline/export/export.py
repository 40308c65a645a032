"""Write joined rows to DEST in one of the formats of `EXPORTS`.

Everything is written under a temporary name beside DEST, synced and then renamed, so that DEST
is whole or not there. A file that exists is replaced; a folder that holds something is not, as
nobody can tell what in it is ours, unless `--overwrite` says that files of the same names may go.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import fs
from pipeline.errors import OutputError, UsageError
from pipeline.export.ahead import ahead
from pipeline.export.base import Exporter, Rows, Written
from pipeline.export.csv import CSV, TSV
from pipeline.export.imagefolder import IMAGEFOLDER
from pipeline.export.jsonl import JSONL
from pipeline.export.kohya import KOHYA
from pipeline.export.parquet import HUB, PARQUET, hub_shards
from pipeline.export.sidecar import SIDECAR
from pipeline.export.webdataset import WEBDATASET, tar_shards

_SYNCED_ONE_BY_ONE = 1_000

EXPORTS: dict[str, Exporter] = {
    "parquet": PARQUET,
    "jsonl": JSONL,
    "csv": CSV,
    "tsv": TSV,
    "sidecar": SIDECAR,
    "kohya": KOHYA,
    "imagefolder": IMAGEFOLDER,
    "webdataset": WEBDATASET,
    "hf": HUB,
}

#: Format -> the shards in a folder that an earlier export has written.
_SHARDS: dict[str, Callable[[Path], list[Path]]] = {"hf": hub_shards, "webdataset": tar_shards}


def format_of(dest: Path, format: str | None = None) -> str:  # noqa: A002 - the command line's word
    """The export format for DEST; UsageError names them all."""
    if format is not None:
        if format in EXPORTS:
            return format
        raise UsageError(f"unknown export format {format!r}; one of {', '.join(EXPORTS)}")
    for name, exporter in EXPORTS.items():
        if dest.name.lower().endswith(exporter.endings or ("\0",)) and name != "kohya":
            return name
    raise UsageError(
        f"cannot tell the export format from {dest.name!r}; end it in .parquet, .jsonl, .csv, .tsv "
        f"or .tar, or give --format: {', '.join(EXPORTS)}"
    )


def export(rows: Rows, dest: Path, format: str) -> Written:  # noqa: A002 - the command line's word
    """Write all rows to `dest`; what it holds. OutputError when it cannot be written."""
    exporter = EXPORTS[format]
    dest = dest.absolute()
    tmp = dest.with_name(f".{dest.name}.tmp")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if exporter.folder(dest):
            return _folder(format, rows, tmp, dest)
        return _file(exporter, rows, tmp, dest)
    except OSError as error:
        where = error.filename or dest
        raise OutputError(f"export {dest}: {where}: {error.strerror or error}") from error


class Counts:
    """How many rows went by, and how many of them have a caption."""

    def __init__(self) -> None:
        self.rows = self.captioned = 0

    def of(self, rows: Rows) -> Rows:
        """The same rows, counted as they go by."""
        return replace(rows, batches=self._counted(ahead(rows.batches), rows.caption))

    def _counted(self, batches: Iterator[pa.RecordBatch], caption: str) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.rows += batch.num_rows
            filled = pc.greater(pc.binary_length(batch.column(caption)), 0)
            self.captioned += filled.true_count
            yield batch


def _file(exporter: Exporter, rows: Rows, tmp: Path, dest: Path) -> Written:
    if dest.is_dir():
        raise OutputError(f"export {dest}: is a folder; name a file")
    tmp.unlink(missing_ok=True)
    try:
        written = exporter.write(rows, tmp)
        fs.sync_file(tmp)
        fs.publish(tmp, dest)
    finally:
        tmp.unlink(missing_ok=True)
    return written


def _folder(format: str, rows: Rows, tmp: Path, dest: Path) -> Written:  # noqa: A002 - the command line's word
    holds = dest.exists() and (not dest.is_dir() or any(dest.iterdir()))
    if holds and not (rows.options.overwrite and dest.is_dir()):
        raise OutputError(
            f"export {dest}: exists and is not an empty folder; name another, or give --overwrite"
        )
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    try:
        written = EXPORTS[format].write(rows, tmp)
        _sync(tmp)
        if holds:
            for old in _SHARDS[format](dest) if format in _SHARDS else ():
                old.unlink(missing_ok=True)
            _merge(tmp, dest)
        else:
            if dest.exists():
                dest.rmdir()
            fs.publish(tmp, dest)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return written


def _sync(folder: Path) -> None:
    """Everything below is on disk: file by file, or many small files by one sync of all disks."""
    paths = list(folder.rglob("*"))
    if len(paths) > _SYNCED_ONE_BY_ONE:
        os.sync()
        return
    for path in (*paths, folder):
        fs.sync_dir(path) if path.is_dir() else fs.sync_file(path)


def _merge(tmp: Path, dest: Path) -> None:
    """Move files over those of the same names; others stay."""
    for path in sorted(tmp.rglob("*")):
        target = dest / path.relative_to(tmp)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(path, target)
    _sync(dest)
