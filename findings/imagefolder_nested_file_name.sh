#!/usr/bin/env bash
# datasets 5.2.0: an imagefolder turns every `file_name` in metadata.jsonl into a picture, however deep it lies.
#
# The loader's documentation speaks of the columns `file_name` and `*_file_name`. It also goes into objects and lists
# of objects: metadata taken from COCO or from a crawl (`"source": {"file_name": "orig.png", "id": 7}`) loads without
# a word, its text has become an Image feature called `image`, and the first row that is read raises
# FileNotFoundError for a file that nobody meant, although the row's own picture is there.
#
# Seen: features {"source": {"image": Image, "id": int64}}; len() is right; row 0: FileNotFoundError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0
HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 venv/bin/python - 2>/dev/null <<'PYTHON'
import json
from pathlib import Path

import datasets
from PIL import Image

Path("set").mkdir()
Image.new("RGB", (8, 8)).save("set/a.png")
row = {"file_name": "a.png", "caption": "A cat.", "source": {"file_name": "orig.png", "id": 7}}
Path("set/metadata.jsonl").write_text(json.dumps(row) + "\n")
loaded = datasets.load_dataset("imagefolder", data_dir="set", split="train")
source = loaded.features["source"]
print(f"datasets {datasets.__version__}: {len(loaded)} row, source is {source}")
assert set(source) == {"image", "id"} and isinstance(source["image"], datasets.Image), source
try:
    loaded[0]
except FileNotFoundError as error:
    print("row 0:", type(error).__name__, Path(error.filename).name if error.filename else "")
else:
    raise SystemExit("a nested file_name does no harm now")
PYTHON
