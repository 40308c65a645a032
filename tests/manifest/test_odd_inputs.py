"""Layouts of other people's files that hold pictures in an unusual place: read, or refused by name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest.readers import parquet
from tests.manifest.made import opened, rows_of, shard

URLS = [f"https://x.example/{n}.jpg" for n in range(3)]
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\xff\xc0\0\x11\x08" + bytes(40)
CONVERSATION = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": URLS[0]}}]}]}
CHAT = [
    {
        "role": "user",
        "content": [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "?"}],
    }
]
LABELS = {
    "version": "5",
    "shapes": [{"label": "x"}],
    "imagePath": "a.jpg",
    "imageData": "x",
    "imageHeight": 3,
}

#: Columns of a Parquet file -> the image column, and the first row's picture.
TABLES: dict[str, tuple[dict[str, Any], str, object]] = {
    "more than bytes and path": (
        {"image": [{"bytes": JPEG, "path": "a.jpg", "height": 3}]}, "image.bytes", JPEG,
    ),
    "bytes by another name": ({"photo": [{"data": JPEG, "filename": "a.jpg"}]}, "photo.data", JPEG),
    "a URL in a struct": ({"image": [{"src": u, "width": 3} for u in URLS]}, "image.src", URLS[0]),
    "the one picture of a chat": (
        {"messages": [[*CHAT, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]]},
        "messages.content.image", "a.jpg",
    ),
    "deep inside": ({"sample": [{"x": {"bytes": JPEG}}]}, "sample.x.bytes", JPEG),
    "a dictionary of bytes": ({"image": pa.array([JPEG]).dictionary_encode()}, "image", JPEG),
    "URLs as bytes": ({"url": [u.encode() for u in URLS], "n": [1, 2, 3]}, "url", URLS[0]),
    "paths as bytes": ({"x": [b"\xc3\xa9/a.jpg"]}, "x", "é/a.jpg"),
    "base64 as bytes": ({"image": [base64.b64encode(JPEG)]}, "image", JPEG),
    "pictures as bytes": ({"url": [JPEG], "n": [1]}, "url", JPEG),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_a_picture_in_an_unusual_place_of_parquet(what: str, tmp_path: Path) -> None:
    """It is found without being named, and read as what it is."""
    columns, image, picture = TABLES[what]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    manifest = opened(tmp_path / "a.parquet")
    rows = rows_of(manifest)

    assert manifest.image == image
    assert rows[0].image == picture
    assert all(row.bad is None for row in rows)
    assert sum(t.num_rows for t, _ in manifest.tables()) == len(rows)


def test_pages_too_large_for_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their size, with the way out, which works; small pages of as many rows are read."""
    table = pa.table({"image": [JPEG + n.to_bytes(2, "big") * 5_000 for n in range(2_048)]})
    pq.write_table(table, tmp_path / "pandas.parquet", compression="none")
    pq.write_table(table, tmp_path / "small.parquet", row_group_size=100, compression="none")
    monkeypatch.setattr(parquet, "_MOST_BYTES", 26_000_000)

    with pytest.raises(ManifestError, match=r"row group 1 take .* GB .*row_group_size=100"):
        rows_of(opened(tmp_path / "pandas.parquet"))
    assert len(rows_of(opened(tmp_path / "small.parquet"))) == 2_048

    monkeypatch.setattr(parquet, "_MOST_BYTES", 90_000_000)
    assert len(rows_of(opened(tmp_path / "pandas.parquet"))) == 2_048


def test_a_picture_among_texts_in_bytes_is_named(tmp_path: Path) -> None:
    """A column is of one kind."""
    cells = [URLS[0].encode()] * 200 + [JPEG]
    pq.write_table(pa.table({"url": cells}), tmp_path / "a.parquet")

    with pytest.raises(ManifestError, match="'url' is not string"):
        rows_of(opened(tmp_path / "a.parquet"))


#: JSON -> the image column and the pictures.
JSON: dict[str, tuple[Any, str, list[str]]] = {
    "strings": (URLS, "image", URLS),
    "names to texts": ({"a.jpg": "a cat", "b.jpg": "a dog"}, "image", ["a.jpg", "b.jpg"]),
    "names to objects": (
        {"/p/a.png": {"tags": "cat"}, "/p/b.png": {"tags": "dog"}}, "image", ["/p/a.png", "/p/b.png"],
    ),
    "COCO": (
        {
            "licenses": [{"id": 1, "url": "https://cc.example/by/"}],
            "images": [{"id": 7, "file_name": "a.jpg", "coco_url": URLS[0]}],
            "annotations": [{"image_id": 7, "caption": "a cat"}],
            "categories": [{"id": 1, "name": "cat"}],
        },
        "file_name", ["a.jpg"],
    ),
    "a URL inside": ([{"image": {"url": u}} for u in URLS], "image.url", URLS),
    "a task": ([{"id": 1, "data": {"image": u}} for u in URLS], "data.image", URLS),
    "a chat with one picture": (
        [{"messages": [*CHAT, {"role": "assistant", "content": "x"}]}], "messages.content.image", ["a.jpg"],
    ),
    "one object": (LABELS, "imagePath", ["a.jpg"]),
    "a conversation": ([CONVERSATION], "messages.content.image_url.url", URLS[:1]),
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("what", JSON)
def test_a_picture_in_an_unusual_place_of_json(
    what: str, indent: int | None, tmp_path: Path
) -> None:
    """Found without being named."""
    content, image, pictures = JSON[what]
    (tmp_path / "a.json").write_text(json.dumps(content, indent=indent))

    manifest = opened(tmp_path / "a.json")

    assert manifest.image == image
    assert [row.image for row in rows_of(manifest)] == pictures


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_what_pythons_writer_leaves_in_json(name: str, tmp_path: Path) -> None:
    """NaN and halves of characters."""
    rows = [
        {"url": URLS[0], "s": float("nan"), "t": "half \ud83d"},
        {"url": URLS[1], "s": 1.5, "t": "x"},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / name).write_text(json.dumps(rows) if name == "a.json" else "\n".join(lines))

    read = rows_of(opened(tmp_path / name, columns=("t",)))

    assert [row.columns["t"] for row in read] == ["half \ufffd", "x"]


#: CSV -> its columns; each has the rows `0.jpg, x` and `1.jpg, y`.
CSV: dict[str, tuple[str, tuple[str, ...]]] = {
    "delimiters behind rows": ("image,t\n0.jpg,x,\n1.jpg,y,\n", ("image", "t", "column_3")),
    "a delimiter behind the header": ("image,t,\n0.jpg,x\n1.jpg,y\n", ("image", "t")),
    "comments": ("# made, by hand\n#two\nimage,t\n0.jpg,x\n1.jpg,y\n", ("image", "t")),
    "no comment": ("#image,t\n0.jpg,x\n1.jpg,y\n", ("#image", "t")),
}


@pytest.mark.parametrize("what", CSV)
def test_csv_with_more_than_its_cells(what: str, tmp_path: Path) -> None:
    """What stands before the header or behind the last cell is no cell."""
    content, names = CSV[what]
    (tmp_path / "a.csv").write_text(content)

    manifest = opened(tmp_path / "a.csv", columns=("t",))

    assert manifest.names == names
    assert [(row.image, row.columns["t"]) for row in rows_of(manifest)] == [
        ("0.jpg", "x"), ("1.jpg", "y"),
    ]  # fmt: skip


def test_texts_with_names_of_their_own_in_a_shard(tmp_path: Path) -> None:
    """`0.image.jpg 0.caption.txt`: the one picture of a key has its texts."""
    members = {f"{n}.{e}": b"text %d" % n for n in range(2) for e in ("caption.txt", "image.jpg")}

    rows = rows_of(opened(shard(tmp_path / "a.tar", members), columns=("txt",)))

    assert [row.columns["txt"] for row in rows] == ["text 0", "text 1"]


def test_a_shard_without_pictures_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not a row, and not a word, would look like a finished job."""
    assert rows_of(opened(shard(tmp_path / "a.tar", {"0.npy": b"x", "0.img": b"x"}))) == []
    assert "no picture in this shard" in caplog.text


#: CSV -> the image column, where `0.jpg` is the only file that is there.
CHOICES: dict[str, tuple[str, str]] = {
    "a file beside a page": ("url,local_path\nhttps://x.example/p/0,0.jpg\n", "local_path"),
    "no file beside a page": ("url,local_path\nhttps://x.example/p/1,1.jpg\n", "url"),
    "a file beside a picture": ("url,path\nhttps://x.example/0.jpg,0.jpg\n", "url"),
    "a file beside what is called a picture": ("image_url,path\nhttps://x.example/p/0,0.jpg\n", "image_url"),
    "a small file beside a page": ("link,thumb\nhttps://x.example/p/0,0.jpg\n", "link"),
    "a small copy beside a picture": (
        "OriginalURL,Thumbnail300KURL\nhttps://x.example/o.jpg,https://x.example/z.jpg\n", "OriginalURL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHOICES)
def test_the_column_is_that_of_the_pictures(what: str, tmp_path: Path) -> None:
    """A page gives way to files that are there, and a small copy to the whole."""
    content, image = CHOICES[what]
    (tmp_path / "0.jpg").write_bytes(JPEG)
    (tmp_path / "a.csv").write_text(content)

    assert opened(tmp_path / "a.csv").image == image


#: Files -> the manifest's columns; each has the row `0.jpg`.
NAMED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "METADATA.CSV": ({"0.jpg": "", "METADATA.CSV": "file_name,t\n0.jpg,x\n"}, ("file_name", "t")),
    "Metadata.JSONL": ({"0.jpg": "", "Metadata.JSONL": '{"file_name": "0.jpg"}'}, ("file_name",)),
    "of a split": ({"a/0.jpg": "", "a/Metadata.csv": "file_name,t\n0.jpg,x\n"}, ("file_name", "t")),
    "a part of a table": ({"photos.tsv000": "image\tt\n0.jpg\tx\n"}, ("image", "t")),
    "JSON lines in a list": ({"a.txt": '{"image": "0.jpg", "t": "x"}\n'}, ("image", "t")),
}


@pytest.mark.parametrize("what", NAMED)
def test_files_are_known_in_whatever_letters(what: str, tmp_path: Path) -> None:
    """Capitals, numbers behind the ending, another ending."""
    files, names = NAMED[what]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    manifest = opened(tmp_path if len(files) > 1 else tmp_path / next(iter(files)))

    assert manifest.names == names
    assert [row.image for row in rows_of(manifest)] == ["0.jpg"]


@pytest.mark.parametrize("mark", [".gitattributes", "README.md"])
def test_a_clone_of_a_hub_with_a_logo(mark: str, tmp_path: Path) -> None:
    """Its tables are the manifest, not the pictures of its page."""
    for name in ("logo.png", "assets/a.jpg", "data/train-00000-of-00001.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(JPEG)
    assert sorted(str(row.image) for row in rows_of(opened(tmp_path))) == [
        "assets/a.jpg",
        "logo.png",
    ]

    (tmp_path / mark).write_text("---\nlicense: mit\n---\n")
    pq.write_table(pa.table({"url": URLS}), tmp_path / "data/train-00000-of-00001.parquet")

    assert [row.image for row in rows_of(opened(tmp_path))] == URLS


def _disk(folder: Path) -> Path:
    for name in ("dataset_info.json", "state.json"):
        (folder / name).write_text("{}")
    return folder


def _disks(folder: Path) -> Path:
    (folder / "train").mkdir()
    _disk(folder / "train")
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return folder


def _feather(folder: Path) -> Path:
    feather.write_feather(pa.table({"url": URLS}), folder / "a.feather")
    return folder / "a.feather"


def _put(name: str, content: bytes) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return made


#: How to make what is refused -> the words that say why and what to do.
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "save_to_disk": (_disk, r"save_to_disk of datasets; .*to_parquet"),
    "save_to_disk of splits": (_disks, r"save_to_disk of datasets; .*to_parquet"),
    "Git LFS, Parquet": (_put("a.parquet", b"version https://git-lfs.github.com/spec/v1\n"), "run git lfs pull"),
    "Git LFS, CSV": (_put("a.csv", b"version https://git-lfs.github.com/spec/v1\n"), "run git lfs pull"),
    "a login": (_put("a.csv", b"\n<!DOCTYPE html><html>"), "an HTML page, not a table"),
    "XML": (_put("a.xml", b'<?xml version="1.0"?><annotations/>'), "an XML file; write"),
    "a sheet": (_put("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "save the sheet as CSV"),
    "a sheet by another name": (_put("a.csv", b"PK\3\4\0\0"), "save the sheet as CSV"),
    "an Arrow stream": (_put("a.arrow", b"\xff\xff\xff\xff\0"), "an Arrow stream; write it as Parquet"),
    "lz4": (_put("a.csv.lz4", b"\x04\x22\x4d\x18"), "use gzip, bz2, xz or zstd"),
    "pickle": (_put("a.pkl", b"\x80\4\x95"), "a format that is not read"),
    "UTF-16": (_put("a.csv", "image\na.jpg\n".encode("utf-16-le")), "UTF-16 text; save it as UTF-8"),
    "a class behind a path": (_put("a.txt", b"i/a.jpg 0\ni/b.jpg 1\n"), r"more than an image \('0'\); write a tab"),
    "feather": (_feather, "Arrow or Feather file; write it as Parquet"),
    "sqlite": (_put("a.db", b"SQLite format 3\0"), "SQLite database; write the table"),
    "zip": (_put("a.zip", b"PK\3\4"), "unpack the archive"),
    "zstd": (_put("a.tar.zst", b"\x28\xb5\x2f\xfd"), "unpack it: zstd -d"),
    "two arrays": (_put("a.json", b'[{"url": "a.jpg"}]\n[{"url": "b.jpg"}]'), "more stands behind"),
    "lists as lines": (_put("a.jsonl", b'["a.jpg", "x"]\n["b.jpg", "y"]'), "more stands behind"),
    "objects over lines": (_put("a.jsonl", b'{"url":\n"a.jpg"}\n{"url":\n"b.jpg"}'), "one object a line"),
    "rows by name": (
        _put("a.json", b'{"x": {"image": "a.jpg"}, "y": {"image": "b.jpg"}}'), 'orient="records"',
    ),
    "numbers for pictures": (_put("a.jsonl", b'{"image": 1, "n": 2}'), "'image' is int64, no image"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_what_to_do(what: str, tmp_path: Path) -> None:
    """65, in one line."""
    make, words = REFUSED[what]

    with pytest.raises(ManifestError, match=words):
        rows_of(opened(make(tmp_path)))
