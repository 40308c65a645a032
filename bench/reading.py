"""CPU of reading a manifest of each format, this build's to an earlier one's, interleaved.

    python bench/reading.py [--rows N] [--rounds R] [FORMAT …]

Each file is opened once before what is counted, so that modules and caches are loaded. Medians of rates:
1.1 is a tenth faster than the earlier build (`ratios.EARLIER`).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ratios import HERE, earlier

#: Reads a manifest whole; the CPU that this takes.
READ = """
import itertools, resource, sys
from pipeline.manifest.open import open_manifest
from pipeline.manifest.settings import ManifestSettings
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
def batches():
    return open_manifest(ManifestSettings(path=sys.argv[1]), columns=sys.argv[2:]).batches()
next(batches())
begun = cpu()
rows = sum(map(len, batches()))
print(cpu() - begun)
"""
Rows = list[dict[str, str]]


def delimited(line: str) -> Callable[[Path, Rows], None]:
    """A writer of a table whose lines have this form."""

    def write(path: Path, rows: Rows) -> None:
        names = {name: name for name in rows[0]}
        path.write_text("".join(line.format(**row) + "\n" for row in (names, *rows)))

    return write


def shard(*endings: str) -> Callable[[Path, Rows], None]:
    """A writer of tar shards, of a tenth of the rows."""

    def write(path: Path, rows: Rows) -> None:
        with tarfile.open(path, "w") as tar:
            for name in (f"{row['id']}.{e}" for row in rows[: len(rows) // 10] for e in endings):
                member = tarfile.TarInfo(name)
                member.size = 100
                tar.addfile(member, io.BytesIO(b"x" * 100))

    return write


def jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


#: File -> its writer, and the columns that a prompt names.
FILES: dict[str, tuple[Callable[[Path, Rows], None], tuple[str, ...]]] = {
    "plain.csv": (delimited("{id},{url},{title}"), ()),
    "quoted.csv": (delimited('"{id}","{url}","{title}"'), ()),
    "columns.csv": (delimited("{id},{url},{title}"), ("title",)),
    "plain.tsv": (delimited("{id}\t{url}\t{title}"), ()),
    "plain.jsonl": (jsonl, ()),
    "array.json": (lambda path, rows: path.write_text(json.dumps(rows)) and None, ()),
    "list.txt": (lambda path, rows: path.write_text("".join(f"{row['url']}\n" for row in rows)) and None, ()),
    "plain.parquet": (lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path), ()),
    "columns.parquet": (lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path), ("title",)),
    "pictures.tar": (shard("jpg"), ()),
    "texts.tar": (shard("jpg", "json", "txt"), ("txt",)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    asked = parser.parse_args()
    rows = [
        {"id": f"{n:08d}", "url": f"https://images.example/{n:08d}.jpg", "title": f"title {n}"}
        for n in range(asked.rows)
    ]
    with earlier() as old, tempfile.TemporaryDirectory() as name:
        for file, (write, columns) in FILES.items():
            if asked.formats and not file.endswith(tuple(asked.formats)):
                continue
            path = Path(name) / file
            write(path, rows)

            def cpu(build: Path, path: Path = path, columns: tuple[str, ...] = columns) -> float:
                command = [sys.executable, "-c", READ, str(path), *columns]
                env = {**os.environ, "PYTHONPATH": str(build)}
                done = subprocess.run(
                    command, cwd=name, env=env, check=True, capture_output=True, text=True
                )
                return float(done.stdout)

            rates = [cpu(old) / cpu(HERE.parent) for _ in range(asked.rounds)]
            print(f"{file:16} {statistics.median(rates):5.2f}", flush=True)


if __name__ == "__main__":
    main()
