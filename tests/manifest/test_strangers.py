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
    for batch in manifest.tables():
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


def test_one_cell_of_200_mb(tmp_path: Path) -> None:
    """A cell that packs 200 MB into a few KB is refused before it is unpacked."""
    table = pa.table({"url": pa.array(["a" * 200_000_000], pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    del table

    found = read(tmp_path / "a.parquet")

    assert "column 'url', row group 1" in str(found["error"])
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
        list(manifest.tables())


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
    assert all(field.metadata is None for field in next(manifest.tables()).schema)
    assert not (tmp_path / "canary").exists()


def test_arrows_own_extension_types_are_what_they_store(tmp_path: Path) -> None:
    """UUIDs and JSON columns, which pyarrow itself knows, are read as their storage."""
    ids = pa.array([b"0123456789abcdef"], pa.binary(16)).cast(pa.uuid())
    notes = pa.array(['{"a": 1}']).cast(pa.json_())
    table = pa.table({"url": ["a.jpg"], "id": ids, "note": notes})
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", columns=("note",))

    assert rows_of(manifest)[0].columns == {"note": '{"a": 1}'}
    assert next(manifest.tables()).to_pydict()["id"] == [b"0123456789abcdef"]


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """A million rows take no more than a hundred thousand, give or take a batch."""
    gained = []
    for rows in (100_000, 1_000_000):
        cells = pa.array([f"https://x.example/{i}.jpg" for i in range(rows)])
        pq.write_table(pa.table({"url": cells}), tmp_path / f"{rows}.parquet")
        gained.append(float(str(read(tmp_path / f"{rows}.parquet")["mb"])))
    del cells

    assert gained[1] < gained[0] + 60


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
