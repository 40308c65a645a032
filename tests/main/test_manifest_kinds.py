"""Manifests of every kind that are written anew while a run reads them: the caption is the picture's.

Each picture is of one colour, which is its number; the service answers with the number that it sees.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import random
import re
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.captioning.inputs import this_environment
from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run
from pipeline.config.job import load_job
from tests.support.checker import published
from tests.support.command import TIMEOUT, pipeline, start, until, write_job
from tests.support.gateways import gateway, reply

COUNT = 160
#: The numbers of the pictures, in the order of the rows; of a shard or folder, those that its names
#: hold, each name having its own place in the list.
Numbers = list[int]
Put = Callable[[Path, bytes], None]


def coloured(number: int) -> bytes:
    """A picture that says its number, whatever it is encoded with."""
    colour = tuple(8 + 16 * (number >> shift & 15) for shift in (8, 4, 0))
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


def seen(data: bytes) -> int:
    """The number of a picture."""
    pixel = Image.open(io.BytesIO(data)).convert("RGB").getpixel((16, 16))
    assert isinstance(pixel, tuple)
    red, green, blue = (int(value) >> 4 for value in pixel)
    return red << 8 | green << 4 | blue


def says_what_it_sees(to: socket.socket, body: bytes) -> None:
    found = re.search(rb"base64,([A-Za-z0-9+/=]+)", body)
    assert found is not None
    time.sleep(0.02)  # the service thinks
    to.sendall(reply(f"Number {seen(base64.b64decode(found[1]))}."))


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(data)
        file.truncate()


def renamed(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(data)
    aside.replace(path)


def rows_of(numbers: Numbers) -> list[dict[str, str]]:
    return [{"path": f"p/{number:04d}.png", "note": str(number)} for number in numbers]


def parquet(numbers: Numbers) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows_of(numbers)), out, row_group_size=20)
    return out.getvalue()


def csv_gz(folder: Path, numbers: Numbers, put: Put) -> Path:
    lines = [f"{row['path']},{row['note']}\n" for row in rows_of(numbers)]
    put(folder / "m.csv.gz", gzip.compress(("path,note\n" + "".join(lines)).encode()))
    return folder / "m.csv.gz"


def jsonl(folder: Path, numbers: Numbers, put: Put) -> Path:
    put(folder / "m.jsonl", "".join(json.dumps(r) + "\n" for r in rows_of(numbers)).encode())
    return folder / "m.jsonl"


def quarters(numbers: Numbers) -> list[Numbers]:
    size = COUNT // 4
    return [numbers[at : at + size] for at in range(0, COUNT, size)]


def parquet_files(folder: Path, numbers: Numbers, put: Put) -> Path:
    for number, quarter in enumerate(quarters(numbers)):
        (folder / "m").mkdir(exist_ok=True)
        put(folder / "m" / f"{number}.parquet", parquet(quarter))
    return folder / "m"


def globbed(folder: Path, numbers: Numbers, put: Put) -> Path:
    return parquet_files(folder, numbers, put) / "*.parquet"


def partitions(folder: Path, numbers: Numbers, put: Put) -> Path:
    for number, quarter in enumerate(quarters(numbers)):
        (folder / f"m/split={number}").mkdir(exist_ok=True, parents=True)
        put(folder / f"m/split={number}/0.parquet", parquet(quarter))
    return folder / "m"


def shards(folder: Path, numbers: Numbers, put: Put, packing: str = "") -> Path:
    """Members of the same names, with other pictures."""
    (folder / "m").mkdir(exist_ok=True)
    for at, quarter in enumerate(quarters(numbers)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{packing}") as tar:  # type: ignore[call-overload]
            for place, number in enumerate(quarter):
                info = tarfile.TarInfo(f"{at * COUNT // 4 + place:04d}.png")
                info.size = len(data := coloured(number))
                tar.addfile(info, io.BytesIO(data))
        put(folder / "m" / f"{at}.tar{packing and '.' + packing}", out.getvalue())
    return folder / f"m/*.tar{packing and '.' + packing}"


def packed_shards(folder: Path, numbers: Numbers, put: Put) -> Path:
    return shards(folder, numbers, put, "gz")


def pictures(folder: Path, numbers: Numbers, put: Put) -> Path:
    (folder / "m").mkdir(exist_ok=True)
    for place, number in enumerate(numbers):
        put(folder / "m" / f"{place:04d}.png", coloured(number))
    return folder / "m"


#: Kinds in which a name keeps its place and gets another picture.
BY_PLACE = (shards, packed_shards, pictures)
KINDS = (csv_gz, jsonl, parquet_files, globbed, partitions, *BY_PLACE)
DAILY = {(shards, "in_place"), (partitions, "renamed")}


def wrong(folder: Path, numbers: Numbers, *earlier: Numbers) -> int:
    """Captions, of records and rows, that tell no number which their picture has or had."""
    records = list(published(folder / "out").values())
    assert {record["status"] for record in records} <= {"ok"}
    dataset = folder / "out/dataset.parquet"
    rows = pq.read_table(dataset).to_pylist() if dataset.exists() else []
    count = 0
    for named in (*records, *rows):
        if named["caption"] is None:
            continue
        place = re.search(r"(\d{4})\.png", str(named.get("path") or named["image"]))
        assert place is not None
        allowed = {some[int(place[1])] for some in (numbers, *earlier)}
        count += named["caption"] not in {f"Number {number}." for number in allowed}
    return count


def run_in_process(job: Path) -> dict[str, Any]:
    return asyncio.run(run(load_job(job, (), {}), RunOptions(), this_environment({})))


@pytest.mark.parametrize(
    ("kind", "put", "after"),
    [
        pytest.param(
            kind,
            put,
            after,
            id=f"{kind.__name__}-{put.__name__}-{after}",
            marks=()
            if (kind, put.__name__) in DAILY and after < COUNT // 2
            else pytest.mark.weekly,
        )
        for kind in KINDS
        for put in (in_place, renamed)
        for after in (COUNT // 4, COUNT - 6)
    ],
)
def test_every_caption_is_of_its_picture(
    tmp_path: Path, kind: Callable[[Path, Numbers, Put], Path], put: Put, after: int
) -> None:
    """65 while it is read; the runs after it go on rightly, the last one asks nothing."""
    (tmp_path / "p").mkdir()
    before = list(range(COUNT))
    other = random.Random(after).sample(before, COUNT)
    for number in before:
        (tmp_path / f"p/{number:04d}.png").write_bytes(coloured(number))
    path = kind(tmp_path, before, put)
    earlier, now = (before, other) if kind in BY_PLACE else (before, before)
    with gateway(says_what_it_sees) as service:
        inside = {} if kind in BY_PLACE else {"root": str(tmp_path)}
        job = write_job(tmp_path, service.base, path, images=inside, quota={"concurrency": 8})
        changed = start("run", job)
        until(lambda: len(service.asked) >= after)
        kind(tmp_path, other, put)
        assert changed.wait(TIMEOUT) == (0 if kind is pictures else 65)
        assert wrong(tmp_path, now, earlier) == 0
        again = run_in_process(job)
        assert again["exit_code"] == 0, again
        assert wrong(tmp_path, now) == 0
        last = run_in_process(job)
        assert (last["exit_code"], last["requests"]) == (0, 0)
        assert pipeline("verify", job).code == 0


@pytest.mark.parametrize("kind", [shards, pictures])
def test_what_was_replaced_before_a_kill_is_asked_again(
    tmp_path: Path, kind: Callable[[Path, Numbers, Put], Path]
) -> None:
    """What a record was made from is known as long as the record, though its note was lost."""
    before = list(range(COUNT))
    other = random.Random(1).sample(before, COUNT)
    path = kind(tmp_path, before, in_place)
    with gateway(says_what_it_sees) as service:
        job = write_job(tmp_path, service.base, path, quota={"concurrency": 8})
        killed = start("run", job)
        until(lambda: len(service.asked) >= COUNT // 2)
        kind(tmp_path, other, in_place)
        killed.kill()
        killed.wait(TIMEOUT)
        again = run_in_process(job)
        assert again["exit_code"] == 0, again
        assert wrong(tmp_path, other) == 0
        last = run_in_process(job)
        assert (last["exit_code"], last["requests"]) == (0, 0)
