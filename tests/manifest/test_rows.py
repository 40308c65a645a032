"""Bad rows are values; the image column is found by a rule; predicates keep rows in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from tests.manifest.made import opened, rows_of

GOOD = "https://x.example/a.jpg"
LONG = "https://x.example/" + "a" * 8_192
DATA = "data:image/png;base64," + "A" * 20_000

#: Image cell -> what is wrong with it, or None.
CELLS: list[tuple[str | None, str | None]] = [
    (GOOD, None),
    (None, "no image"),
    ("", "no image"),
    (" \t", "no image"),
    (LONG, "longer than 8,192 characters"),
    ("https://x.example/" + "ä" * 8_170, None),
    (DATA, None),
    ("DATA:image/png;base64," + "A" * 28_000_000, "more than 20 MB"),
    ("some/path.jpg", None),
]


def test_bad_rows_are_told_and_stay_in_place(tmp_path: Path) -> None:
    """A cell without image, or one that is too long, marks its row and no other."""
    table = pa.table({"image_url": [cell for cell, _ in CELLS]})
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet")
    rows = rows_of(manifest)

    for row, (cell, trouble) in zip(rows, CELLS, strict=True):
        assert row.image == cell
        assert (row.bad is None) == (trouble is None)
        assert trouble is None or (trouble in str(row.bad) and "'image_url'" in str(row.bad))


def test_blank_is_what_unicode_calls_blank(tmp_path: Path) -> None:
    """Every character in a cell of its own, and blank ones before an address: those that are
    blank by themselves are no image, whichever cell of the column they stand in."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for number, cells in enumerate((every, [" " + GOOD, "\u2003\xa0", "\x00"])):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": cells}), path)

        rows = rows_of(opened(path, image="image"))

        wrong = [row.image for row in rows if row.bad is not None]
        assert wrong == [cell for cell in cells if cell.isspace()]


def test_long_ids_and_long_prompt_cells_are_bad(tmp_path: Path) -> None:
    """An id over 512 bytes and a prompt cell over 1 MiB settle their rows as bad."""
    table = pa.table(
        {
            "url": [GOOD] * 4,
            "id": ["a" * 512, "ä" * 257, None, "d"],
            "title": ["t", "t", "t", "t" * (2**20 + 1)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")

    rows = rows_of(opened(tmp_path / "a.parquet", columns=("title",), id="id"))

    assert [row.bad is None for row in rows] == [True, False, True, False]
    assert rows[2].id is None
    assert "512 bytes" in str(rows[1].bad)
    assert "'title'" in str(rows[3].bad)


def test_ids_of_any_type_are_text(tmp_path: Path) -> None:
    """An integer id is copied as its digits."""
    pq.write_table(pa.table({"url": [GOOD], "id": [7]}), tmp_path / "a.parquet")

    assert rows_of(opened(tmp_path / "a.parquet", id="id"))[0].id == "7"


PAGE = "https://x.example/page"
PNG = b"\x89PNG\r\n\x1a\n"
URI = "data:image/png;base64,iVBORw0KGgo="
#: What the rule is shown -> columns with their first cells, and the column that it takes.
CHOICES: dict[str, tuple[dict[str, list[object]], str]] = {
    "name first": ({"a": ["x.jpg"], "image_url": [GOOD], "title": ["t"]}, "image_url"),
    "case and spaces": ({"title": ["t"], "Image URL": [GOOD]}, "Image URL"),
    "order of names": ({"path": ["a.jpg"], "url": [GOOD]}, "url"),
    "bytes under image": ({"image": [PNG], "label": [1]}, "image"),
    "name with wrong type": ({"image": [3], "photo": ["a.jpg"]}, "photo"),
    "name with wrong cells": ({"link": ["Buy now"], "shot": ["a.jpg"]}, "shot"),
    "empty cells do not count": ({"url": [None, None, GOOD], "x": ["a.png", None, None]}, "url"),
    "URL without ending by name": ({"url": [PAGE], "t": ["x"]}, "url"),
    "value alone": ({"title": ["t"], "where_it_is": ["a/b.webp?x=1"]}, "where_it_is"),
    "pages are no images": ({"page": [PAGE], "shot": ["a.jpg"]}, "shot"),
    "bytes by value": ({"title": ["t"], "blob": [PNG]}, "blob"),
    "bytes before a link": ({"url": [PAGE], "image": [PNG]}, "image"),
    "bytes before a picture's URL": ({"image_url": [GOOD], "jpg": [PNG]}, "jpg"),
    "bytes of any name before a link": ({"link": [PAGE], "pixels": [PNG]}, "pixels"),
    "bytes and path": ({"url": [PAGE], "img": [{"bytes": PNG, "path": "a.png"}]}, "img"),
    "a data URI before a link": ({"url": [PAGE], "picture": [URI]}, "picture"),
    "no bytes after all": ({"url": [GOOD], "image": [b"", None]}, "url"),
    "a thumbnail is another picture": ({"url": [GOOD], "thumbnail": [PNG]}, "url"),
    "a mask is none": ({"image_url": [GOOD], "depth_mask": [PNG], "x": [1]}, "image_url"),
    "page and picture": ({"photo_url": [PAGE], "photo_image_url": [PAGE]}, "photo_image_url"),
    "page and named picture": ({"url": [PAGE], "product_img": [PAGE]}, "product_img"),
    "page and URL with an ending": ({"link": [PAGE], "large": [GOOD]}, "large"),
    "a licence is no picture": ({"url": [PAGE], "license_icon": [GOOD]}, "url"),
    "two others say nothing": ({"url": [PAGE], "image1": [PAGE], "image2": [PAGE]}, "url"),
    "a local name is no better": ({"url": [PAGE], "photo": ["a.jpg"]}, "url"),
    "name alone": ({"title": ["t"], "path": ["0001"]}, "path"),
}


@pytest.mark.parametrize("what", CHOICES)
def test_the_image_column_is_found_by_rule(what: str, tmp_path: Path) -> None:
    """By name and value, by value alone, by name alone."""
    columns, expected = CHOICES[what]
    size = max(len(cells) for cells in columns.values())
    filled = {name: [*cells, *[None] * (size - len(cells))] for name, cells in columns.items()}
    pq.write_table(pa.table(filled), tmp_path / "a.parquet")

    assert opened(tmp_path / "a.parquet").image == expected


def test_two_equal_columns_are_not_guessed(tmp_path: Path) -> None:
    """Captioning the wrong pictures would cost a night: the job must say which."""
    pq.write_table(pa.table({"left": ["a.jpg"], "right": ["b.jpg"]}), tmp_path / "a.parquet")

    with pytest.raises(ManifestError, match=r"set manifest\.image"):
        opened(tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet", image="right").image == "right"


TWINS = ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "predicate", ["Caption = 'x'", "length(caption) > 1", "rows.CAPTION <> ''"]
)
def test_where_reads_no_column_that_it_cannot_tell_from_another(
    predicate: str, tmp_path: Path
) -> None:
    """SQL sees no capitals: of `Caption` and `caption` it would read the first."""
    table = pa.table({"url": TWINS, "Caption": ["x", "y"], "caption": ["", "x"]})
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(ManifestError, match=r"'Caption' and 'caption'.*rename") as caught:
        opened(tmp_path / "a.parquet", where=predicate)
    assert caught.value.exit_code == 65


def test_where_beside_columns_that_differ_in_capitals(tmp_path: Path) -> None:
    """A predicate on other columns is read, also where their names or its texts hold such a name."""
    table = pa.table({"url": TWINS, "W": [1, 2], "w": [3, 4], "width": [5, 6], "t": ["w", "W"]})
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", where="width > 5 AND t = 'W'", columns=("w",))

    assert [row.columns for row in rows_of(manifest)] == [{"w": 4}]


def test_where_reads_types_that_duckdb_lacks(tmp_path: Path) -> None:
    """Half floats as floats, decimals of more than 38 digits as text."""
    table = pa.table(
        {
            "url": TWINS,
            "half": pa.array([1.5, 2.5], pa.float16()),
            "wide": pa.array([Decimal("1.50"), Decimal(10) ** 40], pa.decimal256(60, 2)),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", where="half < 2 AND wide = '1.50'")

    assert [row.image for row in rows_of(manifest)] == ["a.jpg"]


@pytest.fixture
def auckland(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's zone, until the end of the test."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("auckland")
def test_where_reads_times_alike_on_every_machine(tmp_path: Path) -> None:
    """The day of an instant is the day in UTC, whatever this machine's zone is."""
    at = pa.array([0, 80_000], pa.timestamp("s", "UTC"))
    pq.write_table(pa.table({"url": TWINS, "taken": at}), tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", where="CAST(taken AS DATE) = DATE '1970-01-01'")

    assert len(rows_of(manifest)) == 2


def test_where_keeps_rows_in_order_and_counts_only_them(tmp_path: Path) -> None:
    """Rows and tables both speak of the kept rows; null is not true."""
    width = [i if i % 7 else None for i in range(70_000)]
    table = pa.table({"url": [f"{i}.jpg" for i in range(70_000)], "Width": width})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=9_999)
    manifest = opened(tmp_path / "a.parquet", where="width % 2 = 0 AND url <> '4.jpg'")

    rows = rows_of(manifest)

    kept = [i for i in range(70_000) if i % 7 and i % 2 == 0 and i != 4]
    assert manifest.rows is None
    assert [row.image for row in rows] == [f"{i}.jpg" for i in kept]
    read = pa.Table.from_batches(t for t, _ in manifest.tables())
    assert read.column("url").to_pylist() == [row.image for row in rows]
    assert read.column_names == ["url", "Width"]


def test_where_on_image_bytes(tmp_path: Path) -> None:
    """A predicate may look at the bytes, even where tables leave them out."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": b"x" * i, "path": f"{i}.jpg"} for i in range(5)]
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet", where="octet_length(image.bytes) > 2")

    assert len(rows_of(manifest)) == 2
    assert next((t for t, _ in manifest.tables())).column("image").to_pylist() == ["3.jpg", "4.jpg"]
