"""Cells that wrap their picture: base64 without a head, lists of one, JSON text; by the real command."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.manifest.made import opened, rows_of
from tests.support.command import pipeline


def picture(form: str, number: int, side: int = 40) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 40 + number).convert("RGB").save(file, form)
    return file.getvalue()


def captioned(folder: Path, manifest: str, prompt: str = "Describe it.") -> list[dict[str, Any]]:
    """The dataset of a run over a manifest, whatever its exit code."""
    (folder / "job.yaml").write_text(
        f"manifest: {{path: {manifest}}}\nprompt: {{text: {json.dumps(prompt)}}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\noutput: {path: out}\n"
    )
    done = pipeline("run", "job.yaml", cwd=folder)
    assert done.code in (0, 1), done.err
    rows: list[dict[str, Any]] = pq.read_table(folder / "out/dataset.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF"])
def test_plain_base64_is_the_picture(form: str, tmp_path: Path) -> None:
    """Short, longer than a URL may be, with line breaks, in the alphabet of URLs, without padding, as
    Python prints bytes."""
    short, large = picture(form, 0, 8), picture(form, 1, 250)
    texts = [
        base64.b64encode(short).decode(),
        base64.b64encode(large).decode(),
        base64.encodebytes(large).decode(),
        base64.urlsafe_b64encode(large).decode().rstrip("="),
        str(base64.b64encode(large)),
    ]
    assert len(texts[1]) > 8_192
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"image": t}) + "\n" for t in texts))

    assert [row.image for row in rows_of(opened(tmp_path / "m.jsonl"))] == [short, *[large] * 4]


def test_blanks_before_a_data_uri_are_none_of_it(tmp_path: Path) -> None:
    """In a table whose cells stand behind `, `; also longer than a URL may be."""
    uris = [
        f"data:image/png;base64,{base64.b64encode(picture('PNG', n, 8 + 240 * n)).decode()}"
        for n in range(2)
    ]
    (tmp_path / "m.csv").write_text("id|image\n" + "".join(f"1| {uri} \n" for uri in uris))

    assert [row.image for row in rows_of(opened(tmp_path / "m.csv"))] == uris


def test_what_stands_around_a_url_or_a_list_is_none_of_it(tmp_path: Path) -> None:
    """Brackets of mails, quotes, a list as Python prints it; of two it is a bad row."""
    url = "https://x.example/a.jpg"
    cells = [f"<{url}>", f"'{url}'", f"['{url}']", "['a.jpg']", f"['{url}', 'b.jpg']"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"image": c}) + "\n" for c in cells))

    rows = rows_of(opened(tmp_path / "m.jsonl"))

    assert [row.image for row in rows[:4]] == [url, url, url, "a.jpg"]
    assert [row.bad for row in rows[:4]] == [None] * 4
    assert rows[4].bad == "column 'image': a list of 2 pictures; a row holds one"


def test_a_table_of_base64_is_captioned_and_exported(tmp_path: Path) -> None:
    """A TSV as benchmarks are handed out; the pictures come out as files."""
    pictures = [picture("JPEG", n, 200) for n in range(3)]
    lines = [f"{n}\t{base64.b64encode(p).decode()}\twhat?" for n, p in enumerate(pictures)]
    (tmp_path / "m.tsv").write_text("\n".join(["index\timage\tquestion", *lines, ""]))

    rows = captioned(tmp_path, "m.tsv")
    done = pipeline("export", "job.yaml", "files", "--format", "imagefolder", cwd=tmp_path)

    assert [row["status"] for row in rows] == ["ok"] * 3
    assert done.code == 0, done.err
    assert sorted(p.read_bytes() for p in (tmp_path / "files").rglob("*.jpg")) == sorted(pictures)


@pytest.mark.parametrize(
    "text",
    ["/9j/photo", "/9j/4AAQSkZJRgABAQ", "UklGRg", "iVBORw0KGgo", "R0lGODlh", "[1]", "[x].png"],
)
def test_a_text_that_only_begins_so_stays_a_path(text: str, tmp_path: Path) -> None:
    """It is no picture when it is decoded; a file may be called so."""
    (tmp_path / "m.csv").write_text(f"image\n{text}\n")

    assert [(row.image, row.bad) for row in rows_of(opened(tmp_path / "m.csv"))] == [(text, None)]


def test_a_cell_of_no_use_is_cut_in_its_record(tmp_path: Path) -> None:
    """Its record says why it is bad, and keeps no more of it than shows what it was."""
    pq.write_table(pa.table({"image": ["/9j/" + "a" * 9_000]}), tmp_path / "m.parquet")
    captioned(tmp_path, "m.parquet")

    record = pq.read_table(tmp_path / "out/failures").to_pylist()[0]

    assert (record["error_code"], len(record["image"])) == ("bad_row", 200)


def test_lists_of_one_picture_are_taken(tmp_path: Path) -> None:
    """Hugging Face's `images: [{bytes, path}]`: found by the rule, captioned, exported as files."""
    pictures = [picture("PNG", n) for n in range(2)]
    cells = [[{"bytes": p, "path": f"{n}.png"}] for n, p in enumerate(pictures)]
    cells += [[], cells[0] + cells[1], None]
    table = pa.table({"images": cells, "text": list("abcde"), "tags": [["x"]] * 5})
    pq.write_table(table, tmp_path / "m.parquet")

    rows = captioned(tmp_path, "m.parquet")
    done = pipeline("export", "job.yaml", "files", "--format", "imagefolder", cwd=tmp_path)

    assert [row["status"] for row in rows] == ["ok"] * 2 + ["failed"] * 3
    assert [row["error"] for row in rows[2:]] == [
        "column 'images': an empty list",
        "column 'images': a list of 2 pictures; a row holds one",
        "column 'images': no image",
    ]
    assert [row["images"] for row in rows] == ["0.png", "1.png", None, None, None]
    assert done.code == 0, done.err
    assert sorted(p.read_bytes() for p in (tmp_path / "files").rglob("*.png")) == sorted(pictures)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 1),
        pa.list_(pa.binary()),
        pa.list_(pa.string_view()),
    ],
    ids=str,
)
def test_lists_of_every_form(kind: pa.DataType, tmp_path: Path) -> None:
    """The one element of each, whatever list it is in; a null one is an empty cell."""
    cell: Any = picture("PNG", 0) if pa.types.is_binary(kind.value_type) else "a/0.png"
    column = pa.array([[cell], [None], None, [cell]], kind)
    pq.write_table(pa.table({"pics": column, "n": range(4)}), tmp_path / "m.parquet")

    rows = rows_of(opened(tmp_path / "m.parquet"))

    assert [row.image for row in rows] == [cell, None, None, cell]
    assert [row.bad is None for row in rows] == [True, False, False, True]


@pytest.mark.parametrize(
    ("cell", "image", "bad"),
    [
        (["0.jpg"], "0.jpg", None),
        ([{"path": "0.jpg"}], "0.jpg", None),
        ([{"bytes": None, "path": "0.jpg"}], "0.jpg", None),
        ([], "[]", "an empty list"),
        (["0.jpg", "1.jpg"], '["0.jpg","1.jpg"]', "a list of 2 pictures"),
    ],
    ids=str,
)
def test_lists_in_json(cell: object, image: str, bad: str | None, tmp_path: Path) -> None:
    """`"images": ["0.jpg"]`, in JSON lines and in an array."""
    rows = [{"images": ["9.jpg"], "title": "t"}, {"images": cell, "title": "u"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "m.json").write_text(json.dumps(rows, indent=1))

    for name in ("m.jsonl", "m.json"):
        manifest = opened(tmp_path / name)
        row = rows_of(manifest)[1]
        assert (manifest.image, row.image) == ("images", image)
        assert (row.bad is None) if bad is None else (bad in str(row.bad))


def test_a_picture_in_json_by_its_bytes(tmp_path: Path) -> None:
    """`{"bytes": base64, "path": …}`, as tables of pictures are written to JSON."""
    content = picture("PNG", 0)
    cell = {"bytes": base64.b64encode(content).decode(), "path": "0.png"}
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": cell}) + "\n")

    assert [row.image for row in rows_of(opened(tmp_path / "m.jsonl"))] == [content]
