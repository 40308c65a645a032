"""Tar shards as people make them: every picture is a row, every text finds its picture."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.manifest.made import opened, rows_of, shard

PNG = b"\x89PNG\r\n\x1a\n" + bytes(30)
#: What is special -> members, and (member, txt) of each row.
SHARDS: dict[str, tuple[list[str], list[tuple[str, str | None]]]] = {
    "dots in names": (
        ["22.05.png", "22.05.txt", "22.10.png", "22.10.txt", "plain.png", "plain.txt"],
        [("22.05.png", "22.05.txt"), ("22.10.png", "22.10.txt"), ("plain.png", "plain.txt")],
    ),
    "dots and a name without": (
        ["1.jpg", "1.1.jpg", "1.2.jpg"], [("1.jpg", None), ("1.1.jpg", None), ("1.2.jpg", None)],
    ),
    "two endings": (["a.jpg", "a.png", "a.txt"], [("a.jpg", "a.txt"), ("a.png", "a.txt")]),
    "beside": (["1.depth.png", "1.jpg", "1.mask.png", "1.txt"], [("1.jpg", "1.txt")]),
    "texts behind": (
        ["0.jpg", "1.jpg", "2.jpg", "0.txt", "1.txt", "2.txt"],
        [("0.jpg", "0.txt"), ("1.jpg", "1.txt"), ("2.jpg", "2.txt")],
    ),
    "texts before": (["0.txt", "1.txt", "0.jpg", "1.jpg"], [("0.jpg", "0.txt"), ("1.jpg", "1.txt")]),
    "some without a text": (
        ["0.jpg", "1.jpg", "1.txt", "2.jpg", "0.txt"],
        [("0.jpg", "0.txt"), ("1.jpg", "1.txt"), ("2.jpg", None)],
    ),
    "a Mac's": (
        ["./._0.jpg", "./0.jpg", "./0.txt", "__MACOSX/._0.jpg", ".x/1.jpg", "@eaDir/0.jpg"],
        [("./0.jpg", "./0.txt")],
    ),
    "neighbours": (["1.jpg", "1.txt", "2.jpg", "2.txt"], [("1.jpg", "1.txt"), ("2.jpg", "2.txt")]),
}  # fmt: skip


@pytest.mark.parametrize("what", SHARDS)
def test_each_picture_is_a_row_with_its_text(what: str, tmp_path: Path) -> None:
    """With and without the text among the wanted columns: the same rows in the same order."""
    members, expected = SHARDS[what]
    path = shard(tmp_path / "s.tar", {n: PNG if n[-3:] != "txt" else n.encode() for n in members})

    rows = rows_of(opened(path, columns=("txt",)))

    assert [(row.image, row.columns["txt"]) for row in rows] == [
        (f"tar://{name}::{path}", text) for name, text in expected
    ]
    assert [row.image for row in rows_of(opened(path))] == [row.image for row in rows]
    tables = [row.image for _, beside in opened(path).tables() for row in beside]
    assert tables == [row.image for row in rows]


def test_what_belongs_to_no_row_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts without a picture and pictures that accompany another are said, once."""
    members = {"1.jpg": PNG, "1.depth.png": PNG, "b/1.txt": b"x", "b/2.txt": b"y"}
    manifest = opened(shard(tmp_path / "s.tar", members), columns=("txt",))

    with caplog.at_level(logging.WARNING, "pipeline"):
        assert len(rows_of(manifest)) == len(rows_of(manifest)) == 1

    pictures, texts = sorted((r.getMessage() for r in caplog.records), key=lambda m: "texts" in m)
    assert "2 texts belong to no picture, e.g. 'b/1'" in texts
    assert "1 pictures accompany another and are no rows, e.g. '1.depth.png'" in pictures


def test_many_pictures_under_one_first_dot(tmp_path: Path) -> None:
    """A name that begins with a date: 3,000 rows, each with its text, none of them lost."""
    names = [f"2024.05.01-{i:04}" for i in range(3_000)]
    members = {
        f"{n}.{end}": PNG if end == "jpg" else n.encode() for n in names for end in ("jpg", "txt")
    }

    rows = rows_of(opened(shard(tmp_path / "s.tar", members), columns=("txt", "__key__")))

    assert [row.columns["txt"] for row in rows] == names
    assert [row.columns["__key__"] for row in rows] == names
