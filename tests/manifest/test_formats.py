"""Every format gives the same rows; what a cell holds is never changed on the way."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest.readers import READERS
from pipeline.manifest.readers.csv import _HEAD
from tests.manifest.made import ROWS, TABLES, opened, rows_of, shard

PNG = b"\x89PNG\r\n\x1a\n" + bytes(30)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    """Three rows with quotes, a line break, umlauts and a null come out as they went in."""
    TABLES[name](tmp_path / name)

    manifest = opened(tmp_path / name, columns=("title",), id="id")
    rows = rows_of(manifest)

    assert manifest.image == "url"
    assert manifest.names == ("id", "url", "title")
    assert manifest.folder == tmp_path
    assert [row.image for row in rows] == [one["url"] for one in ROWS]
    assert [row.id for row in rows] == ["007", "008", "009"]
    assert [row.columns["title"] or None for row in rows] == [one["title"] for one in ROWS]
    assert all(row.bad is None for row in rows)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"])
def test_pictures_of_several_mb_in_a_cell(name: str, tmp_path: Path) -> None:
    """Between short rows, whatever the piece in which a row is met."""
    uris = ["data:image/png;base64," + "iVBORw0K" * size for size in (1, 400_000, 1, 1_500_000, 1)]
    frame = pd.DataFrame({"image": uris, "n": range(5)})
    if name == "a.txt":
        (tmp_path / name).write_text("\n".join(uris))
    elif name.endswith("sv"):
        frame.to_csv(tmp_path / name, sep="," if name == "a.csv" else "\t", index=False)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=name == "a.jsonl")

    rows = rows_of(opened(tmp_path / name))

    assert [row.image for row in rows] == uris
    assert [row.bad for row in rows] == [None] * 5


@pytest.mark.parametrize("name", TABLES)
def test_tables_agree_with_rows(name: str, tmp_path: Path) -> None:
    """`tables` gives the rows of `batches`, in the same order, and beside them the rows."""
    TABLES[name](tmp_path / name)

    manifest = opened(tmp_path / name, columns=("title",))
    table = pa.Table.from_batches((t for t, _ in manifest.tables()), manifest.arrow())
    beside = [row for _, rows in manifest.tables() for row in rows]

    assert table.column("url").to_pylist() == [row.image for row in rows_of(manifest)]
    assert table.column_names == ["id", "url", "title"]
    assert beside == rows_of(manifest)


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    """Nothing is guessed: leading zeros, `NA` and empty cells stay what was written."""
    (tmp_path / "a.csv").write_text("url,zip,note\nhttps://x.example/a.jpg,01234,NA\nb.jpg,,null\n")

    table = pa.Table.from_batches((t for t, _ in opened(tmp_path / "a.csv").tables()))

    assert table.column("zip").to_pylist() == ["01234", ""]
    assert table.column("note").to_pylist() == ["NA", "null"]


def test_csv_with_bom_semicolons_and_a_nameless_index(tmp_path: Path) -> None:
    """What spreadsheets and pandas write is read: byte order mark, `;`, a first column without name."""
    text = ";url;title\r\n0;https://x.example/a.jpg;one, two\r\n"
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    manifest = opened(tmp_path / "a.csv", columns=("title",))

    assert manifest.names == ("column_1", "url", "title")
    assert rows_of(manifest)[0].columns == {"title": "one, two"}


@pytest.mark.parametrize("quoted", [False, True], ids=["plain", "with lines inside quotes"])
@pytest.mark.parametrize("more", range(-3, 4))
def test_a_csv_header_that_ends_near_the_first_piece(
    more: int, quoted: bool, tmp_path: Path
) -> None:
    """A header as long as what is looked at first, less or more, is read whole."""
    note = "n" * (_HEAD - len("url,,\n") + more)
    if quoted:
        note = '"' + note[:-10] + "\n" + note[-7:] + '"'
    (tmp_path / "a.csv").write_text(f"url,{note},é\na.jpg,1,2\nb.jpg,3,4\n", encoding="utf-8")

    manifest = opened(tmp_path / "a.csv", columns=("é",))

    assert manifest.names == ("url", note.strip('"'), "é")
    assert [row.columns["é"] for row in rows_of(manifest)] == ["2", "4"]


#: Name -> content of files without a header: two rows, the pictures in the column of that number.
NAMELESS: dict[str, tuple[str, int]] = {
    "cc3m.tsv": ("a cat\thttps://x.example/0.jpg\na dog\thttps://x.example/1.jpg\n", 2),
    "tabs.txt": ("0.jpg\ta cat\n1.jpg\ta dog\n", 1),
    "mxnet.lst": ("0\t3.0\ta/0.JPEG\n1\t4.0\ta/1.JPEG\n", 3),
    "flickr.txt": ("0.jpg#0\tA cat .\n0.jpg#1\tA cat , asleep .\n", 1),
    "one.csv": ("https://x.example/0.jpg\nhttps://x.example/1.jpg\n", 1),
    "blank.csv": ("\n\n0.jpg,a cat\n\n1.jpg,a dog\n", 1),
    "sep.csv": ("sep=;\n0.jpg;a, b\n1.jpg;c\n", 1),
    "bom.csv": ('\ufeff"0.jpg","a\ncat"\n"1.jpg","a dog"\n', 1),
    "base64.tsv": (
        "0\t" + base64.b64encode(PNG[:8] + b"\0\0\0\rIHDR" + PNG).decode() + "\n1\tx.png\n",
        2,
    ),
    "windows.csv": ("C:\\pics\\0.jpg|a\r\nC:\\pics\\1.jpg|b\r\n", 1),
}


@pytest.mark.parametrize("name", NAMELESS)
def test_a_table_without_a_header(name: str, tmp_path: Path) -> None:
    """A first line that holds a picture is a row; the columns are numbered, the image column is found."""
    content, number = NAMELESS[name]
    (tmp_path / name).write_text(content, newline="")

    manifest = opened(tmp_path / name)
    rows = rows_of(manifest)

    assert manifest.image == f"column_{number}"
    assert len(rows) == 2
    assert [row.bad for row in rows] == [None, None]


@pytest.mark.parametrize(
    "text", ["image,caption\n0.jpg,A cat , asleep\n", "name\tfile_name\na\t0.jpg\n"]
)
def test_a_table_that_is_called_a_list(text: str, tmp_path: Path) -> None:
    """A `.txt` that begins with the columns of a table is one."""
    (tmp_path / "a.txt").write_text(text.replace(" , asleep", ""))

    assert [row.image for row in rows_of(opened(tmp_path / "a.txt"))] == ["0.jpg"]


@pytest.mark.parametrize("text", ["image,0.jpg\nb,a.jpg\n", "http://x.example/image,file\nb,c\n"])
def test_commas_in_a_list_make_no_table(text: str, tmp_path: Path) -> None:
    """Names of pictures hold commas."""
    (tmp_path / "a.txt").write_text(text)

    assert [row.image for row in rows_of(opened(tmp_path / "a.txt"))] == text.split()


@pytest.mark.parametrize("first", ["url,n\na.jpg,1\n", "a.jpg,1\n"])
def test_files_with_and_without_a_header_are_not_one_table(first: str, tmp_path: Path) -> None:
    """As `split` makes them: their columns would be two sets."""
    (tmp_path / "1.csv").write_text(first)
    (tmp_path / "2.csv").write_text("b.jpg,2,x\n")

    with pytest.raises(ManifestError, match=r"2\.csv: its columns are column_1.*names the columns"):
        opened(tmp_path / "*.csv")


def test_a_csv_that_begins_with_blank_lines(tmp_path: Path) -> None:
    """More of them than are looked at first: the header is the first line that holds anything."""
    (tmp_path / "a.csv").write_text("\n" * (_HEAD + 5) + "url,n\na.jpg,1\n")

    assert opened(tmp_path / "a.csv").names == ("url", "n")


def test_a_long_csv_row_among_short_ones(tmp_path: Path) -> None:
    """A cell longer than a piece, in the middle and at the end: no row is lost or read twice."""
    cells = [f"{number}" if number % 5_000 else "x" * 200_000 for number in range(1, 20_001)]
    lines = "".join(f"https://x.example/{n}.jpg,{cell}\n" for n, cell in enumerate(cells))
    (tmp_path / "a.csv").write_text("url,note\n" + lines)

    rows = rows_of(opened(tmp_path / "a.csv", columns=("note",)))

    assert [row.columns["note"] for row in rows] == cells
    assert [row.image for row in rows] == [f"https://x.example/{n}.jpg" for n in range(20_000)]


def test_several_files_are_one_table(tmp_path: Path) -> None:
    """Columns are united, what a file lacks is null, integers widen, order is the file names'."""
    pq.write_table(
        pa.table({"url": ["a.jpg"], "n": pa.array([1], pa.int8())}), tmp_path / "1.parquet"
    )
    pq.write_table(pa.table({"n": [2**40], "url": ["b.jpg"], "x": ["y"]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"x": ["z"]}), tmp_path / "3.parquet")

    manifest = opened(tmp_path / "*.parquet", columns=("n",))
    table = pa.Table.from_batches(t for t, _ in manifest.tables())

    assert table.to_pydict() == {
        "url": ["a.jpg", "b.jpg", None], "n": [1, 2**40, None], "x": [None, "y", "z"],
    }  # fmt: skip
    assert [row.bad is None for row in rows_of(manifest)] == [True, True, False]


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    """A list of paths is read in the order of the list."""
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"https://x.example/{name}.jpg\n")

    rows = rows_of(opened([tmp_path / "b.txt", tmp_path / "a.txt"]))

    assert [row.image for row in rows] == ["https://x.example/b.jpg", "https://x.example/a.jpg"]


def test_txt_is_one_image_a_line(tmp_path: Path) -> None:
    """Blank lines and surrounding space are left out."""
    (tmp_path / "a.txt").write_text("\n https://x.example/a b.jpg \r\n\n#1.png\n")

    assert [row.image for row in rows_of(opened(tmp_path / "a.txt"))] == [
        "https://x.example/a b.jpg",
        "#1.png",
    ]


def test_a_folder_is_its_tree_of_images(tmp_path: Path) -> None:
    """Sorted, relative to the folder; hidden files, other files and links to folders left out."""
    for name in ("b/2.JPG", "b/10.webp", "a.png", ".hidden.png", "notes.txt", "b/.x/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "loop").symlink_to(tmp_path)

    manifest = opened(tmp_path)

    assert [row.image for row in rows_of(manifest)] == ["a.png", "b/10.webp", "b/2.JPG"]
    assert (manifest.format, manifest.folder, manifest.rows) == ("folder", tmp_path, 3)


def test_a_folder_of_tables_or_with_metadata_is_a_manifest(tmp_path: Path) -> None:
    """A folder of Parquet files is read as these; imagefolder's metadata as its manifest."""
    (tmp_path / "t").mkdir()
    for i in range(2):
        pq.write_table(pa.table({"url": [f"{i}.jpg"]}), tmp_path / "t" / f"{i}.parquet")
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "0.png").write_bytes(PNG)
    (tmp_path / "h" / "metadata.csv").write_text("file_name,text\n0.png,a dot\n")

    assert [row.image for row in rows_of(opened(tmp_path / "t"))] == ["0.jpg", "1.jpg"]
    assert opened(tmp_path / "h").image == "file_name"
    assert opened(tmp_path / "h", format="folder").image == "image"


def test_webdataset_rows_are_members_with_their_sidecars(tmp_path: Path) -> None:
    """One row a key; the image is named in the chained form that fsspec itself can open."""
    path = shard(
        tmp_path / "s-000.tar",
        {
            "x/1.jpg": b"\xff\xd8\xff1", "x/1.txt": b"one", "x/1.json": b'{"width": 640}',
            "x/2.json": b"{}", "x/3.seg.png": b"\x89PNG", "x/3.cls": b"7",
        },
    )  # fmt: skip

    manifest = opened(tmp_path / "s-*.tar", columns=("txt", "json"))
    rows = rows_of(manifest)
    table = pa.Table.from_batches(t for t, _ in manifest.tables())

    assert table.column("__key__").to_pylist() == ["x/1", "x/3"]
    assert rows[0].columns == {"txt": "one", "json": '{"width": 640}'}
    assert rows[0].image == f"tar://x/1.jpg::{path}"
    with fsspec.open(rows[0].image) as file:
        assert file.read() == b"\xff\xd8\xff1"
    assert len(rows_of(opened(path, where="json->>'$.width' = '640'"))) == 1


def test_bytes_and_hugging_face_structs(tmp_path: Path) -> None:
    """Bytes and `{bytes, path}` reach the rows; tables keep the path and no byte."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": PNG, "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    table = pa.table({"label": [1, 2, 3], "image": pa.array(cells, kind)})
    pq.write_table(table, tmp_path / "hf.parquet")
    pq.write_table(pa.table({"image": [PNG, b""], "n": [1, 2]}), tmp_path / "raw.parquet")

    struct, raw = opened(tmp_path / "hf.parquet"), opened(tmp_path / "raw.parquet")

    assert [row.image for row in rows_of(struct)] == cells
    assert [row.bad is None for row in rows_of(struct)] == [True, True, False]
    assert pa.Table.from_batches((t for t, _ in struct.tables())).column("image").to_pylist() == [
        "a.png", "b.png", None,
    ]  # fmt: skip
    assert [row.image for row in rows_of(raw)] == [PNG, b""]
    assert [row.bad is None for row in rows_of(raw)] == [True, False]
    assert pa.Table.from_batches((t for t, _ in raw.tables())).to_pydict() == {"n": [1, 2]}
    assert next((t for t, _ in raw.tables(pictures=["image"]))).column("image").to_pylist() == [
        PNG,
        b"",
    ]


def test_a_bytes_column_alone_has_rows_in_tables(tmp_path: Path) -> None:
    """A manifest of nothing but image bytes still gives one (empty) dataset row per image."""
    pq.write_table(pa.table({"image": [PNG, PNG, PNG]}), tmp_path / "a.parquet")

    assert (
        sum(batch.num_rows for batch in (t for t, _ in opened(tmp_path / "a.parquet").tables()))
        == 3
    )


def test_a_dataset_written_by_datasets_is_read(tmp_path: Path) -> None:
    """`Dataset.to_parquet` with an Image feature, and its folder of shards."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    picture = np.zeros((4, 4, 3), np.uint8)
    made = datasets.Dataset.from_dict({"image": [picture] * 3, "text": list("abc")}, features)
    made.to_parquet(str(tmp_path / "train-00000.parquet"))

    rows = rows_of(opened(tmp_path, columns=("text",)))

    assert [row.columns["text"] for row in rows] == ["a", "b", "c"]
    assert isinstance(rows[0].image, dict)
    assert rows[0].image["bytes"].startswith(b"\x89PNG")


def test_dictionary_and_large_types(tmp_path: Path) -> None:
    """pandas' categories, large strings and views are text like any other."""
    frame = pd.DataFrame({"url": pd.Categorical(["a.jpg", "b.jpg", "a.jpg"]), "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "c.parquet")
    large = pa.table({"url": pa.array(["a.jpg"], pa.large_string())})
    pq.write_table(large, tmp_path / "l.parquet")

    assert [r.image for r in rows_of(opened(tmp_path / "c.parquet"))] == ["a.jpg", "b.jpg", "a.jpg"]
    assert [r.image for r in rows_of(opened(tmp_path / "l.parquet"))] == ["a.jpg"]


def test_prompt_columns_of_other_types_become_text(tmp_path: Path) -> None:
    """Integers and booleans stay values; floats and dates reach the prompt as Arrow writes them."""
    when = pd.Timestamp("2026-11-23 10:00:00")
    frame = pd.DataFrame({"url": ["a.jpg"], "n": [7], "f": [0.5], "t": [when], "b": [True]})
    frame.to_parquet(tmp_path / "a.parquet")

    row = rows_of(opened(tmp_path / "a.parquet", columns=("n", "f", "t", "b")))[0]

    assert row.columns["n"] == 7
    assert row.columns["b"] is True
    assert row.columns["f"] == "0.5"
    assert str(row.columns["t"]).startswith("2026-11-23 10:00:00")


def test_urls_go_through_fsspec(tmp_path: Path) -> None:
    """A manifest, a glob and a folder on a remote file system, here fsspec's memory."""
    memory = fsspec.filesystem("memory")
    for i in range(2):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"url": [f"https://x.example/{i}.jpg"]}), buffer)
        memory.pipe_file(f"/{tmp_path.name}/{i}.parquet", buffer.getvalue())
    memory.pipe_file(f"/{tmp_path.name}/c.csv", b"url\na.jpg\n")
    base = f"memory://{tmp_path.name}"

    assert len(rows_of(opened(f"{base}/0.parquet"))) == 1
    assert len(rows_of(opened(f"{base}/*.parquet"))) == 2
    assert rows_of(opened(f"{base}/c.csv"))[0].image == "a.jpg"
    assert opened(f"{base}/c.csv").folder is None


def test_the_fingerprint_follows_files_and_settings(tmp_path: Path) -> None:
    """Same files and settings: same fingerprint; anything else: another."""
    path = tmp_path / "a.csv"
    path.write_text("url,id\na.jpg,1\n")
    first = opened(path).fingerprint()

    assert opened(path).fingerprint() == first
    assert opened(path, id="id").fingerprint() != first
    path.write_text("url,id\na.jpg,2\nb.jpg,3\n")
    assert opened(path).fingerprint() != first


def test_every_format_has_a_reader_and_no_more() -> None:
    """The settings' formats are the readers'."""
    from typing import get_args

    from pipeline.manifest.settings import Format

    assert set(READERS) == set(get_args(Format)) - {"auto"}
    assert "ray" not in sys.modules
