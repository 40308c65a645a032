#!/usr/bin/env bash
# datasets 5.2.0 with Pillow 13.0.0: a picture that was changed in place is stored as it was before.
#
# What `Image.thumbnail()` shrinks and `ImageDraw` paints over still bears the name of the file it
# was opened from. The Image feature takes a picture with a file name for that file and stores its
# path, later the file's bytes: what was done to the pixels is gone, in `from_dict`,
# `from_generator` and `map` alike, and in the Parquet files made of it. `resize()` and `copy()`
# return a picture without a name, which is stored as it is.
#
# Seen: a thumbnail of 64 x 48 is stored with 640 x 480 pixels; a face that was painted black is
# stored unpainted; a resized picture and a painted copy are stored as they are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1
export HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

from datasets import Dataset
from PIL import Image, ImageDraw

Image.new("RGB", (640, 480), "white").save("photo.jpg")


def shrunk() -> Image.Image:
    picture = Image.open("photo.jpg")
    picture.thumbnail((64, 64))
    return picture


def painted(picture: Image.Image) -> Image.Image:
    ImageDraw.Draw(picture).rectangle((0, 0, 640, 480), fill="black")
    return picture


def stored(dataset: Dataset) -> tuple[tuple[int, int], str]:
    """Size and colour of the first picture, as the Parquet file made of the data set has it."""
    dataset.to_parquet("stored.parquet")
    picture = Dataset.from_parquet("stored.parquet")[0]["image"]
    return picture.size, "black" if picture.getpixel((10, 10))[0] < 128 else "white"


photo = Dataset.from_dict({"file": ["photo.jpg"]})
seen = {
    "thumbnail": shrunk().size,
    "thumbnail, from_dict": stored(Dataset.from_dict({"image": [shrunk()]})),
    "thumbnail, from_generator": stored(Dataset.from_generator(lambda: iter([{"image": shrunk()}]))),
    "thumbnail, map": stored(photo.map(lambda row: {"image": shrunk()})),
    "painted": stored(Dataset.from_dict({"image": [painted(Image.open("photo.jpg"))]})),
    "resized": stored(Dataset.from_dict({"image": [Image.open("photo.jpg").resize((64, 48))]})),
    "painted copy": stored(Dataset.from_dict({"image": [painted(Image.open("photo.jpg").copy())]})),
}
print(f"datasets {version('datasets')}, Pillow {version('pillow')}")
for name, what in seen.items():
    print(f"  {name}: {what}")
assert list(seen.values()) == [
    (64, 48),
    *[((640, 480), "white")] * 4,
    ((64, 48), "white"),
    ((640, 480), "black"),
]
PYTHON
