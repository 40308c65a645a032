#!/usr/bin/env bash
# s3fs 2026.9.0: an exception inside `with fs.open(path, 'wb')` publishes what was written so far.
#
# Leaving the block closes the file, and closing it uploads: a writer that died half-way leaves an
# object that looks whole. pyarrow's ParquetWriter, left by the same exception, even adds a footer,
# so that the half of the rows reads as a good Parquet file. Only a whole object made first and put
# at once (`fs.pipe_file`) is safe.
#
# Seen: 9,000 bytes published by a writer that raised; 1 of 2 tables readable, no error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check s3fs==2026.9.0 fsspec==2026.9.0 'moto[s3,server]==5.2.5' 'boto3>=1.43.115,<1.43.118' 'aiobotocore>=3.10,<3.11' pyarrow==26.0.1
venv/bin/python -W ignore - <<'PYTHON'
import os

os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}

import logging

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import s3fs
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
fs = fsspec.filesystem("s3", client_kwargs={"endpoint_url": f"http://{host}:{port}"})
fs.mkdir("bucket")
try:
    with fs.open("bucket/captions.jsonl", "wb") as file:
        file.write(b'{"a": 1}\n' * 1000)
        raise RuntimeError("the second half never comes")
except RuntimeError:
    pass
table = pa.table({"caption": ["a", "b", "c"]})
try:
    with fs.open("bucket/captions.parquet", "wb") as file, pq.ParquetWriter(file, table.schema) as out:
        out.write_table(table)
        raise RuntimeError("the second table never comes")
except RuntimeError:
    pass
fs.invalidate_cache()
size = fs.size("bucket/captions.jsonl")
rows = pq.read_table(fs.open("bucket/captions.parquet")).num_rows
server.stop()
print(f"s3fs {s3fs.__version__}: {size} bytes published; {rows} rows of a broken Parquet write readable")
assert (size, rows) == (9000, 3)
PYTHON
