"""What is asked again when told, what is not, and when the dataset is written."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import inspect_manifest, settings_flag, this_environment
from pipeline.captioning.options import RunOptions
from pipeline.commands import run_results as command
from pipeline.commands.run import run
from pipeline.config.job import JobConfig
from tests.support.checker import check_whole
from tests.support.pictures import folder_of
from tests.support.pictures import manifest as write_manifest


def job_in(folder: Path, **more: Any) -> JobConfig:
    table = folder / "images.csv"
    if not table.exists():
        folder_of(folder, 6)
    return JobConfig.model_validate(
        {
            "name": "test",
            "manifest": {"path": str(table)},
            "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
            "output": {"path": str(folder / "out")},
            "run": {"min_free": 0},
            **more,
        }
    )


def go(job: JobConfig, **options: Any) -> dict[str, Any]:
    return asyncio.run(run(job, RunOptions(**options), this_environment({})))


@pytest.mark.parametrize("told", [{"retry": ("missing_file",)}, {"retry_failed": True}])
def test_a_permanent_failure_is_asked_again_only_when_told(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    """Not by the next run, not by another code; then its caption takes the failure's place."""
    job = job_in(tmp_path)
    picture = tmp_path / "images/00003.jpg"
    data = picture.read_bytes()
    picture.unlink()
    first = go(job)
    picture.write_bytes(data)
    later, other, again = go(job), go(job, retry=("corrupt",)), go(job, **told)

    assert (first["exit_code"], first["captioned"], first["failed"]) == (1, 5, 1)
    assert (later["exit_code"], later["requests"]) == (1, 0)
    assert (other["exit_code"], other["requests"]) == (1, 0)
    assert (again["exit_code"], again["requests"], again["failed"]) == (0, 1, 0)
    assert {record["status"] for record in check_whole(tmp_path / "out").values()} == {"ok"}


def test_redo_asks_what_the_predicate_chooses_and_nothing_else(tmp_path: Path) -> None:
    """The chosen records are new, the others are as they were, each key stands once."""
    job = job_in(tmp_path)
    go(job)
    before = check_whole(tmp_path / "out")
    again = go(job, redo="image LIKE '%00002%' OR image LIKE '%00004%'")
    after = check_whole(tmp_path / "out")

    assert (again["exit_code"], again["requests"], again["captioned"]) == (0, 2, 6)
    changed = [key for key in before if before[key]["run_id"] != after[key]["run_id"]]
    assert sorted(str(before[key]["image"])[-9:] for key in changed) == ["00002.jpg", "00004.jpg"]
    assert before.keys() == after.keys()


def test_a_long_dataset_is_written_only_when_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound a run that leaves something writes none; at the bound each run does."""
    monkeypatch.setattr(command, "DATASET_ROWS", 5)
    job = job_in(tmp_path)
    part = go(job, limit=2)
    assert (part["left"], part["dataset"]) == (4, None)
    assert not (tmp_path / "out/dataset.parquet").exists()
    monkeypatch.setattr(command, "DATASET_ROWS", 6)
    assert go(job, limit=1)["dataset"] == str(tmp_path / "out/dataset.parquet")
    monkeypatch.setattr(command, "DATASET_ROWS", 5)
    whole = go(job)

    assert whole["left"] == 0
    assert pq.read_table(whole["dataset"]).column("caption").null_count == 0


def test_too_little_room_stops_before_anything_is_asked(tmp_path: Path) -> None:
    """`run.min_free` above what the disk has: 73, no request, and the words say what to do."""
    ended = go(job_in(tmp_path, run={"min_free": "900TB"}))

    assert (ended["exit_code"], ended["requests"], ended["left"]) == (73, 0, 6)
    assert "run.min_free" in ended["reason"]


def test_failures_are_tried_again_when_their_settings_change(tmp_path: Path) -> None:
    """`images.packages` was forgotten: mending the job is enough; a broken picture is looked at
    once for each change, and costs no request."""
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    names = ["package://skimage/data/coffee.png", "package://skimage/data/rocket.jpg", "broken.jpg"]
    write_manifest(tmp_path / "images.csv", [{"path": name} for name in names])
    packages = {"packages": ["skimage"]}
    mended = job_in(tmp_path, images=packages)
    first, again, later = go(job_in(tmp_path)), go(mended), go(mended)
    other = job_in(tmp_path, images={**packages, "timeout": 60})
    last = go(other)

    assert (first["exit_code"], first["failed"], first["requests"]) == (1, 3, 0)
    assert (again["captioned"], again["failed"], again["requests"]) == (2, 1, 2)
    assert [(run["failed"], run["requests"]) for run in (later, last)] == [(1, 0), (1, 0)]
    flags = [r["flags"] for r in check_whole(tmp_path / "out").values() if r["status"] == "failed"]
    expected = settings_flag(other, inspect_manifest(other)[0])
    assert flags == [[expected]], "the record says under which settings it failed"


def test_a_full_dataset_is_not_replaced_by_a_nearly_empty_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another prompt, tried on a part: the dataset stays. Once nothing is left it is of the new
    recipe, and the last line says how to get at the old one."""
    caplog.set_level(logging.INFO, "pipeline")
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    job, dataset = job_in(tmp_path), tmp_path / "out/dataset.parquet"
    tags = job_in(tmp_path, prompt={"text": "Write tags."})

    def captions() -> list[str]:
        return pq.read_table(dataset)["caption"].to_pylist()

    go(job)
    full = captions()
    part = go(tags, limit=2, yes=True)
    assert (part["captioned"], captions()) == (2, full)
    old = inspect_manifest(job)[1].recipe
    assert f"keeps the captions of recipe {old}" in caplog.text

    whole = go(tags)
    assert whole["captioned"] == 6
    keys = pq.read_table(dataset)["key"].to_pylist()
    assert f"export JOB DEST --recipe {old}" in caplog.text
    go(job)
    assert captions() == full, "the old job brings it back"
    assert keys != pq.read_table(dataset)["key"].to_pylist()
