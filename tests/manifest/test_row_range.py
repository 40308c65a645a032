"""A range of a manifest's rows: any cut gives each row once, in order, whatever the format."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import ManifestRange, ManifestSettings

#: Rows of each file; one is empty.
FILES = (700, 0, 2_500, 1, 1_300)
ROWS = sum(FILES)


def written(folder: Path, kind: str) -> Path:
    """A manifest of several files."""
    first = 0
    for number, rows in enumerate(FILES):
        names = [f"{at}.jpg" for at in range(first, first + rows)]
        first += rows
        if kind == "parquet":
            table = pa.table(
                {"image": pa.array(names, pa.string()), "even": [f"{len(n)}" for n in names]}
            )
            pq.write_table(table, folder / f"{number}.parquet", row_group_size=500)
        elif kind == "csv":
            lines = "".join(f"{name},{len(name)}\n" for name in names)
            (folder / f"{number}.csv").write_text(f"image,even\n{lines}")
        else:
            lines = "".join(f'{{"image": "{name}", "even": "{len(name)}"}}\n' for name in names)
            (folder / f"{number}.jsonl").write_text(lines or "\n")
    return folder / f"*.{kind}"


def part(path: Path, start: int, stop: int, where: str | None = None) -> Manifest:
    return open_manifest(ManifestRange(path=str(path), where=where, start=start, stop=stop))


def images(manifest: Manifest) -> list[object]:
    return [row.image for batch in manifest.batches() for row in batch]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("where", [None, "length(image) <> 7"])
def test_ranges_are_the_manifest_cut(tmp_path: Path, kind: str, where: str | None) -> None:
    """Rows of ranges, one after the other, are the rows of the whole; tables too."""
    path = written(tmp_path, kind)
    whole = open_manifest(ManifestSettings(path=str(path), where=where))
    rng = random.Random(kind)
    for _ in range(3):
        bounds = [0, *sorted(rng.choices(range(ROWS + 1), k=6)), ROWS]
        parts = [part(path, *pair, where) for pair in pairwise(bounds)]

        assert whole.count() == ROWS
        assert [one.rows for one in parts] == [
            None if where else stop - start for start, stop in pairwise(bounds)
        ]
        assert [i for one in parts for i in images(one)] == images(whole)
        tables = [table for one in parts for table, _ in one.tables()]
        names = [name for table in tables for name in table.column("image").to_pylist()]
        assert names == images(whole)
        pieces: list[list[object]] = [[] for _ in parts]
        for number, rows in whole.pieces(bounds):
            pieces[number] += [row.image for row in rows]
        assert pieces == [images(one) for one in parts]


def test_a_range_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    """What was finished for one range says nothing about another."""
    path = written(tmp_path, "parquet")
    marks = {
        part(path, 0, 10).fingerprint(),
        part(path, 0, 11).fingerprint(),
        part(path, 1, 11).fingerprint(),
    }

    assert len(marks) == 3


def test_a_range_of_parquet_reads_its_row_groups_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other files nor other row groups are read for a range."""
    path = written(tmp_path, "parquet")
    manifest = part(path, 1_750, 1_800)
    read: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def noted(self: pq.ParquetFile, *args: object, **kwargs: object) -> object:
        if kwargs.get("row_groups") and args != (1,):
            read.append(kwargs["row_groups"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)

    assert images(manifest) == [f"{at}.jpg" for at in range(1_750, 1_800)]
    assert read == [[2]]
