"""Folders and lists as they lie on people's disks: read right, or refused with advice that works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import ManifestSettings
from tests.manifest.made import opened, rows_of, shard

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
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


def test_metadata_further_down_counts_from_its_own_folder(tmp_path: Path) -> None:
    """An imagefolder with metadata in each split, which name pictures alike."""
    for split in ("test", "train"):
        put(tmp_path / split / "0.png")
        put(tmp_path / split / "metadata.csv", f"file_name,title\n0.png,{split}\n".encode())

    manifest = opened(tmp_path, columns=("title",))

    rows = rows_of(manifest)
    assert [(row.image, row.columns["title"]) for row in rows] == [
        ("test/0.png", "test"),
        ("train/0.png", "train"),
    ]
    assert manifest.folder == tmp_path
    batches = [batch for batch, _ in manifest.tables()]
    assert pa.Table.from_batches(batches).column("file_name").to_pylist() == [
        row.image for row in rows
    ]


@pytest.mark.parametrize(
    "cells",
    [
        {"image": ["0.png", " s/1.png", "https://x.example/0.png", "/p/0.png", "", None]},
        {"image": [{"path": p, "bytes": None} for p in ("0.png", " s/1.png", "", None)]},
        {"image": [["0.png"], ["a.png", "b.png"]]},
        {"image": ['["0.png"]', "file:///p/0.png", "data:image/png;base64,iVBORw0KGgo="]},
    ],
)
def test_relative_paths_of_two_files_count_from_their_own_folders(
    cells: dict[str, list[object]], tmp_path: Path
) -> None:
    """In whatever form a cell holds them; all else stays. With images.root all stay as written."""
    for folder in "ab":
        put(tmp_path / folder / "m.parquet")
        pq.write_table(pa.table(cells), tmp_path / folder / "m.parquet")
    both = [f"{tmp_path}/{folder}/m.parquet" for folder in "ab"]

    images = paths(opened(both))

    alone = paths(opened(both[0]))
    assert images == [
        f"{folder}/{cell}" if str(cell).strip().startswith(("0.png", "s/1")) else cell
        for folder in "ab"
        for cell in alone
    ]
    rooted = open_manifest(ManifestSettings(path=both), root=tmp_path)
    assert paths(rooted) == alone * 2


def paths(manifest: Manifest) -> list[object]:
    """The images of its rows, structs by their paths."""
    images = [row.image for row in rows_of(manifest)]
    return [image["path"] if isinstance(image, Mapping) else image for image in images]


def test_pictures_of_two_folders_are_rows_of_their_own(tmp_path: Path) -> None:
    """Named as a list or by a glob, and with images.root from there."""
    for folder in "ab":
        put(tmp_path / "in" / folder / "0.png")
    for path in ([f"{tmp_path}/in/a", f"{tmp_path}/in/b"], f"{tmp_path}/in/*"):
        manifest = opened(path)
        assert [row.image for row in rows_of(manifest)] == ["a/0.png", "b/0.png"]
        assert manifest.folder == tmp_path / "in"
    rooted = open_manifest(
        ManifestSettings(path=[f"{tmp_path}/in/{f}" for f in "ab"]), root=tmp_path
    )
    assert [row.image for row in rows_of(rooted)] == ["in/a/0.png", "in/b/0.png"]


def test_a_glob_of_pictures_is_a_folder_of_them(tmp_path: Path) -> None:
    """The same names as the folder's, so that no picture is another one; texts beside are no rows."""
    for name in ("0.png", "a/1.png", "a/b/2.JPG", "a/@eaDir/1.png", ".x/3.png"):
        put(tmp_path / "p" / name)
    for name in ("0.txt", "a/1.json"):
        put(tmp_path / "p" / name, b"{}")

    def images(path: object) -> list[object]:
        manifest = opened(path)
        rows = [row.image for row in rows_of(manifest)]
        assert (manifest.rows, manifest.format) == (len(rows), "folder")
        return rows

    assert (
        images(f"{tmp_path}/p/**/*") == images(tmp_path / "p") == ["0.png", "a/1.png", "a/b/2.JPG"]
    )
    assert images(f"{tmp_path}/p/**/*.png") == ["0.png", "a/1.png"]
    assert images(f"{tmp_path}/p/a/1.png") == ["1.png"]
    assert images([f"{tmp_path}/p/a/1.png", f"{tmp_path}/p/0.png"]) == ["a/1.png", "0.png"]
    assert images(f"{tmp_path}/p/.x") == images(f"{tmp_path}/p/.x/*.png") == ["3.png"]
    put(tmp_path / "p/[1].png")
    assert images(f"{tmp_path}/p/[1].png") == ["[1].png"]
    put(tmp_path / "p/metadata.csv", b"file_name\n0.png\n")
    with pytest.raises(ManifestError, match="one manifest is of one format"):
        opened(f"{tmp_path}/p/*")


@pytest.mark.parametrize("layout", ["files", "parquet", "webdataset"])
def test_what_img2dataset_leaves(layout: str, tmp_path: Path) -> None:
    """Its pictures, whatever its output format; never its links, which it has followed."""
    for shard_number in ("00000", "00001"):
        names = [f"{shard_number}000{n}" for n in range(2)]
        rows = {"url": [f"https://x.example/{n}" for n in names], "key": names}
        if layout == "parquet":
            rows["jpg"] = [PNG, PNG]  # type: ignore[assignment]
        put(tmp_path / f"{shard_number}_stats.json", b'{"count": 2}')
        pq.write_table(pa.table(rows), tmp_path / f"{shard_number}.parquet")
        members = {f"{n}.{end}": PNG for n in names for end in ("jpg", "txt", "json")}
        if layout == "files":
            for name, content in members.items():
                put(tmp_path / shard_number / name, content)
        elif layout == "webdataset":
            shard(tmp_path / f"{shard_number}.tar", members)

    manifest = opened(tmp_path)

    assert manifest.image == ("jpg" if layout == "parquet" else "image")
    assert manifest.format == {"files": "folder"}.get(layout, layout)
    assert len(rows_of(manifest)) == 4


def test_partitions_are_columns(tmp_path: Path) -> None:
    """As text, in prompts, `where` and tables; image paths count from where the table begins."""
    for part, name in (
        ("year=2024/split=a%20b", "0.png"),
        (f"year=2025/split={NO_VALUE}", "1.png"),
    ):
        table(tmp_path / "t" / part / "p.parquet", name)

    manifest = opened(tmp_path / "t", columns=("split",), id="year")

    rows = rows_of(manifest)
    assert [(row.image, row.id, row.columns["split"]) for row in rows] == [
        ("0.png", "2024", "a b"),
        ("1.png", "2025", None),
    ]
    assert manifest.folder == tmp_path / "t"
    columns = pa.Table.from_batches([batch for batch, _ in manifest.tables()]).to_pydict()
    assert columns["year"] == ["2024", "2025"]
    filtered = opened(tmp_path / "t", where="year > '2024'")
    assert [row.image for row in rows_of(filtered)] == ["1.png"]
    alone = opened(tmp_path / "t/year=2024/split=a%20b/p.parquet")
    assert set(alone.names) == {"image", "year", "split"}


def test_partitions_that_do_not_agree_are_no_columns(tmp_path: Path) -> None:
    """A column of the file's own goes before, and folders of other names say nothing."""
    for part in ("image=x", "split=a", "split=b", "c"):
        table(tmp_path / part / "p.parquet", "/p/0.png")
    for parts in (["image=x"], ["split=a", "c"], ["c"]):
        assert opened([tmp_path / part / "p.parquet" for part in parts]).names == ("image",)


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


def test_comments_in_a_list(tmp_path: Path) -> None:
    """`# words` is no picture, `#1.png` is."""
    path = put(tmp_path / "a.txt", b"\xef\xbb\xbf# my pictures\n\n#\n0.jpg\r\n#1.png\n# 2.png\n")

    assert [row.image for row in rows_of(opened(path))] == ["0.jpg", "#1.png"]
