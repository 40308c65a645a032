#!/usr/bin/env bash
# pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, DuckDB 2.0.1: one read of a Parquet path opens it two
# or three times.
#
# So replacing a file by rename is not atomic for such a reader: footer and pages may come from two
# files, and the error speaks of damage ("Page was smaller than expected"). Only
# pyarrow.parquet.ParquetFile opens once.
#
# Seen (inotify): ParquetFile 1, read_table 2, pandas 2, polars 2, DuckDB 3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1
venv/bin/python -W ignore - <<'PYTHON'
import ctypes
import os
import struct
import tempfile

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq

IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN = 0x1, 0x10, 0x20
libc = ctypes.CDLL(None, use_errno=True)
path = os.path.join(tempfile.mkdtemp(dir="."), "part.parquet")
pq.write_table(pa.table({"caption": ["a"] * 10}), path)
watch = libc.inotify_init1(os.O_NONBLOCK)
# Reads and closings are watched too: equal events in a row are put together by the kernel.
libc.inotify_add_watch(watch, path.encode(), IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)


def opens() -> int:
    count = 0
    try:
        while True:
            events, at = os.read(watch, 65536), 0
            while at < len(events):
                _, mask, _, length = struct.unpack_from("iIII", events, at)
                at += 16 + length
                count += bool(mask & IN_OPEN)
    except BlockingIOError:
        return count


READERS = {
    "pyarrow.parquet.ParquetFile": lambda: pq.ParquetFile(path).read(),
    "pyarrow.parquet.read_table": lambda: pq.read_table(path),
    "pandas.read_parquet": lambda: pandas.read_parquet(path),
    "polars.read_parquet": lambda: polars.read_parquet(path),
    "duckdb": lambda: duckdb.sql(f"SELECT * FROM '{path}'").fetchall(),
}
seen = {}
for name, read in READERS.items():
    read()
    opens()
    read()
    seen[name] = opens()
print(f"pyarrow {pa.__version__}, pandas {pandas.__version__}, polars {polars.__version__}, duckdb {duckdb.__version__}")
print(seen)
assert list(seen.values()) == [1, 2, 2, 2, 3], seen
PYTHON
