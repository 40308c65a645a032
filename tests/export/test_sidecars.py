"""Text files where a trainer looks for them: each picture its own caption, no file of anybody else's
replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from pipeline.errors import Exit, OutputError, UsageError
from pipeline.export.base import Rows, Written
from pipeline.export.export import export
from pipeline.export.options import ExportOptions
from pipeline.export.ownership import Owned
from pipeline.export.pictures import Pictures
from pipeline.export.sidecar import write_beside
from tests.export.test_export import PNG

LONG = "猫" * 83  # 249 bytes: with its ending as long as a name may be


def rows_of(
    root: Path, captions: Mapping[Any, str], *, kind: pa.DataType | None = None, **how: Any
) -> Rows:
    """One row a cell; the key is the row's number."""
    columns = [
        pa.array(list(captions), kind or pa.string()),
        pa.array(list(captions.values())),
        pa.array([f"{at:032x}" for at in range(len(captions))]),
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=["url", "caption", "key"])
    pictures = Pictures(column="url", root=root)
    return Rows(
        schema=batch.schema,
        batches=iter([batch]),
        pictures=pictures,
        options=ExportOptions(**how),
    )


def pictures_at(root: Path, *names: str) -> dict[Any, str]:
    """Picture files, and a caption that names each."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG + name.encode())
    return {name: f"caption of {name}" for name in names}


def beside(rows: Rows, folder: Path) -> Written:
    owned = Owned(folder / "_state" / "sidecars.jsonl")
    try:
        return write_beside(rows, owned)
    finally:
        owned.close()


def texts(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text().strip() for p in folder.rglob("*.txt")}


def test_a_stem_belongs_to_the_picture_that_bears_it(tmp_path: Path) -> None:
    """`a.png.jpg` gets `a.png.txt` though `a.png`, a twin of `a.jpg`, came first."""
    captions = pictures_at(tmp_path / "p", "a.jpg", "a.png", "a.png.jpg")

    outcome = export(rows_of(tmp_path / "p", captions), tmp_path / "out", "sidecar")

    assert texts(tmp_path / "out") == {
        "a.txt": "caption of a.jpg",
        "a.png.txt": "caption of a.png.jpg",
        "a.png-00000000.txt": "caption of a.png",
    }
    assert outcome.rows == 3
    assert any(note.startswith("a.jpg and a.png share a stem") for note in outcome.notes)


def test_two_captions_of_one_picture(tmp_path: Path) -> None:
    """The first is where a trainer looks; the second is said."""
    columns = {"url": ["a.png"] * 2, "caption": ["first", "second"], "key": ["0" * 32, "1" * 32]}
    batch = pa.RecordBatch.from_pydict(columns)
    rows = Rows(
        schema=batch.schema,
        batches=iter([batch]),
        pictures=Pictures(column="url", root=tmp_path),
    )

    outcome = export(rows, tmp_path / "out", "sidecar")

    assert texts(tmp_path / "out") == {"a.txt": "first", "a.png.txt": "second"}
    assert outcome.notes == ["a.png has two captions; the caption of the second is in a.png.txt"]


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    """Too long: the row's key; a file in the place of a folder: refused by name. The rest is there."""
    captions = {
        LONG + ".jpg": "long",
        LONG + ".png": "its twin",
        "x" * 300 + ".jpg": "too long",
        "d" * 300 + "/1.jpg": "too long a folder",
        "v1.jpg": "a file",
        "v1.txt/1.jpg": "below a file",
        "https://x.example/" + "y" * 250 + ".jpg": "of a URL",
    }

    outcome = export(rows_of(tmp_path, captions), tmp_path / "out", "sidecar")

    made = texts(tmp_path / "out")
    assert made.pop(LONG + ".txt") == "long"
    assert made.pop("v1.txt") == "a file"
    assert made.pop("y" * 250 + ".txt") == "of a URL"
    assert made == {f"{at:032x}.txt": list(captions.values())[at] for at in (1, 2, 3)}
    assert outcome.refused == 1
    assert any("'v1.txt/1.jpg': no file is written for it" in note for note in outcome.notes)


def test_beside_is_beside_the_file_itself(tmp_path: Path) -> None:
    """In another folder than the manifest's, in the other normal form, behind a link, with a long
    name, in a file URL of bytes: where the picture is, by the name that it has there."""
    nfd, nfc = "cafe\u0301.jpg", "caf\u00e9.jpg"
    pictures_at(
        tmp_path, "img/1.jpg", f"meta/{nfd}", f"meta/{LONG}.jpg", "far/2.jpg", "meta/~t.jpg"
    )
    odd = tmp_path / "meta" / b"\xff.jpg".decode("utf-8", "surrogateescape")
    odd.write_bytes(PNG)
    (tmp_path / "meta/l.jpg").symlink_to(tmp_path / "far/2.jpg")
    cells = ["../img/1.jpg", nfc, f"{LONG}.jpg", "l.jpg", "./~t.jpg", odd.as_uri()]

    outcome = beside(rows_of(tmp_path / "meta", {cell: cell for cell in cells}), tmp_path)

    places = ["img/1", "meta/cafe\u0301", f"meta/{LONG}", "meta/l", "meta/~t"]
    made = texts(tmp_path)
    assert made.pop("meta/" + odd.stem + ".txt") == odd.as_uri()
    assert made == {f"{place}.txt": cell for place, cell in zip(places, cells, strict=False)}
    assert (outcome.rows, outcome.refused, outcome.notes) == (6, 0, [])


def test_beside_writes_nothing_where_no_picture_is(tmp_path: Path) -> None:
    """A picture that is gone is said; one whose bytes are in the manifest has no place, though a
    file of its name be there."""
    captions = pictures_at(tmp_path / "p", "here.jpg") | {"gone.jpg": "x"}
    outcome = beside(rows_of(tmp_path / "p", captions), tmp_path)
    assert texts(tmp_path / "p") == {"here.txt": "caption of here.jpg"}
    assert outcome.notes == ["'gone.jpg': no file is written for it: the picture is gone"]
    assert outcome.refused == 1

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    batch = pa.RecordBatch.from_arrays(
        [pa.array([{"bytes": b"another", "path": "here.jpg"}], kind), pa.array(["c"]), pa.array(["k"])],
        names=["url", "caption", "key"],
    )  # fmt: skip
    rows = Rows(
        schema=batch.schema,
        batches=iter([batch]),
        pictures=Pictures(column="url", root=tmp_path / "p"),
    )
    with pytest.raises(UsageError, match=r"here.jpg is no file of this machine"):
        beside(rows, tmp_path)


def test_a_text_of_somebody_else_stays_theirs(tmp_path: Path) -> None:
    """Also one that was equal to ours; what a crash left half done is ours again."""
    captions = pictures_at(tmp_path / "p", "a.jpg", "b.jpg")
    (tmp_path / "p/a.txt").write_text("caption of a.jpg\n")

    def export_with(word: str, **how: Any) -> Written:
        return beside(
            rows_of(tmp_path / "p", {k: word + v for k, v in captions.items()}, **how), tmp_path
        )

    assert export_with("").rows == 2
    assert export_with("new ").rows == 1
    assert texts(tmp_path / "p") == {"a.txt": "caption of a.jpg", "b.txt": "new caption of b.jpg"}
    # The ledger is ahead of the file, as after a crash between the two.
    ledger = tmp_path / "_state/sidecars.jsonl"
    with ledger.open("a") as file:
        file.write(json.dumps([str(tmp_path / "p/b.txt"), "0" * 64]) + "\n")
    lines = len(ledger.read_text().splitlines())
    assert export_with("newer ").rows == 1
    assert export_with("newer ").rows == 1
    assert len(ledger.read_text().splitlines()) == lines + 1, "a file that stays is not noted again"
    (tmp_path / "p/b.txt").write_text("by hand")
    assert export_with("newest ").rows == 0
    assert export_with("newest ", overwrite=True).rows == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """73, with the file and the reason: here a folder where the text is made."""
    captions = pictures_at(tmp_path / "p", "a.jpg")
    (tmp_path / "p" / f".caption-{os.getpid()}.tmp").mkdir()

    with pytest.raises(OutputError, match=r"a\.txt: Is a directory") as caught:
        beside(rows_of(tmp_path / "p", captions), tmp_path)
    assert caught.value.exit_code == Exit.OUTPUT


def test_kohya_names_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    """As sd-scripts looks for it: JSON by Python, then the file of that name."""
    odd = tmp_path / b"\xff \\.jpg".decode("utf-8", "surrogateescape")
    odd.write_bytes(PNG)

    export(rows_of(tmp_path, {odd.as_uri(): "猫"}), tmp_path / "m.json", "kohya")

    [(name, entry)] = json.loads((tmp_path / "m.json").read_text()).items()
    assert (Path(name).read_bytes(), entry) == (PNG, {"caption": "猫"})


def test_kohya_never_gives_a_picture_the_caption_of_another(tmp_path: Path) -> None:
    """Two URLs of one name, one picture with two captions: the first stays, the others are said."""
    captions = pictures_at(tmp_path, "a.jpg") | {
        "https://x.example/1.jpg": "one",
        "https://y.example/1.png": "other",
        "./a.jpg": "another of a",
        "n\0.jpg": "nul",
    }

    outcome = export(rows_of(tmp_path, captions), tmp_path / "m.json", "kohya")

    entries = json.loads((tmp_path / "m.json").read_text())
    assert entries == {
        str(tmp_path / "a.jpg"): {"caption": "caption of a.jpg"},
        "1": {"caption": "one"},
    }
    assert outcome.refused == 3


@pytest.mark.parametrize(
    "format", ["sidecar", "webdataset", "hf", "imagefolder"]
)  # as in the product
def test_overwrite_takes_only_shards_of_its_own(tmp_path: Path, format: str) -> None:  # noqa: A002
    """Shards that somebody else put into DEST stay, as a hub's clone or img2dataset's folder; those of
    an earlier export of the same format go."""
    root, dest = tmp_path / "p", tmp_path / "dest"
    captions = pictures_at(root, *(f"{at}.jpg" for at in range(6)))
    dest.mkdir()
    others = [dest / "000007.tar", dest / "train-00000-of-00009.parquet", dest / "index.json"]
    for other in others:
        other.write_text("theirs")

    export(rows_of(root, captions, overwrite=True, shard_rows=2), dest, format)

    assert [p.read_text() for p in others[:2]] == ["theirs"] * 2
    assert format == "webdataset" or others[2].read_text() == "theirs"
    for other in others:
        other.unlink(missing_ok=format != "webdataset")
    export(rows_of(root, captions, overwrite=True, shard_rows=2), tmp_path / "again", format)
    export(rows_of(root, captions, overwrite=True, shard_rows=3), tmp_path / "again", format)
    assert len([p for p in (tmp_path / "again").iterdir() if p.suffix in (".tar", ".parquet")]) == (
        2 if format in ("webdataset", "hf") else 0
    )


def test_shards_are_no_larger_than_asked(tmp_path: Path) -> None:
    """The file as it is, its end included; one row at least."""
    captions = pictures_at(tmp_path / "p", *(f"{at}.jpg" for at in range(40)))

    export(rows_of(tmp_path / "p", captions, shard_size=31_000), tmp_path / "w", "webdataset")

    sizes = [p.stat().st_size for p in sorted((tmp_path / "w").glob("*.tar"))]
    assert max(sizes) <= 31_000
    assert len(sizes) == 5, "nine rows of 3,072 bytes, and the end up to a whole 10,240"


def test_imagefolder_with_columns_that_the_loader_takes_for_files(tmp_path: Path) -> None:
    """Inside of objects and lists too; no column is lost to another of the new name."""
    pictures_at(tmp_path / "p", "0.jpg")
    row = {
        "url": "0.jpg", "caption": "a file_name", "key": "0" * 32, "image": "i", "manifest_image": "m",
        "objects": [{"file_name": "x.jpg", "mask_file_name": "y"}], "coco": {"file_names": ["z"]},
    }  # fmt: skip
    batch = pa.RecordBatch.from_pylist([row])
    rows = Rows(
        schema=batch.schema,
        batches=iter([batch]),
        pictures=Pictures(column="url", root=tmp_path / "p"),
    )

    export(rows, tmp_path / "out", "imagefolder")

    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c")
    )[0]
    assert loaded.pop("image").size == (1, 1)
    assert loaded == {
        "url": "0.jpg", "caption": "a file_name", "key": "0" * 32, "manifest_image_": "i",
        "manifest_image": "m", "objects": [{"filename": "x.jpg", "mask_filename": "y"}],
        "coco": {"filenames": ["z"]},
    }  # fmt: skip
