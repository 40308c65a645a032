#!/usr/bin/env bash
# json_repair 0.64.6: an array of three captions becomes six or two, as soon as a model leaves quotes
# unescaped inside one of them; an object with a number for each caption keeps all three.
#
# In an array, a quote with a comma behind it ends a string, so `"Open, late"` inside a caption is cut
# into strings of its own, and `12"` and `5"` (inches) glue two captions into one. No error is raised
# and no part is lost, but caption 2 is no longer that of image 2. In an object the next key shows
# where a string has to end. Whoever reads packs of captions through a repairer counts them, or asks
# for numbered keys.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check json_repair==0.64.6
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import json_repair

CAPTIONS = {
    "words": ['a sign reading "Open, late", red door', "a cat", "a dog"],
    "inches": ['a 12" pizza', 'a 5" screen', "a dog"],
}
for name, captions in CAPTIONS.items():
    array = json_repair.loads("[" + ", ".join(f'"{caption}"' for caption in captions) + "]")
    numbered = ", ".join(f'"{number}": "{text}"' for number, text in enumerate(captions, 1))
    by_number = json_repair.loads("{" + numbered + "}")
    print(f"json_repair {version('json_repair')}, {name}: array {array}; numbered {by_number}")
    assert len(array) == {"words": 6, "inches": 2}[name]
    assert len(by_number) == 3 and by_number["2"] == captions[1]
PYTHON
