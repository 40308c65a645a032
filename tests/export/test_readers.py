"""What other people's readers make of every export: 16 hard captions, 10 hard names, three kinds of
manifest, each caption with its own picture."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import schema
from pipeline.captioning.inputs import inspect_manifest
from pipeline.commands.export import export_command
from pipeline.config.job import load_job
from pipeline.export.captioned import one_line
from pipeline.export.options import ExportOptions, ExportRequest
from pipeline.model import Record

CAPTIONS = [
    "A cat.\n\nIt sits on a mat.", "- a dog\n- a ball", 'He said "no", then\tleft;', "=1+1",
    "שלום עולם \u202eabc", "A\r\nB\rC", "sep\u2028line\u2029end\x85", "x" * 100_000,
    "emoji 👩‍👩‍👧 🇩🇪", "**Bold** `code` <b>html</b> {\"a\": 1}", "'quoted'", "NaN", "007",
    "\ufeffbom", "back\\slash\\n", "null",
]  # fmt: skip
NAMES = [
    "IMG 0001 (1).png", "猫.png", "cafe\u0301.png", "a,b+c;'d'.png", "-dash.png", "test.png",
    "100% [x] #1.png", "v1.2.final.png", "_valid_.png", "q\"uote&amp.png",
]  # fmt: skip


def picture(at: int) -> bytes:
    """A picture that says which one it is."""
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (at % 256, at // 256, 99)).save(held, "png")
    return held.getvalue()


def at_of(image: Any) -> int:
    """Which picture this is."""
    red, green, _ = image.convert("RGB").getpixel((0, 0))
    return int(red + 256 * green)


@dataclass(frozen=True)
class Made:
    """A job whose output holds a caption for every row."""

    folder: Path
    job: Any
    #: Paths below `folder / "train"`, in the manifest's order, and their captions.
    captions: dict[str, str]

    def export(self, name: str, format: str, **how: Any) -> Path:  # noqa: A002 - as in the product
        dest = self.folder / f"{format}-{name}"
        assert export_command(self.job, ExportRequest(dest=dest, format=format, **how)) == 0
        return dest

    def number(self, at: int) -> str:
        """The caption of a picture."""
        return list(self.captions.values())[at]


def rows() -> dict[str, str]:
    """Each caption with each name, every caption in a folder of its own."""
    return {
        f"{number:02d}_dir/{name}": caption
        for number, caption in enumerate(CAPTIONS)
        for name in NAMES
    }


def folder_manifest(folder: Path, order: list[str]) -> str:
    return "train"


def csv_manifest(folder: Path, order: list[str]) -> str:
    frame = pd.DataFrame({"image_path": order, "Caption": "old", "n": range(len(order))})
    frame.to_csv(folder / "m.csv", index=False)
    return "m.csv"


def hub_manifest(folder: Path, order: list[str]) -> str:
    cells = [{"bytes": (folder / "train" / path).read_bytes(), "path": path} for path in order]
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]), key=datasets.Value("string"),
        mask=datasets.Image(), crops=datasets.Sequence(datasets.Image()),
    )  # fmt: skip
    made = {"image": cells, "label": [at % 2 for at in range(len(order))], "key": order}
    made["mask"] = [{"bytes": picture(at + 7), "path": None} for at in range(len(order))]
    made["crops"] = [[mask] for mask in made["mask"]]
    datasets.Dataset.from_dict(made, features=features).to_parquet(folder / "m.parquet")
    return "m.parquet"


KINDS = {"folder": folder_manifest, "csv": csv_manifest, "hub": hub_manifest}


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A finished output of one kind of manifest."""
    folder = tmp_path_factory.mktemp(request.param)
    captions = dict(sorted(rows().items()))
    for at, path in enumerate(captions):
        (folder / "train" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / path).write_bytes(picture(at))
    manifest = KINDS[request.param](folder, list(captions))
    text = {
        "manifest": {"path": str(folder / manifest)},
        "images": {"root": str(folder / "train")},
        "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
        "output": {"path": str(folder / "out")},
    }
    (folder / "job.yaml").write_text(json.dumps(text))
    job = load_job(folder / "job.yaml", (), {})
    opened, naming = inspect_manifest(job)
    listed = [row for batch in opened.batches() for row in batch]
    paths = [cell["path"] if isinstance(cell := row.image, dict) else str(cell) for row in listed]
    assert paths == list(captions)
    records = [
        Record(key=naming.key(row), recipe=naming.recipe, id=None, image=path, caption=captions[path], status="ok")
        for row, path in zip(listed, paths, strict=True)
    ]  # fmt: skip
    (folder / "out" / "captions").mkdir(parents=True)
    pq.write_table(
        schema.records_table(records), folder / "out" / "captions" / "part-00000001.parquet"
    )
    return Made(folder, job, captions)


def column(made: Made) -> str:
    """Where the captions are: the CSV has a column of that name, in other letters."""
    return "caption_new" if (made.folder / "m.csv").exists() else "caption"


def test_parquet(made: Made) -> None:
    """pandas, polars, DuckDB and datasets, the manifest's own columns as they were."""
    path, name = made.export("x.parquet", "parquet"), column(made)
    want = list(made.captions.values())

    assert pd.read_parquet(path)[name].tolist() == want
    assert pl.read_parquet(path)[name].to_list() == want
    assert [c for (c,) in duckdb.sql(f"SELECT {name} FROM '{path}'").fetchall()] == want
    loaded = loaded_with("parquet", made, data_files=str(path))
    assert loaded[name][:] == want
    assert "mask" not in loaded.column_names  # no picture's bytes, and no nulls in their place
    if name != "caption":
        assert set(pd.read_parquet(path)["Caption"]) == {"old"}
        assert "Caption" in loaded.column_names


@pytest.mark.parametrize("format", ["parquet", "hf"])  # as in the product
def test_parquet_with_pictures(made: Made, format: str) -> None:  # noqa: A002
    """datasets gives each picture with its caption; classes stay classes."""
    if format == "hf":
        options = ExportOptions(shard_rows=70)
        path = made.export("hub", "hf", options=options)
        names = sorted(p.name for p in path.iterdir())
        assert names == ["README.md", *(f"train-{n:05d}-of-00003.parquet" for n in range(3))]
        loaded = loaded_with(str(path), made)
    else:
        path = made.export("i.parquet", "parquet", options=ExportOptions(images=True))
        loaded = loaded_with("parquet", made, data_files=str(path))
        assert pq.ParquetFile(path).metadata.row_group(0).num_rows == 100

    assert [at_of(row["image"]) for row in loaded] == list(range(len(made.captions)))
    assert loaded[column(made)][:] == list(made.captions.values())
    if "label" in loaded.features:
        assert loaded.features["label"] == datasets.ClassLabel(names=["cat", "dog"])
        assert loaded["key"][:] == list(made.captions)
        count = len(made.captions)
        assert [at_of(row["mask"]) for row in loaded] == list(range(7, count + 7))
        assert [at_of(row["crops"][0]) for row in loaded] == list(range(7, count + 7))
        assert "key_new" in loaded.column_names


def test_jsonl(made: Made) -> None:
    """Plain JSON, pandas, polars and DuckDB."""
    path, name = made.export("x.jsonl", "jsonl"), column(made)
    want = list(made.captions.values())

    with path.open(newline="") as file:
        assert [json.loads(line)[name] for line in file.read().split("\n")[:-1]] == want
    read = pd.read_json(path, lines=True, dtype=False)
    assert read[name].tolist() == want
    assert pl.read_ndjson(path)[name].to_list() == want
    assert [c for (c,) in duckdb.sql(f"SELECT {name} FROM '{path}'").fetchall()] == want
    assert loaded_with("json", made, data_files=str(path))[name][:] == want


@pytest.mark.parametrize("format", ["csv", "tsv"])  # as in the product
def test_delimited(made: Made, format: str) -> None:  # noqa: A002
    """pandas, polars and DuckDB; what looks like a formula only with --raw-cells as it was."""
    options = ExportOptions(raw_cells=True)
    path, name = made.export(f"x.{format}", format, options=options), column(made)
    want, sep = list(made.captions.values()), "," if format == "csv" else "\t"

    read = pd.read_csv(path, sep=sep, keep_default_na=False, dtype=str)
    assert read[name].tolist() == want
    assert pl.read_csv(path, separator=sep, infer_schema=False)[name].to_list() == want
    sql = f"SELECT {name} FROM read_csv('{path}', all_varchar=true, delim='{sep}', quote='\"', max_line_size=1000000)"
    assert [c for (c,) in duckdb.sql(sql).fetchall()] == want


def first_line(path: Path) -> str:
    """A caption as sd-scripts reads it."""
    with path.open(encoding="utf-8") as file:
        return file.readlines()[0].strip()


def test_sidecars(made: Made, tmp_path: Path) -> None:
    """By stem, the first line, beside the picture and in a folder: none missing, none of another."""
    out = made.export("side", "sidecar")
    beside = ExportRequest(dest=None, beside=True)
    if not (made.folder / "m.parquet").exists():
        assert export_command(made.job, beside) == 0

    for path, caption in made.captions.items():
        stem = Path(path).with_suffix(".txt")
        assert first_line(out / stem) == one_line(caption)
        if not (made.folder / "m.parquet").exists():
            assert first_line(made.folder / "train" / stem) == one_line(caption)
            (made.folder / "train" / stem).unlink()
    assert len(list(out.rglob("*.txt"))) == len(made.captions)


def test_kohya(made: Made) -> None:
    """Each picture's own entry, by its whole path."""
    entries = json.loads(made.export("meta.json", "kohya").read_text())

    found = {name: entry["caption"] for name, entry in entries.items()}
    train = made.folder / "train"
    assert found == {str(train / path): one_line(text) for path, text in made.captions.items()}


def test_imagefolder(made: Made) -> None:
    """datasets: every picture with its caption in one split, whatever the files were called."""
    loaded = loaded_with("imagefolder", made, data_dir=str(made.export("test", "imagefolder")))

    assert [at_of(row["image"]) for row in loaded] == list(range(len(made.captions)))
    assert loaded[column(made)][:] == list(made.captions.values())


READ_SHARDS = """
import json, sys, webdataset
for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False).decode("pil"):
    red, green, _ = sample["png"].getpixel((0, 0))
    print(json.dumps([red + 256 * green, sample["txt"], sample["json"]]))
"""


def test_webdataset(made: Made) -> None:
    """The library itself and datasets, over shards whose sizes are told."""
    out = made.export("wds", "webdataset", options=ExportOptions(shard_rows=70))
    shards = [str(path) for path in sorted(out.glob("*.tar"))]
    assert json.loads((out / "sizes.json").read_text()) == {
        f"00000{n}.tar": s for n, s in enumerate((70, 70, 20))
    }
    index = json.loads((out / "index.json").read_text())["shardlist"]
    assert [one["filesize"] for one in index] == [Path(path).stat().st_size for path in shards]

    # In a process of its own: the library leaves its shards open.
    read = subprocess.run(
        [sys.executable, "-c", READ_SHARDS, *shards], capture_output=True, text=True, check=True
    )
    samples = [json.loads(line) for line in read.stdout.splitlines()]
    assert {at: text for at, text, _ in samples} == dict(enumerate(made.captions.values()))
    assert all(columns[column(made)] == text for _, text, columns in samples)
    loaded = loaded_with("webdataset", made, data_files=shards)
    assert sorted(loaded["txt"][:]) == sorted(made.captions.values())


def loaded_with(kind: str, made: Made, **how: Any) -> datasets.Dataset:
    """By `datasets`, everything in one split."""
    loaded = datasets.load_dataset(kind, cache_dir=str(made.folder / "cache"), **how)
    assert list(loaded) == ["train"]
    return loaded["train"]
