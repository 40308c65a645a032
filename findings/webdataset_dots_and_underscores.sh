#!/usr/bin/env bash
# webdataset 1.0.2: pictures named after a time or a version are one sample; some folders are skipped.
#
# A key ends at the FIRST dot of a member's last part: 22.05.png and 22.10.png are one sample '22'
# with the fields '05.png' and '10.png', and a decoder that asks for 'png' finds neither. Members of
# a folder like __new__/ are left out without a word, as are names that begin with a dot.
#
# Seen: 5 pictures in, samples '22' (two fields) and 'plain' out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check webdataset==1.0.2 pillow==13.0.0
venv/bin/python -W ignore - <<'PYTHON'
import io
import tarfile
from importlib.metadata import version

import webdataset
from PIL import Image

picture = io.BytesIO()
Image.new("RGB", (8, 8)).save(picture, "PNG")
with tarfile.open("a.tar", "w") as tar:
    for name in ("22.05.png", "22.10.png", "plain.png", "__new__/1.png", ".hidden.png"):
        member = tarfile.TarInfo(name)
        member.size = len(picture.getvalue())
        tar.addfile(member, io.BytesIO(picture.getvalue()))
samples = {
    sample["__key__"]: sorted(name for name in sample if not name.startswith("__"))
    for sample in webdataset.WebDataset("a.tar", shardshuffle=False)
}
print(f"webdataset {version('webdataset')}: {samples}")
assert samples == {"22": ["05.png", "10.png"], "plain": ["png"]}
PYTHON
