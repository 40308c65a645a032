"""Every export opened by readers that nobody here wrote; nothing half-written, nothing that runs."""

from __future__ import annotations

import base64
import csv
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline.errors import Exit, OutputError, UsageError
from pipeline.export.base import Rows
from pipeline.export.export import EXPORTS, export, format_of
from pipeline.export.names import Refused, relative_path
from pipeline.export.options import ExportOptions
from pipeline.export.pictures import Pictures, ending

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WHEN = datetime(2026, 11, 23, 10, 0, 0, 5, UTC)
ROWS: list[dict[str, Any]] = [
    {
        "id": 7, "url": "p/cat.png", "title": 'a, "b"\nc', "tags": ["x", "y"], "raw": b"\0\xff",
        "caption": "A cat; 猫, 'quoted' \"twice\"\nand a second line.", "key": "0" * 32,
        "cost_usd": 0.5, "finished_at": WHEN,
    },
    {
        "id": -8, "url": "p/dog.png", "title": None, "tags": [], "raw": None,
        "caption": None, "key": "1" * 32, "cost_usd": None, "finished_at": None,
    },
    {
        "id": 9, "url": "q/cat.png", "title": "", "tags": None, "raw": b"",
        "caption": "Another cat.", "key": "2" * 32, "cost_usd": 0.0, "finished_at": WHEN,
    },
]  # fmt: skip
SCHEMA = pa.schema(
    [
        ("id", pa.int64()), ("url", pa.string()), ("title", pa.string()),
        ("tags", pa.list_(pa.string())), ("raw", pa.binary()), ("caption", pa.string()),
        ("key", pa.string()), ("cost_usd", pa.float64()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)  # fmt: skip


def batches(rows: list[dict[str, Any]] = ROWS) -> Iterator[pa.RecordBatch]:
    """One row a batch."""
    for row in rows:
        yield pa.RecordBatch.from_pylist([row], schema=SCHEMA)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Picture files beside the test."""
    for name in ("p/cat.png", "p/dog.png", "q/cat.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    return Pictures(column="url", root=tmp_path)


def written(dest: Path, pictures: Pictures, format: str | None = None, **how: Any) -> int:  # noqa: A002 - as in the product
    """Export ROWS to `dest`; how many rows it holds."""
    return export_of(batches(), SCHEMA, dest, format_of(dest, format), pictures, **how)


def export_of(
    rows: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    dest: Path,
    format: str,  # noqa: A002 - as in the product
    pictures: Pictures,
    **how: Any,
) -> int:
    """Export these rows."""
    options = ExportOptions(**how)
    held = Rows(schema=schema, batches=rows, pictures=pictures, options=options)
    return export(held, dest, format).rows


def test_parquet_is_the_rows_themselves(tmp_path: Path, pictures: Pictures) -> None:
    """pandas, polars, DuckDB and datasets read every value and type back."""
    dest = tmp_path / "out.parquet"

    assert written(dest, pictures) == 3
    assert pl.read_parquet(dest).to_dicts() == ROWS
    assert duckdb.sql(f"SELECT caption FROM '{dest}'").fetchall() == [
        (row["caption"],) for row in ROWS
    ]
    assert pd.read_parquet(dest)["id"].tolist() == [7, -8, 9]
    loaded = datasets.load_dataset(
        "parquet", data_files=str(dest), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["caption"][:] == [row["caption"] for row in ROWS]


def test_jsonl_has_one_object_a_row(tmp_path: Path, pictures: Pictures) -> None:
    """Lists stay lists, bytes are hex, times ISO 8601, null is null."""
    dest = tmp_path / "out.jsonl"

    assert written(dest, pictures) == 3
    rows = [json.loads(line) for line in dest.read_text().splitlines()]
    assert [row["caption"] for row in rows] == [row["caption"] for row in ROWS]
    assert rows[0]["tags"] == ["x", "y"]
    assert bytes.fromhex(rows[0]["raw"]) == b"\0\xff"
    assert datetime.fromisoformat(rows[0]["finished_at"]) == WHEN
    assert len(pl.read_ndjson(dest)) == len(pd.read_json(dest, lines=True)) == 3


def test_csv_is_read_alike_by_all(tmp_path: Path, pictures: Pictures) -> None:
    """Python, pandas, polars and DuckDB find the same captions in it, line breaks and all."""
    dest = tmp_path / "out.csv"
    captions = [row["caption"] for row in ROWS]

    assert written(dest, pictures) == 3
    with dest.open(newline="") as file:
        assert [row["caption"] or None for row in csv.DictReader(file)] == captions
    frame = pd.read_csv(dest)
    assert [None if pd.isna(text) else text for text in frame["caption"]] == captions
    assert pl.read_csv(dest)["caption"].to_list() == captions
    found = duckdb.sql(f"SELECT caption FROM read_csv('{dest}', all_varchar=true)").fetchall()
    assert [caption for (caption,) in found] == captions
    assert json.loads(frame["tags"][0]) == ["x", "y"]
    assert pd.Timestamp(frame["finished_at"][0]) == pd.Timestamp(WHEN)


#: Cell -> what CSV holds.
FORMULAS = {
    "=1+1": "'=1+1", "\t=1": "'\t=1", " =1": "' =1", "＝1": "'＝1", "+1": "'+1", "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)", "\rx": "'\rx", "\nx": "'\nx", "＋1": "'＋1", "－1": "'－1",
    "＠x": "'＠x", "a=1": "a=1", "": "", "A dog - sitting": "A dog - sitting", "\u00a0=1": "'\u00a0=1",
}  # fmt: skip


@pytest.mark.parametrize("raw", [False, True])
def test_csv_runs_no_formula(raw: bool, tmp_path: Path, pictures: Pictures) -> None:
    """A cell that a spreadsheet would run gets a quote before it, unless told otherwise."""
    cells = {"=name": list(FORMULAS), "n": [-1] * 16, "d": [Decimal("-1.5")] * 16}
    batch = pa.RecordBatch.from_pydict(cells)
    dest = tmp_path / "out.csv"
    rows = Rows(
        schema=batch.schema,
        batches=iter([batch]),
        pictures=pictures,
        options=ExportOptions(raw_cells=raw),
    )

    notes = export(rows, dest, "csv").notes

    with dest.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[0] == ("=name" if raw else "'=name")
    assert [row[0] for row in rows] == (list(FORMULAS) if raw else list(FORMULAS.values()))
    assert {(row[1], row[2]) for row in rows} == {("-1", "-1.5")}
    assert notes == (
        []
        if raw
        else ["13 cells that look like a formula got a ' in front; --raw-cells leaves them"]
    )


def test_sidecars_are_named_after_their_pictures(tmp_path: Path, pictures: Pictures) -> None:
    """One text a caption, in the picture's folder; its lines are one unless they are to be kept."""
    one = "A cat; 猫, 'quoted' \"twice\" and a second line.\n"
    for kept, text in ((False, one), (True, ROWS[0]["caption"] + "\n")):
        out = tmp_path / f"out-{kept}"
        assert written(out, pictures, "sidecar", keep_lines=kept) == 2
        assert {str(p.relative_to(out)): p.read_text() for p in out.rglob("*.txt")} == {
            "p/cat.txt": text,
            "q/cat.txt": "Another cat.\n",
        }


def test_imagefolder_loads_with_datasets(tmp_path: Path, pictures: Pictures) -> None:
    """Pictures and captions side by side, only those that have one."""
    assert written(tmp_path / "out", pictures, "imagefolder") == 2
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert loaded["caption"][:] == [ROWS[0]["caption"], ROWS[2]["caption"]]
    assert loaded[0]["image"].size == (1, 1)
    assert loaded["url"][:] == ["p/cat.png", "q/cat.png"]


def test_webdataset_loads_with_datasets(tmp_path: Path, pictures: Pictures) -> None:
    """Picture, text and columns of a row share a key; the same rows give the same bytes."""
    dest = tmp_path / "out.tar"

    assert written(dest, pictures) == 2
    loaded = datasets.load_dataset(
        "webdataset", data_files=str(dest), split="train", cache_dir=str(tmp_path / "c")
    )
    assert loaded["txt"][:] == [ROWS[0]["caption"], ROWS[2]["caption"]]
    assert loaded[1]["json"]["id"] == 9
    with tarfile.open(dest) as tar:
        assert tar.getnames()[:3] == ["000000000.png", "000000000.txt", "000000000.json"]
    first = dest.read_bytes()
    written(dest, pictures)
    assert dest.read_bytes() == first


@pytest.mark.parametrize("name", EXPORTS)
def test_no_rows_give_a_whole_export(name: str, tmp_path: Path, pictures: Pictures) -> None:
    """An empty manifest exports to an empty file or folder of the right form."""
    dest = tmp_path / "out"

    assert export_of(iter([]), SCHEMA, dest, name, pictures) == 0
    assert dest.exists()


@pytest.mark.parametrize("name", EXPORTS)
def test_a_failed_export_leaves_what_was_there(
    name: str, tmp_path: Path, pictures: Pictures
) -> None:
    """Whatever stops an export, DEST stays as it was and no temporary file stays behind."""
    dest = tmp_path / "x" / "out"
    dest.parent.mkdir()
    folder = EXPORTS[name].folder(dest)
    if not folder:
        dest.write_text("before")

    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        export_of(failing(), SCHEMA, dest, name, pictures)

    left = {p.name for p in dest.parent.iterdir()}
    assert left == (set() if folder else {"out"})
    assert folder or dest.read_text() == "before"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, pictures: Pictures) -> None:
    """Nobody can tell whose files these are; an empty one is used."""
    dest = tmp_path / "out"
    dest.mkdir()
    assert written(dest, pictures, "sidecar") == 2

    with pytest.raises(OutputError, match="not an empty folder"):
        written(dest, pictures, "sidecar")
    with pytest.raises(OutputError, match="is a folder"):
        written(tmp_path / "p", pictures, "csv")


def test_formats_by_ending_or_name(tmp_path: Path) -> None:
    """The ending says it; --format says it better; anything else names the formats (64)."""
    assert format_of(Path("a.PARQUET")) == "parquet"
    assert format_of(Path("a.tsv")) == "tsv"
    assert format_of(Path("a.txt"), "csv") == "csv"
    for dest, name in ((Path("a.xlsx"), None), (Path("a"), None), (Path("a.csv"), "excel")):
        with pytest.raises(UsageError, match="parquet, jsonl, csv") as caught:
            format_of(dest, name)
        assert caught.value.exit_code == Exit.USAGE


def test_an_unwritable_place_is_an_output_error(tmp_path: Path, pictures: Pictures) -> None:
    """73 with the place and the reason."""
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"/file: (File exists|Not a directory)"):
        written(tmp_path / "file" / "out.csv", pictures)


def test_pictures_come_from_bytes_files_packages_and_data_uris(tmp_path: Path) -> None:
    """What is on this machine is read; a URL, a foreign package or a lost file is named."""
    (tmp_path / "a b.png").write_bytes(PNG)
    pictures = Pictures(column="x", root=tmp_path, packages=("skimage",))

    assert pictures.read(PNG) == PNG
    assert pictures.read({"bytes": PNG, "path": None}) == PNG
    assert pictures.read({"bytes": None, "path": "a b.png"}) == PNG
    assert pictures.read(f"file://{tmp_path}/a%20b.png") == PNG
    assert pictures.read("data:image/png;base64," + base64.b64encode(PNG).decode()) == PNG
    assert ending(pictures.read("package://skimage/data/chelsea.png")) == ".png"
    with pytest.raises(UsageError, match="export parquet") as caught:
        pictures.read("https://x.example/a.jpg?sig=hush")
    assert "hush" not in str(caught.value)
    with pytest.raises(UsageError, match=r"images\.packages"):
        pictures.read("package://numpy/x.png")
    with pytest.raises(UsageError, match=r"images\.packages"):
        pictures.read("package://skimage/../numpy/x.png")
    with pytest.raises(OutputError, match="No such file"):
        pictures.read("gone.png")


LEAVES = "leaves the folder (--beside writes next to the picture)"
#: Image cell -> the path of its picture below DEST; a reason where it is refused; None: no name.
NAMES = {
    "../../x.png": LEAVES, "a/../../b.png": LEAVES, "..": LEAVES,
    "a/../b.png": "b.png", "/abs/y.jpg": "abs/y.jpg", "/root/of/it/p/z.jpg": "p/z.jpg",
    "a\0b.png": "a NUL byte in the name", "CON.txt": "'CON.txt' is a reserved name",
    "p/nul": "'nul' is a reserved name", "https://x.example/p/q%2F..%2Fr.jpg?s=1": "r.jpg",
    "https://x.example/" + "x" * 300 + ".png": None, ".hidden": ".hidden", "né.png": "né.png",
    "ne\u0301.png": "ne\u0301.png", "...": "...", "a b;rm -rf.png": "a b;rm -rf.png",
    "tar://in/m.jpg::/s.tar": "in/m.jpg", "": None, "data:image/png;base64,AAAA": None,
    "c:\\d\\e.png": "d/e.png", "file:///root/of/it/a%20b.png": "a b.png",
    "10_cat/IMG 0001 (1).jpg": "10_cat/IMG 0001 (1).jpg",
}  # fmt: skip


@pytest.mark.parametrize("cell", NAMES)
def test_names_are_the_manifests_where_they_stay_in_the_folder(cell: str) -> None:
    """Folders and letters as they are; what leaves the folder or is reserved is refused by name."""
    try:
        path = relative_path(cell, Path("/root/of/it"))
        called = path and str(path)
    except Refused as why:
        called = str(why)

    assert called == NAMES[cell]


def test_hostile_cells_stay_inside_the_folder(tmp_path: Path, pictures: Pictures) -> None:
    """Each caption is in a file of its own below DEST or said to be refused, with its name."""
    rows = [
        ROWS[0] | {"url": cell, "key": f"{i:032x}", "caption": f"caption {i}"}
        for i, cell in enumerate([*NAMES, "x.png", "X.png", "x.jpg", "x.png"])
    ]
    dest = tmp_path / "deep" / "out"

    held = Rows(schema=SCHEMA, batches=batches(rows), pictures=pictures)
    told = export(held, dest, "sidecar")
    texts = [p.read_text() for p in dest.rglob("*.txt")]
    assert told.refused == 6
    assert len(set(texts)) == len(texts) == told.rows == len(rows) - 6
    assert [p.name for p in dest.parent.iterdir()] == ["out"]
    assert any(note.startswith("'../../x.png': no file") for note in told.notes)
    assert "x.png and x.jpg share a stem; the caption of the second is in x.jpg.txt" in told.notes
