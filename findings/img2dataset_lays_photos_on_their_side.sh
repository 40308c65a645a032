#!/usr/bin/env bash
# img2dataset 1.47.0 with OpenCV 4.14.0.94: a photograph taken upright comes out lying on its side.
#
# Phones store the sensor's pixels and say in EXIF how to turn them. img2dataset decodes with
# `IMREAD_UNCHANGED`, which leaves them as they lie, and what it encodes again bears no EXIF: the
# file cannot be turned by a viewer any more. Only the table beside the pictures knows it still
# (`exif`, "Image Orientation"). `original_width` and `original_height` are those of the lying one.
# With `resize_mode="no"` and `skip_reencode=True` the file stays as it was, and stands upright.
#
# Seen, of a picture of 480 x 640 as every viewer shows it (stored 640 x 480, orientation 6):
# resized 341 x 256 without EXIF; kept as it was: shown 480 x 640.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check img2dataset==1.47.0 \
  opencv-python-headless==4.14.0.94 pillow==13.0.0
export NO_ALBUMENTATIONS_UPDATE=1
cat >photo.py <<'PYTHON'
import functools
import http.server
import json
import threading
from importlib.metadata import version
from pathlib import Path

import pandas
from img2dataset import download
from PIL import Image, ImageOps


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def run(name: str, **settings: object) -> tuple[tuple[int, int], bool, str]:
    """Size as a viewer shows it, whether EXIF is left, and the orientation that the table tells."""
    download(url_list="urls.txt", output_folder=name, output_format="files", image_size=256,
             processes_count=1, thread_count=1, **settings)
    (file,) = Path(name).glob("*/*.jpg")
    picture = Image.open(file)
    (table,) = Path(name).glob("*.parquet")
    exif = json.loads(pandas.read_parquet(table)["exif"][0])
    return ImageOps.exif_transpose(picture).size, bool(picture.getexif()), exif["Image Orientation"]


if __name__ == "__main__":
    Path("web").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (640, 480), "red").save("web/photo.jpg", exif=exif)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory="web"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Path("urls.txt").write_text(f"http://127.0.0.1:{server.server_port}/photo.jpg\n")
    resized = run("resized", resize_mode="keep_ratio")
    kept = run("kept", resize_mode="no", skip_reencode=True)
    print(f"img2dataset {version('img2dataset')}: resized {resized}, kept {kept}")
    assert resized == ((341, 256), False, "Rotated 90 CW"), resized
    assert kept == ((480, 640), True, "Rotated 90 CW"), kept
PYTHON
venv/bin/python photo.py 2>log || { tail -20 log; exit 1; }
