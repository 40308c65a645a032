"""Manifests from strangers: memory is bounded by the batch, no type's code runs."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.manifest.made import opened, rows_of

#: Reads a manifest whole in a process of its own; prints rows or error, and MB gained in reading.
READ = """
import json, resource, sys
import pyarrow.parquet, pyarrow.compute, pyarrow.csv
from pipeline.errors import PipelineError
from pipeline.manifest.open import open_manifest
from pipeline.manifest.settings import ManifestSettings
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
rows = bad = 0
error = None
try:
    manifest = open_manifest(ManifestSettings(path=sys.argv[1]), columns=sys.argv[2:])
    for batch in manifest.batches():
        rows += len(batch)
        bad += sum(row.bad is not None for row in batch)
    for batch in (t for t, _ in manifest.tables()):
        pass
except PipelineError as e:
    error = str(e)
print(json.dumps({"rows": rows, "bad": bad, "error": error, "mb": peak() - before}))
"""


def read(path: Path, *columns: str) -> dict[str, object]:
    """What reading a manifest gives and costs."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), *columns], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_dictionary_that_stands_for_gigabytes(tmp_path: Path) -> None:
    """One text of 500 KB named by 2,000 rows, 1 GB when spelled out: bad rows, bounded memory."""
    values = pa.array(["https://x.example/" + "a" * 500_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), values)
    pq.write_table(pa.table({"url": column}), tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 600_000

    found = read(tmp_path / "a.parquet")

    assert (found["rows"], found["bad"], found["error"]) == (2_000, 2_000, None)
    assert float(str(found["mb"])) < 300


@pytest.mark.parametrize("inside", [False, True], ids=["bytes", "{bytes, path}"])
def test_one_picture_in_many_rows(inside: bool, tmp_path: Path) -> None:
    """500 KB that 5,000 rows share, 2.5 GB when spelled out: a few rows at a time."""
    values = pa.array([b"\x89PNG" + bytes(500_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), values)
    if inside:
        paths = pa.array([f"{i}.png" for i in range(5_000)])
        column = pa.StructArray.from_arrays([column, paths], names=["bytes", "path"])
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 900_000

    found = read(tmp_path / "a.parquet")

    assert (found["rows"], found["bad"], found["error"]) == (5_000, 0, None)
    assert float(str(found["mb"])) < 300


@pytest.mark.parametrize("inside", [False, True], ids=["bytes", "{bytes, path}"])
def test_pictures_that_pandas_put_into_one_page(inside: bool, tmp_path: Path) -> None:
    """pandas' writer looks at the size of a page once in 1,024 rows: 280 MB are read as they are."""
    body = random.Random(0).randbytes(700_000)
    pictures = [b"\x89PNG" + i.to_bytes(4, "little") + body for i in range(400)]
    cells = (
        [{"bytes": p, "path": f"{i}.png"} for i, p in enumerate(pictures)] if inside else pictures
    )
    pd.DataFrame({"image": cells, "n": range(400)}).to_parquet(tmp_path / "a.parquet")
    del cells

    manifest = opened(tmp_path / "a.parquet")

    wanted = iter(pictures)
    for batch in manifest.batches():
        for row in batch:
            image = row.image["bytes"] if isinstance(row.image, dict) else row.image
            assert image == next(wanted)
    assert next(wanted, None) is None


def test_a_cell_of_200_mb_is_a_bad_row(tmp_path: Path) -> None:
    """It costs its own size and stops nothing; where it is not needed it is not read."""
    table = pa.table({"url": ["a.jpg", "b.jpg"], "junk": ["a" * 200_000_000, "b"]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    del table

    assert [row.bad for row in rows_of(opened(tmp_path / "a.parquet"))] == [None, None]
    bad = [row.bad for row in rows_of(opened(tmp_path / "a.parquet", columns=("junk",)))]
    assert "longer than 1 MiB" in str(bad[0])
    assert bad[1] is None


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.path, "boo"))


def test_extension_types_run_no_code(tmp_path: Path) -> None:
    """A pickled payload in a column's metadata stays data, and does not travel to the dataset."""
    payload = pickle.dumps(Canary(tmp_path / "canary"))
    names = ("ray.data.arrow_tensor", "arrow.py_extension_type")
    fields = [
        pa.field(
            f"c{i}",
            pa.string(),
            metadata={b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": payload},
        )
        for i, name in enumerate(names)
    ]
    schema = pa.schema([pa.field("url", pa.string()), *fields])
    table = pa.Table.from_arrays([pa.array(["a.jpg"])] * 3, schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", columns=("c0",))

    assert rows_of(manifest)[0].columns == {"c0": "a.jpg"}
    assert [field.metadata for field in manifest.arrow()] == [None] * 3
    assert all(field.metadata is None for field in next((t for t, _ in manifest.tables())).schema)
    assert not (tmp_path / "canary").exists()


def test_arrows_own_extension_types_stay(tmp_path: Path) -> None:
    """UUIDs and JSON columns, which pyarrow itself knows, keep their type; a prompt reads text."""
    ids = pa.array([b"0123456789abcdef"], pa.binary(16)).cast(pa.uuid())
    notes = pa.array(['{"a": 1}']).cast(pa.json_())
    table = pa.table({"url": ["a.jpg"], "id": ids, "note": notes})
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", columns=("note", "id"))

    text = "30313233-3435-3637-3839-616263646566"
    assert rows_of(manifest)[0].columns == {"note": '{"a": 1}', "id": text}
    assert pa.Table.from_batches(t for t, _ in manifest.tables()) == table


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """A million rows take no more than a hundred thousand, give or take a batch."""
    gained = []
    for rows in (100_000, 1_000_000):
        cells = pa.array([f"https://x.example/{i}.jpg" for i in range(rows)])
        pq.write_table(pa.table({"url": cells}), tmp_path / f"{rows}.parquet")
        gained.append(float(str(read(tmp_path / f"{rows}.parquet")["mb"])))
    del cells

    assert gained[1] < gained[0] + 60


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_pages_of_every_kind_are_read(version: str, compression: str, tmp_path: Path) -> None:
    """Small pages, dictionaries that were given up, several row groups: every row, in order."""
    cells = [f"https://x.example/{i % 5_000}.jpg" for i in range(50_000)]
    table = pa.table(
        {"url": cells, "t": pa.array([["a", None]] * 50_000), "b": [b"x" * 9] * 50_000}
    )
    pq.write_table(
        table, tmp_path / "a.parquet", compression=compression, data_page_size=4_096,
        data_page_version=version, write_page_checksum=True, row_group_size=20_000,
    )  # fmt: skip

    assert [row.image for row in rows_of(opened(tmp_path / "a.parquet"))] == cells


def test_other_writers_files_are_read(tmp_path: Path) -> None:
    """Polars' and DuckDB's files."""
    import duckdb
    import polars as pl

    cells = [f"https://x.example/{i}.jpg" for i in range(30_000)]
    frame = pl.DataFrame({"url": cells})
    frame.write_parquet(tmp_path / "p.parquet")
    duckdb.sql("SELECT * FROM frame").write_parquet(str(tmp_path / "d.parquet"))

    for name in ("p.parquet", "d.parquet"):
        assert [row.image for row in rows_of(opened(tmp_path / name))] == cells


def test_image_bytes_are_read_in_small_batches(tmp_path: Path) -> None:
    """1,000 images of 400 KB, one row group of 400 MB: a few at a time."""
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("image", pa.binary())])) as writer:
        cells = [b"\x89PNG" + bytes([i % 251]) * 400_000 for i in range(1_000)]
        writer.write_table(pa.table({"image": cells}))
    del cells

    found = read(tmp_path / "a.parquet")

    assert found["rows"] == 1_000
    assert float(str(found["mb"])) < 200


def test_a_gzip_bomb_is_a_line_without_end(tmp_path: Path) -> None:
    """1 GB of one letter in 1 MB: refused by its line, in little memory."""
    import gzip

    with gzip.open(tmp_path / "a.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(b"a" * 5_000_000)

    found = read(tmp_path / "a.txt.gz")

    assert "line 1 is longer than 32 MiB" in str(found["error"])
    assert float(str(found["mb"])) < 150
