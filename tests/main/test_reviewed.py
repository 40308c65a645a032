"""What people decided, in dataset.parquet, in exports and in the next run."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import pipeline
from tests.support.pictures import folder_of
from tests.support.served import served


def job_of(folder: Path, count: int = 5) -> Path:
    """A job over some pictures, one of them broken, run once."""
    images = folder_of(folder, count)
    (folder / "images" / "00004.jpg").write_bytes(b"\xff\xd8\xff broken")
    job = folder / "job.yaml"
    job.write_text(
        f"manifest: {{path: {images}, id: id}}\noutput: {{path: {folder}/out}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\n"
    )
    assert pipeline("run", job).code == 1
    return job


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of dataset.parquet by their id."""
    return {row["id"]: row for row in pq.read_table(folder / "out/dataset.parquet").to_pylist()}


def test_decisions_are_honoured(tmp_path: Path) -> None:
    """Edited text wins everywhere, the dataset follows when the review ends, --reviewed-only keeps
    what was approved, --retry-rejected asks the rejected one again and nothing else."""
    job = job_of(tmp_path)
    before = rows_of(tmp_path)
    assert {row["review"] for row in before.values()} == {None}
    keys = {name: row["key"] for name, row in before.items()}
    with served("review", job, "--as", "Ann") as server:
        server.items()
        for name, verb in (("row-0", "edit"), ("row-1", "accept"), ("row-2", "reject")):
            body = {"key": keys[name], "decision": verb, "text": "=By hand.", "seen": 0}
            assert server.decide(**body)[0] == 200

    after = rows_of(tmp_path)
    assert [after[f"row-{at}"]["review"] for at in range(5)] == [
        *("edit", "accept", "reject"),
        *(None, None),
    ]
    assert after["row-0"]["caption"] == "=By hand."
    assert after["row-1"]["caption"] == before["row-1"]["caption"]
    assert after["row-2"]["caption"] == before["row-2"]["caption"]

    assert pipeline("export", job, tmp_path / "all.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [line["review"] for line in lines] == ["edit", "accept", "reject", None, None]
    assert lines[0]["caption"] == "=By hand."
    assert pipeline("export", job, tmp_path / "good.csv", "--reviewed-only").code == 0
    with (tmp_path / "good.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["row-0", "row-1"]

    again = pipeline("run", job, "--retry-rejected", "--json")
    assert (again.code, again.summary["requests"]) == (1, 1), again.err
    last = rows_of(tmp_path)
    assert [last[f"row-{at}"]["review"] for at in range(5)] == ["edit", "accept", None, None, None]
    assert last["row-0"]["caption"] == "=By hand."
    none = pipeline("run", job, "--retry-rejected", "--json")
    assert none.summary["requests"] == 0


def test_an_edited_export_comes_back(tmp_path: Path) -> None:
    """export to CSV, edit, import: only what was changed is a decision; `'` before what looks like
    a formula is none. The image that failed gets a caption by hand."""
    job = job_of(tmp_path)
    key = rows_of(tmp_path)["row-0"]["key"]
    with served("review", job) as server:
        server.items()
        assert server.decide(key=key, decision="edit", text="=1+1", seen=0)[0] == 200
    table = tmp_path / "edited.csv"
    assert pipeline("export", job, table).code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["caption"] == "'=1+1"
    rows[1]["caption"] = "Better, and\nin two lines."
    rows[4]["caption"] = "A caption by hand."
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    done = pipeline("review", job, "--import", table)

    assert done.code == 0, done.err
    assert ": 2 edited; dataset.parquet and exports follow\n" in done.out
    made = rows_of(tmp_path)
    assert made["row-1"]["caption"] == "Better, and\nin two lines."
    assert (made["row-4"]["caption"], made["row-4"]["status"]) == ("A caption by hand.", "ok")
    assert made["row-4"]["error_code"] is None


@pytest.mark.parametrize("keeps_metadata", [False, True])
def test_an_edited_dataset_is_kept(keeps_metadata: bool, tmp_path: Path) -> None:
    """Under another name, which is said; its captions come back as decisions. What was written here
    is replaced, also when it was copied or touched."""
    job, dataset = job_of(tmp_path), tmp_path / "out/dataset.parquet"
    os.utime(dataset)
    assert "was edited" not in pipeline("run", job, "--retry", "corrupt").err
    table = pq.read_table(dataset)
    at = table.schema.get_field_index("caption")
    captions = ["By hand.", "", *table["caption"].to_pylist()[2:]]
    edited = table.set_column(at, table.schema.field(at), pa.array(captions))
    pq.write_table(edited if keeps_metadata else edited.replace_schema_metadata(), dataset)

    again = pipeline("run", job, "--retry", "corrupt")

    (kept,) = (tmp_path / "out").glob("dataset.edited-????-??-??.parquet")
    assert pq.read_table(kept)["caption"].to_pylist() == captions
    assert f"dataset.parquet was edited: kept as {kept.name}; `review JOB --import" in again.err
    assert pq.read_table(dataset)["caption"] == table["caption"]
    done = pipeline("review", job, "--import", kept)
    assert ": 1 edited, 1 rejected; " in done.out
    assert rows_of(tmp_path)["row-0"]["caption"] == "By hand."
    assert len(list((tmp_path / "out").glob("dataset.edited-*"))) == 1
    assert pipeline("verify", job).code == 0
    (tmp_path / "out/dataset.parquet").write_bytes(b"PAR1 damaged PAR1")
    assert pipeline("run", job, "--retry", "corrupt").code == 1
    assert len(list((tmp_path / "out").glob("dataset.edited-*"))) == 1
    assert rows_of(tmp_path)["row-0"]["caption"] == "By hand."
