"""`export` as a user meets it: exit codes, last lines, what stands beside what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.command import pipeline, simulator, start, until, write_job


def photos(folder: Path, names: list[str]) -> Path:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (at * 25, 0, 99)).save(folder / name)
    return folder


def embedded(folder: Path, manifest: str, **more: Any) -> Path:
    job = {
        "manifest": {"path": manifest},
        "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
        "output": {"path": "out"},
        **more,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


def test_a_training_folder(tmp_path: Path) -> None:
    """Ten of ten captions stand where a trainer looks; twins are named; what is not ours is kept."""
    names = ["10_cat/IMG 0001 (1).jpg", "10_cat/猫.png", "10_cat/1.jpg", "20_dog/1.jpg", "20_dog/twin.jpg", "20_dog/twin.png"]  # fmt: skip
    photos(tmp_path / "train", names)
    (tmp_path / "train/20_dog/1.txt").write_text("by hand")
    embedded(tmp_path, "train")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    first = pipeline("export", "job.yaml", "--beside", "--prefix", "sks, ", cwd=tmp_path)
    again = pipeline("export", "job.yaml", "--beside", "--suffix", ", photo", cwd=tmp_path)
    over = pipeline("export", "job.yaml", "--beside", "--overwrite", cwd=tmp_path)

    assert (first.code, again.code, over.code) == (0, 0, 0)
    assert "20_dog/1.txt: kept, this job did not write it; --overwrite replaces it" in first.out
    assert "twin.jpg and 20_dog/twin.png share a stem" in first.out
    assert "5 files beside the pictures, 6 of 6 captioned" in again.out
    table = duckdb.sql(f"SELECT image, caption FROM '{tmp_path}/out/dataset.parquet'").fetchall()
    for image, caption in table:
        stem = "20_dog/twin.png" if image == "20_dog/twin.png" else image.rpartition(".")[0]
        assert (tmp_path / "train" / f"{stem}.txt").read_text() == caption + "\n"
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0
    (tmp_path / "train/20_dog/1.txt").write_text("by hand, again")
    edited = pipeline("export", "job.yaml", "--beside", cwd=tmp_path)
    assert "20_dog/1.txt: kept, edited since this job wrote it (`review JOB`" in edited.out
    assert (tmp_path / "train/20_dog/1.txt").read_text() == "by hand, again"
    assert "sks" not in "".join(p.read_text() for p in (tmp_path / "train").rglob("*.txt"))
    refused = pipeline("export", "job.yaml", "--beside", "--format", "csv", cwd=tmp_path)
    assert (refused.code, "--beside writes sidecars" in refused.err) == (64, True)


def test_a_captioned_set_captioned_again(tmp_path: Path) -> None:
    """The manifest's columns stay, in capitals too; ours get `_new`, or the job's prefix; the last
    lines say so, and SQL reads the new captions."""
    photos(tmp_path, ["0.jpg", "1.jpg"])
    table = pa.table({"image_path": ["0.jpg", "1.jpg"], "Caption": ["old"] * 2, "caption_new": ["older"] * 2, "WIDTH": [1, 2], "Key": ["a", "b"]})  # fmt: skip
    pq.write_table(table, tmp_path / "m.parquet")
    embedded(tmp_path, "m.parquet")

    ran = pipeline("run", "job.yaml", cwd=tmp_path)
    exported = pipeline("export", "job.yaml", "x.csv", cwd=tmp_path)

    assert ran.err.splitlines()[-1].endswith(
        "out/dataset.parquet: captions are in column caption_new2"
    )
    assert exported.out == "x.csv: 2 rows, 2 of 2 captioned; captions are in column caption_new2\n"
    names = pq.read_schema(tmp_path / "out/dataset.parquet").names
    assert len({name.lower() for name in names}) == len(names)
    found = duckdb.sql(
        f"SELECT caption, caption_new2, width_new FROM '{tmp_path}/out/dataset.parquet'"
    ).fetchall()
    assert [(old, new != "old", width) for old, new, width in found] == [("old", True, 64)] * 2

    again = pipeline("run", "job.yaml", "--set", "output.prefix=my_", cwd=tmp_path)
    assert again.err.splitlines()[-1].endswith("captions are in column my_caption")
    assert "my_status" in pq.read_schema(tmp_path / "out/dataset.parquet").names


def test_types_and_features_are_kept(tmp_path: Path) -> None:
    """What the manifest's columns were they are in dataset.parquet, and `load_dataset("out")` gives
    it with its classes, without the pictures' column, and not the parts."""
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    photos(tmp_path, ["0.jpg"])
    columns = {
        "image": pa.array([{"bytes": (tmp_path / "0.jpg").read_bytes(), "path": None}]),
        "label": pa.array([1]),
        "uuid": pa.array([b"a" * 16], pa.uuid()),
        "json": pa.array(['{"a": 1}'], pa.json_()),
        "bool8": pa.array([1], pa.int8()).cast(pa.bool8()),
        "tensor": pa.ExtensionArray.from_storage(tensor, pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))),
        "days": pa.array([0], pa.date64()),
        "codes": pa.array([7], pa.int32()).dictionary_encode(),
        "raw": pa.array([b"\xff\x00"]),
    }  # fmt: skip
    table = pa.table(columns)
    noted = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(noted), tmp_path / "m.parquet")
    embedded(tmp_path, "m.parquet")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    want = pq.read_table(tmp_path / "m.parquet").drop_columns(["image"])
    made = pq.read_table(tmp_path / "out/dataset.parquet")
    assert made.select(want.schema.names).equals(want)
    assert [made.schema.field(name).type for name in want.schema.names] == list(want.schema.types)
    assert "image" not in made.schema.names
    assert made["image_sha256"][0].as_py() is not None
    for dest in ("x.csv", "x.jsonl", "x.parquet"):
        assert pipeline("export", "job.yaml", dest, cwd=tmp_path).code == 0
    [row] = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert (row["uuid"], row["bool8"], row["raw"], row["tensor"]) == (
        "61616161-6161-6161-6161-616161616161", True, "ff00", [1.0, 2.0],
    )  # fmt: skip
    simple = pq.read_table(tmp_path / "out/dataset.parquet").drop_columns(
        ["uuid", "json", "bool8", "tensor"]
    )
    pq.write_table(simple, tmp_path / "out/dataset.parquet")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))["train"]
    assert loaded.features["label"] == datasets.ClassLabel(names=["cat", "dog"])
    assert len(loaded) == 1


def test_the_output_folder_loads(tmp_path: Path) -> None:
    """By its card, which is written again, but never over one that somebody else wrote."""
    photos(tmp_path / "p", ["0.jpg", "1.jpg", "2.jpg"])
    embedded(tmp_path, "p")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 3}
    assert all(loaded["train"]["caption"][:])
    (tmp_path / "out/README.md").write_text("mine")
    photos(tmp_path / "p", ["3.jpg"])
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0
    assert (tmp_path / "out/README.md").read_text() == "mine"
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0


def test_a_webdataset_as_webdataset(tmp_path: Path) -> None:
    """Members of its own shards are read where they are."""
    photos(tmp_path / "p", ["0.jpg", "1.jpg", "2.jpg"])
    embedded(tmp_path, "p")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0
    assert pipeline("export", "job.yaml", "w.tar", cwd=tmp_path).code == 0
    embedded(tmp_path, "w.tar", output={"path": "out2"})
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    ended = pipeline(
        "export",
        "job.yaml",
        "shards",
        "--format",
        "webdataset",
        "--shard-size",
        "6kB",
        cwd=tmp_path,
    )

    assert (ended.code, ended.err) == (0, "")
    assert "shards {000000..000002}.tar\n" in ended.out
    loaded = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "shards/*.tar"), cache_dir=str(tmp_path / "c")
    )
    assert len(loaded["train"]) == 3


def test_a_run_that_goes_on_is_exported_as_far_as_it_is(tmp_path: Path) -> None:
    """What is in the journal alone is in the export; the last line says how many of how many."""
    photos(tmp_path / "p", [f"{at}.jpg" for at in range(60)])
    with simulator(tmp_path, "latency=[0.3, 0.3]") as server:
        job = write_job(tmp_path, server.base, tmp_path / "p", quota={"concurrency": 1})
        running = start("run", job, "--quiet", cwd=tmp_path)
        until(lambda: len(server.answered()) >= 4)
        exported = pipeline("export", job, tmp_path / "x.jsonl", cwd=tmp_path)
        running.kill()
        running.wait()
    assert not list((tmp_path / "out/captions").glob("*.parquet"))
    after = pipeline("export", job, tmp_path / "y.parquet", cwd=tmp_path)

    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    count = sum(row["caption"] is not None for row in rows)
    assert (len(rows), 3 <= count < 60) == (60, True)
    assert f"x.jsonl: 60 rows, {count} of 60 captioned" in exported.out
    captions = pq.read_table(tmp_path / "y.parquet")["caption"].to_pylist()
    assert sum(caption is not None for caption in captions) >= count
    assert "of 60 captioned" in after.out


def test_captions_of_another_recipe(tmp_path: Path) -> None:
    """By the beginning of its name; what the output holds is named where nothing fits."""
    photos(tmp_path / "p", ["0.jpg", "1.jpg"])
    embedded(tmp_path, "p")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0
    first = pq.read_table(min((tmp_path / "out/captions").glob("*.parquet")))
    recipe = first["recipe"][0].as_py()
    other = ["--set", "prompt.text=Write tags."]
    assert pipeline("run", "job.yaml", "--quiet", "--yes", *other, cwd=tmp_path).code == 0

    ended = pipeline("export", "job.yaml", "x.jsonl", "--recipe", recipe[:6], *other, cwd=tmp_path)
    wrong = pipeline("export", "job.yaml", "y.jsonl", "--recipe", "zz", *other, cwd=tmp_path)

    assert (ended.code, wrong.code) == (0, 64)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == sorted(
        first["key"].to_pylist(), key=[r["key"] for r in rows].index
    )
    assert recipe in wrong.err


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    """By name; the others are written; the export ends with 1."""
    photos(tmp_path, ["a.jpg", "m/b.jpg", "m/con.jpg"])
    (tmp_path / "m/list.csv").write_text("image_path\n../a.jpg\nb.jpg\ncon.jpg\n")
    embedded(tmp_path, "m/list.csv")
    pipeline("run", "job.yaml", "--quiet", cwd=tmp_path)

    ended = pipeline("export", "job.yaml", "side", "--format", "sidecar", cwd=tmp_path)

    assert ended.code == 1
    assert "'../a.jpg': no file is written for it: leaves the folder" in ended.out
    assert "'con.jpg': no file is written for it: 'con.jpg' is a reserved name" in ended.out
    assert [p.name for p in (tmp_path / "side").rglob("*.txt")] == ["b.txt"]


@pytest.mark.parametrize("words", [("x.csv", "--images"), ("x.tar", "--shard-size", "1GB"), ("--format", "csv"), ("w", "--beside"), ("w", "--format", "hf", "--shard-size", "big")])  # fmt: skip
def test_options_that_do_not_fit_are_named(words: tuple[str, ...], tmp_path: Path) -> None:
    """64 and one line."""
    photos(tmp_path / "p", ["0.jpg"])
    embedded(tmp_path, "p")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    ended = pipeline("export", "job.yaml", *words, cwd=tmp_path)

    assert (ended.code, len(ended.err.splitlines())) == (64, 1)


def test_long_cells_get_a_page_each(tmp_path: Path) -> None:
    """A reader takes a page whole: one of pictures or long texts holds one cell."""
    photos(tmp_path / "p", ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
    for path in (tmp_path / "p").iterdir():
        path.write_bytes(path.read_bytes() + bytes(300_000))
    embedded(tmp_path, "p")
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0

    assert pipeline("export", "job.yaml", "i.parquet", "--images", cwd=tmp_path).code == 0

    with (tmp_path / "i.parquet").open("rb") as file:
        chunk = pq.read_metadata(file).row_group(0).column(0)
        file.seek(chunk.data_page_offset)
        data = file.read(chunk.total_compressed_size)
    assert chunk.path_in_schema == "image.bytes"
    assert data.count(b"\x28\xb5\x2f\xfd") == 4, "each page is a frame of zstd by itself"
