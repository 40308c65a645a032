"""Manifest formats, one file each."""

from __future__ import annotations

from pipeline.manifest.readers.base import Reader
from pipeline.manifest.readers.csv import CSV, TSV
from pipeline.manifest.readers.folder import FOLDER
from pipeline.manifest.readers.jsonl import JSONL
from pipeline.manifest.readers.parquet import PARQUET
from pipeline.manifest.readers.txt import TXT
from pipeline.manifest.readers.webdataset import WEBDATASET

READERS: dict[str, Reader] = {
    "parquet": PARQUET,
    "csv": CSV,
    "tsv": TSV,
    "jsonl": JSONL,
    "json": JSONL,
    "txt": TXT,
    "folder": FOLDER,
    "webdataset": WEBDATASET,
}
