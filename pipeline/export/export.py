"""Write joined rows to DEST in one of the formats of `EXPORTS`.

Everything is written under a temporary name beside DEST, synced and then renamed, so that DEST
is whole or not there. A file that exists is replaced; a folder that holds something is not, as
nobody can tell what in it is ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline import fs
from pipeline.errors import OutputError, UsageError
from pipeline.export.base import Exporter, Rows
from pipeline.export.csv import CSV, TSV
from pipeline.export.imagefolder import IMAGEFOLDER
from pipeline.export.jsonl import JSONL
from pipeline.export.parquet import PARQUET
from pipeline.export.pictures import Pictures
from pipeline.export.sidecar import SIDECAR
from pipeline.export.webdataset import WEBDATASET

EXPORTS: dict[str, Exporter] = {
    "parquet": PARQUET,
    "jsonl": JSONL,
    "csv": CSV,
    "tsv": TSV,
    "sidecar": SIDECAR,
    "imagefolder": IMAGEFOLDER,
    "webdataset": WEBDATASET,
}


def format_of(dest: Path, format: str | None = None) -> str:  # noqa: A002 - the command line's word
    """The export format for DEST; UsageError names them all."""
    if format is not None:
        if format in EXPORTS:
            return format
        raise UsageError(f"unknown export format {format!r}; one of {', '.join(EXPORTS)}")
    for name, exporter in EXPORTS.items():
        if dest.name.lower().endswith(exporter.endings or ("\0",)):
            return name
    raise UsageError(
        f"cannot tell the export format from {dest.name!r}; end it in .parquet, .jsonl, .csv, .tsv "
        f"or .tar, or give --format: {', '.join(EXPORTS)}"
    )


def export(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    dest: Path,
    format: str,  # noqa: A002 - the command line's word
    *,
    pictures: Pictures,
    names: tuple[str, str] = ("caption", "key"),
    formulas: bool = False,
) -> int:
    """Write all rows to `dest`; returns how many it holds. OutputError when it cannot be written.

    names: the columns of caption and key.
    """
    exporter = EXPORTS[format]
    rows = Rows(
        schema=schema,
        batches=batches,
        pictures=pictures,
        caption=names[0],
        key=names[1],
        formulas=formulas,
    )
    dest = dest.absolute()
    tmp = dest.with_name(f".{dest.name}.tmp")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if exporter.folder:
            return _folder(exporter, rows, tmp, dest)
        return _file(exporter, rows, tmp, dest)
    except OSError as error:
        where = error.filename or dest
        raise OutputError(f"export {dest}: {where}: {error.strerror or error}") from error


def _file(exporter: Exporter, rows: Rows, tmp: Path, dest: Path) -> int:
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


def _folder(exporter: Exporter, rows: Rows, tmp: Path, dest: Path) -> int:
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise OutputError(f"export {dest}: exists and is not an empty folder; name another")
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    try:
        written = exporter.write(rows, tmp)
        os.sync()  # many small files: one sync for all of them
        if dest.exists():
            dest.rmdir()
        fs.publish(tmp, dest)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return written
