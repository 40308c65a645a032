#!/usr/bin/env bash
# DuckDB 2.0.1: a decimal of more than 38 digits in a Parquet file is read as DOUBLE, without a word.
#
# Hash-like identifiers and totals are written by Spark and pyarrow as decimal(39..76, s). DuckDB's own decimal
# ends at 38 digits; through Parquet such a column turns into a floating-point number, so two ids that differ
# in their last digits are equal in a join or a `where`. The same column handed over as an Arrow table
# is refused instead ("Unsupported Internal Arrow Type for Decimal"), and so is a half float (float16), which
# Parquet files may hold and DuckDB reads from there as FLOAT. polars 2.1.0 reads the half floats from both.
#
# Seen: two different ids of 40 digits compare equal; Arrow: NotImplementedException for decimal256 and float16.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ids = [Decimal("1234567890" * 4), Decimal("1234567890" * 3 + "1234567899")]
wide = pa.table({"id": pa.array(ids, pa.decimal256(50, 0))})
half = pa.table({"score": pa.array([0.5], pa.float16())})
pq.write_table(wide, "wide.parquet")
pq.write_table(half, "half.parquet")
query = "select min(typeof(id)), count(distinct id) from 'wide.parquet'"
kind, distinct = duckdb.sql(query).fetchall()[0]
print(f"DuckDB {duckdb.__version__}: decimal(50, 0) of a file is {kind}; {distinct} distinct of {len(ids)} ids")
assert (kind, distinct) == ("DOUBLE", 1), "wide decimals are read otherwise now"
assert duckdb.sql("select typeof(score) from 'half.parquet'").fetchall() == [("FLOAT",)]
for arrow in (wide, half):
    try:
        duckdb.sql("select * from arrow").fetchall()
    except duckdb.NotImplementedException as error:
        print(f"Arrow {arrow.schema.types[0]}: {error}")
    else:
        raise SystemExit(f"Arrow {arrow.schema.types[0]} is taken now")
PYTHON
