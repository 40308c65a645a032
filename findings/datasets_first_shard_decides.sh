#!/usr/bin/env bash
# datasets 5.2.0: whether a folder of Parquet shards holds pictures is decided by its first shard alone.
#
# The Image feature lives in a shard's schema metadata ("huggingface"), which a pass through polars or
# DuckDB drops, while the columns stay the same. `load_dataset` takes the features of the first file and
# reads all others by them: a folder of which one shard was rewritten gives PIL images or plain
# `{bytes, path}` structs for every row, depending on which shard's name sorts first. No warning in either order.
#
# Seen: untouched shard first: Image for all rows; rewritten shard first: a struct for all rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 duckdb==2.0.1 pyarrow==26.0.1 pillow==13.0.0
HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 venv/bin/python - 2>/dev/null <<'PYTHON'
import io
import shutil
from pathlib import Path

import datasets
import duckdb
from PIL import Image

picture = io.BytesIO()
Image.new("RGB", (8, 8)).save(picture, "PNG")
rows = {"image": [{"bytes": picture.getvalue(), "path": "a.png"}] * 2}
features = datasets.Features({"image": datasets.Image()})
datasets.Dataset.from_dict(rows, features=features).to_parquet("untouched.parquet")
duckdb.sql("copy (from 'untouched.parquet') to 'rewritten.parquet'")
seen = {}
for first, second in (("untouched", "rewritten"), ("rewritten", "untouched")):
    Path(first).mkdir(exist_ok=True)
    shutil.copy(f"{first}.parquet", f"{first}/train-00000-of-00002.parquet")
    shutil.copy(f"{second}.parquet", f"{first}/train-00001-of-00002.parquet")
    loaded = datasets.load_dataset(first, split="train")
    seen[first] = {type(row["image"]).__name__ for row in loaded}
    print(f"datasets {datasets.__version__}, {first} shard first: {len(loaded)} rows, {seen[first]}")
assert seen == {"untouched": {"PngImageFile"}, "rewritten": {"dict"}}, "shards are read by their own features now"
PYTHON
