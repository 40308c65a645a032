#!/usr/bin/env bash
# pyarrow 26.0.1: a Parquet page of pictures is 1,024 pictures, whatever `data_page_size` says.
#
# `data_page_size` is compared with what was written only after each batch of 1,024 values
# (`write_batch_size`), so with pictures of 200 kB and a page size of 1 MB (the default) one page
# holds 205 MB, and a reader that wants one row takes all of it in, a buffered one too
# (`buffer_size`, with `pre_buffer=False`: with its default, true, a row costs the whole column chunk). `write_batch_size=1` gives pages
# of the size asked for.
#
# Seen: to read one row, +203 MB with the default, 5 MB with write_batch_size=1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

READ_ONE_ROW = """
import re, sys
import pyarrow.parquet as pq
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024
file = pq.ParquetFile(sys.argv[1], buffer_size=1 << 16, pre_buffer=False)
before = peak()
rows = next(file.iter_batches(batch_size=1))
assert rows.num_rows == 1
print(peak() - before)
"""
pictures = pa.table({"image": pa.array([os.urandom(200_000) for _ in range(1200)], pa.binary())})
for name, options in {"default": {}, "one": {"write_batch_size": 1}}.items():
    pq.write_table(pictures, f"{name}.parquet", data_page_size=1 << 20, compression="none",
                   use_dictionary=False, **options)
grown = {}
for name in ("default", "one"):
    output = subprocess.run([sys.executable, "-c", READ_ONE_ROW, f"{name}.parquet"],
                            check=True, capture_output=True, text=True).stdout
    grown[name] = int(output)
    print(f"pyarrow {pa.__version__}, write_batch_size {name}: one row costs {output.strip()} MB")
assert grown["default"] > 190, "pages are smaller than 1,024 pictures now"
assert grown["one"] < 60, "write_batch_size=1 no longer bounds the page"
PYTHON
