#!/usr/bin/env bash
# img2dataset 1.47.0: after a line is added at the head of the list, resuming never downloads it, and
# downloads the last picture a second time.
#
# `incremental_mode="incremental"` skips the shards whose `_stats.json` exists, by their number. Which
# pictures are in them is not looked at: a list that was sorted, filtered or given rows ahead of the
# others between two runs is cut into shards anew, and those numbers are taken for done. Every shard
# says success 1.000 and the command ends well. Lists that only grow at their end are safe, if the last
# shard was full.
#
# Seen, shards of 2: a list of a b c d, then e a b c d: on disk a b c d d, e is missing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check img2dataset==1.47.0 \
  opencv-python-headless==4.14.0.94 pillow==13.0.0
export NO_ALBUMENTATIONS_UPDATE=1
cat >resume.py <<'PYTHON'
import contextlib
import http.server
import io
import threading
from importlib.metadata import version
from pathlib import Path

from img2dataset import download
from PIL import Image


class Pictures(http.server.BaseHTTPRequestHandler):
    """A picture of one grey for each letter."""

    def do_GET(self) -> None:
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), (ord(self.path[1]),) * 3).save(picture, "PNG")
        self.send_response(200)
        self.send_header("Content-Length", str(picture.tell()))
        self.end_headers()
        self.wfile.write(picture.getvalue())

    def log_message(self, *_: object) -> None: ...


def downloaded(base: str, names: str) -> str:
    """Letters of the pictures on disk once this list was worked through."""
    lines = "".join(f"{base}/{name}.png,{name}\n" for name in names)
    Path("list.csv").write_text("url,caption\n" + lines)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        download(
            url_list="list.csv",
            input_format="csv",
            url_col="url",
            caption_col="caption",
            output_folder="out",
            output_format="files",
            processes_count=1,
            thread_count=1,
            number_sample_per_shard=2,
            image_size=64,
            incremental_mode="incremental",
        )
    return " ".join(path.read_text() for path in sorted(Path("out").rglob("*.txt")))


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    first, second = downloaded(base, "abcd"), downloaded(base, "eabcd")
    print(f"img2dataset {version('img2dataset')}: list abcd -> {first}; then eabcd -> {second}")
    assert first == "a b c d"
    assert second == "a b c d d"
PYTHON
venv/bin/python resume.py 2>/dev/null
