"""Pages of what is written: a reader takes each whole."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.export.parquet_file import PAGE_BYTES, PagedWriter

LONG = PAGE_BYTES + 2
KINDS = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "list": pa.list_(pa.string()),
    "struct": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
}


def cell(kind: str, size: int, rng: random.Random) -> object:
    """A cell that does not compress."""
    text = rng.randbytes(size // 2).hex()
    return {"text": text, "bytes": text.encode(), "list": ["a", text], "struct": {"bytes": text.encode(), "path": "p"}}[kind]  # fmt: skip


def largest_page(path: Path, column: str) -> int:
    """Bytes of the largest page, each being a frame of zstd by itself."""
    file, sizes = pq.ParquetFile(path).metadata, [0]
    data = path.read_bytes()
    for number in range(file.num_row_groups):
        for at in range(file.num_columns):
            chunk = file.row_group(number).column(at)
            if not chunk.path_in_schema.startswith(column):
                continue
            start = min(chunk.data_page_offset, chunk.dictionary_page_offset or 1 << 60)
            pages = data[start : start + chunk.total_compressed_size].split(b"\x28\xb5\x2f\xfd")
            sizes += [len(page) for page in pages]
    return max(sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [8, LONG])
def test_a_long_cell_has_a_page_of_its_own(kind: str, first: int, tmp_path: Path) -> None:
    """Whether such cells are among the first rows or come later, also in a column that has a
    dictionary; rows come back as they were."""
    rng = random.Random(1)
    sizes = [[first] * 3 + [8] * 30, [8] * 20 + [LONG] * 3 + [8] * 50 + [LONG], [8] * 5]
    schema = pa.schema([("n", pa.int64()), (kind, KINDS[kind])])
    groups = [
        pa.table({"n": list(range(len(each))), kind: [cell(kind, size, rng) for size in each]}, schema=schema)
        for each in sizes
    ]  # fmt: skip
    path = tmp_path / "x.parquet"

    with PagedWriter(path, schema, groups[0]) as writer:
        for group in groups:
            writer.write_table(group)

    assert pq.read_table(path) == pa.concat_tables(groups)
    # In hex digits, of which zstd leaves half.
    assert largest_page(path, kind) < 1.2 * LONG / 2 + 4_000
    assert pq.read_metadata(path).num_row_groups < 20


@pytest.mark.parametrize(("first", "later"), [(8, 60_000), (3_000, 3_000)])
def test_no_page_is_far_above_its_size(first: int, later: int, tmp_path: Path) -> None:
    """The writer looks at a page's size from time to time: often enough, also where longer cells come later."""
    rng = random.Random(2)
    groups = [pa.table({"text": [cell("text", size, rng) for _ in range(300)]}) for size in (first, later)]  # fmt: skip
    path = tmp_path / "x.parquet"

    with PagedWriter(path, groups[0].schema, groups[0]) as writer:
        for group in groups:
            writer.write_table(group)

    # In hex digits, of which zstd leaves half.
    assert PAGE_BYTES < 2 * largest_page(path, "text") < 2.2 * PAGE_BYTES + 128 * (later - 3_000)
    assert pq.read_table(path) == pa.concat_tables(groups)


def test_values_that_repeat_have_a_dictionary(tmp_path: Path) -> None:
    count = 1_000
    columns = {
        "number": list(range(count)),
        "url": [f"https://images.example/{at}.jpg" for at in range(count)],
        "few": [f"status {at % 5}" for at in range(count)],
        "none": pa.nulls(count, pa.string()),
        "lists": [["a", "b"]] * count,
        "uuid": pa.array([at.to_bytes(16) for at in range(count)], pa.uuid()),
    }
    table = pa.table(columns)
    path = tmp_path / "x.parquet"

    with PagedWriter(path, table.schema, table) as writer:
        writer.write_table(table)

    group = pq.read_metadata(path).row_group(0)
    chunks = {group.column(at).path_in_schema.split(".")[0]: group.column(at) for at in range(len(columns))}  # fmt: skip
    assert [name for name, chunk in chunks.items() if chunk.has_dictionary_page] == ["few", "none"]  # fmt: skip
    assert pq.read_table(path) == table
