"""Manifest files of every format with the same three rows, written by other people's writers."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import ManifestSettings
from pipeline.model import Row

ROWS: list[dict[str, Any]] = [
    {"id": "007", "url": "https://x.example/a.jpg", "title": 'a "cat", asleep\non a mat'},
    {"id": "008", "url": "https://x.example/b.jpg?w=1&h=2", "title": "Mädchen mit 猫"},
    {"id": "009", "url": "c/d.png", "title": None},
]


def _parquet(path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(path)


def _polars(path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(path)


def _csv(path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(path, index=False)


def _tsv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "url", "title"], delimiter="\t")
        writer.writeheader()
        writer.writerows(ROWS)


def _jsonl(path: Path) -> None:
    pd.DataFrame(ROWS).to_json(path, orient="records", lines=True)


def _json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1, ensure_ascii=False))


#: File name -> writer: formats with all three columns.
TABLES: dict[str, Callable[[Path], None]] = {
    "a.parquet": _parquet,
    "b.pq": _polars,
    "c.csv": _csv,
    "d.tsv": _tsv,
    "e.jsonl": _jsonl,
    "f.json": _json,
    "g.csv.gz": lambda p: _squeezed(p, _csv, gzip.compress),
    "h.csv.zst": lambda p: _squeezed(p, _csv, lambda b: pa.compress(b, "zstd", asbytes=True)),
    "i.tsv.bz2": lambda p: _squeezed(p, _tsv, bz2.compress),
    "j.jsonl.xz": lambda p: _squeezed(p, _jsonl, lzma.compress),
    "k.jsonl.gz": lambda p: _squeezed(p, _jsonl, gzip.compress),
}


def _squeezed(path: Path, write: Callable[[Path], None], squeeze: Callable[[bytes], bytes]) -> None:
    plain = path.with_name("plain.tmp")
    write(plain)
    path.write_bytes(squeeze(plain.read_bytes()))
    plain.unlink()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    """A tar file."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def opened(path: object, columns: tuple[str, ...] = (), **settings: Any) -> Manifest:
    """The manifest at a path."""
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return open_manifest(ManifestSettings(path=paths, **settings), columns=columns)


def rows_of(manifest: Manifest, **how: Any) -> list[Row]:
    """All its rows."""
    return [row for batch in manifest.batches(**how) for row in batch]
