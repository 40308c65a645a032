#!/usr/bin/env bash
# webdataset 1.0.2: ShardWriter(maxsize=1 MB) writes shards of 51 MB when the samples are small.
#
# `maxsize` is compared with the bytes of the members, not with those of the file. A member takes
# 2,048 bytes beside them: its header of 512, a PAX header of 1,024 for its time in fractions of a
# second, and what fills it up to the next 512. A caption of 40 bytes counts as 40, so shards of
# captions are 51 times as large as asked for; only `maxcount` bounds them. With pictures of 100 kB
# the same setting is off by 2 %.
#
# Seen, maxsize 1,000,000: 60,000 captions of 40 bytes, first shard 51,210,240 bytes; pictures of
# 100 kB, 1,024,000 bytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check webdataset==1.0.2 numpy
venv/bin/python - <<'PYTHON'
import io
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from webdataset import ShardWriter


def first_shard(folder: str, samples: int, **sample: bytes) -> int:
    """Size of the first of the shards in bytes, as `ls` shows it."""
    Path(folder).mkdir()
    with (
        redirect_stdout(io.StringIO()),
        ShardWriter(f"{folder}/%04d.tar", maxsize=1_000_000, maxcount=10**9) as writer,
    ):
        for number in range(samples):
            writer.write({"__key__": f"{number:06d}", **sample})
    return Path(folder, "0000.tar").stat().st_size


captions = first_shard("captions", 60_000, txt=b"x" * 40)
pictures = first_shard("pictures", 30, jpg=b"x" * 100_000)
print(f"webdataset {version('webdataset')}, maxsize 1,000,000: captions {captions:,}, pictures {pictures:,}")
assert 51_000_000 < captions < 51_300_000
assert 1_010_000 < pictures < 1_030_000
PYTHON
