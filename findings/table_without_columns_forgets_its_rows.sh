#!/usr/bin/env bash
# pyarrow 26.0.1: a table without columns knows its number of rows until the first step.
#
# `read_table(path, columns=[])` is the cheap way to count, and a job whose columns are all added later
# (a caption beside nothing) starts from such a table. Its `num_rows` is right. `slice` believes whatever
# length it is given and forgets the offset, `take` and `concat_tables` answer with 0 rows: no error anywhere.
#
# Seen, for a file of 3 rows: num_rows 3, slice(1) 3, slice(2, 100) 100, take([0]) 0, concat of two 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"url": ["a", "b", "c"]}), "rows.parquet")
table = pq.read_table("rows.parquet", columns=[])
seen = {
    "num_rows": table.num_rows,
    "slice(1)": table.slice(1).num_rows,
    "slice(2, 100)": table.slice(2, 100).num_rows,
    "take([0])": table.take([0]).num_rows,
    "concat_tables of two": pa.concat_tables([table, table]).num_rows,
}
print(f"pyarrow {pa.__version__}:", seen)
assert list(seen.values()) == [3, 3, 100, 0, 0], "tables without columns count otherwise now"
PYTHON
