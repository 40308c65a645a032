"""Folders and lists as they lie on people's disks: read right, or refused with advice that works."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from tests.manifest.made import opened, rows_of, shard

PNG = b"\x89PNG\r\n\x1a\n" + bytes(30)


def put(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def table(path: Path, *names: str) -> None:
    put(path)
    pq.write_table(pa.table({"image": list(names)}), path)


@pytest.mark.parametrize("part", ["data/{}-0.parquet", "split={}/part-0.parquet"])
def test_tables_further_down_are_the_manifest(part: str, tmp_path: Path) -> None:
    """A clone of a hub's repository, with texts at its top; a folder with partitions."""
    for name in ("train", "test"):
        table(tmp_path / part.format(name), f"/p/{name}.jpg")
    put(tmp_path / "README.md", b"---\n---\n")
    put(tmp_path / "LICENSE.txt", b"all yours\n")
    put(tmp_path / ".cache/x.parquet", b"")

    rows = rows_of(opened(tmp_path))

    assert sorted(str(row.image) for row in rows) == ["/p/test.jpg", "/p/train.jpg"]


def test_metadata_further_down_names_a_folder_that_works(tmp_path: Path) -> None:
    """An imagefolder with metadata in each split: never read without it in silence."""
    put(tmp_path / "train/0.png")
    put(tmp_path / "train/metadata.csv", b"file_name,title\n0.png,a dot\n")

    with pytest.raises(ManifestError) as caught:
        opened(tmp_path)

    advice = str(caught.value).rpartition(": ")[2]
    assert [row.columns["title"] for row in rows_of(opened(advice, columns=("title",)))] == [
        "a dot"
    ]


def test_pictures_below_a_text_are_the_manifest(tmp_path: Path) -> None:
    """Folders of classes beside a list of their names; a NAS's thumbnails are no rows."""
    put(tmp_path / "classes.txt", b"cat\ndog\n")
    for name in (
        "cat/0.png",
        "dog/1.png",
        "@eaDir/0.png",
        "cat/@eaDir/0.png/T.png",
        "__MACOSX/0.png",
    ):
        put(tmp_path / name)

    assert [row.image for row in rows_of(opened(tmp_path))] == ["cat/0.png", "dog/1.png"]


def test_what_img2dataset_leaves(tmp_path: Path) -> None:
    """Shards, a table and statistics beside each: the shards are the manifest."""
    for number in range(2):
        shard(tmp_path / f"{number:05}.tar", {f"{number}.jpg": PNG})
        table(tmp_path / f"{number:05}.parquet", "https://x.example/a.jpg")
        put(tmp_path / f"{number:05}_stats.json", b"{}")

    assert opened(tmp_path).format == "webdataset"
    assert len(rows_of(opened(tmp_path))) == 2


def test_several_formats_come_with_advice_that_works(tmp_path: Path) -> None:
    """In one folder the format chooses, in a glob the name."""
    table(tmp_path / "a.parquet", "/p/a.jpg")
    put(tmp_path / "b.csv", b"image\n/p/b.jpg\n")

    with pytest.raises(ManifestError, match=r"set manifest\.format to one of parquet, csv$"):
        opened(tmp_path)
    with pytest.raises(ManifestError, match=r"manifest\.path, as \*\.parquet$"):
        opened(tmp_path / "*.*")
    assert [row.image for row in rows_of(opened(tmp_path, format="csv"))] == ["/p/b.jpg"]
    assert [row.image for row in rows_of(opened(tmp_path / "*.parquet"))] == ["/p/a.jpg"]


def test_comments_and_tabs_in_a_list(tmp_path: Path) -> None:
    """`# words` is no picture, `#1.png` is; a table is said to be one, and the advice works."""
    path = put(tmp_path / "a.txt", b"\xef\xbb\xbf# my pictures\n\n#\n0.jpg\r\n#1.png\n# 2.png\n")
    assert [row.image for row in rows_of(opened(path))] == ["0.jpg", "#1.png"]

    put(path, b"0.jpg\ta cat\n")
    with pytest.raises(ManifestError, match=r"line 1 holds a tab.*manifest\.format: tsv"):
        rows_of(opened(path))
    put(path, b"image\ttitle\n0.jpg\ta cat\n")
    rows = rows_of(opened(path, format="tsv", columns=("title",)))
    assert rows[0].columns == {"title": "a cat"}
