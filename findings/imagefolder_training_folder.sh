#!/usr/bin/env bash
# datasets 5.2.0: `imagefolder` drops the columns of metadata.jsonl, without a word, where a folder's
# name merely holds a split's name.
#
# metadata.jsonl in the data folder names its pictures as training/0.png. A folder called `images`
# or `contest` keeps the column `text`; one called `training`, `a-test-b`, `2019test`, `dev` or
# `eval` is taken for a split, the metadata file for none, and all captions are gone.
#
# Seen: images, contest: ['image', 'text']; the others: ['image'], no error, no warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
venv/bin/python -W ignore - <<'PYTHON'
import json
import os

import datasets
from PIL import Image

datasets.disable_progress_bars()


def columns(folder: str) -> list[str]:
    os.makedirs(f"{folder}/{folder}")
    with open(f"{folder}/metadata.jsonl", "w") as metadata:
        for n in range(3):
            Image.new("RGB", (8, 8), (n * 40, 0, 0)).save(f"{folder}/{folder}/{n}.png")
            print(json.dumps({"file_name": f"{folder}/{n}.png", "text": "a"}), file=metadata)
    loaded = datasets.load_dataset("imagefolder", data_dir=folder, cache_dir="cache")
    return next(iter(loaded.values())).column_names


print(f"datasets {datasets.__version__}")
for folder, captions in {"images": True, "contest": True, "training": False, "a-test-b": False,
                         "2019test": False, "dev": False, "eval": False}.items():
    seen = columns(folder)
    print(f"{folder}: {seen}")
    assert ("text" in seen) is captions, folder
PYTHON
