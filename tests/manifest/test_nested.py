"""Nested manifests: values inside columns by names with dots, and JSON that is one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import JobError, ManifestError
from tests.manifest.made import opened, rows_of
from tests.support.command import pipeline

ROWS: list[dict[str, Any]] = [
    {"id": n, "data": {"image": {"url": f"{n}.png", "w": 4}, "tag": f"t{n}"}} for n in range(3)
]


def _lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def written(folder: Path, name: str, rows: list[Any] = ROWS) -> Path:
    path = folder / name
    match path.suffix:
        case ".jsonl":
            _lines(path, rows)
        case ".json":
            path.write_text(json.dumps(rows, indent=1))
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.parquet"])
def test_a_picture_inside_of_a_column(name: str, tmp_path: Path) -> None:
    """Image, id and prompt by names with dots; the dataset keeps the column and shows the image."""
    for row in ROWS:
        Image.new("RGB", (8, 8)).save(tmp_path / row["data"]["image"]["url"])
    written(tmp_path, name)
    (tmp_path / "job.yaml").write_text(
        f"manifest: {{path: {name}, image: data.image.url, id: data.tag}}\n"
        'prompt: {text: "A {data.tag} of {data.image.w}."}\n'
        "endpoint: {profile: embedded, model: embedded/pixels}\noutput: {path: out}\n"
    )

    ran = pipeline("run", "job.yaml", cwd=tmp_path)
    done = pipeline("export", "job.yaml", "files", "--format", "imagefolder", cwd=tmp_path)

    assert (ran.code, done.code) == (0, 0), ran.err + done.err
    rows = pq.read_table(tmp_path / "out/dataset.parquet").to_pylist()
    assert [row["data.image.url"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert all(row["data"] for row in rows)
    assert len(list((tmp_path / "files").rglob("*.png"))) == 3
    names = ("data.tag", "data.image.w")
    manifest = opened(tmp_path / name, image="data.image.url", id="data.tag", columns=names)
    assert [(r.id, *map(str, r.columns.values())) for r in rows_of(manifest)][1] == (
        "t1",
        "t1",
        "4",
    )


def test_a_row_without_the_value_has_no_image(tmp_path: Path) -> None:
    """Null on the way, or another kind of value."""
    rows = [*ROWS, {"id": 3, "data": None}, {"id": 4, "data": {"image": "x"}}]
    path = written(tmp_path, "m.jsonl", rows)

    bad = [row.bad for row in rows_of(opened(path, image="data.image.url"))]

    assert bad == [None] * 3 + ["column 'data.image.url': no image"] * 2


def test_a_list_of_one_picture_inside_of_a_column(tmp_path: Path) -> None:
    """`data.images` with one name each."""
    rows = [{"data": {"images": [f"{n}.png"]}} for n in range(2)]
    for name in ("m.jsonl", "m.parquet"):
        manifest = opened(written(tmp_path, name, rows), image="data.images")
        assert [row.image for row in rows_of(manifest)] == ["0.png", "1.png"]


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_a_name_that_leads_nowhere_is_refused(name: str, tmp_path: Path) -> None:
    """As one without dots is."""
    path = written(tmp_path, name)

    with pytest.raises(ManifestError, match=r"no column 'data\.picture'"):
        opened(path, image="data.picture")
    with pytest.raises(JobError, match=r"no column 'id\.x'"):
        opened(path, image="data.image.url", columns=("id.x",))


@pytest.mark.parametrize("orient", ["columns", "index", "split", "list"])
def test_an_object_of_columns_is_refused_with_the_remedy(orient: str, tmp_path: Path) -> None:
    """What pandas writes when it is not told how."""
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "title": ["a", "b"]})
    how: Any = orient
    content = json.dumps(frame.to_dict("list")) if orient == "list" else frame.to_json(orient=how)
    (tmp_path / "m.json").write_text(str(content))

    with pytest.raises(ManifestError, match=r'of columns.*orient="records"'):
        opened(tmp_path / "m.json")

    frame.to_json(tmp_path / "m.json", orient="records")
    assert len(rows_of(opened(tmp_path / "m.json"))) == 2


@pytest.mark.parametrize("indent", [None, 1])
def test_the_list_inside_of_an_object_is_read(indent: int | None, tmp_path: Path) -> None:
    """`{"images": [{…}]}`, on one line and on many; of several lists none is guessed."""
    rows = [{"file_name": f"{n}.jpg", "caption": "c"} for n in range(2)]
    whole: dict[str, Any] = {"info": {"year": 2020}, "images": rows}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(whole, indent=indent))

    assert [row.image for row in rows_of(opened(path))] == ["0.jpg", "1.jpg"]

    path.write_text(json.dumps(whole | {"more": [{"file_name": "x.jpg", "n": 1}]}, indent=indent))
    with pytest.raises(ManifestError, match="the lists 'images', 'more'"):
        opened(path)


def test_a_large_object_is_named(tmp_path: Path) -> None:
    """It is not read whole; what to write instead is said."""
    rows = [{"file_name": f"{n}.jpg", "caption": "c" * 1_000} for n in range(20_000)]
    (tmp_path / "m.json").write_text(json.dumps({"images": rows}, indent=1))

    with pytest.raises(ManifestError, match="one object of more than 16 MiB; write the list"):
        opened(tmp_path / "m.json")


@pytest.mark.parametrize(
    "row",
    [
        {"image": "a.jpg", "talk": [{"from": "human"}, {"from": "gpt"}]},
        {"images": ["a.jpg"], "tags": ["x"]},
        {"image": {"path": "a.jpg"}},
    ],
    ids=str,
)
def test_one_line_is_one_row(row: dict[str, Any], tmp_path: Path) -> None:
    """A file of a single row is not taken for an object around rows."""
    _lines(tmp_path / "m.jsonl", [row])

    assert len(rows_of(opened(tmp_path / "m.jsonl"))) == 1
