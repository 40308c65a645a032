#!/usr/bin/env bash
# fastparquet 2026.9.0: a hub image set has no column `image`.
#
# Hugging Face stores a picture as struct<bytes, path>. fastparquet gives two flat columns,
# `image.bytes` and `image.path`, at the END of the columns; a row without a picture (null struct)
# cannot be told from a picture whose bytes and path are both null.
#
# Seen: ['caption', 'image.bytes', 'image.path']; rows 1 (null) and 2 (struct of nulls) are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastparquet==2026.9.0 pyarrow==26.0.1
venv/bin/python -W ignore - <<'PYTHON'
import fastparquet
import pyarrow as pa
import pyarrow.parquet as pq

picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
rows = [{"bytes": b"\xff\xd8", "path": "a.jpg"}, None, {"bytes": None, "path": None}]
pq.write_table(pa.table({"image": pa.array(rows, picture), "caption": ["a", "b", "c"]}), "hub.parquet")
file = fastparquet.ParquetFile("hub.parquet")
frame = file.to_pandas()
print(f"fastparquet {fastparquet.__version__}: {file.columns}")
print(frame)
assert file.columns == ["caption", "image.bytes", "image.path"]
second, third = frame.iloc[1, 1:].tolist(), frame.iloc[2, 1:].tolist()
assert second == third == [None, None]
PYTHON
