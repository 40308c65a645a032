"""Manifests from strangers: bombs are refused by name in little memory, no type's code runs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest.readers.thrift import groups, pages
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


def _varint(value: int, size: int) -> bytes:
    """A Thrift integer, drawn out to `size` bytes."""
    zigzag = value << 1
    return bytes(((zigzag >> 7 * i) & 0x7F) | (0x80 if i < size - 1 else 0) for i in range(size))


def _claim_less(path: Path, size: int) -> None:
    """Make the footer say that a chunk of `size` bytes has 1,000."""
    content = path.read_bytes()
    head, footer = content[:-2_000], content[-2_000:]
    assert footer.count(_varint(size, 5)) >= 1
    path.write_bytes(head + footer.replace(_varint(size, 5), _varint(1_000, 5)))


@pytest.mark.parametrize("lying", [False, True])
def test_one_cell_of_200_mb(lying: bool, tmp_path: Path) -> None:
    """A cell that packs 200 MB into a few KB is refused before it is unpacked, whatever the footer says."""
    table = pa.table({"url": pa.array(["a" * 200_000_000], pa.large_string())})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    del table
    if lying:
        _claim_less(path, pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size)
        assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1_000

    found = read(path)

    assert "column 'url'" in str(found["error"])
    assert "200,0" in str(found["error"])
    assert float(str(found["mb"])) < 100


def test_a_bomb_in_a_column_that_is_not_needed_does_no_harm(tmp_path: Path) -> None:
    """Only needed columns are read; the bomb is met (and named) when the dataset wants it."""
    table = pa.table({"url": ["a.jpg"], "junk": pa.array(["a" * 300_000_000], pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    del table

    manifest = opened(tmp_path / "a.parquet", image="url")

    assert len(rows_of(manifest)) == 1
    with pytest.raises(ManifestError, match="'junk'"):
        [t for t, _ in manifest.tables()]


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
def test_page_headers_add_up(version: str, compression: str, tmp_path: Path) -> None:
    """The header walk finds every page of honest files, to the byte."""
    cells = [f"https://x.example/{i % 5_000}.jpg" for i in range(50_000)]
    table = pa.table(
        {"url": cells, "t": pa.array([["a", None]] * 50_000), "b": [b"x" * 9] * 50_000}
    )
    pq.write_table(
        table, tmp_path / "a.parquet", compression=compression, data_page_size=4_096,
        data_page_version=version, write_page_checksum=True, row_group_size=20_000,
    )  # fmt: skip
    meta = pq.read_metadata(tmp_path / "a.parquet")

    content = (tmp_path / "a.parquet").read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    with (tmp_path / "a.parquet").open("rb") as raw:
        for number, group in enumerate(groups(content[-8 - size : -8])):
            assert group.rows == meta.row_group(number).num_rows
            for i, chunk in enumerate(group.chunks):
                told = meta.row_group(number).column(i)
                assert (chunk.path, chunk.values) == (told.path_in_schema, told.num_values)
                assert (chunk.stored, chunk.unpacked) == (
                    told.total_compressed_size, told.total_uncompressed_size,
                )  # fmt: skip
                found = list(pages(raw, chunk))
                headers = chunk.unpacked - sum(page.unpacked for page in found)
                assert headers == chunk.stored - sum(page.stored for page in found) > 0
                assert [page.dictionary for page in found] == [True] + [False] * (len(found) - 1)
                assert len(found) >= 2

    rows = rows_of(opened(tmp_path / "a.parquet"))
    assert [row.image for row in rows] == cells


def test_other_writers_pages_are_read(tmp_path: Path) -> None:
    """Polars' and DuckDB's files pass the header walk."""
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

    assert "line 1 is longer than 1 MiB" in str(found["error"])
    assert float(str(found["mb"])) < 50
